# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What names a device comes back with it, and nothing that the kernel makes by itself."""

from __future__ import annotations

import socket
import struct
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import belongings
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import (
    Request,
    Stage,
    Told,
    numbered,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import MESSAGE, attribute

OURS, OTHERS = 5, 9
ADDRESS, ROUTE = struct.Struct("=BBBBI"), struct.Struct("=BBBBBBBBI")
NEIGHBOUR, TRAFFIC = struct.Struct("=BxxxiHBB"), struct.Struct("=BxxxiIII")
PERMANENT, STATIC, REACHABLE, DELAY, FAILED = 0x80, 0x40, 0x02, 0x08, 0x20


def address(value: str, index: int = OURS, flags: int = 0x80) -> bytes:
    family = socket.AF_INET6 if ":" in value else socket.AF_INET
    body = ADDRESS.pack(family, 24, flags & 0xFF, 0, index) + attribute(1, socket.inet_pton(family, value))
    return body + numbered(8, flags) + attribute(6, struct.pack("=IIII", 4000, 5000, 1, 2))


def route(
    destination: str, *more: bytes, protocol: int = 4, flags: int = 0, index: int | None = OURS
) -> bytes:
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    body = ROUTE.pack(family, 24, 0, 0, 254, protocol, 0, 1, flags) + numbered(15, 200)
    body += attribute(1, socket.inet_pton(family, destination))
    return body + b"".join(more) + (b"" if index is None else numbered(4, index))


def routes(*bodies: bytes, own: t.Container[bytes] = ()) -> list[Request]:
    return list(belongings.routes(bodies, {OURS}, own))


def neighbours(*bodies: bytes) -> list[Request]:
    return list(belongings.neighbours(bodies, {OURS}))


def test_an_ipv4_address_is_said_again_with_its_lifetimes() -> None:
    body = address("192.0.2.1")
    (found,) = belongings.addresses([body, address("192.0.2.9", OTHERS)], {OURS})
    assert found.data[16:] == body
    assert (found.stage, found.what) == (Stage.ADDRESS, "the address 192.0.2.1/24")


def test_lifetimes_run_down_and_are_no_difference() -> None:
    (before,) = belongings.addresses([address("192.0.2.1")], {OURS})
    later = address("192.0.2.1").replace(
        struct.pack("=IIII", 4000, 5000, 1, 2), struct.pack("=IIII", 3990, 4990, 1, 2)
    )
    (after,) = belongings.addresses([later], {OURS})
    assert before.same == after.same
    (other,) = belongings.addresses([address("192.0.2.2")], {OURS})
    assert other.same != before.same


def test_an_ipv6_address_serves_at_once_and_is_as_it_was_afterwards() -> None:
    body = address("2001:db8::1", flags=0x280)
    first, settled = belongings.addresses([body], {OURS})
    assert Told(first.data, 24).number(8) == 0x282  # IFA_F_NODAD
    assert first.data[18] == 0x82
    assert (settled.stage, settled.data[16:]) == (Stage.SETTLE, body)


def test_temporary_addresses_are_the_kernels() -> None:
    assert not list(belongings.addresses([address("2001:db8::1", flags=0x01)], {OURS}))


def test_a_secondary_ipv4_address_is_not_taken_for_a_temporary_one() -> None:
    assert list(belongings.addresses([address("192.0.2.1", flags=0x81)], {OURS}))


def test_routes_of_every_table_and_who_needs_a_gateway_comes_later() -> None:
    plain, by_gateway = routes(route("192.0.2.0"), route("198.51.100.0", attribute(5, b"\1\2\3\4")))
    assert (plain.stage, by_gateway.stage) == (Stage.ROUTE, Stage.GATEWAY)
    assert plain.what == "the route to 192.0.2.0/24 of table 200"
    assert plain.data[16:] == route("192.0.2.0")
    assert MESSAGE.unpack_from(plain.data)[2] == 0x1 | 0x400 | 0x800  # create, append


def test_routes_that_are_not_ours_to_make() -> None:
    assert not routes(route("192.0.2.0", protocol=2))  # the kernel's
    assert not routes(route("192.0.2.0", index=OTHERS))
    assert not routes(route("192.0.2.0", flags=0x200))  # out of the cache


def test_a_route_from_an_address_of_ours_goes_with_that() -> None:
    source = attribute(7, b"\1\2\3\4")
    assert not routes(route("192.0.2.0", source, index=OTHERS))
    (found,) = routes(route("192.0.2.0", source, index=OTHERS), own={b"\1\2\3\4"})
    assert found.device == 0


def test_one_of_several_ways_replaces_what_is_left() -> None:
    hops = struct.pack("=HBBi", 8, 0, 0, OTHERS) + struct.pack("=HBBi", 8, 0, 0, OURS)
    (found,) = routes(route("192.0.2.0", attribute(9, hops), index=None))
    assert MESSAGE.unpack_from(found.data)[2] == 0x1 | 0x400 | 0x100  # create, replace
    assert (found.device, found.stage) == (OURS, Stage.GATEWAY)


def test_a_route_keeps_its_remaining_life_and_not_its_state() -> None:
    cache = attribute(12, struct.pack("=IIiIIII", 0, 0, 59_900, 0, 0, 0, 0))
    (found,) = routes(route("2001:db8::", cache, flags=0x10 | 4))  # link down, on link
    told = Told(found.data, 28)
    assert told.number(23) == 599
    assert 12 not in told
    assert struct.unpack_from("=I", found.data, 24) == (4,)


def neighbour(
    state: int, flags: int = 0, family: int = socket.AF_INET, mac: bytes = b"\2\0\0\0\0\1", index: int = OURS
) -> bytes:
    body = NEIGHBOUR.pack(family, index, state, flags, 1) + attribute(2, mac) + attribute(3, bytes(16))
    return body + (b"" if family == socket.AF_BRIDGE else attribute(1, b"\xc0\0\2\7"))


def test_neighbours_that_are_known() -> None:
    permanent, known, proxy = neighbours(
        neighbour(PERMANENT),
        neighbour(REACHABLE),
        neighbour(0, flags=0x08),
        neighbour(FAILED),
        neighbour(PERMANENT, index=OTHERS),
    )
    assert permanent.what == "the neighbour 192.0.2.7"
    assert 3 not in Told(permanent.data, 28)  # when it was seen
    assert permanent.same is not None
    assert known.same is None
    assert proxy.same is not None


def test_one_that_is_asked_for_is_asked_for_again() -> None:
    (found,) = neighbours(neighbour(DELAY))
    assert struct.unpack_from("=H", found.data, 24) == (0x04,)


def test_fdb_entries_that_somebody_has_set() -> None:
    group = b"\1\0\x5e\0\0\1"
    found = neighbours(
        neighbour(PERMANENT, 0x02, socket.AF_BRIDGE),
        neighbour(PERMANENT, 0x02, socket.AF_BRIDGE, group),  # the device listens to it
        neighbour(REACHABLE, 0x04, socket.AF_BRIDGE),  # learned by a bridge
    )
    assert [each.what for each in found] == ["the neighbour 02:00:00:00:00:01"]


def traffic(kind: str, handle: int, parent: int, index: int = OURS) -> bytes:
    return (
        TRAFFIC.pack(0, index, handle, parent, 0)
        + attribute(1, kind.encode() + b"\0")
        + attribute(7, bytes(8))
    )


class Kernel:
    """Classes and filters by the request that asks for them: (kind, parent)."""

    def __init__(self, **told: list[bytes]) -> None:
        self.told = told

    def dump(self, request: bytes, _what: str) -> list[tuple[int, bytes]]:
        (kind,) = struct.unpack_from("=H", request, 4)
        __, __, __, parent, __ = TRAFFIC.unpack_from(request, 16)
        found = self.told.get("classes" if kind == 42 else f"at_{parent:x}", [])
        return [(kind, body) for body in found]


def test_a_tree_of_disciplines_and_classes_grows_from_its_root() -> None:
    root, ingress = 0xFFFFFFFF, 0xFFFFFFF1
    qdiscs = [
        traffic("sfq", 0x100000, 0x10010),
        traffic("htb", 0x10000, root),
        traffic("clsact", 0xFFFF0000, ingress),
        traffic("noqueue", 0, root),  # the kernel's own
        traffic("tbf", 0x10000, root, OTHERS),
    ]
    classes = [traffic("htb", 0x10010, 0x10001), traffic("htb", 0x10001, root)]
    kernel = Kernel(
        classes=classes,
        at_10000=[
            traffic("u32", 0, 0x10000),
            traffic("u32", 0x80000000, 0x10000),  # the hash table that it makes by itself
            traffic("u32", 0x80000800, 0x10000),
        ],
        at_fffffff2=[traffic("flower", 1, 0xFFFFFFF2)],
    )
    found = list(belongings.shaping(t.cast(t.Any, kernel), qdiscs, {OURS}))
    assert [each.what for each in found] == [
        "the htb 1:0 at ffff:ffff",
        "the clsact ffff:0 at ffff:fff1",
        "the htb 1:1 at ffff:ffff",
        "the htb 1:10 at 1:1",
        "the sfq 10:0 at 1:10",
        "the u32 8000:800 at 1:0",
        "the flower 0:1 at ffff:fff2",
    ]
    assert found[-1].stage > found[0].stage
    assert 7 not in Told(found[0].data, 36)  # its statistics


@pytest.mark.parametrize(
    ("name", "kind", "number", "told", "wanted"),
    [
        ("htb", 36, 2, struct.pack("=II", 0x30011, 10), struct.pack("=II", 3, 10)),
        ("flower", 44, 22, struct.pack("=I", 0x8 | 0x2), struct.pack("=I", 0x2)),
        ("u32", 44, 11, struct.pack("=I", 0x4), struct.pack("=I", 0)),
        ("prio", 36, 2, b"told", b"told"),
    ],
)
def test_what_a_dump_tells_differently_is_asked_for_as_it_is_set(
    name: str, kind: int, number: int, told: bytes, wanted: bytes
) -> None:
    options = attribute(number, told) + attribute(40, b"kept")
    body = TRAFFIC.pack(0, OURS, 0x80000801, 0x10000, 0) + attribute(1, name.encode()) + attribute(2, options)
    found = Told(belongings._traffic(Stage.FILTER, kind, body).data, 36).inside(2)
    assert (found.value(number), found.value(40)) == (wanted, b"kept")
