# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a lab host: real TCP connections from h1 to h2, both ends of each, and what became of them.

    peers.py CONNECTIONS RATE CHURN LOG

Opens CONNECTIONS, writes "LOG.open" when all are, and "LOG.N.open", the ports of both ends of each.  Has RATE of them say
something each second, in turns by the end that has begun it and by the other one; the rest is idle.  CHURN a second are opened
and closed besides.  On SIGTERM each connection that is open has to say something both ways, in half of them the end that was
connected to speaks first; LOG (JSON) tells the outcome: {"connections": n, "opened": n, "broken": {why: n}}.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import select
import signal
import socket
import struct
import sys
import time
import typing as t

SERVER = "10.0.0.2"
NEWNET = 0x40000000
# How long the last words of all may take, in seconds: TCP repeats what was lost.
LAST_WORDS = 20.0
# How long a few may take, in seconds.
SOON = 1.0
OPENING = 3.0
# So many are opened at once.
BATCH = 100
IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h
ENDED = False

# So many connections a process may have: each takes two files.
MOST = 8000

Outcome = dict[str, t.Any]
# The end that has begun a connection, and the one that has accepted it.
Pair = tuple[socket.socket, socket.socket]


def enter(namespace: str) -> None:
    """Have the sockets that are made from here on be of a network namespace (setns(2))."""
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, NEWNET):
        raise OSError(ctypes.get_errno(), namespace)
    os.close(descriptor)


