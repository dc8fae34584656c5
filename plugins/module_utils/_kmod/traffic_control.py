# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Filters and actions of tc(8) at the ingress of a device, as rtnetlink messages; pure.

Formats: include/uapi/linux/{rtnetlink,pkt_sched,pkt_cls}.h and tc_act/*.h.
"""

from __future__ import annotations

import dataclasses
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    CREATE,
    EXCLUSIVE,
    NESTED,
    attribute,
    attributes,
    joined,
    message,
)

NEW_QDISC, DELETE_QDISC, GET_QDISC = 36, 37, 38
NEW_FILTER, DELETE_FILTER, GET_FILTER = 44, 45, 46
NEW_LINK = 16
PROMISCUOUS = 0x100
ALL_PROTOCOLS = 0x0003
MOST_ACTIONS = 32  # TCA_ACT_MAX_PRIO

TCMSG = struct.Struct("=BxxxiIII")
IFINFO = struct.Struct("=BxHiII")
INGRESS = 0xFFFFFFF1  # the parent of the qdiscs clsact and ingress
_FILTERS_OF_INGRESS, _FILTERS_OF_EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
_CLSACT = 0xFFFF0000
KIND, _OPTIONS, _CHAIN = 1, 2, 11
_ACTION_KIND, _ACTION_OPTIONS, _ACTION_COOKIE = 1, 2, 6
_GENERIC = struct.Struct("=IIiii")  # tc_gen; the first is the number of the action
_NUMBER = 8  # where an action has it: after two headers of attributes
_OK, _PIPE, _SHOT, _STOLEN, _GOTO_CHAIN = 0, 3, 2, 4, 0x20000000
_FLOWER_ACTIONS, _FLOWER_FLAGS = 3, 22
_BPF_ACTIONS, _BPF_CLASS, _BPF_LENGTH, _BPF_PROGRAM, _BPF_GENERIC_FLAGS = 1, 3, 4, 5, 9
_IN_SOFTWARE = struct.pack("=I", 1)  # TCA_CLS_FLAGS_SKIP_HW
_REDIRECT, _MIRROR = 1, 2
_POP, _PUSH = 1, 2
_IPV4_HEADER = 1


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a filter is: the device, its chain, its order in it, and the protocol (Ethernet type) that it looks at."""

    device: int
    chain: int
    order: int
    protocol: int


def _filter(kind: int, place: Place, rest: bytes = b"", flags: int = 0) -> bytes:
    # The protocol is in network byte order, whatever this machine has.
    (protocol,) = struct.unpack("=H", struct.pack("!H", place.protocol))
    head = TCMSG.pack(0, place.device, 0, _FILTERS_OF_INGRESS, place.order << 16 | protocol)
    return message(kind, head + attribute(_CHAIN, struct.pack("=I", place.chain)) + rest, flags)


def add_clsact(device: int) -> bytes:
    """A clsact qdisc, which must not be there yet."""
    head = TCMSG.pack(0, device, _CLSACT, INGRESS, 0)
    return message(NEW_QDISC, head + attribute(KIND, b"clsact\0"), CREATE | EXCLUSIVE)


def delete_clsact(device: int) -> bytes:
    """The clsact qdisc away, with all that is in it."""
    return message(DELETE_QDISC, TCMSG.pack(0, device, _CLSACT, INGRESS, 0))


def flower(
    place: Place, keys: t.Mapping[int, bytes], actions: t.Sequence[bytes], numbers: t.Iterator[int]
) -> bytes:
    """A filter by header fields (TCA_FLOWER_KEY_*), in software whatever the device could do.

    ``numbers`` are those that its actions get (TC_ACT index): one that is in use would be shared, whatever it does.
    """
    listed = _listed(actions, numbers)
    options = joined({**keys, _FLOWER_FLAGS: _IN_SOFTWARE, _FLOWER_ACTIONS | NESTED: listed})
    rest = attribute(KIND, b"flower\0") + attribute(_OPTIONS | NESTED, options)
    return _filter(NEW_FILTER, place, rest, CREATE | EXCLUSIVE)


def program(
    place: Place,
    instructions: t.Sequence[tuple[int, int, int, int]],
    action: bytes,
    numbers: t.Iterator[int],
) -> bytes:
    """A filter by a program of classic BPF; it matches what the program returns 0xffffffff for."""
    options = {
        _BPF_LENGTH: struct.pack("=H", len(instructions)),
        _BPF_PROGRAM: b"".join(struct.pack("=HBBI", *each) for each in instructions),
        _BPF_CLASS: struct.pack("=I", 1),
        _BPF_GENERIC_FLAGS: _IN_SOFTWARE,
        _BPF_ACTIONS | NESTED: _listed([action], numbers),
    }
    rest = attribute(KIND, b"bpf\0") + attribute(_OPTIONS | NESTED, joined(options))
    return _filter(NEW_FILTER, place, rest, CREATE | EXCLUSIVE)


def delete_filters(place: Place) -> bytes:
    """All filters of one order in a chain away."""
    return _filter(DELETE_FILTER, place)


def flush_chain(device: int, chain: int) -> bytes:
    """All filters of a chain away."""
    return _filter(DELETE_FILTER, Place(device, chain, 0, 0))


def filters(device: int, order: int = 0) -> bytes:
    """Ask for all filters at the ingress of a device, or for those of one order."""
    return message(GET_FILTER, TCMSG.pack(0, device, 0, _FILTERS_OF_INGRESS, order << 16))


def filters_of_egress(device: int) -> bytes:
    """Ask for all filters at the egress of a device, which a clsact has, too."""
    return message(GET_FILTER, TCMSG.pack(0, device, 0, _FILTERS_OF_EGRESS, 0))


def cookie_of_program(body: bytes) -> bytes:
    """The cookie of the first action of a filter that ``program`` has made; empty if it has none."""
    options = attributes(body, TCMSG.size).get(_OPTIONS, b"")
    for listed in attributes(attributes(options).get(_BPF_ACTIONS, b"")).values():
        return attributes(listed).get(_ACTION_COOKIE, b"")
    return b""


def promiscuous(device: int, on: bool) -> bytes:
    """Have a device take frames for any address, or not any more."""
    return message(NEW_LINK, IFINFO.pack(0, 0, device, PROMISCUOUS if on else 0, PROMISCUOUS))


def _listed(actions: t.Sequence[bytes], numbers: t.Iterator[int]) -> bytes:
    return b"".join(
        attribute(place | NESTED, each[:_NUMBER] + struct.pack("=I", next(numbers)) + each[_NUMBER + 4 :])
        for place, each in enumerate(actions, 1)
    )


def _action(kind: bytes, options: t.Mapping[int, bytes], cookie: bytes = b"") -> bytes:
    """Without its number: the options come first, and tc_gen first in them (``_NUMBER``)."""
    whole = attribute(_ACTION_OPTIONS | NESTED, joined(options)) + attribute(_ACTION_KIND, kind + b"\0")
    return whole + (attribute(_ACTION_COOKIE, cookie) if cookie else b"")


def _verdict(verdict: int) -> bytes:
    return _GENERIC.pack(0, 0, verdict, 0, 0)


def drop() -> bytes:
    """The packet ends here."""
    return _action(b"gact", {2: _verdict(_SHOT)})


def accept() -> bytes:
    """The packet goes on to whoever takes it after tc."""
    return _action(b"gact", {2: _verdict(_OK)})


def go_to(chain: int, cookie: bytes) -> bytes:
    """Another chain decides; nothing does if none of its filters matches."""
    return _action(b"gact", {2: _verdict(_GOTO_CHAIN | chain)}, cookie)


def send(device: int, last: bool) -> bytes:
    """The packet, or a copy of it if it is not the ``last`` one, leaves at a device."""
    verdict, what = (_STOLEN, _REDIRECT) if last else (_PIPE, _MIRROR)
    return _action(b"mirred", {2: _verdict(verdict) + struct.pack("=iI", what, device)})


def pop_vlan() -> bytes:
    """The outermost VLAN tag away."""
    return _action(b"vlan", {2: _verdict(_PIPE) + struct.pack("=i", _POP)})


def push_vlan(protocol: int, number: int, priority: int) -> bytes:
    """A VLAN tag on top."""
    return _action(
        b"vlan",
        {
            2: _verdict(_PIPE) + struct.pack("=i", _PUSH),
            3: struct.pack("=H", number),
            4: struct.pack("!H", protocol),
            6: struct.pack("=B", priority),
        },
    )


def rewrite(header: int, offset: int, value: bytes, mask: bytes) -> bytes:
    """Bytes of a header (TCA_PEDIT_KEY_EX_HDR_TYPE_*) from ``offset`` on, where ``mask`` has ones."""
    ahead = offset % 4
    behind = -(ahead + len(value)) % 4
    value, mask = (bytes(ahead) + each + bytes(behind) for each in (value, mask))
    keys, kinds = b"", b""
    for start in range(0, len(value), 4):
        bits = mask[start : start + 4]
        if bits == bytes(4):
            continue
        kept = bytes(255 - bit for bit in bits)
        wanted = bytes(one & bit for one, bit in zip(value[start:], bits))
        keys += kept + wanted + struct.pack("=IIII", offset - ahead + start, 0, 0, 0)
        kinds += attribute(6 | NESTED, joined({1: struct.pack("=H", header), 2: struct.pack("=H", 0)}))
    selector = _verdict(_PIPE) + struct.pack("=BBxx", len(keys) // 24, 0) + keys
    return _action(b"pedit", {4: selector, 5 | NESTED: kinds})


def checksum_ipv4() -> bytes:
    """The checksum of the IPv4 header anew."""
    return _action(b"csum", {1: _verdict(_PIPE) + struct.pack("=I", _IPV4_HEADER)})
