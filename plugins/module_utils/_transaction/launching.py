# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The programs of a transaction as the service manager knows them: started, asked for, and there again after a power loss."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import TimedOut, Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.detached import BootGuard, launcher
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import own_copy
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    JOURNAL,
    PREPARED,
    Transaction,
)

# The roles that are programs; one transaction at a time means one of each.
ENGINE, GUARD, BOOT, RECOVER = "engine", "guard", "boot", "recover"

# The file by which the guard says that it is there.
WATCHED = "guarded"

# How long a predecessor may take to end, and an engine or a guard to come, in seconds.  No host is so slow; the process is
# ended before the transaction is taken from it.
PREDECESSOR = 5.0
COMING = 600.0

Argv = t.Callable[[Transaction, str], t.Sequence[str]]


def program_name(operation: str, role: str) -> str:
    """The name of a program for the launcher."""
    return f"{operation}-{role}"


def start(transaction: Transaction, argv: Argv = own_copy.argv) -> None:
    """Start the guard and the engine, detached from whoever calls; ``argv`` tells what a role runs."""
    for role in (GUARD, ENGINE):
        _launch(program_name(transaction.operation, role), argv(transaction, role))


def revive(transaction: Transaction) -> None:
    """Start the engine again where nobody else does: without systemd whoever kept it alive may have been ended with it."""
    name = program_name(transaction.operation, ENGINE)
    if not launcher().running(name):
        _launch(name, own_copy.argv(transaction, ENGINE))


def _launch(name: str, argv: t.Sequence[str]) -> None:
    """Start ``argv`` when its predecessor, whose transaction is finished, has gone, or was made to go."""
    launch = launcher()
    try:
        Waiter(PREDECESSOR).wait(
            f"{name} of the last transaction has ended", lambda: launch.running(name), lambda runs: not runs
        )
    except TimedOut:
        launch.disarm(name)
    launch.start(name, argv)


def protect(transaction: Transaction) -> None:
    """Install the guard of the next boot, and return when that of this one watches."""
    if launcher().kind == "systemd":
        what = f"Open vSwitch {transaction.operation} {transaction.id} after a power loss"
        BootGuard(transaction.operation).install(what, own_copy.argv(transaction, BOOT))
    watched = transaction.file(WATCHED)
    Waiter(COMING).wait("the guard watches", lambda: os.path.exists(watched), bool, hint=JOURNAL)


def recover(transaction: Transaction) -> None:
    """In the boot after a power loss: have the rest done when Open vSwitch has started."""
    launcher().start(program_name(transaction.operation, RECOVER), own_copy.argv(transaction, RECOVER))


def is_coming(transaction: Transaction, operation: str) -> bool:
    """Whether the engine has been started and has not begun its work; asks the service manager."""
    if transaction.state != PREPARED or transaction.begun():
        return False
    return launcher().running(program_name(operation, ENGINE))


def is_there(transaction: Transaction) -> bool:
    """Whether the engine or the guard runs."""
    launch = launcher()
    return any(launch.running(program_name(transaction.operation, role)) for role in (ENGINE, GUARD))
