# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""ovn-controller replaced by another one, while the flows of the one before stay in the switch.

``exit --restart`` leaves flows and the chassis' row (ovn-controller(8)). The next one deletes the flows as soon as it is
connected, before it knows what to put there, unless it is told to wait (OVN 22.06 to 25.03), or waits by itself (later).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Refused,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.files import try_lock
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Clock, Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import management_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import Switch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovn.pods import Pods
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import ovn
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import Daemon
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.homes import Homes
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovn import CONTROLLER, Chassis
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Connection, is_true
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.successor import end_with_monitor
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.whole_switch import read_database
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Runner, check, run
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
    alive,
    named,
    wait_end,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.trust import (
    doubt_of_file,
    owner_of,
    user_of,
)

LOG = "Look into /var/log/ovn/ovn-controller.log"
# How long a controller may take to end, or to start, in seconds.
_PATIENCE = 30.0
_INTERVAL = 0.2
# Each flow of a chassis begins here, and it has few of them.
_FIRST_TABLE = 0
# Where the database remembers what an administrator had set before.
_REMEMBERED = "ovsops-ovn-ofctrl-wait-before-clear"
_UNSET = ""
_BOOTED = "/run/systemd/system"  # sd_booted(3)
_UNIT = f"{CONTROLLER}.service"
# Held by whoever replaces it.
LOCK = "/run/ovsops/ovn-controller.lock"
_SCRIPTS = (("/etc/init.d/ovn-host", "start"), ("/usr/share/ovn/scripts/ovn-ctl", "start_controller"))


@dataclasses.dataclass(frozen=True)
class Settled:
    """What has become of a replacement; ``seconds`` until the flows were of the new one."""

    chassis: Chassis
    seconds: float


@contextlib.contextmanager
def alone(seconds: float, path: str = LOCK, clock: Clock = time) -> t.Iterator[None]:
    """Have no other run of this module replace it meanwhile; waits for one that does, which a cancelled play may have left.

    Two would take what the other one has ended for gone, and what it has started for a stranger.
    """
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    with open(path, "w", encoding="ascii") as lock:
        Waiter(seconds, _INTERVAL, clock).wait(
            f"no other run replaces {CONTROLLER}",
            lambda: try_lock(lock),
            bool,
            hint=f"See who has {path} open (fuser), and run this again when it has ended",
        )
        yield


