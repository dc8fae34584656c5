# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What runs on the host without Ansible: the engine, its guard, and the guard of the next boot.

A transaction directory holds its own copy of this code, so neither Ansible's temporary files nor its connection
is needed.  ``python3 run.py ROLE TRANSACTION`` with one of ``ROLES``.
"""

from __future__ import annotations

import os
import resource
import sys
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import TimedOut, Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.ending import (
    BOOT,
    FORWARDS,
    clean,
    confirm,
    flush,
    roll_back,
    steps_of,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.guard import (
    COMING,
    DIED,
    ENGINE,
    GUARD,
    WATCHED,
    guard,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.supervisors import look
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.watch import SOCKET, serve
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import OVSDB_SERVER, VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.detached import BootGuard, launcher
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import lease
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    AGAIN,
    APPLIED,
    ARMED,
    FINISHED,
    PREPARED,
    ROLLING_BACK,
    Observer,
    Transaction,
    attempt,
    run,
    told,
)

# How long whoever made the transaction may take to let go of it, and a predecessor to end, in seconds.
HANDED_OVER = 60.0
PREDECESSOR = 5.0


def engine(transaction: Transaction, observe: Observer = lambda when, step: None) -> None:
    """Do the hand-over, up to ``applied``, or to ``confirmed`` if nobody is to be asked; on any failure undo it.

    One that comes late, or again, does what the state asks for: nothing for a transaction that was taken back meanwhile.
    """
    host: Host | None = None
    try:
        with transaction.engine(HANDED_OVER):
            state = transaction.state
            if state == PREPARED and not transaction.begun():
                try:
                    host = Host(transaction)
                except Exception as error:  # started again, it would find the same
                    roll_back(transaction, told(error))
                    raise
                _work(transaction, host, observe)
            elif state in (PREPARED, ARMED, ROLLING_BACK):
                roll_back(transaction, DIED)
        if transaction.state == APPLIED:
            host = host or Host(transaction)
            _watch(transaction, host)
    finally:
        if host is not None:
            attempt(host.close)


def _watch(transaction: Transaction, host: Host) -> None:
    """Follow the switch until somebody has confirmed or taken back, without keeping anybody from it."""
    if not host.living.watched:
        host.watch_anew()
    serve(transaction.file(SOCKET), host, lambda: _state(transaction) != APPLIED)


def _state(transaction: Transaction) -> str:
    try:
        return transaction.state
    except (HotUpgradeError, OSError):  # it is being moved, or its record was removed
        return ""


def _work(transaction: Transaction, host: Host, observe: Observer) -> None:
    try:
        protect(transaction)
        timeline = run(transaction, steps_of(host), host, observe)
        flush(host)
        daemons = {name: look(host.rundir, name).process for name in (VSWITCHD, OVSDB_SERVER)}
        forwards = {name: [process.pid, process.started] for name, process in daemons.items()}
        # Only now, and only a record: a full disk in the window is no reason to take the way back.
        outcome = {
            "marks": host.marks,
            "timeline": timeline,
            "not_carried": list(dict.fromkeys(host.not_carried)),
            "changes": host.changes,
        }
        attempt(lambda: transaction.note(**outcome, **{FORWARDS: forwards}))
        attempt(lambda: lease.renew(transaction))
        transaction.move(ARMED, APPLIED)
    except Exception as error:  # whatever it is: the way back must be taken
        attempt(lambda: _note_overtaken(transaction, host))
        attempt(host.disconnect)
        roll_back(transaction, told(error), living=host.living)
        return
    if transaction.request["confirm"] == "none":
        confirm(transaction)


def _note_overtaken(transaction: Transaction, host: Host) -> None:
    """Somebody who deletes a bridge while all is prepared ends our work with any error: it is worth another try."""
    if transaction.state == PREPARED:
        host.leave_deleted()
        if host.deleted:
            transaction.note(**{AGAIN: True})


def boot(transaction: Transaction) -> None:
    """Run before ovs-vswitchd of a boot that a power loss has brought about: the flag must not hold it."""
    if transaction.state in FINISHED:
        clean(transaction)
        return
    Host(transaction).never_stuck()
    launcher().start("handover-recover", _argv(transaction, "recover"))


def recover(transaction: Transaction) -> None:
    """After such a boot: give the ovs-vswitchd that was started the flows that it had before the power loss."""
    with transaction.engine():
        if transaction.state not in FINISHED:
            roll_back(transaction, "the host was rebooted while the hand-over was under way", restore=True)


def start(transaction: Transaction) -> None:
    """Start the guard and the engine, detached from whoever calls."""
    _launch(GUARD, _argv(transaction, "guard"))
    _launch(ENGINE, _argv(transaction, "engine"))


def revive(transaction: Transaction) -> None:
    """Start the engine again where nobody else does: without systemd whoever kept it alive may have been ended with it."""
    if not launcher().running(ENGINE):
        _launch(ENGINE, _argv(transaction, "engine"))


def _launch(name: str, argv: t.Sequence[str]) -> None:
    """Start ``argv`` when its predecessor, whose transaction is finished, has gone, or was made to go."""
    launch = launcher()
    try:
        Waiter(PREDECESSOR).wait(
            f"{name} of the last hand-over has ended", lambda: launch.running(name), lambda runs: not runs
        )
    except TimedOut:
        launch.disarm(name)
    launch.start(name, argv)


def protect(transaction: Transaction) -> None:
    """Install the guard of the next boot, and return when that of this one watches."""
    if launcher().kind == "systemd":
        what = f"Open vSwitch hand-over {transaction.id} after a power loss"
        BootGuard(BOOT).install(what, _argv(transaction, "boot"))
    watched = transaction.file(WATCHED)
    Waiter(COMING).wait("the guard watches", lambda: os.path.exists(watched), bool)


ROLES: t.Mapping[str, t.Callable[[Transaction], None]] = {
    "engine": engine,
    "guard": guard,
    "boot": boot,
    "recover": recover,
}


def main(arguments: t.Sequence[str]) -> None:
    """``ROLE TRANSACTION``."""
    role, path = arguments
    os.umask(0o077)
    # Each bridge takes some, and a service gets 1,024 unless it asks for more.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    ROLES[role](Transaction(path))


def _argv(transaction: Transaction, role: str) -> list[str]:
    return [sys.executable, transaction.file("lib", "run.py"), role, transaction.path]
