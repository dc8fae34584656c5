# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on a device comes back with it, and nothing that the kernel makes by itself."""

from __future__ import annotations

import socket
import struct

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import belongings, links
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import (
    Request,
    Stage,
    Told,
    numbered,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import MESSAGE, attribute

OURS, OTHERS = 5, 9
OWN = b"\2\0\0\0\0\5"
ADDRESS, NEIGHBOUR = struct.Struct("=BBBBI"), struct.Struct("=BxxxiHBB")
PERMANENT, STATIC, REACHABLE, DELAY, FAILED = 0x80, 0x40, 0x02, 0x08, 0x20
SELF, MASTER, EXTERNAL = 0x02, 0x04, 0x10


def address(value: str, index: int = OURS, flags: int = 0x80) -> bytes:
    family = socket.AF_INET6 if ":" in value else socket.AF_INET
    body = ADDRESS.pack(family, 24, flags & 0xFF, 0, index) + attribute(1, socket.inet_pton(family, value))
    return body + numbered(8, flags) + attribute(6, struct.pack("=IIII", 4000, 5000, 1, 2))


def neighbours(*bodies: bytes) -> list[Request]:
    device = links.parse(struct.pack("=BxHiII", 0, 0, OURS, 1, 0) + attribute(1, OWN))
    return list(belongings.neighbours(bodies, [device], {OURS}))


def test_an_ipv4_address_is_said_again_with_its_lifetimes() -> None:
    body = address("192.0.2.1")
    (found,) = belongings.addresses([body, address("192.0.2.9", OTHERS)], {OURS})
    assert found.data[16:] == body
    assert (found.stage, found.what) == (Stage.ADDRESS, "the address 192.0.2.1/24")


def test_an_ipv6_address_serves_at_once_and_is_as_it_was_afterwards() -> None:
    body = address("2001:db8::1", flags=0x280)
    first, settled = belongings.addresses([body], {OURS})
    assert Told(first.data, 24).number(8) == 0x282  # IFA_F_NODAD
    assert first.data[18] == 0x82
    assert (settled.stage, settled.data[16:]) == (Stage.SETTLE, body)


def test_the_newest_address_of_ipv6_is_told_first_and_so_given_back_last() -> None:
    """A host speaks as the first one that fits."""
    told = [address("2001:db8::2", flags=0x82), address("2001:db8::1", flags=0x82)]
    others = [address("192.0.2.1"), address("192.0.2.2")]
    found = belongings.addresses([*others, *told], {OURS})
    words = [f"the address {each}/24" for each in ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2")]
    assert [each.what for each in found] == words


@pytest.mark.parametrize("flags", [0xC8, 0x88, 0xC0])
def test_an_address_that_somebody_else_has_does_not_serve_afterwards(flags: int) -> None:
    """Tentative and dadfailed: the kernel asks again, and finds the same."""
    body = address("2001:db8::1", flags=flags)
    (found,) = belongings.addresses([body], {OURS})
    assert (found.stage, found.data[16:]) == (Stage.ADDRESS, body)
    assert not list(belongings.addresses([address("2001:db8::1", flags=flags | 0x01)], {OURS}))


def test_temporary_addresses_are_the_kernels() -> None:
    assert not list(belongings.addresses([address("2001:db8::1", flags=0x01)], {OURS}))


def test_a_secondary_ipv4_address_is_not_taken_for_a_temporary_one() -> None:
    assert list(belongings.addresses([address("192.0.2.1", flags=0x81)], {OURS}))


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
    assert known.data[16 + 8] == REACHABLE
    assert proxy.data[16 + 10] == 0x08


def test_one_that_is_asked_for_is_asked_for_again() -> None:
    (found,) = neighbours(neighbour(DELAY))
    assert struct.unpack_from("=H", found.data, 24) == (0x04,)


def test_neighbours_that_a_program_keeps_and_that_the_kernel_need_not_ask_for() -> None:
    """FRR enters those of an EVPN so; a managed one comes back whether or not it answers just now."""
    group = neighbour(STATIC, mac=b"\1\0\x5e\0\0\1")  # the kernel makes it by itself
    managed = neighbour(FAILED) + numbered(15, 1)
    bodies = [neighbour(STATIC, EXTERNAL), neighbour(STATIC), group, managed, neighbour(0, EXTERNAL)]
    assert [NEIGHBOUR.unpack_from(each.data, 16)[2:4] for each in neighbours(*bodies)] == [
        (STATIC, EXTERNAL),
        (STATIC, 0),
        (0, 0),
        (0, EXTERNAL),
    ]


def test_an_entry_of_a_bridge_that_a_program_keeps_is_one_of_its_master() -> None:
    """The kernel tells no NTF_MASTER, and takes it for granted only where there is no other flag (rtnl_fdb_add)."""
    mac, sticky = b"\2\0\0\0\0\1", 0x40
    found = neighbours(fdb(mac, REACHABLE, EXTERNAL), fdb(mac, STATIC, sticky), fdb(mac, REACHABLE, 0))
    assert [NEIGHBOUR.unpack_from(each.data, 16)[2:4] for each in found] == [
        (REACHABLE, EXTERNAL | MASTER),
        (STATIC, sticky | MASTER),
    ]


def test_a_bridge_that_loses_its_address_with_a_port_loses_no_neighbours() -> None:
    """Nor does what is on it, or a bond that is in it; what is given back waits for the last port."""
    bridge, on_it, veth, bond = 11, 12, 13, 14

    def device(index: int, master: int = 0, below: int = 0) -> links.Link:
        more = numbered(10, master) + (numbered(5, below) if below else b"")
        return links.parse(struct.pack("=BxHiII", 0, 0, index, 1, 0) + more)

    some = [device(OURS, bond), device(bond, bridge), device(bridge), device(on_it, below=bridge)]
    some += [device(veth, below=OTHERS), device(OTHERS)]
    bodies = [neighbour(PERMANENT, index=each) for each in (OURS, bond, bridge, on_it, veth, OTHERS)]
    bodies.append(neighbour(PERMANENT, SELF, socket.AF_BRIDGE, index=bridge))
    found = list(belongings.neighbours_of_masters(bodies, some, {OURS: 0}))
    assert [(each.device, each.stage) for each in found] == [
        (each, Stage.PROPERTY) for each in (bond, bridge, on_it)
    ]


def fdb(mac: bytes, state: int = PERMANENT, flags: int = SELF, *more: bytes) -> bytes:
    return neighbour(state, flags, socket.AF_BRIDGE, mac) + b"".join(more)


def test_fdb_entries_that_somebody_has_set() -> None:
    mac, group, vlan = b"\2\0\0\0\0\1", b"\1\0\x5e\0\0\1", attribute(5, struct.pack("=H", 20))
    found = neighbours(
        fdb(mac),
        fdb(group),  # the device listens to it
        fdb(mac, REACHABLE, MASTER),  # learned by a bridge
        fdb(OWN, PERMANENT, MASTER, vlan),  # the bridge enters it for each VLAN
        fdb(mac, STATIC, MASTER, vlan),
    )
    assert [each.what for each in found] == [
        "the neighbour 02:00:00:00:00:01",
        "the neighbour 02:00:00:00:00:01 of VLAN 20",
    ]
    assert Told(found[1].data, 28).value(5) == struct.pack("=H", 20)


def test_one_address_for_several_destinations_of_a_vxlan() -> None:
    """A second one is added; to replace the first is refused (vxlan_fdb_update_existing in drivers/net/vxlan)."""
    there, through = attribute(1, b"\xc0\0\2\7"), numbered(8, 4)
    broadcast, plain = neighbours(
        fdb(bytes(6), PERMANENT, SELF, there, through), fdb(b"\2\0\0\0\0\1", PERMANENT, SELF, there)
    )
    assert MESSAGE.unpack_from(broadcast.data)[2] == 0x1 | 0x400 | 0x800  # create, append
    assert MESSAGE.unpack_from(plain.data)[2] == 0x1 | 0x400 | 0x100  # create, replace
    (place,) = broadcast.places
    assert struct.unpack_from("=I", broadcast.data, place) == (4,)
    assert plain.places == ()
