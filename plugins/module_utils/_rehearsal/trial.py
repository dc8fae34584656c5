# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""One version tried with a database and a snapshot: whether it starts, and what it makes of them."""

from __future__ import annotations

import dataclasses
import os
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.side_by_side import side_by_side
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import refusal
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import text as openflow_text
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.compare import (
    Difference,
    Ignore,
    compare,
    renumbered,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.restore import restore
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.database_file import backup, fitted
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import DATABASE, Ovsdb
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.silence import silence
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof import traffic
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof.proof import (
    Datapath,
    Trace,
    Wish,
    prove,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._rehearsal.programs import Programs
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._rehearsal.sandbox import Sandbox
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import switch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot.directory import Snapshot
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import check, run

_TOOL_TIMEOUT = 120.0
# Ports are looked at by themselves; dummy devices are not up or down as the host's are.
_PORTS_APART = Ignore(ports=True, devices=True)
# What needs devices of its own; as a dummy any port does.
_KINDS_OF_DEVICES = ("dpdk", "dpdkr", "dpdkvhostuser", "dpdkvhostuserclient", "afxdp", "afxdp-nonpmd")
# Would have the daemon take hugepages or hardware.
_HARDWARE = ("dpdk-init", "dpdk-extra", "hw-offload", "userspace-tso-enable")


@dataclasses.dataclass
class Trial:
    """What became of it: ``failure`` is why it ended early, empty if it did not.  Times in ms, ``memory`` in bytes.

    ``dropped``: what the schema has no place for.  ``refused``: OpenFlow objects that are not taken.  ``changed``: those that
    are shown otherwise afterwards.  ``ports``: those that have another number, or are not there.  ``proof``: what becomes of
    live packets, None where nobody asked.
    """

    version: str
    schema: str
    failure: str = ""
    dropped: list[str] = dataclasses.field(default_factory=list)
    refused: list[str] = dataclasses.field(default_factory=list)
    changed: list[str] = dataclasses.field(default_factory=list)
    ports: list[str] = dataclasses.field(default_factory=list)
    proof: dict[str, t.Any] | None = None
    flows: int = 0
    convert_ms: int = 0
    start_ms: int = 0
    fill_ms: int = 0
    memory: int = 0

    @property
    def passed(self) -> bool:
        """Whether the version holds all that it was given."""
        return not (self.failure or self.refused or self.changed or self.ports)


@dataclasses.dataclass(frozen=True)
class Left:
    """What a version leaves to one that comes after it."""

    snapshot: Snapshot
    database: str


@dataclasses.dataclass(frozen=True)
class Live:
    """The process that forwards, by its control socket, its datapath, and what is to be compared."""

    ask: Trace
    datapath: Datapath
    wish: Wish


def attempt(
    programs: Programs, given: Left, run_directory: str, store: str, live: Live | None = None
) -> tuple[Trial, Left | None]:
    """Try ``programs`` with what is ``given``; what they hold then, if they started.

    Both directories are made: the first one for sockets, the second one for all that may be large.
    """
    trial = Trial(programs.version, programs.schema["version"], flows=given.snapshot.flows)
    try:
        for directory in (run_directory, store):
            os.mkdir(directory, 0o700)
        file = _database(programs, given.database, f"{store}/conf.db", trial)
        with Sandbox(programs, run_directory) as sandbox, sandbox.serve(file) as database:
            left = _fill(sandbox, database, given, store, trial)
            if live is not None:
                trial.proof = _prove(sandbox, given, live)
            return trial, left
    except HotUpgradeError as error:
        trial.failure = str(error)
        return trial, None


def _database(programs: Programs, content: str, file: str, trial: Trial) -> str:
    """The database in a ``file``, with the schema of ``programs``."""
    with open(file, "w", encoding="utf-8") as opened:
        opened.write(fitted(content, programs.schema))
    os.chmod(file, 0o600)
    begin = time.monotonic()
    check(run, [*programs.tool, "convert", file, programs.schema_file], _TOOL_TIMEOUT)
    trial.convert_ms = _since(begin)
    return file


def _fill(sandbox: Sandbox, database: Ovsdb, given: Left, store: str, trial: Trial) -> Left:
    database.transact(*silence(database), *_unreal(database))
    begin = time.monotonic()
    sandbox.start(database)
    trial.start_ms = _since(begin)
    begin = time.monotonic()
    names = [bridge.name for bridge in given.snapshot.bridges]
    for refused, changed, ports in side_by_side(
        lambda name: _bridge(sandbox, name, given), names, given.snapshot.flows
    ):
        trial.refused += refused
        trial.changed += changed
        trial.ports += ports
    trial.fill_ms = _since(begin)
    trial.memory = sandbox.memory()
    taken = switch.take(sandbox.connection, f"{store}/snapshot")
    return Left(taken, backup(sandbox.connection.remote, _TOOL_TIMEOUT))


def _prove(sandbox: Sandbox, given: Left, live: Live) -> dict[str, t.Any]:
    """What becomes of the packets of live megaflows, as the proof of a hand-over tells it."""
    try:
        switch.restore_learned(sandbox.connection, given.snapshot.bridges)
        # The numbers of meters are the kernel's, and a dummy's are its own.
        apart = dataclasses.replace(live.datapath, shared=False)
        return prove(live.ask, traffic.of_new(sandbox.control), apart, live.wish).report()
    except HotUpgradeError as error:
        return {"text": f"nothing is proved: {error}"}


def _bridge(sandbox: Sandbox, name: str, given: Left) -> tuple[list[str], list[str], list[str]]:
    """What is refused, changed and not there of one bridge."""
    state = given.snapshot.state(name)
    with sandbox.switch(name, state.version) as connected:
        try:
            restore(connected, state)
        except refusal.Refusal as refused:
            return (
                [f"bridge {name}: {text}: {error}" for text, error in refusal.texts(refused.objects)],
                [],
                [],
            )
        live = connected.state()
        missing = set(state.settings.names.values()) - set(live.settings.names.values())
        ports = [
            *renumbered(state.settings, live.settings),
            *(f"port {port!r} is not there" for port in sorted(missing)),
        ]
        difference = compare(state, live, _PORTS_APART)
        return (
            [],
            [f"bridge {name}: {text}" for text in _texts(difference)],
            [f"bridge {name}: {text}" for text in ports],
        )


def _texts(difference: Difference) -> list[str]:
    """What a version shows otherwise than it was given, some of it."""
    most = refusal.SHOWN
    return [
        *(f"{line} is not there" for line in openflow_text.lines(difference.missing[:most])),
        *(f"{line} is there instead" for line in openflow_text.lines(difference.extra[:most])),
    ]


def _unreal(database: Ovsdb) -> list[dict[str, t.Any]]:
    """The operations that have nothing wait for hardware."""
    keys = [["other_config", "delete", ["set", list(_HARDWARE)]]]
    return [
        {"op": "mutate", "table": DATABASE, "where": [], "mutations": keys},
        *(
            {"op": "update", "table": "Interface", "where": [["type", "==", kind]], "row": {"type": ""}}
            for kind in _KINDS_OF_DEVICES
        ),
    ]


def _since(begin: float) -> int:
    return round((time.monotonic() - begin) * 1000)
