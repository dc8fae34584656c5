# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""How a host forwards again: the old process, or its program anew, with the flows of the snapshot."""

from __future__ import annotations

import contextlib
import os

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.database import (
    REVIVED_TIMEOUT,
    Database,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.filler import Filler
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.living import Living
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.outside import Outside
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.own_snapshot import OwnSnapshot
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.scope import Scope
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.services import Services
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.vswitchd import Vswitchd
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import VSWITCHD, kill_daemon


class Recovery:
    """Each of these is right wherever a hand-over was left, in a process that did not begin it, and done twice."""

    def __init__(
        self,
        scope: Scope,
        services: Services,
        database: Database,
        vswitchd: Vswitchd,
        snapshot: OwnSnapshot,
        filler: Filler,
        living: Living,
        outside: Outside,
    ) -> None:
        self._scope, self._services, self._database, self._vswitchd = scope, services, database, vswitchd
        self._snapshot, self._filler, self._living, self._outside = snapshot, filler, living, outside

    def replace(self, binaries: str | None) -> None:
        """Have the service start another ovs-vswitchd, by ``binaries`` if given, and connect to its bridges."""
        ended = self._vswitchd.replace(binaries)
        self._filler.connect(ended, self._vswitchd.require_start)

    def restore_after_boot(self) -> None:
        """Give the ovs-vswitchd of this boot what it lacks of the snapshot."""
        self._database.wait()
        self._database.never_stuck()
        self._database.wait_for_vswitchd()
        self._filler.fill_up()

    def fill_revived(self) -> None:
        """``make_whole`` where nothing of ours runs any more: one that the service manager has started lacks flows only."""
        self._database.ensure()
        if not self._vswitchd.old_runs() and self._services.owner(VSWITCHD).revives:
            with contextlib.suppress(HotUpgradeError):
                self._wait_for_revived()
                self._database.never_stuck()
                self._database.wait_for_vswitchd()
                self._filler.fill_up()
                return
        self.make_whole()

    def _wait_for_revived(self) -> None:
        Waiter(REVIVED_TIMEOUT, clock=self._outside.clock).wait(
            f"{VSWITCHD} is back", lambda: self._services.control(VSWITCHD).call("version"), bool
        )

    def make_whole(self, anew: bool = False) -> None:
        """Have an ovs-vswitchd forward with the state of the snapshot: the old process, or its program ``anew``."""
        self._database.ensure()
        try:
            self._scope.leave_deleted()
            if not self._old_program_forwards() and (anew or not self._vswitchd.old_runs()):
                self._start_old_program()
        finally:
            self._database.never_stuck()
        self._services.require_home(VSWITCHD)

    def _old_program_forwards(self) -> bool:
        """Whether ``make_whole`` has done its work before: the kept program runs, and what it lacked it has now."""
        try:
            if not self._vswitchd.kept_program_runs():
                return False
            self._filler.fill_up()
        except (HotUpgradeError, OSError):
            return False
        return True

    def _start_old_program(self) -> None:
        """What it is given is in memory before the one that runs ends."""
        self._filler.disconnect()
        self._database.raise_flag()
        if self._snapshot.exists:
            self._filler.read_states()
        self._end_running()
        kept = self._scope.kept
        go_back = self._scope.request.homes is not None or os.path.exists(os.path.join(kept, VSWITCHD))
        self.replace(kept if go_back else None)
        if self._snapshot.exists:
            self._filler.load()
        self._filler.release()
        self._vswitchd.settle()

    def _end_running(self) -> None:
        """End the ovs-vswitchd that forwards and is followed, so that nothing is lost of what it was told before.

        One that ends in an orderly way tells of each flow as deleted; with DPDK it has to.
        """
        if not self._living.follows or self._scope.request.dpdk:
            self._living.close()
            return
        with contextlib.suppress(Unreachable):
            running = self._services.process(VSWITCHD)
            self._vswitchd.quiet_old()
            kill_daemon(VSWITCHD, running, self._scope.request.rundir)
        self._living.last_words()
