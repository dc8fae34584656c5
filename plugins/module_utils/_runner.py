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
import secrets
import sys
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils import _plan
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils import (
    _strategy_make_before_break as make_before_break,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils import _strategy_restart as restart
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils import _strategy_standby as standby
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._daemons import VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._deadman import BootGuard, launcher
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._host import Host, record
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovsdb import Ovsdb
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._supervise import look
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import (
    APPLIED,
    ARMED,
    CONFIRMED,
    FAILED,
    FINISHED,
    PREPARED,
    ROLLED_BACK,
    ROLLING_BACK,
    Busy,
    Json,
    Lost,
    Observer,
    Step,
    Transaction,
    nested,
    run,
    undo,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._waiting import Waiter

STEPS: t.Mapping[str, t.Callable[[Json], list[Step[Host]]]] = {
    _plan.MAKE_BEFORE_BREAK: make_before_break.steps,
    _plan.STANDBY: standby.steps,
    _plan.RESTART: restart.steps,
}

# What a finished transaction has no use for; its journal, request and result stay.
HEAVY = ("lib", "old", "snapshot")
GUARD_INTERVAL = 0.2

# The file by which the guard says that it is there, and how long it may take, in seconds.
WATCHED = "guarded"
GUARD_PATIENCE = 30.0

# Names for the launcher: one transaction at a time means one of each.
ENGINE = "handover-engine"
GUARD = "handover-guard"
BOOT = "handover"

# Steps whose undo is still due when the old program forwards again.
BEFORE_THE_PROCESS = (restart.CONVERT, restart.RESTART_SERVER)


def steps_for(strategy: str, request: Json) -> list[Step[Host]]:
    """The steps of ``strategy`` for a transaction's request.

    Where the new process is filled beside the old one they are those of make_before_break, which switches over otherwise then.
    """
    return STEPS[_plan.MAKE_BEFORE_BREAK if request["filled"] else strategy](request)


def steps_of(host: Host) -> list[Step[Host]]:
    """The steps of the transaction."""
    return steps_for(host.request["strategy"], host.request)


def engine(transaction: Transaction, observe: Observer = lambda when, step: None) -> None:
    """Do the hand-over, up to ``applied``, or to ``confirmed`` if nobody is to be asked; on any failure undo it."""
    with transaction.engine():
        try:
            _work(transaction, observe)
        finally:
            launcher().forget(ENGINE)


def _work(transaction: Transaction, observe: Observer) -> None:
    host = Host(transaction)
    try:
        protect(transaction)
        timeline = run(transaction, steps_of(host), host, observe)
        _flush(host)
        # Only now, and only a record: a full disk in the window is no reason to take the way back.
        outcome = {"marks": host.marks, "timeline": timeline, "not_carried": host.not_carried}
        _attempt(lambda: transaction.note(**outcome))
        transaction.move(ARMED, APPLIED)
    except Exception as error:  # whatever it is: the way back must be taken
        host.close()
        roll_back(transaction, f"{type(error).__name__}: {error}" if _unexpected(error) else str(error))
        return
    host.close()
    if transaction.request["confirm"] == "none":
        confirm(transaction)


def guard(transaction: Transaction) -> None:
    """Roll back when the engine dies, or when nobody confirms in time; ends with the transaction."""
    os.close(os.open(transaction.file(WATCHED), os.O_CREAT | os.O_WRONLY, 0o600))
    while transaction.state not in (*FINISHED, FAILED):
        time.sleep(GUARD_INTERVAL)
        if transaction.state == APPLIED and not _overdue(transaction):
            continue
        try:
            with transaction.engine():
                state = transaction.state
                if state == APPLIED and _overdue(transaction):
                    seconds = transaction.request["confirm_timeout"]
                    roll_back(transaction, f"nobody confirmed within {seconds:g} s")
                elif state in (PREPARED, ARMED, ROLLING_BACK):
                    roll_back(transaction, "the engine was ended from outside before its work was done")
        except Busy:
            continue
    launch = launcher()
    if not launch.running(ENGINE):  # it was killed
        launch.forget(ENGINE)
    launch.forget(GUARD)


def boot(transaction: Transaction) -> None:
    """Run before ovs-vswitchd of a boot that a power loss has brought about: the flag must not hold it."""
    if transaction.state not in FINISHED:
        Host(transaction).never_stuck()
        launcher().start("handover-recover", _argv(transaction, "recover"))


def recover(transaction: Transaction) -> None:
    """After such a boot: give the ovs-vswitchd that was started the flows that it had before the power loss."""
    with transaction.engine():
        roll_back(transaction, "the host was rebooted while the hand-over was under way", restore=True)


def roll_back(transaction: Transaction, reason: str, restore: bool = False) -> None:
    """Undo what the journal says was begun and say so; ``Lost`` when it was confirmed meanwhile.

    After a reboot there is nothing to undo: the daemons were started from the disk.  Then the flag is cleared
    and, with ``restore``, the state of the snapshot is loaded.
    """
    state = transaction.state
    if state in FINISHED:
        raise Lost(f"transaction {transaction.id} cannot be rolled back", f"it is {state}")
    if state != ROLLING_BACK:
        transaction.move(state, ROLLING_BACK)
    host = Host(transaction)
    try:
        if host.rebooted:
            failures = _attempt(host.restore_after_boot if restore else host.never_stuck)
        else:
            half_done = state != APPLIED and finish(host)
            if state == APPLIED or half_done:
                hand_back(transaction)
            failures = undo(transaction, steps_of(host), host)
            if half_done:  # what went wrong with the new process may have been its flows, and the old one got them from it
                failures += _attempt(host.restore_what_differs)
        failures += _attempt(lambda: _flush(host))
    finally:
        host.close()
    _attempt(lambda: transaction.note(reason=reason, not_undone=failures))
    transaction.move(ROLLING_BACK, FAILED if failures else ROLLED_BACK)
    if not failures:
        BootGuard(BOOT).remove()
        transaction.prune("lib", "snapshot")


def _flush(host: Host) -> None:
    """Without the guard of the next boot nobody would clear a flag that a power loss brings back."""
    with Ovsdb(host.remote, host.timeout) as database:
        database.flush()


def finish(host: Host) -> bool:
    """Complete a switch-over that was left half done, if the new process forwards; False when there is none."""
    if make_before_break.CUT_OVER not in host.transaction.begun():
        return False
    try:
        return make_before_break.finish(host)
    except (HotUpgradeError, OSError) as error:
        said = str(error)
        _attempt(lambda: host.transaction.note(not_completed=said))
        return False


def hand_back(transaction: Transaction) -> None:
    """Replace the new ovs-vswitchd, which forwards well, by the old program in the same way, under traffic.

    When that does not work, what it did is undone and the plain way back is left to do.
    """
    request = transaction.request
    if request["strategy"] == _plan.RESTART and not request["filled"]:
        return
    old = transaction.file("old")
    supervisors = {
        name: {**owner, "program": os.path.join(old, name)} for name, owner in request["supervisors"].items()
    }
    back = nested(
        transaction.file(f"back-{secrets.token_hex(3)}"),
        {
            **request,
            **_way_back(request),
            "convert": False,
            "downgrade": False,
            "restart_server": False,
            "prove": 0,
            "snapshot": None,
            "supervisors": supervisors,
            "vswitchd": record(look(request["rundir"], VSWITCHD), Host(transaction).connection),
        },
    )
    host = Host(back)
    try:
        run(back, steps_of(host), host)
    except (HotUpgradeError, OSError) as error:
        undo(back, steps_of(host), host)
        said = str(error)
        _attempt(lambda: transaction.note(hand_back=said))
        return
    finally:
        host.close()
        transaction.prune(back.id)
    kept = [name for name in transaction.begun() if name not in BEFORE_THE_PROCESS]
    transaction.log(*({"event": "undone", "step": name} for name in kept))
    transaction.note(marks=host.marks)


def _way_back(request: Json) -> Json:
    """Back across 2.16, the old program would take the upcalls from the new one as soon as it opens the datapath."""
    return {"strategy": _plan.STANDBY, "filled": False} if request["dispatch"] else {}


def confirm(transaction: Transaction) -> None:
    """Make the hand-over final; raises ``Lost`` when it is being rolled back already."""
    transaction.move(APPLIED, CONFIRMED)
    BootGuard(BOOT).remove()
    transaction.prune(*HEAVY)


def start(transaction: Transaction) -> None:
    """Start the engine, detached from whoever calls."""
    _launch(ENGINE, _argv(transaction, "engine"))


def _launch(name: str, argv: t.Sequence[str]) -> None:
    """Start ``argv`` when its predecessor, whose transaction is finished, has gone."""
    launch = launcher()
    Waiter(5.0).wait(
        f"{name} of the last hand-over has ended", lambda: launch.running(name), lambda runs: not runs
    )
    launch.start(name, argv)


def protect(transaction: Transaction) -> None:
    """Start the guard and install that of the next boot; both are ready when this returns."""
    _launch(GUARD, _argv(transaction, "guard"))
    if launcher().kind == "systemd":
        what = f"Open vSwitch hand-over {transaction.id} after a power loss"
        BootGuard(BOOT).install(what, _argv(transaction, "boot"))
    watched = transaction.file(WATCHED)
    Waiter(GUARD_PATIENCE).wait("the guard watches", lambda: os.path.exists(watched), bool)


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
    ROLES[role](Transaction(path))


def _argv(transaction: Transaction, role: str) -> list[str]:
    return [sys.executable, transaction.file("lib", "run.py"), role, transaction.path]


def _overdue(transaction: Transaction) -> bool:
    return time.time() > transaction.since + float(transaction.request["confirm_timeout"])


def _attempt(action: t.Callable[[], None]) -> list[str]:
    try:
        action()
    except (HotUpgradeError, OSError) as error:
        return [str(error)]
    return []


def _unexpected(error: Exception) -> bool:
    return not isinstance(error, (HotUpgradeError, OSError))
