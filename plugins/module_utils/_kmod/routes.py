# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Routes of every family, and nexthops that have a number (ip-nexthop(8)).

Formats: include/uapi/linux/{rtnetlink,nexthop}.h.
"""

from __future__ import annotations

import dataclasses
import socket
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.dumps import (
    ADDRESS,
    NEXTHOP,
    ROUTE,
    Dumps,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.links import Link
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import (
    APPEND,
    DELROUTE,
    NEWNEXTHOP,
    NEWROUTE,
    REPLACE,
    Request,
    Stage,
    Told,
    numbered,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    CREATE,
    NESTED,
    attribute,
    message,
)

INET, INET6, MPLS = socket.AF_INET, socket.AF_INET6, 28
DESTINATION, DEVICE, GATEWAY, PRIORITY, SOURCE, HOPS, CACHE, TABLE = 1, 4, 5, 6, 7, 9, 12, 15
VIA, NEXTHOP_ID = 18, 30
_EXPIRES, _ENCAP_TYPE, _ENCAP = 23, 21, 22
_BY_NEXTHOP = (DEVICE, GATEWAY, VIA, HOPS, _ENCAP_TYPE, _ENCAP)
OF_THE_KERNEL, OF_A_ROUTER, UNICAST, CLONED = 2, 9, 1, 0x200
_MAIN, _ANY_SCOPE = 254, 255  # RT_TABLE_MAIN, RT_SCOPE_NOWHERE
ON_LINK = 4
_HZ = 100  # USER_HZ, on every machine but Alpha

NH_ID, NH_GROUP, NH_GROUP_TYPE, NH_DEVICE, NH_RESILIENT = 1, 2, 3, 5, 12
_NH_KEPT = (NH_ID, NH_DEVICE, 6, 7, 8)  # … gateway, type of the encapsulation, encapsulation
_NH_BUCKETS = (1, 2, 3)  # their number and timers; what is told besides is how long it is out of balance
_HOP = struct.Struct("=HBBi")
_GROUP_MEMBER = struct.Struct("=IBBH")  # struct nexthop_grp: number, weight

_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _IFA_PRIORITY = 1, 2, 8, 9
_SECONDARY, _NO_ROUTE = 0x01, 0x200  # IFA_F_*
_METRICS = 8  # RTA_METRICS: an MTU and the like
_LINK_LOCAL = b"\xfe\x80"
_ADDRESS_METRIC = 256  # IP6_RT_PRIO_ADDRCONF


@dataclasses.dataclass(frozen=True)
class _Route:
    """One of a dump: ``devices`` are those that it leaves by."""

    body: bytes
    told: Told
    devices: tuple[int, ...]

    @property
    def order(self) -> tuple[t.Any, ...]:
        """Those of IPv4 for which it is the same are tried one after the other."""
        family, length, __, tos, __, __, __, __, __ = ROUTE.unpack_from(self.body)
        return family, length, tos, *(self.told.value(kind) for kind in (TABLE, DESTINATION, PRIORITY))


def nexthops(bodies: t.Sequence[bytes], gone: t.Mapping[int, int]) -> t.Iterator[Request]:
    """Those of the devices ``gone``, and the groups that they are in."""
    through = devices_of_nexthops(bodies)
    for body in bodies:
        told = Told(body, NEXTHOP.size)
        number = told.number(NH_ID) or 0
        device = _last(through[number], gone)
        if not device:
            continue
        family, __, protocol, __, flags = NEXTHOP.unpack_from(body)
        header = NEXTHOP.pack(family, 0, protocol, 0, flags & ON_LINK)
        group = NH_GROUP in told
        kept = told.only(NH_ID, NH_GROUP, NH_GROUP_TYPE) + _buckets(told) if group else told.only(*_NH_KEPT)
        stage, what = (Stage.NEXTHOPS, "nexthop group") if group else (Stage.NEXTHOP, "nexthop")
        data = message(NEWNEXTHOP, header + kept, CREATE | REPLACE)
        yield Request(stage, device, f"the {what} {number}", data)


def _buckets(told: Told) -> bytes:
    if NH_RESILIENT not in told:
        return b""
    return attribute(NH_RESILIENT | NESTED, told.inside(NH_RESILIENT).only(*_NH_BUCKETS))


def devices_of_nexthops(bodies: t.Iterable[bytes]) -> dict[int, tuple[int, ...]]:
    """By which devices packets leave, by the number of a nexthop or of a group."""
    found: dict[int, tuple[int, ...]] = {}
    members: dict[int, list[int]] = {}
    for body in bodies:
        told = Told(body, NEXTHOP.size)
        number, device = told.number(NH_ID) or 0, told.number(NH_DEVICE)
        found[number] = () if device is None else (device,)
        if NH_GROUP in told:
            members[number] = [each[0] for each in _GROUP_MEMBER.iter_unpack(told.value(NH_GROUP))]
    for number, some in members.items():
        found[number] = tuple(device for each in some for device in found.get(each, ()))
    return found


def _last(devices: t.Iterable[int], gone: t.Mapping[int, int]) -> int:
    """Of those that are ``gone`` the one that comes back last; 0 without any."""
    return max((index for index in devices if index in gone), key=lambda index: gone[index], default=0)


def routes(dumps: Dumps, gone: t.Mapping[int, int]) -> t.Iterator[Request]:
    """The routes that leave by the devices ``gone``, or from one of their addresses; not those that the kernel makes.

    One that it makes with an address, and that somebody has deleted or made otherwise, goes again.  One that it has learned from
    a router comes with a higher metric: beside one of ours that looks the same it cannot enter its own, and then ignores all else
    that the router says (ndisc_router_discovery in net/ipv6/ndisc.c), so that addresses run out.

    One of IPv6 with several ways of which some stay replaces what is left of it; of IPv4 nothing is left (fib_sync_down_dev in
    net/ipv4/fib_semantics.c). Any other comes behind what has the same destination, or before it, where it was before all of
    those that stay: to replace would take one of these.
    """
    own = _own(dumps.addresses, gone)
    made = {each for body in dumps.addresses for each in _prefix_route(body)}
    through = devices_of_nexthops(dumps.nexthops)
    every = [_read(body, through) for body in dumps.routes]
    if dumps.every_route:
        yield from _unwanted(dumps, gone, {_key(each) for each in every if each.body[5] == OF_THE_KERNEL})
    staying = {each.order for each in every if each.body[0] == INET and not _is_ours(each, gone, own)}
    hearing = {link.index for link in dumps.links if link.hears_routers}
    before: list[Request] = []
    for each in every:
        if not _is_ours(each, gone, own):
            staying.discard(each.order)
        elif not _is_made(each, made):
            first = each.order in staying
            device = _last(each.devices, gone) or own.get(each.told.value(SOURCE), 0)
            request = _request(_behind_its_own(each, hearing), device, first, gone)
            if first:
                before.insert(0, request)
            else:
                yield request
    yield from before


def _behind_its_own(route: _Route, hearing: t.Container[int]) -> _Route:
    """The same, or with a higher metric what the kernel has learned by one of the devices ``hearing`` and will enter again."""
    metric = route.told.number(PRIORITY)
    if route.body[5] != OF_A_ROUTER or metric is None or route.told.number(DEVICE) not in hearing:
        return route
    body = route.body[: ROUTE.size] + route.told.without(PRIORITY) + numbered(PRIORITY, metric + 1)
    return dataclasses.replace(route, body=body, told=Told(body, ROUTE.size))


def _read(body: bytes, through: t.Mapping[int, tuple[int, ...]]) -> _Route:
    told = Told(body, ROUTE.size)
    number = told.number(NEXTHOP_ID)
    return _Route(body, told, tuple(devices(told)) if number is None else through.get(number, ()))


def devices(told: Told) -> list[int]:
    """By which devices a route leaves."""
    device = told.number(DEVICE)
    if device is not None:
        return [device]
    return [each[0] for each in hops(told.value(HOPS))]


def hops(value: bytes) -> t.Iterator[tuple[int, tuple[int, int], Told]]:
    """The ways of a route (struct rtnexthop): device, flags and weight, attributes."""
    offset = 0
    while offset + 8 <= len(value):
        size, flags, weight, index = _HOP.unpack_from(value, offset)
        yield index, (flags, weight), Told(value[offset + 8 : offset + size])
        offset += max(8, size + -size % 4)


def _own(addresses: t.Iterable[bytes], gone: t.Mapping[int, int]) -> dict[bytes, int]:
    """The device of each address of those ``gone``, that which comes back last where several have it."""
    found: dict[bytes, int] = {}
    for body in addresses:
        index = int(ADDRESS.unpack_from(body)[-1])
        if index in gone:
            address = own_address(body)
            found[address] = _last((index, found.get(address, index)), gone)
    return found


def own_address(body: bytes) -> bytes:
    """The address of a dump."""
    told = Told(body, ADDRESS.size)
    return told.value(_IFA_LOCAL) or told.value(_IFA_ADDRESS)


def _prefix_route(body: bytes) -> t.Iterator[tuple[t.Any, ...]]:
    """Of an address: the route to its network that the kernel makes, as ``_key`` tells it; in IPv4 the first one's alone."""
    family, length, flags, __, index = ADDRESS.unpack_from(body)
    told = Told(body, ADDRESS.size)
    without = _NO_ROUTE | (_SECONDARY if family == INET else 0)
    if not (told.number(_IFA_FLAGS) or flags) & without:
        address = told.value(_IFA_ADDRESS)
        mask = (1 << 8 * len(address)) - (1 << 8 * len(address) - length)
        network = (int.from_bytes(address, "big") & mask).to_bytes(len(address), "big")
        usual = _ADDRESS_METRIC if family == INET6 else 0
        source = own_address(body) if family == INET else b""
        yield family, length, index, network, told.number(_IFA_PRIORITY) or usual, source, b""


