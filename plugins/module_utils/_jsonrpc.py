# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""One blocking JSON-RPC exchange at a time, each with a time limit.

OVSDB (RFC 7047) and the daemons' control sockets (``ovs-appctl``) speak the same
JSON-RPC 1.0.  ``ovs.unixctl.client`` and ``ovs.jsonrpc.Connection.transact_block``
wait for ever when a daemon hangs, so the loop with the clock is here.
"""

from __future__ import annotations

import errno
import os
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._errors import ProtocolError, Unreachable

try:
    import ovs.jsonrpc
    import ovs.poller
    import ovs.stream
except ImportError:  # _adapter.py tells the operator before anything gets here
    pass


class RpcError(Exception):
    """The peer answered with an error; ``error`` is its JSON value."""

    def __init__(self, error: t.Any) -> None:
        super().__init__(str(error))
        self.error = error


class JsonRpc:
    """A connection to ``remote`` (``unix:PATH`` or ``tcp:HOST:PORT``), open until ``close()``.

    ``timeout`` limits the connect and each call, in seconds.  Raises ``Unreachable``.
    """

    def __init__(self, remote: str, timeout: float = 10.0) -> None:
        self.remote = remote
        self.timeout = timeout
        error, stream = ovs.stream.Stream.open_block(ovs.stream.Stream.open(remote), int(timeout * 1000))
        if error:
            raise Unreachable(
                f"cannot connect to {remote}",
                os.strerror(abs(error)),
                "Check that the daemon runs and that the run directory is the right one",
            )
        self._connection = ovs.jsonrpc.Connection(stream)

    def close(self) -> None:
        """Close the socket; a second call does nothing."""
        self._connection.close()

    def call(self, method: str, params: t.Sequence[t.Any] = (), timeout: float | None = None) -> t.Any:
        """Send one request and return its result.

        ``timeout`` (seconds) replaces the connection's for this call.  Raises ``RpcError`` when the peer
        refuses, ``Unreachable`` when it is silent or gone, ``ProtocolError`` when it talks nonsense.
        """
        limit = self.timeout if timeout is None else timeout
        deadline = time.monotonic() + limit
        request = ovs.jsonrpc.Message.create_request(method, list(params))
        self._check(self._connection.send(request), method)
        while True:
            self._connection.run()
            error, message = self._connection.recv()
            if error == 0 and message is not None:
                answer = self._answer(message, request.id)
                if answer is not None:
                    if answer.error is not None:
                        raise RpcError(answer.error)
                    return answer.result
                continue
            self._check(error, method)
            left = deadline - time.monotonic()
            if left <= 0:
                raise Unreachable(
                    f"no answer to {method} from {self.remote} in {limit:g} s",
                    "the connection is open but the daemon is silent",
                    "The daemon hangs or is overloaded: look at its log and at 'top -H'",
                )
            self._wait(left)

    def _answer(self, message: t.Any, request_id: t.Any) -> t.Any:
        """The message if it answers ``request_id``; liveness probes ("echo") are answered on the way."""
        if message.type == ovs.jsonrpc.Message.T_REQUEST and message.method == "echo":
            self._connection.send(ovs.jsonrpc.Message.create_reply(message.params, message.id))
        elif message.type in (ovs.jsonrpc.Message.T_REPLY, ovs.jsonrpc.Message.T_ERROR):
            if message.id == request_id:
                return message
            raise ProtocolError(f"{self.remote} answered request {message.id!r}", f"{request_id!r} was asked")
        return None

    def _wait(self, seconds: float) -> None:
        poller = ovs.poller.Poller()
        self._connection.wait(poller)
        self._connection.recv_wait(poller)
        poller.timer_wait(max(1, int(seconds * 1000)))
        poller.block()

    def _check(self, error: int, method: str) -> None:
        if error == 0 or error == errno.EAGAIN:
            return
        if error == ovs.jsonrpc.EOF:
            raise Unreachable(
                f"{self.remote} closed the connection during {method}", "the daemon stopped or was restarted"
            )
        raise Unreachable(f"{method} on {self.remote} failed", os.strerror(abs(error)))
