# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import struct
import types
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import restore as restoring
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import state as flowstate
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.compare import (
    Ignore,
    compare,
    renumbered,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.restore import stage

MATCH_ALL = wire.delete_flows(wire.OF15, 0)[48:]


def flow(
    table: int = 0, priority: int = 1, cookie: int = 0, idle: int = 0, hard: int = 0, rest: bytes = b""
) -> bytes:
    """What a switch answers about one flow."""
    return wire.flow_statistics(
        wire.flow_mod(wire.OF15, 0, table, priority, cookie, idle, hard, 0, 0, MATCH_ALL + rest)
    )


def group(number: int) -> bytes:
    entry = struct.pack("!HBxIH6x", 16, 0, number, 0)
    request = wire.multipart_request(wire.OF15, wire.GROUP_DESC, 0, entry)
    return request[:1] + bytes([19]) + request[2:]


def state(*replies: bytes, **settings: t.Any) -> flowstate.State:
    return flowstate.Told(
        wire.OF15, wire.OF10, flowstate.Settings(**settings), len(replies), lambda: iter(replies)
    )


def flows_of(messages: t.Iterable[bytes]) -> list[tuple[int, int]]:
    return [wire.flow_fields(message)[:2] for message in messages]


def test_objects_are_numbered_through_groups_and_flows() -> None:
    messages = [
        message
        for data in state(group(7), group(8), flow(), flow(1)).objects()
        for message in wire.each(data)
    ]
    assert [wire.header(message).xid for message in messages] == [1, 2, 3, 4]
    assert [wire.is_group_mod(message) for message in messages] == [True, True, False, False]


@given(
    old=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=8),
    new=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=8),
)
def test_a_comparison_finds_exactly_what_is_missing_and_what_is_extra(
    old: set[tuple[int, int]], new: set[tuple[int, int]]
) -> None:
    # The switch lists its flows in any order.
    saved, live = state(*(flow(*key) for key in old)), state(*(flow(*key) for key in reversed(list(new))))
    difference = compare(saved, live)
    assert sorted(flows_of(difference.missing)) == sorted(old - new)
    assert sorted(flows_of(difference.extra)) == sorted(new - old)
    assert (difference.missing_count, difference.extra_count) == (len(old - new), len(new - old))
    assert difference.same == (old == new)
    assert bool(difference) == (old != new)


def test_a_comparison_sees_what_a_state_is_made_of_whatever_the_switch_told() -> None:
    class Another(flowstate.State):
        def objects(self) -> t.Iterator[bytes]:
            return state(flow(1)).objects()

    another = Another(wire.OF15, wire.OF10, flowstate.Settings(), 1, lambda: iter([flow(2)]))
    assert compare(another, state(flow(1))).same
    assert not compare(state(flow(2)), another).same


def test_only_so_many_differences_are_kept_but_all_are_counted() -> None:
    difference = compare(state(*(flow(0, n) for n in range(50))), state(), most=3)
    assert (len(difference.missing), difference.missing_count) == (3, 50)


@pytest.mark.parametrize(
    "changed", [{"cookie": 5}, {"idle": 5}, {"hard": 5}, {"rest": struct.pack("!HHBxxx", 1, 8, 3)}]
)
def test_every_property_of_a_flow_counts(changed: dict[str, t.Any]) -> None:
    difference = compare(state(flow()), state(flow(**changed)))
    assert (difference.missing_count, difference.extra_count) == (1, 1)


@pytest.mark.parametrize(
    "settings",
    [
        {"tlvs": (wire.Tlv(1, 2, 4, 0),)},
        {"meters": {5: b"\0\1" + struct.pack("!HHIIxxxx", 1, 16, 9, 9)}},
        {"tables": {3: struct.pack("!I", 4)}},
        {"ports": {1: 16}},
        {"ports": {1: 0}, "names": {1: "p1"}},
        {"fragments": 1},
    ],
)
def test_every_setting_counts(settings: dict[str, t.Any]) -> None:
    assert compare(state(**settings), state(**settings)).same
    assert compare(state(**settings), state()).missing_count == 1


SWAPPED = {"ports": {1: 0, 2: 0}, "names": {1: "p2", 2: "p1"}}


