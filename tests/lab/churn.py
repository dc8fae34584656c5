# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a lab host: a controller that changes a bridge all the time, and its own log of what the bridge must hold.

    churn.py MODE WHERE RATE LOG [VERSION [ROLE]]

WHERE is the socket of a bridge, or listen:PORT or listen:ADDRESS:PORT for a bridge to connect to.  VERSION is the OpenFlow
version on the wire: 1 ("flows" alone), 4, 5 (the default) or 6; ROLE is what the controller asks to be: 1 (equal), 2 (primary).
MODE is "flows" (adds, changes and deletes RATE flows a second), "resync" (deletes all its flows and adds them again, RATE of
them each half second), "groups" (adds, changes and deletes groups, meters and flows that use them), "timeouts" (as "flows",
with an idle timeout) or "ports" (changes the config of the ports 1 and 2).  Every change is followed by a barrier; what was not
confirmed when the connection went is sent again.  On SIGTERM it ends its change, writes LOG (JSON) and ends: {"flows":
{address: output port or 0}, "groups": {id: port}, "meters": {id: rate}, "changes": n, "ports": {number: whether it has
OFPPC_NO_PACKET_IN}, "connections": n, "silence": how long the switch has taken at most to confirm a change, in seconds,
"errors": […]}.

It shares no code with the collection, whose work it judges.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import struct
import sys
import time
import typing as t

HELLO, ERROR, ECHO_REQUEST, FLOW_MOD, GROUP_MOD, PORT_MOD, METER_MOD = 0, 1, 2, 14, 15, 16, 29
MULTIPART, ROLE_REQUEST = 18, 24
PORT_DESC, NO_PACKET_IN = 13, 64
TABLE, PRIORITY, COOKIE = 7, 100, 0xC0FFEE
MOST = 200
OF10, OF13, OF14, OF15 = 1, 4, 5, 6
VERSION = int(sys.argv[5]) if len(sys.argv) > 5 else OF14
ROLE = int(sys.argv[6]) if len(sys.argv) > 6 else 0
IDLE = 600 if sys.argv[1:2] == ["timeouts"] else 0
BARRIER = 18 if VERSION == OF10 else 20


# What the switch must hold: {"flows": {…}, "groups": {…}, "meters": {…}, "ports": {…}}.
Held = dict[str, dict[str, t.Any]]


class Gone(Exception):
    """The switch has closed the connection."""