class Controller:
    """The ovn-controller of this host, or with ``pods``, that of one of two of them."""

    def __init__(
        self,
        connection: Connection,
        pods: Pods | None = None,
        runner: Runner = run,
        clock: Clock = time,
        processes: t.Callable[[str], frozenset[int]] = named,
    ) -> None:
        self._connection, self._pods, self._runner, self._clock = connection, pods, runner, clock
        self._named = processes

    @classmethod
    def of(cls, connection: Connection, between: Homes | None) -> Controller:
        """That of the host, or between two containers; raises ``Refused`` when one of them does not run."""
        return cls(connection, Pods(between, ovn.rundir(connection.rundir)) if between else None)

    def look(self) -> Chassis | None:
        """See ``ovn.look``."""
        external_ids = read_database(self._connection).external_ids
        home = self._pods.home if self._pods else None
        return ovn.look(
            self._connection.rundir, external_ids, self._connection.timeout, runner=self._runner, home=home
        )

    def concerns(self, chassis: Chassis) -> bool:
        """Whether there is one to be replaced or started; one in a third pod is not ours."""
        daemon = chassis.controller
        if self._pods is None:
            return daemon.running or daemon.installed
        return self._pods.own(daemon.process)

    def require_free(self, chassis: Chassis) -> None:
        """Raise ``Refused`` where a new controller would do nothing, or is somebody else's matter."""
        controller = chassis.controller
        if is_true(chassis.setting(ovn.MATCH_NORTHD)):
            raise Refused(
                f"a new {CONTROLLER} would change nothing until ovn-northd is as new",
                f"external_ids:{ovn.MATCH_NORTHD} is true",
                f"Upgrade OVN by hand, or remove the setting first: ovs-vsctl remove open . external_ids {ovn.MATCH_NORTHD}",
            )
        if controller.running and chassis.connected is False:
            raise Refused(
                f"the running {CONTROLLER} is not connected to its southbound database",
                "a new one would know nothing of the logical network",
                "See why (ovn-appctl connection-status, the log), and start again when it is connected",
            )
        if self._pods is not None:
            self._pods.require_usable()
        others = self._others(controller.process.pid if controller.process else 0)
        contained = controller.supervisor is not None and controller.supervisor.kind == "container"
        if others or (contained and self._pods is None):
            raise Refused(
                f"{CONTROLLER} runs where this module does not reach it",
                f"process {min(others)} is another one, in a container or with another run directory"
                if others
                else "it runs in a container",
                "Have whoever runs it replace it",
            )

    def _others(self, own: int) -> frozenset[int]:
        """Every other one, of whoever may speak to Open vSwitch: any user can give a process of his that name."""
        places = (self._connection.rundir, ovn.rundir(self._connection.rundir))
        users = {0, *map(owner_of, places)}
        return frozenset(pid for pid in self._named(CONTROLLER) - {own} if user_of(pid) in users)

    def prepared(self) -> bool:
        """Whether ``prepare`` was done, and not undone."""
        with self._connection.open() as database:
            return _REMEMBERED in database.external_ids()

    def prepare(self, seconds: float) -> None:
        """Have the next controller leave the flows for so long at least, whoever starts it."""
        with self._connection.open() as database:
            external_ids = database.external_ids()
            now = external_ids.get(ovn.WAIT_BEFORE_CLEAR, _UNSET)
            wanted = str(max(round(seconds * 1000), int(now) if now.isdigit() else 0))
            before = external_ids.get(_REMEMBERED, now)
            database.set_external_ids({_REMEMBERED: before, ovn.WAIT_BEFORE_CLEAR: wanted})

    def _forget(self) -> None:
        """Undo ``prepare``."""
        with self._connection.open() as database:
            before = database.external_ids().get(_REMEMBERED)
            if before is not None:
                database.set_external_ids({ovn.WAIT_BEFORE_CLEAR: before or None, _REMEMBERED: None})
        if self._pods is not None:
            self._pods.forget()

    def replace(self, chassis: Chassis, wait: float, timeout: float) -> Settled:
        """End the controller, if it runs, start the one that is on the disk, and return when the flows are its own.

        The flows of before stay for ``wait`` seconds, until the new one knows what it wants.  Raises ``Refused`` before anything
        is touched, else ``HotUpgradeError`` with what is to be done.
        """
        self.require_free(chassis)
        if self._pods is not None:
            return self._move(self._pods, chassis, wait, timeout)
        start = self._starter(chassis.controller)
        self.prepare(wait)
        since = self._clock.monotonic()
        self._end(chassis.controller)
        check(self._runner, start, _PATIENCE)
        return self.settle(chassis, since, timeout)

    def _move(self, pods: Pods, chassis: Chassis, wait: float, timeout: float) -> Settled:
        """See ``replace``; where the next one does not settle, the one before is started in its own container again."""
        pods.keep(chassis.controller.process)
        self.prepare(wait)
        since = self._clock.monotonic()
        try:
            pods.start(functools.partial(self._end, chassis.controller))
            return self.settle(chassis, since, timeout)
        except HotUpgradeError as failure:
            process = chassis.controller.process
            if process is not None and alive(process):
                raise
            raise self._gone_back(pods, chassis, failure, timeout) from failure

    def _gone_back(
        self, pods: Pods, chassis: Chassis, failure: HotUpgradeError, timeout: float
    ) -> HotUpgradeError:
        """Go back to the one before; returns what is to be said of it."""
        since = self._clock.monotonic()
        try:
            pods.go_back(self._end_whatever_runs)
            version = self.settle(chassis, since, timeout).chassis.controller.running_version
        except HotUpgradeError as error:
            why = f"{failure.why}. The one before did not come back: {error.what}: {error.why}"
            return HotUpgradeError(failure.what, why, error.hint)
        hint = f"{CONTROLLER} {version} runs in the old pod again, and the flows are its own. {failure.hint}"
        return HotUpgradeError(failure.what, failure.why, hint)

    def _end(self, controller: Daemon) -> None:
        process = controller.process
        if process is None:  # the scripts of Debian's package end it, and leave its flows, too
            return
        try:
            self._exit(process)
        except Unreachable as error:
            # Not known to go on: one that computes for long does what it was told as soon as it hears it.
            if not wait_end(process, _PATIENCE):
                hint = f"It may end yet. Run this again: what is kept for the next one stays. {error.hint}"
                raise HotUpgradeError(error.what, error.why, hint) from error
        except HotUpgradeError:
            self._forget()  # it goes on
            raise
        if not wait_end(process, _PATIENCE):
            raise HotUpgradeError(f"{CONTROLLER} does not end", f"process {process.pid} is still there", LOG)

    def _exit(self, process: Process) -> None:
        """Have it end, and leave its flows (ovn-controller(8))."""
        place = ovn.rundir(self._connection.rundir)
        Appctl(ovn.socket(place, process.pid), self._connection.timeout).call("exit", "--restart")

    def _end_whatever_runs(self) -> None:
        """End one that is not well, in whatever way."""
        chassis = self.look()
        process = chassis.controller.process if chassis else None
        if process is None:
            return
        with contextlib.suppress(HotUpgradeError):
            self._exit(process)
            wait_end(process, _PATIENCE)
        end_with_monitor(process)

    def settle(self, chassis: Chassis, since: float, timeout: float) -> Settled:
        """Return when the running controller has put its own flows there, which it began at the moment ``since``."""
        found, __ = Waiter(timeout, _INTERVAL, self._clock).wait(
            f"the new {CONTROLLER} has its own flows in {chassis.bridge}",
            lambda: self._lacking(chassis.bridge, since),
            lambda seen: not seen[1],
            lambda seen: seen[1],
            f"{LOG}, and see that its southbound database answers (ovn-appctl connection-status)",
        )
        self._forget()
        return Settled(t.cast(Chassis, found), self._clock.monotonic() - since)

    def _lacking(self, bridge: str, since: float) -> tuple[Chassis | None, str]:
        """The chassis, and what it lacks, in words."""
        elapsed = self._clock.monotonic() - since
        path = management_socket(self._connection.rundir, bridge)
        with Switch(path, timeout=self._connection.timeout) as switch:
            oldest = switch.oldest_flow(_FIRST_TABLE)
        if oldest is None or oldest + 1 > elapsed:  # it is told in whole seconds
            return None, "the first table has no flows, or some of the one before"
        chassis = self.look()
        if chassis is None or not chassis.controller.running:
            return chassis, "it does not run"
        if not chassis.connected:
            return chassis, "it is not connected to its southbound database"
        return chassis, ""

    def _starter(self, controller: Daemon) -> list[str]:
        """What starts the next one."""
        supervisor = controller.supervisor
        if controller.binary is None:
            raise Refused(f"no usable {CONTROLLER} is on the disk", "", "Install the package ovn-host")
        if os.path.isdir(_BOOTED):
            own = supervisor is not None and supervisor.kind == "systemd" and supervisor.unit
            return ["systemctl", "start", "--", own or _UNIT]
        # The first one knows the options of this host.
        doubts = {path: doubt_of_file(path) for path, __ in _SCRIPTS}
        for path, verb in _SCRIPTS:
            if doubts[path] is None:
                return [path, verb]
        raise Refused(
            f"nothing can start the next {CONTROLLER}",
            "; ".join(f"{path}: {doubt}" for path, doubt in doubts.items()),
            "Install the packages ovn-host and ovn-common",
        )


def started(controller: Daemon) -> float:
    """When a running controller was started, as a moment of the monotonic clock."""
    return t.cast(Process, controller.process).started / os.sysconf("SC_CLK_TCK")
