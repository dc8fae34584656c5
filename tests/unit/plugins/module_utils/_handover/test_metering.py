# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Meters of a second process get the kernel's numbers of the first."""

from __future__ import annotations

import contextlib
import dataclasses
import types
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import metering
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire


@pytest.fixture(name="host")
def _host(world: t.Any, monkeypatch: pytest.MonkeyPatch) -> t.Any:
    """br0 has the meters 1 and 2; traffic goes through 2, which the kernel has as number 0."""
    world.wish |= {"bridges": {"br0": ()}}
    settings = types.SimpleNamespace(meters={1: b"slow", 2: b"fast"})
    monkeypatch.setattr(metering, "settings_of", lambda _path: settings)
    live = [types.SimpleNamespace(key="a flow", actions="meter(0),2")]
    monkeypatch.setattr(metering.proof, "metered", lambda _dump, ends: [] if ends else live)
    monkeypatch.setattr(metering.meters, "used", lambda _trace: {("br0", 2): 0, ("gone", 9): 1})
    monkeypatch.setattr(type(world.host.services), "control", lambda *__: world.spy("old", call="text"))
    return world.host


class Switch:
    """Notes the meters that it is given."""

    def __init__(self, *errors: str) -> None:
        self.given: list[bytes] = []
        self.errors = [types.SimpleNamespace(name=name) for name in errors]
        self.main = self
        self.version = wire.OF13

    def xid(self) -> int:
        return 1

    def send(self, messages: list[bytes]) -> None:
        self.given += messages

    def refusals(self, messages: list[bytes]) -> list[t.Any]:
        self.given += messages
        return list(zip(messages, self.errors))


def numbers(switch: Switch) -> list[int]:
    """struct ofp13_meter_mod: the meter id is behind the header, the command and the flags."""
    return [int.from_bytes(message[12:16], "big") for message in switch.given]


def test_what_is_under_traffic_comes_where_the_kernel_has_it(host: t.Any) -> None:
    host.filler.metering.order()
    switch = Switch()
    host.filler.metering.add({"br0": switch})
    assert numbers(switch) == [2, 1]


def test_a_number_that_has_gone_up_is_reached(host: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bridge that is flushed for its controller has its meters added again, which counts on."""
    monkeypatch.setattr(metering.meters, "used", lambda _trace: {("br0", 2): 3})
    host.filler.metering.order()
    switch = Switch()
    host.filler.metering.add({"br0": switch})
    assert numbers(switch) == [1, 3, 4, 2, 3, 4]
    assert [message[9] for message in switch.given] == [wire.METER_ADD] * 4 + [wire.METER_DELETE] * 2


def test_in_userspace_each_process_has_its_own(world: t.Any, host: t.Any) -> None:
    host.scope.request = types.SimpleNamespace(userspace=True)
    host.filler.metering.order()
    host.filler.metering.add({})
    assert not world.done


def test_a_meter_that_is_there_from_an_earlier_try_is_fine(host: t.Any) -> None:
    host.filler.metering.order()
    host.filler.metering.add({"br0": Switch("OFPMMFC_METER_EXISTS")})


def test_one_that_is_refused_is_named_with_the_log(host: t.Any) -> None:
    host.filler.metering.order()
    with pytest.raises(HotUpgradeError, match=r"bridge br0 refused meter 2: OFPMMFC_OUT_OF_METERS.*\.log"):
        host.filler.metering.add({"br0": Switch("OFPMMFC_OUT_OF_METERS")})


class Old:
    """The processes of two bridges, of which br1 answers nobody; ``told`` are those that have told the kernel."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refused: t.Sequence[str] = ()) -> None:
        self.told: list[str] = []
        self.deaf = "br1"
        connect = types.SimpleNamespace(connect=self.connect)
        monkeypatch.setattr(metering, "OpenFlow", connect)
        monkeypatch.setattr(
            metering, "tell_again_beside_others", lambda name: self.told.append(name) or refused
        )

    def connect(self, path: str, timeout: float) -> contextlib.AbstractContextManager[str]:
        name = path.rpartition("/")[2].removesuffix(".mgmt")
        if name == self.deaf:
            raise Unreachable(f"cannot connect to {name}")
        return contextlib.nullcontext(name)


def test_the_old_process_has_its_meters_back_wherever_it_can_be_reached(
    host: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.scope.request = dataclasses.replace(host.scope.request, bridges={"br0": (), "br1": ()})
    old = Old(monkeypatch)
    host.filler.metering.order()
    assert host.filler.metering.leave() == []  # nobody has shared them yet
    host.filler.metering.share()
    assert host.filler.metering.leave() == ["meters of bridge br1: cannot connect to br1"]
    old.deaf = ""
    assert host.filler.metering.leave() == []  # again, when it answers
    assert old.told == ["br0", "br0", "br1"]
    assert host.filler.metering.leave() == []
    assert len(old.told) == 3


def test_without_meters_nothing_is_shared(host: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Old(monkeypatch)
    monkeypatch.setattr(metering, "settings_of", lambda _path: types.SimpleNamespace(meters={}))
    host.filler.metering.order()
    host.filler.metering.share()
    assert host.filler.metering.leave() == []
    assert not old.told


def test_what_the_old_process_refuses_is_told(host: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Old(monkeypatch, ["meter 1: OFPMMFC_OUT_OF_METERS"])
    host.filler.metering.order()
    host.filler.metering.share()
    assert host.filler.metering.tell_of_old() == ["meters of bridge br0: meter 1: OFPMMFC_OUT_OF_METERS"]


def test_every_number_under_traffic_is_asked_for_until_it_is_known(
    host: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand flows of one meter are one trace; one that cannot be traced does not end the hand-over."""
    asked: list[str] = []

    class Control:
        def call(self, command: str, *words: str) -> str:
            if command == "ofproto/trace":
                asked.append(words[-1])
                if words[-1] == "gone":
                    raise HotUpgradeError("Recirculation context not found")
            return words[-1] if words else "3.1.0"

    keys = [("gone", 1), *([("many", 0)] * 1000), ("late", 1), *([("never", 5)] * 9)]
    live = [types.SimpleNamespace(key=key, actions=f"meter({number})") for key, number in keys]
    known = {"many": {("br0", 2): 0}, "late": {("br0", 1): 1}}
    monkeypatch.setattr(metering.proof, "metered", lambda _dump, ends: [] if ends else live)
    monkeypatch.setattr(metering.meters, "used", lambda trace: known.get(trace, {}))
    monkeypatch.setattr(type(host.services), "control", lambda *__: Control())
    host.filler.metering.order()
    assert asked == ["gone", "many", "late", "never", "never", "never"]
    switch = Switch()
    host.filler.metering.add({"br0": switch})
    assert numbers(switch) == [2, 1]
