# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Both daemons as processes, and who owns each: a unit of systemd, or nobody."""

from __future__ import annotations

import functools
import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.outside import Outside
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners.owner import Owner
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners.systemd import reload
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.report import Report
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.scope import Scope
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import OVSDB_SERVER, VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.hints import SYSTEM_LOG
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import Instance
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import containers
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process

# How long the service manager may take to notice a new process, in seconds.
OWNED_TIMEOUT = 30.0


class Services:
    """ovs-vswitchd and ovsdb-server, found by their pidfiles."""

    def __init__(self, scope: Scope, report: Report, outside: Outside) -> None:
        self._scope, self._report, self._outside = scope, report, outside

    def running(self, name: str) -> Instance:
        """The daemon ``name`` that runs now.  Raises ``Unreachable`` when none does."""
        return self._outside.running(self._scope.request.rundir, name)

    def process(self, name: str) -> Process:
        """The process of the daemon ``name``.  Raises ``Unreachable`` when it does not run."""
        return self.running(name).process

    def control(self, name: str, timeout: float = 10.0) -> Appctl:
        """The control socket of the running daemon ``name``."""
        path = os.path.join(self._scope.request.rundir, f"{name}.{self.process(name).pid}.ctl")
        return Appctl(path, timeout)

    def owner(self, name: str) -> Owner:
        """Who owns the daemon ``name``."""
        request = self._scope.request
        lines = request.start.lines if name == OVSDB_SERVER else ()
        return self._outside.owner(name, request.rundir, request.supervisors[name], lines)

    def adopt(self, new: Process) -> None:
        """Have the service own ``new``, a second ovs-vswitchd, from the end of the old one on.

        Raises ``HotUpgradeError`` when it would end with the hand-over itself: systemd is asked, for as long as it needs to
        notice.
        """
        owner = self.owner(VSWITCHD)
        self._report.missed(owner.adopt(new))
        self._wait_until(f"{VSWITCHD} has its place", lambda: owner.misplaced(new))

    def require_places(self) -> None:
        """Raise ``HotUpgradeError`` unless both daemons are where they were before, and so outlive the hand-over."""
        for name in (VSWITCHD, OVSDB_SERVER):
            owner, process = self.owner(name), self.process(name)
            self._wait_until(f"the service owns {name}", functools.partial(owner.healthy, process))

    def require_home(self, *names: str) -> None:
        """Raise ``HotUpgradeError`` where a daemon is not in the pod of before again: it would end with the new one."""
        between = self._scope.request.homes
        for name in names if between else ():
            process = self.process(name)
            if between and not between.in_before(process):
                where = containers.holding(process)
                raise HotUpgradeError(
                    f"{name} is not in the container of before",
                    f"it is in {f'container {where[:12]}' if where else 'no container'}",
                    "Leave its pod where it is. Roll back again when the pod of before runs",
                )

    def _wait_until(self, what: str, wrong: t.Callable[[], str | None]) -> None:
        waiter = Waiter(OWNED_TIMEOUT, clock=self._outside.clock)
        waiter.wait(what, wrong, lambda fault: fault is None, str, SYSTEM_LOG)

    def hold(self) -> None:
        """Have the service manager restart neither daemon by itself: that is ours for the time being."""
        owners = [self.owner(name) for name in (VSWITCHD, OVSDB_SERVER)]
        changed = [owner.hold() for owner in owners]
        if any(changed):
            for owner in owners:  # first: while it reads its files anew, what is due comes next
                owner.cancel_restart()
            reload()

    def let_go(self) -> None:
        """Undo ``hold``."""
        changed = [self.owner(name).let_go() for name in (VSWITCHD, OVSDB_SERVER)]
        if any(changed):
            reload()
