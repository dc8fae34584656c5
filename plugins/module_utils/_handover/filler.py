# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The bridges of the ovs-vswitchd that takes over: connected to, filled, and let go."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.polling import readable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.side_by_side import (
    first_alone,
    side_by_side,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Clock, Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import controllers
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.database import Database
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.living import Living
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.metering import TIMEOUT, Metering
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.outside import Outside
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.own_snapshot import OwnSnapshot
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.report import Report
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.scope import Scope
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.services import Services
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.vswitchd import Vswitchd
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import refusal
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.restore import (
    Staged,
    fill_up,
    stage,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import State, Switch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.hints import VSWITCHD_LOG
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import (
    Connection,
    Ovsdb,
    reconfigured,
    request_reconfiguration,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import directory, switch

# Pause between two looks in the window, in seconds: shorter takes the CPU from what is waited for.
POLL = 0.005


@dataclasses.dataclass(frozen=True)
class Encoded(State):
    """A state whose modifications are in memory, as they will be sent."""

    encoded: tuple[bytes, ...]

    @classmethod
    def of(cls, state: State) -> Encoded:
        """Encode ``state`` now."""
        encoded = tuple(state.objects())
        return cls(state.version, state.ports_version, state.settings, state.flows, state.replies, encoded)

    def objects(self) -> t.Iterator[bytes]:
        """See ``State``."""
        return iter(self.encoded)


@dataclasses.dataclass(frozen=True)
class _Told:
    """A clock whose pauses end when a switch tells something."""

    clock: Clock
    descriptors: t.Callable[[], t.Iterable[int]]

    def monotonic(self) -> float:
        return self.clock.monotonic()

    def sleep(self, seconds: float, /) -> None:
        readable(self.descriptors(), seconds)


class Filler:
    """``switches`` are kept connections to the process that takes over, ``staged`` what waits in it, until ``disconnect``."""

    def __init__(
        self,
        scope: Scope,
        services: Services,
        database: Database,
        vswitchd: Vswitchd,
        snapshot: OwnSnapshot,
        living: Living,
        report: Report,
        outside: Outside,
    ) -> None:
        self._scope, self._services, self._database, self._vswitchd = scope, services, database, vswitchd
        self._snapshot, self._living, self._report, self._outside = snapshot, living, report, outside
        self.metering = Metering(scope, services)
        self.switches: dict[str, Switch] = {}
        self.staged: dict[str, Staged] = {}
        self._states: dict[str, State] = {}
        self._known: list[directory.SavedBridge] = []
        # Whether anybody can connect to ``switches``: they are not in the private run directory.
        self._public = False

    # Connections

    def connect(self, not_pid: int, require_start: t.Callable[[], None]) -> None:
        """Connect to every bridge's management socket as soon as another process than ``not_pid`` serves it.

        Raises ``HotUpgradeError`` when that takes too long, or ``require_start`` raises it meanwhile.
        """
        clock, self._public = self._outside.clock, True
        end = clock.monotonic() + self._scope.take_over_timeout

        def one(name: str) -> None:
            path = self._scope.management(name)

            def server() -> int | None:
                found = self._outside.server_of(path)
                if found in (None, not_pid):
                    require_start()
                return found

            Waiter(max(0.0, end - clock.monotonic()), POLL, clock, strict=True).wait(
                f"bridge {name} has its management socket",
                server,
                lambda pid: pid not in (None, not_pid),
                lambda pid: f"{path} is served by {'nobody' if pid is None else f'process {pid}'}",
                VSWITCHD_LOG,
            )
            self.switches[name] = self._outside.open_switch(path)

        first_alone(one, self._scope.bridges)

    def switch(self, name: str) -> Switch:
        """The connection to a bridge, a new one where there is none."""
        if name not in self.switches:
            self.switches[name] = self._outside.open_switch(self._scope.management(name))
        return self.switches[name]

    def disconnect(self) -> None:
        """Close every connection; bundles that were not committed are dropped by the switch."""
        self._living.unwatch()
        for connected in self.switches.values():
            connected.close()
        self.switches.clear()
        self.staged.clear()

    # Before the window

    def make_ready(self) -> None:
        """Bring the snapshot up to date and hold it in memory, encoded as it will be sent."""
        self._snapshot.renew()
        self.read_states()
        self.remember_learned()
        # Where the old process does not tell, they are right when the flag is cleared.
        with contextlib.suppress(HotUpgradeError):
            self.metering.order()

    def read_states(self) -> None:
        """Hold the snapshot in memory, with all that was changed since."""
        snapshot = self._snapshot.read()
        for name in self._scope.bridges:
            self._states[name] = Encoded.of(self._snapshot.now(snapshot, name))

    def remember_learned(self) -> None:
        """What the old process knows now: a MAC address may have moved since the snapshot was taken."""
        bridges = self._snapshot.read().bridges
        self._known = switch.with_learned(self._scope.connection, bridges)

    def carry_learned(self, target: Connection) -> None:
        """Set MAC addresses and tunnel neighbours again, and remember what could not be carried over."""
        self._report.missed(switch.restore_learned(target, self._known))
        self._report.missed(
            f"bridge {bridge.name}: {text}" for bridge in self._known for text in bridge.not_carried
        )
        self._report.missed(
            f"port {name}: the new version does not open a device with so long a name"
            for name in self._scope.request.lost_ports
        )

    # Filling

    def load(self) -> None:
        """Fill the bridges from the snapshot; those with controllers are staged, see ``release``."""
        if not self._states:
            self.read_states()
        self.metering.add(self.switches)
        if self._public:  # whoever connects to a management socket may be quicker than we are
            self._living.watch(self.switches)
        with self.explaining():
            wanted = [name for name in self._scope.bridges if name not in self._scope.controlled]
            side_by_side(self._load, wanted, self._living.flows)
        self._living.watch(self.switches)
        self.stage_controlled()

    def _load(self, name: str) -> None:
        self._living.restore(name, self.switches[name], self._states[name])
        self._living.make_again(name, self.switches[name])

    def explaining(self) -> contextlib.AbstractContextManager[list[refusal.Refusal]]:
        """See ``refusal.explaining``: what the new ovs-vswitchd refuses that the old one holds."""
        return refusal.explaining(
            self._scope.request.vswitchd.argv,
            lambda bridge: self._services.control(VSWITCHD, TIMEOUT).call("bridge/dump-flows", bridge),
        )

    def stage_controlled(self) -> None:
        """Have the state of the bridges with controllers wait in a bundle, where it does not yet."""
        wanted = [name for name in self._scope.bridges if name in self._scope.controlled]
        missing = [name for name, waits in zip(wanted, side_by_side(self._waits, wanted)) if not waits]
        if missing and not self._states:
            self.read_states()

        def one(name: str) -> None:
            self.staged[name] = stage(self.switches[name], self._states[name], torn=True)
            self._living.append(name, self.switches[name], self.staged[name])

        side_by_side(one, missing, self._living.flows)

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
        self._scope.leave_deleted()
        snapshot = self._snapshot.read()

        def one(name: str) -> None:
            with self._outside.open_switch(self._scope.management(name)) as connected:
                fill_up(connected, self._snapshot.now(snapshot, name))

        side_by_side(one, self._scope.bridges, snapshot.flows, each=True)

    # The end of the flag

    def release(self) -> None:
        """Clear the flag; right behind the flush that this means for bridges with controllers, fill them.

        They connect when that is done: nobody finds an empty bridge.
        """
        if self._scope.request.dispatch and self._scope.bridges:
            self._vswitchd.fit_dispatch(self.switches[self._scope.bridges[0]].software())
        # What was staged may be gone: with its connection when the database ended, or because it was idle for long.
        if self._states:
            self.stage_controlled()
        # Not the session of before: ovsdb-server drops one that was silent during a long load.
        with self._database.open() as database:
            controllers.hold(database, self.staged.keys())
            self.commit_behind_flush(database, lambda: database.set_flow_restore_wait(False))
            self._report.mark("forwarding")
            controllers.let_go(database)

    def commit_behind_flush(self, database: Ovsdb, change: t.Callable[[], None]) -> None:
        """Do ``change``, wait until ovs-vswitchd has applied ``database``, and commit what is staged as soon as it is due.

        The flush that comes with a bridge's first controller is told by the switch while it is at it.  That controller
        is a stand-in (see ``controllers``).  A bridge that is empty already is filled when ovs-vswitchd says that it is done.
        """
        for name in self.staged:
            self._living.expect_refill(name)
        shown = {name: self.switches[name].count_flows()[0] for name in self.staged}
        hidden = {name: self.switches[name].about_flows() - count for name, count in shown.items() if count}
        change()
        number = request_reconfiguration(database)

        def refilled_and_done() -> bool:
            if reconfigured(database, number):
                return True
            for name in hidden.keys() & self.staged.keys():
                if self._flushed(name, shown[name], hidden[name]):
                    self._report.mark("flushed")
                    self.staged.pop(name).refill()
                    self._report.mark("refilled")
            return False

        # Of the others nobody takes what they tell now: they would always be readable.
        clock = _Told(
            self._outside.clock, lambda: self._living.descriptors(hidden.keys() & self.staged.keys())
        )
        Waiter(self._scope.take_over_timeout, POLL, clock, strict=True).wait(
            f"{VSWITCHD} has applied its database",
            refilled_and_done,
            bool,
            lambda _done: "it has not",
            VSWITCHD_LOG,
        )
        for name in list(self.staged):
            self.staged.pop(name).commit()

    def _flushed(self, name: str, shown: int, hidden: int) -> bool:
        flushed = self._living.flushed(name, shown)
        if flushed is None:  # nothing tells: it has to be asked
            return self.switches[name].about_flows() <= hidden
        return flushed
