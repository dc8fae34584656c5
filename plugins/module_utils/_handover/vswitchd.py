# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""ovs-vswitchd as a process: the first one, and how it is ended and replaced."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.versions import version as numbers
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import plan
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.database import START_TIMEOUT
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.living import Living
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.outside import Outside
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners.owner import Job
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.report import Report
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.scope import Scope
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.services import Services
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import upcall_dispatch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import read_pid
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import OVSDB_SERVER, VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.hints import (
    SYSTEM_LOG,
    VSWITCHD_LOG,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.last_words import last_words
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Completed
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.death_watch import attention
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.likeness import drops
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
    alive,
    wait_end,
    wait_gone,
)

# How long a process may take to end, or a job that has failed to say so, in seconds.
ENDED_TIMEOUT = 3.0

# The file of the transaction that tells where the upcalls of the old process went.
_DISPATCH = "upcalls.json"


class Vswitchd:
    """The ovs-vswitchd of the beginning, and a restart of it by its owner, if one is under way."""

    def __init__(
        self, scope: Scope, services: Services, report: Report, living: Living, outside: Outside
    ) -> None:
        self._scope, self._services, self._report = scope, services, report
        self._living, self._outside = living, outside
        self._job: Job | None = None

    def old_runs(self) -> bool:
        """Whether the very process of the beginning still forwards: in the pidfile, and alive."""
        with contextlib.suppress(Unreachable):
            return self._services.process(VSWITCHD) == self._scope.request.vswitchd.process
        return False

    def kept_program_runs(self) -> bool:
        """Whether the program runs that was kept to go back to.  Raises ``Unreachable`` when none runs."""
        process, between = self._services.process(VSWITCHD), self._scope.request.homes
        if between is not None:
            return between.in_before(process)
        return os.path.dirname(os.readlink(f"/proc/{process.pid}/exe")) == self._scope.kept

    def require_no_other(self) -> None:
        """Raise ``HotUpgradeError`` when somebody else has replaced the ovs-vswitchd of the beginning.

        If that has only died, the one that is ready is the quickest help.
        """
        beginning = self._scope.request.vswitchd.process
        with contextlib.suppress(Unreachable):
            running = self._services.process(VSWITCHD)
            if running != beginning:
                raise HotUpgradeError(
                    f"{VSWITCHD} was replaced by somebody else meanwhile",
                    f"process {running.pid} runs instead of {beginning.pid}",
                    f"{SYSTEM_LOG}, then start again",
                )

    def replace(self, binaries: str | None) -> int:
        """End the running ovs-vswitchd and have its owner start another; returns the pid of the one that has ended.

        ``require_start`` tells whether the other one comes, ``settle`` waits until it is there.
        """
        first = self._scope.request.vswitchd
        try:
            running, gone = self._services.process(VSWITCHD), False
        except Unreachable:
            running, gone = first.process, True
            self._wait_for_the_dying()
        self.clear_the_way()
        like_the_old = dataclasses.replace(first, process=running)
        self._job = self._services.owner(VSWITCHD).restart(like_the_old, binaries)
        if not wait_end(running, START_TIMEOUT):
            raise HotUpgradeError(
                f"{VSWITCHD} did not stop", f"process {running.pid} is still there", VSWITCHD_LOG
            )
        self._report.mark("stopped")
        if gone:  # the service manager may have begun to start one by itself, which our restart ends
            self.settle()
        return running.pid

    def clear_the_way(self) -> None:
        """Have the next ovs-vswitchd have meters, which it adds all again: see ``kernel_meters``."""
        if self._scope.request.userspace:
            return
        with contextlib.suppress(HotUpgradeError):  # no datapath, or one without meters
            cleared = self._outside.clear_the_way()
            if cleared:
                self._report.missed(
                    [f"the limits of the kernel's meters {cleared} while the new {VSWITCHD} started"]
                )

    def _wait_for_the_dying(self) -> None:
        """A process that was killed has its pidfile locked until the last of its threads has gone."""
        pidfile = os.path.join(self._scope.request.rundir, f"{VSWITCHD}.pid")
        with contextlib.suppress(Unreachable):
            wait_gone(read_pid(pidfile), VSWITCHD, ENDED_TIMEOUT)

    def settle(self) -> None:
        """Wait until the owner says that its restart is done."""
        if self._job is not None:
            self._job.wait(START_TIMEOUT)
            self._report.missed(self._job.refused)

    def require_start(self, new: Process | None = None) -> None:
        """Raise ``HotUpgradeError`` when the restart has failed, or ``new``, which starts, has ended."""
        if self._job is not None and self._job.failed():
            self._job.wait(ENDED_TIMEOUT)
        if new is not None and not alive(new):
            raise HotUpgradeError(f"the new {VSWITCHD} has ended", self.words_of_new(), VSWITCHD_LOG)

    def words_of_new(self) -> str:
        """The last words of an ovs-vswitchd that the transaction has started itself."""
        started = self._scope.transaction.read("second.json")
        if not started:
            return ""
        # As root, only what root has started; one with User= has shown a command line that may be anything.
        as_root = self._services.owner(VSWITCHD).heritage.like.uid == 0 or drops(started["argv"])
        return last_words(started["argv"], started["since"], self._run_new if as_root else None)

    def _run_new(self, argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        """Run a program of the new version where it is: what has its name on the host is another one, if it is root's at all."""
        return self._outside.run(self._scope.inside(argv), timeout)

    def fit_dispatch(self, version: str) -> None:
        """Have the kernel send upcalls as an ovs-vswitchd of this ``version``, which takes over, expects them."""
        if self._scope.request.dispatch and numbers(version) < plan.PER_CPU_SINCE:
            upcall_dispatch.send_upcalls_per_port()

    def remember_dispatch(self) -> bool:
        """Note where the upcalls go, for ``take_upcalls_back``; False where the kernel does not tell."""
        found = upcall_dispatch.read()
        if found is not None:
            self._scope.transaction.write(_DISPATCH, found.json())
        return found is not None

    def take_upcalls_back(self) -> bool:
        """Have the upcalls go to the old process again; False where it has ended, or nobody has noted where they went."""
        if not self.can_take_upcalls_back():
            return False
        upcall_dispatch.direct(upcall_dispatch.Dispatch.of_json(self._scope.transaction.read(_DISPATCH)))
        return True

    def can_take_upcalls_back(self) -> bool:
        """Whether ``take_upcalls_back`` would do that."""
        return self._scope.transaction.read(_DISPATCH) is not None and self.old_runs()

    def end_old(self, end: t.Callable[[], None]) -> None:
        """End the old process by ``end``; nothing that it was told before is lost.

        Raises ``Unreachable`` before that when its database has ended.
        """
        self.quiet_old()
        end()
        self._living.last_words()

    def quiet_old(self) -> None:
        """``Living.quiet``; raises ``Unreachable`` as soon as the database ends: without it the old process answers nobody."""
        with attention({OVSDB_SERVER: self._services.process(OVSDB_SERVER)}):
            self._living.quiet()