def _is_made(route: _Route, made: t.Container[tuple[t.Any, ...]]) -> bool:
    family, length, __, __, __, protocol, __, kind, __ = ROUTE.unpack_from(route.body)
    if protocol != OF_THE_KERNEL or kind != UNICAST or family not in (INET, INET6):
        return bool(protocol == OF_THE_KERNEL)
    return bool(route.told.value(DESTINATION)[:2] == _LINK_LOCAL) or _key(route) in made


def _key(route: _Route) -> tuple[t.Any, ...]:
    told = route.told
    where = told.number(DEVICE) or 0, told.value(DESTINATION), told.number(PRIORITY) or 0
    return route.body[0], route.body[1], *where, told.value(SOURCE), told.value(_METRICS)


def _table(master: Link | None) -> int:
    """The routing table of a device by its master: a VRF has one of its own."""
    return (master.table if master is not None else None) or _MAIN


def _unwanted(
    dumps: Dumps, gone: t.Container[int], there: t.Container[tuple[t.Any, ...]]
) -> t.Iterator[Request]:
    """No route to the network of an address where there is none: it would come before what somebody has set in its place.

    Of IPv6 it comes once more when the address gets its last flags (inet6_addr_modify in net/ipv6/addrconf.c).
    """
    by_index = {link.index: link for link in dumps.links}
    for key in dict.fromkeys(each for body in dumps.addresses for each in _prefix_route(body)):
        family, length, index, network, metric, *__ = key
        if index not in gone or key in there or not (index in by_index and by_index[index].is_up):
            continue
        table = _table(by_index.get(by_index[index].master))
        body = ROUTE.pack(family, length, 0, 0, 0, OF_THE_KERNEL, _ANY_SCOPE, UNICAST, 0)
        body += attribute(DESTINATION, network) + numbered(TABLE, table) + numbered(DEVICE, index)
        data = message(DELROUTE, body + (numbered(PRIORITY, metric) if metric else b""))
        what = f"the absence of the route to {shown(family, network)}/{length} of table {table}"
        for stage in (Stage.ROUTE, Stage.SETTLE) if family == INET6 else (Stage.ROUTE,):
            yield Request(stage, index, what, data)


