# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""OpenFlow messages as bytes: pure functions, no socket, no file.

Numbers and layouts are those of the OpenFlow 1.0, 1.3, 1.4 and 1.5 switch specifications and of the
Nicira and ONF extensions as Open vSwitch speaks them (include/openflow/*.h).  Match and instruction
bytes are moved as they are, never interpreted: what the switch said is what it gets back.

Every function that reads raises ``ProtocolError`` on malformed input and reads no further than its buffer.
"""

from __future__ import annotations

import array
import dataclasses
import struct
import sys
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import ProtocolError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import error_names

OF10, OF13, OF14, OF15 = 1, 4, 5, 6
VERSION_NAMES = {OF10: "OpenFlow10", OF13: "OpenFlow13", OF14: "OpenFlow14", OF15: "OpenFlow15"}
VERSIONS = (OF15, OF14, OF13, OF10)

NICIRA, ONF = 0x00002320, 0x4F4E4600

# Message types that have the same number in all versions above.
HELLO, ERROR, ECHO_REQUEST, ECHO_REPLY, EXPERIMENTER = 0, 1, 2, 3, 4
GET_CONFIG_REQUEST, GET_CONFIG_REPLY, SET_CONFIG = 7, 8, 9
PACKET_OUT, FLOW_MOD, GROUP_MOD = 13, 14, 15
# Message types of OpenFlow 1.1 and newer; OpenFlow 1.0 numbers them differently.
PORT_MOD, TABLE_MOD, METER_MOD = 16, 17, 29
PORT_MOD10 = 15
PORT_STATUS = 12
_PORT_MODIFIED = 2
BUNDLE_CONTROL, BUNDLE_ADD = 33, 34

# Multipart (OpenFlow 1.0: statistics) kinds; experimenter kinds are (experimenter, subtype).
DESC, FLOWS, AGGREGATE, TABLE_STATS = 0, 1, 2, 3
GROUP_STATS, GROUP_DESC, METER_CONFIG, PORT_DESC, TABLE_DESC = 6, 7, 10, 13, 14
NX_FLOWS, NX_AGGREGATE, NX_GROUP_STATS, NX_GROUP_DESC = (NICIRA, 0), (NICIRA, 1), (NICIRA, 7), (NICIRA, 8)
Kind = t.Union[int, tuple[int, int]]

# Subtypes of Nicira messages.
NX_FLOW_MOD, NX_FLOW_MOD_TABLE_ID, NX_TLV_MOD, NX_TLV_REQUEST, NX_TLV_REPLY, NX_GROUP_MOD = (
    13,
    15,
    24,
    25,
    26,
    31,
)
ONF_BUNDLE_CONTROL, ONF_BUNDLE_ADD = 2300, 2301

ADD, MODIFY, DELETE, DELETE_STRICT = 0, 1, 3, 4
METER_ADD, METER_MODIFY, METER_DELETE = 0, 1, 2
GROUP_ADD, GROUP_MODIFY, GROUP_DELETE = 0, 1, 2
# Of Open vSwitch alone (OFPGC11_ADD_OR_MOD).
GROUP_ADD_OR_MODIFY = 0x8000
TLV_ADD, TLV_DELETE = 0, 1

BUNDLE_OPEN, BUNDLE_COMMIT, BUNDLE_DISCARD = 0, 4, 6
ATOMIC_ORDERED = 3

ALL_TABLES, ANY, ALL = 0xFF, 0xFFFFFFFF, 0xFFFFFFFF
NO_BUFFER = 0xFFFFFFFF
GROUP_ALL = 0xFFFFFFFC
LOCAL = 0xFFFFFFFE
# Port config bits that a port-mod can change: (OpenFlow 1.0, newer).
PORT_CONFIG_BITS = {OF10: 0x7F, OF13: 0x65, OF14: 0x65, OF15: 0x65}
PORT_DOWN, PORT_NO_FORWARD = 1, 0x20
FRAGMENT_BITS = 0x3

_EVICTION, _VACANCY = 2, 3
# The action push_vlan:0x8100 in two parts, and the start of a set-field behind it.
_PUSH, _TAG_AND_SET = bytes.fromhex("00110008"), bytes.fromhex("810000000019")
# The config of a table that nobody configured: no eviction, no vacancy events.
DEFAULT_TABLE = bytes(4)

MAX_MESSAGE = 0xFFFF

HEADER = struct.Struct("!BBHI")
_EXPERIMENTER = struct.Struct("!II")
_BUNDLE = struct.Struct("!IHH")
_FLOW_MOD = struct.Struct("!BBHIQQBBHHHIIIHH")
_FLOW_STATS15 = struct.Struct("!HxxBxHHHHHQHH")
_FLOW_STATS13 = struct.Struct("!HBxIIHHHHHxxQQQHH")
_FLOW_STATS10 = struct.Struct("!HBxIIHHHHHHQQQ")
_NX_FLOW_MOD = struct.Struct("!BBHIIIQHHHHIHHHxxxxxx")
_U16 = struct.Struct("!H")
_U32 = struct.Struct("!I")
_I32 = struct.Struct("!i")
_U64 = struct.Struct("!Q")
_EMPTY_MATCH = struct.pack("!HH4x", 1, 4)
_OXM_IN_PORT = 0x80000004
# The header of NXM_NX_COOKIE, without a mask.
_NXM_COOKIE = bytes.fromhex("00013c08")
# Where the cookie of a flow is in its statistics, in bytes: from OpenFlow 1.5 on, and before.
_COOKIE15, _COOKIE = 16, 24
# OXS of Open vSwitch: class 0x8002, 7 bits of field, 1 reserved bit, length.
_OXS_DURATION = 0x80020008
_OXS_IDLE_TIME = 0x80020208


class Header(t.NamedTuple):
    """The first eight bytes of every OpenFlow message; ``length`` counts them."""

    version: int
    type: int
    length: int
    xid: int


@dataclasses.dataclass(frozen=True)
class SwitchError:
    """An OFPT_ERROR: its name in the specification and (the start of) the message it is about."""

    name: str
    xid: int
    data: bytes


@dataclasses.dataclass(frozen=True)
class Tlv:
    """One entry of the TLV map: a Geneve option and the tun_metadata field it is read into (nicira-ext.h)."""

    option_class: int
    option_type: int
    length: int
    index: int


@dataclasses.dataclass(frozen=True)
class Port:
    """A port as the switch describes it; ``config`` holds OFPPC_* bits, ``hw_addr`` six bytes."""

    number: int
    name: str
    hw_addr: bytes
    config: int


def padded(data: bytes) -> bytes:
    """With as many zeros behind it as make its length a multiple of eight."""
    return data + bytes(-len(data) % 8)


def message(version: int, kind: int, xid: int, body: bytes = b"") -> bytes:
    """A whole message. Raises ``ProtocolError`` if it is too long for OpenFlow's 16-bit length."""
    length = HEADER.size + len(body)
    if length > MAX_MESSAGE:
        raise ProtocolError(
            f"an OpenFlow message of type {kind} would have {length} bytes", f"the most is {MAX_MESSAGE}"
        )
    return HEADER.pack(version, kind, length, xid) + body


def nicira(version: int, subtype: int, xid: int, body: bytes = b"") -> bytes:
    """A Nicira extension message (nicira-ext.h)."""
    return message(version, EXPERIMENTER, xid, _EXPERIMENTER.pack(NICIRA, subtype) + body)


def header(data: bytes | bytearray | memoryview, offset: int = 0) -> Header:
    """The header at ``offset``; its length is checked to be possible, not to be present."""
    if len(data) - offset < HEADER.size:
        raise ProtocolError(
            "an OpenFlow header is cut off", f"{len(data) - offset} of {HEADER.size} bytes are there"
        )
    found = Header(*HEADER.unpack_from(data, offset))
    if found.length < HEADER.size:
        raise ProtocolError(f"an OpenFlow message claims {found.length} bytes", "a header alone has 8")
    return found


def with_xid(data: bytes, xid: int) -> bytes:
    """The same message under another transaction id."""
    return data[:4] + _U32.pack(xid) + data[8:]


def split(stream: bytes | bytearray | memoryview) -> t.Iterator[bytes]:
    """Each complete message at the front of ``stream``; what is left behind them is the start of the next."""
    offset = 0
    while len(stream) - offset >= HEADER.size:
        end = offset + header(stream, offset).length
        if end > len(stream):
            return
        yield bytes(stream[offset:end])
        offset = end


def bounds(messages: bytes) -> t.Iterator[tuple[int, int]]:
    """The (start, end) of each of the whole messages that lie back to back in ``messages``."""
    length_at, offset, left = _U16.unpack_from, 0, len(messages)
    while offset + HEADER.size <= left:
        end = offset + length_at(messages, offset + 2)[0]
        if not offset + HEADER.size <= end <= left:
            break
        yield offset, end
        offset = end
    if offset != left:
        raise ProtocolError(
            "a series of OpenFlow messages is cut off or malformed", f"at byte {offset} of {left}"
        )


def last_boundary(data: bytes) -> int:
    """The end of the last whole message in ``data``, which begins with one."""
    offset, left = 0, len(data)
    while offset + HEADER.size <= left:
        end = offset + header(data, offset).length
        if end > left:
            break
        offset = end
    return offset


def each(messages: bytes) -> t.Iterator[bytes]:
    """Each of the whole messages that lie back to back in ``messages``."""
    return (messages[start:end] for start, end in bounds(messages))


def items(data: bytes, offset: int, what: str) -> t.Iterator[tuple[int, int]]:
    """The (start, end) of each entry of an array whose entries begin with their own 16-bit length."""
    while offset < len(data):
        length = u16(data, offset, what)
        if length < 4 or offset + length > len(data):
            raise ProtocolError(
                f"a {what} claims {length} bytes", f"{len(data) - offset} are left in its message"
            )
        yield offset, offset + length
        offset += length


def items_after_type(data: bytes, what: str) -> t.Iterator[tuple[int, int]]:
    """The (start, end) of each action or instruction: entries that begin with a type and then their length."""
    offset = 0
    while offset < len(data):
        length = u16(data, offset + 2, what)
        if length < 8 or offset + length > len(data):
            raise ProtocolError(f"an {what} claims {length} bytes", f"{len(data) - offset} are left")
        yield offset, offset + length
        offset += length


def u16(data: bytes, offset: int, what: str) -> int:
    """The 16-bit number at ``offset``."""
    if offset + 2 > len(data):
        raise ProtocolError(f"a {what} is cut off", f"its message ends after {len(data)} bytes")
    return int(_U16.unpack_from(data, offset)[0])


def unpack(layout: struct.Struct, data: bytes, offset: int, what: str) -> tuple[t.Any, ...]:
    """``layout.unpack_from`` that raises ``ProtocolError``."""
    if offset + layout.size > len(data):
        raise ProtocolError(f"a {what} is cut off", f"{len(data) - offset} of {layout.size} bytes are there")
    return layout.unpack_from(data, offset)


# Negotiation


def hello(versions: t.Iterable[int], xid: int = 1) -> bytes:
    """OFPT_HELLO with a version bitmap (OpenFlow 1.3.1, 7.5.1)."""
    wanted = tuple(versions)
    bitmap = sum(1 << version for version in wanted)
    return message(max(wanted), HELLO, xid, struct.pack("!HHI", 1, 8, bitmap))


def hello_versions(data: bytes) -> frozenset[int]:
    """The versions that a HELLO offers: its bitmap, or every version up to its header's."""
    offset, found = HEADER.size, header(data)
    while offset + 4 <= len(data):
        kind, length = struct.unpack_from("!HH", data, offset)
        if length < 4 or offset + length > len(data):
            raise ProtocolError(f"a HELLO element claims {length} bytes", f"{len(data) - offset} are left")
        if kind == 1 and length >= 8:
            bitmap = _U32.unpack_from(data, offset + 4)[0]
            return frozenset(bit for bit in range(32) if bitmap >> bit & 1)
        offset += (length + 7) & ~7
    return frozenset(range(1, found.version + 1))


# Errors


def switch_error(data: bytes) -> SwitchError:
    """Read an OFPT_ERROR; unknown numbers become ``type T code C``."""
    found = header(data)
    kind, code = unpack(struct.Struct("!HH"), data, HEADER.size, "error message")
    rest = HEADER.size + 4
    if kind == 0xFFFF:
        (experimenter,) = unpack(_U32, data, rest, "experimenter error")
        name = error_names.NICIRA.get(code) if experimenter == NICIRA else None
        return SwitchError(name or f"experimenter {experimenter:#x} type {code}", found.xid, data[rest + 4 :])
    if kind == 0xB0C2 and found.version == OF10:
        __, kind, code = unpack(struct.Struct("!IHH"), data, rest, "vendor error")
        return SwitchError(
            error_names.NICIRA10.get((kind, code)) or f"type {kind} code {code}", found.xid, data[rest + 8 :]
        )
    names = error_names.OPENFLOW10 if found.version == OF10 else error_names.STANDARD
    return SwitchError(names.get((kind, code)) or f"type {kind} code {code}", found.xid, data[rest:])


# Multipart


def multipart_request(version: int, kind: Kind, xid: int, body: bytes = b"") -> bytes:
    """OFPT_MULTIPART_REQUEST (OpenFlow 1.0: OFPT_STATS_REQUEST)."""
    kind_number = 16 if version == OF10 else 18
    if isinstance(kind, tuple):
        extension = _EXPERIMENTER.pack(*kind) if version != OF10 else struct.pack("!IIxxxx", *kind)
        head = struct.pack("!HH", 0xFFFF, 0) + (b"" if version == OF10 else b"\0\0\0\0") + extension
        return message(version, kind_number, xid, head + body)
    head = struct.pack("!HH", kind, 0) + (b"" if version == OF10 else b"\0\0\0\0")
    return message(version, kind_number, xid, head + body)


def is_multipart_reply(found: Header) -> bool:
    """Whether a message with this header is a multipart (statistics) reply."""
    return found.type == (17 if found.version == OF10 else 19)


def multipart_reply(data: bytes) -> tuple[Kind, bool, int]:
    """(kind, whether more follow, offset of the body) of a multipart reply."""
    found = header(data)
    kind, flags = unpack(struct.Struct("!HH"), data, HEADER.size, "multipart reply")
    body = HEADER.size + (4 if found.version == OF10 else 8)
    more = bool(flags & 1)
    if kind != 0xFFFF:
        return kind, more, body
    experimenter, subtype = unpack(_EXPERIMENTER, data, body, "experimenter multipart reply")
    # Statistics messages of OpenFlow 1.0 pad the Nicira header to 64 bits (struct nicira10_stats_msg).
    return (experimenter, subtype), more, body + (12 if found.version == OF10 else 8)


def description_request(version: int, xid: int) -> bytes:
    """A request for what the switch is."""
    return multipart_request(version, DESC, xid)


def software(reply: bytes) -> str:
    """The version of Open vSwitch out of a description (struct ofp_desc, sw_desc)."""
    body = reply[multipart_reply(reply)[2] :]
    return body[512:768].partition(b"\0")[0].decode(errors="replace")


def flows_request(version: int, xid: int, table: int = ALL_TABLES) -> bytes:
    """A request for every flow of ``table`` (all tables); hidden flows are never listed by Open vSwitch."""
    if version == OF10:
        return multipart_request(version, NX_FLOWS, xid, struct.pack("!HHB3x", 0xFFFF, 0, table))
    return multipart_request(version, FLOWS, xid, _flows_of(table))


def aggregate_request(version: int, xid: int, table: int = ALL_TABLES, cookie: int | None = None) -> bytes:
    """A request for the number of flows of ``table``, or of those with that ``cookie``."""
    if version == OF10:
        match = b"" if cookie is None else _NXM_COOKIE + _U64.pack(cookie)
        fixed = struct.pack("!HHB3x", 0xFFFF, len(match), table)
        return multipart_request(version, NX_AGGREGATE, xid, fixed + match + bytes(-len(match) % 8))
    return multipart_request(version, AGGREGATE, xid, _flows_of(table, cookie))


def _flows_of(table: int, cookie: int | None = None) -> bytes:
    mask = 0 if cookie is None else 2**64 - 1
    return struct.pack("!B3xII4xQQ", table, ANY, ANY, cookie or 0, mask) + _EMPTY_MATCH


def tables_in_use_request(version: int, xid: int) -> bytes:
    """A request for the statistics of every table: cheap for the switch, however many flows there are."""
    return multipart_request(version, TABLE_STATS, xid)


def flows_in_tables(data: bytes) -> dict[int, int]:
    """Each table with flows of a table-statistics reply, and about how many it has, hidden ones included.

    The count of table 0 cannot be relied on, so that table is always there: a bridge that was without its controller once
    (fail_mode=standalone) takes one off for ever, be it from 0 or from 1 (fail_open_recover in ofproto/fail-open.c).
    """
    version = header(data).version
    __, __, body = multipart_reply(data)
    size, at = (64, 40) if version == OF10 else (24, 4)
    if (len(data) - body) % size:
        raise ProtocolError(
            "table statistics are cut off", f"{len(data) - body} bytes are no multiple of {size}"
        )
    counts = {data[offset]: _I32.unpack_from(data, offset + at)[0] for offset in range(body, len(data), size)}
    return {table: max(0, count) for table, count in counts.items() if count or table == 0}


def aggregate_count(data: bytes) -> int:
    """The number of flows in an aggregate reply."""
    found = header(data)
    __, __, body = multipart_reply(data)
    if found.version < OF15:
        return int(unpack(struct.Struct("!QQI4x"), data, body, "aggregate reply")[2])
    __, length = unpack(struct.Struct("!HH"), data, body, "aggregate reply")
    end, offset = body + length, body + 4
    while offset + 4 <= min(end, len(data)):
        field, size = data[offset + 2] >> 1, data[offset + 3]
        if field == 3 and size == 4:
            return int(unpack(_U32, data, offset + 4, "aggregate reply")[0])
        offset += 4 + size
    raise ProtocolError("an aggregate reply holds no number of flows", data[body:end].hex())


# Flows


def flow_mods(data: bytes, first_xid: int) -> tuple[bytes, int]:
    """Turn one flow-statistics reply into flow-mods that add the same flows.

    Match, instructions (OpenFlow 1.0: actions), cookie, priority, timeouts, importance and flags are copied.
    Returns the messages back to back, numbered from ``first_xid``, and how many there are.
    """
    version = header(data).version
    __, __, body = multipart_reply(data)
    if version >= OF15:
        return _flow_mods15(data, body, first_xid)
    return _flow_mods10(data, body, first_xid) if version == OF10 else _flow_mods13(data, body, first_xid)


def _flow_mods15(data: bytes, offset: int, xid: int) -> tuple[bytes, int]:
    # There may be a million flows, and each costs a microsecond and a half here: hence the local names.
    out: list[bytes] = []
    add, entry, pack, u16_at = out.append, _FLOW_STATS15.unpack_from, _FLOW_MOD.pack, _U16.unpack_from
    first, whole = xid, len(data)
    try:
        while offset < whole:
            length, table, priority, idle, hard, flags, importance, cookie, __, match = entry(data, offset)
            start, end = offset + 24, offset + length
            stats = start + ((match + 7) & ~7)
            instructions = stats + ((u16_at(data, stats + 2)[0] + 7) & ~7)
            if not start + 4 <= stats < instructions <= end <= whole:
                raise malformed_flow(data, offset)
            add(
                pack(
                    OF15, FLOW_MOD, 48 + stats - start + end - instructions, xid, cookie, 0, table, ADD, idle, hard,
                    priority, NO_BUFFER, ANY, ANY, flags, importance,
                )
            )  # fmt: skip
            add(data[start:stats])
            add(data[instructions:end])
            xid += 1
            offset = end
    except struct.error as error:
        raise ProtocolError("a statistics reply is cut off", str(error)) from error
    return b"".join(out), xid - first


def _flow_mods13(data: bytes, offset: int, xid: int) -> tuple[bytes, int]:
    version = data[0]
    out: list[bytes] = []
    for start, end in items(data, offset, "flow"):
        fields = unpack(_FLOW_STATS13, data, start, "flow")
        __, table, __, __, priority, idle, hard, flags, importance, cookie, __, __, __, match = fields
        if start + 48 + ((match + 7) & ~7) > end or match < 4:
            raise malformed_flow(data, start)
        number, rest = xid + len(out), data[start + 48 : end]
        out.append(flow_mod(version, number, table, priority, cookie, idle, hard, flags, importance, rest))
    return b"".join(out), len(out)


def _flow_mods10(data: bytes, offset: int, xid: int) -> tuple[bytes, int]:
    out: list[bytes] = []
    for start, end in items(data, offset, "flow"):
        fields = unpack(_FLOW_STATS10, data, start, "flow")
        __, table, __, __, priority, idle, hard, match, __, __, cookie, __, __ = fields
        if start + 48 + ((match + 7) & ~7) > end:
            raise malformed_flow(data, start)
        number, rest = xid + len(out), data[start + 48 : end]
        out.append(nx_flow_mod(number, table, priority, cookie, idle, hard, match, rest))
    return b"".join(out), len(out)


def malformed_flow(data: bytes, offset: int) -> ProtocolError:
    """What is wrong with the entry at ``offset`` of a flow-statistics reply."""
    return ProtocolError("a flow of a statistics reply is malformed", data[offset : offset + 64].hex())


def pushes_and_sets_vlan(data: bytes) -> bool:
    """Whether some flow of a reply may push a VLAN tag and set it: perhaps as OpenFlow 1.0 does (encode_SET_VLAN_VID)."""
    # Looking for one rare byte is many times faster than looking for all of them (memchr).
    rare = _TAG_AND_SET[:1]
    at = data.find(rare)
    while at >= 0:
        if data.startswith(_TAG_AND_SET, at) and data.endswith(_PUSH, 0, at):
            return True
        at = data.find(rare, at + 1)
    return False


def count_entries(data: bytes) -> int:
    """How many entries (flows, groups) a multipart reply of such entries has."""
    __, __, body = multipart_reply(data)
    # Entries are padded to eight bytes, so their lengths stand at even places: all are read at once, not one by one.
    numbers = array.array("H", data[body:-1] if len(data) % 2 else data[body:])
    if sys.byteorder == "little":
        numbers.byteswap()
    if alike := _entries_alike(numbers, len(data) - body):
        return alike
    count, at, end = 0, 0, len(numbers)
    while at < end and (length := numbers[at]) >= 8:
        at += length >> 1
        count += 1
    if body + 2 * at != len(data):
        raise ProtocolError("a statistics reply is malformed", f"at byte {body + 2 * at} of {len(data)}")
    return count


def _entries_alike(numbers: array.array[int], size: int) -> int:
    """How many entries make up ``size`` bytes if all are as long as the first, as the flows of a table often are; else 0."""
    first = numbers[0] if numbers else 0
    if first < 8 or size % first or first % 8:
        return 0
    count = size // first
    return count if numbers[:: first >> 1].count(first) == count else 0


def with_remaining_time(data: bytes, elapsed: float) -> bytes:
    """A flow-statistics reply whose flows have the time that is left to them ``elapsed`` seconds after it was sent.

    A hard timeout loses the flow's duration and ``elapsed``; flows that would be gone are left out.  An idle
    timeout loses the idle time, where the version tells it (not OpenFlow 1.3 and 1.4).
    """
    __, __, body = multipart_reply(data)
    out = [data[:body]]
    at = 8 if data[0] >= OF15 else 14
    for start, end in items(data, body, "flow"):
        entry = data[start:end]
        idle, hard = unpack(struct.Struct("!HH"), entry, at, "flow")
        if idle or hard:
            duration, idled = _age(entry, data[0])
            left = int(hard - duration - elapsed)
            if hard and left <= 0:
                continue
            times = struct.pack("!HH", max(idle - idled, 1) if idle else 0, left if hard else 0)
            entry = entry[:at] + times + entry[at + 4 :]
        out.append(entry)
    whole = b"".join(out)
    return whole[:2] + _U16.pack(len(whole)) + whole[4:]


def oldest(data: bytes) -> int:
    """How long the oldest flow of a flow-statistics reply is there, in whole seconds; 0 where there is none."""
    __, __, body = multipart_reply(data)
    return max((_age(data[start:end], data[0])[0] for start, end in items(data, body, "flow")), default=0)


def cookies(data: bytes) -> t.Iterator[int]:
    """The cookie of each flow of a flow-statistics reply."""
    __, __, body = multipart_reply(data)
    at = _COOKIE15 if data[0] >= OF15 else _COOKIE
    for start, end in items(data, body, "flow"):
        yield int(unpack(_U64, data[start:end], at, "flow")[0])


def _age(entry: bytes, version: int) -> tuple[int, int]:
    """(duration, idle time) of a flow-statistics entry, in seconds."""
    if version >= OF15:
        return _age15(entry)
    (duration,) = unpack(_U32, entry, 4, "flow")
    # struct nx_flow_stats has the idle age plus one, zero if unknown.
    idle = max(u16(entry, 20, "flow") - 1, 0) if version == OF10 else 0
    return duration, idle


def _age15(entry: bytes) -> tuple[int, int]:
    """The same from the OXS list of OpenFlow 1.5 (7.2.4)."""
    stats = 24 + ((u16(entry, 26, "flow") + 7) & ~7)
    end = stats + u16(entry, stats + 2, "flow")
    values = {_OXS_DURATION: 0, _OXS_IDLE_TIME: 0}
    offset = stats + 4
    while offset + 8 <= min(end, len(entry)):
        field, value = struct.unpack_from("!II", entry, offset)
        if field in values:
            values[field] = value
        offset += 4 + (field & 0xFF)
    return values[_OXS_DURATION], values[_OXS_IDLE_TIME]


def flow_mod(
    version: int,
    xid: int,
    table: int,
    priority: int,
    cookie: int,
    idle: int,
    hard: int,
    flags: int,
    importance: int,
    rest: bytes,
) -> bytes:
    """An OFPFC_ADD for OpenFlow 1.1 and newer; ``rest`` is the padded match followed by the instructions."""
    fixed = (cookie, 0, table, ADD, idle, hard, priority, NO_BUFFER, ANY, ANY, flags, importance)
    return _FLOW_MOD.pack(version, FLOW_MOD, 48 + len(rest), xid, *fixed) + rest


def nx_flow_mod(
    xid: int,
    table: int,
    priority: int,
    cookie: int,
    idle: int,
    hard: int,
    match_length: int,
    rest: bytes,
    flags: int = 0,
) -> bytes:
    """The same for OpenFlow 1.0 (NXT_FLOW_MOD, with the table in its command); ``rest``: padded match, then actions."""
    fixed = (cookie, table << 8 | ADD, idle, hard, priority, NO_BUFFER, 0xFFFF, flags, match_length)
    return _NX_FLOW_MOD.pack(OF10, EXPERIMENTER, 48 + len(rest), xid, NICIRA, NX_FLOW_MOD, *fixed) + rest


def deletion_of(flow: bytes, xid: int) -> bytes:
    """The flow-mod that deletes just the flow of a flow-mod made by this file."""
    fields, version = flow_fields(flow), flow[0]
    length = unpack(_NX_FLOW_MOD, flow, 0, "flow-mod")[14] if version == OF10 else 0
    return strict_deletion(version, xid, fields.table, fields.priority, fields.match, length)


def has_flags(flow: bytes) -> bool:
    """Whether a flow-mod sets flags or importance (never in OpenFlow 1.0, where they are not kept)."""
    return flow[0] != OF10 and flow[44:48] != bytes(4)


def flags_of(flow: bytes) -> tuple[int, int]:
    """(flags, importance) of a flow-mod of OpenFlow 1.3 or newer."""
    flags, importance = unpack(struct.Struct("!HH"), flow, 44, "flow-mod")
    return int(flags), int(importance)


def with_table_ids(xid: int) -> bytes:
    """Tell the switch that flow-mods of OpenFlow 1.0 name a table (NXT_FLOW_MOD_TABLE_ID)."""
    return nicira(OF10, NX_FLOW_MOD_TABLE_ID, xid, b"\1" + bytes(7))


def flow_statistics(flow: bytes) -> bytes:
    """A statistics reply that holds the flow of a flow-mod: ovs-ofctl prints it without judging its actions."""
    fields, version = flow_fields(flow), flow[0]
    if version == OF10:
        length = 48 + len(fields.match) + len(fields.rest)
        match = unpack(_NX_FLOW_MOD, flow, 0, "flow-mod")[14]
        fixed = (0, 0, fields.priority, fields.idle, fields.hard, match, 0, 0, fields.cookie, 0, 0)
        entry = _FLOW_STATS10.pack(length, fields.table, *fixed) + fields.match + fields.rest
        return _as_reply(multipart_request(version, NX_FLOWS, 0, entry))
    flags, importance = struct.unpack_from("!HH", flow, 44)
    times = (fields.priority, fields.idle, fields.hard, flags, importance, fields.cookie)
    if version >= OF15:
        no_stats = struct.pack("!HH4x", 0, 4)
        length = 24 + len(fields.match) + len(no_stats) + len(fields.rest)
        head = struct.pack("!HxxBxHHHHHQ", length, fields.table, *times)
        return _as_reply(multipart_request(version, FLOWS, 0, head + fields.match + no_stats + fields.rest))
    length = 48 + len(fields.match) + len(fields.rest)
    head = struct.pack("!HBxIIHHHHHxxQQQ", length, fields.table, 0, 0, *times, 0, 0)
    return _as_reply(multipart_request(version, FLOWS, 0, head + fields.match + fields.rest))


def _as_reply(request: bytes) -> bytes:
    return request[:1] + bytes([17 if request[0] == OF10 else 19]) + request[2:]


def delete_flows(version: int, xid: int) -> bytes:
    """A flow-mod that deletes every flow of every table (never a hidden one)."""
    if version == OF10:
        nicira_fields = (NICIRA, NX_FLOW_MOD, 0, ALL_TABLES << 8 | DELETE, 0, 0, 0, NO_BUFFER, 0xFFFF, 0, 0)
        return _NX_FLOW_MOD.pack(OF10, EXPERIMENTER, 48, xid, *nicira_fields)
    fields = (0, 0, ALL_TABLES, DELETE, 0, 0, 0, NO_BUFFER, ANY, ANY, 0, 0)
    return _FLOW_MOD.pack(version, FLOW_MOD, 56, xid, *fields) + _EMPTY_MATCH


def strict_deletion(
    version: int, xid: int, table: int, priority: int, match: bytes, match_length: int
) -> bytes:
    """A flow-mod that deletes one flow; ``match`` is padded, ``match_length`` (OpenFlow 1.0 only) is not."""
    if version == OF10:
        fixed = (0, table << 8 | DELETE_STRICT, 0, 0, priority, NO_BUFFER, 0xFFFF, 0, match_length)
        length = 48 + len(match)
        return _NX_FLOW_MOD.pack(OF10, EXPERIMENTER, length, xid, NICIRA, NX_FLOW_MOD, *fixed) + match
    fields = (0, 0, table, DELETE_STRICT, 0, 0, priority, NO_BUFFER, ANY, ANY, 0, 0)
    return _FLOW_MOD.pack(version, FLOW_MOD, 48 + len(match), xid, *fields) + match


def keep_alive_flow_mod(version: int, xid: int) -> bytes:
    """A flow-mod that changes nothing: it deletes, strictly, flows with a cookie that no flow can have.

    A bundle that gets a message is not idle, so this resets its idle timeout.
    """
    fields = (ANY << 32 | ANY, ANY << 32 | ANY, 0, DELETE_STRICT, 0, 0, 0, NO_BUFFER, ANY, ANY, 0, 0)
    return _FLOW_MOD.pack(version, FLOW_MOD, 56, xid, *fields) + _EMPTY_MATCH


class FlowFields(t.NamedTuple):
    """What identifies a flow, and what may legitimately move; offsets are into its flow-mod."""

    table: int
    priority: int
    cookie: int
    idle: int
    hard: int
    match: bytes
    rest: bytes


def flow_fields(data: bytes) -> FlowFields:
    """Read a flow-mod made by this file. ``match`` is padded; ``rest`` are its instructions or actions."""
    if header(data).version == OF10:
        fields = unpack(_NX_FLOW_MOD, data, 0, "flow-mod")
        cookie, command, idle, hard, priority, match = (
            fields[6],
            fields[7],
            fields[8],
            fields[9],
            fields[10],
            fields[14],
        )
        end = 48 + ((match + 7) & ~7)
        return FlowFields(command >> 8, priority, cookie, idle, hard, data[48:end], data[end:])
    fields = unpack(_FLOW_MOD, data, 0, "flow-mod")
    cookie, table, idle, hard, priority = fields[4], fields[6], fields[8], fields[9], fields[10]
    end = 48 + ((u16(data, 50, "flow-mod") + 7) & ~7)
    return FlowFields(table, priority, cookie, idle, hard, data[48:end], data[end:])


def without_actions(data: bytes) -> bytes:
    """A flow-mod with its match alone."""
    length = len(data) - len(flow_fields(data).rest)
    return data[:2] + struct.pack("!H", length) + data[4:length]


def flow_key(data: bytes) -> tuple[int, int, bytes]:
    """What tells the flow of a flow-mod from all others: table, priority and padded match."""
    fields = flow_fields(data)
    return fields.table, fields.priority, fields.match


def expires(data: bytes) -> bool:
    """Whether this is a flow-mod whose flow has an idle or a hard timeout."""
    return is_flow_mod(data) and data[26:30] != bytes(4)  # in either kind of flow-mod


def is_addition(data: bytes) -> bool:
    """Whether a flow-mod made by this file adds its flow."""
    if not is_flow_mod(data):
        return False
    return data[25] == ADD  # in either kind of flow-mod


def is_flow_mod(data: bytes) -> bool:
    """Whether ``data`` is a flow-mod, of any version."""
    return data[1] == FLOW_MOD or (
        data[1] == EXPERIMENTER and data[8:16] == _EXPERIMENTER.pack(NICIRA, NX_FLOW_MOD)
    )


def with_timeouts(data: bytes, idle: int, hard: int) -> bytes:
    """The same flow-mod with other timeouts, in seconds."""
    offset = 26
    return data[:offset] + struct.pack("!HH", idle, hard) + data[offset + 4 :]


def with_cookie(data: bytes, cookie: int) -> bytes:
    """The same flow-mod with another cookie."""
    offset = 16 if data[0] == OF10 else 8
    return data[:offset] + struct.pack("!Q", cookie) + data[offset + 8 :]


_LEARN = (_EXPERIMENTER.pack(NICIRA, 0)[:4] + b"\0\x10", _EXPERIMENTER.pack(NICIRA, 0)[:4] + b"\0\x2d")


def learn_targets(data: bytes) -> t.Iterator[tuple[int, int, int]]:
    """(table, priority, cookie) of the flows that learn actions in a flow-mod or group-mod add (struct nx_action_learn)."""
    for pattern in _LEARN:
        at = data.find(pattern)
        while at >= 0:
            if at + 6 + 17 <= len(data):
                priority, cookie, __, table = struct.unpack_from("!HQHB", data, at + 10)
                yield table, priority, cookie
            at = data.find(pattern, at + 1)


class Used(t.NamedTuple):
    """Numbers of the groups and meters that a flow needs."""

    groups: frozenset[int]
    meters: frozenset[int]


_METER_INSTRUCTION = 6
_WITH_ACTIONS = (3, 4)
_GROUP_ACTION, _METER_ACTION = 22, 29


def used_by(flow: bytes) -> Used:
    """What must be there for a switch to take ``flow``, a flow-mod: its groups and meters.

    Without those in an action that holds actions itself (clone, for example).
    """
    rest = flow_fields(flow).rest
    if flow[0] == OF10:
        return Used(*_used_in(rest))
    groups, meters = set[int](), set[int]()
    for start, end in items_after_type(rest, "instruction"):
        (kind,) = struct.unpack_from("!H", rest, start)
        if kind == _METER_INSTRUCTION:
            meters.add(int(unpack(_U32, rest, start + 4, "instruction")[0]))
        elif kind in _WITH_ACTIONS:
            some = _used_in(rest[start + 8 : end])
            groups |= some[0]
            meters |= some[1]
    return Used(frozenset(groups), frozenset(meters))


def _used_in(actions: bytes) -> tuple[frozenset[int], frozenset[int]]:
    groups, meters = set[int](), set[int]()
    for start, __ in items_after_type(actions, "action"):
        (kind,) = struct.unpack_from("!H", actions, start)
        if kind == _GROUP_ACTION:
            groups.add(int(unpack(_U32, actions, start + 4, "action")[0]))
        elif kind == _METER_ACTION:
            meters.add(int(unpack(_U32, actions, start + 4, "action")[0]))
    return frozenset(groups), frozenset(meters)


# Groups


def group_mods(data: bytes, first_xid: int) -> tuple[bytes, int]:
    """Turn one group-description reply into group-mods that add the same groups; and their number."""
    version = header(data).version
    __, __, body = multipart_reply(data)
    out: list[bytes] = []
    for start, end in items(data, body, "group"):
        kind, group = unpack(struct.Struct("!xxBxI"), data, start, "group")
        xid = first_xid + len(out)
        if OF10 < version < OF15:
            out.append(
                message(
                    version,
                    GROUP_MOD,
                    xid,
                    struct.pack("!HBxI", GROUP_ADD, kind, group) + data[start + 8 : end],
                )
            )
            continue
        buckets = u16(data, start + 8, "group")
        if start + 16 + buckets > end:
            raise ProtocolError(
                f"the buckets of group {group} claim {buckets} bytes", f"{end - start - 16} are there"
            )
        mod = struct.pack("!HBxIHxxI", GROUP_ADD, kind, group, buckets, 0xFFFFFFFF) + data[start + 16 : end]
        out.append(
            nicira(version, NX_GROUP_MOD, xid, mod)
            if version == OF10
            else message(version, GROUP_MOD, xid, mod)
        )
    return b"".join(out), len(out)


def is_group_reply(data: bytes) -> bool:
    """Whether a multipart reply describes groups."""
    return multipart_reply(data)[0] in (GROUP_DESC, NX_GROUP_DESC)


def describes_single_groups(version: int) -> bool:
    """Whether a switch can be asked for the description of one group; OpenFlow 1.1 to 1.4 only know that of all."""
    return version in (OF10, OF15)


def group_desc_request(version: int, xid: int, group: int = GROUP_ALL) -> bytes:
    """A request for the description of ``group``, or of every group; see ``describes_single_groups``."""
    if not describes_single_groups(version):
        return multipart_request(version, GROUP_DESC, xid)
    kind = NX_GROUP_DESC if version == OF10 else GROUP_DESC
    return multipart_request(version, kind, xid, struct.pack("!I4x", group))


def group_stats_request(version: int, xid: int) -> bytes:
    """A request for the statistics of every group."""
    kind = NX_GROUP_STATS if version == OF10 else GROUP_STATS
    return multipart_request(version, kind, xid, struct.pack("!I4x", GROUP_ALL))


def groups_counted(data: bytes) -> list[int]:
    """The groups in a group-statistics reply (``ofp_group_stats``, in all versions alike)."""
    __, __, body = multipart_reply(data)
    found = (unpack(struct.Struct("!4xI"), data, start, "group") for start, __ in items(data, body, "group"))
    return [int(group) for (group,) in found]


def delete_groups(version: int, xid: int) -> bytes:
    """A group-mod that deletes every group."""
    return delete_group(version, xid, GROUP_ALL)


def delete_group(version: int, xid: int, group: int) -> bytes:
    """A group-mod that deletes one group, and the flows that use it."""
    if OF10 < version < OF15:
        return message(version, GROUP_MOD, xid, struct.pack("!HBxI", GROUP_DELETE, 0, group))
    mod = struct.pack("!HBxIHxxI", GROUP_DELETE, 0, group, 0, 0xFFFFFFFF)
    return (
        nicira(version, NX_GROUP_MOD, xid, mod) if version == OF10 else message(version, GROUP_MOD, xid, mod)
    )


def is_group_mod(data: bytes) -> bool:
    """Whether ``data`` is a group-mod, of any version."""
    if data[0] == OF10:
        return data[1] == EXPERIMENTER and data[8:16] == _EXPERIMENTER.pack(NICIRA, NX_GROUP_MOD)
    return data[1] == GROUP_MOD


def group_command(data: bytes) -> int:
    """What a group-mod is to do (OFPGC_*)."""
    return u16(data, _group_at(data), "group-mod")


def with_group_command(data: bytes, command: int) -> bytes:
    """The same group-mod with another command."""
    at = _group_at(data)
    return data[:at] + _U16.pack(command) + data[at + 2 :]


def _group_at(data: bytes) -> int:
    return 16 if data[0] == OF10 else 8


def group_id(data: bytes) -> int:
    """The group that a group-mod is about."""
    return int(unpack(_U32, data, (16 if data[0] == OF10 else 8) + 4, "group-mod")[0])


def group_type(data: bytes) -> int:
    """The type (OFPGT_*) of the group that a group-mod is about."""
    return data[(16 if data[0] == OF10 else 8) + 2]


# Meters


def meters_request(version: int, xid: int) -> bytes:
    """A request for the configuration of every meter (OpenFlow 1.3 and newer)."""
    return multipart_request(version, METER_CONFIG, xid, struct.pack("!I4x", ALL))


def meters(data: bytes) -> dict[int, bytes]:
    """Each meter of a meter-configuration reply: id -> its flags (16 bits) and bands, as on the wire."""
    __, __, body = multipart_reply(data)
    found: dict[int, bytes] = {}
    for start, end in items(data, body, "meter"):
        flags, meter = unpack(struct.Struct("!xxHI"), data, start, "meter")
        found[meter] = _U16.pack(flags) + data[start + 8 : end]
    return found


def meter_mod(version: int, xid: int, command: int, meter: int, config: bytes = b"\0\0") -> bytes:
    """A meter-mod; ``config`` is what ``meters`` returned for the meter."""
    return message(
        version, METER_MOD, xid, struct.pack("!H", command) + config[:2] + _U32.pack(meter) + config[2:]
    )


def meter_of(data: bytes) -> tuple[int, bytes]:
    """(id, config) of a meter-mod."""
    flags, meter = unpack(struct.Struct("!HI"), data, 10, "meter-mod")
    return meter, _U16.pack(flags) + data[16:]


# TLV map


def tlv_map(data: bytes) -> tuple[Tlv, ...]:
    """The entries of an NXT_TLV_TABLE_REPLY or of an NXT_TLV_TABLE_MOD, by index."""
    offset = 32 if data[8:16] == _EXPERIMENTER.pack(NICIRA, NX_TLV_REPLY) else 24
    if (len(data) - offset) % 8 or len(data) < offset:
        raise ProtocolError("a TLV map is cut off", f"its message has {len(data)} bytes")
    found = (Tlv(*struct.unpack_from("!HBBH", data, at)) for at in range(offset, len(data), 8))
    return tuple(sorted(found, key=lambda tlv: tlv.index))


def tlv_mod(version: int, xid: int, command: int, tlvs: t.Iterable[Tlv]) -> bytes:
    """NXT_TLV_TABLE_MOD: add or delete mappings, all or none."""
    entries = (
        struct.pack("!HBBHxx", tlv.option_class, tlv.option_type, tlv.length, tlv.index) for tlv in tlvs
    )
    return nicira(version, NX_TLV_MOD, xid, struct.pack("!H6x", command) + b"".join(entries))


# Packets


def packet_out(version: int, xid: int, port: int, frame: bytes, actions: bytes = b"") -> bytes:
    """A packet-out of ``frame`` as if it had come in by ``port``, for ``actions``.

    Slow protocols of Open vSwitch take it without any (process_special in ofproto-dpif-xlate.c).
    """
    if version >= OF15:
        match = struct.pack("!HHII4x", 1, 12, _OXM_IN_PORT, port)
        head = struct.pack("!IH2x", NO_BUFFER, len(actions)) + match
    elif version == OF10:
        head = struct.pack("!IHH", NO_BUFFER, port & 0xFFFF, len(actions))
    else:
        head = struct.pack("!IIH6x", NO_BUFFER, port, len(actions))
    return message(version, PACKET_OUT, xid, head + actions + frame)


# Ports, tables, fragments


def ports_request(version: int, xid: int) -> bytes:
    """A request for the description of every port."""
    return multipart_request(version, PORT_DESC, xid, struct.pack("!I4x", ANY) if version >= OF15 else b"")


def ports(data: bytes) -> list[Port]:
    """The ports of a port-description reply; reserved numbers of OpenFlow 1.0 are widened to 32 bits."""
    version = header(data).version
    __, __, body = multipart_reply(data)
    if version == OF10:
        step, layout = 48, struct.Struct("!H6s16sI")
    elif version == OF13:
        step, layout = 64, struct.Struct("!I4x6sxx16sI")
    else:
        layout = struct.Struct("!I4x6sxx16sI")
        return [_port(version, unpack(layout, data, start, "port")) for start, __ in _port_items(data, body)]
    if (len(data) - body) % step:
        raise ProtocolError(
            "a port description is cut off", f"{len(data) - body} bytes are no multiple of {step}"
        )
    return [_port(version, layout.unpack_from(data, at)) for at in range(body, len(data), step)]


def _port_items(data: bytes, offset: int) -> t.Iterator[tuple[int, int]]:
    while offset < len(data):
        length = u16(data, offset + 4, "port")
        if length < 40 or offset + length > len(data):
            raise ProtocolError(
                f"a port claims {length} bytes", f"{len(data) - offset} are left in its message"
            )
        yield offset, offset + length
        offset += length


def _port(version: int, fields: tuple[t.Any, ...]) -> Port:
    number, hw_addr, name, config = fields
    if version == OF10 and number >= 0xFF00:
        number |= 0xFFFF0000
    text = name.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    return Port(number, text, hw_addr, config & PORT_CONFIG_BITS[version])


def port_mod(version: int, xid: int, number: int, hw_addr: bytes, config: int, mask: int) -> bytes:
    """A port-mod that sets those bits of the port's config that are in ``mask``."""
    mask &= PORT_CONFIG_BITS[version]
    if version == OF10:
        return message(
            version, PORT_MOD10, xid, struct.pack("!H6sIII4x", number & 0xFFFF, hw_addr, config, mask, 0)
        )
    body = struct.pack("!I4x6sxxII", number, hw_addr, config, mask)
    return message(version, PORT_MOD, xid, body + (b"\0" * 8 if version == OF13 else b""))


def port_name(interface: str) -> str:
    """What OpenFlow calls the port of an interface: the switch cuts off a longer name, perhaps within a character."""
    return interface.encode("utf-8", "surrogateescape")[:15].decode("utf-8", "surrogateescape")


def port_status(version: int, number: int, name: str, config: int) -> bytes:
    """A message that tells which port has this number, and its config; address, state and speeds are zero."""
    head = struct.pack("!B7x", _PORT_MODIFIED)
    label = port_name(name).encode("utf-8", "surrogateescape")
    if version == OF10:
        body = struct.pack("!H6x16sI20x", number & 0xFFFF, label, config)
    elif version == OF13:
        body = struct.pack("!I12x16sI28x", number, label, config)
    else:
        body = struct.pack("!IH10x16sI4x", number, 40, label, config)
    return message(version, PORT_STATUS, 0, head + body)


def is_port_status(data: bytes) -> bool:
    """Whether ``data`` is a port-status, of any version."""
    return data[1] == PORT_STATUS


def port_status_of(data: bytes) -> Port:
    """The port that a port-status tells about."""
    layout = "!H6s16sI" if data[0] == OF10 else "!I4x6sxx16sI"
    return _port(data[0], unpack(struct.Struct(layout), data, 16, "port-status"))


def tables(data: bytes) -> dict[int, bytes]:
    """Each table of a table-description reply whose config is not the default: id -> body of a table-mod after the id.

    Not configuration: the current vacancy (zeroed) and the eviction flags, which Open vSwitch fixes (left out: its
    decoder takes them for the eviction bit, ofputil_decode_table_mod).
    """
    __, __, body = multipart_reply(data)
    found: dict[int, bytes] = {}
    for start, end in items(data, body, "table"):
        table, config = unpack(struct.Struct("!xxBxI"), data, start, "table")
        if config:
            found[table] = _U32.pack(config) + _table_properties(data[start + 8 : end])
    return found


def _table_properties(data: bytes) -> bytes:
    out, offset = b"", 0
    while offset + 4 <= len(data):
        kind, length = struct.unpack_from("!HH", data, offset)
        if length < 4 or offset + length > len(data):
            raise ProtocolError(f"a table property claims {length} bytes", f"{len(data) - offset} are left")
        padded = (length + 7) & ~7
        if kind == _VACANCY and length >= 8:
            out += data[offset : offset + 6] + bytes(2)
        elif kind != _EVICTION:
            out += data[offset : offset + padded]
        offset += padded
    return out


def tables_request(version: int, xid: int) -> bytes:
    """A request for the configuration of every table (OpenFlow 1.4 and newer)."""
    return multipart_request(version, TABLE_DESC, xid)


def table_mod(version: int, xid: int, table: int, config: bytes = DEFAULT_TABLE) -> bytes:
    """A table-mod; ``config`` is what ``tables`` returned for the table."""
    return message(version, TABLE_MOD, xid, struct.pack("!B3x", table) + config)


def fragments(data: bytes) -> int:
    """The fragment handling (OFPC_FRAG_*) in a switch configuration message."""
    return int(unpack(_U16, data, HEADER.size, "switch configuration")[0]) & FRAGMENT_BITS


def set_fragments(version: int, xid: int, handling: int) -> bytes:
    """Set the fragment handling; this connection asks for no packet-ins (miss_send_len 0)."""
    return message(version, SET_CONFIG, xid, struct.pack("!HH", handling, 0))


# Bundles


def bundle_control(version: int, xid: int, bundle: int, command: int) -> bytes:
    """OFPT_BUNDLE_CONTROL (OpenFlow 1.3: the ONF extension 230)."""
    body = _BUNDLE.pack(bundle, command, ATOMIC_ORDERED)
    if version == OF13:
        return message(version, EXPERIMENTER, xid, _EXPERIMENTER.pack(ONF, ONF_BUNDLE_CONTROL) + body)
    return message(version, BUNDLE_CONTROL, xid, body)


def bundled(version: int, bundle: int, messages: bytes) -> bytes:
    """Messages back to back, each turned into an OFPT_BUNDLE_ADD_MESSAGE with its own transaction id (1.4, 7.3.9.5).

    Raises ``ProtocolError`` if one is too long for that.
    """
    pack, kind, extra, tail = (
        struct.Struct("!BBH").pack,
        BUNDLE_ADD,
        16,
        _BUNDLE.pack(bundle, 0, ATOMIC_ORDERED),
    )
    if version == OF13:
        kind, extra, tail = EXPERIMENTER, 24, _EXPERIMENTER.pack(ONF, ONF_BUNDLE_ADD) + tail
    out: list[bytes] = []
    add = out.append
    for start, end in bounds(messages):
        if end - start > MAX_MESSAGE - extra:
            raise ProtocolError(
                f"a message of {end - start} bytes is too long for a bundle",
                f"the most is {MAX_MESSAGE - extra}",
            )
        add(pack(version, kind, end - start + extra) + messages[start + 4 : start + 8] + tail)
        add(messages[start:end])
    return b"".join(out)
