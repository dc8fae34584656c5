# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Queueing disciplines, filters and actions come back as they can be set, which is not how they are told."""

from __future__ import annotations

import struct

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import shaping
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.dumps import Dumps
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import Stage, Told
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    NESTED,
    attribute,
)

OURS, OTHERS = 5, 9
GONE = {OURS: 0}
TRAFFIC = struct.Struct("=BxxxiIII")
CLSACT, INGRESS = 0xFFFF0000, 0xFFFFFFF1


def traffic(kind: str, handle: int, parent: int, index: int = OURS) -> bytes:
    return (
        TRAFFIC.pack(0, index, handle, parent, 0)
        + attribute(1, kind.encode() + b"\0")
        + attribute(7, bytes(8))
    )


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
    filters = [
        traffic("u32", 0, 0x10000),
        traffic("u32", 0x80000000, 0x10000),  # the hash table that it makes by itself
        traffic("u32", 0x80000800, 0x10000),
        traffic("flower", 1, 0xFFFFFFF2),
        traffic("flower", 1, 0xFFFFFFF2, OTHERS),
    ]
    found = list(shaping.shaping(Dumps(qdiscs=qdiscs, classes=classes, filters=filters), GONE))
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
        ("fq_codel", 36, 1, struct.pack("=I", 4999), struct.pack("=I", 5000)),
    ],
)
def test_what_a_dump_tells_differently_is_asked_for_as_it_is_set(
    name: str, kind: int, number: int, told: bytes, wanted: bytes
) -> None:
    options = attribute(number, told) + attribute(40, b"kept")
    body = TRAFFIC.pack(0, OURS, 0x80000801, 0x10000, 0) + attribute(1, name.encode()) + attribute(2, options)
    found = Told(shaping._traffic(Stage.FILTER, kind, body).data, 36).inside(2)
    assert (found.value(number), found.value(40)) == (wanted, b"kept")


def action(kind: str, *options: bytes) -> bytes:
    return (
        attribute(1, kind.encode() + b"\0")
        + attribute(2 | NESTED, b"".join(options))
        + attribute(4, b"counted")
    )


def filtered(*actions: bytes, index: int = OURS, parent: int = 0xFFFFFFF2) -> bytes:
    listed = b"".join(attribute(place | NESTED, each) for place, each in enumerate(actions, 1))
    options = attribute(3 | NESTED, listed)
    return TRAFFIC.pack(0, index, 1, parent, 0) + attribute(1, b"flower\0") + attribute(2 | NESTED, options)


def mirred(number: int, device: int) -> bytes:
    return action("mirred", attribute(2, struct.pack("=IIiiiiI", number, 0, 4, 1, 1, 1, device)))


def test_a_rate_that_is_policed_is_taken_with_a_table() -> None:
    rate, none = struct.pack("=BBHhHI", 0, 1, 0, 0, 0, 125000), bytes(12)
    told = struct.pack("=IiIII", 1, 2, 0, 400, 2048) + rate + none + struct.pack("=iiI", 1, 1, 0)
    request = shaping._traffic(
        Stage.FILTER, 44, filtered(action("police", attribute(1, told), attribute(6, bytes(32))))
    )
    (found,) = shaping.actions_of(Told(request.data, 36))
    assert found.value(4) == b""  # its statistics
    options = found.inside(2)
    assert (options.value(1)[20], options.value(2)) == (3, bytes(1024))
    assert 3 not in options  # there is no peak rate


def test_filters_of_a_block_come_with_it() -> None:
    shared = (
        TRAFFIC.pack(0, OURS, CLSACT, INGRESS, 0)
        + attribute(1, b"clsact\0")
        + attribute(13, struct.pack("=I", 22))
    )
    of_ours, of_others = filtered(index=-1, parent=22), filtered(index=-1, parent=23)
    found = list(shaping.shaping(Dumps(qdiscs=[shared], filters=[of_ours, of_ours, of_others]), GONE))
    assert [each.stage for each in found] == [Stage.CLASS, Stage.FILTER]
    assert Told(found[0].data, 36).number(13) == 22


def test_an_action_of_others_gets_its_device_again() -> None:
    """One of a filter that comes back itself is made with it."""
    told = bytes(4) + attribute(
        1,
        b"".join(
            attribute(n | NESTED, each)
            for n, each in ((1, mirred(7, OURS)), (2, mirred(8, 9)), (3, mirred(9, OURS)))
        ),
    )
    dumps = Dumps(filters=[filtered(mirred(9, OURS))], mirrored=[told])
    __, found = shaping.shaping(dumps, GONE)
    assert (found.stage, found.what) == (Stage.ACTION, "the action mirred 7 to it")
    (place,) = found.places
    assert struct.unpack_from("=I", found.data, place) == (OURS,)
    assert struct.unpack_from("=HH", found.data, 4) == (
        48,
        0x1 | 0x400 | 0x100,
    )  # RTM_NEWACTION; create, replace


@pytest.mark.parametrize(("told", "wanted"), [((127, 128), (0, 0)), ((100, 64), (100, 64))])
def test_a_number_of_flows_that_sfq_has_and_does_not_take(
    told: tuple[int, int], wanted: tuple[int, int]
) -> None:
    """The options of sfq are no attributes."""
    parts = struct.Struct("=IiIIII")
    options = attribute(2, parts.pack(1514, 10, told[0], 1024, told[1], 127))
    body = TRAFFIC.pack(0, OURS, 0x100000, 0x10010, 0) + attribute(1, b"sfq\0") + options
    request = shaping._traffic(Stage.CLASS, 36, body)
    assert Told(request.data, 36).value(2) == parts.pack(1514, 10, wanted[0], 1024, wanted[1], 127)


def test_programs_that_the_kernel_does_not_tell() -> None:
    """Of cBPF it tells the instructions, and of a filter that is only a chain's template nothing at all."""

    def a_filter(index: int, kind: bytes, *options: bytes) -> bytes:
        head = struct.pack("=BxxxiIII", 0, index, 1, 0, 0) + attribute(1, kind + b"\0")
        return head + attribute(2, b"".join(options))

    found = shaping.untold(
        [
            a_filter(5, b"bpf", attribute(7, b"cls_main\0"), attribute(11, bytes(4))),
            a_filter(5, b"bpf", attribute(11, bytes(4))),
            a_filter(6, b"bpf", attribute(4, bytes(2)), attribute(5, bytes(8))),
            a_filter(7, b"flower", attribute(7, b"no name\0")),
            a_filter(8, b"bpf"),
        ]
    )
    assert found == {5: ["cls_main", "without a name"]}
