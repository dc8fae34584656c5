# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""To whom the kernel datapath sends upcalls: to a socket per port, or, as Open vSwitch asks since 2.16, per CPU.

An older ovs-vswitchd leaves that as it finds it (dpif_netlink_open sets the features that it has read), and gets no
upcall at all in the newer mode.  Formats: include/uapi/linux/openvswitch.h.
"""

from __future__ import annotations

import dataclasses
import struct
import types
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import (
    DATAPATH,
    DATAPATH_VERSION,
    DP_NAME,
    GET,
    HEADER,
    SET,
    USER_FEATURES,
    Reader,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    ACK,
    GENERIC,
    GENERIC_HEADER,
    Attributes,
    Netlink,
    attributes,
    batches,
    generic,
    joined,
)

_PER_CPU = 8  # OVS_DP_ATTR_PER_CPU_PIDS
_DISPATCH_UPCALL_PER_CPU = 1 << 3
_WHAT = "the kernel cannot be told to whom it is to send upcalls"
_NAMED = {DP_NAME: DATAPATH}


@dataclasses.dataclass(frozen=True)
class Dispatch:
    """Where upcalls go: the ``features`` of the datapath, the sockets ``per_cpu``, or those of each port, by number.

    Sockets are what the kernel has of them: their numbers, back to back.
    """

    features: int
    per_cpu: bytes = b""
    ports: t.Mapping[int, bytes] = dataclasses.field(default_factory=dict)

    def json(self) -> dict[str, t.Any]:
        """For a file; see ``of_json``."""
        ports = {str(number): sockets.hex() for number, sockets in self.ports.items()}
        return {"features": self.features, "per_cpu": self.per_cpu.hex(), "ports": ports}

    @classmethod
    def of_json(cls, record: t.Mapping[str, t.Any]) -> Dispatch:
        """What ``json`` was called on."""
        ports = {int(number): bytes.fromhex(sockets) for number, sockets in record["ports"].items()}
        return cls(record["features"], bytes.fromhex(record["per_cpu"]), ports)


def read() -> Dispatch | None:
    """Where upcalls go now; None where the kernel does not tell: per CPU, only Linux 6.1 and newer do."""
    with Netlink(GENERIC) as netlink:
        found = _datapath(netlink)
        (features,) = struct.unpack("=I", found[USER_FEATURES])
        if features & _DISPATCH_UPCALL_PER_CPU:
            return Dispatch(features, found[_PER_CPU]) if _PER_CPU in found else None
        return Dispatch(features, ports=Reader.of(netlink).upcall_sockets())


def direct(dispatch: Dispatch) -> None:
    """Have upcalls go there.  Raises ``HotUpgradeError`` when the kernel refuses it; a port that is gone is no reason."""
    with Netlink(GENERIC) as netlink:
        if dispatch.ports:
            reader = Reader.of(netlink)
            netlink.transact(batches(reader.with_upcall_sockets(dispatch.ports)))
        _set(netlink, dispatch.features, {_PER_CPU: dispatch.per_cpu} if dispatch.per_cpu else {})


def send_upcalls_per_port() -> None:
    """Have the kernel datapath send its upcalls per port.  Raises ``HotUpgradeError`` when the kernel refuses it."""
    with Netlink(GENERIC) as netlink:
        (features,) = struct.unpack("=I", _datapath(netlink)[USER_FEATURES])
        if features & _DISPATCH_UPCALL_PER_CPU:
            _set(netlink, features & ~_DISPATCH_UPCALL_PER_CPU)


def _datapath(netlink: Netlink) -> Attributes:
    body = HEADER.pack(0) + joined(_NAMED)
    answer = netlink.ask(generic(netlink.family("ovs_datapath"), GET, DATAPATH_VERSION, body), _WHAT)
    return attributes(answer, GENERIC_HEADER.size + HEADER.size)


def _set(netlink: Netlink, features: int, more: t.Mapping[int, bytes] = types.MappingProxyType({})) -> None:
    body = HEADER.pack(0) + joined({**_NAMED, USER_FEATURES: struct.pack("=I", features), **more})
    netlink.ask(generic(netlink.family("ovs_datapath"), SET, DATAPATH_VERSION, body, ACK), _WHAT)
