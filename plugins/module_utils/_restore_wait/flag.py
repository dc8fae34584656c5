# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The flag ``other_config:flow-restore-wait``, and what keeps it from staying set for ever.

A set flag that nobody clears black-holes a host, also after a reboot, since it is in the database file.  So two
things may stand behind it: a timer on the host (``deadline``), and under systemd a guard that clears the flag at
the next boot before ovs-vswitchd starts.  Both run ``guard.py``, copied to ``/var/lib/ovsops``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import os
import shutil
import sys
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Connection
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._restore_wait import guard as program
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.detached import (
    Armed,
    BootGuard,
    Launcher,
    launcher,
    record_path,
    write_private,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import (
    transaction as transactions,
)

STATE_DIRECTORY = "var/lib/ovsops"
SHORTEST_DEADLINE = 5.0
LONGEST_DEADLINE = 86400.0

# States of a hand-over in which its engine or its guard may set and clear the flag at any moment.
OWNING = (transactions.PREPARED, transactions.ARMED, transactions.ROLLING_BACK)

# The steps of a plan.
PROTECT = "protect"
DISARM = "disarm"
ARM = "arm"
SET = "set"
CLEAR = "clear"
UNPROTECT = "unprotect"


@dataclasses.dataclass(frozen=True)
class FlagState:
    """``guarded``: the flag would be cleared at the next boot; ``traces``: files of a timer or guard are there."""

    enabled: bool
    deadline: Armed | None
    guarded: bool
    traces: bool


@dataclasses.dataclass(frozen=True)
class Wanted:
    """``deadline`` in seconds from the setting on; None leaves a timer that runs as it is."""

    enabled: bool
    deadline: float | None = None


def plan(before: FlagState, wanted: Wanted, systemd: bool) -> tuple[str, ...]:
    """The steps from ``before`` to ``wanted``, in an order in which no crash leaves a flag without its guards."""
    if not wanted.enabled:
        leave = {CLEAR: before.enabled, DISARM: before.deadline is not None, UNPROTECT: before.traces}
        return tuple(step for step, due in leave.items() if due)
    arm = wanted.deadline is not None and (
        not before.enabled or before.deadline is None or before.deadline.seconds != wanted.deadline
    )
    enter = {
        PROTECT: systemd and not before.guarded,
        DISARM: arm and before.deadline is not None,
        ARM: arm,
        SET: not before.enabled,
    }
    return tuple(step for step, due in enter.items() if due)


class RestoreWait:
    """The flag of one database, with its timer and its guard.  ``root`` is where files are looked for."""

    def __init__(self, connection: Connection, root: str = "/", launch: Launcher | None = None) -> None:
        self.connection = connection
        self.root = root
        self.launcher = launch or launcher(root)
        # One host may run several databases (containers); each has a timer and a guard of its own.
        self.name = "restore-wait-" + hashlib.sha256(connection.remote.encode()).hexdigest()[:8]
        self.guard = BootGuard(self.name, root)

    @property
    def systemd(self) -> bool:
        """Whether there is a systemd that can guard the next boot."""
        return self.launcher.kind == "systemd"

    def state(self) -> FlagState:
        """The state now.  Raises ``Unreachable`` when the database does not answer."""
        with self.connection.open() as db:
            enabled = db.flow_restore_wait()
        files = (*self.guard.files, record_path(self.root, self.name), self._directory)
        return FlagState(
            enabled=enabled,
            deadline=self.launcher.armed(self.name),
            guarded=self.guard.installed(),
            traces=any(map(os.path.lexists, files)),
        )

    def predict(self, before: FlagState, wanted: Wanted) -> FlagState:
        """The state that ``apply`` leads to, for check mode."""
        check_deadline(self.connection, wanted)
        steps = plan(before, wanted, self.systemd)
        self.check_owner(steps)
        deadline = None if DISARM in steps else before.deadline
        if ARM in steps and wanted.deadline is not None:
            deadline = Armed.from_now(wanted.deadline, self.launcher.kind)
        guarded = (before.guarded or PROTECT in steps) and UNPROTECT not in steps
        return FlagState(wanted.enabled, deadline, guarded, traces=guarded or deadline is not None)

    def apply(self, before: FlagState, wanted: Wanted) -> FlagState:
        """Carry the plan out and return the state that was read back.

        Raises ``HotUpgradeError`` when it is not the wanted one; then the flag is not left set without a timer
        that was asked for.
        """
        check_deadline(self.connection, wanted)
        steps = plan(before, wanted, self.systemd)
        self.check_owner(steps)
        try:
            for step in steps:
                self._do(step, wanted)
            after = self.state()
        except HotUpgradeError:
            if SET in steps:
                self._give_up()
            raise
        if wanted.enabled and wanted.deadline is not None and after.deadline is None:
            self._give_up()
            raise HotUpgradeError(
                "flow-restore-wait was cleared again",
                f"the deadline of {wanted.deadline:g} s was over, or its timer was ended, before the flag was set",
                "Choose a longer deadline",
            )
        if after.enabled != wanted.enabled:
            raise HotUpgradeError(
                f"flow-restore-wait in {self.connection.remote} is {'set' if after.enabled else 'not set'}",
                f"it was {'set' if wanted.enabled else 'cleared'} a moment ago, so somebody else changes it",
                "Find out who: another upgrade, or an agent that manages this Open vSwitch",
            )
        return after

    def check_owner(self, steps: t.Sequence[str]) -> None:
        """Raise ``Refused`` when a hand-over at work owns the flag: it needs it, and clears it in any case."""
        if set(steps) <= {DISARM, UNPROTECT}:
            return
        owner = transactions.unfinished(os.path.join(self.root, transactions.ROOT.lstrip("/")))
        if owner is None or owner.state not in OWNING or not self._same_database(owner.request["remote"]):
            return
        raise Refused(
            f"flow-restore-wait in {self.connection.remote} is left alone",
            f"it belongs to the hand-over {owner.id}, which is {owner.state}",
            f"Wait for its end with ovs_handover and state=settled, transaction={owner.id}, which also undoes it if its engine "
            "has died",
        )

    def _same_database(self, remote: str) -> bool:
        """False only when it is another one for certain: two sockets with different paths."""
        remotes = (remote, self.connection.remote)
        paths = {os.path.realpath(name[len("unix:") :]) for name in remotes if name.startswith("unix:")}
        return not all(name.startswith("unix:") for name in remotes) or len(paths) == 1

    def _do(self, step: str, wanted: Wanted) -> None:
        if step == PROTECT:
            self._install()
            self.guard.install("Clear flow-restore-wait that an interrupted upgrade left behind", self._argv)
        elif step == ARM and wanted.deadline is not None:
            self._install()
            self.launcher.arm(self.name, wanted.deadline, self._argv)
        elif step in (SET, CLEAR):
            with self.connection.open() as db:
                db.set_flow_restore_wait(step == SET)
        elif step == DISARM:
            self.launcher.disarm(self.name)
        elif step == UNPROTECT:
            self.launcher.disarm(self.name)
            self.guard.remove()
            shutil.rmtree(self._directory, ignore_errors=True)

    def _give_up(self) -> None:
        """Best effort: the error that led here is the one to report."""
        for step in (CLEAR, UNPROTECT):
            with contextlib.suppress(HotUpgradeError):
                self._do(step, Wanted(enabled=False))

    @property
    def _directory(self) -> str:
        return os.path.join(self.root, STATE_DIRECTORY, self.name)

    @property
    def _program(self) -> str:
        return os.path.join(self._directory, "guard.py")

    @property
    def _argv(self) -> list[str]:
        files = (*self.guard.files, record_path(self.root, self.name))
        return [sys.executable, "-I", self._program, self.connection.remote, *files]

    def _install(self) -> None:
        os.makedirs(os.path.join(self.root, STATE_DIRECTORY), mode=0o700, exist_ok=True)
        write_private(self._program, inspect.getsource(program).encode())


def check_deadline(connection: Connection, wanted: Wanted) -> None:
    """Raise ``Refused`` for a deadline that could not be kept."""
    if wanted.deadline is None:
        return
    if not SHORTEST_DEADLINE <= wanted.deadline <= LONGEST_DEADLINE:
        raise Refused(
            f"a deadline of {wanted.deadline:g} s is refused",
            f"it must be from {SHORTEST_DEADLINE:g} to {LONGEST_DEADLINE:g} s",
            "Take twice the time that the restore needs, and at least 60 s",
        )
    if not connection.remote.startswith(("unix:", "tcp:")):
        raise Refused(
            f"a deadline is refused for the database {connection.remote}",
            "the program that keeps it speaks to unix: and tcp: remotes only",
            "Use the local socket of the database, as unix:/run/openvswitch/db.sock",
        )
