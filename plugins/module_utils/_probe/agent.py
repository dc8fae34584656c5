# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The detached half of the traffic probe: sends, receives, records; knows nothing of Ansible.

The control half (``probe.py``) copies this file into the run directory of the
probe and runs it there, so it uses nothing but the standard library and imports
nothing of the collection. One process, three sockets: an ordinary UDP socket
(the established flow) and a raw one (a new source port for every packet) in the
sender's network namespace, one bound UDP socket in the receiver's. Sockets stay
in the namespace they were created in, so one event loop serves both ends and one
monotonic clock stamps both.

Every event is one 16-byte record of ``events.bin`` (``EVENT``, little-endian)::

    u8 kind (SENT, ARRIVED, REFUSED)  u8 stream (ESTABLISHED, NEW_FLOW)  2 x pad
    u32 sequence number in the stream   i64 CLOCK_MONOTONIC nanoseconds

A REFUSED record follows the SENT record of a packet that the sender's own kernel
did not take. ARRIVED carries the kernel's receive time (SO_TIMESTAMPNS, socket(7)
and timestamping.rst), so a late reader does not look like a late packet.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import signal
import socket
import struct
import sys
import time
import typing as t

SENT, ARRIVED, REFUSED = 1, 2, 3
ESTABLISHED, NEW_FLOW = 0, 1
EVENT = struct.Struct("<BBxxIq")

_PAYLOAD = struct.Struct("!8sBxxxI")
_UDP_HEADER = struct.Struct("!HHHH")
_TIMESPEC = struct.Struct("@ll")
_WARM_UP = 0xFFFFFFFF
# asm-generic/socket.h; Python's socket module does not name them in 3.9.
_SO_TIMESTAMPNS = 35
_SO_RXQ_OVFL = 40
_SO_RCVBUFFORCE = 33
_SO_NO_CHECK = 11
_CLONE_NEWNET = 0x40000000

_SECOND = 1_000_000_000
_LATE = _SECOND // 20
# The kernel stamps arrivals, so they may wait: a wake-up for each is what makes a probe expensive.
_READ_EVERY = _SECOND // 20
_BATCH = 256
_RECEIVE_BUFFER = 1 << 24
_NEW_FLOW_PORTS = range(1024, 65535)


class Parameters(t.NamedTuple):
    """What the agent needs: namespace files ('' = stay), target, packets per second, seconds."""

    sender: str
    receiver: str
    address: str
    port: int
    rate: int
    new_flow_rate: int
    max_duration: int
    warm_up: float
    drain: float


def in_namespace(path: str, create: t.Callable[[], socket.socket]) -> socket.socket:
    """Return ``create()`` called inside the network namespace of file ``path``; raises OSError."""
    if not path:
        return create()
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as home, open(path) as there:
        _setns(libc, there.fileno(), path)
        try:
            return create()
        finally:
            _setns(libc, home.fileno(), "/proc/self/ns/net")


def _setns(libc: ctypes.CDLL, descriptor: int, path: str) -> None:
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


