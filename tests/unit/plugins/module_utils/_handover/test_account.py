# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import struct
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import account as _account
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import monitor, wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import state as _flowstate
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.follower import Changes

OLD, NEW = b"old instructions", b"new instructions"
# OpenFlow text needs no ovs-ofctl here: nothing that differs is shown.
A, B = 1, 2


def match(number: int) -> bytes:
    """A match that only the flow ``number`` has."""
    return struct.pack("!HHII", 1, 12, 0x80001804, number) + bytes(4)


def flow(number: int, rest: bytes = OLD, cookie: int = 5) -> bytes:
    return wire.flow_mod(wire.OF15, 0, 0, 10, cookie, 0, 0, 0, 0, match(number) + rest)


def event(kind: str, number: int, rest: bytes = NEW, cookie: int = 5, reason: int = 2) -> monitor.Event:
    return monitor.Event(kind, reason, 0, 10, cookie, 0, 0, match(number), 12, rest)


def group(number: int, kind: int = 0) -> bytes:
    return wire.message(
        wire.OF15, wire.GROUP_MOD, 0, struct.pack("!HBxIHxxI", wire.GROUP_ADD, kind, number, 0, 0)
    )


class State(_flowstate.State):
    """A state that holds ``objects``."""

    held: tuple[bytes, ...]

    @classmethod
    def of(cls, *held: bytes, **settings: t.Any) -> State:
        state = cls(wire.OF15, wire.OF15, _flowstate.Settings(**settings), len(held), lambda: iter(()))
        object.__setattr__(state, "held", held)
        return state

    def objects(self) -> t.Iterator[bytes]:
        return iter(self.held)


class Follower:
    """Changes that are told by ``tell`` when they are asked for, some each time."""

    version = wire.OF15

    def __init__(self, *told: t.Sequence[monitor.Event]) -> None:
        self.changes = Changes()
        self.told = list(told)

    def quiet(self) -> None:
        for found in self.told.pop(0) if self.told else ():
            self.changes._event(found)


def changes(*events: monitor.Event) -> Changes:
    found = Changes()
    for each in events:
        found._event(each)
    return found


def account(
    base: State, live: State, before: Changes | None = None, *after: t.Sequence[monitor.Event]
) -> _account.Account:
    follower = t.cast(t.Any, Follower(*after))
    return _account.account(base, before or Changes(), follower, lambda: live)


def fault(found: _account.Account) -> tuple[int, int]:
    return found.unexplained.missing_count, found.unexplained.extra_count


BASE = State.of(flow(A), flow(B))


@pytest.mark.parametrize(
    ("before", "after", "live", "expected"),
    [
        # Nothing was changed.
        ([], [], [flow(A), flow(B)], (0, 0)),
        # Somebody changed, deleted or added a flow in the old process, and it was carried over; or it was lost.
        ([event("modified", A)], [], [flow(A, NEW), flow(B)], (0, 0)),
        ([event("modified", A)], [], [flow(A), flow(B)], (1, 1)),
        ([event("removed", A)], [], [flow(B)], (0, 0)),
        ([event("removed", A)], [], [flow(A), flow(B)], (0, 1)),
        ([event("added", 3)], [], [flow(A), flow(B), flow(3, NEW)], (0, 0)),
        ([event("added", 3)], [], [flow(A), flow(B)], (1, 0)),
        # The same in the new one.
        ([], [event("modified", A)], [flow(A, NEW), flow(B)], (0, 0)),
        ([], [event("removed", A)], [flow(B)], (0, 0)),
        ([], [event("added", 3)], [flow(A), flow(B), flow(3, NEW)], (0, 0)),
        ([], [event("added", 3)], [flow(A), flow(B), flow(3, OLD)], (1, 1)),
        # First there, then here: the last word counts.
        ([event("modified", A)], [event("removed", A)], [flow(B)], (0, 0)),
        ([event("modified", A)], [event("removed", A)], [flow(A, NEW), flow(B)], (0, 1)),
        # Deleted and added again as it was.
        ([event("removed", A), event("added", A, OLD)], [], [flow(A), flow(B)], (0, 0)),
        # Nobody was seen to do it.
        ([], [], [flow(B)], (1, 0)),
        ([], [], [flow(A), flow(B), flow(3)], (0, 1)),
        ([event("modified", B)], [], [flow(A, NEW), flow(B, NEW)], (1, 1)),
    ],
)
def test_a_difference_is_a_fault_unless_somebody_was_seen_to_make_it(
    before: list[monitor.Event], after: list[monitor.Event], live: list[bytes], expected: tuple[int, int]
) -> None:
    assert fault(account(BASE, State.of(*live), changes(*before), after)) == expected


@pytest.mark.parametrize("seen", [[flow(A), flow(B)], [flow(A, NEW), flow(B)], [flow(B)]])
def test_a_flow_that_changes_while_it_is_read_may_be_seen_at_any_moment(seen: list[bytes]) -> None:
    late = [event("modified", A), event("removed", A)]
    assert fault(account(BASE, State.of(*seen), None, [], late)) == (0, 0)


def test_a_flow_that_was_carried_over_and_changes_while_it_is_read_may_be_seen_as_it_was_carried() -> None:
    live = State.of(flow(A, NEW), flow(B))
    assert fault(account(BASE, live, changes(event("modified", A)), [], [event("removed", A)])) == (0, 0)


