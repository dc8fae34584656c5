# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""All that a network namespace tells of its network, as rtnetlink tells it."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.links import Link
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import Told, dumped, numbered
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    NESTED,
    Netlink,
    attribute,
    each_attribute,
)

_GETLINK, _GETADDR, _GETROUTE, _GETNEIGH, _GETRULE, _GETQDISC = 18, 22, 26, 30, 34, 38
_GETTCLASS, _GETTFILTER, _GETACTION, _GETMDB, _GETNEXTHOP = 42, 46, 50, 86, 106

ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, length, flags, scope, ifindex
ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg; the last are protocol, scope, type and flags
NEXTHOP = struct.Struct("=BBBBI")  # struct nhmsg: family, scope, protocol, 0, flags
NEIGHBOUR = struct.Struct("=BxxxiHBB")  # struct ndmsg: family, ifindex, state, flags, type
TRAFFIC = struct.Struct("=BxxxiIII")  # struct tcmsg: family, ifindex, handle, parent, info
BRIDGED = struct.Struct("=BxxxI")  # struct br_port_msg: family, ifindex
DEVICE = struct.Struct("=BxHiII")  # struct ifinfomsg
RULE_SIZE = 12  # bytes of struct fib_rule_hdr

INGRESS = 0xFFFFFFF1
_INGRESS_FILTERS, _EGRESS_FILTERS = 0xFFFFFFF2, 0xFFFFFFF3
_PROXY = 0x08
_IFLA_EXT_MASK, _VLANS_IN_RANGES = 29, 0x4
_ACT_TAB, _ACT_KIND, _MIRRED = 1, 1, b"mirred\0"


@dataclasses.dataclass(frozen=True)
class Dumps:
    """What one namespace tells of all of its devices.

    ``vlans`` and ``groups`` are those of bridges, ``mirrored`` the actions that send packets to a device.  ``every_route`` tells
    whether no route can be left out, since none has changed meanwhile.
    """

    links: t.Sequence[Link] = ()
    addresses: t.Sequence[bytes] = ()
    routes: t.Sequence[bytes] = ()
    rules: t.Sequence[bytes] = ()
    nexthops: t.Sequence[bytes] = ()
    neighbours: t.Sequence[bytes] = ()
    vlans: t.Sequence[bytes] = ()
    groups: t.Sequence[bytes] = ()
    qdiscs: t.Sequence[bytes] = ()
    classes: t.Sequence[bytes] = ()
    filters: t.Sequence[bytes] = ()
    mirrored: t.Sequence[bytes] = ()
    every_route: bool = True


def dump(route: Netlink, links: t.Sequence[Link]) -> Dumps:
    """Ask the namespace of the socket ``route``, whose devices are ``links``."""
    qdiscs = dumped(route, _GETQDISC, bytes(TRAFFIC.size), "queueing disciplines")
    classes = list(_classes(route, qdiscs))
    bridges = DEVICE.pack(socket.AF_BRIDGE, 0, 0, 0, 0) + numbered(_IFLA_EXT_MASK, _VLANS_IN_RANGES)
    action = attribute(1 | NESTED, attribute(_ACT_KIND, _MIRRED))
    routes = dumped(route, _GETROUTE, bytes(ROUTE.size), "routes")
    every_route = route.whole
    return Dumps(
        links,
        dumped(route, _GETADDR, bytes(ADDRESS.size), "addresses"),
        routes,
        dumped(route, _GETRULE, bytes(RULE_SIZE), "rules"),
        _where_known(route, _GETNEXTHOP, bytes(NEXTHOP.size)),
        list(_neighbours(route)),
        _where_known(route, _GETLINK, bridges),
        _where_known(route, _GETMDB, BRIDGED.pack(socket.AF_BRIDGE, 0)),
        qdiscs,
        classes,
        list(_filters(route, qdiscs, classes)),
        _where_known(route, _GETACTION, bytes(4) + attribute(_ACT_TAB | NESTED, action)),
        every_route,
    )


def filters(route: Netlink, devices: t.Container[int]) -> list[bytes]:
    """Those at the disciplines of ``devices``."""
    told = dumped(route, _GETQDISC, bytes(TRAFFIC.size), "queueing disciplines")
    qdiscs = [body for body in told if TRAFFIC.unpack_from(body)[1] in devices]
    return list(_filters(route, qdiscs, list(_classes(route, qdiscs))))


def _where_known(route: Netlink, kind: int, header: bytes) -> list[bytes]:
    """Nothing from a kernel that knows no such thing, or has no module for it."""
    with contextlib.suppress(HotUpgradeError):
        return dumped(route, kind, header, "network")
    return []


def _neighbours(route: Netlink) -> t.Iterator[bytes]:
    everybody, proxies = NEIGHBOUR.pack(0, 0, 0, 0, 0), NEIGHBOUR.pack(0, 0, 0, _PROXY, 0)
    for header in (everybody, proxies, NEIGHBOUR.pack(socket.AF_BRIDGE, 0, 0, 0, 0)):
        yield from dumped(route, _GETNEIGH, header, "neighbours")


def _set(qdiscs: t.Iterable[bytes]) -> t.Iterator[tuple[int, int, int]]:
    """The device, handle and parent of each that somebody has set: those have a handle."""
    for body in qdiscs:
        __, index, handle, parent, __ = TRAFFIC.unpack_from(body)
        if handle:
            yield index, handle, parent


def _classes(route: Netlink, qdiscs: t.Sequence[bytes]) -> t.Iterator[bytes]:
    for index in sorted({index for index, __, parent in _set(qdiscs) if parent != INGRESS}):
        yield from _where_known(route, _GETTCLASS, TRAFFIC.pack(0, index, 0, 0, 0))


def _filters(route: Netlink, qdiscs: t.Sequence[bytes], classes: t.Iterable[bytes]) -> t.Iterator[bytes]:
    """Those at the disciplines that somebody has set, and at their classes."""
    places = [
        (index, place)
        for index, handle, parent in _set(qdiscs)
        for place in ((_INGRESS_FILTERS, _EGRESS_FILTERS) if parent == INGRESS else (handle,))
    ]
    for index, place in [*places, *(TRAFFIC.unpack_from(body)[1:3] for body in classes)]:
        yield from _where_known(route, _GETTFILTER, TRAFFIC.pack(0, index, 0, place, 0))


def actions(body: bytes) -> list[Told]:
    """The actions of a dump of actions."""
    return [Told(value) for __, value in each_attribute(Told(body, 4).value(_ACT_TAB))]
