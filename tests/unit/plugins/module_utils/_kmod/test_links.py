# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices are made again as they were; what the kernel tells and does not take is left out."""

from __future__ import annotations

import struct

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import links
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import Stage, Told, numbered
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    MESSAGE,
    NESTED,
    attribute,
)

HEADER = struct.Struct("=BxHiII")
UP, RUNNING, MULTICAST = 0x1, 0x40, 0x1000


def link(kind: str = "", data: bytes = b"", more: bytes = b"", flags: int = UP | RUNNING) -> links.Link:
    info = attribute(1, kind.encode() + b"\0") + attribute(2 | NESTED, data) if kind else b""
    body = HEADER.pack(0, 1, 7, flags, 0) + attribute(3, b"dev7\0") + numbered(5, 3) + more
    return links.parse(body + (attribute(18 | NESTED, info) if kind else b""))


def settings(found: links.Link) -> dict[str, bytes]:
    return {request.what: request.data[16:] for request in links.settings(found)}


def test_a_device_as_it_is_told() -> None:
    counts = attribute(23, struct.pack("=QQQ", 3, 4, 5))
    found = link("vlan", more=counts + numbered(37, 2))
    assert (found.index, found.name, found.kind, found.below, found.below_netns) == (7, "dev7", "vlan", 3, 2)
    assert found.packets == 7
    assert (link().kind, link().below_netns, link().packets) == ("", None, 0)


def test_a_vlan_is_made_with_the_flags_that_there_are() -> None:
    told = (
        attribute(5, b"\x81\0")
        + attribute(1, struct.pack("=H", 30))
        + attribute(2, struct.pack("=II", 1, 0xFFFFFFFF))
    )
    made = links.made(link("vlan", told))
    assert MESSAGE.unpack_from(made.data)[1:3] == (16, 0x601)  # RTM_NEWLINK; request, create, exclusive
    assert HEADER.unpack_from(made.data, 16) == (0, 0, 7, 0, 0)
    attributes = Told(made.data, 32)
    assert (attributes.text(3), attributes.number(5)) == ("dev7", 3)
    info = attributes.inside(18)
    assert info.text(1) == "vlan"
    data = info.inside(2)
    assert (data.value(1), data.value(2)) == (struct.pack("=H", 30), struct.pack("=II", 1, 0x1F))
    assert (made.stage, made.what) == (Stage.CHILD, "the vlan")


def test_what_is_only_told_of_a_macvlan_is_left_out() -> None:
    told = numbered(1, 4) + numbered(6, 0) + numbered(8, 1000)
    data = Told(links.made(link("macvlan", told)).data, 32).inside(18).inside(2)
    assert data.without() == numbered(1, 4)


def test_the_addresses_that_a_macvlan_takes_packets_from_are_set() -> None:
    """The kernel tells them without what is to be done with them, and ignores them so (macvlan_changelink_sources)."""
    listed = attribute(5 | NESTED, attribute(4, b"\2\0\0\0\0\1"))
    data = Told(links.made(link("macvlan", numbered(1, 16) + listed)).data, 32).inside(18).inside(2)
    assert (data.number(3), len(data.value(5))) == (3, 12)
    assert 3 not in Told(links.made(link("macvlan", numbered(1, 4))).data, 32).inside(18).inside(2)


def test_it_has_as_many_queues_as_before() -> None:
    made = Told(links.made(link("macvtap", more=numbered(31, 4) + numbered(32, 2))).data, 32)
    assert (made.number(31), made.number(32)) == (4, 2)


def test_what_a_program_keeps_down_is_so_before_it_is_up() -> None:
    """A VRRP that is not the master does it: two who are up have one address."""
    reasons = attribute(55 | NESTED, numbered(2, 8))
    told = Told(settings(link(more=attribute(39, b"\1") + reasons))["the settings"], 16)
    assert (told.value(39), told.inside(55).number(2)) == (b"\1", 8)
    assert 39 not in Told(settings(link(more=attribute(39, b"\0")))["the settings"], 16)


