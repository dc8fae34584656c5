# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What a bridge of Linux keeps for its ports besides what the port itself tells: VLANs and multicast groups.

Formats: include/uapi/linux/if_bridge.h.
"""

from __future__ import annotations

import socket
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.dumps import BRIDGED, DEVICE
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.links import Link
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import Request, Stage, Told
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    CREATE,
    NESTED,
    attribute,
    each_attribute,
    message,
)

_DELLINK, _SETLINK, _NEWMDB = 17, 19, 84
_FAMILIES, _DEFAULT = 26, 39  # the last: IFLA_BR_VLAN_DEFAULT_PVID
VLAN, TUNNEL = 2, 3  # IFLA_BRIDGE_VLAN_{INFO,TUNNEL_INFO}
_VLAN_INFO = struct.Struct("=HH")  # struct bridge_vlan_info: flags, number
RANGE_BEGIN, RANGE_END = 0x8, 0x10
_MDB, _SET_ENTRY, _SET_ATTRIBUTES = 1, 1, 2
ENTRY = struct.Struct("=IBBH16s2sxx")  # struct br_mdb_entry: ifindex, state, flags, VLAN, address, protocol
_PERMANENT = 1
# What a dump calls MDBA_MDB_EATTR_SOURCE a request calls MDBE_ATTR_SOURCE.
_TOLD_SOURCE, _SOURCE = 4, 1


def port_vlans(body: bytes) -> tuple[int, list[tuple[int, bytes]]]:
    """The ifindex of a bridge or of a port of one, and its VLANs as attributes."""
    told = Told(body, DEVICE.size)
    found = each_attribute(told.value(_FAMILIES))
    index = int(DEVICE.unpack_from(body)[2])
    return index, [(kind, value) for kind, value in found if kind in (VLAN, TUNNEL)]


def vlans(bodies: t.Iterable[bytes], links: t.Iterable[Link], gone: t.Container[int]) -> t.Iterator[Request]:
    """The VLANs of the ports ``gone``; not the one that the bridge gives to each port, where that was taken away."""
    by_index = {link.index: link for link in links}
    for body in bodies:
        index, kept = port_vlans(body)
        bridge = by_index.get(by_index[index].master) if index in gone and index in by_index else None
        if bridge is None:
            continue
        default = bridge.data.value(_DEFAULT)
        first = struct.unpack("=H", default)[0] if default else 0
        if first and not any(low <= first <= high for low, high in _ranges(kept)):
            given = attribute(VLAN, _VLAN_INFO.pack(0, first))
            yield _request(_DELLINK, index, "the absence of the first VLAN", given)
        if kept:
            yield _request(_SETLINK, index, "the VLANs", b"".join(attribute(*each) for each in kept))


def _request(kind: int, index: int, what: str, kept: bytes) -> Request:
    header = DEVICE.pack(socket.AF_BRIDGE, 0, index, 0, 0)
    return Request(
        Stage.PLACE,
        index,
        f"{what} in its bridge",
        message(kind, header + attribute(_FAMILIES | NESTED, kept)),
    )


def _ranges(kept: t.Iterable[tuple[int, bytes]]) -> t.Iterator[tuple[int, int]]:
    begin = 0
    for kind, value in kept:
        if kind == VLAN:
            flags, number = _VLAN_INFO.unpack(value)
            if flags & RANGE_BEGIN:
                begin = number
            else:
                yield (begin if flags & RANGE_END else number), number


def groups(bodies: t.Iterable[bytes], gone: t.Container[int]) -> t.Iterator[Request]:
    """The multicast groups that somebody has given the ports ``gone``; the others are learned."""
    for bridge, entry, told in permanent_groups(bodies):
        index, __, __, vlan, address, protocol = ENTRY.unpack(entry)
        if index not in gone:
            continue
        more = attribute(_SOURCE, told.value(_TOLD_SOURCE)) if _TOLD_SOURCE in told else b""
        kept = attribute(_SET_ENTRY, entry) + (attribute(_SET_ATTRIBUTES | NESTED, more) if more else b"")
        data = message(_NEWMDB, BRIDGED.pack(socket.AF_BRIDGE, bridge) + kept, CREATE)
        place = 16 + BRIDGED.size + 4
        what = f"the group {shown_group(address, protocol)} of VLAN {vlan}"
        yield Request(Stage.NEIGHBOUR, index, what, data, (place,))


def permanent_groups(bodies: t.Iterable[bytes]) -> t.Iterator[tuple[int, bytes, Told]]:
    """The bridge, struct br_mdb_entry and the attributes of each that does not run out."""
    for body in bodies:
        __, bridge = BRIDGED.unpack_from(body)
        for __, entry in each_attribute(Told(body, BRIDGED.size).value(_MDB)):
            for __, info in each_attribute(entry):
                whole = info[: ENTRY.size]
                if ENTRY.unpack(whole)[1] & _PERMANENT:
                    yield int(bridge), whole, Told(info, ENTRY.size)


def shown_group(address: bytes, protocol: bytes) -> str:
    """A group for people: of IPv4, IPv6 or Ethernet."""
    families = {b"\x08\x00": socket.AF_INET, b"\x86\xdd": socket.AF_INET6}
    family = families.get(protocol)
    if family is None:
        return address[:6].hex(":")
    return socket.inet_ntop(family, address[:4] if family == socket.AF_INET else address)