def test_ports_that_have_swapped_their_numbers_are_a_difference() -> None:
    saved = state(ports={1: 0, 2: 0}, names={1: "p1", 2: "p2"})
    difference = compare(saved, state(**SWAPPED))
    told = [
        [(wire.port_status_of(found).number, wire.port_status_of(found).name) for found in side]
        for side in (difference.missing, difference.extra)
    ]
    assert told == [[(1, "p1"), (2, "p2")], [(1, "p2"), (2, "p1")]]
    assert renumbered(saved.settings, state(**SWAPPED).settings) == [
        "port 'p1' had the number 1 and has 2",
        "port 'p2' had the number 2 and has 1",
    ]


def test_a_port_that_came_or_went_has_no_other_number() -> None:
    saved = flowstate.Settings(names={1: "p1", 2: "p2"})
    assert renumbered(saved, flowstate.Settings(names={2: "p2", 3: "p3"})) == []


def test_ports_of_one_name_are_told_apart_by_nothing() -> None:
    same = flowstate.Settings(names={1: "a-long-name-of-", 2: "a-long-name-of-"})
    assert renumbered(same, flowstate.Settings(names=dict(reversed(list(same.names.items()))))) == []
    assert renumbered(same, flowstate.Settings(names={2: "a-long-name-of-"})) == []
    other = flowstate.Settings(names={1: "a-long-name-of-", 3: "a-long-name-of-"})
    assert renumbered(same, other) == ["port 'a-long-name-of-' had the number 1 or 2 and has 1 or 3"]


def test_whether_devices_are_up_can_be_left_alone() -> None:
    up, down = state(ports={1: 4}), state(ports={1: 4 | wire.PORT_DOWN})
    assert compare(up, down, Ignore(devices=True)).same
    assert not compare(up, down).same
    assert not compare(up, state(ports={1: 0}), Ignore(devices=True)).same


def test_which_ports_there_are_can_be_ignored_but_not_the_config_of_those_that_stayed() -> None:
    ignore = Ignore(ports=True)
    saved = state(ports={1: 0, 2: 4}, names={1: "p1", 2: "p2"})
    assert compare(saved, state(ports={2: 4, 3: 0}, names={2: "p1", 3: "p3"}), ignore).same
    assert not compare(saved, state(ports={2: 0}, names={2: "p2"}), ignore).same


LEARN = struct.pack("!HH4xHHIHHHHQHBx6x", 4, 40, 0xFFFF, 32, wire.NICIRA, 16, 0, 0, 77, 0xABC, 0, 2)


@pytest.mark.parametrize(
    ("ignore", "saved", "live"),
    [
        ({"cookies": True}, [flow(cookie=1)], [flow(cookie=2)]),
        ({"timeouts": True}, [flow(idle=1, hard=9)], [flow(idle=2)]),
        ({"expiring": True}, [flow(idle=1)], [flow(5, hard=3), flow(6, hard=3)]),
        ({"tables": frozenset({4})}, [flow(4)], [flow(4, 9), flow(4, 8)]),
        ({"learned": True}, [flow(rest=LEARN)], [flow(rest=LEARN), flow(2, 77, 0xABC)]),
    ],
)
def test_what_may_move_can_be_ignored(
    ignore: dict[str, t.Any], saved: list[bytes], live: list[bytes]
) -> None:
    assert not compare(state(*saved), state(*live)).same
    assert compare(state(*saved), state(*live), Ignore(**ignore)).same
    assert not compare(state(*saved), state(*live, flow(9, 9, 9)), Ignore(**ignore)).same


def test_what_a_state_is_made_of_tells_which_flows_are_learned_whatever_the_switch_told() -> None:
    class Another(flowstate.State):
        def objects(self) -> t.Iterator[bytes]:
            return state(flow(rest=LEARN)).objects()

    another = Another(wire.OF15, wire.OF10, flowstate.Settings(), 1, lambda: iter(()))
    difference = compare(another, state(flow(2, 77, 0xABC)), Ignore(learned=True))
    assert (difference.missing_count, difference.extra_count) == (1, 0)


def test_settings_are_read_from_what_a_switch_answers() -> None:
    port = struct.pack("!H6s16sI20x", 3, b"\2\0\0\0\0\3", b"p3", 16)
    ports = wire.multipart_request(wire.OF10, wire.PORT_DESC, 0, port)
    found = flowstate.read_settings(
        [
            wire.message(wire.OF15, wire.GET_CONFIG_REPLY, 1, b"\0\3\0\0"),
            ports[:1] + bytes([17]) + ports[2:],
        ]
    )
    assert found == flowstate.Settings(ports={3: 16}, fragments=3, names={3: "p3"})


