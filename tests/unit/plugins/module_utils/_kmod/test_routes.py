# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes and numbered nexthops come back with their devices, in their order, and none that the kernel makes by itself."""

from __future__ import annotations

import socket
import struct
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import links, routes
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.dumps import Dumps
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import (
    DELROUTE,
    Request,
    Stage,
    Told,
    numbered,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    MESSAGE,
    NESTED,
    attribute,
)

OURS, ON_OURS, OTHERS = 5, 6, 9
GONE = {OURS: 0, ON_OURS: 1}
ADDRESS, ROUTE, NEXTHOP = struct.Struct("=BBBBI"), struct.Struct("=BBBBBBBBI"), struct.Struct("=BBBBI")
APPENDED, FIRST, REPLACED = 0x1 | 0x400 | 0x800, 0x1 | 0x400, 0x1 | 0x400 | 0x100


def route(
    destination: str, *more: bytes, protocol: int = 4, flags: int = 0, index: int | None = OURS
) -> bytes:
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    body = ROUTE.pack(family, 24, 0, 0, 254, protocol, 0, 1, flags) + numbered(15, 200)
    body += attribute(1, socket.inet_pton(family, destination))
    return body + b"".join(more) + (b"" if index is None else numbered(4, index))


def given(
    *bodies: bytes, addresses: tuple[bytes, ...] = (), nexthops: tuple[bytes, ...] = ()
) -> list[Request]:
    return list(routes.routes(Dumps(routes=bodies, addresses=addresses, nexthops=nexthops), GONE))


def how(request: Request) -> int:
    return int(MESSAGE.unpack_from(request.data)[2])


def address(value: str, flags: int = 0x80, index: int = OURS) -> bytes:
    family = socket.AF_INET6 if ":" in value else socket.AF_INET
    return (
        ADDRESS.pack(family, 24, flags & 0xFF, 0, index)
        + attribute(1, socket.inet_pton(family, value))
        + numbered(8, flags)
    )


def nexthop(number: int, *more: bytes, device: int | None = OURS, flags: int = 0) -> bytes:
    body = NEXTHOP.pack(socket.AF_INET, 253, 4, 0, flags) + numbered(1, number) + b"".join(more)
    return body + (b"" if device is None else numbered(5, device))


def group(number: int, *members: int, more: bytes = b"") -> bytes:
    listed = b"".join(struct.pack("=IBBH", member, 0, 0, 0) for member in members)
    return NEXTHOP.pack(0, 0, 4, 0, 0) + numbered(1, number) + attribute(2, listed) + more


def test_routes_of_every_table_and_who_needs_a_gateway_comes_later() -> None:
    plain, by_gateway = given(route("192.0.2.0"), route("198.51.100.0", attribute(5, b"\1\2\3\4")))
    assert (plain.stage, by_gateway.stage) == (Stage.ROUTE, Stage.GATEWAY)
    assert plain.what == "the route to 192.0.2.0/24 of table 200"
    assert plain.data[16:] == route("192.0.2.0")
    assert MESSAGE.unpack_from(plain.data)[2] == 0x1 | 0x400 | 0x800  # create, append


def test_routes_that_are_not_ours_to_make() -> None:
    assert not given(route("192.0.2.0", index=OTHERS))
    assert not given(route("192.0.2.0", flags=0x200))  # out of the cache


def test_what_the_kernel_makes_of_an_address_it_makes_again() -> None:
    """What somebody else has made has another metric, or an address that comes without a route (IFA_F_NOPREFIXROUTE)."""
    first = attribute(7, b"\xc0\0\2\1")
    made, other = route("192.0.2.0", first, protocol=2), route("192.0.2.0", numbered(6, 425), protocol=2)
    assert given(made, other, addresses=(address("192.0.2.1"),))[0].data[16:] == other
    assert len(given(made, addresses=(address("192.0.2.1", 0x280),))) == 1
    assert not given(route("fe80::", protocol=2))
    assert not given(route("2001:d00::", numbered(6, 256), protocol=2), addresses=(address("2001:d00::1"),))
    local = (
        ROUTE.pack(socket.AF_INET, 32, 0, 0, 255, 2, 0, 2, 0)
        + attribute(1, b"\xc0\0\2\1")
        + numbered(4, OURS)
    )
    assert not given(local)


