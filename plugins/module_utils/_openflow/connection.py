# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""One OpenFlow connection to a bridge's management socket (``RUNDIR/BRIDGE.mgmt``).

It negotiates the version, sends requests and collects their answers, streams long answers and sends long
series of messages while it listens for errors.  Memory is bounded by one socket read and one message.  A switch that
does not answer, or drips, ends in ``Unreachable`` after ``timeout`` seconds, and an answer without end in ``ProtocolError``
(see ``Patience``).
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import socket
import threading
import time
import types
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    ProtocolError,
    Refused,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.polling import (
    READABLE,
    WRITABLE,
    wait_for,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.keeper import KEEPER
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.monitor import is_told
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.sockets import (
    MOST_STREAMED,
    Patience,
    TooSlow,
    connect_unix,
)

# Requests get numbers from here up, so that the messages of a snapshot keep theirs (1, 2, 3…).
_FIRST_REQUEST = 0x40000000
_CHUNK = 1 << 18
_SOCKET_BUFFER = 1 << 22
# How long a connection may be idle before it shows a sign of life, in seconds.
_IDLE = 15.0
# Messages that are read before they are needed; one has at most 64 KB.
_MOST_AHEAD = 256
# What a part of an answer counts for at least: each takes our time.
_LEAST_PART = 4096
# Of a long series, only so many refusals are kept; the rest is noise.
MOST_ERRORS = 10_000

Answer = t.Union[list[bytes], wire.SwitchError]


def management_socket(rundir: str, bridge: str) -> str:
    """Where ``bridge`` takes OpenFlow connections; its name is UTF-8 there, whatever the locale of this process is."""
    return os.path.join(rundir, os.fsdecode(f"{bridge}.mgmt".encode()))


class OpenFlow:
    """A connection; ``version`` is negotiated out of those ``offered`` by the switch. A context manager."""

    def __init__(self, connection: socket.socket, version: int, name: str, timeout: float) -> None:
        self.version = version
        self.offered: frozenset[int] = frozenset()
        self.name = name
        self.timeout = timeout
        # Whoever listens takes what the switch tells of its own accord out of ``told``; else it is dropped.
        self.listens = False
        self.told: collections.deque[bytes] = collections.deque()
        self._socket = connection
        self._buffer = bytearray(_CHUNK)
        self._filled = 0
        self._inbox: collections.deque[bytes] = collections.deque()
        self._errors: list[wire.SwitchError] = []
        # Answers that wait until what is half sent is whole.
        self._owed = bytearray()
        self._half_sent = False
        self._numbers = itertools.count(_FIRST_REQUEST)
        self._patience = Patience(timeout)
        # Held by whoever uses the connection; see ``breathe``.
        self._lock = threading.RLock()
        self._sign_of_life: tuple[float, t.Callable[[], bytes]] = (_IDLE, self._echo)
        self._breathes_at = time.monotonic() + _IDLE

    @classmethod
    def connect(cls, path: str, versions: t.Iterable[int] = wire.VERSIONS, timeout: float = 60.0) -> OpenFlow:
        """Connect to the socket ``path`` and agree on the highest common version.

        Raises ``Unreachable`` if nobody answers, ``Refused`` if no version is common.
        """
        try:
            connection = connect_unix(path, timeout, _SOCKET_BUFFER)
        except OSError as error:
            hint = "Check that ovs-vswitchd runs and that the bridge exists"
            raise Unreachable(f"cannot connect to {path}", error.strerror or str(error), hint) from error
        try:
            client = cls(connection, wire.OF10, os.path.basename(path), timeout)
            client._negotiate(tuple(versions))
            KEEPER.keep(client)
            return client
        except BaseException:
            connection.close()
            raise

    def __enter__(self) -> OpenFlow:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; the switch drops what was staged on it."""
        KEEPER.let_go(self)
        self._socket.close()

    def sign_of_life(self, interval: float = _IDLE, message: t.Callable[[], bytes] | None = None) -> None:
        """What is sent each ``interval`` seconds while nobody uses the connection: an echo request, or ``message``.

        Open vSwitch drops a connection from which it has heard nothing for a minute, and that has not answered its probe a
        minute later (rconn_run in lib/rconn.c).  Without a sign of life of ours, whoever works elsewhere for long would lose it.
        """
        self._sign_of_life = (interval, message or self._echo)
        self._breathes_at = time.monotonic() + interval

    def breathe(self) -> None:
        """Send the sign of life if it is due and nobody uses the connection; who uses it next finds out what became of it."""
        if time.monotonic() < self._breathes_at or not self._lock.acquire(blocking=False):
            return
        try:
            interval, message = self._sign_of_life
            self._breathes_at = time.monotonic() + interval
            with contextlib.suppress(HotUpgradeError, OSError, ValueError):
                if not self._owed and wait_for(self._socket.fileno(), WRITABLE, 0):
                    self._try_send(memoryview(message()))
        finally:
            self._lock.release()

    def _echo(self) -> bytes:
        return wire.message(self.version, wire.ECHO_REQUEST, 0)

    def fileno(self) -> int:
        """The descriptor of the socket, to wait for what arrives."""
        return self._socket.fileno()

    def poll(self) -> None:
        """Take what has arrived, without waiting.  Raises ``Unreachable`` when the switch has closed the connection."""
        with self._lock:
            self._patience = Patience(self.timeout)
            while self._readable():
                self._read()
            self._note(self._received())

    def drain(self) -> None:
        """Take all that the switch has written before it ended."""
        with self._lock:
            with contextlib.suppress(Unreachable):
                self.poll()
            self._note(self._received())

    def xid(self) -> int:
        """A transaction id that this connection has not used."""
        return next(self._numbers)

    def exchange(self, requests: t.Sequence[bytes]) -> list[Answer]:
        """Send all ``requests`` at once and return each one's answer, in their order.

        An answer is the list of replies (all parts of a multipart reply; empty for a modification that was
        accepted) or the switch's error.
        """
        with self._lock:
            return self._exchange(requests)

    def refusals(self, messages: t.Sequence[bytes]) -> list[tuple[bytes, wire.SwitchError]]:
        """Send all ``messages`` at once; those that the switch refused, each with its error."""
        answers = zip(messages, self.exchange(messages)) if messages else ()
        return [(message, answer) for message, answer in answers if isinstance(answer, wire.SwitchError)]

    def _exchange(self, requests: t.Sequence[bytes]) -> list[Answer]:
        answers: dict[int, Answer] = {wire.header(request).xid: [] for request in requests}
        for message in self._until_barrier(requests):
            found = wire.header(message)
            if found.xid not in answers:
                self._note([message])
                continue
            if found.type == wire.ERROR:
                answers[found.xid] = wire.switch_error(message)
                continue
            answer = answers[found.xid]
            if isinstance(answer, list):
                self._wanted(message)
                answer.append(message)
        return [answers[wire.header(request).xid] for request in requests]

    def ask(self, request: bytes) -> list[bytes]:
        """The replies to one request. Raises ``ProtocolError`` if the switch refuses it."""
        (answer,) = self.exchange([request])
        if isinstance(answer, wire.SwitchError):
            raise ProtocolError(f"{self.name}: the switch refused a request", answer.name)
        return answer

    def stream(self, *requests: bytes) -> t.Iterator[bytes]:
        """The parts of the replies to multipart ``requests``, one at a time, however many they are.

        Each request goes out as soon as the answer to the one before it begins to arrive, so that the switch prepares
        the next answer while this one is worked on.  The connection is not usable for anything else before the last
        part has been taken.
        """
        with self._lock:
            yield from self._stream(requests)

    def _stream(self, requests: t.Sequence[bytes]) -> t.Iterator[bytes]:
        numbers = [wire.header(request).xid for request in requests]
        self._patience = Patience(self.timeout, MOST_STREAMED)
        self._write_all(requests[0])
        sent = 1
        for number in numbers:
            self._patience = Patience(self.timeout, MOST_STREAMED)
            for part in self._parts(number):
                for newest in self._read_ahead(part):
                    if sent < len(requests) and wire.header(newest).xid == numbers[sent - 1]:
                        self._write_all(requests[sent])
                        sent += 1
                yield part

    def _parts(self, xid: int) -> t.Iterator[bytes]:
        """The parts of the multipart reply ``xid``."""
        more = True
        while more:
            message = self._next(lambda found: found.xid == xid)
            if message[1] == wire.ERROR:
                raise ProtocolError(
                    f"{self.name}: the switch refused a request", wire.switch_error(message).name
                )
            if not wire.is_multipart_reply(wire.header(message)):
                raise ProtocolError(
                    f"{self.name}: the switch answered with another message", message[:16].hex()
                )
            __, more, __ = wire.multipart_reply(message)
            self._wanted(message)
            yield message

    def post(self, messages: t.Iterable[bytes]) -> None:
        """Send ``messages`` (each item: one or more whole ones); the next ``send`` tells what was refused of them."""
        with self._lock:
            self._patience = Patience(self.timeout)
            for __ in self._write(messages):
                self._note(self._received())

    def send(self, messages: t.Iterable[bytes] = ()) -> list[wire.SwitchError]:
        """Send ``messages``, however many, and wait until they and all that was posted before are handled.

        Returns the errors that the switch sent since the last time (at most ``MOST_ERRORS``), answers to questions aside:
        it also sends one of its own accord, when it drops a bundle.
        """
        with self._lock:
            self._note(self._until_barrier(messages))
            errors, self._errors = self._errors, []
            return errors

    def _note(self, messages: t.Iterable[bytes]) -> None:
        for message in messages:
            if message[1] == wire.ERROR and len(self._errors) < MOST_ERRORS:
                self._errors.append(wire.switch_error(message))

    def _until_barrier(self, messages: t.Iterable[bytes]) -> t.Iterator[bytes]:
        """Send ``messages`` and a barrier; yield what comes back before the barrier's reply."""
        xid = self.xid()
        self._patience = Patience(self.timeout)
        request, reply = (18, 19) if self.version == wire.OF10 else (20, 21)
        for __ in self._write(itertools.chain(messages, [wire.message(self.version, request, xid)])):
            yield from self._received()
        while True:
            message = self._next(lambda found: True)
            if message[1] == reply and wire.header(message).xid == xid:
                return
            yield message

    def _write(self, messages: t.Iterable[bytes]) -> t.Iterator[None]:
        """Send ``messages`` in large writes; yield when something was read meanwhile, so that neither side blocks."""
        for chunk in _chunks(messages):
            left = memoryview(self._owed + chunk if self._owed else chunk)
            self._owed.clear()
            self._half_sent = True
            self._patience.resume()
            while left:
                due = self._wait(READABLE | WRITABLE, "took no more data")
                if due & READABLE:
                    self._read()
                    yield
                if due & WRITABLE:
                    count = self._try_send(left)
                    self._patience.earn(count)
                    left = left[count:]
            self._half_sent = False
            self._pay()

    def _write_all(self, message: bytes) -> None:
        for __ in self._write([message]):
            pass

    def _try_send(self, data: memoryview) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._lost(error) from error

    def _next(self, wanted: t.Callable[[wire.Header], bool]) -> bytes:
        """The next message that ``wanted`` accepts; of others only errors are kept, for ``send``."""
        self._patience.resume()
        while True:
            for message in self._received():
                if wanted(wire.header(message)):
                    self._patience.earn(0)
                    return message
                self._note([message])
            self._wait(READABLE, "did not answer")
            self._read()

    def _wanted(self, part: bytes) -> None:
        """A part of an answer is here; Open vSwitch fills them (ofpmp_reserve), so that many small ones are no answer."""
        self._patience.earn(len(part))
        self._patience.received(max(0, _LEAST_PART - len(part)))

    def _wait(self, events: int, fault: str) -> int:
        try:
            return self._patience.wait(self._socket, events)
        except TooSlow as error:
            what = f"{self.name}: the switch {fault} for {error.seconds:g} s"
            hint = "ovs-vswitchd is overloaded or stuck: look into its log"
            raise Unreachable(what, error.why, hint) from error

    def _received(self) -> t.Iterator[bytes]:
        """The messages that are here already, without asynchronous ones; echo requests are answered."""
        while self._inbox:
            message = self._inbox.popleft()
            if message[1] == wire.ECHO_REQUEST:
                self._owed += message[:1] + bytes([wire.ECHO_REPLY]) + message[2:]
                self._pay()
            elif self.listens and is_told(message):
                self.told.append(message)
            else:
                yield message

    def _pay(self) -> None:
        """Send what is owed, but not into the middle of another message."""
        if self._owed and not self._half_sent:
            del self._owed[: self._try_send(memoryview(bytes(self._owed)))]

    def _read_ahead(self, message: bytes) -> t.Iterator[bytes]:
        """Take what the switch has to say, up to a bound, before the caller works on ``message``.

        The switch can go on then: its end of the socket holds some 200 KB (net.core.wmem_default), the flows of a table
        take megabytes.  Yields ``message``, and after each read the newest one that is here.
        """
        yield message
        while len(self._inbox) < _MOST_AHEAD and self._readable():
            self._read()
            if self._inbox:
                yield self._inbox[-1]

    def _readable(self) -> bool:
        return bool(wait_for(self._socket.fileno(), READABLE, 0))

    def _read(self) -> None:
        # One buffer for all reads: a new one of this size costs more in page faults than the copy into it.
        view = memoryview(self._buffer)
        try:
            count = self._socket.recv_into(view[self._filled :])
        except BlockingIOError:
            return
        except OSError as error:
            raise self._lost(error) from error
        if not count:
            raise self._lost(None)
        self._patience.received(count)
        end = self._filled + count
        messages = list(wire.split(view[:end]))
        taken = sum(map(len, messages))
        self._inbox.extend(messages)
        self._filled = end - taken
        view[: self._filled] = view[taken:end]
        self._require_version([*messages, view[: self._filled]])

    def _require_version(self, messages: t.Iterable[bytes | memoryview]) -> None:
        """Raise ``ProtocolError`` where one begins with another version: the length of the one before it is not true."""
        if not self.offered:
            return
        for message in messages:
            if message and message[0] != self.version:
                raise ProtocolError(
                    f"{self.name}: the switch sent no OpenFlow message",
                    f"it would be one of version {message[0]}, {_names([self.version])} was agreed on",
                    "Look into the log of ovs-vswitchd",
                )

    def _negotiate(self, versions: tuple[int, ...]) -> None:
        self._write_all(wire.hello(versions))
        answer = self._next(lambda found: found.type in (wire.HELLO, wire.ERROR))
        offered = wire.hello_versions(answer) if answer[1] == wire.HELLO else frozenset[int]()
        common = offered & frozenset(versions)
        if not common:
            raise Refused(
                f"{self.name}: no common OpenFlow version",
                f"wanted {_names(versions)}, the bridge allows {_names(offered) or 'none of them'}",
                "Add one of the wanted versions to the bridge's protocols column",
            )
        self.version, self.offered = max(common), offered

    def _lost(self, error: OSError | None) -> HotUpgradeError:
        why = (error.strerror or str(error)) if error else "closed by the switch"
        return Unreachable(
            f"{self.name}: the OpenFlow connection was lost", why, "Look into the log of ovs-vswitchd"
        )


def _chunks(messages: t.Iterable[bytes]) -> t.Iterator[bytes]:
    """Join messages into writes of at least 256 KB (the last may be smaller)."""
    parts: list[bytes] = []
    size = 0
    for message in messages:
        parts.append(message)
        size += len(message)
        if size >= _CHUNK:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)


def _names(versions: t.Iterable[int]) -> str:
    return ", ".join(wire.VERSION_NAMES.get(version, f"version {version}") for version in sorted(versions))
