# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import struct
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st
from os_ken.ofproto import (
    ofproto_parser,
    ofproto_v1_3,
    ofproto_v1_3_parser,
    ofproto_v1_4,
    ofproto_v1_4_parser,
    ofproto_v1_5,
    ofproto_v1_5_parser,
)

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import ProtocolError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire

u8, u16, u32, u64 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32, 64))
xids = st.integers(1, 0xFFFFFFFF)
octets = st.binary(min_size=0, max_size=64)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def match_of(fields: bytes) -> bytes:
    """An OXM match with ``fields``, as a switch sends it."""
    return padded(struct.pack("!HH", 1, 4 + len(fields)) + fields)


class Flow(t.NamedTuple):
    """A flow as it lies in a switch."""

    table: int
    priority: int
    idle: int
    hard: int
    flags: int
    importance: int
    cookie: int
    match: bytes
    instructions: bytes
    duration: int
    idle_age: int


flows = st.builds(
    Flow,
    table=st.integers(0, 253),
    priority=u16,
    idle=u16,
    hard=u16,
    flags=u16,
    importance=u16,
    cookie=u64,
    match=octets.map(match_of),
    instructions=octets.map(padded),
    duration=st.integers(0, 70000),
    idle_age=st.integers(0, 0xFFFF - 1),
)


def stats15(flow: Flow) -> bytes:
    """The flow in an OpenFlow 1.5 flow description, as ofputil_append_flow_stats_reply lays it out."""
    oxs = struct.pack("!II4xIIIQ", 0x80020008, flow.duration, 0x80020208, flow.idle_age, 0x80020808, 7)
    stats = padded(struct.pack("!HH", 0, 4 + len(oxs)) + oxs)
    length = 24 + len(flow.match) + len(stats) + len(flow.instructions)
    fixed = (flow.priority, flow.idle, flow.hard, flow.flags, flow.importance, flow.cookie)
    return struct.pack("!HxxBxHHHHHQ", length, flow.table, *fixed) + flow.match + stats + flow.instructions


def stats13(flow: Flow) -> bytes:
    fixed = (
        flow.duration,
        0,
        flow.priority,
        flow.idle,
        flow.hard,
        flow.flags,
        flow.importance,
        flow.cookie,
        1,
        2,
    )
    length = 48 + len(flow.match) + len(flow.instructions)
    return struct.pack("!HBxIIHHHHHxxQQQ", length, flow.table, *fixed) + flow.match + flow.instructions


def stats10(flow: Flow) -> bytes:
    nx_match = flow.match[4 : struct.unpack_from("!H", flow.match, 2)[0]]
    body = padded(nx_match) + flow.instructions
    fixed = (
        flow.duration,
        0,
        flow.priority,
        flow.idle,
        flow.hard,
        len(nx_match),
        flow.idle_age + 1,
        0,
        flow.cookie,
        1,
        2,
    )
    return struct.pack("!HBxIIHHHHHHQQQ", 48 + len(body), flow.table, *fixed) + body


def reply(version: int, kind: wire.Kind, body: bytes, more: bool = False) -> bytes:
    """A multipart reply: a request with the reply's type number and flags."""
    request = wire.multipart_request(version, kind, 9, body)
    number = 17 if version == wire.OF10 else 19
    return request[:1] + bytes([number]) + request[2:10] + struct.pack("!H", more) + request[12:]


STATS = {wire.OF10: stats10, wire.OF13: stats13, wire.OF14: stats13, wire.OF15: stats15}


def flow_reply(version: int, some: t.Sequence[Flow]) -> bytes:
    kind: wire.Kind = wire.NX_FLOWS if version == wire.OF10 else wire.FLOWS
    return reply(version, kind, b"".join(STATS[version](flow) for flow in some))


