# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure part; tests/integration/test_follow.py has the daemons."""

from __future__ import annotations

import contextlib
import itertools
import struct
import threading
import types
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import living
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import follower, monitor, wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import state as flowstate
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.compare import digest

ADD, MODIFY, DELETE, INSERT, EITHER = 0, 1, 2, 3, 0x8000
ALL = wire.GROUP_ALL
MATCH = struct.pack("!HH4x", 1, 4)

# A group in the model: its content; what is inserted into it is appended.
Groups = dict[int, tuple[int, ...]]


def group_mod(command: int, group: int, content: int = 0) -> bytes:
    return wire.message(wire.OF15, wire.GROUP_MOD, 0, struct.pack("!HBxIHxxI", command, 0, group, 0, content))


def forwarded(inner: bytes) -> bytes:
    return wire.message(wire.OF15, 32, 0, inner)


def send(groups: Groups, message: bytes) -> None:
    """What a switch makes of a group-mod; one that it would refuse is an error."""
    command, group, content = struct.unpack_from("!HxxIxxxxI", message, 8)
    if command == DELETE:
        for number in list(groups) if group == ALL else [group]:
            groups.pop(number, None)
    elif command == INSERT:
        groups[group] += (content,)
    else:
        assert command == EITHER or (group in groups) == (command == MODIFY)
        groups[group] = (content,)


@st.composite
def requests(draw: st.DrawFn) -> tuple[Groups, list[bytes]]:
    """Groups that are there, and requests that a switch with them would take."""
    start: Groups = dict.fromkeys(draw(st.sets(st.integers(1, 4))), (0,))
    groups, found = dict(start), []
    for content in range(1, draw(st.integers(0, 12)) + 1):
        group = draw(st.integers(1, 4))
        known = [MODIFY, DELETE, INSERT, EITHER] if group in groups else [ADD, DELETE, EITHER]
        command = draw(st.sampled_from(known))
        if command == DELETE and draw(st.booleans()):
            group = ALL
        found.append(group_mod(command, group, content))
        send(groups, found[-1])
    return start, found


@given(requests())
def test_the_groups_are_in_the_end_what_all_requests_would_have_made_of_them(
    drawn: tuple[Groups, list[bytes]],
) -> None:
    start, told = drawn
    wanted, made, changes = dict(start), dict(start), follower.Changes()
    for message in told:
        send(wanted, message)
        changes.take(forwarded(message))
    before, after = changes.group_messages(wire.OF15, itertools.count().__next__, start)
    for message in (*before, *after):
        send(made, message)
    assert made == wanted
    assert {group for group in start if changes.deleted_group(group)} == start.keys() - wanted.keys()
    # A group that stays is never away: no flow that uses it is deleted with it.
    assert not any(struct.unpack_from("!HxxI", message, 8)[1] in wanted for message in after)
    assert not any(struct.unpack_from("!H", message, 8)[0] == DELETE for message in before)


def meter_mod(command: int, meter: int, config: bytes = b"\0\1band") -> bytes:
    return forwarded(wire.meter_mod(wire.OF15, 0, command, meter, config))


def test_the_last_word_about_a_meter_counts() -> None:
    changes = follower.Changes()
    for message in (
        meter_mod(0, 1),
        meter_mod(0, 2),
        meter_mod(2, wire.ALL),
        meter_mod(0, 3),
        meter_mod(2, 4),
    ):
        changes.take(message)
    assert changes.meters == {1: None, 2: None, 3: b"\0\1band", 4: None}
    assert changes.cleared == {"meters"}


def test_a_meter_that_is_told_again_is_not_changed() -> None:
    changes = follower.Changes({1: b"\0\1band"})
    changes.take(meter_mod(1, 1))
    assert not changes
    changes.take(meter_mod(1, 1, b"\0\1else"))
    changes.take(meter_mod(1, 1, b"\0\1else"))
    assert changes.meters == {1: b"\0\1else"}
    changes.take(meter_mod(1, 1))  # back to what it was is a change
    assert changes.meters == {1: b"\0\1band"}


