# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The kernel datapath as the kernel tells it: its ports and megaflows, byte for byte (include/uapi/linux/openvswitch.h)."""

from __future__ import annotations

import dataclasses
import socket
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    GENERIC_HEADER,
    Attributes,
    Netlink,
    attribute,
    attributes,
    generic,
    joined,
)

DATAPATH = b"ovs-system\0"
# OVSVPORT_TYPE_*: a network device that the port only borrows, and one that goes away with the datapath.
DEVICE, INTERNAL = 1, 2

GET, SET = 3, 4
DATAPATH_VERSION, VPORT_VERSION, FLOW_VERSION = 2, 1, 1
HEADER = struct.Struct("=i")  # struct ovs_header: the datapath
DP_NAME, USER_FEATURES = 1, 5
VPORT_NUMBER, VPORT_KIND, VPORT_NAME, VPORT_OPTIONS, VPORT_SOCKETS, VPORT_INDEX, VPORT_NETNS = (
    1,
    2,
    3,
    4,
    5,
    8,
    9,
)
FLOW_KEY, FLOW_ACTIONS, _FLOW_STATISTICS, FLOW_MASK, FLOW_UFID = 1, 2, 3, 7, 9
_COUNT = struct.Struct("=Q")  # of struct ovs_flow_stats: packets
_NUMBER = struct.Struct("=I")


@dataclasses.dataclass(frozen=True)
class Vport:
    """A port of the datapath; ``kind`` is its OVSVPORT_TYPE, ``index`` that of the network device.

    ``netns`` is what the kernel calls the other network namespace in which the device is, None for ours.
    """

    number: int
    kind: int
    name: str
    index: int
    options: bytes = b""
    netns: int | None = None


@dataclasses.dataclass(frozen=True)
class KernelFlow:
    """Attributes as the kernel has them: ``key`` and ``mask`` (OVS_KEY_ATTR_*), ``actions`` (OVS_ACTION_ATTR_*)."""

    key: bytes
    mask: bytes
    actions: bytes
    packets: int = 0
    ufid: bytes = b""


@dataclasses.dataclass(frozen=True)
class Reader:
    """Asks a datapath that is there; ``families`` by name, and ``index``, the number of the datapath."""

    netlink: Netlink
    families: t.Mapping[str, int]
    index: int

    @classmethod
    def of(cls, netlink: Netlink) -> Reader:
        """Of the datapath ``ovs-system``.  Raises ``HotUpgradeError`` when there is none."""
        families = {name: netlink.family(f"ovs_{name}") for name in ("datapath", "vport", "flow")}
        body = HEADER.pack(0) + attribute(DP_NAME, DATAPATH)
        request = generic(families["datapath"], GET, DATAPATH_VERSION, body)
        answer = netlink.ask(request, "the kernel's datapath ovs-system cannot be looked at")
        (index,) = HEADER.unpack_from(answer, GENERIC_HEADER.size)
        return cls(netlink, families, index)

    def ports(self) -> list[Vport]:
        """All ports, by number."""
        found = [_vport(each) for each in self._dump("vport", VPORT_VERSION)]
        return sorted(found, key=lambda port: port.number)

    def upcall_sockets(self) -> dict[int, bytes]:
        """Where the upcalls of each port go, by its number: the numbers of sockets, back to back."""
        found = self._dump("vport", VPORT_VERSION)
        return {_NUMBER.unpack(each[VPORT_NUMBER])[0]: each.get(VPORT_SOCKETS, b"") for each in found}

    def with_upcall_sockets(self, sockets: t.Mapping[int, bytes]) -> list[bytes]:
        """The messages that have the upcalls of ports go there."""
        head = HEADER.pack(self.index)
        return [
            generic(
                self.families["vport"],
                SET,
                VPORT_VERSION,
                head + joined({VPORT_NUMBER: _NUMBER.pack(number), VPORT_SOCKETS: each}),
            )
            for number, each in sockets.items()
        ]

    def megaflows(self) -> list[KernelFlow]:
        """All megaflows, busiest first."""
        found = [_megaflow(each) for each in self._dump("flow", FLOW_VERSION)]
        return sorted(found, key=lambda flow: -flow.packets)

    def _dump(self, name: str, version: int) -> t.Iterator[Attributes]:
        request = generic(self.families[name], GET, version, HEADER.pack(self.index))
        for __, body in self.netlink.dump(request, f"the datapath does not tell its {name}s"):
            yield attributes(body, GENERIC_HEADER.size + HEADER.size)


def _vport(found: Attributes) -> Vport:
    name = found[VPORT_NAME].rstrip(b"\0").decode(errors="surrogateescape")
    index = found.get(VPORT_INDEX)
    return Vport(
        _NUMBER.unpack(found[VPORT_NUMBER])[0],
        _NUMBER.unpack(found[VPORT_KIND])[0],
        name,
        _NUMBER.unpack(index)[0]
        if index
        else socket.if_nametoindex(name),  # Linux before 4.16 does not tell it
        found.get(VPORT_OPTIONS, b""),
        struct.unpack("=i", found[VPORT_NETNS])[0] if VPORT_NETNS in found else None,
    )


def _megaflow(found: Attributes) -> KernelFlow:
    statistics = found.get(_FLOW_STATISTICS)
    return KernelFlow(
        found.get(FLOW_KEY, b""),
        found.get(FLOW_MASK, b""),
        found.get(FLOW_ACTIONS, b""),
        _COUNT.unpack_from(statistics)[0] if statistics else 0,
        found.get(FLOW_UFID, b""),
    )
