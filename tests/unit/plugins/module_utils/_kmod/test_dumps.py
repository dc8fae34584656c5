# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a namespace is asked: everything, and no more of a kernel than it knows."""

from __future__ import annotations

import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import dumps
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import MESSAGE

TRAFFIC = struct.Struct("=BxxxiIII")
ROOT, INGRESS = 0xFFFFFFFF, 0xFFFFFFF1


class Kernel:
    """Answers by what is asked for, and notes that; all but its routes change meanwhile."""

    def __init__(self, *unknown: int) -> None:
        self.unknown = unknown
        self.whole = False
        self.asked: list[tuple[int, ...]] = []

    def dump(self, request: bytes, what: str) -> list[tuple[int, bytes]]:
        (kind,) = struct.unpack_from("=H", request, 4)
        self.whole = kind == 26
        if kind in self.unknown:
            raise HotUpgradeError(what, "EOPNOTSUPP", "")
        if kind == 38:
            htb, clsact = TRAFFIC.pack(0, 5, 0x10000, ROOT, 0), TRAFFIC.pack(0, 6, 0xFFFF0000, INGRESS, 0)
            return [(36, htb), (36, clsact), (36, TRAFFIC.pack(0, 7, 0, ROOT, 0))]
        if kind in (42, 46):
            __, index, __, parent, __ = TRAFFIC.unpack_from(request, MESSAGE.size)
            self.asked.append((kind, index, parent))
        if kind == 42:
            return [(40, TRAFFIC.pack(0, 5, 0x10010, 0x10000, 0))]
        return [(0, bytes([kind]))]


def test_all_is_asked_for() -> None:
    kernel = Kernel()
    found = dumps.dump(t.cast(t.Any, kernel), ())
    assert (found.addresses, found.routes, found.rules) == ([bytes([22])], [bytes([26])], [bytes([34])])
    assert found.every_route
    assert (found.nexthops, found.groups, found.vlans) == ([bytes([106])], [bytes([86])], [bytes([18])])
    assert (len(found.neighbours), found.mirrored) == (3, [bytes([50])])
    # Classes of what has any, and filters of what was set.
    places = [(5, 0x10000), (6, 0xFFFFFFF2), (6, 0xFFFFFFF3), (5, 0x10010)]
    assert kernel.asked == [(42, 5, 0), *((46, *place) for place in places)]


def test_filters_of_some_devices() -> None:
    kernel = Kernel()
    assert dumps.filters(t.cast(t.Any, kernel), {6, 7}) == [bytes([46])] * 2
    assert kernel.asked == [(46, 6, 0xFFFFFFF2), (46, 6, 0xFFFFFFF3)]


def test_what_a_kernel_does_not_know_is_not_there() -> None:
    found = dumps.dump(t.cast(t.Any, Kernel(106, 86, 50)), ())
    assert (found.nexthops, found.groups, found.mirrored) == ([], [], [])
