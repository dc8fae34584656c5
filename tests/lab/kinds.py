# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a lab host: connections of every kind from h1 to h2, real ones, that keep quiet until they are asked.

    kinds.py FIRST LOG [sctp]

FIRST is the first port that h1 uses, and the first identifier of ICMP.  Writes "LOG.1" when all are begun: JSON, how many of
which kind.  On SIGUSR1 those that can still say something do, the end that was connected to first, and on SIGUSR2 as many are
begun besides; "LOG.2", "LOG.3", … tell which kinds could not, and how many there are.  SIGTERM ends it.

SCTP is made by hand, since a kernel need not have it.  The addresses are those of tests/scenarios/kinds.py: each is translated in
another way.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import functools
import itertools
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import typing as t

NEWNET = 0x40000000
# How long an answer may take, in seconds: TCP repeats what was lost.
ANSWER = 20.0
# And all those that do not come together: who asks wants to know which.
PATIENCE = 60.0
REPEATED = 3
SERVER, TRANSLATED_SERVER, FTP = 9000, 9078, 21
# Where a connection is begun before it is tracked.
MIDDLE = 9020
SCTP = 132
INIT, INIT_ACK, COOKIE_ECHO, COOKIE_ACK, DATA = 1, 2, 10, 11, 0
CLIENTS = {4: "10.0.0.1", 6: "fd00::1"}
# What each address of h2 stands for is told by the flows; nobody has the last ones.
SERVERS = {
    4: ("10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.77", "10.0.0.78", "10.0.0.79"),
    6: ("fd00::2", "fd00::3", "fd00::77"),
}
# What h2 has beside the first ones.
OWNED = ("10.0.0.3", "10.0.0.4", "fd00::3")
SILENT = {4: "10.0.0.66", 6: "fd00::66"}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}

ASKED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)

Prove = t.Callable[[], bool]


