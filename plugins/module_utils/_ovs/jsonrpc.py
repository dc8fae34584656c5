# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""JSON-RPC 1.0, one exchange at a time, each with a time limit and a bound.

OVSDB (RFC 7047) and the daemons' control sockets (``ovs-appctl``) both speak it.  The ``ovs`` package is not used: it
waits by select(2), reads for as long as something comes, and blocks in connect(2).
"""

from __future__ import annotations

import collections
import itertools
import json
import re
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    ProtocolError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.polling import READABLE, WRITABLE
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.sockets import (
    Patience,
    TooSlow,
    connect,
)

_LOG = "Look into the log of the daemon"
_READ = 1 << 18
# Probes for life are answered as long as the other end reads the answers.
_MOST_UNSENT = 1 << 20
# Deeper than this is no message of OVSDB; the same bound as in lib/json.c.
_MOST_DEPTH = 1000
# Longer than this is no number of OVSDB; and turning one into an integer takes the square of its length.
_MOST_DIGITS = 20

_OUTSIDE = re.compile(rb'"[^"\\]*"|["{}\[\]]')
_INSIDE = re.compile(rb'\\.|"', re.DOTALL)
_OPENING, _CLOSING = (b"{", b"["), (b"}", b"]")

Message = dict[str, t.Any]


class RpcError(Exception):
    """The peer answered with an error; ``error`` is its JSON value."""

    def __init__(self, error: t.Any) -> None:
        super().__init__(str(error))
        self.error = error


class Splitter:
    """Finds the documents in a stream of JSON without separators (RFC 7047 section 4), looking at each byte once."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._position = 0
        self._depth = 0
        self._in_string = False

    def feed(self, data: bytes) -> list[bytes]:
        """The documents that end in ``data``; raises ``ValueError`` for what cannot become one."""
        self._data += data
        documents = []
        while self._ends():
            documents.append(bytes(self._data[: self._position]))
            del self._data[: self._position]
            self._position = 0
        return documents

    def _ends(self) -> bool:
        """Go on to the end of a document, or of the data."""
        if self._depth == 0:
            del self._data[: len(self._data) - len(self._data.lstrip())]
            if self._data and self._data[:1] not in _OPENING:
                raise ValueError(f"it begins with {bytes(self._data[:20])!r}")
        while True:
            if self._in_string and not self._leave_string():
                return False
            if self._walk():
                return True
            if not self._in_string:
                return False

    def _walk(self) -> bool:
        """Count brackets up to the end of the document, or to a string that is not simple, or to the end of the data."""
        for token in _OUTSIDE.finditer(self._data, self._position):
            self._position = token.end()
            found = token[0]
            if found in _OPENING:
                self._depth += 1
                if self._depth > _MOST_DEPTH:
                    raise ValueError(f"it is nested more than {_MOST_DEPTH} deep")
            elif found in _CLOSING:
                self._depth -= 1
                if self._depth == 0:
                    return True
            elif len(found) == 1:
                self._in_string = True
                return False
        self._position = len(self._data)
        return False

    def _leave_string(self) -> bool:
        for token in _INSIDE.finditer(self._data, self._position):
            self._position = token.end()
            if token[0] == b'"':
                self._in_string = False
                return True
        # A backslash without its other half waits for that.
        self._position = len(self._data) - self._data.endswith(b"\\", self._position)
        return False


class JsonRpc:
    """A connection to ``remote`` (``unix:PATH`` or ``tcp:HOST:PORT``), open until ``close()``.

    ``timeout`` limits the connect and each call, in seconds.  Raises ``Unreachable``.
    """

    def __init__(self, remote: str, timeout: float = 10.0) -> None:
        self.remote = remote
        self.timeout = timeout
        self._splitter = Splitter()
        self._inbox: collections.deque[bytes] = collections.deque()
        self._unsent = bytearray()
        self._numbers = itertools.count(1)
        try:
            self._socket = connect(remote, timeout)
        except OSError as error:
            raise Unreachable(
                f"cannot connect to {remote}",
                error.strerror or str(error),
                "Check that the daemon runs and that the run directory is the right one",
            ) from error

    def close(self) -> None:
        """Close the socket; a second call does nothing."""
        self._socket.close()

    def call(self, method: str, params: t.Sequence[t.Any] = (), timeout: float | None = None) -> t.Any:
        """Send one request and return its result.

        ``timeout`` (seconds) replaces the connection's for this call.  Raises ``RpcError`` when the peer
        refuses, ``Unreachable`` when it is silent or gone, ``ProtocolError`` when it talks nonsense.
        """
        limit = self.timeout if timeout is None else timeout
        number = next(self._numbers)
        self._send({"method": method, "params": list(params), "id": number})
        patience = Patience(limit)
        try:
            while True:
                while self._inbox:
                    answer = self._answer(self._decoded(self._inbox.popleft()), number)
                    if answer is not None:
                        return _result(answer)
                self._move(patience)
        except TooSlow as error:
            raise Unreachable(
                f"no answer to {method} from {self.remote} in {error.seconds:g} s",
                error.why,
                "The daemon hangs or is overloaded: look at its log and at 'top -H'",
            ) from error
        except OSError as error:
            raise Unreachable(
                f"{method} on {self.remote} failed", error.strerror or str(error), _LOG
            ) from error
        except EOFError as error:
            raise Unreachable(
                f"{self.remote} closed the connection during {method}",
                "the daemon stopped or was restarted",
                _LOG,
            ) from error

    def _send(self, message: Message) -> None:
        self._unsent += json.dumps(message, separators=(",", ":")).encode()

    def _move(self, patience: Patience) -> None:
        """Wait until something can be read or written, and do it."""
        due = patience.wait(self._socket, READABLE | WRITABLE if self._unsent else READABLE)
        if due & WRITABLE:
            del self._unsent[: self._socket.send(self._unsent[:_READ])]
        if due & READABLE:
            data = self._socket.recv(_READ)
            if not data:
                raise EOFError
            patience.received(len(data))
            try:
                self._inbox.extend(self._splitter.feed(data))
            except ValueError as error:
                raise self._nonsense(str(error)) from error

    def _decoded(self, document: bytes) -> Message:
        try:
            message = json.loads(document.decode(), parse_int=_integer)
        except (ValueError, RecursionError) as error:
            raise self._nonsense(str(error)) from error
        if not isinstance(message, dict):
            raise self._nonsense("it is no object")
        return message

    def _answer(self, message: Message, number: int) -> Message | None:
        """The message if it answers request ``number``; liveness probes ("echo") are answered on the way."""
        if "method" in message:
            if (
                message["method"] == "echo"
                and message.get("id") is not None
                and len(self._unsent) < _MOST_UNSENT
            ):
                self._send({"id": message["id"], "result": message.get("params"), "error": None})
            return None
        if message.get("id") != number:
            raise ProtocolError(
                f"{self.remote} answered request {message.get('id')!r}", f"{number!r} was asked"
            )
        return message

    def _nonsense(self, why: str) -> ProtocolError:
        return ProtocolError(
            f"{self.remote} sent something that is no message of JSON-RPC",
            why[:200],
            "Look at what serves it",
        )


def _result(answer: Message) -> t.Any:
    if answer.get("error") is not None:
        raise RpcError(answer["error"])
    return answer.get("result")


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)
