# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What a transaction's own copy of the code runs: engine and guard without Ansible, and what a connected caller asks for.

``main(OPERATION, [ROLE, TRANSACTION])``, see ``own_copy.py``.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import (
    launching,
    lease,
    own_copy,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.boot import (
    REBOOTED,
    boot,
    recover,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.ending import confirm, roll_back
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.engine import engine
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.guard import DIED, guard
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.operation import Operation
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    APPLIED,
    Busy,
    Transaction,
)

Role = t.Callable[[Operation[t.Any], Transaction], None]

# What a connected caller asks for.
CONFIRM, ROLLBACK, VERIFY, ABANDON, LOOK_AFTER = "confirm", "rollback", "verify", "abandon", "look-after"


def verify(operation: Operation[t.Any], transaction: Transaction) -> None:
    """Raise ``HotUpgradeError`` unless what was applied holds; the transaction is waited for meanwhile."""
    with lease.leased(transaction):
        operation.verify(transaction)


def rollback(operation: Operation[t.Any], transaction: Transaction) -> None:
    """Roll back, since somebody asks for it."""
    with transaction.at_work():
        roll_back(operation, transaction, "it was asked for")


def abandon(operation: Operation[t.Any], transaction: Transaction) -> None:
    """Roll back what a dead engine has left.  Raises ``Busy`` when it is at work, on its way, or has done its work."""
    with transaction.at_work():
        if launching.is_coming(transaction, operation.name) or transaction.state == APPLIED:
            raise Busy(transaction)
        if not transaction.finished:
            roll_back(operation, transaction, DIED)


def look_after(operation: Operation[t.Any], transaction: Transaction) -> None:
    """Do what its guard would, where none is left: go back when the daemons that were handed over to have ended.

    After a reboot that is so on hosts where nothing of ours is started at a boot.  The flows of before are not loaded again
    then: nobody knows how long ago it was.
    """
    with transaction.at_work():
        reason = REBOOTED if transaction.rebooted else operation.ended_since(transaction)
        if transaction.state == APPLIED and reason:
            roll_back(operation, transaction, reason)


PROGRAMS: t.Mapping[str, Role] = {
    launching.ENGINE: engine,
    launching.GUARD: guard,
    launching.BOOT: boot,
    launching.RECOVER: recover,
}
ANSWERS: t.Mapping[str, Role] = {
    CONFIRM: confirm,
    ROLLBACK: rollback,
    VERIFY: verify,
    ABANDON: abandon,
    LOOK_AFTER: look_after,
}


def main(operation: Operation[t.Any], arguments: t.Sequence[str]) -> None:
    """``ROLE TRANSACTION``; who is asked for an answer writes it as JSON."""
    role, path = arguments
    os.umask(0o077)
    # Each bridge takes some, and a service gets 1,024 unless it asks for more.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    transaction = Transaction(path)
    if role in PROGRAMS:
        PROGRAMS[role](operation, transaction)
        return
    asked = ANSWERS[role]
    sys.stdout.write(json.dumps(own_copy.answer(lambda: asked(operation, transaction))))