class Kinds:
    """What was begun, by kind, and how those that live prove it."""

    def __init__(self, first: int, sctp: bool) -> None:
        self.with_sctp = sctp
        self.ports = itertools.count(first)
        self.count: collections.Counter[str] = collections.Counter()
        self.proofs: list[tuple[str, Prove]] = []
        # What is not looked at again, but has to stay open.
        self.kept: list[socket.socket] = []
        self.listeners: dict[tuple[int, int], socket.socket] = {}
        self.datagrams: dict[int, socket.socket] = {}

    def note(self, kind: str, prove: Prove | None = None) -> None:
        self.count[kind] += 1
        if prove:
            self.proofs.append((kind, prove))

    def open(self) -> None:
        """All kinds; those that are forgotten first come last."""
        for family, addresses in SERVERS.items():
            for address in addresses * REPEATED:
                self.tcp_long(family, address)
        self.gateway()
        for family, addresses in SERVERS.items():
            for address in addresses * REPEATED:
                self.tcp_short(family, address)
                self.udp(family, address)
                self.icmp(family, address)
                if self.with_sctp:
                    self.sctp(family, address)
            self.unheard(family)

    def listen(self) -> None:
        for family in FAMILIES:
            for port in (SERVER, MIDDLE, FTP):
                listener = made("h2", family, socket.SOCK_STREAM, ("", port))
                listener.settimeout(ANSWER)
                listener.listen(64)
                self.listeners[family, port] = listener
            self.datagrams[family] = made("h2", family, socket.SOCK_DGRAM, ("", SERVER))

    def client(self, family: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
        return made("h1", family, kind, (CLIENTS[family], next(self.ports)))

    def tcp(self, family: int, address: str, port: int = SERVER) -> tuple[socket.socket, socket.socket]:
        """Both ends of one that is established."""
        begun = self.client(family)
        begun.settimeout(ANSWER)
        begun.connect((address, TRANSLATED_SERVER if address == "10.0.0.78" else port))
        accepted = self.listeners[family, port].accept()[0]
        self.kept += [begun, accepted]
        return begun, accepted

    def tcp_long(self, family: int, address: str) -> None:
        """What a firewall remembers for long: established, and closed by one end."""
        one, other = self.tcp(family, address)
        self.note(f"tcp{family} established", functools.partial(both, other, one))
        begun, accepted = self.tcp(family, address)
        begun.shutdown(socket.SHUT_WR)
        self.note(f"tcp{family} closed by its client", lambda: told(accepted, begun))
        client, server = self.tcp(family, address)
        server.shutdown(socket.SHUT_WR)
        self.note(f"tcp{family} closed by its server", lambda: told(client, server))

    def tcp_short(self, family: int, address: str) -> None:
        """What has ended: in an orderly way, and by a reset."""
        for kind in ("closed", "reset"):
            one, other = self.tcp(family, address)
            told(one, other)
            if kind == "reset":
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()
            with contextlib.suppress(OSError):
                other.recv(1)
            other.close()
            self.note(f"tcp{family} {kind}")

    def from_the_middle(self) -> None:
        """What begins to be tracked when it is established: the flows that let it pass untracked go."""
        pairs = [self.tcp(family, SERVERS[family][0], MIDDLE) for family in FAMILIES]
        subprocess.run(["ovs-ofctl", "-O", "OpenFlow15", "del-flows", "br0", "cookie=0xbb/-1"], check=True)
        for one, other in pairs:
            told(one, other)
            told(other, one)
            self.note("tcp seen from its middle", functools.partial(both, other, one))

    def gateway(self) -> None:
        """The control connection of FTP, in which an address is translated."""
        one, other = self.tcp(4, "10.0.0.3", FTP)
        one.sendall(b"PORT 10,0,0,1,%d,7\r\n" % (next(self.ports) >> 8))
        heard(other)
        self.note("ftp")

    def udp(self, family: int, address: str) -> None:
        """Answered, and not answered until a proof is asked for."""
        for kind in ("answered", "not answered"):
            client, server = self.client(family, socket.SOCK_DGRAM), self.datagrams[family]
            client.connect((address, TRANSLATED_SERVER if address == "10.0.0.78" else SERVER))
            client.send(b"word")
            peer = came(server)[1]
            # The answer comes from the address that was asked.
            back = made("h2", family, socket.SOCK_DGRAM, (owner(family, address), SERVER))
            back.connect(peer)
            if kind == "answered":
                told(back, client)
            self.kept += [client, back]
            self.note(f"udp{family} {kind}", functools.partial(both, back, client))

    def icmp(self, family: int, address: str) -> None:
        """An echo that is answered."""
        raw = made("h1", family, socket.SOCK_RAW, (CLIENTS[family], 0), ICMP[family])
        raw.connect((address, 0))
        self.kept.append(raw)
        number, turns = next(self.ports), itertools.count(1)

        def prove() -> bool:
            return echoed(raw, family, number, next(turns))

        if not prove():
            raise SystemExit(f"no echo from {address}")
        self.note(f"icmp{family}", prove)

    def sctp(self, family: int, address: str) -> None:
        """An association (RFC 9260, 5.1), with one end that is translated as h2 sees it."""
        port = TRANSLATED_SERVER if address == "10.0.0.78" else SERVER
        server = made("h2", family, socket.SOCK_RAW, ("", 0), SCTP)
        client = made("h1", family, socket.SOCK_RAW, (CLIENTS[family], 0), SCTP)
        self.kept += [server, client]
        source = next(self.ports)
        association = Association(client, server, family, source)
        association.begin(address, port)
        self.note(f"sctp{family}", association.speaks)

    def unheard(self, family: int) -> None:
        """What nobody answers."""
        for __ in range(REPEATED):
            begun = self.client(family)
            begun.setblocking(False)
            begun.connect_ex((SILENT[family], SERVER))
            raw = made("h1", family, socket.SOCK_RAW, (CLIENTS[family], 0), ICMP[family])
            raw.connect((SILENT[family], 0))
            raw.send(echo(family, next(self.ports), 1))
            self.kept += [begun, raw]
            self.note(f"tcp{family} not answered")
            self.note(f"icmp{family} not answered")

    def broken(self) -> dict[str, int]:
        """Of which kind so many could not say something."""
        end = time.monotonic() + PATIENCE
        return dict(collections.Counter(kind for kind, prove in self.proofs if not proven(prove, end)))


class Association:
    """Both ends of one of SCTP, as raw packets."""

    def __init__(self, client: socket.socket, server: socket.socket, family: int, source: int) -> None:
        self.client, self.server, self.family, self.source = client, server, family, source
        self.target = SERVER

    def begin(self, address: str, port: int) -> None:
        self.target = port
        self.client.connect((address, 0))
        # Initiate tag, window, streams, first number (3.3.2).
        head = struct.pack("!IIHHI", 7, 65536, 1, 1, 1)
        self.client.send(packet(self.source, port, 0, INIT, head))
        peer, self.seen = self.arrival(address)
        # Raw sockets hear all associations: this one now answers as whoever was asked.
        self.server.close()
        self.server = made("h2", self.family, socket.SOCK_RAW, (owner(self.family, address), 0), SCTP)
        self.server.connect((peer, 0))
        for end, kind, body in (
            (self.server, INIT_ACK, head),
            (self.client, COOKIE_ECHO, b"cake"),
            (self.server, COOKIE_ACK, b""),
        ):
            if not self.passes(end, kind, body):
                raise SystemExit(f"SCTP to {address}: chunk {kind} did not arrive")

    def passes(self, end: socket.socket, kind: int, body: bytes) -> bool:
        if end is self.server:
            end.send(packet(SERVER, self.seen, 7, kind, body))
            return self.arrives(self.client, self.target, self.source, kind)
        end.send(packet(self.source, self.target, 7, kind, body))
        return self.arrives(self.server, self.seen, SERVER, kind)

    def speaks(self) -> bool:
        data = struct.pack("!IHHI", 1, 0, 0, 0) + b"word"
        return self.passes(self.server, DATA, data) and self.passes(self.client, DATA, data)

    def arrival(self, address: str) -> tuple[str, int]:
        """Who begins one, as its target sees it: address and port."""
        until = time.monotonic() + ANSWER
        while ready(self.server, until):
            data, peer = self.server.recvfrom(2048)
            data = bare(self.family, data)
            source, target = struct.unpack("!HH", data[:4])
            if data[12] == INIT and target == SERVER:
                return peer[0], source
        raise SystemExit(f"SCTP to {address}: nothing arrives")

    def arrives(self, end: socket.socket, source: int, target: int, kind: int) -> bool:
        until = time.monotonic() + ANSWER
        while ready(end, until):
            data = bare(self.family, end.recv(2048))
            if struct.unpack("!HH", data[:4]) == (source, target) and data[12] == kind:
                return True
        return False


ICMP = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}
# Request and answer (RFC 792, RFC 4443).
ECHO = {4: (8, 0), 6: (128, 129)}