def test_what_expires_and_what_is_learned_is_told_from_what_others_do() -> None:
    learn = struct.pack("!HHIHHHHQHBBHH", 0xFFFF, 32, wire.NICIRA, 16, 0, 0, 7, 0x77, 0, 1, 0, 0, 0)
    base = State.of(flow(A, learn), flow(B))
    learned = monitor.Event("added", 0, 1, 7, 0x77, 0, 10, match(9), 12, b"")
    there = wire.flow_mod(wire.OF15, 0, 1, 7, 0x77, 0, 10, 0, 0, match(9))
    told = [learned, event("removed", B, reason=1), event("added", 3, cookie=0xC0FFEE)]
    found = account(base, State.of(flow(A, learn), there, flow(3, NEW, 0xC0FFEE)), None, told)
    assert fault(found) == (0, 0)
    assert (found.expired, found.learned) == (1, 1)
    assert found.others == {"0xc0ffee": {"added": 1}}


def forwarded(command: int, number: int) -> bytes:
    inner = wire.message(wire.OF15, wire.GROUP_MOD, 0, struct.pack("!HBxIHxxI", command, 0, number, 0, 0))
    return wire.message(wire.OF15, 32, 0, inner)


@pytest.mark.parametrize(
    ("told", "live", "expected"),
    [
        ([], [group(1)], (1, 0)),  # 2 is lost
        ([forwarded(wire.GROUP_DELETE, 2)], [group(1)], (0, 0)),
        ([forwarded(wire.GROUP_DELETE, 2)], [group(1), group(2)], (0, 1)),
        ([forwarded(wire.GROUP_DELETE, wire.GROUP_ALL)], [], (0, 0)),
        ([forwarded(wire.GROUP_DELETE, wire.GROUP_ALL)], [group(1)], (0, 1)),
        ([forwarded(wire.GROUP_ADD, 3)], [group(1), group(2), group(3)], (0, 0)),
        ([forwarded(wire.GROUP_ADD, 3)], [group(1), group(2)], (1, 0)),
    ],
)
def test_groups_are_accounted_for(told: list[bytes], live: list[bytes], expected: tuple[int, int]) -> None:
    before = Changes()
    for message in told:
        before.take(message)
    assert fault(account(State.of(group(1), group(2)), State.of(*live), before)) == expected


def test_meters_and_ports_are_accounted_for() -> None:
    base = State.of(meters={1: b"\0\1old"}, ports={1: 0, 2: 0})
    lost = account(base, State.of(ports={1: 4, 2: 0}))
    assert fault(lost) == (2, 1)  # a meter is gone, a port has other bits
    before = Changes()
    before.meters[1] = None
    before.ports[1] = 0
    assert fault(account(base, State.of(ports={1: 4, 2: 0}), before)) == (0, 0)


def test_meters_and_ports_that_change_while_they_are_read_are_no_fault() -> None:
    base = State.of(meters={1: b"\0\1old", 2: b"\0\1old"}, ports={1: 0})
    follower = Follower()

    def read() -> State:
        for command, meter in ((wire.METER_MODIFY, 1), (wire.METER_DELETE, 2), (wire.METER_ADD, 3)):
            request = wire.meter_mod(wire.OF15, 0, command, meter, b"\0\1new")
            follower.changes.take(wire.message(wire.OF15, 32, 0, request))
        follower.changes.ports[1] = 0
        return State.of(meters={1: b"\0\1old", 3: b"\0\1new"}, ports={1: 4})

    found = _account.account(base, Changes(), t.cast(t.Any, follower), read)
    assert fault(found) == (0, 0)


def test_what_comes_and_goes_while_it_is_read_is_no_fault() -> None:
    """Afterwards the last that was told of it is the same as before."""
    follower = Follower()
    follower.changes.take(forwarded(wire.GROUP_DELETE, 3))

    def read() -> State:
        follower.changes.take(forwarded(wire.GROUP_ADD, 3))
        follower.changes.take(forwarded(wire.GROUP_DELETE, 3))
        return State.of(group(1), group(3))

    found = _account.account(State.of(group(1)), Changes(), t.cast(t.Any, follower), read)
    assert fault(found) == (0, 0)


def test_ports_that_have_swapped_their_numbers_are_a_fault_unless_somebody_was_seen_to_do_it() -> None:
    base = State.of(ports={1: 0, 2: 0}, names={1: "p1", 2: "p2"})
    swapped = State.of(ports={1: 0, 2: 0}, names={1: "p2", 2: "p1"})
    assert fault(account(base, swapped)) == (2, 2)
    before = Changes()
    before.ports.update({1: 0, 2: 0})
    assert fault(account(base, swapped, before)) == (0, 0)


def test_what_nothing_tells_of_is_said_and_is_no_fault() -> None:
    found = account(State.of(fragments=0), State.of(fragments=1))
    assert fault(found) == (0, 0)
    assert found.settings == ["fragments"]


@pytest.mark.parametrize(
    "line",
    [
        "flow cookie=0x7, table=7, send_flow_rem priority=100,ip,nw_dst=10.0.0.1 actions=drop",
        "flow cookie=0x8, table=7, idle_timeout=9, hard_timeout=3, importance=1, reset_counts send_flow_rem "
        "priority=100,ip,nw_dst=10.0.0.1 actions=output:1",
        "flow cookie=0x7, table=7, priority=100,ip,nw_dst=10.0.0.1 actions=set_field:1->reg1",
    ],
)
def test_a_flow_has_one_name_in_every_version(line: str) -> None:
    assert _account._name_in_text(line) == "table=7, priority=100,ip,nw_dst=10.0.0.1"
