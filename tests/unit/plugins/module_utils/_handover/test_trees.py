# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second process that hears what the first one hears, and when its trees are taken for the same."""

from __future__ import annotations

import os
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import TimedOut
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import trees
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.listener import Heard
from tests.harness.waiting import wait_until
from tests.unit.plugins.module_utils._handover.conftest import Clock
from tests.unit.plugins.module_utils._handover.test_plan import bridge, interface, port
from tests.unit.plugins.module_utils._ovs.test_spanning_tree import (
    CONFIGURATION,
    DESIGNATED,
    RAPID,
    bpdu,
)

BRIDGE = bridge(
    rstp=True,
    ports=(port("p1"), port("p2")),
    interfaces=(interface("p1", ofport=1), interface("p2", ofport=2)),
)


class Channel:
    """A connection to a switch that takes everything, or nothing any more."""

    version = wire.OF15

    def __init__(self) -> None:
        self.told: list[tuple[int, bytes]] = []
        self.gone = False

    def xid(self) -> int:
        return 1

    def exchange(self, messages: t.Sequence[bytes]) -> list[t.Any]:
        if self.gone:
            raise Unreachable("gone", "gone")
        self.told += [(message[27], message[32:]) for message in messages]
        return [[]] * len(messages)


class Switch:
    """A switch with one channel."""

    def __init__(self) -> None:
        self.channel = Channel()

    def further(self, count: int) -> list[Channel]:
        return [self.channel] * count


class Listener:
    """One that hears what it is given."""

    def __init__(self, device: str, destination: bytes) -> None:
        if device == "none":
            raise OSError(19, "No such device")
        self.reading, self.writing = os.pipe()
        self.frames: list[Heard] = []
        self.closed = False

    def fileno(self) -> int:
        return self.reading

    def say(self, *frames: Heard) -> None:
        self.frames += frames
        os.write(self.writing, b"!")

    def heard(self) -> list[Heard]:
        os.read(self.reading, 1)
        found, self.frames = self.frames, []
        return found

    def close(self) -> None:
        self.closed = True
        os.close(self.reading)
        os.close(self.writing)


class Control:
    """A process that shows one text after the other for its bridge, the last one again and again."""

    def __init__(self, *texts: str, rapid: bool = True) -> None:
        self.texts, self.command = list(texts), "rstp/show" if rapid else "stp/show"

    def call(self, command: str) -> str:
        if command != self.command:
            return ""
        return self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]


def shown(*lines: str) -> str:
    times = "stp-hello-time 2s", "stp-max-age 20s", "stp-fwd-delay 15s"
    return "\n".join(["---- br0 ----", *times, *lines])


OLD = shown("p1 Designated Forwarding")


class Begun(t.NamedTuple):
    """Trees that listen, and all that is about them."""

    trees: trees.Trees
    switch: Switch
    listeners: list[Listener]
    clock: Clock


@pytest.fixture(name="begun")
def _begun(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Begun]:
    listeners: list[Listener] = []

    def listen(device: str, destination: bytes) -> Listener:
        listeners.append(Listener(device, destination))
        return listeners[-1]

    monkeypatch.setattr(trees, "Listener", listen)
    switch, clock = Switch(), Clock()
    found = trees.Trees(clock)
    found.listen([BRIDGE], {"br0": t.cast("t.Any", switch)}, t.cast("t.Any", Control(OLD)))
    assert clock.monotonic() >= 3  # each neighbour has said something
    yield Begun(found, switch, listeners, clock)
    found.close()


def test_what_is_heard_is_told(begun: Begun) -> None:
    found, switch = begun.trees, begun.switch
    first, second = begun.listeners
    first.say(Heard(bpdu(RAPID, DESIGNATED), False), Heard(bpdu(RAPID, DESIGNATED | 2), True))
    found.begin()
    wait_until(lambda: len(switch.channel.told) == 1)
    second.say(Heard(bpdu(CONFIGURATION, 0), True))
    wait_until(lambda: len(switch.channel.told) == 2)
    assert [number for number, __ in switch.channel.told] == [1, 2]
    assert switch.channel.told[0][1].endswith(bpdu(RAPID, DESIGNATED | 0x80))
    found.close()
    assert (first.closed, second.closed) == (True, True)


