# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is gone is found whatever it is; what comes and goes by itself, and another ifindex, are no difference."""

from __future__ import annotations

import socket
import struct
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import links, witness
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.dumps import Dumps
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import numbered
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import NESTED, attribute

DEVICE, ADDRESS, ROUTE = struct.Struct("=BxHiII"), struct.Struct("=BBBBI"), struct.Struct("=BBBBBBBBI")
NEIGHBOUR, TRAFFIC, NEXTHOP = struct.Struct("=BxxxiHBB"), struct.Struct("=BxxxiIII"), struct.Struct("=BBBBI")
PERMANENT, REACHABLE, SELF = 0x80, 0x02, 0x02


def device(index: int, name: bytes = b"in1", *more: bytes, flags: int = 0) -> links.Link:
    return links.parse(DEVICE.pack(0, 1, index, flags, 0) + attribute(3, name + b"\0") + b"".join(more))


def kind(name: str, *data: bytes) -> bytes:
    return attribute(18, attribute(1, name.encode() + b"\0") + attribute(2, b"".join(data)))


def place(master: str, *data: bytes) -> bytes:
    return attribute(18, attribute(4, master.encode() + b"\0") + attribute(5, b"".join(data)))


def lost(before: Dumps, after: Dumps) -> list[str]:
    return [thing.text for thing in witness.missing(witness.things(before), witness.things(after))]


@pytest.mark.parametrize(
    ("one", "other", "text"),
    [
        (numbered(4, 1500), numbered(4, 1400), "the MTU of in1"),
        (numbered(99, 1), numbered(99, 2), "the attribute 99 of in1"),
        (numbered(10, 5), b"", "the master of in1"),
        (
            numbered(5, 4) + numbered(37, 1),
            numbered(5, 4) + numbered(37, 2),
            "the namespace of the lower device of in1",
        ),
        (kind("vxlan", numbered(1, 66)), kind("vxlan", numbered(1, 67)), "the option 1 of a vxlan of in1"),
        (
            place("bridge", attribute(33, b"\1")),
            place("bridge", attribute(33, b"\0")),
            "the option 33 in its bridge of in1",
        ),
        (attribute(26, attribute(10, attribute(7, bytes(15) + b"\5"))), b"", "the token of in1"),
    ],
)
def test_what_a_device_has(one: bytes, other: bytes, text: str) -> None:
    assert lost(Dumps([device(5, b"in1", one)]), Dumps([device(5, b"in1", other)])) == [text]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (attribute(23, b"counts"), attribute(23, b"others")),
        (attribute(16, b"\6"), attribute(16, b"\2")),  # whether it has a carrier
        (place("bridge", attribute(21, bytes(8))), place("bridge", attribute(21, b"\1" * 8))),  # a timer
        (kind("bond", numbered(2, 5)), kind("bond", numbered(2, 6))),  # which member is active
        # The lower device has been made again, in namespace 1.
        (numbered(5, 4) + numbered(37, 1), numbered(5, 9) + numbered(37, 1)),
    ],
)
def test_what_changes_by_itself(one: bytes, other: bytes) -> None:
    assert lost(Dumps([device(5, b"in1", one)]), Dumps([device(5, b"in1", other)])) == []


def test_flags_and_devices() -> None:
    assert lost(Dumps([device(5, flags=0x41)]), Dumps([device(5, flags=0x40)])) == ["the flag up of in1"]
    assert lost(Dumps([device(5, b"in1", numbered(4, 1500))]), Dumps()) == ["the device in1"]


def told(index: int) -> Dumps:
    """All kinds of things of one device, whose ifindex is ``index``."""
    inet = socket.inet_pton(socket.AF_INET, "192.0.2.0")
    hop = struct.pack("=HBBi", 8, 0, 0, index)
    fdb = (
        NEIGHBOUR.pack(socket.AF_BRIDGE, index, PERMANENT, SELF, 0)
        + attribute(2, b"\2\0\0\0\0\1")
        + numbered(8, index)
    )
    head = ROUTE.pack(socket.AF_INET, 24, 0, 0, 254, 2, 0, 1, 0) + attribute(1, inet)
    entry = struct.pack("=IBBH16s2sxx", index, 1, 0, 20, b"\xef\1\1\1", b"\x08\0")
    shared = struct.pack("=IIiiiiI", 7, 0, 4, 1, 1, 1, index)
    action = attribute(1, b"mirred\0") + attribute(2, attribute(2, shared) + attribute(1, bytes(32)))
    listed = attribute(2, attribute(3, attribute(1, action)) + numbered(22, 8))
    member = struct.pack("=IBBH", 11, 0, 0, 0)
    single = NEXTHOP.pack(2, 0, 4, 0, 0) + numbered(1, 11) + numbered(5, index)
    group = NEXTHOP.pack(0, 0, 4, 0, 0) + numbered(1, 20) + attribute(2, member)
    return Dumps(
        [device(index)],
        [ADDRESS.pack(socket.AF_INET, 24, 0, 0, index) + attribute(1, inet) + attribute(6, struct.pack("=IIII", index, 9, 1, 2))],
        [head + numbered(4, index), head + attribute(9, hop) + numbered(15, 7), head + numbered(30, 11) + numbered(6, 3)],
        [struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 0, 0, 1, 0) + attribute(3, b"in1\0") + numbered(6, 30)],
        [single, group],
        [NEIGHBOUR.pack(socket.AF_INET, index, PERMANENT, 0, 1) + attribute(1, inet) + attribute(3, bytes([index])), fdb],
        [DEVICE.pack(socket.AF_BRIDGE, 1, index, 0, 0) + numbered(10, 9) + attribute(26, attribute(2, b"\0\0\x14\0"))],
        [struct.pack("=BxxxI", socket.AF_BRIDGE, 9) + attribute(1, attribute(1, attribute(1, entry)))],
        [TRAFFIC.pack(0, index, 0x10000, 0xFFFFFFFF, 2) + attribute(1, b"tbf\0") + attribute(2, bytes(4))],
        [TRAFFIC.pack(0, index, 0x10001, 0x10000, 0) + attribute(1, b"htb\0") + attribute(2, numbered(1, 7))],
        [TRAFFIC.pack(0, index, 1, 0x10000, 0x50008) + attribute(1, b"flower\0") + listed],
        [bytes(4) + attribute(1, attribute(1, action))],
    )  # fmt: skip