def link(index: int, flags: int = 1, *more: bytes) -> links.Link:
    return links.parse(struct.pack("=BxHiII", 0, 0, index, flags, 0) + b"".join(more))


def absent(*bodies: bytes, devices: tuple[links.Link, ...], **more: t.Any) -> list[tuple[str, Stage]]:
    """What is taken away of what the kernel makes by itself, with addresses of three kinds."""
    own = (address("192.0.2.1"), address("2001:d00::1"), address("203.0.113.1", 0x280))
    given = routes.routes(Dumps(devices, routes=bodies, addresses=own, **more), GONE)
    return [(each.what, each.stage) for each in given if MESSAGE.unpack_from(each.data)[1] == DELROUTE]


def test_the_route_to_a_network_that_somebody_has_deleted_or_made_otherwise_is_not_there_again() -> None:
    """It would come before that, with another source and MTU; the kernel makes that of IPv6 once more when it settles."""
    other, made = route("192.0.2.0", numbered(8, 1300)), route("2001:d00::", numbered(6, 256), protocol=2)
    what = "the absence of the route to {} of table {}".format
    assert absent(other, made, devices=(link(OURS),)) == [(what("192.0.2.0/24", 254), Stage.ROUTE)]
    vrf = link(77, 1, attribute(18, attribute(1, b"vrf\0") + attribute(2, numbered(1, 100))))
    assert absent(devices=(link(OURS, 1, numbered(10, 77)), vrf)) == [
        (what("192.0.2.0/24", 100), Stage.ROUTE),
        (what("2001:d00::/24", 100), Stage.ROUTE),
        (what("2001:d00::/24", 100), Stage.SETTLE),
    ]


@pytest.mark.parametrize(
    "otherwise", [attribute(7, b"\xc0\0\2\2"), attribute(7, b"\xc0\0\2\1") + attribute(8, numbered(2, 1300))]
)
def test_the_kernels_own_route_with_another_source_or_mtu_takes_its_place(otherwise: bytes) -> None:
    """A second address of the same network (IFA_F_SECONDARY) has no route of its own."""
    changed = route("192.0.2.0", otherwise, protocol=2)
    addresses = (address("192.0.2.1"), address("192.0.2.2", 0x81))
    taken, set_again = routes.routes(Dumps((link(OURS),), routes=(changed,), addresses=addresses), GONE)
    assert MESSAGE.unpack_from(taken.data)[1] == DELROUTE
    assert set_again.data[16:] == changed


def test_what_is_perhaps_there_stays() -> None:
    """A device that is down has no such routes, and a dump may leave out some while others change."""
    assert not absent(devices=(link(OURS, 0),))
    assert not absent(devices=(link(OURS),), every_route=False)


def test_a_route_from_an_address_of_ours_goes_with_that() -> None:
    source = attribute(7, b"\xc0\0\2\1")
    assert not given(route("198.51.100.0", source, index=OTHERS))
    (found,) = given(
        route("198.51.100.0", source, index=OTHERS), addresses=(address("192.0.2.1", index=ON_OURS),)
    )
    assert found.device == ON_OURS


def several(destination: str, *devices: int) -> bytes:
    hops = b"".join(struct.pack("=HBBi", 8, 0, 0, index) for index in devices)
    return route(destination, attribute(9, hops), index=None)


def test_one_of_several_ways_replaces_what_is_left_of_it_and_nothing_else() -> None:
    """Of IPv4 nothing is left, and another one to the same destination stays as it is."""
    (found,) = given(several("2001:db8::", OTHERS, OURS))
    assert how(found) == REPLACED
    assert (found.device, found.stage) == (OURS, Stage.GATEWAY)
    assert [how(each) for each in given(several("2001:db8::", OURS, ON_OURS))] == [APPENDED]
    for ways in ((OURS, ON_OURS), (OURS, OTHERS)):
        stays, behind = route("192.0.2.0", index=OTHERS), several("192.0.2.0", *ways)
        assert [how(each) for each in given(stays, behind)] == [APPENDED]
        assert [how(each) for each in given(behind, stays)] == [FIRST]


