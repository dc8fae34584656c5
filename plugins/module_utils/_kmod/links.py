# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Network devices: what makes them again, and gives them what they had (include/uapi/linux/if_link.h)."""

from __future__ import annotations

import dataclasses
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import (
    APPEND,
    NEWLINK,
    Request,
    Stage,
    Told,
    dumped,
    numbered,
    place_of,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    CREATE,
    EXCLUSIVE,
    NESTED,
    Netlink,
    attribute,
    message,
)

_GETLINK, _NEWLINKPROP = 18, 108
_HEADER = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, ifindex, flags, which of them change
_BODY = 16 + _HEADER.size  # where the attributes of a request begin

_ADDRESS, _NAME, _MTU, _LINK, _MASTER, _QUEUE, _INFO, _ALIAS, _STATISTICS = 1, 3, 4, 5, 10, 13, 18, 20, 23
_FAMILIES, _GROUP, _NETNS, _LINK_NETNSID, _XDP, _NEW_INDEX, _NAMES = 26, 27, 28, 37, 43, 49, 52
_QUEUES = (31, 32)  # IFLA_NUM_{TX,RX}_QUEUES
_KEPT_DOWN, _WHY = 39, 55  # IFLA_PROTO_DOWN and its reasons
# How much of a packet is handed on at once: IFLA_GSO_MAX_SEGS, IFLA_G{S,R}O_MAX_SIZE, IFLA_G{S,R}O_IPV4_MAX_SIZE.
_SIZES = {40: 65535, 41: 65536, 58: 65536, 63: 65536, 64: 65536}
_INET6, _CONF, _TOKEN = 10, 2, 7
_ACCEPT_RA = 4 * 3  # where IFLA_INET6_CONF has DEVCONF_ACCEPT_RA
_KIND, _DATA, _SLAVE_KIND, _SLAVE_DATA = 1, 2, 4, 5
_UP, _NOARP, _PROMISCUOUS, _ALL_MULTICAST, _MULTICAST = 0x1, 0x80, 0x100, 0x200, 0x1000
_FLAGS = _UP | _NOARP | _PROMISCUOUS | _ALL_MULTICAST | _MULTICAST

# Devices that the kernel deletes with the one that they are on.
ON_OTHERS = ("vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec", "vxlan")
# Those that it deletes, too, and that nothing here makes again.
LOST = ("hsr", "amt", "virt_wifi", "rmnet", "lowpan", "ipoib")
# They have the address of the device that they are on.
_NO_ADDRESS = ("ipvlan", "ipvtap")
_VXLAN, _VXLAN_LINK = "vxlan", 3
# Taken for yes whatever they hold, and told for no, too: IFLA_VXLAN_REMCSUM_RX, and _TTL_INHERIT, which must hold nothing.
_VXLAN_CHECKSUM, _VXLAN_INHERITS = 22, 28
_VRF, _VRF_TABLE = "vrf", 1  # IFLA_VRF_TABLE
# Masters that take settings of what is in them.
_BOND, _ACTIVE = "bond", 2  # IFLA_BOND_ACTIVE_SLAVE
_BOND_MEMBER_ADDRESS = 4  # IFLA_BOND_SLAVE_PERM_HWADDR
# By master: what it takes of IFLA_BOND_SLAVE_*, IFLA_BRPORT_* (br_port_policy in net/bridge/br_netlink.c), but for the state.
_SETTABLE_IN = {
    _BOND: (5, 9),
    "bridge": (*range(2, 11), 12, 25, *range(27, 35), 37, 39, 40, 42, 43, 44),
}
# What the kernel tells of a macvlan and does not take (IFLA_MACVLAN_MACADDR_COUNT, …_BC_QUEUE_LEN_USED).
_TOLD_ONLY = {"macvlan": (6, 8), "macvtap": (6, 8)}
# It takes the addresses that it tells (IFLA_MACVLAN_MACADDR_DATA) only with what is to be done with them: MACVLAN_MACADDR_SET.
_SOURCES, _WITH_SOURCES = 5, attribute(3, struct.pack("=I", 3))
# struct ifla_vlan_flags is told with all bits in its mask, and taken only with those that there are.
_VLAN_FLAGS, _VLAN_MASK = 2, 0x1F
_VLAN_ID, _VLAN_PROTOCOL = 1, 5