class Recorder:
    """Appends event records to a file, in blocks; a killed agent loses at most the last second."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._block = bytearray()
        self._written = time.monotonic_ns()

    def add(self, kind: int, stream: int, sequence: int, when: int) -> None:
        """Record one event at ``when`` (monotonic nanoseconds)."""
        self._block += EVENT.pack(kind, stream, sequence, when)
        if when - self._written > _SECOND:
            self._written = when
            self.flush()

    def flush(self) -> None:
        """Hand everything recorded so far to the file."""
        view = memoryview(bytes(self._block))
        while view:
            view = view[os.write(self._file, view) :]
        self._block.clear()


class Sender:
    """Both streams; ``send`` counts the packets of each from 0."""

    def __init__(self, parameters: Parameters, token: bytes, recorder: Recorder) -> None:
        self._target = (parameters.address, parameters.port)
        self._token = token
        self._recorder = recorder
        self._plain = in_namespace(
            parameters.sender, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        )
        self._raw = in_namespace(
            parameters.sender, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
        )
        # A raw socket also receives; nobody reads it here.
        self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        for each in (self._plain, self._raw):
            each.setblocking(False)
        # A userspace datapath does not complete the checksums that a veth offloads to it.
        self._plain.setsockopt(socket.SOL_SOCKET, _SO_NO_CHECK, 1)
        self._plain.bind(("", 0))
        self._own_port = self._plain.getsockname()[1]
        # Two runs shortly after each other must not reuse flows that the datapath still knows.
        self._offset = int.from_bytes(os.urandom(2), "big")
        self._flows = 0
        self.sequence = [0, 0]
        self.last_error = ""

    def warm_up(self) -> None:
        """Send one packet of each stream that is not counted; raises OSError."""
        for stream in (ESTABLISHED, NEW_FLOW):
            self._transmit(stream, _WARM_UP)

    def send(self, stream: int, now: int) -> None:
        """Send and record the next packet of ``stream``; ``now`` in monotonic nanoseconds."""
        number = self.sequence[stream]
        self.sequence[stream] = number + 1
        self._recorder.add(SENT, stream, number, now)
        try:
            self._transmit(stream, number)
        except OSError as error:
            self._recorder.add(REFUSED, stream, number, now)
            self.last_error = str(error)

    def _transmit(self, stream: int, number: int) -> None:
        payload = _PAYLOAD.pack(self._token, stream, number)
        if stream == ESTABLISHED:
            self._plain.sendto(payload, self._target)
            return
        # Checksum 0: "transmitter generated no checksum" (RFC 768).
        header = _UDP_HEADER.pack(self._next_port(), self._target[1], _UDP_HEADER.size + len(payload), 0)
        self._raw.sendto(header + payload, (self._target[0], 0))

    def _next_port(self) -> int:
        port = _NEW_FLOW_PORTS[(self._offset + self._flows) % len(_NEW_FLOW_PORTS)]
        self._flows += 1
        return port if port != self._own_port else _NEW_FLOW_PORTS.stop


class Receiver:
    """The bound socket; ``drain`` records what has arrived."""

    def __init__(self, parameters: Parameters, token: bytes, recorder: Recorder) -> None:
        self._token = token
        self._recorder = recorder
        self._socket = in_namespace(
            parameters.receiver, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        )
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
        self._socket.bind((parameters.address, parameters.port))
        self.warm: set[int] = set()
        self.dropped = 0

    def drain(self) -> None:
        """Record what is queued, up to a batch: sending has priority."""
        offset = _realtime_offset()
        for _turn in range(_BATCH):
            try:
                data, ancillary, _flags, _address = self._socket.recvmsg(64, 128)
            except BlockingIOError:
                return
            self._record(data, ancillary, offset)

    def _record(self, data: bytes, ancillary: list[tuple[int, int, bytes]], offset: int) -> None:
        arrived = 0
        for _level, kind, value in ancillary:
            if kind == _SO_TIMESTAMPNS:
                seconds, nanoseconds = _TIMESPEC.unpack(value)
                arrived = seconds * _SECOND + nanoseconds - offset
            elif kind == _SO_RXQ_OVFL:
                self.dropped = struct.unpack("@I", value)[0]
        if len(data) != _PAYLOAD.size:
            return
        token, stream, number = _PAYLOAD.unpack(data)
        if token != self._token:
            return
        if number == _WARM_UP:
            self.warm.add(stream)
        else:
            self._recorder.add(ARRIVED, stream, number, arrived or time.monotonic_ns())


def _realtime_offset() -> int:
    """CLOCK_REALTIME minus CLOCK_MONOTONIC in ns; read anew each time, because realtime may step."""
    while True:
        before = time.monotonic_ns()
        realtime = time.time_ns()
        after = time.monotonic_ns()
        if after - before < _SECOND // 1000:
            return realtime - (before + after) // 2


def wait_for_path(sender: Sender, receiver: Receiver, seconds: float) -> list[str]:
    """Send uncounted packets until one of each stream arrived; return the streams that did not."""
    end = time.monotonic() + seconds
    while len(receiver.warm) < 2 and time.monotonic() < end:
        try:
            sender.warm_up()
        except OSError as error:
            sender.last_error = str(error)
        time.sleep(0.1)
        receiver.drain()
    names = {ESTABLISHED: "established", NEW_FLOW: "new flows"}
    return [name for stream, name in names.items() if stream not in receiver.warm]


def send_and_receive(
    parameters: Parameters, sender: Sender, receiver: Receiver, stopping: t.Callable[[], bool]
) -> str:
    """Send on an absolute schedule and receive until told to stop or out of time; return which of both."""
    intervals = [_SECOND // parameters.rate, _SECOND // parameters.new_flow_rate]
    now = read = time.monotonic_ns()
    end = now + parameters.max_duration * _SECOND
    due = [now, now]
    while not stopping():
        now = time.monotonic_ns()
        if now >= end:
            return "max_duration"
        for stream in (ESTABLISHED, NEW_FLOW):
            if now < due[stream]:
                continue
            sender.send(stream, now)
            due[stream] += intervals[stream]
            # After a long pause of this process a burst would measure the burst: go on from now.
            if due[stream] < now - _LATE:
                due[stream] = now + intervals[stream]
        if now - read >= _READ_EVERY:
            read = now
            receiver.drain()
        time.sleep(max(0, min(due) - time.monotonic_ns()) / _SECOND)
    return "stopped"


def drain_late(receiver: Receiver, seconds: float) -> None:
    """Receive what is still queued or on its way."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        receiver.drain()
        time.sleep(_READ_EVERY / _SECOND)
    receiver.drain()