def _is_ours(route: _Route, gone: t.Container[int], own: t.Container[bytes]) -> bool:
    family, flags = route.body[0], ROUTE.unpack_from(route.body)[-1]
    if family not in (INET, INET6, MPLS) or flags & CLONED:
        return False
    return any(index in gone for index in route.devices) or route.told.value(SOURCE, b"none") in own


def _request(route: _Route, device: int, first: bool, gone: t.Container[int]) -> Request:
    family, flags = route.body[0], ROUTE.unpack_from(route.body)[-1]
    told, by_number = route.told, NEXTHOP_ID in route.told
    useless = (CACHE, *(_BY_NEXTHOP if by_number else ()))
    kept = route.body[: ROUTE.size - 4] + struct.pack("=I", flags & ON_LINK) + told.without(*useless)
    several = HOPS in told and not by_number
    later = several or by_number or family == MPLS or GATEWAY in told or VIA in told
    left = family == INET6 and several and any(index not in gone for index in route.devices)
    how = REPLACE if left or family == MPLS else 0 if first else APPEND
    data = message(NEWROUTE, kept + _expiry(told), CREATE | how)
    stage = Stage.GATEWAY if later else Stage.ROUTE
    return Request(stage, device, shown_route(route.body, told), data)


def shown_route(body: bytes, told: Told) -> str:
    """A route for people."""
    family, length, *__ = ROUTE.unpack_from(body)
    table = told.number(TABLE) or body[4]
    if family == MPLS:
        (label,) = struct.unpack("!I", told.value(DESTINATION).ljust(4, b"\0")[:4])
        return f"the route of the MPLS label {label >> 12}"
    destination = shown(family, told.value(DESTINATION)) or "default"
    return f"the route to {destination}/{length} of table {table}"


def _expiry(told: Told) -> bytes:
    """A route's remaining lifetime is told in clock ticks and taken in seconds."""
    cache = told.value(CACHE)
    ticks = struct.unpack_from("=i", cache, 8)[0] if len(cache) >= 12 else 0
    return numbered(_EXPIRES, max(1, ticks // _HZ)) if ticks > 0 else b""


def shown(family: int, value: bytes) -> str:
    """An address for people."""
    return socket.inet_ntop(family, value) if len(value) in (4, 16) else value.hex(":")