def test_it_gets_what_it_had_before_it_is_up() -> None:
    more = (
        attribute(1, b"\2\0\0\0\0\7")
        + numbered(4, 1400)
        + numbered(13, 77)
        + numbered(27, 5)
        + attribute(20, b"an alias\0")
    )
    requests = list(links.settings(link(more=more + numbered(10, 9), flags=UP | RUNNING | MULTICAST)))
    assert [request.stage for request in requests] == [Stage.STATE, Stage.MASTER, Stage.UP]
    found = settings(link(more=more + numbered(10, 9)))
    plain = HEADER.pack(0, 0, 7, 0, 0)
    assert Told(found["the settings"], 16).number(4) == 1400
    assert len(found["the settings"]) == len(plain + more)
    assert found["the master"] == plain + numbered(10, 9)
    assert found["the flags"] == HEADER.pack(0, 0, 7, UP, 0x1381)


def test_other_names_and_what_a_bond_tells_of_a_member() -> None:
    names = attribute(53, b"another\0")
    slave = attribute(4, b"bond\0") + attribute(5, numbered(1, 2))
    more = numbered(10, 9) + attribute(18, slave) + attribute(52, names)
    found = settings(link(more=more))
    assert found["the other names"][16:] == attribute(52 | NESTED, names)
    assert "the place in its master" not in found  # that it is the active one is no setting
    in_a_vrf = numbered(10, 9) + attribute(18, attribute(4, b"vrf\0") + attribute(5, numbered(1, 2)))
    assert "the place in its master" not in settings(link(more=in_a_vrf))


def test_what_a_bridge_lets_set_of_its_port_comes_before_the_port_is_up() -> None:
    isolated, cost = attribute(33, b"\1"), numbered(3, 77)
    told = attribute(1, b"\3") + cost + attribute(13, bytes(8)) + isolated + attribute(38, bytes(4))
    more = numbered(10, 9) + attribute(18, attribute(4, b"bridge\0") + attribute(5, told))
    stages = {request.what: request.stage for request in links.settings(link(more=more))}
    assert stages["the master"] < stages["the place in its master"] < stages["the flags"]
    place = Told(settings(link(more=more))["the place in its master"], 16).inside(18)
    assert (place.text(4), place.inside(5).without()) == ("bridge", cost + isolated)


def test_a_vxlan_is_on_what_its_own_options_name() -> None:
    on, no, untold = numbered(3, 4), attribute(22, b"\0"), attribute(28, b"\0")
    info = attribute(1, b"vxlan\0") + attribute(2, numbered(1, 66) + on + no + untold)
    found = links.parse(HEADER.pack(0, 1, 7, UP, 0) + attribute(3, b"vx6\0") + attribute(18, info))
    assert (found.kind in links.ON_OTHERS, found.below) == (True, 4)
    made = links.made(found)
    assert Told(made.data, 32).inside(18).inside(2).without() == numbered(1, 66) + on
    (place,) = made.places
    assert struct.unpack_from("=I", made.data, place) == (4,)
    inherits = attribute(28, b"\1") + attribute(22, b"\1")
    told = Told(links.made(link("vxlan", inherits)).data, 32).inside(18).inside(2)
    assert told.without() == attribute(28, b"") + attribute(22, b"\1")


def test_an_ipvlan_has_no_address_of_its_own() -> None:
    theirs = attribute(1, b"\2\0\0\0\0\7")
    assert 1 not in Told(settings(link("ipvlan", more=theirs))["the settings"], 16)
    assert 1 not in Told(links.made(link("ipvlan", numbered(1, 0), theirs)).data, 32)
    assert 1 in Told(links.made(link("macvlan", numbered(1, 4), theirs)).data, 32)


