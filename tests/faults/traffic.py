# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a lab host: packets from namespace h1 to h2, an established flow and new ones, and what became of them.

It shares no code with the probe of the collection, whose hand-over it judges.  A process of its own sends and receives; the
one that made it may ask when packets come through (again), and ends it.  Times are nanoseconds of CLOCK_MONOTONIC.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import socket
import struct
import time
import typing as t

SENDER, RECEIVER, ADDRESS = "h1", "h2", ("10.0.0.2", 5999)
ESTABLISHED, NEW = 0, 1
# Packets a second of each stream.
RATES = {ESTABLISHED: 50, NEW: 20}
# What has not arrived so long after the last was sent is lost.
DRAIN_NS = 300_000_000
PAYLOAD = struct.Struct("!BI")
PORTS = range(10_000, 60_000)
CLONE_NEWNET = 0x40000000  # linux/sched.h


class Losses(t.NamedTuple):
    """What a fault has cost: from it to the last packet that was lost, and the longest silence since, in seconds; packets."""

    recovery_s: float
    outage_s: float
    lost: int


class Traffic:
    """Packets on their way; raises ``RuntimeError`` when none come through within ``patience`` seconds."""

    def __init__(self, patience: float = 10.0) -> None:
        self._mine, theirs = socket.socketpair()
        self._pid = os.fork()
        if not self._pid:
            self._mine.close()
            with contextlib.suppress(BaseException):
                Flows(theirs).run()
            os._exit(1)
        theirs.close()
        self.begun = time.monotonic_ns()
        if not self.flows_since(self.begun, patience):
            self.stop()
            raise RuntimeError(f"no packet comes from {SENDER} to {RECEIVER} before the fault")

    def flows_since(self, moment: int, patience: float) -> bool:
        """Wait until packets of both streams that were sent after ``moment`` have arrived; False after so many seconds."""
        self._mine.settimeout(max(0.0, (moment - time.monotonic_ns()) / 1e9) + patience)
        try:
            self._mine.sendall(f"{moment}\n".encode())
            return self._mine.recv(1) == b"y"
        except TimeoutError:
            return False

    def stop(self) -> list[tuple[int, int, int | None]]:
        """End it; every packet that was sent since the start, as its stream, when it was sent, and when it came."""
        self._mine.settimeout(None)
        self._mine.sendall(b"stop\n")
        with self._mine.makefile("rb") as answers:
            # A late answer to a question may stand before it.
            told = answers.read().lstrip(b"y")
        self._mine.close()
        os.waitpid(self._pid, 0)
        sent, arrived = json.loads(told)
        times = {(stream, number): moment for stream, number, moment in arrived}
        return [(stream, at, times.get((stream, number))) for stream, number, at in sent if at >= self.begun]


def losses(packets: t.Sequence[tuple[int, int, int | None]], since: int) -> Losses:
    """What was lost of ``Traffic.stop`` after the moment ``since`` (all, where it is 0)."""
    lost = [at for __, at, came in packets if came is None]
    late = [at for at in lost if at >= since]
    return Losses(
        round((max(late) - since) / 1e9, 2) if late else 0.0,
        round(max(silence(packets, stream, since) for stream in RATES) / 1e9, 2),
        len(lost),
    )


def silence(packets: t.Sequence[tuple[int, int, int | None]], stream: int, since: int) -> int:
    """The longest time without an arrival in a stream, from ``since`` to when the last packet was sent, in nanoseconds."""
    mine = [packet for packet in packets if packet[0] == stream]
    begin, end = max(since, mine[0][1]), max(packet[1] for packet in mine)
    heard = sorted(came for __, __, came in mine if came is not None and begin <= came <= end)
    moments = [begin, *heard, end]
    return max(later - earlier for earlier, later in zip(moments, moments[1:]))


class Flows:
    """The process that sends and receives."""

    def __init__(self, asked: socket.socket) -> None:
        self.asked = asked
        self.sent: list[tuple[int, int, int]] = []
        self.arrived: list[tuple[int, int, int]] = []
        self.question: int | None = None
        enter(RECEIVER)
        self.receiver = udp()
        self.receiver.bind(("", ADDRESS[1]))
        enter(SENDER)
        self.established = udp()

    def run(self) -> None:
        """Until it is to stop; then tell everything and end the process."""
        due = dict.fromkeys(RATES, time.monotonic_ns())
        ending = 0
        while not ending or time.monotonic_ns() < ending:
            now = time.monotonic_ns()
            for stream in [] if ending else [stream for stream, at in due.items() if at <= now]:
                self.send(stream)
                # Who was kept waiting does not catch up: a burst would be lost for its own sake.
                due[stream] = max(due[stream] + 10**9 // RATES[stream], now)
            pause = ((ending or min(due.values())) - time.monotonic_ns()) / 1e9
            readable, __, __ = select.select([self.receiver, self.asked], [], [], max(0.0, pause))
            if self.receiver in readable:
                self.receive()
            if self.asked in readable and self.is_to_stop():
                ending = time.monotonic_ns() + DRAIN_NS
            self.answer()
        self.asked.sendall(json.dumps([self.sent, self.arrived]).encode())
        os._exit(0)

    def send(self, stream: int) -> None:
        """One packet; one that the kernel does not take is lost, too."""
        number = len(self.sent)
        self.sent.append((stream, number, time.monotonic_ns()))
        with contextlib.suppress(OSError):
            if stream == ESTABLISHED:
                self.established.sendto(PAYLOAD.pack(stream, number), ADDRESS)
            else:
                with udp() as fresh:
                    fresh.bind(("", PORTS[number % len(PORTS)]))
                    fresh.sendto(PAYLOAD.pack(stream, number), ADDRESS)

    def receive(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                stream, number = PAYLOAD.unpack(self.receiver.recv(64))
                self.arrived.append((stream, number, time.monotonic_ns()))

    def is_to_stop(self) -> bool:
        """Read what the other process wants; its end is one's own."""
        words = self.asked.recv(4096).split()
        if not words:
            os._exit(0)
        if words[-1] == b"stop":
            return True
        self.question = int(words[-1])
        return False

    def answer(self) -> None:
        if self.question is None or not self.arrived:
            return
        since = self.question
        # The number of a packet is its place in what was sent.
        heard = {stream for stream, number, __ in self.arrived[-200:] if self.sent[number][2] >= since}
        if heard == set(RATES):
            self.question = None
            self.asked.sendall(b"y")


def udp() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made


def enter(namespace: str) -> None:
    """What this process makes from now on is in that network namespace; raises OSError (setns(2))."""
    library = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}", "rb") as file:
        if library.setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
