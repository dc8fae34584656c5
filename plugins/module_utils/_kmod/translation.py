# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""A megaflow of the kernel to a filter of tc(8) that does the same to the same packets; pure.

A megaflow of which one attribute or one bit of a mask is not understood is not translated: its packets are dropped by the last
filter of their port, which is what happens to all packets without this.  Formats: include/uapi/linux/{openvswitch,pkt_cls}.h.
"""

from __future__ import annotations

import dataclasses
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import traffic_control as tc
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.words import Action, Key
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import (
    DEVICE,
    KernelFlow,
    Vport,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    Attributes,
    each_attribute,
)

IPV4, IPV6, ARP, VLAN, QINQ = 0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8
# IP protocols behind whose header flower looks for nothing but ports: TCP, UDP, ICMP, ICMPv6, IGMP, the fragment header of IPv6
# (it stops there), ESP, OSPF, PIM, VRRP, SCTP.  Others may carry whole packets.
ORDINARY = (6, 17, 1, 58, 2, 44, 50, 89, 103, 112, 132)
NOT_UNDERSTOOD = "not understood"

_OTHER_KEYS = {
    2: "skb_priority",
    14: "neighbour discovery fields",
    15: "skb_mark",
    16: "tunnel",
    18: "TCP flags",
    19: "dp_hash",
    20: "recirculation",
    21: "MPLS",
    22: "connection tracking",
    23: "connection tracking",
    24: "connection tracking",
    25: "connection tracking",
    26: "connection tracking",
    27: "connection tracking",
    28: "NSH",
}
_OTHER_ACTIONS = {
    2: "sent to ovs-vswitchd",
    6: "sample",
    7: "recirculation",
    8: "hash",
    9: "MPLS",
    10: "MPLS",
    12: "connection tracking",
    13: "truncate",
    14: "push_eth",
    15: "pop_eth",
    16: "connection tracking",
    17: "NSH",
    18: "NSH",
    19: "meter",
    20: "clone",
    21: "check_pkt_len",
    22: "MPLS",
    23: "dec_ttl",
    24: "drop with a reason",
    25: "sample",
}
# TCA_FLOWER_*
KEY_TYPE, _KEY_PROTOCOL, _KEY_FLAGS, _KEY_FLAGS_MASK = 8, 9, 47, 48
KEY_VLAN, _KEY_PRIORITY, _KEY_INNER_TYPE = 23, 24, 25
_FRAGMENT, _FIRST_FRAGMENT = 1, 2
# Of a tag's TCI: there is a tag, its priority, its number.
_PRESENT, _PRIORITY, _NUMBER = 0x1000, 0xE000, 0x0FFF
_ETH_HEADER, _IP4_HEADER, _IP6_HEADER = 1, 2, 3  # TCA_PEDIT_KEY_EX_HDR_TYPE_*

Keys = dict[int, bytes]


@dataclasses.dataclass(frozen=True)
class Filter:
    """What the packets that come in at ``device`` with an Ethernet type ``protocol`` and ``keys`` have done to them.

    ``outer`` are the keys of one in which nothing but Ethernet addresses and a VLAN tag counts, for packets that carry others;
    None if there is more.  ``inner`` is the type behind the tag.  No ``actions``: dropped.
    """

    device: int
    protocol: int
    inner: int
    keys: Keys
    outer: Keys | None
    actions: tuple[bytes, ...]


@dataclasses.dataclass(frozen=True)
class Left:
    """Why a megaflow is not translated; ``between`` is False for one that needs a port that goes away with the module."""

    reason: str
    between: bool = True


class _Unclear(Exception):
    """Carries a ``Left`` to where all of it is given up."""

    def __init__(self, reason: str, between: bool = True) -> None:
        super().__init__(reason)
        self.left = Left(reason, between)


def translate(flow: KernelFlow, ports: t.Mapping[int, Vport]) -> Filter | Left:
    """The filter for a megaflow, or why there is none; ``ports`` of the datapath by number."""
    try:
        return _translated(flow, ports)
    except _Unclear as unclear:
        return unclear.left
    except (HotUpgradeError, struct.error):
        return Left(NOT_UNDERSTOOD)


def _translated(flow: KernelFlow, ports: t.Mapping[int, Vport]) -> Filter:
    fields = _Fields.of(flow.key, flow.mask)
    port = _in_port(fields, ports)
    actions = _actions(flow.actions, ports)
    _require_plain(fields)
    matched = _Matched({}, True)
    _ethernet(fields, matched)
    outer_type = _ethernet_type(fields)
    inner, inner_type = fields, outer_type
    if outer_type in (VLAN, QINQ):
        inner, inner_type = _tag(fields, matched)
    elif Key.VLAN in fields.keys or Key.ENCAP in fields.keys:
        raise _Unclear("VLAN tag of another type")
    _network(inner, inner_type, matched)
    fields.require_all_used()
    inner.require_all_used()
    outer = dict(matched.keys) if matched.addresses_alone else None
    keys = {KEY_TYPE: struct.pack("!H", outer_type), **matched.keys}
    if inner_type != outer_type:
        outer = None if outer is None else dict(keys)
        keys[_KEY_INNER_TYPE] = struct.pack("!H", inner_type)
    return Filter(port.index, outer_type, inner_type, keys, outer, tuple(actions))


@dataclasses.dataclass
class _Matched:
    """The keys of flower so far, and whether they are of Ethernet addresses alone (and of no fragment)."""

    keys: Keys
    addresses_alone: bool

    def add(self, key: int, value: bytes, mask_key: int, mask: bytes) -> None:
        if any(mask):
            self.keys[key] = value
            self.keys[mask_key] = mask

    def add_further(self, key: int, value: bytes, mask_key: int, mask: bytes) -> None:
        self.add(key, value, mask_key, mask)
        if any(mask):
            self.addresses_alone = False


@dataclasses.dataclass
class _Fields:
    """The attributes of one layer of a match; those that were looked at are ``used``."""

    keys: Attributes
    masks: Attributes
    used: set[int]

    @classmethod
    def of(cls, key: bytes, mask: bytes) -> _Fields:
        keys, masks = list(each_attribute(key)), list(each_attribute(mask))
        found = cls(dict(keys), dict(masks), set())
        if len(found.keys) < len(keys) or len(found.masks) < len(masks):
            raise _Unclear(NOT_UNDERSTOOD)
        return found

    def take(self, kind: int, size: int) -> tuple[bytes, bytes]:
        """Value (where the mask has ones) and mask of an attribute; zeros if it is not there."""
        self.used.add(kind)
        if kind not in self.keys:
            if any(self.masks.get(kind, b"")):
                raise _Unclear(NOT_UNDERSTOOD)
            return bytes(size), bytes(size)
        value, mask = self.keys[kind], self.masks.get(kind, bytes(size))
        if len(value) != size or len(mask) != size:
            raise _Unclear(NOT_UNDERSTOOD)
        return bytes(one & bit for one, bit in zip(value, mask)), mask

    def require_all_used(self) -> None:
        """Whatever else the megaflow has must be without a bit in its mask."""
        for kind in {*self.keys, *self.masks} - self.used:
            if any(self.masks.get(kind, b"")):
                raise _Unclear(_OTHER_KEYS.get(kind, NOT_UNDERSTOOD))


def _in_port(fields: _Fields, ports: t.Mapping[int, Vport]) -> Vport:
    value, mask = fields.take(Key.IN_PORT, 4)
    port = ports.get(struct.unpack("=I", value)[0])
    if mask != b"\xff" * 4 or port is None:
        raise _Unclear("no port by which packets come in")
    if port.kind != DEVICE:
        raise _Unclear("from a port that goes away with the module", between=False)
    return port


def _require_plain(fields: _Fields) -> None:
    """Packets as they come in at a device: no tunnel, not recirculated."""
    value, __ = fields.take(Key.RECIRCULATION, 4)
    if any(value):
        raise _Unclear("recirculation")
    if Key.TUNNEL in fields.keys:
        raise _Unclear("tunnel")
    # The kernel tells the mask of a tunnel for all megaflows; a packet from a device has no tunnel's key.
    fields.used.add(Key.TUNNEL)


def _ethernet(fields: _Fields, matched: _Matched) -> None:
    if Key.ETHERNET not in fields.keys:
        raise _Unclear("no Ethernet frame")
    value, mask = fields.take(Key.ETHERNET, 12)
    matched.add(6, value[:6], 7, mask[:6])
    matched.add(4, value[6:], 5, mask[6:])


def _ethernet_type(fields: _Fields) -> int:
    if Key.TYPE not in fields.keys:
        raise _Unclear("frame without an Ethernet type")
    value, mask = fields.take(Key.TYPE, 2)
    if mask != b"\xff\xff":
        raise _Unclear("any Ethernet type")
    return int(struct.unpack("!H", value)[0])


def _tag(fields: _Fields, matched: _Matched) -> tuple[_Fields, int]:
    """The tag's keys, and what is behind it."""
    value, mask = (struct.unpack("!H", each)[0] for each in fields.take(Key.VLAN, 2))
    number, priority = mask & _NUMBER, mask & _PRIORITY
    if not value & _PRESENT or number not in (0, _NUMBER) or priority not in (0, _PRIORITY):
        raise _Unclear("part of a VLAN tag")
    if number:
        matched.keys[KEY_VLAN] = struct.pack("=H", value & _NUMBER)
    if priority:
        matched.keys[_KEY_PRIORITY] = struct.pack("=B", (value & _PRIORITY) >> 13)
    fields.used.add(Key.ENCAP)
    inner = _Fields.of(fields.keys.get(Key.ENCAP, b""), fields.masks.get(Key.ENCAP, b""))
    inner_type = _ethernet_type(inner)
    if inner_type not in (IPV4, IPV6, ARP):
        raise _Unclear("behind a VLAN tag neither IP nor ARP")
    return inner, inner_type


