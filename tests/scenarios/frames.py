# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a lab host: sends frames of every kind through br0, by Open vSwitch and by the bypass, and prints what arrives.

The endpoints h1, h2 and h3 are namespaces with a device ``e0`` on the ports p1, p2 and p3.
"""

from __future__ import annotations

import ctypes
import ipaddress
import json
import socket
import struct
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import bypass
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import Reader
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    GENERIC,
    ROUTE,
    Netlink,
)

ONE, TWO, THREE = (bytes([2, 0, 0, 0, 0, number]) for number in (1, 2, 3))
MARK = b"OVSOPS"
EVERY_PROTOCOL, PACKET_AUXDATA, TAG_VALID = 3, 8, 0x10
SOL_PACKET, CLONE_NEWNET = 263, 0x40000000
QUIET = 0.5
# VLANs that Linux would hand to VLAN devices on the ports: no frame here is for them.
NOBODYS = [(0x8100, 3000), (0x88A8, 3000)]

# What arrives of a frame: at which endpoint, with which tag, and its bytes.
Arrived = list[tuple[str, int, str]]


def raw_socket(namespace: str) -> socket.socket:
    """A socket that sends and receives whole frames at ``e0`` of a namespace."""
    enter = ctypes.CDLL(None, use_errno=True).setns
    with open("/proc/self/ns/net", "rb") as ours, open(f"/run/netns/{namespace}", "rb") as theirs:
        if enter(theirs.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"the namespace {namespace} cannot be entered")
        try:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERY_PROTOCOL))
            made.bind(("e0", EVERY_PROTOCOL))
        finally:
            enter(ours.fileno(), CLONE_NEWNET)
    made.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    made.settimeout(QUIET)
    return made


def checksum(data: bytes) -> int:
    total = int(sum(struct.unpack(f"!{len(data) // 2}H", data)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip4(protocol: int, data: bytes, to: str = "10.9.0.2", fragment: int = 0) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(data), 7, fragment, 64, protocol, 0)
    head += ipaddress.ip_address("10.9.0.1").packed + ipaddress.ip_address(to).packed
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + data


def ip6(protocol: int, data: bytes, to: str = "fd00::2") -> bytes:
    head = struct.pack("!IHBB", 6 << 28, len(data), protocol, 64)
    return head + ipaddress.ip_address("fd00::1").packed + ipaddress.ip_address(to).packed + data


def udp(data: bytes, port: int = 99) -> bytes:
    return struct.pack("!HHHH", 55, port, 8 + len(data), 0) + data


def tcp(data: bytes, port: int) -> bytes:
    return struct.pack("!HHIIHHHH", 55, port, 1, 1, 0x5010, 99, 0, 0) + data


def frame(kind: int, data: bytes, to: bytes = TWO) -> bytes:
    return to + ONE + struct.pack("!H", kind) + data + bytes(30)


def tagged(number: int, data: bytes, kind: int = 0x0800, priority: int = 0, outer: int = 0x8100) -> bytes:
    return frame(outer, struct.pack("!HH", priority << 13 | number, kind) + data)


def frames(mark: t.Callable[[str], bytes]) -> t.Iterator[tuple[str, bytes]]:
    """Frames by name; ``mark`` gives each the bytes by which it is known again."""
    yield "udp", frame(0x0800, ip4(17, udp(mark("udp"))))
    yield "tcp", frame(0x0800, ip4(6, tcp(mark("tcp"), 22)))
    yield "tcp to a range of ports", frame(0x0800, ip4(6, tcp(mark("tcp to a range of ports"), 0x1234)))
    yield "sctp", frame(0x0800, ip4(132, struct.pack("!HHII", 4, 5, 1, 0) + mark("sctp")))
    yield "ping", frame(0x0800, ip4(1, struct.pack("!BBHI", 8, 0, 0, 0) + mark("ping"), "10.9.0.60"))
    yield "pong", frame(0x0800, ip4(1, struct.pack("!BBHI", 0, 0, 0, 0) + mark("pong"), "10.9.0.60"))
    yield "esp", frame(0x0800, ip4(50, bytes(8) + mark("esp")))
    yield "udp6", frame(0x86DD, ip6(17, udp(mark("udp6"))))
    yield "routed", frame(0x0800, ip4(17, udp(mark("routed")), "10.9.0.50"), THREE)
    yield "routed6", frame(0x86DD, ip6(17, udp(mark("routed6")), "fd00::50"), THREE)
    yield "tagged on the way", frame(0x0800, ip4(17, udp(mark("tagged on the way"), 77)))
    yield "untagged on the way", tagged(8, ip4(17, udp(mark("untagged on the way"))))
    yield "tagged anew", tagged(6, ip4(6, tcp(mark("tagged anew"), 80)), priority=2)
    yield "another priority", tagged(6, ip4(6, tcp(mark("another priority"), 80)), priority=1)
    yield "tagged", tagged(7, ip4(17, udp(mark("tagged"))))
    yield "priority tag", tagged(0, ip4(17, udp(mark("priority tag"))), priority=5)
    yield "first fragment", frame(0x0800, ip4(17, udp(mark("first fragment")), fragment=0x2000))
    yield "later fragment", frame(0x0800, ip4(17, mark("later fragment"), fragment=0x2010))
    yield "fragment6", frame(0x86DD, ip6(44, struct.pack("!BBHI", 17, 0, 1, 9) + udp(mark("fragment6"))))
    yield "broadcast", frame(0x0800, ip4(17, udp(mark("broadcast")), "10.9.0.255"), b"\xff" * 6)
    yield (
        "multicast",
        frame(0x0800, ip4(17, udp(mark("multicast")), "224.5.5.5"), bytes.fromhex("01005e050505")),
    )
    yield (
        "unknown station",
        frame(0x0800, ip4(17, udp(mark("unknown station"))), bytes.fromhex("02bb00000001")),
    )
    yield "another type", frame(0x88B5, mark("another type"))
    yield from carrying(mark)


def carrying(mark: t.Callable[[str], bytes]) -> t.Iterator[tuple[str, bytes]]:
    """Those that carry another packet, which is one of those that are treated in another way."""

    def inside(name: str) -> bytes:
        return ip4(17, udp(mark(name), 77), "10.9.0.50")

    yield "gre", frame(0x0800, ip4(47, struct.pack("!HH", 0, 0x0800) + inside("gre")))
    yield "tagged gre", tagged(7, ip4(47, struct.pack("!HH", 0, 0x0800) + inside("tagged gre")))
    yield "ipip", frame(0x0800, ip4(4, inside("ipip")))
    yield (
        "ipip with a fragment",
        frame(0x0800, ip4(4, ip4(17, udp(mark("ipip with a fragment"), 77), fragment=0x2000))),
    )
    yield "6in4", frame(0x0800, ip4(41, ip6(17, udp(mark("6in4"), 77))))
    yield (
        "ah",
        frame(0x0800, ip4(51, struct.pack("!BBHII", 17, 4, 0, 1, 1) + bytes(12) + udp(mark("ah"), 77))),
    )
    yield (
        "hop by hop",
        frame(0x86DD, ip6(0, struct.pack("!BBIH", 17, 0, 0x01040000, 0) + udp(mark("hop by hop")))),
    )
    yield "pppoe", frame(0x8864, struct.pack("!BBHHH", 0x11, 0, 1, 50, 0x21) + inside("pppoe"))
    yield "mpls", frame(0x8847, struct.pack("!I", 16 << 12 | 0x140) + inside("mpls"))
    yield "batman", frame(0x4305, bytes([0x40, 15]) + bytes(8) + frame(0x0800, inside("batman")))
    yield "two tags", tagged(7, struct.pack("!HH", 3, 0x0800) + inside("two tags"), 0x8100, outer=0x88A8)
    yield "llc", TWO + ONE + struct.pack("!H", 38) + b"\xaa\xaa\x03\0\0\0\x12\x34" + mark("llc") + bytes(30)


class Frames:
    """All frames, the endpoint that sends them, and those that may receive them."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sent = [data for __, data in frames(self._mark)]
        self.sender = raw_socket("h1")
        self.receivers = {name: raw_socket(name) for name in ("h2", "h3")}

    def _mark(self, name: str) -> bytes:
        self.names.append(name)
        return MARK + b"%02d" % (len(self.names) - 1)

    def arrive(self) -> dict[str, Arrived]:
        """Send each once, and return what arrives, by name."""
        for each in self.receivers.values():
            list(self._received(each))
        for data in self.sent:
            self.sender.send(data)
            time.sleep(0.01)  # so that none is lost in a queue of the lab
        found: dict[str, Arrived] = {name: [] for name in self.names}
        for endpoint, each in self.receivers.items():
            for name, tag, data in self._received(each):
                found[name].append((endpoint, tag, data.hex()))
        return {name: sorted(each) for name, each in found.items()}

    def _received(self, endpoint: socket.socket) -> t.Iterator[tuple[str, int, bytes]]:
        while True:
            try:
                data, more, __, __ = endpoint.recvmsg(4096, 256)
            except TimeoutError:
                return
            place = data.find(MARK)
            # What the endpoints' own stacks say to it is no part of it.
            if place < 0 or data[6:12] in (TWO, THREE):
                continue
            status, __, __, __, __, tag, __ = struct.unpack_from("=IIIHHHH", more[0][2])
            yield self.names[int(data[place + 6 : place + 8])], tag if status & TAG_VALID else -1, data


def main() -> None:
    every = Frames()
    for __ in range(2):  # so that their megaflows are there
        every.arrive()
    by_switch = every.arrive()
    with Netlink(GENERIC) as generic, Netlink(ROUTE) as route:
        reader = Reader.of(generic)
        ports = reader.ports()
        made = bypass.prepare(
            route, ports, reader.megaflows(), vlans=dict.fromkeys([port.index for port in ports], NOBODYS)
        )
        refused = made.install(route)
        try:
            made.seal(route)
            by_bypass = every.arrive()
        finally:
            made.remove(route)
    print(json.dumps({
        "coverage": made.coverage.text, "refused": len(refused), "switch": by_switch, "bypass": by_bypass,
        "lacking": bypass.try_out(),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