@pytest.mark.parametrize("version", wire.VERSIONS)
@given(some=st.lists(flows, max_size=5), first=st.integers(1, 1000))
def test_flow_mods_carry_every_field_of_the_statistics(version: int, some: list[Flow], first: int) -> None:
    data, count = wire.flow_mods(flow_reply(version, some), first)
    mods = list(wire.each(data))
    assert count == len(mods) == len(some)
    for number, (flow, mod) in enumerate(zip(some, mods)):
        fields = wire.flow_fields(mod)
        assert wire.header(mod) == (version, mod[1], len(mod), first + number)
        assert wire.is_flow_mod(mod)
        assert fields[:5] == (flow.table, flow.priority, flow.cookie, flow.idle, flow.hard)
        assert fields.rest == flow.instructions
        if version != wire.OF10:
            assert fields.match == flow.match
            assert struct.unpack_from("!HH", mod, 44) == (flow.flags, flow.importance)
    assert wire.count_entries(flow_reply(version, some)) == len(some)


@pytest.mark.parametrize("version", wire.VERSIONS)
@given(flow=flows, elapsed=st.integers(0, 70000))
def test_remaining_time_is_what_is_left_of_the_timeouts(version: int, flow: Flow, elapsed: int) -> None:
    data, count = wire.flow_mods(wire.with_remaining_time(flow_reply(version, [flow]), elapsed), 1)
    left = flow.hard - flow.duration - elapsed
    if flow.hard and left <= 0:
        assert count == 0
        return
    fields = wire.flow_fields(data)
    idle_age = 0 if version in (wire.OF13, wire.OF14) else flow.idle_age
    assert fields.hard == (left if flow.hard else 0)
    assert fields.idle == (max(flow.idle - idle_age, 1) if flow.idle else 0)
    whole = wire.flow_fields(wire.flow_mods(flow_reply(version, [flow]), 1)[0])
    assert fields._replace(idle=0, hard=0) == whole._replace(idle=0, hard=0)


@pytest.mark.parametrize("version", wire.VERSIONS)
@given(some=st.lists(flows, max_size=4))
def test_the_oldest_flow(version: int, some: list[Flow]) -> None:
    assert wire.oldest(flow_reply(version, some)) == max((flow.duration for flow in some), default=0)


@pytest.mark.parametrize("version", wire.VERSIONS)
@given(some=st.lists(flows, max_size=4))
def test_cookies(version: int, some: list[Flow]) -> None:
    assert list(wire.cookies(flow_reply(version, some))) == [flow.cookie for flow in some]


def test_flows_are_counted_by_their_cookie() -> None:
    # By a field of its own, and by one of the match in OpenFlow 1.0 (NXM_NX_COOKIE).
    newer = wire.aggregate_request(wire.OF13, 7, cookie=0x1234)
    assert (
        newer[16:].hex()
        == "ff000000ffffffffffffffff00000000" + "0000000000001234" + "f" * 16 + "0001000400000000"
    )
    oldest = wire.aggregate_request(wire.OF10, 7, cookie=0x1234)
    assert oldest[-24:].hex() == "ffff000cff000000" + "00013c08" + "0000000000001234" + "00000000"
    assert wire.aggregate_request(wire.OF10, 7)[-8:].hex() == "ffff0000ff000000"


@pytest.mark.parametrize("version", wire.VERSIONS)
@given(flow=flows)
def test_the_statistics_of_a_flow_mod_are_that_flow_again(version: int, flow: Flow) -> None:
    mod, __ = wire.flow_mods(flow_reply(version, [flow]), 7)
    assert wire.flow_mods(wire.flow_statistics(mod), 7) == (mod, 1)


@pytest.mark.parametrize("version", wire.VERSIONS)
@given(data=st.data())
def test_damaged_flow_statistics_never_do_worse_than_a_protocol_error(
    version: int, data: st.DataObject
) -> None:
    whole = bytearray(flow_reply(version, data.draw(st.lists(flows, min_size=1, max_size=3))))
    for __ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(16, len(whole) - 1))] = data.draw(u8)
    cut = bytes(whole[: data.draw(st.integers(16, len(whole)))])
    try:
        mods, count = wire.flow_mods(cut, 1)
    except ProtocolError:
        return
    assert len(mods) <= 4 * len(cut) + 64
    assert count <= len(cut)


