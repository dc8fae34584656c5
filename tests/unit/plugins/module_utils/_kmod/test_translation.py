# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a filter of tc matches is what its megaflow matches, and a megaflow that is not wholly understood has none.

The megaflows below were told by a kernel (7.2, Open vSwitch 3.5.0).
"""

from __future__ import annotations

import dataclasses
import struct
import typing as t

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import traffic_control as tc
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.translation import (
    Filter,
    Left,
    translate,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import KernelFlow, Vport
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    attribute,
    each_attribute,
    joined,
)

PORTS = {
    0: Vport(0, 2, "ovs-system", 4),
    1: Vport(1, 2, "br0", 5),
    2: Vport(2, 1, "p1", 6),
    3: Vport(3, 1, "p2", 7),
    4: Vport(4, 1, "p3", 8),
    5: Vport(5, 2, "i1", 9),
}

# in_port(p2),eth(src,dst),eth_type(0x0800),ipv4(frag=no), actions:p1
SWITCHED = KernelFlow(
    bytes.fromhex(
        "080014000000000008001300000000000800020000000000080003000300000008000f00000000000800160000000000"
        "080018000000000014001900000000000000000000000000000000001000040002000000000202000000000106000600"
        "0800000010000700000000000000000000000000"
    ),
    bytes.fromhex(
        "08001400ffffffff080013000000000008000200000000000c001000050004000000000008000300ffffffff08000f00"
        "0000000008001600000000000800180000000000140019000000000000000000000000000000000010000400ffffffff"
        "ffffffffffffffff06000600ffff0000100007000000000000000000000000ff"
    ),
    bytes.fromhex("0800010002000000"),
    10,
)
# in_port(p1),ipv4(dst=10.9.0.0/27,proto=17,tos=0/0xfc,frag=no),udp(dst=77),
# actions:push_vlan(vid=9,pcp=3),p3,set(ipv4(tos=0x20/0xfc)),pop_vlan,p2
TAGGED = KernelFlow(
    bytes.fromhex(
        "080014000000000008001300000000000800020000000000080003000200000008000f00000000000800160000000000"
        "080018000000000014001900000000000000000000000000000000001000040000000000000000000000000006000600"
        "0800000010000700000000000a0900001100000008000a000000004d"
    ),
    bytes.fromhex(
        "08001400ffffffff080013000000000008000200000000000c001000050004000000000008000300ffffffff08000f00"
        "000000000800160000000000080018000000000014001900000000000000000000000000000000001000040000000000"
        "000000000000000006000600ffff00001000070000000000ffffffe0fffc00ff08000a000000ffff"
    ),
    bytes.fromhex(
        "0800040081007009080001000400000020000b001c000700000000000000000000200000000000000000000000fc0000040005000800010003000000"
    ),
    2,
)
# in_port(p1),eth(src,dst),ipv4(dst=10.9.0.50,proto=17,ttl=64,frag=no), actions:set(eth(src,dst)),set(ipv4(ttl=63)),p2
ROUTED = KernelFlow(
    bytes.fromhex(
        "080014000000000008001300000000000800020000000000080003000200000008000f00000000000800160000000000"
        "080018000000000014001900000000000000000000000000000000001000040002000000000102000000000306000600"
        "0800000010000700000000000a0900321100400008000a0000000000"
    ),
    bytes.fromhex(
        "08001400ffffffff080013000000000008000200000000000c001000050004000000000008000300ffffffff08000f00"
        "0000000008001600000000000800180000000000140019000000000000000000000000000000000010000400ffffffff"
        "ffffffffffffffff06000600ffff00001000070000000000ffffffffff00ffff08000a0000000000"
    ),
    bytes.fromhex(
        "140003001000040002aa0000000102000000000220000b001c000700000000000000000000003f0000000000000000000000ff000800010003000000"
    ),
    2,
)
# in_port(p1),eth(dst),ipv6(dst=fd00::50,proto=17,hlimit=64,frag=no), actions:set(eth(dst)),set(ipv6(hlimit=63)),p2
ROUTED6 = KernelFlow(
    bytes.fromhex(
        "080014000000000008001300000000000800020000000000080003000200000008000f00000000000800160000000000"
        "080018000000000014001900000000000000000000000000000000001000040000000000000002000000000306000600"
        "86dd00002c00080000000000000000000000000000000000fd0000000000000000000000000000500000000011004000"
        "060020000000000008000a0000000000"
    ),
    bytes.fromhex(
        "08001400ffffffff080013000000000008000200000000000c001000050004000000000008000300ffffffff08000f00"
        "000000000800160000000000080018000000000014001900000000000000000000000000000000001000040000000000"
        "0000ffffffffffff06000600ffff00002c00080000000000000000000000000000000000ffffffffffffffffffffffff"
        "ffffffff00000000ff00ffff060020000000000008000a0000000000"
    ),
    bytes.fromhex(
        "20000b001c000400000000000000020000000002000000000000ffffffffffff58000b00540008000000000000000000"
        "0000000000000000000000000000000000000000000000000000000000003f0000000000000000000000000000000000"
        "00000000000000000000000000000000000000000000ff000800010003000000"
    ),
    2,
)
# in_port(p1),eth(src,dst=ff:ff:ff:ff:ff:ff),ipv4(proto=17,frag=no),udp(dst=96/0xffe0), actions:i1,p3,p2,br0
FLOODED = KernelFlow(
    bytes.fromhex(
        "080014000000000008001300000000000800020000000000080003000200000008000f00000000000800160000000000"
        "0800180000000000140019000000000000000000000000000000000010000400020000000001ffffffffffff06000600"
        "08000000100007000a0900000a0900801100000008000a0000000060"
    ),
    bytes.fromhex(
        "08001400ffffffff080013000000000008000200000000000c001000050004000000000008000300ffffffff08000f00"
        "0000000008001600000000000800180000000000140019000000000000000000000000000000000010000400ffffffff"
        "ffffffffffffffff06000600ffff000010000700ffffff00ffffff80ff0000ff08000a000000ffe0"
    ),
    bytes.fromhex("0800010005000000080001000400000008000100030000000800010001000000"),
    2,
)
# in_port(p1),eth_type(0x88a8),vlan(vid=7),encap(vlan(vid=3),encap(ipv4())), actions:p2
TWO_TAGS = KernelFlow(
    bytes.fromhex(
        "080014000000000008001300000000000800020000000000080003000200000008000f00000000000800160000000000"
        "080018000000000014001900000000000000000000000000000000001000040002000000000102000000000206000600"
        "88a80000060005001007000030000100060006000000000006000500100300001c000100060006000800000010000700"
        "000000000000000000000000"
    ),
    bytes.fromhex(
        "08001400ffffffff080013000000000008000200000000000c001000050004000000000008000300ffffffff08000f00"
        "0000000008001600000000000800180000000000140019000000000000000000000000000000000010000400ffffffff"
        "ffffffffffffffff06000600ffff000006000500ffff00003000010006000600ffff000006000500ffff00001c000100"
        "06000600ffff000010000700000000000000000000000000"
    ),
    bytes.fromhex("0800010003000000"),
    2,
)
# in_port(p1),eth(src,dst),ipv4(dst=10.9.0.0/27,proto=47,frag=no), actions:p2
GRE = KernelFlow(
    bytes.fromhex(
        "080014000000000008001300000000000800020000000000080003000200000008000f00000000000800160000000000"
        "080018000000000014001900000000000000000000000000000000001000040002000000000102000000000206000600"
        "08000000100007000a0900000a0900002f000000"
    ),
    bytes.fromhex(
        "08001400ffffffff080013000000000008000200000000000c001000050004000000000008000300ffffffff08000f00"
        "0000000008001600000000000800180000000000140019000000000000000000000000000000000010000400ffffffff"
        "ffffffffffffffff06000600ffff000010000700ffffff00ffffffe0ff0000ff"
    ),
    bytes.fromhex("0800010003000000"),
    2,
)
# in_port(p1),ipv4(proto=17,frag=first),udp(dst=96/0xfffc), actions:p2
FIRST_FRAGMENT = KernelFlow(
    bytes.fromhex(
        "080014000000000008001300000000000800020000000000080003000200000008000f00000000000800160000000000"
        "080018000000000014001900000000000000000000000000000000001000040002000000000102000000000206000600"
        "08000000100007000a0900000a0900001100000108000a0000000060"
    ),
    bytes.fromhex(
        "08001400ffffffff080013000000000008000200000000000c001000050004000000000008000300ffffffff08000f00"
        "0000000008001600000000000800180000000000140019000000000000000000000000000000000010000400ffffffff"
        "ffffffffffffffff06000600ffff000010000700ffffff00ffffffe0ff0000ff08000a000000fffc"
    ),
    bytes.fromhex("0800010003000000"),
    2,
)
# Keys of flower that have a mask, and where it is; all others are exact.
MASKS = {4: 5, 6: 7, 10: 11, 12: 13, 14: 15, 16: 17, 18: 35, 19: 36, 20: 37, 21: 38, 41: 39, 42: 40, 47: 48}
MASKS |= {49: 50, 51: 52, 53: 54, 55: 56, 57: 58, 59: 60, 61: 62, 63: 64, 65: 66, 73: 74, 75: 76}
TAGS = (None, (0x8100, 0x1007), (0x8100, 0x3007), (0x8100, 0x1008), (0x88A8, 0x1007), (0x8100, 0x1000))
IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806
# IP protocol: the datapath's attribute, and flower's keys for its two halves.
TRANSPORT = {6: (9, 18, 19), 17: (10, 20, 21), 132: (17, 41, 42), 1: (11, 51, 49), 58: (12, 55, 53)}


@dataclasses.dataclass(frozen=True)
class Packet:
    """A packet as both see it: ``tag`` is (type, TCI), ``network`` and ``transport`` are the datapath's structures."""

    ethernet: bytes
    tag: tuple[int, int] | None
    kind: int
    network: bytes
    transport: bytes

    @property
    def protocol(self) -> int:
        return {IPV4: self.network[8:9], IPV6: self.network[36:37]}.get(self.kind, b"\0")[0]

    @property
    def attributes(self) -> dict[int, bytes]:
        """The datapath's key, without ENCAP around what is behind the tag."""
        found = {4: self.ethernet, 6: struct.pack("!H", self.kind)}
        if self.network:
            found[{IPV4: 7, IPV6: 8, ARP: 13}[self.kind]] = self.network
        if self.transport:
            found[TRANSPORT[self.protocol][0]] = self.transport
        return found

    @property
    def fields(self) -> dict[int, bytes]:
        """What flower dissects, by its keys."""
        outer = self.tag[0] if self.tag else self.kind
        found = {8: struct.pack("!H", outer), 6: self.ethernet[:6], 4: self.ethernet[6:]}
        if self.tag:
            tci = self.tag[1]
            found |= {
                23: struct.pack("=H", tci & 0xFFF),
                24: bytes([tci >> 13]),
                25: struct.pack("!H", self.kind),
            }
        n = self.network
        if self.kind == IPV4:
            found |= {10: n[:4], 12: n[4:8], 9: n[8:9], 73: n[9:10], 75: n[10:11]}
        if self.kind == IPV6:
            found |= {14: n[:16], 16: n[16:32], 9: n[36:37], 73: n[37:38], 75: n[38:39]}
        if self.kind == ARP:
            found |= {57: n[:4], 59: n[4:8], 61: n[9:10], 63: n[10:16], 65: n[16:22]}
        else:
            found[47] = struct.pack("!I", {0: 0, 1: 3, 2: 1}[n[-1] if n else 0])
        if self.transport:
            __, first, second = TRANSPORT[self.protocol]
            half = len(self.transport) // 2
            found |= {first: self.transport[:half], second: self.transport[half:]}
        return found


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    def some(size: int) -> bytes:
        return bytes(draw(st.lists(st.sampled_from([0, 1, 255]), min_size=size, max_size=size)))

    kind = draw(st.sampled_from([IPV4, IPV6, ARP]))
    tag = draw(
        st.sampled_from([None, (0x8100, 0x1007), (0x8100, 0x3008), (0x88A8, 0x1007), (0x8100, 0x1000)])
    )
    protocol = draw(st.sampled_from([*TRANSPORT, 89]))
    fragment = draw(st.sampled_from([0, 0, 0, 1, 2]))
    if kind == IPV4:
        network = some(8) + bytes([protocol]) + some(2) + bytes([fragment])
    elif kind == IPV6:
        network = some(32) + bytes(4) + bytes([protocol]) + some(2) + bytes([fragment])
    else:
        network = some(8) + bytes([0, draw(st.sampled_from([1, 2]))]) + some(12) + bytes(2)
    size = 0 if kind == ARP or protocol == 89 else 2 if protocol in (1, 58) else 4
    return Packet(some(12), tag, kind, network, bytes(size) if fragment == 2 else some(size))


