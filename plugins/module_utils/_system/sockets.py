# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Connections to daemons that may hang, or lie: each connect and each exchange has an end.

The other end may belong to an unprivileged user (``--ovs-user``), and what it says keeps root busy: it may be silent,
accept nobody, send a byte a minute, or send for ever.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket
import struct
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import ProtocolError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.heartbeat import beat
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.polling import wait_for
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import STILL, Watched

# What an answer may take in memory; 50,000 ports in one answer of the database are about 50 MB.
MOST_KEPT = 256 << 20
# What an answer may bring that is worked on piece by piece: ten million flows.
MOST_STREAMED = 2 << 30
# So many bytes a second are the slowest that is waited for.
SLOWEST = 128 << 10

# How often it is looked whether the other end does anything, in seconds.
_LOOK = 1.0

_SUN_PATH = 107
_CREDENTIALS = struct.Struct("@iII")
_TIMEVAL = struct.Struct("@ll")


class TooSlow(Exception):
    """The other end has kept us waiting for ``seconds``; ``why``, as far as it can be seen."""

    def __init__(self, seconds: float, why: str) -> None:
        super().__init__(why)
        self.seconds, self.why = seconds, why


class StandsStill(TooSlow):
    """No thread of the other end does anything: it will not do it later, either."""

    def __init__(self) -> None:
        super().__init__(STILL, "no thread of the daemon has done anything meanwhile")


class Patience:
    """How long the other end may keep us waiting in one exchange, and how much it may send.

    ``timeout`` seconds, and more as it does what is wanted of it (``earn``); time that we need ourselves does not count,
    when whoever needed it says ``resume``.
    """

    def __init__(self, timeout: float, most: int | None = None) -> None:
        self._timeout = self._left = timeout
        self._since = time.monotonic()
        self._most = MOST_KEPT if most is None else most
        self._received = 0
        beat()

    def resume(self) -> None:
        """The time since the last ``earn`` was our own."""
        self._since = time.monotonic()

    def earn(self, count: int) -> None:
        """The other end took ``count`` bytes, or sent as many that were wanted; the time since the last time was its own."""
        beat()
        now = time.monotonic()
        self._left += count / SLOWEST - (now - self._since)
        self._since = now

    def wait(self, connection: socket.socket, events: int) -> int:
        """Which of ``events`` is due on ``connection``; raises ``TooSlow``, early when the other end stands still."""
        other: Watched | None = None
        while (left := self._left - (time.monotonic() - self._since)) > 0:
            if found := wait_for(connection.fileno(), events, min(left, _LOOK)):
                return found
            other = other or Watched(functools.partial(_listener, connection))
            if other.stand_still():
                raise StandsStill
        raise TooSlow(self._timeout, "the connection is open but the daemon is silent")

    def received(self, count: int) -> None:
        """The other end sent ``count`` bytes; raises ``ProtocolError`` when that is more than there can be."""
        self._received += count
        if self._received > self._most:
            raise ProtocolError(
                "an answer does not end",
                f"more than {self._most >> 20} MiB of it came",
                "What answers is no Open vSwitch, or it is broken: look into its log",
            )


def connect(remote: str, timeout: float) -> socket.socket:
    """A connection to ``unix:PATH`` or ``tcp:HOST:PORT`` that does not block; raises ``OSError`` after ``timeout`` seconds."""
    kind, __, address = remote.partition(":")
    if kind == "unix":
        return connect_unix(address, timeout)
    if kind != "tcp":
        raise OSError(errno.EAFNOSUPPORT, "only unix:PATH and tcp:HOST:PORT are spoken to")
    host, __, port = address.rpartition(":")
    if not port.isdigit():
        raise OSError(errno.EINVAL, "it names no port")
    connection = socket.create_connection((host.strip("[]"), int(port)), timeout)
    connection.setblocking(False)
    return connection


def connect_unix(path: str, timeout: float, send_buffer: int = 0) -> socket.socket:
    """A connection to the socket ``path`` that does not block; raises ``OSError`` after ``timeout`` seconds.

    A daemon that hangs accepts nobody, and once its backlog is full connect(2) waits; a socket that does not block would
    not wait at all.  Under Linux SO_SNDTIMEO bounds it (unix_stream_connect).
    """
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(
            contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        )
        if send_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout))
        try:
            with _address(path) as address:
                connection.connect(address)
        except BlockingIOError as error:
            raise TimeoutError(
                errno.ETIMEDOUT, f"nobody accepted the connection for {timeout:g} s: the daemon hangs"
            ) from error
        connection.setblocking(False)
        stack.pop_all()
        return connection


def is_deserted(path: str) -> bool:
    """Whether nobody listens on the socket ``path`` any more, as when a process has crashed."""
    try:
        connect_unix(path, 1.0).close()
    except OSError as error:
        return isinstance(error, ConnectionRefusedError)
    return False


def _listener(connection: socket.socket) -> list[int]:
    """The process that has opened the socket at the other end (unix(7), SO_PEERCRED), where that can be told."""
    if connection.family != socket.AF_UNIX:
        return []
    size = _CREDENTIALS.size
    pid, *__ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    # systemd listens for others, and 0 is a process of another pid namespace.
    return [pid] if pid > 1 else []


@contextlib.contextmanager
def _address(path: str) -> t.Iterator[str]:
    """``path``, or where it is too long for a socket address, a name through its directory's descriptor."""
    if len(os.fsencode(path)) <= _SUN_PATH:
        yield path
        return
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{os.path.basename(path)}"
    finally:
        os.close(directory)


def _timeval(seconds: float) -> bytes:
    # Zero would mean for ever.
    whole = max(1, round(seconds * 1_000_000))
    return _TIMEVAL.pack(whole // 1_000_000, whole % 1_000_000)
