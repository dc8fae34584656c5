# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemons of Open vSwitch as scripts: a JSON-RPC server on a Unix socket, and a small database for it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import threading
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import Request
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import Instance
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.service_start import Foresight
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process

Json = dict[str, t.Any]
Script = t.Callable[[Json], t.Any]


class Server:
    """Answers every request by ``script(message)``, a list of messages or bytes to send; None hangs up."""

    def __init__(self, path: Path, script: Script) -> None:
        self.path = path
        self.script = script
        self.received: list[Json] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def remote(self) -> str:
        return f"unix:{self.path}"

    def close(self) -> None:
        # Only a shutdown wakes the thread that waits in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # The other side may leave in the middle of an answer.
        with contextlib.suppress(ConnectionError):
            self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        decoder, text = json.JSONDecoder(), ""
        with connection:
            while data := connection.recv(65536):
                text += data.decode()
                while text:
                    try:
                        message, end = decoder.raw_decode(text)
                    except ValueError:
                        break
                    text = text[end:]
                    self.received.append(message)
                    answers = self.script(message)
                    if answers is None:
                        return
                    for answer in answers:
                        connection.sendall(
                            answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                        )


def reply(message: Json, result: t.Any = None, error: t.Any = None) -> Json:
    return {"id": message["id"], "result": result, "error": error}


Serve = t.Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path) -> t.Iterator[Serve]:
    """Start servers at paths in ``tmp_path``; they end with the test."""
    servers: list[Server] = []

    def start(script: t.Any, name: str = "db.sock") -> Server:
        servers.append(Server(tmp_path / name, script))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


# The types of RFC 7047 section 3.2 of the columns that the collection reads.
_STRINGS = {"key": "string", "value": "string", "min": 0, "max": "unlimited"}
_OPTIONAL_STRING = {"key": "string", "min": 0, "max": 1}
_OPTIONAL_INTEGER = {"key": "integer", "min": 0, "max": 1}
_STRING_SET = {"key": "string", "min": 0, "max": "unlimited"}
_UUIDS = {"key": {"type": "uuid"}, "min": 0, "max": "unlimited"}
_OPTIONAL_UUID = {"key": {"type": "uuid"}, "min": 0, "max": 1}
SCHEMA: dict[str, dict[str, t.Any]] = {
    "Open_vSwitch": {"other_config": _STRINGS, "external_ids": _STRINGS, "datapath_types": _STRING_SET},
    "Manager": {"target": "string"},
    "Controller": {"target": "string", "type": _OPTIONAL_STRING, "is_connected": "boolean"},
    "Bridge": {
        "name": "string",
        "datapath_type": "string",
        "datapath_id": _OPTIONAL_STRING,
        "fail_mode": _OPTIONAL_STRING,
        "protocols": _STRING_SET,
        "controller": _UUIDS,
        "ports": _UUIDS,
        "stp_enable": "boolean",
        "rstp_enable": "boolean",
        "mcast_snooping_enable": "boolean",
        "mirrors": _UUIDS,
        "netflow": _OPTIONAL_UUID,
        "sflow": _OPTIONAL_UUID,
        "ipfix": _OPTIONAL_UUID,
        "other_config": _STRINGS,
    },
    "Port": {
        "name": "string",
        "interfaces": {"key": {"type": "uuid"}, "min": 1, "max": "unlimited"},
        "bond_mode": _OPTIONAL_STRING,
        "lacp": _OPTIONAL_STRING,
        "qos": _OPTIONAL_UUID,
        "other_config": _STRINGS,
    },
    "Interface": {
        "name": "string",
        "type": "string",
        "ofport": _OPTIONAL_INTEGER,
        "ofport_request": _OPTIONAL_INTEGER,
        "options": _STRINGS,
        "other_config": _STRINGS,
        "bfd": _STRINGS,
        "cfm_mpid": _OPTIONAL_INTEGER,
        "ingress_policing_rate": "integer",
        "mac": _OPTIONAL_STRING,
        "mac_in_use": _OPTIONAL_STRING,
        "mtu": _OPTIONAL_INTEGER,
        "ifindex": _OPTIONAL_INTEGER,
        "link_state": _OPTIONAL_STRING,
        "error": _OPTIONAL_STRING,
    },
}