@st.composite
def masks(draw: st.DrawFn, packet: Packet) -> dict[int, bytes]:
    """Masks that ovs-vswitchd may make: whole and empty fields, prefixes, single bits."""

    def of(size: int) -> bytes:
        return draw(
            st.sampled_from(
                [bytes(size), b"\xff" * size, b"\xff" * (size // 2) + bytes(size - size // 2), b"\1" * size]
            )
        )

    def whole(size: int) -> bytes:
        return draw(st.sampled_from([bytes(size), b"\xff" * size]))

    found = {4: of(6) + of(6), 6: b"\xff\xff"}
    protocol = whole(1)
    if packet.kind == IPV4:
        found[7] = of(4) + of(4) + protocol + of(1) + of(1) + b"\xff"
    elif packet.kind == IPV6:
        found[8] = of(16) + of(16) + bytes(4) + protocol + of(1) + of(1) + b"\xff"
    else:
        found[13] = of(4) + of(4) + draw(st.sampled_from([b"\0\0", b"\0\xff"])) + of(6) + of(6) + bytes(2)
    if packet.transport:
        half = len(packet.transport) // 2
        ports = any(protocol) and packet.network[-1] == 0
        found[TRANSPORT[packet.protocol][0]] = of(half) + of(half) if ports else bytes(2 * half)
    return found


def masked(values: dict[int, bytes], bits: dict[int, bytes]) -> dict[int, bytes]:
    return {kind: bytes(a & b for a, b in zip(value, bits[kind])) for kind, value in values.items()}


def nested(packet: Packet, values: dict[int, bytes], outer: tuple[int, int] | None) -> bytes:
    """Attributes of a key or a mask, in the order of the kernel."""
    head = {19: bytes(4), 20: bytes(4), 2: bytes(4)}
    if packet.tag is None or outer is None:
        return joined({**head, **values})
    inner = joined({kind: value for kind, value in values.items() if kind != 4})
    return joined(
        {**head, 4: values[4], 6: struct.pack("!H", outer[0]), 5: struct.pack("!H", outer[1]), 1: inner}
    )


def megaflow(packet: Packet, bits: dict[int, bytes], tci: int = 0xFFFF, actions: bytes = b"") -> KernelFlow:
    """That of a packet, with these masks, from port 2."""
    tag = (packet.tag[0], packet.tag[1] & tci) if packet.tag else None
    key = attribute(3, struct.pack("=I", 2)) + nested(packet, masked(packet.attributes, bits), tag)
    mask = attribute(3, b"\xff" * 4) + nested(packet, bits, (0xFFFF, tci) if tag else None)
    return KernelFlow(key, mask, actions or output(3))


def output(port: int) -> bytes:
    return attribute(1, struct.pack("=I", port))


def datapath_matches(packet: Packet, bits: dict[int, bytes], tci: int, other: Packet) -> bool:
    if (packet.tag is None) != (other.tag is None):
        return False
    if packet.tag and other.tag and packet.tag[0] != other.tag[0]:
        return False
    if packet.tag and other.tag and (packet.tag[1] ^ other.tag[1]) & tci:
        return False
    one, two = packet.attributes, other.attributes
    if one[6] != two[6]:
        return False
    # Of a packet of another protocol the datapath has no such attribute: zeros, unless the mask wants nothing.
    both = {kind: two.get(kind, bytes(len(value))) for kind, value in one.items()}
    return masked(one, bits) == masked(both, bits)


def filter_matches(keys: t.Mapping[int, bytes], protocol: int, packet: Packet) -> bool:
    fields = packet.fields
    if fields[8] != struct.pack("!H", protocol):
        return False
    for key, value in keys.items():
        if key in MASKS.values():
            continue
        found = fields.get(key)
        bits = keys[MASKS[key]] if key in MASKS else b"\xff" * len(value)
        if found is None or any((a ^ b) & bit for a, b, bit in zip(value, found, bits)):
            return False
    return True


@given(st.data())
def test_a_filter_matches_what_its_megaflow_matches(data: st.DataObject) -> None:
    packet = data.draw(packets())
    bits = data.draw(masks(packet))
    tci = data.draw(st.sampled_from([0xFFFF, 0x1FFF, 0xF000, 0x1000]))
    found = translate(megaflow(packet, bits, tci), PORTS)
    assert isinstance(found, Filter)
    assert (found.device, found.protocol) == (6, packet.tag[0] if packet.tag else packet.kind)
    for other in (packet, data.draw(packets()), *neighbours(packet, data.draw(st.integers(0, 7)))):
        assert filter_matches(found.keys, found.protocol, other) == datapath_matches(packet, bits, tci, other)


def neighbours(packet: Packet, bit: int) -> t.Iterator[Packet]:
    """Packets that differ from ``packet`` in one thing."""
    for tag in TAGS:
        yield dataclasses.replace(packet, tag=tag)
    for place in range(12):
        yield dataclasses.replace(packet, ethernet=flipped(packet.ethernet, place, bit))
    for place in range(len(packet.transport)):
        yield dataclasses.replace(packet, transport=flipped(packet.transport, place, bit))
    fixed = {IPV4: (8, 11), IPV6: (32, 33, 34, 35, 36, 39), ARP: (8, 9, 22, 23)}[packet.kind]
    for place in {*range(len(packet.network))} - {*fixed}:
        yield dataclasses.replace(packet, network=flipped(packet.network, place, bit))
    if packet.kind != ARP and not any(packet.transport):
        for fragment in range(3):
            yield dataclasses.replace(packet, network=packet.network[:-1] + bytes([fragment]))
    if packet.kind == ARP:
        yield dataclasses.replace(packet, network=flipped(packet.network, 9, 0))


def flipped(value: bytes, place: int, bit: int) -> bytes:
    return value[:place] + bytes([value[place] ^ 1 << bit]) + value[place + 1 :]


@given(st.data())
def test_packets_that_carry_others_are_matched_by_addresses_and_tag_alone(data: st.DataObject) -> None:
    packet = data.draw(packets())
    found = translate(megaflow(packet, data.draw(masks(packet))), PORTS)
    assert isinstance(found, Filter)
    if found.outer is not None:
        inner = set(found.outer) - {4, 5, 6, 7, 8, 23, 24, 47, 48}
        assert inner == set()
        assert found.outer.get(47, bytes(4)) == bytes(4)
        assert (8 in found.outer) == (packet.tag is not None)
        assert packet.kind != ARP


@given(st.data(), st.integers(1, 40), st.binary(min_size=1, max_size=16))
def test_a_bit_of_a_mask_that_is_not_understood_is_never_translated(
    data: st.DataObject, kind: int, bits: bytes
) -> None:
    packet = data.draw(packets())
    flow = megaflow(packet, data.draw(masks(packet)))
    assume(kind not in {number for number, __ in each_attribute(flow.key)} and any(bits))
    assume(kind != 16)  # see the test of tunnels
    strange = dataclasses.replace(
        flow, key=flow.key + attribute(kind, bytes(len(bits))), mask=flow.mask + attribute(kind, bits)
    )
    assert isinstance(translate(strange, PORTS), Left)
    only_mask = dataclasses.replace(flow, mask=flow.mask + attribute(kind, bits))
    assert isinstance(translate(only_mask, PORTS), Left)


@pytest.mark.parametrize("layer", [(), (1,)])
def test_that_is_so_behind_a_vlan_tag_too(layer: tuple[int, ...]) -> None:
    values = {4: bytes(12), 6: b"\x81\0", 5: b"\x10\7", 1: joined({6: b"\x08\0", 7: bytes(12)})}
    bits = {4: bytes(12), 6: b"\xff\xff", 5: b"\xff\xff", 1: joined({6: b"\xff\xff", 7: bytes(11) + b"\xff"})}
    port = attribute(3, struct.pack("=I", 2)), attribute(3, b"\xff" * 4)
    flow = KernelFlow(port[0] + joined(values), port[1] + joined(bits), output(3))
    assert isinstance(translate(flow, PORTS), Filter)
    for kind in layer or (99,):
        values[kind] = values.get(kind, b"") + attribute(21, bytes(4))
        bits[kind] = bits.get(kind, b"") + attribute(21, b"\0\0\0\1")
    flow = KernelFlow(port[0] + joined(values), port[1] + joined(bits), output(3))
    assert isinstance(translate(flow, PORTS), Left)


def test_a_flow_label_is_not_matched() -> None:
    whole = dict(each_attribute(ROUTED6.mask))[8]
    labelled = ROUTED6.mask.replace(whole, whole[:32] + b"\0\0\0\1" + whole[36:])
    assert translate(dataclasses.replace(ROUTED6, mask=labelled), PORTS) == Left("IPv6 flow label")


@given(st.integers(2, 40), st.binary(max_size=20), st.booleans())
def test_an_action_that_is_not_understood_is_never_translated(kind: int, data: bytes, first: bool) -> None:
    assume(kind not in (3, 4, 5, 11))
    actions = [attribute(kind, data), output(3)]
    flow = dataclasses.replace(SWITCHED, actions=b"".join(actions if first else actions[::-1]))
    assert isinstance(translate(flow, PORTS), Left)


@given(st.binary(max_size=120), st.binary(max_size=120), st.binary(max_size=80))
def test_nonsense_is_never_translated(key: bytes, mask: bytes, actions: bytes) -> None:
    assert isinstance(translate(KernelFlow(key, mask, actions), PORTS), Left)
    assert isinstance(translate(dataclasses.replace(SWITCHED, mask=mask), PORTS), Left)
    assert isinstance(translate(dataclasses.replace(SWITCHED, key=key), PORTS), Left)


def done(flow: KernelFlow) -> list[tuple[bytes, bytes]]:
    """The kinds of the actions, with their parameters behind the general part."""
    found = translate(flow, PORTS)
    assert isinstance(found, Filter)
    actions = [dict(each_attribute(action)) for action in found.actions]
    options = [dict(each_attribute(action[2])) for action in actions]
    return [
        (
            action[1].rstrip(b"\0"),
            (each.get(2) or each.get(4) or each[1])[20:] + each.get(3, b"") + each.get(6, b""),
        )
        for action, each in zip(actions, options)
    ]


def sent(device: int, last: bool) -> tuple[bytes, bytes]:
    return b"mirred", struct.pack("=iI", 1 if last else 2, device)


def rewritten(*words: tuple[int, str, str]) -> tuple[bytes, bytes]:
    """Where in the header, the bits that stay, and what the others become."""
    keys = b"".join(
        bytes.fromhex(kept) + bytes.fromhex(value) + struct.pack("=IIII", offset, 0, 0, 0)
        for offset, kept, value in words
    )
    return b"pedit", bytes([len(words), 0, 0, 0]) + keys


def test_what_is_done_is_done_in_the_same_order() -> None:
    assert done(SWITCHED) == [sent(6, True)]
    assert done(TAGGED) == [
        (b"vlan", struct.pack("=iH", 2, 9) + b"\3"),
        sent(8, False),
        rewritten((0, "ff03ffff", "00200000")),
        (b"csum", struct.pack("=I", 1)),
        (b"vlan", struct.pack("=i", 1)),
        sent(7, True),
    ]
    assert done(ROUTED) == [
        rewritten((0, "00000000", "02000000"), (4, "00000000", "000202aa"), (8, "00000000", "00000001")),
        rewritten((8, "00ffffff", "3f000000")),
        (b"csum", struct.pack("=I", 1)),
        sent(7, True),
    ]
    assert done(ROUTED6)[1:] == [rewritten((4, "ffffff00", "0000003f")), sent(7, True)]


def test_copies_for_ports_that_go_away_are_left_out() -> None:
    assert done(FLOODED) == [sent(8, False), sent(7, True)]
    only = dataclasses.replace(FLOODED, actions=output(1))
    assert translate(only, PORTS) == Left("to a port that goes away with the module", between=False)
    own = dataclasses.replace(
        SWITCHED, key=SWITCHED.key.replace(attribute(3, b"\3\0\0\0"), attribute(3, b"\1\0\0\0"))
    )
    assert translate(own, PORTS) == Left("from a port that goes away with the module", between=False)


def test_what_is_changed_behind_the_last_output_is_not_done_and_a_drop_has_no_action() -> None:
    pop = attribute(4 + 1, b"")
    assert done(dataclasses.replace(SWITCHED, actions=output(2) + pop + output(1) + pop)) == [sent(6, True)]
    assert done(dataclasses.replace(SWITCHED, actions=b"")) == []


def test_more_actions_than_tc_takes_are_not_translated() -> None:
    most = dataclasses.replace(SWITCHED, actions=output(2) * tc.MOST_ACTIONS)
    assert len(done(most)) == tc.MOST_ACTIONS
    assert isinstance(translate(dataclasses.replace(most, actions=most.actions + output(2)), PORTS), Left)


@pytest.mark.parametrize(
    ("flow", "reason"),
    [
        (TWO_TAGS, "behind a VLAN tag neither IP nor ARP"),
        (GRE, "may carry other packets (IP protocol 47)"),
        (FIRST_FRAGMENT, "ports of fragments"),
        (dataclasses.replace(SWITCHED, actions=attribute(2, b"") + output(2)), "sent to ovs-vswitchd"),
        (dataclasses.replace(SWITCHED, actions=attribute(7, bytes(4))), "recirculation"),
        (dataclasses.replace(SWITCHED, actions=attribute(12, b"")), "connection tracking"),
        (dataclasses.replace(SWITCHED, actions=attribute(3, attribute(16, b"12")) + output(2)), "tunnel"),
        (dataclasses.replace(SWITCHED, actions=output(9)), "to a port that is not there"),
        (dataclasses.replace(SWITCHED, mask=b""), "no port by which packets come in"),
    ],
)
def test_the_reason_is_told(flow: KernelFlow, reason: str) -> None:
    assert translate(flow, PORTS) == Left(reason)


@pytest.mark.parametrize("field", [0, 4, 8, 11])
def test_addresses_and_protocols_are_not_rewritten(field: int) -> None:
    """Their sums in other headers would be wrong."""
    bits = bytearray(12)
    bits[field] = 1
    action = attribute(11, attribute(7, bytes(12) + bytes(bits)))
    flow = dataclasses.replace(SWITCHED, actions=action + output(2))
    assert translate(flow, PORTS) == Left("rewrites addresses, ports or marks")


def test_the_mask_of_a_tunnel_says_nothing_where_there_is_none() -> None:
    """The kernel tells it of every megaflow."""
    assert 16 in dict(each_attribute(SWITCHED.mask))
    assert isinstance(translate(SWITCHED, PORTS), Filter)
    inside = dataclasses.replace(SWITCHED, key=SWITCHED.key + attribute(16, attribute(4, b"\1")))
    assert translate(inside, PORTS) == Left("tunnel")
