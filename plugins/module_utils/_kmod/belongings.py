# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What names a network device by its ifindex and goes with it: addresses, routes, neighbours, queueing disciplines.

Formats: include/uapi/linux/{rtnetlink,if_addr,neighbour,pkt_sched}.h.
"""

from __future__ import annotations

import dataclasses
import socket
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import (
    APPEND,
    REPLACE,
    Request,
    Stage,
    Told,
    dumped,
    numbered,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    CREATE,
    EXCLUSIVE,
    Netlink,
    attribute,
    message,
)

_NEWADDR, _GETADDR, _NEWROUTE, _GETROUTE, _NEWNEIGH, _GETNEIGH = 20, 22, 24, 26, 28, 30
_NEWQDISC, _GETQDISC, _NEWTCLASS, _GETTCLASS, _NEWTFILTER, _GETTFILTER = 36, 38, 40, 42, 44, 46

_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, length, flags, scope, ifindex
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg; the last are protocol, scope, type and flags
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # struct ndmsg: family, ifindex, state, flags, type
_TRAFFIC = struct.Struct("=BxxxiIII")  # struct tcmsg: family, ifindex, handle, parent, info

_IFA_ADDRESS, _IFA_LOCAL, _IFA_LIFETIMES, _IFA_FLAGS = 1, 2, 6, 8
_TEMPORARY, _NO_DUPLICATE_CHECK, _PASSING = 0x01, 0x02, 0x01 | 0x08 | 0x20 | 0x40 | 0x80

_RTA_DESTINATION, _RTA_DEVICE, _RTA_GATEWAY, _RTA_SOURCE, _RTA_HOPS, _RTA_CACHE = 1, 4, 5, 7, 9, 12
_RTA_TABLE, _RTA_VIA, _RTA_PREFERENCE, _RTA_EXPIRES = 15, 18, 20, 23
_OF_THE_KERNEL, _ON_LINK, _CLONED = 2, 4, 0x200
_HZ = 100  # USER_HZ, on every machine but Alpha

_NDA_KEPT = (
    1,
    2,
    5,
    6,
    7,
    8,
    12,
    15,
)  # destination, address, VLAN, port, VNI, interface, protocol, more flags
_PERMANENT, _STATIC, _REACHABLE, _STALE, _DELAY, _PROBE = 0x80, 0x40, 0x02, 0x04, 0x08, 0x10
_KNOWN = _PERMANENT | _REACHABLE | _STALE | _DELAY | _PROBE
_SELF, _PROXY = 0x02, 0x08

_TCA_KIND, _TCA_OPTIONS, _TCA_STAB, _TCA_CHAIN = 1, 2, 8, 11
# What a dump tells and a request must not: whether a device has the filter, and the version of htb in other units.
_FLAGS = {"flower": 22, "u32": 11, "matchall": 3, "bpf": 9}
_FLAGS_TO_SET = 0x1 | 0x2 | 0x10  # skip_hw, skip_sw, verbose
_HTB_INIT, _HTB_VERSION_SHIFT = 2, 16
# The handle of a hash table that u32 makes by itself, with its first filter (gen_new_htid in net/sched/cls_u32.c).
_U32_OWN_TABLE, _U32_OWN = 0x800FFFFF, 0x80000000
_ROOT, _INGRESS, _INGRESS_FILTERS, _EGRESS_FILTERS = 0xFFFFFFFF, 0xFFFFFFF1, 0xFFFFFFF2, 0xFFFFFFF3


@dataclasses.dataclass(frozen=True)
class Dumps:
    """What one namespace tells of all of its devices."""

    addresses: t.Sequence[bytes]
    routes: t.Sequence[bytes]
    neighbours: t.Sequence[bytes]
    qdiscs: t.Sequence[bytes]


def dump(route: Netlink) -> Dumps:
    """Ask the namespace of the socket ``route``."""
    everybody, proxies = _NEIGHBOUR.pack(0, 0, 0, 0, 0), _NEIGHBOUR.pack(0, 0, 0, _PROXY, 0)
    bridged = _NEIGHBOUR.pack(socket.AF_BRIDGE, 0, 0, 0, 0)
    return Dumps(
        dumped(route, _GETADDR, bytes(_ADDRESS.size), "addresses"),
        dumped(route, _GETROUTE, bytes(_ROUTE.size), "routes"),
        [
            body
            for header in (everybody, proxies, bridged)
            for body in dumped(route, _GETNEIGH, header, "neighbours")
        ],
        dumped(route, _GETQDISC, bytes(_TRAFFIC.size), "queueing disciplines"),
    )


def addresses(bodies: t.Iterable[bytes], gone: t.Container[int]) -> t.Iterator[Request]:
    """The addresses of the devices ``gone``. Those of IPv6 serve at once, without asking whether somebody else has them.

    The kernel makes temporary ones by itself.
    """
    for body in bodies:
        family, length, flags, scope, index = _ADDRESS.unpack_from(body)
        if index not in gone:
            continue
        told = Told(body, _ADDRESS.size)
        what = f"the address {shown(family, own_address(body))}/{length}"
        every = told.number(_IFA_FLAGS) or flags
        fixed = _ADDRESS.pack(family, length, 0, scope, index) + numbered(
            _IFA_FLAGS, every & ~_PASSING & 0xFFFFFFFF
        )
        same = fixed + told.without(_IFA_LIFETIMES, _IFA_FLAGS)
        if family != socket.AF_INET6:
            yield Request(Stage.ADDRESS, index, what, message(_NEWADDR, body, CREATE | REPLACE), same)
        elif not every & _TEMPORARY:
            header = _ADDRESS.pack(family, length, flags | _NO_DUPLICATE_CHECK, scope, index)
            at_once = header + told.without(_IFA_FLAGS) + numbered(_IFA_FLAGS, every | _NO_DUPLICATE_CHECK)
            yield Request(Stage.ADDRESS, index, what, message(_NEWADDR, at_once, CREATE | REPLACE), same)
            if not every & _NO_DUPLICATE_CHECK:
                yield Request(Stage.SETTLE, index, what, message(_NEWADDR, body, REPLACE), None)


def own_address(body: bytes) -> bytes:
    """The address of a dump."""
    told = Told(body, _ADDRESS.size)
    return told.value(_IFA_LOCAL) or told.value(_IFA_ADDRESS)


def device_of_address(body: bytes) -> int:
    """The ifindex of a dumped address."""
    return int(_ADDRESS.unpack_from(body)[-1])


def routes(bodies: t.Iterable[bytes], gone: t.Container[int], own: t.Container[bytes]) -> t.Iterator[Request]:
    """The routes that leave by the devices ``gone``, or from one of their ``own`` addresses; not those that the kernel makes.

    One of several ways replaces what is left of it; any other is added to what has the same destination.
    """
    for body in bodies:
        family, length, __, __, __, protocol, __, __, flags = _ROUTE.unpack_from(body)
        told = Told(body, _ROUTE.size)
        if family not in (socket.AF_INET, socket.AF_INET6) or protocol == _OF_THE_KERNEL or flags & _CLONED:
            continue
        by = _devices(told)
        device = next((index for index in by if index in gone), 0)
        if not device and told.value(_RTA_SOURCE, b"none") not in own:
            continue
        several = _RTA_HOPS in told
        kept = body[: _ROUTE.size - 4] + struct.pack("=I", flags & _ON_LINK) + told.without(_RTA_CACHE)
        destination = shown(family, told.value(_RTA_DESTINATION)) or "default"
        what = f"the route to {destination}/{length} of table {told.number(_RTA_TABLE) or 0}"
        later = several or _RTA_GATEWAY in told or _RTA_VIA in told
        data = message(_NEWROUTE, kept + _expiry(told), CREATE | (REPLACE if several else APPEND))
        yield Request(Stage.GATEWAY if later else Stage.ROUTE, device, what, data, None if several else kept)


def _devices(told: Told) -> list[int]:
    device = told.number(_RTA_DEVICE)
    if device is not None:
        return [device]
    hops, offset, found = told.value(_RTA_HOPS), 0, []
    while offset + 8 <= len(hops):  # struct rtnexthop
        size, __, __, index = struct.unpack_from("=HBBi", hops, offset)
        found.append(index)
        offset += max(8, size + -size % 4)
    return found


def _expiry(told: Told) -> bytes:
    """A route's remaining lifetime is told in clock ticks and taken in seconds."""
    cache = told.value(_RTA_CACHE)
    ticks = struct.unpack_from("=i", cache, 8)[0] if len(cache) >= 12 else 0
    return numbered(_RTA_EXPIRES, max(1, ticks // _HZ)) if ticks > 0 else b""


def neighbours(bodies: t.Iterable[bytes], gone: t.Container[int]) -> t.Iterator[Request]:
    """The neighbours and FDB entries of the devices ``gone``: permanent ones, and those that are known now."""
    for body in bodies:
        family, index, state, flags, kind = _NEIGHBOUR.unpack_from(body)
        told = Told(body, _NEIGHBOUR.size)
        if index not in gone or not _worth(family, state, flags, told):
            continue
        if state & (_DELAY | _PROBE):
            state = _STALE
        kept = _NEIGHBOUR.pack(family, index, state, flags, kind) + told.only(*_NDA_KEPT)
        bridged = family == socket.AF_BRIDGE
        what = f"the neighbour {told.value(2).hex(':') if bridged else shown(family, told.value(1))}"
        lasting = state & _PERMANENT or flags & _PROXY
        data = message(_NEWNEIGH, kept, CREATE | REPLACE)
        yield Request(Stage.NEIGHBOUR, index, what, data, kept if lasting else None)


def _worth(family: int, state: int, flags: int, told: Told) -> bool:
    """Whether somebody has set or learned it. A device gets the multicast addresses that it listens to by itself."""
    if family == socket.AF_BRIDGE:
        own_group = flags & _SELF and told.value(2, b"\1")[0] & 1
        return bool(state & (_PERMANENT | _STATIC)) and not own_group
    return bool(state & _KNOWN or flags & _PROXY)


def shaping(route: Netlink, qdiscs: t.Iterable[bytes], gone: t.Container[int]) -> t.Iterator[Request]:
    """The queueing disciplines that somebody has set on the devices ``gone``, with their classes and filters.

    Only those that were set have a handle.
    """
    shaped: dict[int, list[bytes]] = {}
    for body in qdiscs:
        __, index, handle, __, __ = _TRAFFIC.unpack_from(body)
        if index in gone and handle:
            shaped.setdefault(index, []).append(body)
    for index, bodies in shaped.items():
        classes = dumped(route, _GETTCLASS, _TRAFFIC.pack(0, index, 0, 0, 0), "classes")
        yield from _tree(bodies, classes)
        for parent in _filtered(bodies):
            header = _TRAFFIC.pack(0, index, 0, parent, 0)
            for body in dumped(route, _GETTFILTER, header, "filters"):
                if not _comes_by_itself(body):
                    yield _traffic(Stage.FILTER, _NEWTFILTER, body)


def _tree(qdiscs: t.Sequence[bytes], classes: t.Sequence[bytes]) -> t.Iterator[Request]:
    """From the root on: a class needs its parent, and a discipline its class, so all are of the stage of classes."""
    left = [(_NEWQDISC, body) for body in qdiscs] + [(_NEWTCLASS, body) for body in classes]
    there = {_ROOT, _INGRESS}
    while left:
        ready = [each for each in left if _parent(*each) in there] or left
        for kind, body in ready:
            yield _traffic(Stage.CLASS, kind, body)
            there.add(_TRAFFIC.unpack_from(body)[2])
        done = set(ready)
        left = [each for each in left if each not in done]


def _parent(kind: int, body: bytes) -> int:
    """Of a class that is told to be at the root: its discipline, whose number its own begins with."""
    __, __, handle, parent, __ = _TRAFFIC.unpack_from(body)
    return int(handle & 0xFFFF0000 if kind == _NEWTCLASS and parent == _ROOT else parent)


def _filtered(qdiscs: t.Iterable[bytes]) -> t.Iterator[int]:
    for body in qdiscs:
        __, __, handle, parent, __ = _TRAFFIC.unpack_from(body)
        yield from [_INGRESS_FILTERS, _EGRESS_FILTERS] if parent == _INGRESS else [handle]


def _traffic(stage: Stage, kind: int, body: bytes) -> Request:
    __, index, handle, parent, __ = _TRAFFIC.unpack_from(body)
    told = Told(body, _TRAFFIC.size)
    kept = body[: _TRAFFIC.size] + told.only(_TCA_KIND, _TCA_CHAIN, _TCA_STAB) + _settable(kind, told)
    what = f"the {told.text(_TCA_KIND)} {_handle(handle)} at {_handle(parent)}"
    return Request(stage, index, what, message(kind, kept, CREATE | EXCLUSIVE), told.only(_TCA_KIND))


def _comes_by_itself(body: bytes) -> bool:
    """The announcement of a priority, which has no handle, and the first hash table of u32."""
    handle = _TRAFFIC.unpack_from(body)[2]
    u32 = Told(body, _TRAFFIC.size).text(_TCA_KIND) == "u32"
    return not handle or (u32 and handle & _U32_OWN_TABLE == _U32_OWN)


def _settable(kind: int, told: Told) -> bytes:
    """The options as a request takes them: some are told differently (htb_dump in net/sched/sch_htb.c, tc_flags_valid)."""
    name = told.text(_TCA_KIND)
    if kind == _NEWQDISC and name == "htb":
        return _changed(told, _HTB_INIT, lambda version: version >> _HTB_VERSION_SHIFT)
    if kind == _NEWTFILTER and name in _FLAGS:
        return _changed(told, _FLAGS[name], lambda flags: flags & _FLAGS_TO_SET)
    return told.only(_TCA_OPTIONS)


def _changed(told: Told, number: int, change: t.Callable[[int], int]) -> bytes:
    """The options with another number at the begin of one of them."""
    options = told.inside(_TCA_OPTIONS)
    if number not in options:
        return told.only(_TCA_OPTIONS)
    value = options.value(number)
    (first,) = struct.unpack_from("=I", value)
    changed = attribute(number, struct.pack("=I", change(first)) + value[4:])
    return attribute(_TCA_OPTIONS, options.without(number) + changed)


def _handle(number: int) -> str:
    return f"{number >> 16:x}:{number & 0xFFFF:x}"


def shown(family: int, value: bytes) -> str:
    """An address for people."""
    return socket.inet_ntop(family, value) if len(value) in (4, 16) else value.hex(":")
