# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What the steps of a hand-over receive: the transaction, its request, and the parts of the host that they act on.

There is no logic here: which part does what is the table of ARCHITECTURE.md.
"""

from __future__ import annotations

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.connections import Connections
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.database import Database
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.filler import Filler
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.late_ports import LatePorts
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.living import Living
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.outside import OUTSIDE, Outside
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.own_snapshot import OwnSnapshot
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.protocols import Protocols
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.recovery import Recovery
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.reloader import Reloader
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.report import Report
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import Request
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.scope import Scope
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.services import Services
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.verifier import Verifier
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.vswitchd import Vswitchd
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import Transaction


class Host:
    """One host, for the length of one transaction; connections are kept until ``close``.

    ``living`` is given where somebody has followed the bridges before.
    """

    def __init__(
        self, transaction: Transaction, living: Living | None = None, outside: Outside = OUTSIDE
    ) -> None:
        self.outside = outside
        self.living = living or Living()
        self.report = Report(outside.clock)
        self.late = LatePorts(outside.clock)
        self.protocols = Protocols(outside.clock)
        self.connections = Connections(self.report, outside.clock)
        scope = self.scope = Scope(transaction)
        services = self.services = Services(scope, self.report, outside)
        database = self.database = Database(scope, services, self.report, outside)
        self.reloader = Reloader(scope, services, database, self.report, outside)
        vswitchd = self.vswitchd = Vswitchd(scope, services, self.report, self.living, outside)
        snapshot = self.snapshot = OwnSnapshot(scope, self.living)
        self.filler = Filler(scope, services, database, vswitchd, snapshot, self.living, self.report, outside)
        self.verifier = Verifier(scope, services, snapshot, self.filler, self.living, outside)
        self.recovery = Recovery(
            scope, services, database, vswitchd, snapshot, self.filler, self.living, outside
        )

    @property
    def transaction(self) -> Transaction:
        """What is worked on."""
        return self.scope.transaction

    @property
    def request(self) -> Request:
        """What is to be done."""
        return self.scope.request

    def close(self) -> None:
        """Follow nobody any more, and close every connection."""
        self.living.close()
        self.protocols.trees.close()
        self.filler.disconnect()