def test_remaining_leaves_groups_alone_and_expired_flows_out() -> None:
    left = flowstate.remaining(state(group(1), flow(1, hard=10), flow(2, hard=100), flow(3)), 20)
    messages = [message for data in left.objects() for message in wire.each(data)]
    assert wire.is_group_mod(messages[0])
    assert [wire.flow_fields(message).table for message in messages[1:]] == [2, 3]
    assert wire.flow_fields(messages[1]).hard == 80


@pytest.mark.parametrize("wanted", [wire.Tlv(1, 2, 8, 0), wire.Tlv(9, 9, 4, 0), wire.Tlv(1, 2, 4, 5)])
def test_a_tlv_map_that_contradicts_the_live_one_is_refused(wanted: wire.Tlv) -> None:
    live = flowstate.Settings(tlvs=(wire.Tlv(1, 2, 4, 0), wire.Tlv(3, 3, 4, 3)))
    with pytest.raises(Refused, match=r"len=4\}->tun_metadata0 is there, .* is wanted"):
        restoring._check_tlvs("br0", live, flowstate.Settings(tlvs=(wanted,)))
    restoring._check_tlvs("br0", live, flowstate.Settings(tlvs=(live.tlvs[0], wire.Tlv(5, 5, 4, 5))))


def test_a_state_of_another_version_is_not_staged() -> None:
    switch = t.cast("t.Any", dataclasses.make_dataclass("Switch", ["version", "name"])(wire.OF13, "br0.mgmt"))
    with pytest.raises(
        Refused, match="the snapshot is in OpenFlow15, the connection is not: it uses OpenFlow13"
    ):
        stage(switch, state())


def test_a_state_that_was_read_while_it_was_changed_is_made_whole() -> None:
    def using(priority: int, *used: bytes) -> bytes:
        return wire.flow_mod(
            wire.OF15, priority, 0, priority, 0, 0, 0, 0, 0,
            struct.pack("!HH4xHH4x", 1, 4, 4, 8 + 8 * len(used)) + b"".join(used),
        )  # fmt: skip

    meter, other = (struct.pack("!HHI", 29, 8, number) for number in (1, 2))
    in_group, in_another = (struct.pack("!HHI", 22, 8, number) for number in (1, 2))

    @dataclasses.dataclass(frozen=True)
    class Torn(flowstate.State):
        def objects(self) -> t.Iterator[bytes]:
            yield wire.group_mods(group(1), 1)[0]
            yield b"".join([using(1, meter, in_group), using(2, other), using(3, in_another), using(4)])

    torn = Torn(wire.OF15, wire.OF10, flowstate.Settings(meters={1: b""}), 4, lambda: iter(()))
    found = [message for message in flowstate.Whole.of(torn).messages() if wire.is_flow_mod(message)]
    assert [wire.flow_fields(message).priority for message in found] == [1, 4]
    assert flowstate.Whole.of(flowstate.Whole.of(torn)) == flowstate.Whole.of(torn)


def test_flows_of_a_cookie_are_counted_by_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all tables at once, Open vSwitch counts some of its own that have no cookie, either."""
    asked: list[bytes] = []

    def answer(__: flowstate.Switch, requests: list[bytes]) -> list[list[bytes]]:
        asked.extend(requests)
        counts = [struct.pack("!HH4xQQI4x", 2, 0, 0, 0, 7) for __ in requests]
        return [[wire.HEADER.pack(wire.OF13, 19, 8 + 8 + 24, 0) + count] for count in counts]

    switch = object.__new__(flowstate.Switch)
    switch.main = t.cast("t.Any", types.SimpleNamespace(version=wire.OF13, xid=lambda: 1))
    monkeypatch.setattr(flowstate.Switch, "_tables_in_use", lambda _: {0: 9, 44: 8})
    monkeypatch.setattr(flowstate.Switch, "_asked", answer)
    assert switch.count_flows_of(0) == 14
    assert asked == [wire.aggregate_request(wire.OF13, 1, table, 0) for table in (0, 44)]