class Database:
    """A script for ``Server``: the Open_vSwitch database, rows as they look on the wire (RFC 7047 section 5.1).

    It knows select without conditions, and mutations of maps.  ``refuse`` is the error of the next transaction.
    """

    def __init__(self, version: str = "8.3.1") -> None:
        self.version = version
        self.tables: dict[str, list[Json]] = {table: [] for table in SCHEMA}
        self.refuse: Json | None = None
        self.other_config: dict[str, str] = {}
        self.external_ids: dict[str, str] = {}
        self.initialised = True

    def add(self, table: str, uuid: str, **columns: t.Any) -> None:
        defaults = {name: _empty(kind) for name, kind in SCHEMA[table].items()}
        self.tables[table].append({**defaults, **columns, "_uuid": ["uuid", uuid]})

    def __call__(self, message: Json) -> list[Json]:
        if message["method"] == "get_schema":
            tables = {
                table: {"columns": {name: {"type": kind} for name, kind in columns.items()}}
                for table, columns in SCHEMA.items()
            }
            return [reply(message, {"name": "Open_vSwitch", "version": self.version, "tables": tables})]
        if message["method"] != "transact":
            return [reply(message, error={"error": "unknown method"})]
        if self.refuse:
            refusal, self.refuse = self.refuse, None
            return [reply(message, [refusal])]
        return [reply(message, [self._operate(operation) for operation in message["params"][1:]])]

    def _operate(self, operation: Json) -> Json:
        if operation["op"] == "comment":
            return {}
        if operation["op"] == "mutate":
            for column, mutator, value in operation["mutations"] if self.initialised else ():
                pairs: dict[str, str] = getattr(self, column)
                if mutator == "delete":
                    for key in value[1]:
                        pairs.pop(key, None)
                else:
                    for key, item in value[1]:
                        pairs.setdefault(key, item)
            return {"count": int(self.initialised)}
        rows = self.tables[operation["table"]]
        if operation["table"] == "Open_vSwitch" and self.initialised:
            rows = [
                {
                    "_uuid": ["uuid", "o0"],
                    "other_config": ["map", [list(pair) for pair in self.other_config.items()]],
                    "external_ids": ["map", [list(pair) for pair in self.external_ids.items()]],
                    "datapath_types": ["set", ["netdev", "system"]],
                }
            ]
        return {"rows": [{column: row[column] for column in operation["columns"]} for row in rows]}


def _empty(kind: t.Any) -> t.Any:
    if isinstance(kind, dict):
        return ["map", []] if "value" in kind else ["set", []]
    return {"string": "", "integer": 0, "boolean": False}[kind]


@pytest.fixture
def database() -> Database:
    """A database with an Open_vSwitch row and nothing else."""
    return Database()


@pytest.fixture
def make_request() -> t.Callable[..., Request]:
    """A request of a hand-over on a host that does not matter, but for the ``changes``."""

    def make(**changes: t.Any) -> Request:
        first = Instance(Process(1, 2), ("ovs-vswitchd",), {})
        request = Request(
            strategy="make_before_break", plan={}, rundir="/nowhere", remote="", timeout=1.0, bridges={}, ports=0, lost_ports=(),
            userspace=False, dpdk=False, snapshot=None, confirm="manual", confirm_timeout=60.0, prove=10, accept=(),
            convert=False, downgrade=False, dispatch=False, restart_server=False, start=Foresight(), schema="",
            vswitchd=first, server=first, supervisors={}, boot="",
        )  # fmt: skip
        return dataclasses.replace(request, **changes)

    return make