EVERYTHING = [
    "the device in1",
    "the address 192.0.2.0/24 of in1",
    "the route to 192.0.2.0/24 of table 254 by in1",
    "the route to 192.0.2.0/24 of table 7 by in1",
    "the rule of priority 30",
    "the nexthop 11",
    "the nexthop 20",
    "the neighbour 192.0.2.0 of in1",
    "the neighbour 02:00:00:00:00:01 of in1",
    "the VLANs in its bridge of in1",
    "the group 239.1.1.1 of VLAN 20 of in1",
    "the tbf 1:0 at ffff:ffff of in1",
    "the htb 1:1 at 1:0 of in1",
    "the flower 0:1 at 1:0 of in1",
    "the action mirred 7 to in1",
]


def test_everything_is_missed() -> None:
    assert list(dict.fromkeys(lost(told(5), Dumps()))) == EVERYTHING
    named = [thing.text for thing in witness.things(told(5)) if "in1" not in thing.devices]
    assert named == []


def test_another_ifindex_is_no_difference() -> None:
    assert lost(told(5), told(50)) == []


def test_an_action_that_has_lost_its_device() -> None:
    before, after = told(5), told(5)
    removed = t.cast(t.Any, after.filters[0]).replace(
        struct.pack("=II", 1, 5) + attribute(1, bytes(32))[:4],
        struct.pack("=II", 1, 0) + attribute(1, bytes(32))[:4],
    )
    assert removed != after.filters[0]
    after = Dumps(**{**vars(after), "filters": [removed]})
    assert lost(before, after) == ["the flower 0:1 at 1:0 of in1"]


def test_the_order_of_routes() -> None:
    head = ROUTE.pack(socket.AF_INET, 0, 0, 0, 254, 4, 0, 1, 0) + numbered(6, 500)
    ways = [head + numbered(4, 5), head + numbered(4, 6)]
    some = [device(5, b"in1"), device(6, b"in2")]
    assert lost(Dumps(some, routes=ways), Dumps(some, routes=ways[::-1])) == [
        "the order of the routes like the route to default/0 of table 254 by in1"
    ]


@pytest.mark.parametrize(
    "found",
    [
        Dumps(neighbours=[NEIGHBOUR.pack(2, 5, REACHABLE, 0, 1) + attribute(1, b"\1\2\3\4")]),
        Dumps(neighbours=[NEIGHBOUR.pack(7, 5, REACHABLE, 4, 0) + attribute(2, b"\2\0\0\0\0\1")]),
        Dumps(neighbours=[NEIGHBOUR.pack(7, 5, PERMANENT, SELF, 0) + attribute(2, b"\x33\x33\xff\0\0\1")]),
        Dumps(addresses=[ADDRESS.pack(10, 64, 1, 0, 5) + attribute(1, bytes(16))]),  # temporary
        Dumps(routes=[ROUTE.pack(10, 64, 0, 0, 254, 9, 0, 1, 0) + numbered(4, 5)]),  # a router's
        Dumps(routes=[ROUTE.pack(2, 32, 0, 0, 254, 2, 0, 1, 0x200) + numbered(4, 5)]),  # out of the cache
        Dumps(qdiscs=[TRAFFIC.pack(0, 5, 0, 0xFFFFFFFF, 2) + attribute(1, b"noqueue\0")]),
        Dumps(filters=[TRAFFIC.pack(0, 5, 0, 0x10000, 0) + attribute(1, b"flower\0")]),
    ],
)
def test_what_comes_and_goes(found: Dumps) -> None:
    assert lost(found, Dumps()) == []


def test_what_is_counted_in_disciplines_and_filters() -> None:
    def counted(count: int) -> Dumps:
        init = struct.pack("=IIIII", 0x30011, 10, 16, 0, count)
        htb = (
            TRAFFIC.pack(0, 5, 0x10000, 0xFFFFFFFF, count)
            + attribute(1, b"htb\0")
            + attribute(2, attribute(2, init))
        )
        police = struct.pack("=IiIII", count, 2, 0, 400, 2048) + bytes(24) + struct.pack("=iiI", count, 1, 0)
        action = attribute(1, b"police\0") + attribute(
            2 | NESTED, attribute(1, police) + attribute(6, bytes([count] * 32))
        )
        options = attribute(3, attribute(1, action + attribute(4, bytes([count])))) + numbered(86, count)
        flower = TRAFFIC.pack(0, 5, 1, 0x10000, 0) + attribute(1, b"flower\0") + attribute(2, options)
        other = TRAFFIC.pack(0, 5, 2, 0x10000, 0) + attribute(1, b"tcindex\0") + attribute(2, bytes([count]))
        return Dumps([device(5)], qdiscs=[htb], filters=[flower, other])

    assert lost(counted(1), counted(2)) == []
