# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""After a power loss in the middle of a transaction: nothing may hold Open vSwitch, and what was there before comes back."""

from __future__ import annotations

import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import launching
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.ending import clean, roll_back
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.operation import Operation
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    FINISHED,
    Transaction,
)

C = t.TypeVar("C")

REBOOTED = "the host was rebooted before anybody confirmed"


def boot(operation: Operation[C], transaction: Transaction) -> None:
    """Run before Open vSwitch of a boot that a power loss has brought about: what was left must not hold it."""
    if transaction.state in FINISHED:
        clean(operation, transaction)
        return
    operation.unblock(operation.context(transaction, None))
    launching.recover(transaction)


def recover(operation: Operation[C], transaction: Transaction) -> None:
    """After such a boot: give the host what it had before the power loss."""
    with transaction.at_work():
        if transaction.state not in FINISHED:
            roll_back(operation, transaction, REBOOTED, restore=True)