def _network(fields: _Fields, kind: int, matched: _Matched) -> None:
    if kind == IPV4:
        _ipv4(fields, matched)
    elif kind == IPV6:
        _ipv6(fields, matched)
    elif kind == ARP:
        _arp(fields, matched)
    elif kind in (VLAN, QINQ):
        raise _Unclear("more than one VLAN tag")


def _ipv4(fields: _Fields, matched: _Matched) -> None:
    value, mask = fields.take(Key.IPV4, 12)
    matched.add_further(10, value[:4], 11, mask[:4])
    matched.add_further(12, value[4:8], 13, mask[4:8])
    matched.add_further(73, value[9:10], 74, mask[9:10])
    matched.add_further(75, value[10:11], 76, mask[10:11])
    whole = _fragment(value[11], mask[11], matched)
    _transport(fields, value[8], mask[8], whole, matched)


def _ipv6(fields: _Fields, matched: _Matched) -> None:
    value, mask = fields.take(Key.IPV6, 40)
    if any(mask[32:36]):
        raise _Unclear("IPv6 flow label")
    matched.add_further(14, value[:16], 15, mask[:16])
    matched.add_further(16, value[16:32], 17, mask[16:32])
    matched.add_further(73, value[37:38], 74, mask[37:38])
    matched.add_further(75, value[38:39], 76, mask[38:39])
    whole = _fragment(value[39], mask[39], matched)
    _transport(fields, value[36], mask[36], whole, matched)