def test_a_bond_that_is_empty_meanwhile_gets_its_address_again() -> None:
    mac = attribute(1, b"\2bonds")

    def device(index: int, master: int = 0, kind: str = "") -> links.Link:
        info = attribute(18, attribute(1, kind.encode() + b"\0"))
        name = attribute(3, b"dev%d\0" % index)
        return links.parse(HEADER.pack(0, 1, index, UP, 0) + name + mac + numbered(10, master) + info)

    some = [device(5, 9), device(6, 9), device(9, kind="bond"), device(7, 8), device(8, kind="bridge")]
    (found,) = links.bonds(some, {5: 0, 6: 1, 7: 0})
    assert (found.device, found.stage, found.what) == (6, Stage.PLACE, "the address of dev9, the master")
    assert found.data[16:] == HEADER.pack(0, 0, 9, 0, 0) + mac
    assert not list(links.bonds(some, {5: 0, 7: 0}))  # it has another member


def test_what_is_on_a_bridge_has_its_mtu_again() -> None:
    """The bridge has that of its ports, and gets it back by itself; the lower ones come first, since they limit the others."""

    def device(index: int, kind: str, *more: bytes) -> links.Link:
        info = attribute(18, attribute(1, kind.encode() + b"\0"))
        body = HEADER.pack(0, 1, index, UP, 0) + attribute(3, b"dev%d\0" % index) + numbered(4, 9000)
        return links.parse(body + info + b"".join(more))

    port, bridge = device(5, "", numbered(10, 9)), device(9, "bridge")
    on_it, on_that = device(8, "macvlan", numbered(5, 9)), device(7, "vlan", numbered(5, 8))
    other = device(6, "vlan", numbered(5, 4))
    found = list(links.sizes_on_masters([port, other, on_that, on_it, bridge], {5: 0}))
    assert [(each.device, each.stage) for each in found] == [(8, Stage.PROPERTY), (7, Stage.PROPERTY)]
    assert found[0].data[16:] == HEADER.pack(0, 0, 8, 0, 0) + numbered(4, 9000)


def test_the_member_that_was_active_is_so_again() -> None:
    info = attribute(18, attribute(1, b"bond\0") + attribute(2, numbered(1, 1) + numbered(2, 5)))
    bond = links.parse(HEADER.pack(0, 1, 9, UP, 0) + attribute(3, b"bond9\0") + info)
    others = links.parse(HEADER.pack(0, 1, 6, UP, 0) + attribute(3, b"p1\0") + numbered(10, 9))
    (found,) = links.bonds([bond, others], {5: 0})
    assert (found.device, found.what) == (5, "the first place in bond9")
    assert found.stage > Stage.UP
    chosen = Told(found.data, 32).inside(18)
    assert (chosen.text(1), chosen.inside(2).without()) == ("bond", numbered(2, 5))
    assert struct.unpack_from("=I", found.data, found.places[0]) == (5,)
    assert not list(links.bonds([bond, others], {7: 0}))


def test_sizes_and_a_token_that_are_not_the_usual_ones() -> None:
    token = attribute(26, attribute(2, bytes(4)) + attribute(10, attribute(7, bytes(15) + b"\5")))
    found = settings(link(more=numbered(41, 30000) + numbered(58, 65536) + token))
    assert found["the offload sizes"] == HEADER.pack(0, 0, 7, 0, 0) + numbered(41, 30000)
    assert Told(found["the token"], 16).inside(26).inside(10).value(7)[-1] == 5
    usual = attribute(26, attribute(10, attribute(7, bytes(16))))
    assert not {"the token", "the offload sizes"} & set(settings(link(more=numbered(41, 65536) + usual)))


def test_a_member_of_a_bond_is_given_its_own_address_before() -> None:
    slave = attribute(4, b"bond\0") + attribute(5, attribute(4, b"\2own  "))
    theirs = attribute(1, b"\2bonds")
    assert Told(settings(link(more=theirs + attribute(18, slave)))["the settings"], 16).value(1) == b"\2own  "
    assert Told(settings(link(more=theirs))["the settings"], 16).value(1) == b"\2bonds"


def test_moves_and_names() -> None:
    assert links.moved(5, 8, 13)[16:] == HEADER.pack(0, 0, 5, 0, 0) + numbered(28, 8) + numbered(49, 13)
    assert links.renamed(5, "eth0")[16:] == HEADER.pack(0, 0, 5, 0, 0) + attribute(3, b"eth0\0")
    assert links.down(5)[16:] == HEADER.pack(0, 0, 5, 0, 1)