def made(
    namespace: str, family: int, kind: int, address: tuple[str, int], protocol: int = 0
) -> socket.socket:
    """A socket of a network namespace (setns(2)), bound."""
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, NEWNET):
            raise OSError(ctypes.get_errno(), namespace)
    finally:
        os.close(descriptor)
    made = socket.socket(FAMILIES[family], kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if kind == socket.SOCK_DGRAM:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == 6 and kind != socket.SOCK_RAW:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.bind(address)
    return made


def owner(family: int, address: str) -> str:
    """The address of h2 that answers for one that h1 asks."""
    return address if address in OWNED else SERVERS[family][0]


def bare(family: int, data: bytes) -> bytes:
    """What a raw socket hears, without the header that IPv4 has there."""
    return data[(data[0] & 15) * 4 :] if family == 4 else data


def ready(end: socket.socket, until: float) -> bool:
    return bool(select.select([end], [], [], max(0.0, until - time.monotonic()))[0])


def came(end: socket.socket) -> tuple[bytes, t.Any]:
    """What comes, and from whom; raises ``OSError`` when nothing does."""
    if not ready(end, time.monotonic() + ANSWER):
        raise OSError(0, "nothing arrived")
    return end.recvfrom(2048)


def heard(end: socket.socket) -> bool:
    return bool(came(end)[0])


def told(speaks: socket.socket, hears: socket.socket) -> bool:
    """Whether a word comes over."""
    speaks.send(b"word")
    return heard(hears)


def both(one: socket.socket, other: socket.socket) -> bool:
    """Whether words come over, first those of ``one``."""
    return told(one, other) and told(other, one)


def proven(prove: Prove, end: float) -> bool:
    """Whether one says something; behind ``end`` all are taken for broken."""
    try:
        if time.monotonic() > end:
            return False
        return prove()
    except OSError:
        return False


def echo(family: int, number: int, turn: int) -> bytes:
    """A request (RFC 792); the kernel fills in the checksum of ICMPv6."""
    body = struct.pack("!HHHH", ECHO[family][0] << 8, 0, number, turn)
    return body[:2] + struct.pack("!H", summed(body)) + body[4:] if family == 4 else body


def echoed(raw: socket.socket, family: int, number: int, turn: int) -> bool:
    """Whether the answer comes; a raw socket hears those of others, too."""
    raw.send(echo(family, number, turn))
    until = time.monotonic() + ANSWER
    while ready(raw, until):
        data = bare(family, raw.recv(2048))
        if data[0] == ECHO[family][1] and struct.unpack("!HH", data[4:8]) == (number, turn):
            return True
    return False


def summed(data: bytes) -> int:
    """The checksum of the internet (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(source: int, target: int, tag: int, kind: int, body: bytes) -> bytes:
    """One chunk of SCTP (RFC 9260, 3) with its checksum (appendix A)."""
    flags = 3 if kind == DATA else 0
    chunk = struct.pack("!BBH", kind, flags, 4 + len(body)) + body
    head = struct.pack("!HHI", source, target, tag)
    total = 0xFFFFFFFF
    for byte in head + bytes(4) + chunk:
        total ^= byte
        for __ in range(8):
            total = total >> 1 ^ (0x82F63B78 if total & 1 else 0)
    return head + struct.pack("<I", total ^ 0xFFFFFFFF) + chunk


def write(log: str, number: int, what: t.Any) -> None:
    with open(f"{log}.new", "w") as file:
        json.dump(what, file)
    os.rename(f"{log}.new", f"{log}.{number}")


def main() -> None:
    first, log = int(sys.argv[1]), sys.argv[2]
    signal.pthread_sigmask(signal.SIG_BLOCK, ASKED)
    kinds = Kinds(first, "sctp" in sys.argv[3:])
    kinds.listen()
    kinds.from_the_middle()
    turns, asked = itertools.count(1), signal.SIGUSR2
    while asked != signal.SIGTERM:
        if asked == signal.SIGUSR2:
            kinds.open()
        write(log, next(turns), kinds.count if asked == signal.SIGUSR2 else kinds.broken())
        asked = signal.Signals(signal.sigwait(ASKED))


if __name__ == "__main__":
    main()