def _fragment(value: int, mask: int, matched: _Matched) -> bool:
    """Whether packets of this megaflow are whole ones."""
    if mask == 0:
        matched.addresses_alone = False  # flower sees the fragment in a packet's packet
        return False
    if mask != 0xFF or value > 2:
        raise _Unclear("some fragments")
    bits = (0, _FRAGMENT | _FIRST_FRAGMENT, _FRAGMENT)[value]
    matched.keys[_KEY_FLAGS] = struct.pack("!I", bits)
    matched.keys[_KEY_FLAGS_MASK] = struct.pack("!I", _FRAGMENT | (_FIRST_FRAGMENT if value else 0))
    if value:
        matched.addresses_alone = False
    return value == 0


# By IP protocol: the attribute with its ports, or its type and code, and the keys of flower for both and for their masks.
_PORTS = {
    6: (Key.TCP, (18, 35), (19, 36)),
    17: (Key.UDP, (20, 37), (21, 38)),
    132: (Key.SCTP, (41, 39), (42, 40)),
}
_TYPES = {1: (Key.ICMP, (51, 52), (49, 50)), 58: (Key.ICMPV6, (55, 56), (53, 54))}


def _transport(fields: _Fields, protocol: int, mask: int, whole: bool, matched: _Matched) -> None:
    if mask == 0:
        return
    if mask != 0xFF:
        raise _Unclear("part of an IP protocol")
    if protocol not in ORDINARY:
        raise _Unclear(f"may carry other packets (IP protocol {protocol})")
    matched.keys[_KEY_PROTOCOL] = struct.pack("=B", protocol)
    matched.addresses_alone = False
    table, size = (_PORTS, 4) if protocol in _PORTS else (_TYPES, 2)
    if protocol not in table:
        return
    kind, first, second = table[protocol]
    value, bits = fields.take(kind, size)
    if any(bits) and not whole:
        raise _Unclear("ports of fragments")
    half = size // 2
    matched.add(first[0], value[:half], first[1], bits[:half])
    matched.add(second[0], value[half:], second[1], bits[half:])


