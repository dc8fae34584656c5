# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Clear flow-restore-wait without Ansible: what the dead-man timer and the boot guard run.

``flag.py`` copies this file to the host; it runs alone, with the standard library only, and speaks
to the database directly, so that an upgrade that is replacing ``ovs-vsctl`` at this moment does not matter.

    python3 -I guard.py REMOTE FILE...

tries until the database at REMOTE (``unix:PATH``, ``tcp:HOST:PORT``) has no such key any more, then removes
the FILEs (of the timer and the guard), itself and its directory.  A hand-over that is at work in this boot needs the
flag and clears it itself, so that is waited for first, but not for ever.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import syslog
import time
import typing as t

KEY = "flow-restore-wait"
_TIMEOUT = 10.0
# The answer has some hundred bytes.
_MOST = 1 << 20
_PAUSE = 1.0

# As in _transaction/transaction.py and _restore_wait/flag.py.
TRANSACTIONS = "/var/lib/ovsops/transactions"
OWNING = ("prepared", "armed", "rolling_back")
# For how long a hand-over is waited for, in seconds.
PATIENCE = 900.0


def connect(remote: str) -> socket.socket:
    """Connect to an active OVSDB remote.  Raises OSError, or ValueError for another kind of remote."""
    kind, _colon, address = remote.partition(":")
    if kind == "unix":
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(_TIMEOUT)
        try:
            connection.connect(address)
        except BaseException:
            connection.close()
            raise
        return connection
    if kind == "tcp":
        host, _colon, port = address.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), _TIMEOUT)
    raise ValueError(f"{remote} is neither unix: nor tcp:")


def clear(connection: socket.socket) -> None:
    """Remove the key from the database; raises OSError or ValueError unless the server confirms it."""
    mutation = ["other_config", "delete", ["set", [KEY]]]
    operation = {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [mutation]}
    comment = {"op": "comment", "comment": f"ovsops: {KEY} cleared by the host itself"}
    request = {"method": "transact", "params": ["Open_vSwitch", operation, comment], "id": KEY}
    connection.sendall(json.dumps(request).encode())
    for message in _messages(connection):
        if message.get("id") == KEY and "method" not in message:
            results = message.get("result") or []
            if message.get("error") or not results or any(result and "error" in result for result in results):
                raise ValueError(f"the database answered {json.dumps(message)}")
            return
    raise ConnectionError("the database closed the connection")


def _messages(connection: socket.socket) -> t.Iterator[dict[str, t.Any]]:
    """The JSON documents that arrive, one after the other without separators (RFC 7047 section 4).

    Raises OSError or ValueError for a server that does not end: the next try may find another.
    """
    decoder, text, left = json.JSONDecoder(), "", _MOST
    deadline = time.monotonic() + _TIMEOUT
    while True:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        data = connection.recv(65536)
        if not data:
            return
        left -= len(data)
        if left < 0:
            raise ValueError(f"the database sent more than {_MOST} bytes")
        text += data.decode()
        while text:
            try:
                message, end = decoder.raw_decode(text)
            except RecursionError as error:
                raise ValueError("the database sent nonsense") from error
            except ValueError:
                break
            if not isinstance(message, dict):
                raise ValueError("the database sent nonsense")
            text = text[end:].lstrip()
            yield message


def owner(remote: str, root: str | None = None) -> str:
    """The hand-over of this boot that is at work on the database, by its id; empty when there is none."""
    root = TRANSACTIONS if root is None else root
    with contextlib.suppress(OSError, ValueError, KeyError):
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        for name in sorted(os.listdir(root)):
            folder = os.path.join(root, name)
            if not any(os.path.exists(os.path.join(folder, f"state.{state}")) for state in OWNING):
                continue
            with open(os.path.join(folder, "request.json"), encoding="utf-8") as file:
                request = json.load(file)
            if (request["remote"], request["boot"]) == (remote, boot):
                return name
    return ""


def give_way(remote: str) -> None:
    """Wait until no hand-over is at work."""
    end = time.monotonic() + PATIENCE
    said = ""
    while time.monotonic() < end:
        found = owner(remote)
        if not found:
            return
        if found != said:
            said = found
            syslog.syslog(
                syslog.LOG_WARNING, f"{KEY} in {remote} belongs to the hand-over {found}, waiting for its end"
            )
        time.sleep(_PAUSE)


def main(remote: str, *files: str) -> None:
    """See above; ends only when the work is done."""
    syslog.openlog("ovsops")
    give_way(remote)
    said = ""
    while True:
        try:
            with contextlib.closing(connect(remote)) as connection:
                clear(connection)
            break
        except (OSError, ValueError) as error:
            if said != str(error):
                said = str(error)
                syslog.syslog(syslog.LOG_ERR, f"cannot clear {KEY} in {remote}, trying on: {error}")
            time.sleep(_PAUSE)
    syslog.syslog(
        syslog.LOG_WARNING, f"{KEY} in {remote} was cleared by the host itself, nobody else had done it"
    )
    for file in (*files, os.path.abspath(__file__)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file)
        folder = os.path.dirname(file)
        if folder.endswith(".wants") or file == os.path.abspath(__file__):
            # One that is not empty is somebody else's.
            with contextlib.suppress(OSError):
                os.rmdir(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
