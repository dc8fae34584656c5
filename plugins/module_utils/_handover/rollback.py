# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""How a hand-over is undone: back under traffic as far as that is possible, the plain way else, and after a power loss.

Nothing that fails on the way keeps the rest from being undone, and no full disk does: what a step back needs to write
goes to memory then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import glob
import os
import secrets
import shutil
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    Unreachable,
    attempt,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import (
    backlog,
    measured,
    plan,
    shaping,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.applied import (
    applied_processes,
    flush,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.newcomer import remove_dead_links
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import Reload, Request
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.steps import (
    make_before_break,
    reload,
    restart,
    shared,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.strategies import steps_of
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.verifier import unexplained
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import OVSDB_SERVER, VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import running
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Bridge, Ovsdb
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process, alive
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.sockets import is_deserted
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import pulse
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.step import (
    do_steps,
    timeline,
    undo_steps,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    APPLIED,
    Json,
    Observer,
    Transaction,
    nested,
)

# Steps whose undo is still due when the old program forwards again.
BEFORE_THE_PROCESS = (shared.CONVERT, shared.RESTART_SERVER)

# What the observer of a transaction is told of a hand-back, with the moments of its own after a colon.
HAND_BACK = "hand back"

# How far a hand-back got whose actor has died.
COMPLETE, HALF_DONE = "complete", "half done"

# Where a hand-back keeps its files, below the transaction or in memory.
_BACK = "back-"
_SPARE = 16 << 20


def roll_back(host: Host, state: str) -> list[str]:
    """Undo what was begun; the transaction was in ``state``.  Returns what could not be undone."""
    return _undo(host.transaction, host, state) + _afterwards(host)


def after_boot(host: Host, restore: bool) -> list[str]:
    """After a reboot there is nothing to undo: the daemons were started from the disk.

    The flag is cleared and, with ``restore``, the state of the snapshot is loaded.
    """
    for back in _hand_backs(host.transaction):  # the boot has ended what it had begun
        shutil.rmtree(back.path, ignore_errors=True)
    failures = attempt(host.recovery.restore_after_boot if restore else host.database.never_stuck)
    failures += attempt(lambda: shaping.give_back(host))  # the database has outlived the boot
    # In pods each container is another one by now: who has the daemons is for whoever looks at the pods.
    return failures + _afterwards(host)


def _afterwards(host: Host) -> list[str]:
    """Look at what has become of the host, write it down for whoever is told, and say what is not as it was."""
    failures = attempt(lambda: flush(host)) + attempt(lambda: backlog.shorten(host))
    looks: list[measured.Measured] = []
    unseen = attempt(lambda: looks.append(measured.measure(host)))
    found = looks[0] if looks else measured.Measured(f"nothing, since {unseen[0]}")
    attempt(lambda: host.transaction.note(measured=found.text))
    return [*failures, *found.faults]


def _undo(transaction: Transaction, host: Host, state: str) -> list[str]:
    """Go back under traffic as far as that is possible, and undo the rest."""
    reloaded = reload.REPLACE in transaction.begun()
    ended = _end_hand_backs(transaction)
    handed_back, half_done = ended is not None, ended == HALF_DONE
    if not handed_back:
        half_done = state != APPLIED and finish(host)
        handed_back = (half_done or (state == APPLIED and _forwards(host))) and _under_traffic(
            transaction, host
        )
    if not handed_back:
        _ready_for_undo(host, state)
    taken_over = _running(host) if handed_back else None
    failures = undo_steps(
        transaction, steps_of(host), host, _by_hand_back(transaction) if handed_back else ()
    )
    if handed_back and not (
        taken_over and alive(taken_over)
    ):  # the steps that would start one are not undone
        failures += attempt(host.recovery.fill_revived)
    if ended == HALF_DONE:  # what comes last in a hand-back
        failures += attempt(host.services.let_go) + attempt(lambda: shaping.give_back(host))
    if half_done:  # the new process may have been flushed, and the old one got its flows from it
        failures += attempt(host.filler.fill_up)
    _leave_meters(host)
    failures += attempt(host.services.require_places) + _homeless(host)
    if reloaded:
        failures += attempt(host.reloader.require_old)
    attempt(lambda: remove_dead_links(host))
    attempt(lambda: _remove_dead_sockets(host))
    _tell_not_carried(transaction, host)
    return failures


def _homeless(host: Host) -> list[str]:
    """Which daemons are not in the pod of before, if there is one."""
    found = (
        attempt(functools.partial(host.services.require_home, name)) for name in (VSWITCHD, OVSDB_SERVER)
    )
    return [failure for failures in found for failure in failures]


def _remove_dead_sockets(host: Host) -> None:
    """The control sockets of daemons that did not end in an orderly way: that crashed, or went with their pod."""
    rundir = glob.escape(host.request.rundir)
    for path in [*glob.glob(f"{rundir}/{VSWITCHD}.*.ctl"), *glob.glob(f"{rundir}/{OVSDB_SERVER}.*.ctl")]:
        if is_deserted(path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _ready_for_undo(host: Host, state: str) -> None:
    """Take again what was given back when all was applied, or by a hand-back that was undone."""
    begun = host.transaction.begun()
    # Else systemd starts an ovs-vswitchd, too, and stops ovsdb-server for that.  While nothing is to be undone that is quicker.
    if shared.HOLD_RESTARTS in begun[:-1]:
        attempt(host.services.hold)
    if shaping.STEP in begun:
        attempt(lambda: shaping.leave_alone(host))
    if state == APPLIED and _forwards(host) and not _has_lost(host.transaction):
        attempt(host.snapshot.take_anew)  # else what others changed since would be undone, too


def _running(host: Host) -> Process | None:
    """The ovs-vswitchd of the pidfile, None when it has ended."""
    try:
        return host.services.process(VSWITCHD)
    except Unreachable:
        return None


def _tell_not_carried(transaction: Transaction, host: Host) -> None:
    """What the processes of before could not be given back."""
    if host.report.not_carried:
        attempt(lambda: transaction.note(not_carried=list(dict.fromkeys(host.report.not_carried))))


def _under_traffic(transaction: Transaction, host: Host) -> bool:
    # Without its database the new ovs-vswitchd could not stand in for the old program, and in userspace forwards nothing.
    attempt(host.database.ensure)
    return hand_back(transaction)


def _by_hand_back(transaction: Transaction) -> list[str]:
    """The steps whose effect a hand-back has undone."""
    return [name for name in transaction.begun() if name not in BEFORE_THE_PROCESS]


def finish(host: Host) -> bool:
    """Complete a switch-over that was left half done, if the new process forwards; False when there is none."""
    if make_before_break.CUT_OVER not in host.transaction.begun():
        return False
    done: list[bool] = []
    failures = attempt(lambda: done.append(make_before_break.finish(host)))
    if failures:
        attempt(lambda: host.transaction.note(not_completed=failures[0]))
    return any(done)


def _forwards(host: Host) -> bool:
    """Whether the new ovs-vswitchd is the one of when all was applied: one that came after it lacks its flows."""
    running = _running(host)
    return running is not None and running == applied_processes(host.transaction).get(VSWITCHD, running)


def _has_lost(transaction: Transaction) -> bool:
    """Whether the new ovs-vswitchd was found to hold something else than it should."""
    changes = (transaction.read("result.json") or {}).get("changes")
    return bool(changes and unexplained(changes))


def hand_back(transaction: Transaction) -> bool:
    """Replace the new ovs-vswitchd, which forwards well, by the old program in the same way, under traffic.

    When that does not work, what it did is undone and the plain rollback is left to do: False.
    """
    request = Request.read(transaction.request)
    if request.dpdk:  # the service manager replaces it, whose sockets are open at once
        return False
    done: list[bool] = []
    failures = attempt(lambda: done.append(_hand_back(transaction, request)))
    if failures:
        attempt(lambda: transaction.note(hand_back=failures[0]))
    return any(done)


def _hand_back(transaction: Transaction, request: Request) -> bool:
    transaction.observe("before", HAND_BACK)
    place = os.path.join(_roomy(transaction), _BACK + secrets.token_hex(3))
    back = nested(place, _request_back(transaction, request).json(), _prefixed(transaction))
    host = Host(back)
    try:
        do_steps(back, steps_of(host), host)
    except Exception:  # whatever it is
        _undo_hand_back(back, host, transaction)
        raise
    finally:
        attempt(host.close)
        shutil.rmtree(back.path, ignore_errors=True)
    attempt(lambda: transaction.note(marks=host.report.marks))
    _tell_not_carried(transaction, host)
    return True


def _prefixed(transaction: Transaction) -> Observer:
    return lambda when, moment: transaction.observe(when, f"{HAND_BACK}: {moment}")


def _request_back(transaction: Transaction, request: Request) -> Request:
    supervisors = {
        name: _owner_back(owner, os.path.join(transaction.file("old"), name))
        for name, owner in request.supervisors.items()
    }
    with Ovsdb(request.remote, request.timeout) as database:
        found = database.bridges()
    # The words of the beginning: what the process shows of itself may be its user's (docs/security.md).
    forwards = dataclasses.replace(request.vswitchd, process=running(request.rundir, VSWITCHD).process)
    now = request.of_now(found)  # somebody may have added some, and deleted others
    return dataclasses.replace(
        now,
        strategy=_strategy_back(now, found),
        convert=False,
        downgrade=False,
        restart_server=False,
        prove=0,
        snapshot=None,
        supervisors=supervisors,
        vswitchd=forwards,
        back_of=transaction.id,
        reload=_reload_back(transaction, request),
        homes=request.homes and request.homes.swapped(),
    )


def _owner_back(owner: Json, kept: str) -> Json:
    """Who owns the daemon of before: its kept program, or that in the pod of before."""
    homes = owner.get("homes")
    if not homes:
        return {**owner, "program": kept}
    back = {"before": homes["after"], "after": homes["before"]}
    return {**owner, "program": homes["before"]["program"], "homes": back}


def _reload_back(transaction: Transaction, request: Request) -> Reload | None:
    if request.reload is None:
        return None
    return dataclasses.replace(request.reload, new=transaction.file("old.ko"), old=transaction.file("new.ko"))


def _roomy(transaction: Transaction) -> str:
    """The directory for a hand-back's files: the transaction's, or one in memory where its disk is full."""
    kept = [transaction.file(name) for name in ("old", "snapshot")]
    needed = _SPARE + 2 * sum(os.path.getsize(path) for place in kept for path in _files(place))
    os.makedirs(pulse.DIRECTORY, mode=0o700, exist_ok=True)
    for place in (transaction.path, pulse.DIRECTORY):
        found = os.statvfs(place)
        if found.f_bfree * found.f_frsize >= needed:
            return place
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"{transaction.path} and {pulse.DIRECTORY}")


def _files(place: str) -> t.Iterator[str]:
    for directory, __, names in os.walk(place):
        yield from (os.path.join(directory, name) for name in names)


def _end_hand_backs(transaction: Transaction) -> str | None:
    """Complete a hand-back in which somebody was ended, else undo it; how far it was, if the old program forwards by it."""
    ended: str | None = None
    for back in _hand_backs(transaction):
        with contextlib.suppress(Exception):  # one that was only half made
            ended = _end_hand_back(back, transaction) or ended
        shutil.rmtree(back.path, ignore_errors=True)
    return ended


def _hand_backs(transaction: Transaction) -> t.Iterator[Transaction]:
    """Those that nobody has ended, half made ones among them."""
    for place in (transaction.path, pulse.DIRECTORY):
        for path in glob.glob(os.path.join(glob.escape(place), f"{_BACK}*")):
            back = Transaction(path, _prefixed(transaction))
            owner = transaction.id
            with contextlib.suppress(Exception):
                owner = back.request["back_of"]
            if owner == transaction.id:
                yield back


def _end_hand_back(back: Transaction, transaction: Transaction) -> str | None:
    host = Host(back)
    try:
        done = {event["step"] for event in timeline(back)}
        if all(step.name in done for step in steps_of(host)):
            return COMPLETE
        if finish(host):
            return HALF_DONE
        _undo_hand_back(back, host, transaction)
        return None
    finally:
        attempt(host.close)


def _undo_hand_back(back: Transaction, host: Host, transaction: Transaction) -> None:
    """Make good what it has begun, but for what the plain rollback of ``transaction`` does at once, which comes next.

    That one holds the restart policies itself.  If the process that forwarded has ended, it starts the old program, on the
    old module; who started the new one here would interrupt the host twice.
    """
    begun = back.begun()
    left: t.Sequence[str] = (shared.HOLD_RESTARTS,)
    if (restart.RESTART in begun or reload.END in begun) and not host.vswitchd.old_runs():
        left = (shared.HOLD_RESTARTS, restart.RESTART, reload.END, reload.REPLACE)
        if reload.REPLACE in begun and attempt(host.reloader.complete):
            attempt(lambda: host.reloader.leave_gap(transaction))  # the files of this one go
    undo_steps(back, steps_of(host), host, left)
    _leave_meters(host)


def _leave_meters(host: Host) -> None:
    """The process of the beginning may go on, whose meters in the kernel another one has changed."""

    def leave() -> None:
        if host.vswitchd.old_runs():
            host.report.missed(host.filler.metering.leave())

    host.report.missed(attempt(leave))


def _strategy_back(request: Request, bridges: t.Sequence[Bridge]) -> str:
    """An old program that would hurt a new one by its start alone waits until that has ended.

    Back across 2.16 it would take its upcalls; others would take its tunnel devices.
    """
    if request.reload is not None or request.userspace:
        return request.strategy
    recreates = bool(plan.tunnels(bridges)) and plan.recreates_tunnels(request.plan["before"]["ovs-vswitchd"])
    return plan.STANDBY if request.dispatch or recreates else request.strategy
