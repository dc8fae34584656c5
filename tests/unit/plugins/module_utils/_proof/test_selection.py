# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups as ovs-vswitchd 3.5 describes them, and the tables that each version makes of their buckets."""

from __future__ import annotations

import collections
import struct

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof.selection import (
    Group,
    Version,
    announce,
    groups,
    larger,
    moved,
    table,
)

OLD, NEW = (3, 1, 0), (4, 0, 0)


def entry_15(kind: int, number: int, weights: list[int | None], method: str | None) -> bytes:
    """``struct ofp15_group_desc_stats``; a weight of None is not written, as for the default."""
    buckets = b""
    for weight in weights:
        actions = struct.pack("!HHIH6x", 0, 16, 2, 0)
        properties = b"" if weight is None else struct.pack("!HHHxx", 0, 8, weight)
        length = 8 + len(actions) + len(properties)
        buckets += struct.pack("!HHI", length, len(actions), 0) + actions + properties
    properties = b""
    if method is not None:
        field = bytes.fromhex("80001604ffffffff")
        head = struct.pack("!HHII4x16sQ", 0xFFFF, 40 + len(field), 0x154D, 1, method.encode(), 0)
        properties = head + field
    whole = 16 + len(buckets) + len(properties)
    return struct.pack("!HBxIH6x", whole, kind, number, len(buckets)) + buckets + properties


def reply(version: int, *entries: bytes) -> bytes:
    body = b"".join(entries)
    return wire.message(version, 19, 1, struct.pack("!HH4x", 7, 0) + body)


@pytest.mark.parametrize("method", ["", "dp_hash", "hash"])
def test_groups_of_openflow_15(method: str) -> None:
    data = reply(
        wire.OF15,
        entry_15(0, 1, [None], None),
        entry_15(1, 5, [100, None, 3], method or None),
    )
    assert groups("br0", data) == [Group("br0", 5, method, (100, 1, 3))]


def test_groups_of_openflow_13() -> None:
    buckets = b"".join(struct.pack("!HHII4xHHIH6x", 32, weight, 0, 0, 0, 16, 2, 0) for weight in (7, 9))
    data = reply(wire.OF13, struct.pack("!HBxI", 8 + len(buckets), 1, 4) + buckets)
    assert groups("br0", data) == [Group("br0", 4, "", (7, 9))]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ((2, 15, 0), False), ((3, 0, 8), False), ((3, 1, 5), False), ((3, 1, 6), True), ((3, 2, 3), False), ((3, 2, 4), True),
        ((3, 3, 2), False), ((3, 3, 3), True), ((3, 4, 0), False), ((3, 4, 1), True), ((3, 5, 0), True), ((4, 0, 0), True),
    ],
)  # fmt: skip
def test_which_versions_have_the_larger_tables(version: Version, expected: bool) -> None:
    assert larger(version) is expected


@pytest.mark.parametrize(
    ("weights", "before", "after"),
    [
        ([1] * 2, 16, 16),
        ([1] * 4, 16, 16),
        ([1] * 7, 16, 32),
        ([1] * 20, 32, 128),
        ([1] * 64, 64, 256),
        ([100, 1], 128, 128),
    ],
)
def test_the_number_of_slots(weights: list[int], before: int, after: int) -> None:
    assert (len(table(weights, OLD)), len(table(weights, NEW))) == (before, after)


def test_slots_are_shared_out_by_weight() -> None:
    hits = collections.Counter(table([1, 2, 5], NEW))
    assert (hits[0], hits[1], hits[2]) == (2, 4, 10)
    assert 1 not in table([1, 0, 3], NEW)
    # Webster's method, not another one that favours the large.
    assert table([5, 1, 1], NEW)[:7] == (0, 0, 0, 1, 2, 0, 0)


@pytest.mark.parametrize("weights", [[], [0, 0], [1000, 1], [1] * 257])
def test_groups_that_have_no_table(weights: list[int]) -> None:
    assert table(weights, OLD) == table(weights, NEW) == ()


def test_what_moves() -> None:
    seven = Group("br0", 5, "", (1,) * 7)
    assert moved(seven, OLD, NEW) == 128
    assert moved(seven, NEW, OLD) == 128
    assert moved(seven, (3, 5, 0), NEW) == 0
    assert moved(Group("br0", 5, "hash", (1,) * 7), OLD, NEW) == 0
    assert moved(Group("br0", 5, "dp_hash", (1,) * 4), OLD, NEW) == 0


def test_what_the_plan_says() -> None:
    found = [Group("br0", number, "dp_hash", (1,) * 7) for number in range(5)]
    [text] = announce(found, OLD, NEW)
    for part in (
        "about 50 of 100 through group 0 of bridge br0 (7 buckets)",
        "128 of 256",
        "2 more groups",
        "3.2.4",
        "ct()",
    ):
        assert part in text
    assert list(announce(found, (3, 5, 0), NEW)) == []
