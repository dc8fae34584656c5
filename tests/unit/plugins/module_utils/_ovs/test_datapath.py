# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports and megaflows are read byte for byte as the kernel tells them."""

from __future__ import annotations

import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import datapath
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import KernelFlow, Vport
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import netlink


class Kernel:
    """A datapath with the number 4: the messages of its dumps by family."""

    def __init__(self, **dumps: list[dict[int, bytes]]) -> None:
        self.dumps = dumps
        self.families = {"ovs_datapath": 30, "ovs_vport": 31, "ovs_flow": 32}

    def family(self, name: str) -> int:
        return self.families[name]

    def ask(self, request: bytes, _what: str) -> bytes:
        assert netlink.attributes(request, 16 + 4 + 4) == {1: b"ovs-system\0"}
        return bytes(4) + struct.pack("=i", 4)

    def dump(self, request: bytes, _what: str) -> list[tuple[int, bytes]]:
        __, family, __, __, __ = netlink.MESSAGE.unpack_from(request)
        assert struct.unpack_from("=i", request, 20) == (4,)
        found = self.dumps["vport" if family == 31 else "flow"]
        return [(family, bytes(4) + struct.pack("=i", 4) + netlink.joined(each)) for each in found]


def number(value: int) -> bytes:
    return struct.pack("=I", value)


def test_ports_are_told_by_number() -> None:
    ports = [
        {1: number(2), 2: number(1), 3: b"p1\0", 8: number(6)},
        {1: number(3), 2: number(2), 3: b"in1\0", 8: number(6), 9: number(2)},  # in another network namespace
        {1: number(0), 2: number(2), 3: b"lo\0", 4: b"what"},  # an old kernel: no number of the device
    ]
    reader = datapath.Reader.of(t.cast(t.Any, Kernel(vport=ports)))
    assert reader.ports() == [
        Vport(0, 2, "lo", 1, b"what"),
        Vport(2, 1, "p1", 6),
        Vport(3, 2, "in1", 6, netns=2),
    ]


def test_where_upcalls_of_ports_go_is_told_and_set() -> None:
    ports = [{1: number(2), 5: number(77) + number(78)}, {1: number(3)}]
    reader = datapath.Reader.of(t.cast(t.Any, Kernel(vport=ports)))
    assert reader.upcall_sockets() == {2: number(77) + number(78), 3: b""}
    (request,) = reader.with_upcall_sockets({2: number(77)})
    assert netlink.MESSAGE.unpack_from(request)[1] == 31
    assert (request[16], struct.unpack_from("=i", request, 20)) == (4, (4,))
    assert netlink.attributes(request, 24) == {1: number(2), 5: number(77)}


def test_megaflows_are_told_busiest_first() -> None:
    flows = [
        {1: b"key1", 2: b"acts", 7: b"mask", 9: b"ufid", 3: struct.pack("=QQ", 3, 300)},
        {1: b"key2", 7: b"mask", 3: struct.pack("=QQ", 5, 1)},
        {1: b"key3"},  # never used, dropped
    ]
    reader = datapath.Reader.of(t.cast(t.Any, Kernel(flow=flows)))
    assert reader.megaflows() == [
        KernelFlow(b"key2", b"mask", b"", 5),
        KernelFlow(b"key1", b"mask", b"acts", 3, b"ufid"),
        KernelFlow(b"key3", b"", b""),
    ]