def test_one_that_is_made_anew_is_changed_though_it_looks_the_same() -> None:
    for deleted in (1, wire.ALL):
        changes = follower.Changes({1: b"\0\1band"})
        changes.take(meter_mod(2, deleted))
        changes.take(meter_mod(1, 1))
        assert changes.meters[1] == b"\0\1band"


def update(*kinds: int) -> bytes:
    entry = struct.pack("!HHI", 8, 0, 0)
    body = b"".join(entry[:2] + struct.pack("!H", kind) + entry[4:] for kind in kinds)
    request = wire.multipart_request(wire.OF15, 16, 0, body)
    return request[:1] + bytes([19]) + request[2:]


def event(kind: str, priority: int, rest: bytes = b"") -> monitor.Event:
    return monitor.Event(kind, 2, 0, priority, 5, 0, 0, MATCH, 4, rest)


def test_what_is_replaced_by_ourselves_is_nobody_elses_doing() -> None:
    changes = follower.Changes()
    changes._event(event("added", 1))
    changes.expect_replacement()
    changes._event(event("removed", 2))  # the flush
    changes.take(update(4))  # our bundle
    assert not changes
    assert sum(changes.counts.values()) == 1
    changes._event(event("added", 3))
    changes.take(update(4))  # what else we change is not a replacement
    assert list(changes.flows) == [(0, 3, MATCH)]


def own(xid: int) -> bytes:
    body = struct.pack("!HHI", 8, 4, xid)
    request = wire.multipart_request(wire.OF15, 16, 0, body)
    return request[:1] + bytes([19]) + request[2:]


def test_what_was_told_of_a_flow_before_our_own_change_of_it_is_over() -> None:
    changes = follower.Changes()
    changes.ours = {77: (0, 1, MATCH), 78: (0, 2, MATCH)}
    for priority in (1, 2):
        changes._event(event("removed", priority))  # its clock had run since it was loaded
    changes.take(own(77))
    changes.take(own(99))
    assert list(changes.flows) == [(0, 2, MATCH)]


def test_a_flow_that_has_expired_is_not_deleted_where_it_was_learned_again() -> None:
    changes = follower.Changes()
    expired = event("removed", 1)._replace(reason=1)
    changes._event(expired)
    changes._event(event("removed", 2))
    xid = itertools.count().__next__
    assert len(changes.flow_messages(wire.OF15, xid, {})) == 2
    (left,) = changes.flow_messages(wire.OF15, xid, {}, alive={(0, 1, MATCH), (0, 2, MATCH)})
    assert wire.flow_key(left) == (0, 2, MATCH)


def test_a_flush_is_seen_by_what_it_deletes() -> None:
    changes = follower.Changes()
    changes._event(event("removed", 1))
    changes.expect_replacement()
    changes._event(event("removed", 2)._replace(reason=0))  # it expired
    assert (changes.deleted, changes.expired) == (0, 1)
    changes._event(event("removed", 3))
    assert changes.deleted == 1


def test_a_switch_that_pauses_tells_our_replacement_as_if_it_were_others() -> None:
    changes = follower.Changes()
    changes.expect_replacement()
    changes.take(update(5))
    changes._event(event("removed", 1))
    changes._event(event("added", 1))
    changes.take(update(6))
    assert sum(changes.counts.values()) == 0
    assert not changes.paused


def test_a_switch_that_has_told_the_flush_before_our_bundle_comes_tells_that_as_ours() -> None:
    """It pauses for the flush of a few thousand flows, and goes on as soon as we have read them."""
    changes = follower.Changes()
    changes.expect_replacement()
    changes.take(update(5))
    changes._event(event("removed", 1))
    changes.take(update(6))
    changes.take(update(4))
    assert not changes
    assert sum(changes.counts.values()) == 0


@pytest.mark.parametrize(("kinds", "paused"), [((5,), True), ((5, 6), False), ((), False)])
def test_a_switch_that_keeps_something_back_is_known(kinds: tuple[int, ...], paused: bool) -> None:
    changes = follower.Changes()
    changes.take(update(*kinds))
    assert changes.paused == paused


class Saved(flowstate.State):
    """A state that holds ``held``."""

    held: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, *held: bytes, **settings: t.Any) -> Saved:
        state = cls(wire.OF15, wire.OF15, flowstate.Settings(**settings), 0, lambda: iter(()))
        object.__setattr__(state, "held", held)
        return state

    def objects(self) -> t.Iterator[bytes]:
        return iter(self.held)


