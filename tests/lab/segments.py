# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a lab host: TCP segments of a controller in h1 for somebody in h2, as another switch there would get them.

    segments.py PORT LOG

They come from 10.0.0.1:PORT.  No flow of populate.py lets them pass; the hidden ones of in-band control do.  On SIGTERM it
writes LOG, JSON, and ends: {"sent": n, "arrived": n}.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import struct
import sys
import time

IPV4, TCP, RST = 0x0800, 6, 4
# Between two segments, and for how long the last ones are waited for, in seconds.
INTERVAL, DRAIN = 0.005, 1.0


def at(namespace: str) -> socket.socket:
    """A socket at the device e0 there; this process moves to the namespace."""
    with open(f"/run/netns/{namespace}") as place:
        if ctypes.CDLL(None, use_errno=True).setns(place.fileno(), 0):
            raise OSError(ctypes.get_errno(), f"no way to the namespace {namespace}")
    found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(IPV4))
    found.bind(("e0", IPV4))
    found.setblocking(False)
    return found


def segment(number: int, port: int) -> bytes:
    """A reset, which nobody answers."""
    tcp = struct.pack("!HHIIBBHHH", port, 40000, number, 0, 5 << 4, RST, 0, 0, 0)
    addresses = socket.inet_aton("10.0.0.1") + socket.inet_aton("10.0.0.2")
    ip = struct.pack("!BBHHHBBH8s", 0x45, 0, 20 + len(tcp), 0, 0, 64, TCP, 0, addresses)
    return b"\2\0\0\0\0\2" + b"\2\0\0\0\0\1" + struct.pack("!H", IPV4) + ip + tcp


def arrivals(receiver: socket.socket, port: int) -> set[int]:
    """The numbers of the segments that wait there."""
    found: set[int] = set()
    while True:
        try:
            frame = receiver.recv(2048)
        except BlockingIOError:
            return found
        if len(frame) >= 54 and frame[23] == TCP and struct.unpack_from("!HH", frame, 34) == (port, 40000):
            found.add(struct.unpack_from("!I", frame, 38)[0])


def main(port: int, log: str) -> None:
    ended: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    sender, receiver = at("h1"), at("h2")
    sent = 0
    arrived: set[int] = set()
    while not ended:
        sender.send(segment(sent, port))
        sent += 1
        time.sleep(INTERVAL)
        arrived |= arrivals(receiver, port)
    late = time.monotonic() + DRAIN
    while len(arrived) < sent and select.select([receiver], [], [], max(0.0, late - time.monotonic()))[0]:
        arrived |= arrivals(receiver, port)
    with open(log + ".new", "w") as file:
        json.dump({"sent": sent, "arrived": len(arrived)}, file)
    os.rename(log + ".new", log)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
