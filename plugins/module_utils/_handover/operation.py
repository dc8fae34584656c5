# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The hand-over as an operation: what engine, guard, confirmation and rollback know of it."""

from __future__ import annotations

import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, attempt
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import rollback, watch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.applied import (
    AGAIN,
    conclude,
    ended_since,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import FORMAT, NAME
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.strategies import steps_of
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.verifier import unexplained
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import launching
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.operation import Operation
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    CONFIRMED,
    PREPARED,
    ROLLED_BACK,
    Transaction,
)

HEAVY: t.Mapping[str, tuple[str, ...]] = {
    CONFIRMED: ("old", "snapshot", "watched"),
    ROLLED_BACK: ("snapshot", "watched"),
}


def _context(transaction: Transaction, failed: Host | None) -> Host:
    """What others changed since the snapshot is known to the one in which a step failed."""
    if failed is None:
        return Host(transaction)
    host = Host(transaction, failed.living)
    host.reloader.take_over(failed.reloader)
    return host


def _failed(host: Host) -> None:
    attempt(lambda: _note_overtaken(host))
    host.filler.disconnect()


def _note_overtaken(host: Host) -> None:
    """Somebody who deletes a bridge while all is prepared ends our work with any error: it is worth another try."""
    if host.transaction.state == PREPARED:
        host.scope.leave_deleted()
        if host.scope.deleted:
            host.transaction.note(**{AGAIN: True})


def _watch(host: Host, over: t.Callable[[], bool]) -> None:
    """Follow the switch, without keeping anybody from confirming or rolling back, and account for it when asked."""
    if not host.living.watched:
        host.verifier.watch_anew()
    watch.serve(host.transaction.file(watch.SOCKET), host.verifier, over)


def _verify(transaction: Transaction) -> None:
    """Account for every difference between what the switch held before the hand-over, and holds now; nothing is changed."""
    attempt(lambda: launching.revive(transaction))
    changes = watch.ask(transaction.file(watch.SOCKET))
    attempt(lambda: transaction.note(changes=changes))
    fault = unexplained(changes)
    if fault:
        raise HotUpgradeError(
            "the switch does not hold what it held, and nobody was seen to change it",
            fault,
            f"Roll back transaction {transaction.id}, or look for who changed the flows and confirm it",
        )


OPERATION = Operation(
    name=NAME,
    format=FORMAT,
    module=__name__,
    heavy=HEAVY,
    context=_context,
    close=Host.close,
    steps=steps_of,
    conclude=conclude,
    failed=_failed,
    watch=_watch,
    ended_since=ended_since,
    verify=_verify,
    roll_back=rollback.roll_back,
    after_boot=rollback.after_boot,
    unblock=lambda host: host.database.never_stuck(),
)