def flow(priority: int, rest: bytes = b"", flags: int = 0) -> bytes:
    return wire.flow_mod(wire.OF15, 0, 0, priority, 5, 0, 0, flags, 0, MATCH + rest)


def test_a_state_with_changes_is_the_state_that_a_switch_would_show() -> None:
    changes = follower.Changes()
    for each in (event("modified", 1, b"new, 8 B"), event("removed", 2), event("added", 9)):
        changes._event(each)
    changes.take(forwarded(group_mod(ADD, 7, 7)))
    changes.take(forwarded(group_mod(DELETE, 1)))
    changes.take(meter_mod(0, 3))
    saved = Saved.of(group_mod(ADD, 1), group_mod(ADD, 2), flow(1), flow(2), flow(3), meters={1: b"\0\1"})
    now = living.Changed.of(saved, changes, {(0, 5): (1, 0)})
    objects = [message for data in now.objects() for message in wire.each(data)]
    wanted = [group_mod(ADD, 2), group_mod(ADD, 7, 7), flow(3), flow(1, b"new, 8 B", 1), flow(9, b"", 1)]
    assert list(map(digest, objects)) == list(map(digest, wanted))
    assert all(now.objects()), "an item of which nothing is left is none"
    assert now.settings.meters == {1: b"\0\1", 3: b"\0\1band"}
    numbers = [wire.header(message).xid for message in objects if wire.header(message).xid]
    assert len(set(numbers)) == len(numbers) == 3


def test_a_copy_does_not_change_while_the_switch_goes_on_telling() -> None:
    changes = follower.Changes()
    changes._event(event("added", 1))
    changes.take(forwarded(group_mod(ADD, 1)))
    copied = changes.copy()
    changes._event(event("added", 2))
    changes.take(forwarded(group_mod(INSERT, 1)))
    changes.take(meter_mod(0, 1))
    changes.take(update(5))
    assert (len(copied.flows), len(copied.groups[1]), copied.meters, copied.paused) == (1, 1, {}, False)


def test_a_state_without_changes_is_itself() -> None:
    saved = Saved.of(flow(1))
    assert living.Changed.of(saved, follower.Changes(), {}) is saved


class FakeFollower:
    """Of one bridge: what it was asked to do, and whether its process has died."""

    def __init__(self, of: t.Any, __: object) -> None:
        self.of, self.lock, self.connections = of, threading.RLock(), ()
        self.changes, self.done = follower.Changes(), list[str]()

    def quiet(self) -> None:
        self.done.append("quiet")
        if self.of.dead:
            raise Unreachable("br0.mgmt: the OpenFlow connection was lost", "closed by the switch")

    def rest(self) -> None:
        self.done.append("rest")


@pytest.fixture
def followers(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> t.Iterator[follower.Followers]:
    """Those of twenty bridges."""

    @contextlib.contextmanager
    def connect(path: str, *__: object) -> t.Iterator[types.SimpleNamespace]:
        yield types.SimpleNamespace(dead=path in getattr(request, "param", ()))

    monkeypatch.setattr(follower.OpenFlow, "connect", connect)
    monkeypatch.setattr(follower, "Follower", FakeFollower)
    found = follower.Followers({f"br{number}": f"br{number}" for number in range(20)})
    yield found
    found.close()


def test_who_wants_to_know_of_one_bridge_asks_no_other(followers: follower.Followers) -> None:
    # Each of n bridges is asked for: with a question to all of them each time, that would be n * n.
    for name in followers._followers:
        assert not followers.up_to_now(name)
    spies: dict[str, t.Any] = {**followers._followers}
    assert [each.done for each in spies.values()] == [["quiet"]] * 20
    assert not followers.up_to_now("another")


@pytest.mark.parametrize("followers", [["br0"]], indirect=True)
def test_of_a_process_that_has_died_counts_what_it_wrote_last(followers: follower.Followers) -> None:
    assert not followers.up_to_now("br0")
    spies: dict[str, t.Any] = {**followers._followers}
    assert spies["br0"].done == ["quiet", "rest"]