class Controller:
    """One OpenFlow channel after the other, and what was confirmed on them."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.server: socket.socket | None = None
        self.socket: socket.socket | None = None
        self.buffer = b""
        self.xid = 1
        self.connections = 0
        # How long the switch has taken at most to confirm a change, in seconds, from the first one on.
        self.silence: float | None = None
        self.errors: list[str] = []
        self.given_up = False
        if where.startswith("listen:"):
            address, __, port = where[len("listen:") :].rpartition(":")
            self.server = socket.create_server((address or "127.0.0.1", int(port)))
            self.server.settimeout(0.1)

    def confirm(self, messages: t.Sequence[bytes]) -> None:
        """Send ``messages`` until the switch has confirmed all of them by a barrier."""
        began = time.monotonic()
        self.insist(messages)
        self.silence = 0.0 if self.silence is None else max(self.silence, time.monotonic() - began)

    def insist(self, messages: t.Sequence[bytes]) -> None:
        """Send them on one connection after the other."""
        while True:
            if self.given_up:
                raise SystemExit("the switch does not come back")
            try:
                channel = self.channel()
                self.xid += 1
                channel.sendall(b"".join(messages) + message(BARRIER, self.xid))
                self.answer(BARRIER + 1, self.xid)
                return
            except (Gone, OSError):
                self.close()
                time.sleep(0.005)

    def channel(self) -> socket.socket:
        """The channel that is there, else a new one."""
        if self.socket is None:
            self.socket = self.connected()
            self.greet(self.socket)
        return self.socket

    def connected(self) -> socket.socket:
        if self.server:
            channel, __ = self.server.accept()
        else:
            channel = socket.socket(socket.AF_UNIX)
            channel.settimeout(20)
            channel.connect(self.where)
        channel.settimeout(20)
        return channel

    def greet(self, channel: socket.socket) -> None:
        self.buffer = b""
        channel.sendall(message(HELLO, 0, struct.pack("!HHI", 1, 8, 1 << VERSION)))
        self.answer(HELLO, None)
        if ROLE:  # the connection's own generation: nobody else asks for one
            channel.sendall(message(ROLE_REQUEST, 1, struct.pack("!I4xQ", ROLE, self.connections)))
            self.answer(ROLE_REQUEST + 1, 1)
        self.connections += 1

    def close(self) -> None:
        if self.socket:
            self.socket.close()
        self.socket = None

    def answer(self, kind: int, xid: int | None) -> bytes:
        channel = self.channel()
        while True:
            while len(self.buffer) < 8 or len(self.buffer) < struct.unpack_from("!H", self.buffer, 2)[0]:
                data = channel.recv(65536)
                if not data:
                    raise Gone
                self.buffer += data
            length = struct.unpack_from("!H", self.buffer, 2)[0]
            found, self.buffer = self.buffer[:length], self.buffer[length:]
            if found[1] == ECHO_REQUEST:
                channel.sendall(found[:1] + b"\3" + found[2:])
            elif found[1] == ERROR:
                self.errors.append(found[8:40].hex())
            elif found[1] == kind and xid in (None, struct.unpack_from("!I", found, 4)[0]):
                return found

    def addresses(self) -> dict[int, bytes]:
        """The address of each port by its number: a port-mod has to name it."""
        self.channel().sendall(
            message(MULTIPART, 1, struct.pack("!HH4x", PORT_DESC, 0) + bytes(8) * (VERSION == OF15))
        )
        body = self.answer(MULTIPART + 1, 1)[16:]
        found: dict[int, bytes] = {}
        while body:
            (number,) = struct.unpack_from("!I", body)
            length = 64 if VERSION == OF13 else struct.unpack_from("!H", body, 4)[0]
            found[number], body = body[8:14], body[length:]
        return found


def message(kind: int, xid: int, body: bytes = b"") -> bytes:
    return struct.pack("!BBHI", VERSION, kind, 8 + len(body), xid) + body


def flow(command: int, address: str | None, instructions: bytes = b"") -> bytes:
    """A flow-mod (0 add, 2 modify strictly, 4 delete strictly) of the flow to ``address``, of all if that is None."""
    if VERSION == OF10 and address:
        return flow10(command, address, instructions)
    oxm = (
        struct.pack("!I", 0x80000A02)
        + b"\x08\x00"
        + struct.pack("!I", 0x80001804)
        + socket.inet_aton(address or "0")
    )
    match = struct.pack("!HH", 1, 4 + len(oxm)) + oxm if address else struct.pack("!HH", 1, 4)
    match += bytes(-len(match) % 8)
    mask = 0 if address else 0xFFFFFFFFFFFFFFFF
    any_ = 0xFFFFFFFF
    fields = COOKIE, mask, TABLE, command, IDLE, 0, PRIORITY, any_, any_, any_, 1 if command == 0 else 0, 0
    return message(FLOW_MOD, 0, struct.pack("!QQBBHHHIIIHH", *fields) + match + instructions)


def flow10(command: int, address: str, actions: bytes) -> bytes:
    """The same in OpenFlow 1.0, in table 0: all wildcards but the type and the address."""
    wildcards = (1 << 22) - 1 & ~(1 << 4) & ~(63 << 14)
    match = struct.pack("!I18xH8x4s4x", wildcards, 0x0800, socket.inet_aton(address))
    fields = COOKIE, command, IDLE, 0, PRIORITY, 0xFFFFFFFF, 0xFFFF, 1 if command == 0 else 0
    return message(FLOW_MOD, 0, match + struct.pack("!QHHHHIHH", *fields) + actions)


def apply(*actions: bytes) -> bytes:
    body = b"".join(actions)
    return struct.pack("!HH4x", 4, 8 + len(body)) + body


def to_port(port: int) -> bytes:
    if VERSION == OF10:
        return struct.pack("!HHHH", 0, 8, port, 0) if port else b""
    return apply(struct.pack("!HHIH6x", 0, 16, port, 0)) if port else b""


def to_group(group: int, meter: int) -> bytes:
    if VERSION == OF15:
        return apply(struct.pack("!HHI", 29, 8, meter), struct.pack("!HHI", 22, 8, group))
    return struct.pack("!HHI", 6, 8, meter) + apply(struct.pack("!HHI", 22, 8, group))


def group(command: int, number: int, port: int) -> bytes:
    """A group-mod (0 add, 1 modify, 2 delete)."""
    if VERSION == OF15:
        bucket = (
            struct.pack("!HHI", 24, 16, 0) + struct.pack("!HHIH6x", 0, 16, port, 0) if command < 2 else b""
        )
        fixed = command, 0, number, len(bucket), 0xFFFFFFFF
        return message(GROUP_MOD, 0, struct.pack("!HBxIHxxI", *fixed) + bucket)
    bucket = struct.pack("!HHII4x", 32, 0, 0xFFFFFFFF, 0xFFFFFFFF) + struct.pack("!HHIH6x", 0, 16, port, 0)
    return message(GROUP_MOD, 0, struct.pack("!HBxI", command, 0, number) + (bucket if command < 2 else b""))


def meter(command: int, number: int, rate: int) -> bytes:
    """A meter-mod (0 add, 1 modify, 2 delete), in kbps."""
    band = struct.pack("!HHII4x", 1, 16, rate, 0)
    return message(METER_MOD, 0, struct.pack("!HHI", command, 1, number) + (band if command < 2 else b""))


def churn(controller: Controller, held: Held, rng: random.Random) -> None:
    """Add, change or delete one flow."""
    flows = held["flows"]
    address = f"10.{rng.randrange(4)}.{rng.randrange(8)}.{rng.randrange(1, 25)}"
    port = rng.randrange(0, 3)
    if address not in flows and len(flows) < MOST:
        controller.confirm([flow(0, address, to_port(port))])
        flows[address] = port
    elif address in flows and rng.random() < 0.5:
        controller.confirm([flow(2, address, to_port(port))])
        flows[address] = port
    else:
        address = address if address in flows else rng.choice(sorted(flows))
        controller.confirm([flow(4, address)])
        del flows[address]


def resync(controller: Controller, held: Held, rng: random.Random, count: int) -> None:
    """Delete everything, and add it again, differently."""
    wanted = {f"10.9.{n // 250}.{n % 250 + 1}": rng.randrange(0, 3) for n in range(count)}
    controller.confirm(
        [flow(3, None), *(flow(0, address, to_port(port)) for address, port in wanted.items())]
    )
    held["flows"] = wanted


def groups(controller: Controller, held: Held, rng: random.Random) -> None:
    """Change a meter, a group and the flow that uses both; or take all three away."""
    number = rng.randrange(50, 60)
    key, address = str(number), f"10.8.0.{number}"
    if key in held["groups"] and rng.random() < 0.3:
        controller.confirm([flow(4, address), group(2, number, 0), meter(2, number, 0)])
        del held["groups"][key], held["meters"][key]
        held["flows"].pop(address, None)
        return
    port, rate = rng.randrange(1, 3), rng.randrange(1, 1000) * 1000
    # Deleted first, so that the same messages are right again after a connection was lost.
    remade = [flow(4, address), group(2, number, 0), meter(2, number, 0)] if key not in held["groups"] else []
    command = 0 if remade else 1
    controller.confirm(
        [
            *remade,
            meter(command, number, rate),
            group(command, number, port),
            flow(0, address, to_group(number, number)),
        ]
    )
    held["groups"][key], held["meters"][key], held["flows"][address] = port, rate, -number


def ports(controller: Controller, held: Held, rng: random.Random, addresses: t.Mapping[int, bytes]) -> None:
    """Change the config of one port."""
    number, on = rng.choice((1, 2)), rng.random() < 0.5
    fields = number, addresses[number], NO_PACKET_IN * on, NO_PACKET_IN
    controller.confirm(
        [message(PORT_MOD, 0, struct.pack("!I4x6sxxII", *fields) + bytes(8) * (VERSION == OF13))]
    )
    held["ports"][str(number)] = on


def main(mode: str, where: str, rate: str, log: str, *__: str) -> None:
    ended: list[bool] = []
    controller, rng = Controller(where), random.Random(1)

    def end(number: int, frame: object) -> None:
        ended.append(True)
        signal.alarm(20)

    def give_up(number: int, frame: object) -> None:
        controller.given_up = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGALRM, give_up)
    held: Held = {"flows": {}, "groups": {}, "meters": {}, "ports": {}}
    addresses = controller.addresses() if mode == "ports" else {}
    changes = 0
    pause = 0.5 if mode == "resync" else 1 / float(rate)
    while not ended:
        began = time.monotonic()
        if mode in ("flows", "timeouts"):
            churn(controller, held, rng)
        elif mode == "resync":
            resync(controller, held, rng, int(rate))
        elif mode == "ports":
            ports(controller, held, rng, addresses)
        else:
            groups(controller, held, rng)
        changes += 1
        time.sleep(max(0.0, pause - (time.monotonic() - began)))
    told = {"changes": changes, "connections": controller.connections, "errors": controller.errors[:10]}
    told["silence"] = controller.silence
    with open(log + ".new", "w") as file:
        json.dump({**held, **told}, file)
    os.rename(log + ".new", log)


if __name__ == "__main__":
    main(*sys.argv[1:])
