# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The datapath is asked for and made again by families whose numbers are another module's afterwards."""

from __future__ import annotations

import struct
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import kernel as kmod
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import Told
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import KernelFlow, Vport
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import netlink

FLOW = KernelFlow(b"key1", b"mask", netlink.attribute(1, b"\3\0\0\0"), 7, b"ufid")


class Socket:
    """Families by name, answers of dumps by family; ``sent`` is every request without its header: (family, command, body)."""

    def __init__(self, first: int = 30) -> None:
        self.first = first
        self.answer = b""
        self.sent: list[tuple[int, int, bytes]] = []

    def family(self, name: str) -> int:
        return self.first + ("ovs_datapath", "ovs_vport", "ovs_flow", "ovs_packet", "ovs_ct_limit").index(
            name
        )

    def ask(self, request: bytes, _what: str) -> bytes:
        self._note(request)
        return self.answer

    def dump(self, request: bytes, _what: str) -> list[tuple[int, bytes]]:
        self._note(request)
        told = netlink.joined({1: b"ovs-system\0", 5: b"\x09\0\0\0", 7: b"\0\1\0\0"})
        return [(self.first, bytes(4) + struct.pack("=i", 4) + told)]

    def transact(self, prepared: t.Sequence[bytes]) -> list[netlink.Refusal]:
        for batch in prepared:
            self._note(batch)
        return []

    def _note(self, data: bytes) -> None:
        offset = 0
        while offset < len(data):
            length, kind, __, __, __ = netlink.MESSAGE.unpack_from(data, offset)
            self.sent.append((kind, data[offset + 16], data[offset + 20 : offset + length]))
            offset += length


def a_kernel(socket: Socket) -> kmod.Kernel:
    return kmod.Kernel(t.cast(netlink.Netlink, socket))


def test_a_datapath_is_made_as_it_was() -> None:
    socket = Socket()
    kernel = a_kernel(socket)
    (found,) = kernel.datapaths()
    assert found == kmod.Datapath("ovs-system", 4, b"\x09\0\0\0", b"\0\1\0\0")
    kernel.make(found)
    family, command, body = socket.sent[-1]
    assert (family, command, body[:4]) == (30, 1, bytes(4))
    assert netlink.attributes(body, 4) == {
        1: b"ovs-system\0",
        2: bytes(4),
        5: b"\x09\0\0\0",
        7: b"\0\1\0\0",
        9: b"\4\0\0\0",
    }


def test_families_are_asked_for_again() -> None:
    socket = Socket()
    kernel = a_kernel(socket)
    kernel.delete(4)
    socket.first = 40
    kernel.forget()
    kernel.delete_ports(4, [3, 2])
    assert [(family, command) for family, command, __ in socket.sent] == [(30, 2), (41, 2), (41, 2)]
    assert [netlink.attributes(body, 4) for __, __, body in socket.sent[1:]] == [
        {1: b"\3\0\0\0"},
        {1: b"\2\0\0\0"},
    ]


def test_what_was_prepared_gets_the_new_family() -> None:
    socket = Socket()
    prepared = kmod.prepared_flows(4, [FLOW] * 300)
    a_kernel(socket).add_flows(prepared)
    assert len(socket.sent) == 300
    assert set(socket.sent) == {(32, 1, struct.pack("=i", 4) + kmod.flow_body(FLOW))}


def test_a_flow_keeps_what_it_is_known_by() -> None:
    told = Told(kmod.flow_body(FLOW))
    assert (told.value(1), told.value(2), told.value(7), told.value(9)) == (
        FLOW.key,
        FLOW.actions,
        FLOW.mask,
        FLOW.ufid,
    )
    exact = Told(kmod.flow_body(KernelFlow(b"key1", b"", b"")))
    assert 7 not in exact
    assert 9 not in exact


def test_an_internal_port_keeps_its_ifindex_and_a_device_has_its_own() -> None:
    internal = kmod.port_body(Vport(3, 2, "in1", 7), 7)
    assert netlink.attributes(internal) == {
        1: b"\3\0\0\0",
        2: b"\2\0\0\0",
        3: b"in1\0",
        5: bytes(4),
        8: b"\7\0\0\0",
    }
    assert 8 not in netlink.attributes(kmod.port_body(Vport(3, 1, "p1", 7), 7))
    assert netlink.attributes(kmod.port_body(Vport(3, 4, "vxlan", 7, b"opts"), None))[4] == b"opts"


def test_a_packet_is_forwarded_and_the_rest_of_its_flow_follows() -> None:
    socket = Socket()
    a_kernel(socket).forward(4, b"packet__", b"key1", [2, 5])
    (packet, flow) = socket.sent
    actions = netlink.attribute(1, b"\2\0\0\0") + netlink.attribute(1, b"\5\0\0\0")
    assert packet[:2] == (33, 3)
    assert netlink.attributes(packet[2], 4) == {1: b"packet__", 2: b"key1", 3: actions}
    assert flow == (32, 1, struct.pack("=i", 4) + kmod.flow_body(KernelFlow(b"key1", b"", actions)))


def test_upcalls_go_to_who_answers_them() -> None:
    socket = Socket()
    kernel = a_kernel(socket)
    (found,) = kernel.datapaths()
    kernel.make(found, 77)
    told = netlink.attributes(socket.sent[-1][2], 4)
    assert told[2] == struct.pack("=I", 77)
    assert set(struct.iter_unpack("=I", told[8])) == {(77,)}
    assert netlink.attributes(kmod.port_body(Vport(3, 1, "p1", 7), 7, 77))[5] == struct.pack("=I", 77)


def test_flows_that_want_an_ovs_vswitchd() -> None:
    assert not kmod.asks_userspace(FLOW)
    assert kmod.asks_userspace(KernelFlow(b"", b"", FLOW.actions + netlink.attribute(2 | 0x8000, b"")))


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=20), st.integers(0, 0xFFFF))
def test_only_the_family_changes(bodies: list[bytes], number: int) -> None:
    (batch,) = netlink.batches([netlink.message(7, body) for body in bodies])
    found, before = kmod.retyped(batch, number), list(netlink.parts(batch))
    assert [(number, *part[1:]) for part in before] == list(netlink.parts(found))


def test_limits_of_zones_are_set_as_they_were() -> None:
    """The first one is that of all zones without their own: 0 where there is none."""
    socket = Socket()
    told = struct.pack("=iIIiIIiII", -1, 0, 0, 7, 1000, 12, 9, 0, 3)
    socket.answer = bytes(8) + netlink.attribute(1, told)
    kernel = a_kernel(socket)
    limits = kernel.zone_limits()
    assert socket.sent[-1][:2] == (34, 3)
    assert struct.unpack("=iIIiII", limits) == (7, 1000, 0, 9, 0, 0)
    assert kernel.limit_zones(limits) == []
    family, command, body = socket.sent[-1]
    assert (family, command, netlink.attributes(body, 4)) == (34, 1, {1: limits})
    socket.answer = bytes(8) + netlink.attribute(1, struct.pack("=iII", -1, 5, 0))
    assert struct.unpack("=iII", kernel.zone_limits()) == (-1, 5, 0)


def test_a_kernel_without_limits_of_zones(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_request: bytes, what: str) -> bytes:
        raise HotUpgradeError(what, "EMSGSIZE")

    socket = Socket()
    monkeypatch.setattr(socket, "ask", refuse)
    assert a_kernel(socket).zone_limits() == b""