def settle(found: trees.Trees, old: Control, new: Control) -> None:
    found.settle(t.cast("t.Any", old), t.cast("t.Any", new))


def test_it_is_waited_until_the_tree_is_the_same_and_tells_of_no_change_any_more(
    begun: Begun,
) -> None:
    found, clock = begun.trees, begun.clock
    began = clock.monotonic()
    settle(found, Control(OLD), Control("", shown("p1 Designated Learning"), OLD))
    assert 4 <= clock.monotonic() - began < 6


def test_a_neighbour_that_knows_no_rstp_is_told_of_changes_for_longer(begun: Begun) -> None:
    begun.listeners[0].say(Heard(bpdu(CONFIGURATION, 0), True))
    begun.trees.begin()
    wait_until(lambda: bool(begun.switch.channel.told))
    began = begun.clock.monotonic()
    settle(begun.trees, Control(OLD), Control(OLD))
    assert begun.clock.monotonic() - began >= 35


def test_a_root_of_stp_tells_of_changes_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "Listener", Listener)
    clock, root = Clock(), shown("This bridge is the root")
    found = trees.Trees(clock)
    tree = bridge(stp=True, interfaces=(interface(ofport=1),))
    old = Control(root, rapid=False)
    found.listen([tree], {"br0": t.cast("t.Any", Switch())}, t.cast("t.Any", old))
    began = clock.monotonic()
    settle(found, old, old)
    assert clock.monotonic() - began >= 35
    found.close()


def test_a_tree_that_does_not_come_to_be_the_same(
    begun: Begun,
) -> None:
    with pytest.raises(TimedOut) as caught:
        settle(begun.trees, Control(OLD), Control(shown("p1 Alternate Discarding")))
    assert "p1 Alternate Discarding, no p1 Designated Forwarding" in str(caught.value.why)
    with pytest.raises(TimedOut, match="no spanning tree yet"):
        settle(begun.trees, Control(OLD), Control(""))


def test_whoever_cannot_be_told_is_not_waited_for(
    begun: Begun,
) -> None:
    found, switch, first = begun.trees, begun.switch, begun.listeners[0]
    switch.channel.gone = True
    found.begin()
    first.say(Heard(bpdu(RAPID, DESIGNATED), False))
    wait_until(lambda: first.closed)
    with pytest.raises(Unreachable):
        settle(found, Control(OLD), Control(OLD))
    with pytest.raises(Unreachable):
        found.require(t.cast("t.Any", Control(OLD)), t.cast("t.Any", Control(OLD)))


def test_trees_that_differ_right_before_the_switch_over(begun: Begun) -> None:
    changing = Control(shown("p1 Alternate Discarding"), OLD)
    begun.trees.require(t.cast("t.Any", Control(OLD)), t.cast("t.Any", changing))
    with pytest.raises(TimedOut, match="still the same"):
        begun.trees.require(t.cast("t.Any", Control(OLD)), t.cast("t.Any", Control("")))


def test_a_tree_that_open_vswitch_has_turned_off_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "Listener", Listener)
    found = trees.Trees(Clock())
    found.listen([BRIDGE], {"br0": t.cast("t.Any", Switch())}, t.cast("t.Any", Control("")))
    assert not found
    settle(found, Control(""), Control(""))
    found.close()


def test_a_port_that_cannot_be_overheard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "Listener", Listener)
    none = bridge(stp=True, ports=(port("none"),), interfaces=(interface("none", ofport=1),))
    with pytest.raises(HotUpgradeError, match="none cannot be overheard"):
        trees.Trees(Clock()).listen(
            [none], {"br0": t.cast("t.Any", Switch())}, t.cast("t.Any", Control(OLD, rapid=False))
        )


def test_without_trees_nothing_is_done() -> None:
    found, clock = trees.Trees(Clock()), Clock()
    found.listen([bridge()], {"br0": t.cast("t.Any", Switch())}, t.cast("t.Any", Control("")))
    found.begin()
    settle(found, Control(""), Control(""))
    found.close()
    assert not found
    assert clock.monotonic() == Clock().monotonic()
