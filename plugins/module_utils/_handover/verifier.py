# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Whether the host holds what it held: every difference is explained, or a fault."""

from __future__ import annotations

import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.side_by_side import side_by_side
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import TimedOut, Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.account import Account
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.filler import Filler
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.living import (
    DELETED,
    Living,
    values,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.outside import Outside
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.own_snapshot import OwnSnapshot
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.scope import Scope
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.services import Services
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import State
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.hints import (
    ENGINE_LOG,
    VSWITCHD_LOG,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot.switch import port_faults
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import Json

# How long controllers may take to settle, and how long until they are looked at again, in seconds.
SETTLED_TIMEOUT = 10.0
INTERVAL = 0.5


class Verifier:
    """Looks at the bridges by the connections of ``Filler``; ``changes`` is what ``verify`` has found."""

    def __init__(
        self,
        scope: Scope,
        services: Services,
        snapshot: OwnSnapshot,
        filler: Filler,
        living: Living,
        outside: Outside,
    ) -> None:
        self._scope, self._services, self._snapshot, self._filler = scope, services, snapshot, filler
        self._living, self._outside = living, outside
        self.changes: Json = {}

    def verify(self) -> None:
        """Raise ``HotUpgradeError`` unless ovs-vswitchd is owned well and every difference is accounted for.

        Where a bridge cannot be followed, controllers may set their flows anew: a difference must last to count.
        """
        self._services.require_places()
        self._require_ports(self._living.base)
        timeout = SETTLED_TIMEOUT if self._living.unfollowed else 0.0
        try:
            Waiter(timeout, INTERVAL, self._outside.clock, strict=True).wait(
                f"{VSWITCHD} holds what it held", self._fault, lambda fault: not fault
            )
        except TimedOut as error:
            raise HotUpgradeError(
                f"{VSWITCHD} does not hold what it held, and nobody was seen to change it",
                unexplained(self.changes),
                f"{VSWITCHD_LOG}. {ENGINE_LOG}",
            ) from error

    def _fault(self) -> str:
        self.changes = self.account()
        return unexplained(self.changes)

    def _require_ports(self, states: t.Mapping[str, State]) -> None:
        """Raise ``HotUpgradeError`` when a port of ``states`` has another number, or is gone although it is configured."""
        lost = self._scope.request.lost_ports
        for name, faults in port_faults(self._scope.connection, states, lost).items():
            raise HotUpgradeError(
                f"the flows of bridge {name} do not mean the same ports",
                "; ".join(faults),
                f"Look at the column error of these interfaces (ovs-vsctl list interface). {VSWITCHD_LOG}",
            )

    def account(self) -> Json:
        """What became of each bridge since the hand-over began (see ``account``), as JSON."""
        names = list(self._living.base)
        found = map(values, side_by_side(self._account, names, self._living.flows))
        return {"bridges": dict(zip(names, found)), "unfollowed": dict(self._living.unfollowed)}

    def _account(self, name: str) -> Account:
        """Of one bridge; one that somebody has deleted is no fault."""
        try:
            return self._living.account(name, self._filler.switch(name))
        except Unreachable:
            if name in self._scope.configured():
                raise
            return DELETED

    def take(self) -> None:
        """Note what the switch tells, without waiting."""
        self._living.take()

    def watch_anew(self) -> None:
        """Follow the bridges from now on, where the process that did so has ended."""
        path = self._scope.transaction.file("watched")
        for __ in range(2):  # what is changed between is told, and in the second
            self._snapshot.rest_on_now(path)
            bridges = self._scope.bridges
            self._living.watch(dict(zip(bridges, side_by_side(self._filler.switch, bridges))))


def unexplained(found: Json) -> str:
    """What an account cannot explain, in one line."""
    texts = {name: bridge["unexplained"] for name, bridge in found["bridges"].items()}
    return "; ".join(f"bridge {name}: {text}" for name, text in texts.items() if text)