READERS: list[t.Callable[[bytes], t.Any]] = [
    wire.hello_versions,
    wire.switch_error,
    wire.multipart_reply,
    wire.aggregate_count,
    lambda data: wire.flow_mods(data, 1),
    lambda data: wire.with_remaining_time(data, 1),
    wire.count_entries,
    wire.oldest,
    lambda data: list(wire.cookies(data)),
    lambda data: wire.group_mods(data, 1),
    wire.meters,
    wire.tables,
    wire.tlv_map,
    wire.ports,
    wire.fragments,
    wire.meter_of,
    wire.flow_fields,
    wire.last_boundary,
    lambda data: list(wire.each(data)),
    lambda data: list(wire.learn_targets(data)),
]


@pytest.mark.parametrize("read", READERS)
@given(version=st.sampled_from(wire.VERSIONS), kind=u8, body=st.binary(max_size=200), honest=st.booleans())
def test_no_reader_fails_on_random_bytes_in_any_other_way_than_a_protocol_error(
    read: t.Callable[[bytes], t.Any], version: int, kind: int, body: bytes, honest: bool
) -> None:
    length = 8 + len(body) if honest else len(body) * 3
    data = struct.pack("!BBHI", version, kind, length, 1) + body
    try:
        read(data)
    except ProtocolError as error:
        assert str(error)


