# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The kernel's datapath of Open vSwitch made again as it was (include/uapi/linux/openvswitch.h).

The numbers of its families change with the module, so a request gets its own only when it is sent.
"""

from __future__ import annotations

import dataclasses
import os
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import (
    DATAPATH_VERSION,
    DP_NAME,
    FLOW_ACTIONS,
    FLOW_KEY,
    FLOW_MASK,
    FLOW_UFID,
    FLOW_VERSION,
    GET,
    HEADER,
    INTERNAL,
    USER_FEATURES,
    VPORT_INDEX,
    VPORT_KIND,
    VPORT_NAME,
    VPORT_NUMBER,
    VPORT_OPTIONS,
    VPORT_VERSION,
    KernelFlow,
    Reader,
    Vport,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    ACK,
    CREATE,
    GENERIC_HEADER,
    MESSAGE,
    NESTED,
    Netlink,
    Refusal,
    attribute,
    attributes,
    batches,
    generic,
)

OURS = "ovs-system"

_NEW, _DELETE, _EXECUTE = 1, 2, 3
_VERSIONS = {
    "ovs_datapath": DATAPATH_VERSION,
    "ovs_vport": VPORT_VERSION,
    "ovs_flow": FLOW_VERSION,
    "ovs_packet": 1,
    "ovs_ct_limit": 1,
}
_DP_UPCALLS, _DP_CACHE, _DP_UPCALLS_PER_CPU, _DP_INDEX, _VPORT_UPCALLS = 2, 7, 8, 9, 5
_PACKET, _PACKET_KEY, _PACKET_ACTIONS = 1, 2, 3
_ACTION_OUTPUT, _ACTION_USERSPACE = 1, 2
_ZONE_LIMITS, _SET_LIMITS = 1, 1
_ZONE_LIMIT, _NO_DEFAULT = struct.Struct("=iII"), (-1, 0)  # struct ovs_zone_limit: zone, limit, count
# To whom upcalls go until ovs-vswitchd sets its own sockets.
NOBODY = 0


@dataclasses.dataclass(frozen=True)
class Datapath:
    """One datapath; ``index`` is the ifindex of its own port, ``features`` what ovs-vswitchd has asked for."""

    name: str
    index: int
    features: bytes
    cache: bytes | None


class Kernel:
    """The families of Open vSwitch, asked for anew after ``forget``."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink
        self._families: dict[str, int] = {}

    def forget(self) -> None:
        """The module is another one now."""
        self._families.clear()

    def datapaths(self) -> list[Datapath]:
        """Those of the namespace of the socket.  Raises ``HotUpgradeError`` without a module."""
        request = self._request("ovs_datapath", GET, 0, b"")
        found = self._netlink.dump(request, "the kernel does not tell its datapaths")
        return [_datapath(body) for __, body in found]

    def ports_of(self, datapath: Datapath) -> list[Vport]:
        """The ports of any datapath, by number."""
        families = {name: self._family(f"ovs_{name}") for name in ("datapath", "vport", "flow")}
        return Reader(self._netlink, families, datapath.index).ports()

    def ports(self) -> list[Vport]:
        """The ports of ours, by number."""
        return Reader.of(self._netlink).ports()

    def megaflows(self) -> list[KernelFlow]:
        """The megaflows of ours, busiest first."""
        return Reader.of(self._netlink).megaflows()

    def zone_limits(self) -> bytes:
        """How many connections each conntrack zone may have, as far as somebody has set it (``dpctl/ct-set-limits``).

        Nothing from a kernel without them, nor of more zones than its one message has room for, some hundreds.
        """
        try:
            answer = self._netlink.ask(
                self._request("ovs_ct_limit", GET, 0, b""), "the kernel does not tell the limits of zones"
            )
        except HotUpgradeError:
            return b""
        told = attributes(answer, GENERIC_HEADER.size + HEADER.size).get(_ZONE_LIMITS, b"")
        return b"".join(
            _ZONE_LIMIT.pack(zone, limit, 0)
            for zone, limit, __ in _ZONE_LIMIT.iter_unpack(told)
            if (zone, limit) != _NO_DEFAULT
        )

    def limit_zones(self, limits: bytes) -> list[Refusal]:
        """Set what ``zone_limits`` has told; returns what was refused."""
        body = attribute(_ZONE_LIMITS, limits)
        return self._send("ovs_ct_limit", batches([_unnumbered("ovs_ct_limit", _SET_LIMITS, 0, body)]))

    def delete_ports(self, index: int, numbers: t.Sequence[int]) -> None:
        """Delete ports of the datapath ``index`` in this order; what cannot be deleted goes with the datapath."""
        bodies = [attribute(VPORT_NUMBER, struct.pack("=I", number)) for number in numbers]
        self._send("ovs_vport", batches([_unnumbered("ovs_vport", _DELETE, index, body) for body in bodies]))

    def delete(self, index: int) -> None:
        """Delete the datapath ``index`` with all ports."""
        request = self._request("ovs_datapath", _DELETE, index, b"", ACK)
        self._netlink.ask(request, "the kernel does not delete the datapath")

    def make(self, datapath: Datapath, upcalls: int = NOBODY) -> None:
        """Make it as it was, without ports and flows; where the kernel can, with its ifindex.

        ``upcalls`` is the address of the netlink socket that it asks about packets that it does not know.
        """
        body = attribute(DP_NAME, datapath.name.encode() + b"\0")
        body += attribute(_DP_UPCALLS, struct.pack("=I", upcalls))
        body += attribute(USER_FEATURES, datapath.features)
        if upcalls != NOBODY:
            body += attribute(_DP_UPCALLS_PER_CPU, struct.pack("=I", upcalls) * (os.cpu_count() or 1))
        if datapath.cache is not None:
            body += attribute(_DP_CACHE, datapath.cache)
        body += attribute(_DP_INDEX, struct.pack("=i", datapath.index))
        request = self._request("ovs_datapath", _NEW, 0, body, ACK)
        self._netlink.ask(request, "the kernel does not make the datapath again")

    def add_ports(
        self, index: int, ports: t.Sequence[Vport], first: t.Mapping[int, int], upcalls: int = NOBODY
    ) -> list[Refusal]:
        """Add ``ports`` to the datapath ``index``, internal ones with the ifindex ``first``; returns those that were refused.

        ``upcalls`` as in ``make``.
        """
        bodies = [port_body(port, first.get(port.number), upcalls) for port in ports]
        return self._send(
            "ovs_vport", batches([_unnumbered("ovs_vport", _NEW, index, body) for body in bodies])
        )

    def add_flows(self, prepared: t.Sequence[bytes]) -> list[Refusal]:
        """Add what ``prepared_flows`` has made; returns those that were refused."""
        return self._send("ovs_flow", prepared)

    def forward(self, index: int, packet: bytes, key: bytes, ports: t.Sequence[int]) -> list[Refusal]:
        """Send ``packet``, whose flow the kernel calls ``key``, to ``ports``, and have the rest of the flow go there, too.

        Returns why the packet does not go.
        """
        actions = b"".join(attribute(_ACTION_OUTPUT, struct.pack("=I", port)) for port in ports)
        body = attribute(_PACKET, packet) + attribute(_PACKET_KEY | NESTED, key)
        body += attribute(_PACKET_ACTIONS | NESTED, actions)
        refused = self._send("ovs_packet", batches([_unnumbered("ovs_packet", _EXECUTE, index, body)]))
        self._send("ovs_flow", prepared_flows(index, [KernelFlow(key, b"", actions)]))
        return refused

    def _send(self, family: str, prepared: t.Sequence[bytes]) -> list[Refusal]:
        number = self._family(family)
        return self._netlink.transact([retyped(each, number) for each in prepared])

    def _family(self, name: str) -> int:
        if name not in self._families:
            self._families[name] = self._netlink.family(name)
        return self._families[name]

    def _request(self, family: str, command: int, index: int, body: bytes, flags: int = 0) -> bytes:
        return generic(self._family(family), command, _VERSIONS[family], HEADER.pack(index) + body, flags)


