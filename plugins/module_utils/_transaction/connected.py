# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What a module does with transactions while it is connected: begin one, wait for it, end it.

It relies on the directory alone (``transaction.py``); what has to be understood of a transaction is asked of its own copy of
the code.
"""

from __future__ import annotations

import contextlib
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import (
    launching,
    lease,
    own_copy,
    program,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.operation import Operation
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    APPLIED,
    CONFIRMED,
    FAILED,
    FINISHED,
    ROOT,
    Busy,
    Json,
    Transaction,
    find_of,
    making,
    of_operation,
    transactions,
)

# How often the service manager is asked whether engine and guard are there, where neither is at work, in seconds.
LOOK_INTERVAL = 1.0


def begin(
    operation: Operation[t.Any], request: Json, root: str = ROOT, argv: launching.Argv = own_copy.argv
) -> Transaction:
    """Write down what is to be done and start the engine; a dead transaction is undone first."""
    clear_away(operation, root)
    with making(request, root) as transaction:
        lease.renew(transaction)
        own_copy.make(transaction, operation)
        launching.start(transaction, argv)
    return transaction


def clear_away(present: Operation[t.Any], root: str = ROOT) -> None:
    """Undo what an engine that died has left.  Raises ``Busy`` when one is at work or waits for confirmation."""
    for transaction in transactions(root):
        if transaction.finished:
            continue
        if transaction.state == APPLIED:
            raise Busy(transaction)
        with transaction.at_work():  # or ``Busy``: whoever makes one has not copied its code yet
            pass
        own_copy.ask(transaction, program.ABANDON, present)
        if transaction.state == FAILED:
            raise Refused(
                "an earlier transaction could not be undone",
                f"transaction {transaction.id}: {'; '.join((transaction.read('result.json') or {}).get('not_undone', []))}",
                "Fix what it names, and start again",
            )


def wait(transaction: Transaction, present: Operation[t.Any]) -> str:
    """Return the state when the engine has ended its work, however long it takes to come.

    The guard undoes the work of an engine that dies or hangs; when none of the two is there any more, this process has it done.
    """
    settled = (APPLIED, FAILED, *FINISHED)
    looked, gone = time.monotonic(), 0
    while transaction.state not in settled:
        if transaction.running():
            looked, gone = time.monotonic(), 0
        elif time.monotonic() > looked + LOOK_INTERVAL:
            looked, gone = time.monotonic(), 0 if launching.is_there(transaction) else gone + 1
        # Twice: one that was started again a moment ago, and one that has just moved the state, are there.
        if gone > 1:
            with contextlib.suppress(Busy):
                own_copy.ask(transaction, program.ABANDON, present)
        time.sleep(0.1)
    return transaction.state


def named(identifier: str | None, name: str, root: str = ROOT) -> Transaction:
    """The transaction ``identifier`` of the operation ``name``, else the one that is not finished."""
    transaction = _found(identifier, name, root)
    if transaction is None:
        raise Refused(
            "there is no transaction to end on this host",
            "every one is finished: it was confirmed, or rolled back by the host itself",
            "Name one with the option transaction to see how it ended",
        )
    return transaction


def latest(identifier: str | None, name: str, root: str = ROOT) -> Transaction | None:
    """The same, else the last one; None when there is none."""
    found = of_operation(name, root)
    return _found(identifier, name, root) or (found[-1] if found else None)


def _found(identifier: str | None, name: str, root: str) -> Transaction | None:
    if identifier:
        return find_of(name, identifier, root)
    return next((found for found in of_operation(name, root) if not found.finished), None)


def settle(transaction: Transaction, present: Operation[t.Any]) -> None:
    """Wait until it waits for its confirmation or is finished; what a dead engine, or a boot that is over, has left is undone.

    The time until it goes back by itself begins anew, since somebody is here now.  What could not be undone is tried once
    more; if it still cannot, the state is ``failed``.
    """
    if not transaction.finished and wait(transaction, present) == FAILED:
        # What stood in the way may be gone.
        own_copy.ask(transaction, program.ABANDON, present)
    if transaction.state == APPLIED and not launching.is_there(transaction):
        # What keeps its copy from that is told by whoever verifies or confirms.
        with contextlib.suppress(HotUpgradeError):
            own_copy.ask(transaction, program.LOOK_AFTER, present)
    if transaction.state == APPLIED:
        lease.renew(transaction)


def end(transaction: Transaction, state: str, present: Operation[t.Any]) -> None:
    """Have it become ``confirmed`` or ``rolled_back``; its time does not run out meanwhile.  Raises ``HotUpgradeError``."""
    if transaction.finished:
        raise Refused(
            f"transaction {transaction.id} cannot become {state}",
            f"it is {transaction.state} already",
            "Name another one with the option transaction, or begin anew",
        )
    with lease.leased(transaction):  # else the guard could be at it first
        own_copy.ask(transaction, program.CONFIRM if state == CONFIRMED else program.ROLLBACK, present)


def verify(transaction: Transaction, present: Operation[t.Any]) -> None:
    """Raise ``HotUpgradeError`` unless what was applied holds."""
    own_copy.ask(transaction, program.VERIFY, present)
