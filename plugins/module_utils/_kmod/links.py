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
    Request,
    Stage,
    Told,
    dumped,
    numbered,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    CREATE,
    EXCLUSIVE,
    NESTED,
    Netlink,
    attribute,
    message,
)

_NEWLINK, _GETLINK, _NEWLINKPROP = 16, 18, 108
_HEADER = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, ifindex, flags, which of them change

_ADDRESS, _NAME, _MTU, _LINK, _MASTER, _QUEUE, _INFO, _ALIAS, _STATISTICS = 1, 3, 4, 5, 10, 13, 18, 20, 23
_GROUP, _NETNS, _LINK_NETNSID, _NEW_INDEX, _NAMES = 27, 28, 37, 49, 52
_KIND, _DATA, _SLAVE_KIND, _SLAVE_DATA = 1, 2, 4, 5
_UP, _NOARP, _PROMISCUOUS, _ALL_MULTICAST, _MULTICAST = 0x1, 0x80, 0x100, 0x200, 0x1000
_FLAGS = _UP | _NOARP | _PROMISCUOUS | _ALL_MULTICAST | _MULTICAST

# Devices that the kernel deletes with the one that they are on.
ON_OTHERS = ("vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec")
# Masters that take settings of what is in them.
_MASTERS = ("bond", "bridge")
_BOND_MEMBER_ADDRESS = 4  # IFLA_BOND_SLAVE_PERM_HWADDR
# What the kernel tells of a macvlan and does not take (IFLA_MACVLAN_MACADDR_COUNT, …_BC_QUEUE_LEN_USED).
_TOLD_ONLY = {"macvlan": (6, 8), "macvtap": (6, 8)}
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
        return self.told.number(_LINK) or 0

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
        data = self.told.inside(_INFO).inside(_DATA)
        (protocol,) = struct.unpack("!H", data.value(_VLAN_PROTOCOL))
        (number,) = struct.unpack("=H", data.value(_VLAN_ID))
        return protocol, number

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
    body = link.told.only(_NAME, _LINK, _LINK_NETNSID, _ADDRESS, _MTU) + attribute(_INFO | NESTED, told)
    data = message(_NEWLINK, _header(link.index) + body, CREATE | EXCLUSIVE)
    return Request(Stage.CHILD, link.index, f"the {link.kind}", data, told)


def _settable(kind: str, told: Told) -> bytes:
    useless = _TOLD_ONLY.get(kind, ())
    if kind != "vlan" or _VLAN_FLAGS not in told:
        return told.without(*useless)
    flags = told.value(_VLAN_FLAGS)[:4] + struct.pack("=I", _VLAN_MASK)
    return told.without(_VLAN_FLAGS) + attribute(_VLAN_FLAGS, flags)


def settings(link: Link) -> t.Iterator[Request]:
    """What gives a device that was made again what it had: address, MTU, master …, and whether it is up."""
    kept = _own_address(link) + link.told.only(_MTU, _QUEUE, _GROUP, _ALIAS)
    yield _setting(Stage.STATE, link, "the settings", kept)
    if _MASTER in link.told:
        yield _setting(Stage.MASTER, link, "the master", link.told.only(_MASTER))
        info = link.told.inside(_INFO)
        if info.text(_SLAVE_KIND) in _MASTERS and _SLAVE_DATA in info:
            slave = info.only(_SLAVE_KIND) + attribute(_SLAVE_DATA | NESTED, info.value(_SLAVE_DATA))
            found = _setting(
                Stage.PROPERTY, link, "the place in its master", attribute(_INFO | NESTED, slave)
            )
            yield dataclasses.replace(found, same=None)  # among them are counters of a bond
    up = _HEADER.pack(0, 0, link.index, link.flags & _FLAGS, _FLAGS)
    yield Request(Stage.UP, link.index, "the flags", message(_NEWLINK, up), up)
    if _NAMES in link.told:
        names = attribute(_NAMES | NESTED, link.told.value(_NAMES))
        data = message(_NEWLINKPROP, _header(link.index) + names, CREATE | EXCLUSIVE | APPEND)
        yield Request(Stage.PROPERTY, link.index, "the other names", data, names)


def _own_address(link: Link) -> bytes:
    """Of a member of a bond that which it has outside: the bond remembers what it finds, and gives it its own."""
    info = link.told.inside(_INFO)
    remembered = (
        info.inside(_SLAVE_DATA).value(_BOND_MEMBER_ADDRESS) if info.text(_SLAVE_KIND) == "bond" else b""
    )
    return attribute(_ADDRESS, remembered) if remembered else link.told.only(_ADDRESS)


def _setting(stage: Stage, link: Link, what: str, attributes: bytes) -> Request:
    return Request(stage, link.index, what, message(_NEWLINK, _header(link.index) + attributes), attributes)


def moved(index: int, descriptor: int, wanted: int) -> bytes:
    """The request that moves a device to the namespace open as ``descriptor``, where it gets the ifindex ``wanted``."""
    return message(_NEWLINK, _header(index) + numbered(_NETNS, descriptor) + numbered(_NEW_INDEX, wanted))


def renamed(index: int, name: str) -> bytes:
    """The request that gives a device another name; before Linux 6.2 only one that is down."""
    return message(_NEWLINK, _header(index) + attribute(_NAME, name.encode(errors="surrogateescape") + b"\0"))


def down(index: int) -> bytes:
    """The request that takes a device down."""
    return message(_NEWLINK, _HEADER.pack(0, 0, index, 0, _UP))


def _header(index: int) -> bytes:
    return _HEADER.pack(0, 0, index, 0, 0)