@given(some=st.lists(st.tuples(u8, octets), max_size=6), cuts=st.lists(st.integers(1, 40), max_size=20))
def test_messages_come_out_of_a_stream_whole_however_it_is_cut(
    some: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    sent = [wire.message(wire.OF15, kind, 1, body) for kind, body in some]
    stream, buffer, received = b"".join(sent), bytearray(), []
    for size in [*cuts, len(stream)]:
        buffer += stream[:size]
        stream = stream[size:]
        messages = list(wire.split(buffer))
        received += messages
        del buffer[: sum(map(len, messages))]
    assert received == sent
    assert not buffer


def test_a_message_shorter_than_a_header_ends_the_stream() -> None:
    with pytest.raises(ProtocolError, match="claims 7 bytes"):
        list(wire.split(bytearray(b"\x06\x00\x00\x07\x00\x00\x00\x01")))


@given(some=st.lists(octets, max_size=6), xid=xids)
def test_a_bundle_holds_the_messages_unchanged_with_their_own_numbers(some: list[bytes], xid: int) -> None:
    inner = [wire.message(wire.OF15, wire.FLOW_MOD, xid ^ number, body) for number, body in enumerate(some)]
    outer = list(wire.each(wire.bundled(wire.OF15, 5, b"".join(inner))))
    assert [data[16:] for data in outer] == inner
    assert [wire.header(data) for data in outer] == [
        (wire.OF15, wire.BUNDLE_ADD, len(data) + 16, wire.header(data).xid) for data in inner
    ]


def test_a_message_that_no_bundle_can_hold_is_refused() -> None:
    fits = wire.message(wire.OF15, wire.FLOW_MOD, 1, bytes(0xFFFF - 16 - 8))
    assert len(wire.bundled(wire.OF15, 1, fits)) == 0xFFFF
    with pytest.raises(ProtocolError, match="too long for a bundle"):
        wire.bundled(wire.OF15, 1, wire.message(wire.OF15, wire.FLOW_MOD, 1, bytes(0xFFFF - 16 - 7)))
    with pytest.raises(ProtocolError, match="the most is 65535"):
        wire.message(wire.OF15, wire.FLOW_MOD, 1, bytes(0xFFFF))


def test_hello_offers_exactly_the_versions_asked_for() -> None:
    assert wire.hello_versions(wire.hello((wire.OF15, wire.OF10))) == {wire.OF15, wire.OF10}
    assert wire.hello_versions(wire.message(wire.OF13, wire.HELLO, 1)) == {1, 2, 3, 4}


@pytest.mark.parametrize(
    ("version", "payload", "name"),
    [
        (wire.OF15, struct.pack("!HH", 5, 1), "OFPFMFC_TABLE_FULL"),
        (wire.OF10, struct.pack("!HH", 3, 0), "OFPFMFC_TABLE_FULL"),
        (wire.OF15, struct.pack("!HHI", 0xFFFF, 16, wire.NICIRA), "NXTTMFC_BAD_COMMAND"),
        (wire.OF15, struct.pack("!HHI", 0xFFFF, 16, 7), "experimenter 0x7 type 16"),
        (wire.OF14, struct.pack("!HH", 99, 98), "type 99 code 98"),
    ],
)
def test_errors_have_the_names_of_the_specification(version: int, payload: bytes, name: str) -> None:
    error = wire.switch_error(wire.message(version, wire.ERROR, 7, payload + b"offending"))
    assert (error.name, error.xid, error.data) == (name, 7, b"offending")


@given(tlvs=st.lists(st.builds(wire.Tlv, u16, u8, u8, u16), unique_by=lambda tlv: tlv.index))
def test_a_tlv_map_survives_the_wire(tlvs: list[wire.Tlv]) -> None:
    assert wire.tlv_map(wire.tlv_mod(wire.OF15, 1, wire.TLV_ADD, tlvs)) == tuple(
        sorted(tlvs, key=lambda tlv: tlv.index)
    )


@pytest.mark.parametrize("version", [wire.OF13, wire.OF14, wire.OF15])
@given(meters=st.dictionaries(u32, st.tuples(u16, octets.map(padded)), max_size=4))
def test_meters_survive_the_wire(version: int, meters: dict[int, tuple[int, bytes]]) -> None:
    body = b"".join(
        struct.pack("!HHI", 8 + len(bands), flags, meter) + bands for meter, (flags, bands) in meters.items()
    )
    found = wire.meters(reply(version, wire.METER_CONFIG, body))
    mods = [wire.meter_mod(version, 1, wire.METER_ADD, meter, config) for meter, config in found.items()]
    assert [wire.meter_of(mod) for mod in mods] == [
        (meter, struct.pack("!H", flags) + bands) for meter, (flags, bands) in meters.items()
    ]


def port_of(data: bytes) -> tuple[int, int]:
    """(number, config) of a port-mod (OFPT_PORT_MOD of OpenFlow 1.0, 1.3 and newer)."""
    if data[0] == wire.OF10:
        number, config = struct.unpack_from("!H6xI", data, 8)
        return number | (0xFFFF0000 if number >= 0xFF00 else 0), config
    number, config = struct.unpack_from("!I12xI", data, 8)
    return number, config


@pytest.mark.parametrize("version", wire.VERSIONS)
@given(number=st.integers(1, 0xFEFF) | st.just(wire.LOCAL), config=u32)
def test_the_config_of_a_port_survives_the_wire(version: int, number: int, config: int) -> None:
    config &= wire.PORT_CONFIG_BITS[version]
    assert port_of(wire.port_mod(version, 1, number, b"\2\0\0\0\0\1", config, ~0)) == (number, config)
    told = wire.port_status(version, number, "vm-\u00fc", config)
    assert wire.port_status_of(told) == wire.Port(number, "vm-\u00fc", bytes(6), config)


def test_the_eviction_flags_and_the_current_vacancy_are_not_configuration() -> None:
    eviction = struct.pack("!HHI", 2, 8, 7)
    vacancy = struct.pack("!HHBBBx", 3, 8, 10, 20, 93)
    body = struct.pack("!HBxI", 24, 5, 12) + eviction + vacancy + struct.pack("!HBxI", 8, 6, 0)
    assert wire.tables(reply(wire.OF15, wire.TABLE_DESC, body)) == {
        5: struct.pack("!I", 12) + struct.pack("!HHBBxx", 3, 8, 10, 20)
    }


def test_learn_actions_tell_which_flows_they_add() -> None:
    learn = struct.pack("!HHIHHHHQHBx", 0xFFFF, 32, wire.NICIRA, 16, 10, 0, 700, 0x1234, 0, 9) + bytes(6)
    flow = wire.flow_mod(
        wire.OF15, 1, 0, 1, 0, 0, 0, 0, 0, match_of(b"") + struct.pack("!HH4x", 4, 8 + len(learn)) + learn
    )
    assert list(wire.learn_targets(flow)) == [(9, 700, 0x1234)]


@pytest.mark.parametrize(
    ("version", "rest"),
    [
        (wire.OF13, struct.pack("!HHI", 6, 8, 7) + struct.pack("!HH4xHHI", 4, 16, 22, 8, 9)),
        (wire.OF15, struct.pack("!HH4xHHIHHI", 4, 24, 29, 8, 7, 22, 8, 9)),
        (wire.OF15, struct.pack("!HH4xHHI", 3, 16, 22, 8, 9) + struct.pack("!HH4xHHI", 4, 16, 29, 8, 7)),
    ],
)
def test_what_a_flow_uses_is_in_its_instructions(version: int, rest: bytes) -> None:
    flow = wire.flow_mod(version, 1, 0, 1, 0, 0, 0, 0, 0, match_of(b"") + rest)
    assert wire.used_by(flow) == (frozenset({9}), frozenset({7}))
    with pytest.raises(ProtocolError):
        wire.used_by(flow[:-8] + struct.pack("!HHI", 22, 9, 9))


# An independent implementation reads what we write, and writes what we read.


class Datapath:
    """What os-ken's message classes want to know of a connection."""

    def __init__(self, ofproto: t.Any, parser: t.Any) -> None:
        self.ofproto, self.ofproto_parser = ofproto, parser


OS_KEN = {
    wire.OF13: (ofproto_v1_3, ofproto_v1_3_parser),
    wire.OF14: (ofproto_v1_4, ofproto_v1_4_parser),
    wire.OF15: (ofproto_v1_5, ofproto_v1_5_parser),
}


def read_with_os_ken(data: bytes) -> t.Any:
    found = wire.header(data)
    datapath = Datapath(*OS_KEN[found.version])
    return ofproto_parser.msg(datapath, found.version, found.type, found.length, found.xid, data)


@pytest.mark.parametrize("version", sorted(OS_KEN))
def test_os_ken_reads_our_flow_mods(version: int) -> None:
    in_port = struct.pack("!II", 0x80000004, 7)
    output = struct.pack("!HHIH6x", 0, 16, 3, 0)
    flow = Flow(
        4, 77, 5, 6, 1, 0, 0xFFFFFFFFFFFFFFFE, match_of(in_port), struct.pack("!HH4x", 4, 24) + output, 1, 1
    )
    (mod,) = wire.each(wire.flow_mods(flow_reply(version, [flow]), 1)[0])
    seen = read_with_os_ken(mod)
    assert (seen.table_id, seen.priority, seen.idle_timeout, seen.hard_timeout) == (4, 77, 5, 6)
    assert (seen.cookie, seen.flags, seen.match["in_port"]) == (0xFFFFFFFFFFFFFFFE, 1, 7)
    assert seen.instructions[0].actions[0].port == 3


@pytest.mark.parametrize("version", sorted(OS_KEN))
def test_os_ken_writes_the_same_meter_group_and_bundle_messages(version: int) -> None:
    ofproto, parser = OS_KEN[version]
    datapath = Datapath(ofproto, parser)
    band = parser.OFPMeterBandDscpRemark(rate=1000, burst_size=10, prec_level=1)
    messages = {
        parser.OFPMeterMod(datapath, ofproto.OFPMC_ADD, 1, 5, [band]): wire.meter_mod(
            version, 1, wire.METER_ADD, 5, struct.pack("!HHHIIBxxx", 1, 2, 16, 1000, 10, 1)
        ),
        parser.OFPGroupMod(datapath, ofproto.OFPGC_DELETE, 0, ofproto.OFPG_ALL): wire.delete_groups(
            version, 1
        ),
    }
    if version >= wire.OF14:
        commit = parser.OFPBundleCtrlMsg(datapath, 9, ofproto.OFPBCT_COMMIT_REQUEST, wire.ATOMIC_ORDERED, [])
        messages[commit] = wire.bundle_control(version, 1, 9, wire.BUNDLE_COMMIT)
    for theirs, ours in messages.items():
        theirs.set_xid(1)
        theirs.serialize()
        assert bytes(theirs.buf).hex() == ours.hex()


def test_a_push_of_a_vlan_tag_is_told_from_a_number_that_looks_like_it() -> None:
    push = bytes.fromhex("0011000881000000") + bytes.fromhex("00190010")
    assert wire.pushes_and_sets_vlan(bytes(7) + b"\x81" + push + bytes(4))
    assert not wire.pushes_and_sets_vlan(push.replace(b"\x00\x11", b"\x00\x12"))
    assert not wire.pushes_and_sets_vlan(bytes.fromhex("0000810000000019") * 3)
    assert not wire.pushes_and_sets_vlan(b"")


@pytest.mark.parametrize("damage", [b"\0", b"\0\0", bytes(8), b"\0\x10" + bytes(4)])
def test_entries_that_do_not_fill_their_reply_are_malformed(damage: bytes) -> None:
    head = wire.message(wire.OF15, 19, 1, bytes.fromhex("0001000000000000"))
    entries = struct.pack("!H6x", 8) + struct.pack("!H14x", 16)
    assert wire.count_entries(head + entries) == 2
    with pytest.raises(ProtocolError):
        wire.count_entries(head + entries + damage)


@pytest.mark.parametrize(
    ("lengths", "fits"),
    [
        ([48] * 5, True),
        ([48, 48, 56, 40, 48], True),
        ([48, 96, 48], True),
        ([48, 48, 40, 48], False),
        ([48, 0, 48], False),
    ],
)
def test_entries_are_counted_alike_or_not(lengths: list[int], fits: bool) -> None:
    size = sum(lengths) if fits else 48 * len(lengths)
    head = wire.message(wire.OF15, 19, 1, bytes.fromhex("0001000000000000"))
    body = b"".join(struct.pack("!H", length).ljust(max(8, length), b"\0") for length in lengths)
    data = head + body[:size].ljust(size, b"\0")
    if fits:
        assert wire.count_entries(data) == len(lengths)
        return
    with pytest.raises(ProtocolError):
        wire.count_entries(data)


@pytest.mark.parametrize("version", [wire.OF10, wire.OF15])
def test_a_description_names_the_version_of_open_vswitch(version: int) -> None:
    texts = [
        text.ljust(size, b"\0") for text, size in ((b"Nicira, Inc.", 256), (b"hw", 256), (b"2.15.0", 256))
    ]
    request = wire.description_request(version, 7)
    reply = wire.message(
        version, 19 if version > wire.OF10 else 17, 7, request[8:] + b"".join(texts) + bytes(288)
    )
    assert wire.software(reply) == "2.15.0"


@pytest.mark.parametrize(("told", "found"), [(0xFFFFFFFF, 0), (0, 0), (1, 1)])
def test_the_first_table_is_read_whatever_a_switch_counts_there(told: int, found: int) -> None:
    rows = [(0, told), (1, 0), (2, 7)]
    body = b"".join(struct.pack("!B3xIQQ", table, count, 0, 0) for table, count in rows)
    reply = struct.pack("!BBHI", 6, 19, 16 + len(body), 1) + struct.pack("!HH4x", 3, 0) + body
    assert wire.flows_in_tables(reply) == {0: found, 2: 7}


@pytest.mark.parametrize(
    ("version", "head"),
    [
        (wire.OF10, "010d001200000009" + "ffffffff" + "0007" + "0000"),
        (wire.OF13, "040d001a00000009" + "ffffffff" + "00000007" + "0000" + "000000000000"),
        (
            wire.OF15,
            "060d002200000009" + "ffffffff" + "00000000" + "0001000c" + "80000004" + "00000007" + "00000000",
        ),
    ],
)
def test_a_packet_that_comes_in_by_a_port(version: int, head: str) -> None:
    assert wire.packet_out(version, 9, 7, b"\xab\xcd").hex() == head + "abcd"
