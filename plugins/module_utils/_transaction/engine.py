# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The engine of a transaction: a program on the host that does its steps, and undoes them when one fails."""

from __future__ import annotations

import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    attempt,
    told,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import lease
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.ending import accept, roll_back
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.guard import DIED
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.launching import protect
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.operation import Operation
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.step import do_steps
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    APPLIED,
    ARMED,
    PREPARED,
    ROLLING_BACK,
    Transaction,
)

C = t.TypeVar("C")

# How long whoever made the transaction may take to let go of it, in seconds.
HANDED_OVER = 60.0


def engine(operation: Operation[C], transaction: Transaction) -> None:
    """Do the steps, up to ``applied``, or to ``confirmed`` if nobody is to be asked; on any failure undo them.

    One that comes late, or again, does what the state asks for: nothing for a transaction that was taken back meanwhile.
    """
    context: C | None = None
    try:
        with transaction.at_work(HANDED_OVER):
            state = transaction.state
            if state == PREPARED and not transaction.begun():
                try:
                    context = operation.context(transaction, None)
                except Exception as error:  # started again, it would find the same
                    roll_back(operation, transaction, told(error))
                    raise
                _work(operation, transaction, context)
            elif state in (PREPARED, ARMED, ROLLING_BACK):
                roll_back(operation, transaction, DIED)
        if transaction.state == APPLIED:
            context = context or operation.context(transaction, None)
            operation.watch(context, lambda: _state(transaction) != APPLIED)
    finally:
        if context is not None:
            _close(operation, context)


def _close(operation: Operation[C], context: C) -> None:
    attempt(lambda: operation.close(context))


def _state(transaction: Transaction) -> str:
    try:
        return transaction.state
    except (HotUpgradeError, OSError):  # it is being moved, or its record was removed
        return ""


def _work(operation: Operation[C], transaction: Transaction, context: C) -> None:
    try:
        protect(transaction)
        timeline = do_steps(transaction, operation.steps(context), context)
        outcome = operation.conclude(context)
        # Only now, and only a record: a full disk in the window is no reason to roll back.
        attempt(lambda: transaction.note(timeline=timeline, **outcome))
        attempt(lambda: lease.renew(transaction))
        transaction.move(ARMED, APPLIED)
    except Exception as error:  # whatever it is: it must be undone
        attempt(lambda: operation.failed(context))
        roll_back(operation, transaction, told(error), failed=context)
        return
    if transaction.request["confirm"] == "none":
        accept(operation, transaction)
