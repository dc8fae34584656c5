# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""How a transaction ends: it is confirmed, or rolled back.

Whoever rolls back may die at any moment, and the next one goes on; nothing that fails on the way keeps the rest from
being undone.
"""

from __future__ import annotations

import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    attempt,
    told,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.detached import BootGuard
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import pulse
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.operation import (
    Operation,
    require_format,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    APPLIED,
    CONFIRMED,
    FAILED,
    FINISHED,
    JOURNAL,
    ROLLED_BACK,
    ROLLING_BACK,
    Lost,
    Transaction,
)

C = t.TypeVar("C")

# The copy of the code.  It goes last: a guard that was killed in the middle is started again and cleans up, as long as it
# is there.
LIB = "lib"


def confirm(operation: Operation[C], transaction: Transaction) -> None:
    """Make it final.  Raises ``HotUpgradeError`` when it does not hold any more, or is being rolled back already (``Lost``)."""
    ended = operation.ended_since(transaction) if transaction.state == APPLIED else None
    if ended:
        raise HotUpgradeError(
            f"transaction {transaction.id} cannot be confirmed",
            ended,
            "The host goes back to the version before by itself; look into the daemon's log for why it ended",
        )
    accept(operation, transaction)


def accept(operation: Operation[C], transaction: Transaction) -> None:
    """Make it final without another look.  Raises ``Lost`` when it is being rolled back already."""
    transaction.move(APPLIED, CONFIRMED)
    attempt(lambda: clean(operation, transaction))  # the guard does it as well


def clean(operation: Operation[C], transaction: Transaction) -> None:
    """Remove what a finished transaction has no use for; of one that is not finished, nothing."""
    transaction.observe("before", "clean up")
    state = transaction.state
    if state in FINISHED:
        BootGuard(operation.name).remove()
        pulse.bury(transaction.id)
        transaction.prune(*operation.heavy[state], LIB)
    transaction.observe("after", "clean up")


def roll_back(
    operation: Operation[C],
    transaction: Transaction,
    reason: str,
    failed: C | None = None,
    restore: bool = False,
) -> None:
    """Undo what the journal says was begun and say so; ``Lost`` when it was confirmed meanwhile.

    ``failed`` and ``restore`` are for ``Operation.context`` and ``Operation.after_boot``.
    """
    state = transaction.state
    if state in FINISHED:
        raise Lost(f"transaction {transaction.id} cannot be rolled back", f"it is {state}", JOURNAL)
    _require_readable(operation, transaction)
    if state != ROLLING_BACK:
        transaction.move(state, ROLLING_BACK)
        # Whoever goes on after an interruption does not know it.
        attempt(lambda: transaction.note(reason=reason))
    try:
        failures = _undo(operation, transaction, state, failed, restore)
    except Exception as error:  # whatever it is: the host must not be left in the middle without a word
        failures = [told(error)]
    attempt(lambda: _tell(transaction, reason, failures))
    transaction.move(ROLLING_BACK, FAILED if failures else ROLLED_BACK)
    if not failures:
        attempt(lambda: clean(operation, transaction))


def _require_readable(operation: Operation[C], transaction: Transaction) -> None:
    """Leave what another version of the collection has begun to its own copy of the code."""
    try:
        record = transaction.request
    except Exception:  # damaged: that is told by what goes on with it
        return
    require_format(record, operation.name, operation.format)


def _undo(
    operation: Operation[C], transaction: Transaction, state: str, failed: C | None, restore: bool
) -> list[str]:
    context = operation.context(transaction, failed)
    try:
        if transaction.rebooted:
            return operation.after_boot(context, restore)
        return operation.roll_back(context, state)
    finally:
        attempt(lambda: operation.close(context))


def _tell(transaction: Transaction, reason: str, failures: list[str]) -> None:
    known = (transaction.read("result.json") or {}).get("reason")
    transaction.note(reason=known or reason, not_undone=failures)