def prepared_flows(index: int, flows: t.Iterable[KernelFlow]) -> list[bytes]:
    """What ``Kernel.add_flows`` sends to the datapath ``index``."""
    return batches([_unnumbered("ovs_flow", _NEW, index, flow_body(flow), CREATE) for flow in flows])


def retyped(batch: bytes, number: int) -> bytes:
    """``batch`` with the family ``number`` in each of its messages."""
    whole, offset, kind = bytearray(batch), 0, struct.pack("=H", number)
    while offset < len(whole):
        whole[offset + 4 : offset + 6] = kind
        offset += MESSAGE.unpack_from(whole, offset)[0]
    return bytes(whole)


def _unnumbered(family: str, command: int, index: int, body: bytes, flags: int = 0) -> bytes:
    return generic(0, command, _VERSIONS[family], HEADER.pack(index) + body, flags)


def port_body(port: Vport, index: int | None, upcalls: int = NOBODY) -> bytes:
    """What makes ``port`` again, with the ifindex ``index`` where it is not None."""
    body = attribute(VPORT_NUMBER, struct.pack("=I", port.number))
    body += attribute(VPORT_KIND, struct.pack("=I", port.kind))
    body += attribute(VPORT_NAME, port.name.encode(errors="surrogateescape") + b"\0")
    if port.options:
        body += attribute(VPORT_OPTIONS | NESTED, port.options)
    body += attribute(_VPORT_UPCALLS, struct.pack("=I", upcalls))
    if port.kind == INTERNAL and index is not None:
        body += attribute(VPORT_INDEX, struct.pack("=I", index))
    return body


def flow_body(flow: KernelFlow) -> bytes:
    """What makes ``flow`` again; the kernel counts it from the beginning."""
    body = attribute(FLOW_KEY | NESTED, flow.key)
    if flow.mask:
        body += attribute(FLOW_MASK | NESTED, flow.mask)
    body += attribute(FLOW_ACTIONS | NESTED, flow.actions)
    return body + (attribute(FLOW_UFID, flow.ufid) if flow.ufid else b"")


def asks_userspace(flow: KernelFlow) -> bool:
    """Whether it sends packets to the socket of an ovs-vswitchd that has ended."""
    return _ACTION_USERSPACE in attributes(flow.actions)


def _datapath(body: bytes) -> Datapath:
    (index,) = HEADER.unpack_from(body, GENERIC_HEADER.size)
    found = attributes(body, GENERIC_HEADER.size + HEADER.size)
    name = found[DP_NAME].rstrip(b"\0").decode(errors="surrogateescape")
    return Datapath(name, index, found.get(USER_FEATURES, bytes(4)), found.get(_DP_CACHE))
