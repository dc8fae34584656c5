# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Between ``applied`` and the confirmation: the engine goes on following the switch, and accounts for it when asked.

Whoever connects to the socket in the transaction's directory, which is root's alone, gets one JSON document.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.polling import READABLE, wait_for
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.hints import ENGINE_LOG
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.sockets import connect_unix

SOCKET = "account.sock"

# How often to read what the switch tells, and to see whether it is over, in seconds.
INTERVAL = 0.2
# How long an engine that has died may need to be there again, and one question may last, in seconds; and how often it may die.
BACK_TIMEOUT = 30.0
MOST_ENDED = 3
ANSWER_TIMEOUT = 600.0
_MOST = 64 << 20

Json = dict[str, t.Any]


class Watched(t.Protocol):
    """What is watched."""

    def account(self) -> Json:
        """What became of it since the hand-over began.  Raises ``HotUpgradeError``."""

    def take(self) -> None:
        """Note what it tells, without waiting."""


def serve(path: str, watched: Watched, over: t.Callable[[], bool]) -> None:
    """Answer everybody who connects to the socket ``path`` until it is ``over``."""
    _remove(path)
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as server:
        server.bind(path)
        server.listen(8)
        try:
            while not over():
                watched.take()
                if wait_for(server.fileno(), READABLE, INTERVAL):
                    _answer(server, watched)
        finally:
            _remove(path)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _answer(server: socket.socket, watched: Watched) -> None:
    with contextlib.suppress(OSError), server.accept()[0] as client:
        client.settimeout(INTERVAL * 10)
        try:
            document: Json = watched.account()
        except (HotUpgradeError, OSError) as error:
            document = {"error": str(error)}
        client.sendall(json.dumps(document).encode())


def ask(path: str) -> Json:
    """The account of whoever serves ``path``.  Raises ``HotUpgradeError`` when nobody does, or it could not be made.

    An engine that ends while it is asked is started again, and asked again.
    """
    for __ in range(MOST_ENDED):
        with contextlib.suppress(Unreachable):
            return _ask(path)
    return _ask(path)


def _ask(path: str) -> Json:
    connected = Waiter(BACK_TIMEOUT, INTERVAL).wait(
        "the engine of the hand-over answers", lambda: _connect(path), lambda __: True, hint=ENGINE_LOG
    )
    with connected as client:
        try:
            document: Json = json.loads(_answer_of(client))
        except (OSError, ValueError) as error:
            raise Unreachable(
                "the engine of the hand-over ended while it was asked", str(error), ENGINE_LOG
            ) from error
    if "error" in document:
        raise HotUpgradeError(
            "the switch could not be compared with what it held", document["error"], ENGINE_LOG
        )
    return document


def _answer_of(client: socket.socket) -> bytes:
    data = b""
    while len(data) < _MOST and wait_for(client.fileno(), READABLE, ANSWER_TIMEOUT):
        part = client.recv(1 << 16)
        if not part:
            break
        data += part
    return data


def _connect(path: str) -> socket.socket:
    try:
        return connect_unix(path, BACK_TIMEOUT)
    except OSError as error:
        raise Unreachable(f"nobody answers on {path}", error.strerror or str(error), ENGINE_LOG) from error