class Peers:
    """Both ends of every connection."""

    def __init__(self, port: int) -> None:
        enter("h2")
        self.listener = socket.create_server((SERVER, port), backlog=4096)
        enter("h1")
        self.pairs: list[Pair] = []
        self.opened = 0
        self.broken: dict[str, int] = {}
        self.random = random.Random(1)

    def open(self, count: int = 1) -> list[Pair]:
        """So many connections, those that come to be in some seconds; what is translated between them hides who is who."""
        begun = [begin(self.listener.getsockname()) for __ in range(count)]
        end = time.monotonic() + OPENING
        for number, one in enumerate(begun):
            if ready(one, select.POLLOUT, end):
                with contextlib.suppress(OSError):
                    one.send(struct.pack("!I", number))
        pairs: list[Pair] = []
        while len(pairs) < count and ready(self.listener, select.POLLIN, end):
            accepted = self.listener.accept()[0]
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if ready(accepted, select.POLLIN, end):
                pairs.append((begun[struct.unpack("!I", accepted.recv(4))[0]], accepted))
                accepted.setblocking(False)
        self.opened += len(pairs)
        for __ in range(count - len(pairs)):
            self.note("not opened")
        return pairs

    def note(self, why: str) -> None:
        self.broken[why] = self.broken.get(why, 0) + 1

    def churn(self) -> None:
        """Open a connection, and close it in an orderly way or by a reset."""
        for pair in self.open():
            if self.opened % 3 == 0:
                pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            for end in pair:
                end.close()

    def say(self) -> None:
        """Have one connection say something; what is there to read is read."""
        pair = self.random.choice(self.pairs[: max(1, len(self.pairs) // 4)])
        for end in pair:
            with contextlib.suppress(BlockingIOError):
                end.recv(65536)
        with contextlib.suppress(BlockingIOError):
            pair[self.random.randrange(2)].send(b"word\n")

    def work(self, rate: float, churn: float) -> None:
        """Until somebody ends us."""
        begun = time.monotonic()
        said = churned = 0
        while not ENDED:
            passed = time.monotonic() - begun
            while said < passed * rate and not ENDED:
                said += 1
                try:
                    self.say()
                except OSError as error:
                    self.note(f"while it spoke: {error.strerror}")
            while churned < passed * churn and not ENDED:
                churned += 1
                self.churn()
            time.sleep(0.002)

    def last_words(self) -> None:
        """Each connection says something both ways, a few at a time: what is too much for the host would be lost.

        TCP says again what was lost: for that all wait together.
        """
        pairs = [pair if number % 2 else pair[::-1] for number, pair in enumerate(self.pairs)]
        for pair in pairs:
            self.take(pair)
        for speaks in (0, 1):
            heard: list[Pair] = []
            late: list[Pair] = []
            for first in range(0, len(pairs), BATCH):
                spoken = [pair for pair in pairs[first : first + BATCH] if self.speak(pair, speaks)]
                end = time.monotonic() + SOON
                for pair in spoken:
                    (heard if ready(pair[1 - speaks], select.POLLIN, end) else late).append(pair)
            end = time.monotonic() + LAST_WORDS
            pairs = [pair for pair in (*heard, *late) if self.hears(pair[1 - speaks], end)]

    def take(self, pair: Pair) -> None:
        """What has arrived is no last word."""
        for end in pair:
            with contextlib.suppress(OSError):
                end.recv(65536)

    def speak(self, pair: Pair, end: int) -> bool:
        try:
            pair[end].send(b"last\n")
        except OSError as error:
            self.note(f"last words: {error.strerror}")
            return False
        return True

    def hears(self, end: socket.socket, until: float) -> bool:
        """Whether something arrives."""
        try:
            if not ready(end, select.POLLIN, until):
                raise OSError(0, "nothing arrived")
            if not end.recv(65536):
                raise OSError(0, "it was closed")
        except OSError as error:
            self.note(f"last words: {error.strerror}")
            return False
        return True


def begin(address: tuple[str, int]) -> socket.socket:
    """The end of a connection that is about to be."""
    begun = socket.socket()
    begun.setblocking(False)
    # A port can be used for several targets at once.
    begun.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    begun.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    begun.connect_ex(address)
    return begun


def ready(end: socket.socket, events: int, until: float) -> bool:
    """Whether that comes to be before a moment of the monotonic clock."""
    poll = select.poll()
    poll.register(end, events)
    return bool(poll.poll(max(0.0, until - time.monotonic()) * 1000))


def end(_number: int, _frame: t.Any) -> None:
    global ENDED
    ENDED = True


def work(number: int, count: int, rate: float, churn: float, log: str) -> None:
    """One process of several: each may have so many files open only."""
    peers = Peers(8080 + number)
    while len(peers.pairs) < count and not ENDED:
        peers.pairs += peers.open(min(BATCH, count - len(peers.pairs)))
    peers.broken.clear()  # what did not come to be at once was tried again, and is nobody's fault
    with open(f"{log}.{number}.new", "w") as file:
        file.writelines(f"{begun.getsockname()[1]} {begun.getpeername()[1]}\n" for begun, __ in peers.pairs)
    os.rename(f"{log}.{number}.new", f"{log}.{number}.open")
    peers.work(rate, churn)
    peers.last_words()
    outcome = {"connections": len(peers.pairs), "opened": peers.opened, "broken": peers.broken}
    with open(f"{log}.{number}", "w") as file:
        json.dump(outcome, file)


def collect(log: str, count: int) -> Outcome:
    """The outcomes of all, as one."""
    whole: Outcome = {"connections": 0, "opened": 0, "broken": {}}
    for number in range(count):
        with open(f"{log}.{number}") as file:
            part = json.load(file)
        for why, times in part["broken"].items():
            whole["broken"][why] = whole["broken"].get(why, 0) + times
        for name in ("connections", "opened"):
            whole[name] += part[name]
    return whole


def main() -> None:
    count, rate, churn, log = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    signal.signal(signal.SIGTERM, end)
    workers = -(-count // MOST)
    children = []
    for number in range(workers):
        child = os.fork()
        if not child:
            share = count // workers + (number < count % workers)
            work(number, share, rate / workers, churn / workers, log)
            return
        children.append(child)
    while not all(os.path.exists(f"{log}.{number}.open") for number in range(workers)) and not ENDED:
        time.sleep(0.1)
    open(f"{log}.open", "w").close()
    while not ENDED:
        time.sleep(0.1)
    for child in children:
        os.kill(child, signal.SIGTERM)
    for child in children:
        os.waitpid(child, 0)
    with open(f"{log}.new", "w") as file:
        json.dump(collect(log, workers), file)
    os.rename(f"{log}.new", log)


if __name__ == "__main__":
    main()