@dataclasses.dataclass(frozen=True)
class Link:
    """One network device as a dump tells it."""

    index: int
    flags: int
    told: Told

    @property
    def name(self) -> str:
        """Its name in its namespace."""
        return self.told.text(_NAME)

    @property
    def below(self) -> int:
        """The ifindex of the device that it is on, 0 without one; ``below_netns`` tells where."""
        beside = self.data.number(_VXLAN_LINK) if self.kind == _VXLAN else None
        return self.told.number(_LINK) or beside or 0

    @property
    def below_netns(self) -> int | None:
        """The number of the namespace of that device, None for its own."""
        return self.told.number(_LINK_NETNSID)

    @property
    def kind(self) -> str:
        """As rtnetlink calls it, ``vlan`` for example; empty for hardware."""
        return self.told.inside(_INFO).text(_KIND)

    @property
    def vlan(self) -> tuple[int, int] | None:
        """The Ethernet type and the number of its tag, None for what is no VLAN device."""
        if self.kind != "vlan":
            return None
        data = self.data
        (protocol,) = struct.unpack("!H", data.value(_VLAN_PROTOCOL))
        (number,) = struct.unpack("=H", data.value(_VLAN_ID))
        return protocol, number

    @property
    def data(self) -> Told:
        """What its kind tells of it (IFLA_INFO_DATA)."""
        return self.told.inside(_INFO).inside(_DATA)

    @property
    def master(self) -> int:
        """The ifindex of the bridge, bond, VRF … that it is in, 0 without one."""
        return self.told.number(_MASTER) or 0

    @property
    def is_up(self) -> bool:
        """Whether somebody has taken it up."""
        return bool(self.flags & _UP)

    @property
    def hears_routers(self) -> bool:
        """Whether the kernel takes what routers advertise there (accept_ra); else a program does, or nobody."""
        settings = self.told.inside(_FAMILIES).inside(_INET6).value(_CONF)
        return len(settings) > _ACCEPT_RA and any(settings[_ACCEPT_RA : _ACCEPT_RA + 4])

    @property
    def table(self) -> int | None:
        """The routing table of a VRF, None for what is none."""
        return self.data.number(_VRF_TABLE) if self.kind == _VRF else None

    @property
    def address(self) -> bytes:
        """Its link-layer address."""
        return self.told.value(_ADDRESS)

    @property
    def filtered(self) -> bool:
        """Whether an XDP program is attached to it (IFLA_XDP_ATTACHED)."""
        return any(self.told.inside(_XDP).value(1))

    @property
    def packets(self) -> int:
        """How many it has received and sent."""
        counts = self.told.value(_STATISTICS)
        return sum(struct.unpack_from("=QQ", counts)) if len(counts) >= 16 else 0


def dump(route: Netlink) -> list[Link]:
    """All devices of the namespace of the socket ``route``."""
    return [parse(body) for body in dumped(route, _GETLINK, _HEADER.pack(0, 0, 0, 0, 0), "network devices")]


def parse(body: bytes) -> Link:
    """One device of a dump."""
    __, __, index, flags, __ = _HEADER.unpack_from(body)
    return Link(index, flags, Told(body, _HEADER.size))


def made(link: Link) -> Request:
    """What makes a device again that was on another one."""
    info = link.told.inside(_INFO)
    told = info.only(_KIND)
    if _DATA in info:
        told += attribute(_DATA | NESTED, _settable(link.kind, info.inside(_DATA)))
    body = link.told.only(_NAME, _LINK, _LINK_NETNSID, _MTU, *_QUEUES) + _own_address(link)
    data = message(NEWLINK, _header(link.index) + body + attribute(_INFO | NESTED, told), CREATE | EXCLUSIVE)
    named = place_of(data, _BODY, _INFO, _DATA, _VXLAN_LINK) if link.kind == _VXLAN else 0
    return Request(Stage.CHILD, link.index, f"the {link.kind}", data, (named,) if named else ())


def _settable(kind: str, told: Told) -> bytes:
    """What its kind tells as it is taken."""
    if kind == "vlan" and _VLAN_FLAGS in told:
        flags = told.value(_VLAN_FLAGS)[:4] + struct.pack("=I", _VLAN_MASK)
        return told.without(_VLAN_FLAGS) + attribute(_VLAN_FLAGS, flags)
    if kind == _VXLAN:
        inherited = attribute(_VXLAN_INHERITS, b"") if any(told.value(_VXLAN_INHERITS)) else b""
        checked = told.only(_VXLAN_CHECKSUM) if any(told.value(_VXLAN_CHECKSUM)) else b""
        return told.without(_VXLAN_INHERITS, _VXLAN_CHECKSUM) + inherited + checked
    with_sources = kind in _TOLD_ONLY and _SOURCES in told
    return told.without(*_TOLD_ONLY.get(kind, ())) + (_WITH_SOURCES if with_sources else b"")