def test_what_the_kernel_has_learned_from_a_router_is_not_in_its_way() -> None:
    """It finds no route of its own then, and enters none beside one of the same metric: it ignores all else it is told."""
    accepting, not_so = (
        attribute(26, attribute(10, attribute(2, struct.pack("=4i", 0, 64, 1500, on)))) for on in (1, 0)
    )
    learned = route("2001:db8::", numbered(6, 1024), attribute(5, bytes(16)), protocol=9)
    for conf, metric in ((accepting, 1025), (not_so, 1024), (b"", 1024)):  # a program has entered it
        (found,) = routes.routes(Dumps([link(OURS, 1, conf)], routes=[learned]), GONE)
        told = Told(found.data, 28)
        assert (told.number(6), told.number(4), told.value(5)) == (metric, OURS, bytes(16))
    (set_by_hand,) = routes.routes(
        Dumps([link(OURS, 1, accepting)], routes=[route("2001:db8::", numbered(6, 1024))]), GONE
    )
    assert Told(set_by_hand.data, 28).number(6) == 1024


def test_a_route_keeps_its_remaining_life_and_not_its_state() -> None:
    cache = attribute(12, struct.pack("=IIiIIII", 0, 0, 59_900, 0, 0, 0, 0))
    (found,) = given(route("2001:db8::", cache, flags=0x10 | 4))  # link down, on link
    told = Told(found.data, 28)
    assert told.number(23) == 599
    assert 12 not in told
    assert struct.unpack_from("=I", found.data, 24) == (4,)


def test_routes_of_one_destination_keep_their_order_where_some_stay() -> None:
    metric = numbered(6, 500)
    before, second, stays, behind = (
        route("0.0.0.0", metric, attribute(5, b"\1\1\1" + bytes([last])), index=index)
        for last, index in enumerate((OURS, OURS, OTHERS, OURS))
    )
    found = given(before, second, stays, behind)
    assert [(each.data[16:], how(each)) for each in found] == [
        (behind, APPENDED),
        (second, FIRST),
        (before, FIRST),
    ]


def test_a_nexthop_is_said_again_without_what_cannot_be_set() -> None:
    scoped = nexthop(11, attribute(6, b"\1\2\3\4"), flags=4 | 1)
    (found,) = routes.nexthops([scoped, nexthop(12, device=OTHERS)], GONE)
    assert found.data[16:] == NEXTHOP.pack(socket.AF_INET, 0, 4, 0, 4) + numbered(1, 11) + numbered(
        5, OURS
    ) + attribute(6, b"\1\2\3\4")
    assert (found.stage, how(found), found.what) == (Stage.NEXTHOP, REPLACED, "the nexthop 11")


def test_a_group_comes_back_behind_its_last_member() -> None:
    resilient = attribute(12 | NESTED, attribute(1, b"\4\0") + numbered(2, 7) + attribute(4, bytes(8)))
    bodies = [
        group(20, 11, 13, more=resilient),
        nexthop(11),
        nexthop(13, device=ON_OURS),
        group(21, 14),
        nexthop(14, device=9),
    ]
    found = {each.what: each for each in routes.nexthops(bodies, GONE)}
    assert set(found) == {"the nexthop 11", "the nexthop 13", "the nexthop group 20"}
    last = found["the nexthop group 20"]
    assert (last.device, last.stage) == (ON_OURS, Stage.NEXTHOPS)
    assert Told(last.data, 24).inside(12).without() == attribute(1, b"\4\0") + numbered(2, 7)


@pytest.mark.parametrize("told", [numbered(4, OURS) + attribute(5, b"\1\2\3\4"), b""])
def test_a_route_by_a_nexthop_names_nothing_but_that(told: bytes) -> None:
    """What the nexthop stands for is told with it, unless net.ipv4.nexthop_compat_mode is off."""
    body = route("192.0.2.0", numbered(30, 11), told, index=None)
    (found,) = given(body, nexthops=(nexthop(11),))
    assert (found.device, found.stage) == (OURS, Stage.GATEWAY)
    assert found.data[16:] == route("192.0.2.0", numbered(30, 11), index=None)


def test_a_route_of_a_label() -> None:
    """Append makes no sense there (mpls_route_add in net/mpls/af_mpls.c)."""
    body = (
        ROUTE.pack(28, 20, 0, 0, 254, 4, 0, 1, 0)
        + attribute(1, struct.pack("!I", 100 << 12))
        + numbered(4, OURS)
    )
    (found,) = given(body)
    assert (found.what, found.stage, how(found)) == (
        "the route of the MPLS label 100",
        Stage.GATEWAY,
        REPLACED,
    )
