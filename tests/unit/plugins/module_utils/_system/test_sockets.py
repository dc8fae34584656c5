# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Daemons that hang, drip or do not end: nobody waits longer than he was told to."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    ProtocolError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.polling import READABLE
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.outside import server_of
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import OpenFlow
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.jsonrpc import JsonRpc
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import process, sockets

# Whoever waits for ever must fail, not hang: pytest has no time limit of its own.
pytestmark = pytest.mark.usefixtures("_impatient")


@pytest.fixture
def _impatient() -> t.Iterator[None]:
    import faulthandler

    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def hung(tmp_path: Path) -> t.Iterator[str]:
    """The socket of a daemon that accepts nobody, and has as many in its backlog as it takes."""
    path = str(tmp_path / "hung.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        waiting = []
        while True:
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            waiting.append(client)
            if client.connect_ex(path):
                break
        yield path
        for client in waiting:
            client.close()


def test_a_full_backlog_is_not_waited_for_longer_than_the_timeout(hung: str) -> None:
    with pytest.raises(TimeoutError, match="the daemon hangs"):
        sockets.connect_unix(hung, 0.05)


@pytest.mark.parametrize(
    "connect",
    [
        lambda path: JsonRpc(f"unix:{path}", 0.05),
        lambda path: OpenFlow.connect(path, timeout=0.05),
    ],
    ids=["JSON-RPC", "OpenFlow"],
)
def test_whoever_speaks_to_a_hung_daemon_is_told(hung: str, connect: t.Callable[[str], t.Any]) -> None:
    with pytest.raises(Unreachable, match="cannot connect to .*nobody accepted the connection for 0.05 s"):
        connect(hung)


def test_nobody_serves_a_socket_whose_backlog_is_full(hung: str) -> None:
    assert server_of(hung) is None


def test_a_backlog_that_empties_lets_the_next_one_in(hung: str) -> None:
    with pytest.raises(TimeoutError):
        sockets.connect_unix(hung, 0.01)
    with socket.socket(socket.AF_UNIX) as listener:
        Path(hung).unlink()
        listener.bind(hung)
        listener.listen(1)
        with sockets.connect_unix(hung, 5.0) as client:
            assert not client.getblocking()


@pytest.mark.parametrize("remote", ["ssl:127.0.0.1:6640", "punix:/run/x", "tcp:127.0.0.1", "", "unix:"])
def test_other_remotes_are_refused(remote: str) -> None:
    with pytest.raises(Unreachable, match="cannot connect to"):
        JsonRpc(remote, 0.05)


def test_tcp(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with sockets.connect(f"tcp:127.0.0.1:{port}", 5.0) as client:
            assert client.getpeername() == ("127.0.0.1", port)


def test_what_was_earned_is_waited_for_longer() -> None:
    one, other = socket.socketpair()
    with one, other:
        patience = sockets.Patience(0.0)
        with pytest.raises(sockets.TooSlow):
            patience.wait(one, READABLE)
        other.send(b"x")
        patience.earn(sockets.SLOWEST * 60)
        assert patience.wait(one, READABLE) == READABLE


def test_an_answer_has_a_bound() -> None:
    patience = sockets.Patience(1.0, most=100)
    patience.received(60)
    patience.received(40)
    with pytest.raises(ProtocolError, match="does not end"):
        patience.received(1)


# Listens, says so, and then does what it is told.
LISTENER = """
import signal, socket, sys, time
listener = socket.socket(socket.AF_UNIX); listener.bind(sys.argv[1]); listener.listen(9); print(flush=True)
exec(sys.argv[2])
"""
IDLE, WAKES, WORKS = "signal.pause()", "while True: time.sleep(0.02)", "while True: pass"


@pytest.mark.parametrize(
    ("does", "stopped", "still"),
    [
        (IDLE, False, True),
        (WAKES, True, True),
        (WORKS, True, True),
        (WAKES, False, False),
        (WORKS, False, False),
    ],
)
def test_nobody_waits_for_a_daemon_that_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, stopped: bool, still: bool
) -> None:
    monkeypatch.setattr(sockets, "_LOOK", 0.1)
    monkeypatch.setattr(process, "_LOOK_AGAIN", 0.1)
    monkeypatch.setattr(process, "STILL", 0.3)
    path = str(tmp_path / "x")
    argv = [sys.executable, "-c", LISTENER, path, does]
    with (
        subprocess.Popen(argv, stdout=subprocess.PIPE) as daemon,
        sockets.connect_unix(_there(daemon, path), 5.0) as client,
    ):
        if stopped:
            daemon.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(sockets.TooSlow) as caught:
                sockets.Patience(60.0 if still else 1.0).wait(client, READABLE)
        finally:
            daemon.kill()
    assert isinstance(caught.value, sockets.StandsStill) == still
    assert caught.value.seconds == (10.0 if still else 1.0)


def _there(daemon: subprocess.Popen[bytes], path: str) -> str:
    assert daemon.stdout is not None
    daemon.stdout.readline()
    return path
