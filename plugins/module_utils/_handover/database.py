# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""ovsdb-server and its database, for the length of one hand-over."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.files import write_durable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import controllers
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.kept_programs import keep_binary
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.outside import Outside
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners.owner import Job
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.quiet import (
    Quiet,
    forwards_in_main_loop,
    modest,
    prioritize,
    resume,
    stopped,
    unhindered,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.report import Report
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.scope import Scope
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.services import (
    OWNED_TIMEOUT,
    Services,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import database_content, homes, liveness
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import OVSDB_SERVER, VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.database_file import backup
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.hints import (
    SERVER_LOG,
    VSWITCHD_LOG,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import Instance
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import (
    DATABASE,
    Ovsdb,
    reconfigured,
    request_reconfiguration,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.schema import read_schema
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.death_watch import attention

# How long a daemon may take to start, in seconds.
START_TIMEOUT = 120.0

# How long a daemon that is gone may take to come back by itself, in seconds: by a service manager, by a --monitor.
REVIVED_TIMEOUT = 10.0
MONITOR_TIMEOUT = 0.3

# How often it is looked whether the database is back while somebody stands still for it, in seconds.
WINDOW_POLL = 0.005

# How long a copy of the whole database may take, in seconds.
BACKUP_TIMEOUT = 120


class Database:
    """The real database; each session is a new one, since ovsdb-server drops those that are silent for long."""

    def __init__(self, scope: Scope, services: Services, report: Report, outside: Outside) -> None:
        self._scope, self._services, self._report, self._outside = scope, services, report, outside

    def open(self) -> Ovsdb:
        """A session with it."""
        return self._outside.open_database(self._scope.request.remote, self._scope.request.timeout)

    def wait(self, timeout: float = START_TIMEOUT, interval: float = 0.05) -> None:
        """Return when the database answers; raises ``TimedOut``."""
        self._waiter(timeout, interval).wait(
            "the database answers", self._schema_version, lambda _version: True, hint=SERVER_LOG
        )

    def _waiter(self, timeout: float, interval: float = 0.05) -> Waiter:
        return Waiter(timeout, interval, self._outside.clock)

    def _schema_version(self) -> str:
        with self.open() as database:
            return database.schema_version

    def backup(self) -> str:
        """The whole content, as a file of it has it."""
        return backup(self._scope.request.remote, BACKUP_TIMEOUT)

    def keep(self) -> None:
        """Copy what is needed to go back: the running programs, their schema, the database."""
        kept = self._scope.kept
        os.makedirs(kept, mode=0o700, exist_ok=True)
        # The programs of a pod stay where they are.
        for name in (VSWITCHD, OVSDB_SERVER) if self._scope.request.homes is None else ():
            keep_binary(self._scope.request.rundir, name, kept)
        with self.open() as database:
            write_durable(os.path.join(kept, "vswitch.ovsschema"), json.dumps(database.schema).encode())
        write_durable(os.path.join(kept, "conf.db"), self.backup().encode())

    def convert(self, schema: dict[str, t.Any], lost: t.Sequence[database_content.Difference]) -> list[str]:
        """Change the schema of the running database (ovsdb-server(7)), and what is ``lost`` by it; a sentence for each."""
        with self.open() as database:
            if database.schema_version != schema["version"]:
                if emptying := database_content.emptying(lost, schema):
                    database.transact(*emptying)
                database.call("convert", DATABASE, schema, timeout=60.0)
        self.wait_for_vswitchd()
        return [f"schema {schema['version']} has no place for {each}" for each in lost]

    def read_schema(self, path: str) -> dict[str, t.Any]:
        """The schema in the file ``path``: one of ours, or as the programs of the new version call it."""
        kept = path.startswith(self._scope.transaction.path)
        root = "/" if kept else homes.root_of(self._scope.container)
        return read_schema(os.path.join(root, path.lstrip("/")))

    def put_server_back(self, free_try: bool) -> None:
        """Undo ``restart_server``: the database answers.  That of a pod is in the pod of before again, which stays."""
        self.ensure()
        between = self._scope.request.homes
        if between is not None and not between.in_before(self._services.process(OVSDB_SERVER)):
            self.restart_server(free_try, self._scope.kept)
        self._services.require_home(OVSDB_SERVER)

    def restart_server(self, free_try: bool = False, binaries: str | None = None) -> None:
        """Restart ovsdb-server alone, with its remotes, and wait until ovs-vswitchd is back on it, unless that is ``apart``.

        With ``binaries`` it is that of before (see ``Owner``).

        Without its database the main loop of ovs-vswitchd does nothing, for a second at least.  One with a
        ``free_try`` (see ``newcomer.command_line``) that moves packets in this loop is stopped instead for as long as the
        database takes to come back.
        """
        control = self._services.control(OVSDB_SERVER)
        remotes = control.call("ovsdb-server/list-remotes").split()
        with self.open() as database:
            before, found = database.schema_version, liveness.told(database)
        owner = self._services.owner(OVSDB_SERVER)
        vswitchd = self._services.process(VSWITCHD)
        alone = self._scope.request.userspace and forwards_in_main_loop(vswitchd)
        quiet = unhindered if self.apart() else stopped if free_try and alone else modest
        with contextlib.ExitStack() as stack, attention({VSWITCHD: vswitchd}):
            # Not before: what becomes the new server takes its time to be there.
            def ending() -> None:
                stack.enter_context(quiet(vswitchd))

            self._finish(owner.restart(self._server(), binaries, ending))
            self.wait(interval=WINDOW_POLL)
        self._tell_again(found)
        self._add_remotes(remotes)
        if self._schema_version() != before:
            raise HotUpgradeError(
                "ovsdb-server changed the schema when it was restarted",
                f"it was {before} and is {self._schema_version()}",
                f"The database as it was is {self._scope.kept}/conf.db. {SERVER_LOG}",
            )
        self.wait_for_vswitchd()

    def _tell_again(self, found: t.Sequence[liveness.Json]) -> None:
        """Before anybody else is connected again, who would act on sessions that seem to be down."""
        try:
            with self.open() as database:
                liveness.tell_again(database, found)
        except HotUpgradeError as error:
            self._report.missed([f"what BFD, CFM and LACP had found out was gone for a moment: {error}"])

    def _add_remotes(self, remotes: list[str]) -> None:
        control = self._services.control(OVSDB_SERVER)
        for remote in sorted(set(remotes) - set(control.call("ovsdb-server/list-remotes").split())):
            # The socket of systemd has another name than the one that the server made itself.
            if not remote.startswith(("punix:", "pfd:")):
                control.call("ovsdb-server/add-remote", remote)

    def ensure(self, quiet: Quiet = modest) -> None:
        """Have the database answer for good: as it is, else started anew, else by the program of before.

        Meanwhile ovs-vswitchd is ``quiet`` (see ``restart_server``).
        """
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(Unreachable, ProcessLookupError):
                vswitchd = self._services.process(VSWITCHD)
                resume(vswitchd)
                prioritize(vswitchd, self._services.owner(VSWITCHD).heritage.like.nice)
                stack.enter_context((unhindered if self.apart() else quiet)(vswitchd))
            self._ensure()

    def _ensure(self) -> None:
        owner = self._services.owner(OVSDB_SERVER)
        if self._serves(REVIVED_TIMEOUT if owner.revives else MONITOR_TIMEOUT):
            return
        running = self._server()
        try:
            self._finish(owner.restart(running, None))
            self.wait(OWNED_TIMEOUT)
        except HotUpgradeError:
            self._finish(owner.restart(running, self._scope.kept))
            self.wait()

    def _finish(self, job: Job) -> None:
        job.wait(START_TIMEOUT)
        self._report.missed(job.refused)

    def _server(self) -> Instance:
        """The ovsdb-server that runs, with the command line of the beginning: it may show another one now, see ``trust``."""
        beginning = self._scope.request.server
        with contextlib.suppress(Unreachable):
            return dataclasses.replace(self._services.running(OVSDB_SERVER), argv=beginning.argv)
        return beginning

    def _serves(self, timeout: float) -> bool:
        """Whether the database answers, and not for a moment only: a service may fail again and again."""
        owner = self._services.owner(OVSDB_SERVER)
        try:
            self.wait(timeout)
            self._waiter(timeout).wait(
                f"the service owns {OVSDB_SERVER}",
                lambda: owner.healthy(self._services.process(OVSDB_SERVER)),
                lambda wrong: wrong is None,
            )
        except HotUpgradeError:
            return False
        return True

    def apart(self) -> bool:
        """Whether ovs-vswitchd is the second process and has its private database still: the real one means nothing to it."""
        if not os.path.islink(self._scope.private):
            return False
        try:
            self._outside.running(self._scope.seen("database"), OVSDB_SERVER)
        except Unreachable:
            return False
        return True

    def wait_for_vswitchd(self) -> None:
        """Return when ovs-vswitchd has seen all that is in the database up to now, unless it is ``apart``."""
        if self.apart():
            return
        with self.open() as database:
            wait_until_applied(database, self._waiter(START_TIMEOUT, 0.02))

    def raise_flag(self) -> None:
        """Have the next ovs-vswitchd wait for its flows; the running one read the flag once, when it started."""
        with self.open() as database:
            database.set_flow_restore_wait(True)

    def lower_flag(self) -> None:
        """Undo ``raise_flag``, also where the database was lost meanwhile."""
        self.ensure()
        self.never_stuck()

    def never_stuck(self) -> None:
        """Have the flag cleared and controllers that are held let go, whatever happened before."""
        with self.open() as database:
            if database.flow_restore_wait():
                database.set_flow_restore_wait(False)
            controllers.let_go(database)


def wait_until_applied(database: Ovsdb, waiter: Waiter) -> None:
    """Return when ovs-vswitchd has applied what is in ``database`` now, as ovs-vsctl waits for it (next_cfg, cur_cfg).

    Raises ``TimedOut``.
    """
    number = request_reconfiguration(database)
    waiter.wait(
        f"{VSWITCHD} has applied the database",
        lambda: reconfigured(database, number),
        bool,
        lambda _done: "it has not",
        VSWITCHD_LOG,
    )