def _arp(fields: _Fields, matched: _Matched) -> None:
    matched.addresses_alone = False  # it carries nothing
    value, mask = fields.take(Key.ARP, 24)
    if any(value[22:]) or any(mask[22:]):
        raise _Unclear(NOT_UNDERSTOOD)
    if mask[8:10] not in (b"\0\0", b"\0\xff", b"\xff\xff") or value[8]:
        raise _Unclear("part of an ARP operation")
    matched.add(57, value[:4], 58, mask[:4])
    matched.add(59, value[4:8], 60, mask[4:8])
    matched.add(61, value[9:10], 62, mask[9:10])
    matched.add(63, value[10:16], 64, mask[10:16])
    matched.add(65, value[16:22], 66, mask[16:22])


def _actions(data: bytes, ports: t.Mapping[int, Vport]) -> list[bytes]:
    """The actions of tc; copies for ports that go away with the module are left out."""
    steps: list[bytes | Vport] = []
    for kind, value in each_attribute(data):
        if kind == Action.OUTPUT:
            port = ports.get(struct.unpack("=I", value)[0])
            if port is None:
                raise _Unclear("to a port that is not there")
            steps.append(port)
        else:
            steps += _change(kind, value)
    outputs = [step for step in steps if isinstance(step, Vport)]
    going = [step.index for step in outputs if step.kind == DEVICE]
    if outputs and not going:
        raise _Unclear("to a port that goes away with the module", between=False)
    found: list[bytes] = []
    for step in steps:
        if not going:
            break  # what is changed behind the last output changes nothing
        if isinstance(step, bytes):
            found.append(step)
        elif step.kind == DEVICE:
            going.pop()
            found.append(tc.send(step.index, last=not going))
    if len(found) > tc.MOST_ACTIONS:
        raise _Unclear(f"more than {tc.MOST_ACTIONS} actions")
    return found


def _change(kind: int, value: bytes) -> list[bytes]:
    if kind == Action.POP_VLAN:
        return [tc.pop_vlan()]
    if kind == Action.PUSH_VLAN:
        protocol, tci = struct.unpack("!HH", value)
        return [tc.push_vlan(protocol, tci & _NUMBER, (tci & _PRIORITY) >> 13)]
    if kind in (Action.SET, Action.SET_MASKED):
        ((field, data),) = list(each_attribute(value)) or [(0, b"")]
        half = len(data) // 2 if kind == Action.SET_MASKED else len(data)
        mask = data[half:] if kind == Action.SET_MASKED else b"\xff" * half
        return _set(field, data[:half], mask)
    raise _Unclear(_OTHER_ACTIONS.get(kind, NOT_UNDERSTOOD))


def _set(field: int, value: bytes, mask: bytes) -> list[bytes]:
    if len(value) != len(mask) or not any(mask):
        raise _Unclear(NOT_UNDERSTOOD)
    if field == Key.ETHERNET and len(value) == 12:
        # The datapath has the source first, a frame the destination.
        return [tc.rewrite(_ETH_HEADER, 0, value[6:] + value[:6], mask[6:] + mask[:6])]
    if field == Key.IPV4 and len(value) == 12 and not any(mask[:9]) and not mask[11]:
        changes = [(1, 9), (8, 10)]  # TOS and TTL: where they are in the header, and in the attribute
        found = [
            tc.rewrite(_IP4_HEADER, where, value[at : at + 1], mask[at : at + 1])
            for where, at in changes
            if mask[at]
        ]
        return [*found, tc.checksum_ipv4()]
    if field == Key.IPV6 and len(value) == 40 and not any(mask[:38]) and not mask[39]:
        return [tc.rewrite(_IP6_HEADER, 7, value[38:39], mask[38:39])]
    if field == Key.TUNNEL:
        raise _Unclear("tunnel")
    raise _Unclear("rewrites addresses, ports or marks")
