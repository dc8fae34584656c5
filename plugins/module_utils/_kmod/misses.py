# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""New flows while no ovs-vswitchd serves the datapath: the kernel asks us about their packets, and is told where they go.

Only what somebody can answer with a list of ports is answered; the rest is dropped, as it would be without us.
Formats: include/uapi/linux/openvswitch.h (ovs_packet_attr, ovs_key_attr).
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
import threading
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.kernel import Kernel
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import HEADER
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    GENERIC,
    GENERIC_HEADER,
    Netlink,
    Refusal,
    attributes,
)

_MISS = 1
_PACKET, _KEY = 1, 2
_IN_PORT, _MARK, _TUNNEL, _RECIRCULATION = 3, 15, 16, 20
# So long nothing was asked, in seconds: then nothing waits.
_SILENCE = 0.1
# What was asked before the end is answered for so long at most, in seconds.
_LAST_WORDS = 0.5
# Before an ovs-vswitchd that starts, which takes the processor for seconds and is at -10 itself.
_FIRST = -15
# Kinds of messages below this are netlink's own.
_FAMILIES = 16

# The ports that a packet of a port goes to; None where that is not known or is more than ports.
Answer = t.Callable[[int, bytes], t.Optional[t.Sequence[int]]]


class Miss(t.NamedTuple):
    """A packet that ``datapath`` (its ifindex) does not know; ``key`` is its flow in the kernel's words."""

    datapath: int
    port: int
    packet: bytes
    key: bytes


class Misses:
    """Answers in a thread of its own from ``start`` to ``stop``; ``address`` is where the datapath is to send its upcalls."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._socket = Netlink(GENERIC)
        # When it ends, by the monotonic clock.
        self._end = math.inf
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.address = self._socket.address
        self.forwarded = self.dropped = self.left = 0

    def start(self) -> None:
        """Wait for what the kernel asks from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Answer what was asked up to now, and no more: somebody else is asked.  Who is slow to answer is not waited for."""
        self._end = time.monotonic() + _LAST_WORDS
        self._thread.join()

    def _serve(self) -> None:
        with self._socket, Netlink(GENERIC) as socket:
            prefer(threading.get_native_id())
            kernel = Kernel(socket)
            while ((misses := self._asked()) or self._end == math.inf) and time.monotonic() <= self._end:
                for miss in misses:
                    self._see_to(kernel, miss)

    def _asked(self) -> list[Miss]:
        try:
            found = [parsed(body) for kind, body in self._socket.told(_SILENCE) if kind >= _FAMILIES]
        except OSError:  # nothing came for a while, or more than there was room for
            return []
        return [miss for miss in found if miss is not None]

    def _see_to(self, kernel: Kernel, miss: Miss) -> None:
        if time.monotonic() > self._end:
            self.left += 1
            return
        try:
            ports = self._answer(miss.port, miss.packet)
            if ports and _forward(kernel, miss, ports):
                ports = None
        except Exception:  # a stranger's packet, and perhaps another module by now
            kernel.forget()
            ports = None
        self.left += ports is None
        self.dropped += ports is not None and not ports
        self.forwarded += bool(ports)


def _forward(kernel: Kernel, miss: Miss, ports: t.Sequence[int]) -> list[Refusal]:
    """Why it could not be done, also not for a module that has come since the last packet."""
    refused = kernel.forward(miss.datapath, miss.packet, miss.key, ports)
    if refused:
        kernel.forget()
        refused = kernel.forward(miss.datapath, miss.packet, miss.key, ports)
    return refused


def prefer(number: int) -> None:
    """Have a thread or process come before an ovs-vswitchd that is busy."""
    with contextlib.suppress(OSError):  # not allowed: it answers late then
        os.setpriority(os.PRIO_PROCESS, number, _FIRST)


def parsed(body: bytes) -> Miss | None:
    """The miss that a message tells; None for anything else, and for a packet that came by a tunnel or once more."""
    (command,) = struct.unpack_from("=B", body)
    if command != _MISS:
        return None
    (index,) = HEADER.unpack_from(body, GENERIC_HEADER.size)
    found = attributes(body, GENERIC_HEADER.size + HEADER.size)
    key = attributes(found[_KEY])
    if _TUNNEL in key or any(key.get(each, b"").strip(b"\0") for each in (_MARK, _RECIRCULATION)):
        return None
    (port,) = struct.unpack("=I", key[_IN_PORT])
    return Miss(index, port, found[_PACKET], found[_KEY])