def settings(link: Link) -> t.Iterator[Request]:
    """What gives a device that was made again what it had: address, MTU, master …, and whether it is up."""
    kept = _own_address(link) + link.told.only(_MTU, _QUEUE, _GROUP, _ALIAS)
    if any(link.told.value(_KEPT_DOWN)):
        kept += link.told.only(_KEPT_DOWN, _WHY)
    yield _setting(Stage.STATE, link, "the settings", kept)
    if _MASTER in link.told:
        yield _setting(Stage.MASTER, link, "the master", link.told.only(_MASTER))
        yield from _place(link)
    up = _HEADER.pack(0, 0, link.index, link.flags & _FLAGS, _FLAGS)
    yield Request(Stage.UP, link.index, "the flags", message(NEWLINK, up))
    if _NAMES in link.told:
        names = attribute(_NAMES | NESTED, link.told.value(_NAMES))
        data = message(_NEWLINKPROP, _header(link.index) + names, CREATE | EXCLUSIVE | APPEND)
        yield Request(Stage.PROPERTY, link.index, "the other names", data)
    sizes = [kind for kind, usual in _SIZES.items() if link.told.number(kind) not in (None, usual)]
    if sizes:
        yield _setting(Stage.PROPERTY, link, "the offload sizes", link.told.only(*sizes))
    token = link.told.inside(_FAMILIES).inside(_INET6).only(_TOKEN)
    if any(token[4:]):
        families = attribute(_FAMILIES | NESTED, attribute(_INET6 | NESTED, token))
        yield _setting(Stage.PROPERTY, link, "the token", families)


def _place(link: Link) -> t.Iterator[Request]:
    """What its master keeps of it, as far as that can be set."""
    info = link.told.inside(_INFO)
    kept = info.inside(_SLAVE_DATA).only(*_SETTABLE_IN.get(info.text(_SLAVE_KIND), ()))
    if kept:
        slave = info.only(_SLAVE_KIND) + attribute(_SLAVE_DATA | NESTED, kept)
        yield _setting(Stage.PLACE, link, "the place in its master", attribute(_INFO | NESTED, slave))


def bonds(links: t.Sequence[Link], gone: t.Mapping[int, int]) -> t.Iterator[Request]:
    """What bonds lose with those members that are ``gone``: which one is active, and if it was the last one, their address.

    A bond that is empty takes that of its next member.
    """
    for bond in (link for link in links if link.kind == _BOND):
        members = [link for link in links if link.master == bond.index]
        if members and all(link.index in gone for link in members):
            last = max(members, key=lambda link: gone[link.index])
            data = message(NEWLINK, _header(bond.index) + bond.told.only(_ADDRESS))
            yield Request(Stage.PLACE, last.index, f"the address of {bond.name}, the master", data)
        active = bond.data.number(_ACTIVE)
        if active in gone:
            chosen = bond.told.inside(_INFO).only(_KIND) + attribute(_DATA | NESTED, bond.data.only(_ACTIVE))
            data = message(NEWLINK, _header(bond.index) + attribute(_INFO | NESTED, chosen))
            place = place_of(data, _BODY, _INFO, _DATA, _ACTIVE)
            yield Request(Stage.ROUTE, active or 0, f"the first place in {bond.name}", data, (place,))


def above(links: t.Sequence[Link], gone: t.Container[int]) -> list[int]:
    """The masters of devices that are ``gone``, their own masters, and what is on any of these; the lower ones first."""
    found: list[int] = []
    while True:
        masters = {link.master for link in links if link.index in gone or link.index in found} - {0}
        others = {link.index for link in links if link.below in found and link.below_netns is None}
        more = sorted(index for index in masters | others if index not in gone and index not in found)
        if not more:
            return found
        found += more


def sizes_on_masters(links: t.Sequence[Link], gone: t.Container[int]) -> t.Iterator[Request]:
    """The MTU of what is on a bridge that has a smaller one while a port is away (br_mtu_auto_adjust in net/bridge/br_if.c)."""
    by_index = {link.index: link for link in links}
    for link in (by_index[index] for index in above(links, gone) if index in by_index):
        if link.kind in ON_OTHERS:
            yield _setting(Stage.PROPERTY, link, f"the MTU of {link.name}", link.told.only(_MTU))


def _own_address(link: Link) -> bytes:
    """Of a member of a bond that which it has outside: the bond remembers what it finds, and gives it its own."""
    if link.kind in _NO_ADDRESS:
        return b""
    info = link.told.inside(_INFO)
    remembered = (
        info.inside(_SLAVE_DATA).value(_BOND_MEMBER_ADDRESS) if info.text(_SLAVE_KIND) == _BOND else b""
    )
    return attribute(_ADDRESS, remembered) if remembered else link.told.only(_ADDRESS)


def _setting(stage: Stage, link: Link, what: str, attributes: bytes) -> Request:
    return Request(stage, link.index, what, message(NEWLINK, _header(link.index) + attributes))


def moved(index: int, descriptor: int, wanted: int) -> bytes:
    """The request that moves a device to the namespace open as ``descriptor``, where it gets the ifindex ``wanted``."""
    return message(NEWLINK, _header(index) + numbered(_NETNS, descriptor) + numbered(_NEW_INDEX, wanted))


def renamed(index: int, name: str) -> bytes:
    """The request that gives a device another name; before Linux 6.2 only one that is down."""
    return message(NEWLINK, _header(index) + attribute(_NAME, name.encode(errors="surrogateescape") + b"\0"))


def down(index: int) -> bytes:
    """The request that takes a device down."""
    return message(NEWLINK, _HEADER.pack(0, 0, index, 0, _UP))


def _header(index: int) -> bytes:
    return _HEADER.pack(0, 0, index, 0, 0)