def main(directory: str, lock: int, ready: int) -> None:
    """Detach, measure, leave ``start.json``, ``events.bin`` and ``end.json`` in ``directory``.

    ``lock`` is the held flock that says "running" as long as this process lives;
    ``ready`` is a pipe that gets one JSON line: ``{}`` or ``{"error": …}``.
    """
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir(directory)
    os.umask(0o077)
    os.ftruncate(lock, 0)
    os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stop.append(number))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with open("parameters.json") as file:
            parameters = Parameters(**json.load(file))
        recorder = Recorder("events.bin")
        token = os.urandom(8)
        receiver = Receiver(parameters, token, recorder)
        sender = Sender(parameters, token, recorder)
        # ovs-ctl starts ovs-vswitchd at nice -10; on one CPU a nicer sender would measure the scheduler.
        os.nice(-10)
        silent = wait_for_path(sender, receiver, parameters.warm_up)
    except OSError as error:
        _tell(ready, {"error": str(error)})
        return
    if silent:
        _tell(ready, {"silent": silent, "error": sender.last_error})
        return
    gc.disable()
    _write_json("start.json", {"monotonic_ns": time.monotonic_ns(), "realtime_ns": time.time_ns()})
    _tell(ready, {})
    reason = send_and_receive(parameters, sender, receiver, lambda: bool(stop))
    drain_late(receiver, parameters.drain)
    recorder.flush()
    _write_json(
        "end.json",
        {"reason": reason, "receiver_dropped": receiver.dropped, "last_error": sender.last_error},
    )


def _tell(ready: int, message: dict[str, t.Any]) -> None:
    # Whoever started it may have given up.
    with contextlib.suppress(BrokenPipeError):
        os.write(ready, json.dumps(message).encode() + b"\n")
    os.close(ready)


def _write_json(name: str, content: dict[str, t.Any]) -> None:
    with open(name + ".new", "w") as file:
        json.dump(content, file)
    os.replace(name + ".new", name)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
