# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The host as the steps of a hand-over see it: its daemons, its database, its bridges' OpenFlow state.

Everything here is right in a process that did not begin the hand-over: what must be known of the time before is
in the transaction's request, the rest is looked up.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import socket
import struct
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.clock import boot_id
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.files import write_durable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.polling import readable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.side_by_side import (
    first_alone,
    side_by_side,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import controllers as _controllers
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import (
    late_ports,
    meters,
    plan,
    proof,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import living as _living
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.account import Account
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import Request
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.supervisors import (
    Instance,
    Job,
    Quiet,
    Supervisor,
    described,
    forwards_in_main_loop,
    keep_binary,
    kill,
    look,
    modest,
    prioritize,
    reload,
    resume,
    stopped,
    wait_end,
    wait_gone,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import refusal, wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import state as _flowstate
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import text as _oftext
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import management_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import upcall_dispatch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl, read_pid
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import OVSDB_SERVER, VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.last_words import last_words
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import (
    DATABASE,
    Connection,
    Ovsdb,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import directory
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import switch as _flow_snapshot
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import check, run
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.death_watch import attention
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.likeness import drops
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process, alive
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.sockets import connect_unix
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    Json,
    Transaction,
)

# How long a daemon may take to start, in seconds.
START_TIMEOUT = 120.0

# The same for the ovs-vswitchd that takes over, and what each port adds: 50,000 ports need about 60 s.  Shorter,
# since one that hangs is found out by it, and without another nobody takes new flows until then.
TAKE_OVER_TIMEOUT = 30.0
TAKE_OVER_PER_PORT = 0.005

# Pause between two looks in the window, in seconds: shorter takes the CPU from what is waited for.
POLL = 0.005

# How long the service manager may take to notice a new process, and controllers to settle, in seconds.
OWNED_TIMEOUT = 30.0

# How long a daemon that is gone may take to come back by itself, in seconds: by a service manager, by a --monitor.
REVIVED_TIMEOUT = 10.0
MONITOR_TIMEOUT = 0.3

# How long a process may take to end, or a job that has failed to say so, in seconds.
ENDED_TIMEOUT = 3.0
SETTLED_TIMEOUT = 10.0

# How long a bridge's socket may accept nobody before it counts as not served yet, in seconds.
SERVER_TIMEOUT = 1.0

# How many megaflows are traced to see which kernel meter an OpenFlow meter is.
MOST_METERED = 500

TOLERATED = _flowstate.BY_ITSELF


@dataclasses.dataclass(frozen=True)
class Encoded(_flowstate.State):
    """A state whose modifications are in memory, as they will be sent."""

    encoded: tuple[bytes, ...]

    @classmethod
    def of(cls, state: _flowstate.State) -> Encoded:
        """Encode ``state`` now."""
        encoded = tuple(state.objects())
        return cls(state.version, state.ports_version, state.settings, state.flows, state.replies, encoded)

    def objects(self) -> t.Iterator[bytes]:
        """See ``State``."""
        return iter(self.encoded)


class Host:
    """One host, for the length of one transaction; ``switches`` are kept connections, until ``close``."""

    def __init__(self, transaction: Transaction, living: _living.Living | None = None) -> None:
        self.transaction = transaction
        self.request = Request.read(transaction.request)
        self.rundir = self.request.rundir
        self.remote = self.request.remote
        self.timeout = self.request.timeout
        self.old = self.request.vswitchd
        self.marks: dict[str, int] = {}
        self.job: Job | None = None
        self.staged: dict[str, _flowstate.Staged] = {}
        self.switches: dict[str, _flowstate.Switch] = {}
        self.states: dict[str, _flowstate.State] = {}
        self.meters: list[tuple[meters.Meter, bytes]] = []
        self.known: list[directory.Bridge] = []
        self.living = living or _living.Living()
        self.changes: Json = {}
        self.not_carried: list[str] = []
        self.late: list[late_ports.Late] = []
        # Whether anybody can connect to ``switches``: they are not in the private run directory.
        self.public = False
        self.absent: dict[str, t.AbstractSet[int]] = {}
        self.deleted: frozenset[str] = frozenset()

    def mark(self, name: str) -> None:
        """Remember when ``name`` happened, in monotonic microseconds."""
        self.marks[name] = time.monotonic_ns() // 1000

    def close(self) -> None:
        """Follow nobody any more, and ``disconnect``."""
        self.living.close()
        self.disconnect()

    def disconnect(self) -> None:
        """Close every connection; bundles that were not committed are dropped by the switch."""
        self.living.unwatch()
        for switch in self.switches.values():
            switch.close()
        self.switches.clear()
        self.staged.clear()

    # Places

    @property
    def kept(self) -> str:
        """The directory of what is needed to go back: old programs, old schema, the database as it was."""
        return self.transaction.file("old")

    @property
    def snapshot(self) -> str:
        """The directory of the OpenFlow snapshot that is restored: our own, or that of the option."""
        own = self.transaction.file("snapshot")
        return own if os.path.isdir(own) else str(self.request.snapshot)

    @property
    def bridges(self) -> list[str]:
        """Names of all bridges at the start, without those that ``leave_deleted`` has found."""
        return [name for name in self.request.bridges if name not in self.deleted]

    def leave_deleted(self) -> None:
        """Leave the bridges alone that somebody has deleted since the start: nobody will ever serve their sockets."""
        known = {bridge.name for bridge in _flow_snapshot.live_bridges(self.connection)}
        self.deleted = frozenset(self.request.bridges) - known

    @property
    def controlled(self) -> set[str]:
        """Bridges with a controller in the database: they lose their flows when the flag is cleared (F1)."""
        return {name for name, controllers in self.request.bridges.items() if controllers}

    @property
    def userspace(self) -> bool:
        """Whether the datapath is a part of ovs-vswitchd: then two processes do not share it."""
        return self.request.userspace

    @property
    def take_over_timeout(self) -> float:
        """How long the ovs-vswitchd that takes over may need to open all ports, in seconds."""
        return TAKE_OVER_TIMEOUT + TAKE_OVER_PER_PORT * self.request.ports

    def supervisor(self, name: str) -> Supervisor:
        """Who owns the daemon ``name``."""
        lines = self.request.start.lines if name == OVSDB_SERVER else ()
        return described(name, self.rundir, self.request.supervisors[name], lines)

    def adopt(self, new: Process) -> None:
        """Have the service own ``new``, a second ovs-vswitchd, from the end of the old one on.

        Raises ``HotUpgradeError`` when it would end with the hand-over itself: systemd is asked, for as long as it needs to
        notice.
        """
        owner = self.supervisor(VSWITCHD)
        self.not_carried += owner.adopt(new)
        self._wait_until(f"{VSWITCHD} has its place", lambda: owner.misplaced(new))

    def require_places(self) -> None:
        """Raise ``HotUpgradeError`` unless both daemons are where they were before, and so outlive the hand-over."""
        for name in (VSWITCHD, OVSDB_SERVER):
            owner, process = self.supervisor(name), look(self.rundir, name).process
            self._wait_until(f"the service owns {name}", functools.partial(owner.healthy, process))

    @staticmethod
    def _wait_until(what: str, wrong: t.Callable[[], str | None]) -> None:
        Waiter(OWNED_TIMEOUT).wait(what, wrong, lambda fault: fault is None, str)

    @property
    def connection(self) -> Connection:
        """Where Open vSwitch is."""
        return Connection(self.rundir, self.remote, self.timeout)

    def take_snapshot(self) -> None:
        """Take the snapshot, and follow from here on what others change; say what did since the one that was given."""
        self.living.follow({name: self.management(name) for name in self.bridges})
        self._take_own_snapshot()
        if self.request.snapshot is not None:
            self.transaction.note(changed_since_snapshot=self._changed_since(self.request.snapshot))

    def _take_own_snapshot(self) -> None:
        """Take a snapshot into the transaction, of the bridges as they are now."""
        self.living.forget()
        _flow_snapshot.take(self.connection, self.transaction.file("snapshot"))
        snapshot = directory.read(self.snapshot)
        self.living.rest_on({name: snapshot.state(name) for name in self.bridges})

    def take_anew(self) -> None:
        """Have the snapshot hold what forwards now, of the bridges that there are now: it is what the way back gives again."""
        with self.connection.open() as database:
            self.request = self.request.of_now(database.bridges())
        self.living.follow({name: self.management(name) for name in self.bridges})
        self._take_own_snapshot()

    def _changed_since(self, path: str) -> dict[str, str]:
        given, own = directory.read(path), directory.read(self.snapshot)
        known = {bridge.name for bridge in given.bridges}
        pairs = {
            name: (given.state(name), own.state(name)) if name in known else None for name in self.bridges
        }
        found = {name: _flowstate.compare(*pair, TOLERATED) for name, pair in pairs.items() if pair}
        return {name: describe(difference) for name, difference in found.items() if difference}

    def renew_snapshot(self) -> None:
        """Have the snapshot hold what the bridges hold now: what is told of a change later lacks flags."""
        if self.living.changed() or self.living.unfollowed:
            self._take_own_snapshot()

    def carry_learned(self, target: Connection) -> None:
        """Set MAC addresses and tunnel neighbours again, and remember what could not be carried over."""
        self.not_carried += _flow_snapshot.restore_learned(target, self.known)
        self.not_carried += [
            f"bridge {bridge.name}: {text}" for bridge in self.known for text in bridge.not_carried
        ]
        self.not_carried += [
            f"port {name}: the new version does not open a device with so long a name"
            for name in self.request.lost_ports
        ]

    def remember_learned(self) -> None:
        """What the old process knows now: a MAC address may have moved since the snapshot was taken."""
        bridges = directory.read(self.snapshot).bridges
        self.known = _flow_snapshot.with_learned(self.connection, bridges)

    def _require_ports(self, states: t.Mapping[str, _flowstate.State]) -> None:
        """Raise ``HotUpgradeError`` when a port of ``states`` has another number, or is gone although it is configured."""
        lost = self.request.lost_ports
        for name, faults in _flow_snapshot.port_faults(self.connection, states, lost).items():
            hint = "Look at the column error of these interfaces (ovs-vsctl list interface) and at the log"
            raise HotUpgradeError(
                f"the flows of bridge {name} do not mean the same ports", "; ".join(faults), hint
            )

    def hold(self) -> None:
        """Have the service manager restart neither daemon by itself: that is ours for the time being."""
        changed = [self.supervisor(name).hold() for name in (VSWITCHD, OVSDB_SERVER)]
        if any(changed):
            reload()

    def let_go(self) -> None:
        """Undo ``hold``."""
        changed = [self.supervisor(name).let_go() for name in (VSWITCHD, OVSDB_SERVER)]
        if any(changed):
            reload()

    # The database

    def wait_for_database(self, timeout: float = START_TIMEOUT) -> None:
        """Return when the database answers; raises ``TimedOut``."""
        Waiter(timeout).wait("the database answers", self._schema_version, lambda _version: True)

    def _schema_version(self) -> str:
        with Ovsdb(self.remote, self.timeout) as database:
            return database.schema_version

    def keep(self) -> None:
        """Copy what is needed to go back: the running programs, their schema, the database."""
        keep_binary(self.rundir, VSWITCHD, self.kept)
        keep_binary(self.rundir, OVSDB_SERVER, self.kept)
        with Ovsdb(self.remote, self.timeout) as database:
            write_durable(os.path.join(self.kept, "vswitch.ovsschema"), json.dumps(database.schema).encode())
        backup = check(run, ["ovsdb-client", "backup", self.remote, DATABASE], timeout=120)
        write_durable(os.path.join(self.kept, "conf.db"), backup.encode())

    def convert(self, schema_file: str) -> None:
        """Change the schema of the running database (ovsdb-server(7)); refused means nothing was changed."""
        with open(schema_file, encoding="utf-8") as file:
            schema = json.load(file)
        with Ovsdb(self.remote, self.timeout) as database:
            if database.schema_version != schema["version"]:
                database.call("convert", DATABASE, schema, timeout=60.0)
        self.wait_for_vswitchd()

    def restart_server(self, free_try: bool = False) -> None:
        """Restart ovsdb-server alone, with its remotes, and wait until ovs-vswitchd is back on it.

        Without its database the main loop of ovs-vswitchd does nothing, for a second at least.  One with a
        ``free_try`` (see ``newcomer.command_line``) that moves packets in this loop is stopped instead for as long as the
        database takes to come back.
        """
        control = self.control(OVSDB_SERVER)
        remotes = control.call("ovsdb-server/list-remotes").split()
        before = self._schema_version()
        owner = self.supervisor(OVSDB_SERVER)
        vswitchd = look(self.rundir, VSWITCHD).process
        quiet = stopped if free_try and forwards_in_main_loop(vswitchd) else modest
        with quiet(vswitchd), attention({VSWITCHD: vswitchd}):
            self._finish(owner.restart(self._server(), None))
            self.wait_for_database()
        control = self.control(OVSDB_SERVER)
        for remote in sorted(set(remotes) - set(control.call("ovsdb-server/list-remotes").split())):
            # The socket of systemd is named otherwise than the one that the server made itself.
            if not remote.startswith(("punix:", "pfd:")):
                control.call("ovsdb-server/add-remote", remote)
        if self._schema_version() != before:
            raise HotUpgradeError(
                "ovsdb-server changed the schema when it was restarted",
                f"it was {before} and is {self._schema_version()}",
                f"The database as it was is {self.kept}/conf.db",
            )
        self.wait_for_vswitchd()

    def ensure_server(self, quiet: Quiet = modest) -> None:
        """Have the database answer for good: as it is, else started anew, else by the program of before.

        Meanwhile ovs-vswitchd is ``quiet`` (see ``restart_server``).
        """
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(Unreachable, ProcessLookupError):
                vswitchd = look(self.rundir, VSWITCHD).process
                resume(vswitchd)
                prioritize(vswitchd, self.supervisor(VSWITCHD).heritage.like.nice)
                stack.enter_context(quiet(vswitchd))
            self._ensure_server()

    def _ensure_server(self) -> None:
        owner = self.supervisor(OVSDB_SERVER)
        if self._server_serves(REVIVED_TIMEOUT if owner.revives else MONITOR_TIMEOUT):
            return
        running = self._server()
        try:
            self._finish(owner.restart(running, None))
            self.wait_for_database(OWNED_TIMEOUT)
        except HotUpgradeError:
            self._finish(owner.restart(running, self.kept))
            self.wait_for_database()

    def _finish(self, job: Job) -> None:
        job.wait(START_TIMEOUT)
        self.not_carried += job.refused

    def _server(self) -> Instance:
        """The ovsdb-server that runs, with the command line of the beginning: it may show another one now, see ``trust``."""
        beginning = self.request.server
        with contextlib.suppress(Unreachable):
            running = look(self.rundir, OVSDB_SERVER)
            return dataclasses.replace(running, argv=beginning.argv)
        return beginning

    def _server_serves(self, timeout: float) -> bool:
        """Whether the database answers, and not for a moment only: a service may fail again and again."""
        owner = self.supervisor(OVSDB_SERVER)
        try:
            self.wait_for_database(timeout)
            Waiter(timeout).wait(
                f"the service owns {OVSDB_SERVER}",
                lambda: owner.healthy(look(self.rundir, OVSDB_SERVER).process),
                lambda wrong: wrong is None,
            )
        except HotUpgradeError:
            return False
        return True

    def wait_for_vswitchd(self) -> None:
        """Return when ovs-vswitchd has seen all that is in the database up to now (next_cfg and cur_cfg)."""
        with Ovsdb(self.remote, self.timeout) as database:
            number = request_reconfiguration(database)
            Waiter(START_TIMEOUT, 0.02).wait(
                f"{VSWITCHD} has applied the database", lambda: reconfigured(database, number), bool
            )

    # ovs-vswitchd

    def control(self, name: str, timeout: float = 10.0) -> Appctl:
        """The control socket of the running daemon ``name``."""
        process = look(self.rundir, name).process
        return Appctl(os.path.join(self.rundir, f"{name}.{process.pid}.ctl"), timeout)

    def old_runs(self) -> bool:
        """Whether the very process of the beginning still forwards: in the pidfile, and alive."""
        with contextlib.suppress(Unreachable):
            return look(self.rundir, VSWITCHD).process == self.old.process
        return False

    def require_no_other(self) -> None:
        """Raise ``HotUpgradeError`` when somebody else has replaced the ovs-vswitchd of the beginning.

        If that has only died, the one that is ready is the quickest help.
        """
        with contextlib.suppress(Unreachable):
            running = look(self.rundir, VSWITCHD).process
            if running != self.old.process:
                raise HotUpgradeError(
                    f"{VSWITCHD} was replaced by somebody else meanwhile",
                    f"process {running.pid} runs instead of {self.old.process.pid}",
                    "Look into the journal for who restarted it, then start again",
                )

    def swap(self, binaries: str | None) -> None:
        """End the running ovs-vswitchd, have another started, and connect to its bridges."""
        try:
            running, gone = look(self.rundir, VSWITCHD).process, False
        except Unreachable:
            running, gone = self.old.process, True
            self._wait_for_the_dying()
        like_the_old = dataclasses.replace(self.old, process=running)
        self.job = self.supervisor(VSWITCHD).restart(like_the_old, binaries)
        if not wait_end(running, START_TIMEOUT):
            raise HotUpgradeError(f"{VSWITCHD} did not stop", f"process {running.pid} is still there")
        self.mark("stopped")
        if gone:  # the service manager may have begun to start one by itself, which our restart ends
            self.settle()
        self.connect(running.pid)

    def _wait_for_the_dying(self) -> None:
        """A process that was killed has its pidfile locked until the last of its threads has gone."""
        with contextlib.suppress(Unreachable):
            wait_gone(read_pid(os.path.join(self.rundir, f"{VSWITCHD}.pid")), VSWITCHD, ENDED_TIMEOUT)

    def raise_flag(self) -> None:
        """Have the next ovs-vswitchd wait for its flows; the running one does not look at the flag (F6)."""
        with Ovsdb(self.remote, self.timeout) as database:
            database.set_flow_restore_wait(True)

    def release(self) -> None:
        """Clear the flag; right behind the flush that this means for bridges with controllers, fill them.

        They connect when that is done: nobody finds an empty bridge.
        """
        if self.request.dispatch and self.bridges:
            self.fit_dispatch(self.switches[self.bridges[0]].software())
        # What was staged may be gone: with its connection when the database ended, or because it was idle for long.
        if self.states:
            self.stage_controlled()
        # Not the session of before: ovsdb-server drops one that was silent during a long load.
        with Ovsdb(self.remote, self.timeout) as database:
            _controllers.hold(database, self.staged.keys())
            self.commit_behind_flush(database, lambda: database.set_flow_restore_wait(False))
            self.mark("forwarding")
            _controllers.let_go(database)

    def fit_dispatch(self, version: str) -> None:
        """Have the kernel send upcalls as an ovs-vswitchd of this ``version``, which takes over, expects them."""
        if self.request.dispatch and plan.version(version) < plan.PER_CPU_SINCE:
            upcall_dispatch.send_upcalls_per_port()

    def commit_behind_flush(self, database: Ovsdb, change: t.Callable[[], None]) -> None:
        """Do ``change``, wait until ovs-vswitchd has applied ``database``, and commit what is staged as soon as it is due.

        The flush that comes with a bridge's first controller (F1) is told by the switch while it is at it.  That controller
        is a stand-in (see ``controllers``).  A bridge that is empty already is filled when ovs-vswitchd says that it is done.
        """
        for name in self.staged:
            self.living.expect_refill(name)
        shown = {name: self.switches[name].count_flows()[0] for name in self.staged}
        hidden = {name: self.switches[name].about_flows() - count for name, count in shown.items() if count}
        change()
        number = request_reconfiguration(database)
        end = time.monotonic() + self.take_over_timeout
        while not reconfigured(database, number):
            for name in hidden.keys() & self.staged.keys():
                flushed = self.living.flushed(name, shown[name])
                if flushed is None:  # nothing tells: it has to be asked
                    flushed = self.switches[name].about_flows() <= hidden[name]
                if flushed:
                    self.mark("flushed")
                    self.staged.pop(name).refill()
                    self.mark("refilled")
            if time.monotonic() > end:
                raise HotUpgradeError(f"{VSWITCHD} does not apply its database", hint="Look into its log")
            # Of the others nobody takes what they tell now: they would always be readable.
            readable(self.living.descriptors(hidden.keys() & self.staged.keys()), POLL)
        for name in list(self.staged):
            self.staged.pop(name).commit()

    def settle(self) -> None:
        """Wait until the supervisor says that its restart is done."""
        if self.job is not None:
            self._finish(self.job)

    def lower_flag(self) -> None:
        """Undo ``raise_flag``, also where the database was lost meanwhile."""
        self.ensure_server()
        self.never_stuck()

    def never_stuck(self) -> None:
        """Have the flag cleared and controllers that are held let go, whatever happened before."""
        with Ovsdb(self.remote, self.timeout) as database:
            if database.flow_restore_wait():
                database.set_flow_restore_wait(False)
            _controllers.let_go(database)

    # OpenFlow state

    def connect(self, not_pid: int, new: Process | None = None) -> None:
        """Connect to every bridge's management socket as soon as another process than ``not_pid`` serves it.

        Raises ``HotUpgradeError`` when that takes too long, or when ``new``, which is to serve it, has ended.
        """
        self.public, end = True, time.monotonic() + self.take_over_timeout

        def one(name: str) -> None:
            path = self.management(name)
            while _server_of(path) in (None, not_pid):
                if time.monotonic() > end:
                    raise HotUpgradeError(f"bridge {name} has no management socket", f"nobody serves {path}")
                if self.job is not None and self.job.failed():
                    self.job.wait(ENDED_TIMEOUT)
                if new is not None and not alive(new):
                    raise HotUpgradeError(
                        f"the new {VSWITCHD} has ended", self.words_of_new(), "Look into its log"
                    )
                time.sleep(POLL)
            self.switches[name] = _flowstate.Switch(path)

        first_alone(one, self.bridges)

    def words_of_new(self) -> str:
        """The last words of an ovs-vswitchd that the transaction has started itself."""
        started = self.transaction.read("second.json")
        if not started:
            return ""
        # As root, only what root has started; one with User= has shown a command line that may be anything.
        as_root = self.supervisor(VSWITCHD).heritage.like.uid == 0 or drops(started["argv"])
        return last_words(started["argv"], started["since"], run if as_root else None)

    def management(self, bridge: str) -> str:
        """The bridge's OpenFlow socket."""
        return management_socket(self.rundir, bridge)

    def make_ready(self) -> None:
        """Bring the snapshot up to date and hold it in memory, encoded as it will be sent."""
        self.renew_snapshot()
        self._read_states()
        self.remember_learned()
        # If no order does it, they are right when the flag is cleared.
        with contextlib.suppress(HotUpgradeError):
            self.order_meters()

    def _read_states(self) -> None:
        snapshot = directory.read(self.snapshot)
        for name in self.bridges:
            self.states[name] = Encoded.of(
                self.living.now(name, _flowstate.leaving_devices(snapshot.state(name)))
            )

    def order_meters(self) -> None:
        """Put the meters in the order that gives those under traffic the kernel's numbers that they have.

        The kernel's flows name a meter by its number until they are flushed; the new process numbers from 0.  Raises
        ``HotUpgradeError`` when no order does it.
        """
        if self.userspace:
            return
        configs: dict[meters.Meter, bytes] = {}
        for name, settings in zip(
            self.bridges, side_by_side(_flowstate.settings_of, map(self.management, self.bridges))
        ):
            configs.update({(name, number): config for number, config in settings.meters.items()})
        old = self.control(VSWITCHD, 60.0)
        live: dict[meters.Meter, int] = {}
        dump = old.call("dpctl/dump-flows", "--no-names", proof.KERNEL.dump) if configs else ""
        for flow in proof.metered(dump, MOST_METERED):
            known = meters.used(old.call("ofproto/trace", proof.KERNEL.name, flow))
            live.update({meter: number for meter, number in known.items() if meter in configs})
            if live.keys() == configs.keys():
                break
        self.meters = [(meter, configs[meter]) for meter in meters.order(sorted(configs), live)]

    def add_meters(self) -> None:
        """Give the new process its meters in that order; it has none yet, or the first of them from an earlier try."""
        for (bridge, number), config in self.meters:
            of = self.switches[bridge].main
            message = wire.meter_mod(of.version, of.xid(), wire.METER_ADD, number, config)
            for error in of.send([message]):
                if error.name != "OFPMMFC_METER_EXISTS":
                    raise HotUpgradeError(f"bridge {bridge} refused meter {number}", error.name)

    def load(self) -> None:
        """Fill the bridges from the snapshot; those with controllers are staged, see ``release``."""
        if not self.states:
            self._read_states()
        self.add_meters()
        if self.public:  # whoever connects to a management socket may be quicker than we are
            self.living.watch(self.switches)
        with self.explaining():
            wanted = [name for name in self.bridges if name not in self.controlled]
            side_by_side(self._load, wanted, self.living.flows)
        self.living.watch(self.switches)
        self.stage_controlled()

    def _load(self, name: str) -> None:
        self.living.restore(name, self.switches[name], self.states[name])
        self.living.make_again(name, self.switches[name])

    def explaining(self) -> contextlib.AbstractContextManager[list[refusal.Refusal]]:
        """See ``refusal.explaining``: what the new ovs-vswitchd refuses that the old one holds."""
        return refusal.explaining(
            self.old.argv, lambda bridge: self.control(VSWITCHD, 60.0).call("bridge/dump-flows", bridge)
        )

    def end_old(self, end: t.Callable[[], None]) -> None:
        """End the old process by ``end``; nothing that it was told before is lost.

        Raises ``Unreachable`` before that when its database has ended.
        """
        self.quiet_old()
        end()
        self.living.last_words()

    def quiet_old(self) -> None:
        """``Living.quiet``; raises ``Unreachable`` as soon as the database ends: without it the old process answers nobody."""
        with attention({OVSDB_SERVER: look(self.rundir, OVSDB_SERVER).process}):
            self.living.quiet()

    def stage_controlled(self) -> None:
        """Have the state of the bridges with controllers wait in a bundle, where it does not yet."""
        wanted = [name for name in self.bridges if name in self.controlled]
        missing = [name for name, waits in zip(wanted, side_by_side(self._waits, wanted)) if not waits]
        if missing and not self.states:
            self._read_states()

        def one(name: str) -> None:
            self.staged[name] = _flowstate.stage(self.switches[name], self.states[name], torn=True)
            self.living.append(name, self.switches[name], self.staged[name])

        side_by_side(one, missing, self.living.flows)

    def _waits(self, name: str) -> bool:
        """Whether the state of the bridge is staged, and the switch has not dropped it."""
        if name not in self.staged:
            return False
        try:
            self.staged[name].require()
        except Unreachable:
            raise
        except HotUpgradeError:
            return False
        return True

    def fill_up(self) -> None:
        """Give the bridges what they lack of the snapshot; what others have put there since stays."""
        self.leave_deleted()
        snapshot = directory.read(self.snapshot)

        def one(name: str) -> None:
            with _flowstate.Switch(self.management(name)) as switch:
                state = self.living.now(name, _flowstate.leaving_devices(snapshot.state(name)))
                _flowstate.fill_up(switch, state)

        side_by_side(one, self.bridges, snapshot.flows, each=True)

    def note_absent_ports(self) -> None:
        """Remember which ports the new process does not have yet, for ``configure_late_ports``."""

        def one(name: str) -> None:
            there = {port.number for port in self.switches[name].describe_ports()}
            self.absent[name] = self.living.base[name].settings.ports.keys() - there

        side_by_side(one, self.switches)

    def configure_late_ports(self) -> None:
        """Give the ports that were not there before the config that they had; that of others may be somebody's by now."""

        def one(name: str) -> None:
            base = self.living.base[name]
            _flowstate.configure_ports(self.switches[name], base, self.absent.get(name, ()))

        side_by_side(one, self.switches)

    def verify(self) -> None:
        """Raise ``HotUpgradeError`` unless ovs-vswitchd is owned well and every difference is accounted for.

        Where a bridge cannot be followed, controllers may set their flows anew: a difference must last to count.
        """
        self.require_places()
        self._require_ports(self.living.base)
        end = time.monotonic() + (SETTLED_TIMEOUT if self.living.unfollowed else 0.0)
        while True:
            self.changes = self.account()
            fault = unexplained(self.changes)
            if not fault:
                return
            if time.monotonic() > end:
                what = f"{VSWITCHD} does not hold what it held, and nobody was seen to change it"
                raise HotUpgradeError(what, fault)
            time.sleep(0.5)

    def account(self) -> Json:
        """What became of each bridge since the hand-over began (see ``account``), as JSON."""
        names = list(self.living.base)
        found = map(_living.values, side_by_side(self._account, names, self.living.flows))
        return {"bridges": dict(zip(names, found)), "unfollowed": dict(self.living.unfollowed)}

    def _account(self, name: str) -> Account:
        """Of one bridge; one that somebody has deleted is no fault."""
        try:
            return self.living.account(name, self._switch(name))
        except Unreachable:
            if any(bridge.name == name for bridge in _flow_snapshot.live_bridges(self.connection)):
                raise
            return _living.DELETED

    def _switch(self, name: str) -> _flowstate.Switch:
        if name not in self.switches:
            self.switches[name] = _flowstate.Switch(self.management(name))
        return self.switches[name]

    def take(self) -> None:
        """Note what the switch tells, without waiting."""
        self.living.take()

    def watch_anew(self) -> None:
        """Follow the bridges from now on, where the process that did so has ended."""
        path = self.transaction.file("watched")
        for __ in range(2):  # what is changed between is told, and in the second
            _flow_snapshot.take(self.connection, path)
            snapshot = directory.read(path)
            self.living.rest_on({name: snapshot.state(name) for name in self.bridges})
            self.living.watch(dict(zip(self.bridges, side_by_side(self._switch, self.bridges))))

    @property
    def rebooted(self) -> bool:
        """Whether the host was booted since the hand-over began."""
        return bool(boot_id() != self.request.boot)

    def restore_after_boot(self) -> None:
        """Give the ovs-vswitchd of this boot what it lacks of the snapshot."""
        self.wait_for_database()
        self.never_stuck()
        self.wait_for_vswitchd()
        self.fill_up()

    def old_program_forwards(self) -> bool:
        """Whether ``make_whole`` has done its work before: the kept program runs, and what it lacked it has now."""
        try:
            process = look(self.rundir, VSWITCHD).process
            if os.path.dirname(os.readlink(f"/proc/{process.pid}/exe")) != self.kept:
                return False
            self.fill_up()
        except (HotUpgradeError, OSError):
            return False
        return True

    def fill_revived(self) -> None:
        """``make_whole`` where nothing of ours runs any more: one that the service manager has started lacks flows only."""
        self.ensure_server()
        if not self.old_runs() and self.supervisor(VSWITCHD).revives:
            with contextlib.suppress(HotUpgradeError):
                Waiter(REVIVED_TIMEOUT).wait(
                    f"{VSWITCHD} is back", lambda: self.control(VSWITCHD).call("version"), bool
                )
                self.never_stuck()
                self.wait_for_vswitchd()
                self.fill_up()
                return
        self.make_whole()

    def make_whole(self, anew: bool = False) -> None:
        """Have an ovs-vswitchd forward with the state of the snapshot: the old process, or its program ``anew``."""
        self.ensure_server()
        try:
            self.leave_deleted()
            if not self.old_program_forwards() and (anew or not self.old_runs()):
                self.disconnect()
                self.raise_flag()
                if os.path.isdir(self.snapshot):
                    self._read_states()
                self._end_running()
                self.swap(self.kept if os.path.exists(os.path.join(self.kept, VSWITCHD)) else None)
                if os.path.isdir(self.snapshot):
                    self.load()
                self.release()
                self.settle()
        finally:
            self.never_stuck()

    def _end_running(self) -> None:
        """End the ovs-vswitchd that forwards and is followed, so that nothing is lost of what it was told before.

        One that ends in an orderly way tells of each flow as deleted; with DPDK it has to.
        """
        if not self.living.follows or self.request.dpdk:
            self.living.close()
            return
        with contextlib.suppress(Unreachable):
            running = look(self.rundir, VSWITCHD).process
            self.quiet_old()
            kill(running)
        self.living.last_words()


def unexplained(found: Json) -> str:
    """What an account cannot explain, in one line."""
    texts = {name: values["unexplained"] for name, values in found["bridges"].items()}
    return "; ".join(f"bridge {name}: {text}" for name, text in texts.items() if text)


def request_reconfiguration(database: Ovsdb) -> int:
    """Ask ovs-vswitchd to tell when it has applied what is in ``database`` now, as ovs-vsctl does (next_cfg)."""
    mutation = {"op": "mutate", "table": DATABASE, "where": [], "mutations": [["next_cfg", "+=", 1]]}
    wanted = {"op": "select", "table": DATABASE, "where": [], "columns": ["next_cfg"]}
    return int(database.transact(mutation, wanted)[1]["rows"][0]["next_cfg"])


def reconfigured(database: Ovsdb, number: int) -> bool:
    """Whether ovs-vswitchd has applied what was there at ``request_reconfiguration`` (cur_cfg)."""
    query = {"op": "select", "table": DATABASE, "where": [], "columns": ["cur_cfg"]}
    return bool(database.transact(query)[0]["rows"][0]["cur_cfg"] >= number)


def describe(difference: _flowstate.Difference) -> str:
    """A difference in one line of OpenFlow text."""
    parts = []
    for what, count, messages in (
        ("missing", difference.missing_count, difference.missing),
        ("extra", difference.extra_count, difference.extra),
    ):
        if count:
            parts.append(f"{count} {what}, as {_oftext.line(messages[0])}")
    return "; ".join(parts)


def _server_of(path: str) -> int | None:
    """The process that listens on the socket ``path``, or None (SO_PEERCRED, unix(7))."""
    try:
        client = connect_unix(path, SERVER_TIMEOUT)
    except OSError:
        return None
    with client:
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[0])
