# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a lab host: two endpoints talk to each other by the bypass for a long time, and ask for each other meanwhile.

The endpoints h1 and h2 are namespaces with the addresses 10.9.0.1 and 10.9.0.2. Prints how many datagrams were sent and how many
arrived in each direction: with what the endpoints' questions need (see ``neighbours``), and without it.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import time

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import bypass, namespaces, neighbours
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.translation import ARP
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.words import Key
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import KernelFlow, Reader
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    GENERIC,
    ROUTE,
    Netlink,
    attributes,
)

PORT, INTERVAL, LONG = 4000, 0.01, 20.0


def endpoint(number: int) -> socket.socket:
    """A socket for datagrams in the namespace h<number>."""
    descriptor = os.open(f"/run/netns/h{number}", os.O_RDONLY)
    with namespaces.within(namespaces.Namespace(0, 0, descriptor)):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    os.close(descriptor)
    made.bind((f"10.9.0.{number}", PORT))
    made.setblocking(False)
    return made


def talk(ends: tuple[socket.socket, socket.socket], seconds: float) -> dict[str, int]:
    """Send in both directions so long; how many were sent in each, and how many arrived at the second and at the first one."""
    one, two = ends
    found = {"sent": 0, "there": 0, "back": 0}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        one.sendto(b"there", ("10.9.0.2", PORT))
        two.sendto(b"back", ("10.9.0.1", PORT))
        found["sent"] += 1
        time.sleep(INTERVAL)
        found["there"] += arrived(two)
        found["back"] += arrived(one)
    time.sleep(0.5)
    found["there"] += arrived(two)
    found["back"] += arrived(one)
    return found


def arrived(end: socket.socket) -> int:
    """How many datagrams wait at ``end``; they are taken."""
    for count in range(1 << 20):
        try:
            end.recv(100)
        except BlockingIOError:
            return count
    raise AssertionError("there is no end of datagrams")


def trace(packet: str) -> str:
    """What ovs-vswitchd would do with it."""
    argv = ["ovs-appctl", "ofproto/trace", "ovs-system", packet]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def is_arp(flow: KernelFlow) -> bool:
    """Whether it is a megaflow for questions of neighbours."""
    return attributes(flow.key).get(Key.TYPE) == struct.pack("!H", ARP)


def by_bypass(ends: tuple[socket.socket, socket.socket], asked: bool) -> dict[str, int]:
    """What becomes of them while tc forwards; without the answers to neighbours' questions unless they are ``asked`` for."""
    talk(ends, 2)  # so that their megaflows are there
    with Netlink(GENERIC) as generic, Netlink(ROUTE) as route:
        reader = Reader.of(generic)
        ports, live = reader.ports(), reader.megaflows()
        beside = neighbours.megaflows(trace, ports, live if asked else [], True)
        # They live for ten seconds: mostly there is none.
        made = bypass.prepare(route, ports, [each for each in live if not is_arp(each)], beside)
        made.install(route)
        try:
            made.seal(route)
            return talk(ends, LONG)
        finally:
            made.remove(route)


def main() -> None:
    ends = endpoint(1), endpoint(2)
    print(json.dumps({"asked": by_bypass(ends, True), "not asked": by_bypass(ends, False)}))


if __name__ == "__main__":
    main()
