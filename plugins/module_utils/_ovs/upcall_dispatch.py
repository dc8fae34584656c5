# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""To whom the kernel datapath sends upcalls: to a socket per port, or, as Open vSwitch asks since 2.16, per CPU.

An older ovs-vswitchd leaves that as it finds it (dpif_netlink_open sets the features that it has read), and gets no
upcall at all in the newer mode.  Written by hand, since importing pyroute2 takes longer than the window in which this is
done.  Formats: include/uapi/linux/{netlink,genetlink,openvswitch}.h.
"""

from __future__ import annotations

import errno
import socket
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError

_DMESG = "Look at dmesg; the module openvswitch may be another than the one that ovs-vswitchd was built for"
DATAPATH = b"ovs-system\0"

_NETLINK_GENERIC = 16
_NLMSG_ERROR, _NLM_F_REQUEST, _NLM_F_ACK = 2, 1, 4
_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 16, 3, 1, 2
_OVS_DP_CMD_GET, _OVS_DP_CMD_SET = 3, 4
_OVS_DP_ATTR_NAME, _OVS_DP_ATTR_USER_FEATURES = 1, 5
_OVS_DP_F_DISPATCH_UPCALL_PER_CPU = 1 << 3

_NLMSGHDR, _GENLMSGHDR, _NLATTR = struct.Struct("=IHHII"), struct.Struct("=BBxx"), struct.Struct("=HH")
_IFINDEX = struct.pack("=i", 0)  # struct ovs_header: the datapath is named by an attribute

Attributes = dict[int, bytes]


def send_upcalls_per_port() -> None:
    """Have the kernel datapath send its upcalls per port.  Raises ``HotUpgradeError`` when the kernel refuses it."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC) as netlink:
        netlink.settimeout(5.0)
        found = _ask(
            netlink, _GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, b"", {_CTRL_ATTR_FAMILY_NAME: b"ovs_datapath\0"}
        )
        (family,) = struct.unpack("=H", found[_CTRL_ATTR_FAMILY_ID])
        named = {_OVS_DP_ATTR_NAME: DATAPATH}
        found = _ask(netlink, family, _OVS_DP_CMD_GET, _IFINDEX, named)
        (features,) = struct.unpack("=I", found[_OVS_DP_ATTR_USER_FEATURES])
        if not features & _OVS_DP_F_DISPATCH_UPCALL_PER_CPU:
            return
        wanted = struct.pack("=I", features & ~_OVS_DP_F_DISPATCH_UPCALL_PER_CPU)
        _ask(netlink, family, _OVS_DP_CMD_SET, _IFINDEX, {**named, _OVS_DP_ATTR_USER_FEATURES: wanted})


def _ask(
    netlink: socket.socket, family: int, command: int, header: bytes, attributes: Attributes
) -> Attributes:
    """Send a request and return the attributes of its answer."""
    netlink.send(message(family, command, header, attributes))
    try:
        answer = netlink.recv(1 << 16)
    except OSError as error:
        raise HotUpgradeError("the kernel does not answer", error.strerror or str(error), _DMESG) from error
    return attributes_of(answer, len(header))


def message(family: int, command: int, header: bytes, attributes: Attributes) -> bytes:
    """A request of generic netlink; what changes something asks for an acknowledgement, since no other answer comes."""
    body = _GENLMSGHDR.pack(command, 2) + header
    for kind, value in attributes.items():
        padding = bytes(-len(value) % 4)
        body += _NLATTR.pack(_NLATTR.size + len(value), kind) + value + padding
    flags = _NLM_F_REQUEST | (_NLM_F_ACK if command == _OVS_DP_CMD_SET else 0)
    return _NLMSGHDR.pack(_NLMSGHDR.size + len(body), family, flags, 1, 0) + body


def attributes_of(answer: bytes, header: int) -> Attributes:
    """The attributes behind a family's own ``header`` bytes; raises ``HotUpgradeError`` for an error or nonsense."""
    try:
        return dict(_attributes(answer, header))
    except struct.error as error:
        raise HotUpgradeError("the kernel's answer is cut off", answer[:32].hex(), _DMESG) from error


def _attributes(answer: bytes, header: int) -> t.Iterator[tuple[int, bytes]]:
    length, kind, __, __, __ = _NLMSGHDR.unpack_from(answer)
    if kind == _NLMSG_ERROR:
        (number,) = struct.unpack_from("=i", answer, _NLMSGHDR.size)
        if number == 0:  # an acknowledgement
            return
        name = errno.errorcode.get(-number, f"error {-number}")
        raise HotUpgradeError("the kernel refused a request of the datapath", name, _DMESG)
    offset = _NLMSGHDR.size + _GENLMSGHDR.size + header
    while offset < min(length, len(answer)):
        size, kind = _NLATTR.unpack_from(answer, offset)
        if size < _NLATTR.size:
            raise HotUpgradeError("the kernel's answer is cut off", answer[:32].hex(), _DMESG)
        yield kind, answer[offset + _NLATTR.size : offset + size]
        offset += size + -size % 4
