# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""How a transaction ends: it is confirmed, or rolled back.

Whoever rolls back may die at any moment, and the next one goes on; nothing that fails on the way keeps the rest from
being undone, and no full disk does: what a step back needs to write goes to memory then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import glob
import os
import secrets
import shutil
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import measured as _measured
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import plan, shaping
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host, unexplained
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.living import Living
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.newcomer import remove_dead_links
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import (
    Request,
    require_format,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.steps import (
    make_before_break,
    restart,
    shared,
    standby,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.supervisors import look
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Ovsdb
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.detached import BootGuard
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process, alive
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import pulse
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    APPLIED,
    CONFIRMED,
    FAILED,
    FINISHED,
    ROLLED_BACK,
    ROLLING_BACK,
    Lost,
    Step,
    Transaction,
    attempt,
    nested,
    run,
    timeline,
    told,
    undo,
)

STEPS: t.Mapping[str, t.Callable[[Request], list[Step[Host]]]] = {
    plan.MAKE_BEFORE_BREAK: make_before_break.steps,
    plan.PREFILLED: make_before_break.steps,
    plan.STANDBY: standby.steps,
    plan.RESTART: restart.steps,
}

# The name of the guard of the next boot: one transaction at a time means one of each.
BOOT = "handover"

# What a finished transaction has no use for; its journal, request and result stay.  The code goes last: a guard that
# was killed in the middle is started again and cleans up, as long as it is there.
HEAVY: t.Mapping[str, tuple[str, ...]] = {
    CONFIRMED: ("old", "snapshot", "watched", "lib"),
    ROLLED_BACK: ("snapshot", "watched", "lib"),
}

# Steps whose undo is still due when the old program forwards again.
BEFORE_THE_PROCESS = (shared.CONVERT, shared.RESTART_SERVER)

# The result's entry for the daemons of when all was applied.
FORWARDS = "forwards"

# How far a hand-back got whose actor has died.
COMPLETE, HALF_DONE = "complete", "half done"

# Where a hand-back keeps its files, below the transaction or in memory.
_BACK = "back-"
_SPARE = 16 << 20


def steps_for(request: Request) -> list[Step[Host]]:
    """The steps of a transaction."""
    return STEPS[request.strategy](request)


def steps_of(host: Host) -> list[Step[Host]]:
    """The steps of the transaction."""
    return steps_for(host.request)


def confirm(transaction: Transaction) -> None:
    """Make the hand-over final; raises ``Lost`` when it is being rolled back already."""
    transaction.move(APPLIED, CONFIRMED)
    attempt(lambda: clean(transaction))  # the guard does it as well


def clean(transaction: Transaction) -> None:
    """Remove what a finished transaction has no use for; of one that is not finished, nothing."""
    state = transaction.state
    if state in FINISHED:
        BootGuard(BOOT).remove()
        pulse.bury(transaction.id)
        transaction.prune(*HEAVY[state])


def roll_back(
    transaction: Transaction, reason: str, restore: bool = False, living: Living | None = None
) -> None:
    """Undo what the journal says was begun and say so; ``Lost`` when it was confirmed meanwhile.

    After a reboot there is nothing to undo: the daemons were started from the disk.  Then the flag is cleared
    and, with ``restore``, the state of the snapshot is loaded.  ``living``: what was changed since that was taken.
    """
    state = transaction.state
    if state in FINISHED:
        raise Lost(f"transaction {transaction.id} cannot be rolled back", f"it is {state}")
    _require_readable(transaction)
    if state != ROLLING_BACK:
        transaction.move(state, ROLLING_BACK)
        # Whoever goes on after an interruption does not know it.
        attempt(lambda: transaction.note(reason=reason))
    try:
        failures = _take_back(transaction, state, restore, living)
    except Exception as error:  # whatever it is: the host must not be left in the middle without a word
        failures = [told(error)]
    attempt(lambda: _tell(transaction, reason, failures))
    transaction.move(ROLLING_BACK, FAILED if failures else ROLLED_BACK)
    if not failures:
        attempt(lambda: clean(transaction))


def _require_readable(transaction: Transaction) -> None:
    """Leave what another version of the collection has begun to the host's own guard, which has the code for it."""
    try:
        record = transaction.request
    except Exception:  # damaged: that is told by what goes on with it
        return
    require_format(record)


def _tell(transaction: Transaction, reason: str, failures: list[str]) -> None:
    known = (transaction.read("result.json") or {}).get("reason")
    transaction.note(reason=known or reason, not_undone=failures)


def _take_back(transaction: Transaction, state: str, restore: bool, living: Living | None) -> list[str]:
    host = Host(transaction, living)
    try:
        if host.rebooted:
            failures = attempt(host.restore_after_boot if restore else host.never_stuck)
            failures += attempt(lambda: shaping.give_back(host))  # the database has outlived the boot
        else:
            failures = _undo(transaction, host, state)
        return failures + attempt(lambda: flush(host)) + _faults(transaction, host)
    finally:
        attempt(host.close)


def _faults(transaction: Transaction, host: Host) -> list[str]:
    """Look at what has become of the host, write it down for whoever is told, and say what is not as it was."""
    found: list[_measured.Measured] = []
    failures = attempt(lambda: found.append(_measured.measure(host)))
    measured = found[0] if found else _measured.Measured(f"nothing, since {failures[0]}")
    attempt(lambda: transaction.note(measured=measured.text))
    return list(measured.faults)


def _undo(transaction: Transaction, host: Host, state: str) -> list[str]:
    """Go back under traffic as far as that is possible, and undo the rest."""
    ended = _end_hand_backs(transaction)
    handed_back, half_done = ended is not None, ended == HALF_DONE
    if not handed_back:
        half_done = state != APPLIED and finish(host)
        handed_back = (half_done or (state == APPLIED and _forwards(host))) and _under_traffic(
            transaction, host
        )
    if not handed_back and shaping.STEP in transaction.begun():  # they were given back when all was applied
        attempt(lambda: shaping.leave_alone(host))
    if not handed_back and state == APPLIED and _forwards(host) and not _has_lost(transaction):
        attempt(host.take_anew)  # else what others changed since would be undone, too
    taken_over = _running(host) if handed_back else None
    failures = undo(transaction, steps_of(host), host, _by_hand_back(transaction) if handed_back else ())
    if handed_back and not (
        taken_over and alive(taken_over)
    ):  # the steps that would start one are not undone
        failures += attempt(host.fill_revived)
    if ended == HALF_DONE:  # what comes last in a hand-back
        failures += attempt(host.let_go) + attempt(lambda: shaping.give_back(host))
    if half_done:  # the new process may have been flushed, and the old one got its flows from it
        failures += attempt(host.fill_up)
    failures += attempt(host.require_places)
    attempt(lambda: remove_dead_links(host))
    _tell_not_carried(transaction, host)
    return failures


def _running(host: Host) -> Process | None:
    """The ovs-vswitchd of the pidfile, None when it has ended."""
    try:
        return look(host.rundir, VSWITCHD).process
    except Unreachable:
        return None


def _tell_not_carried(transaction: Transaction, host: Host) -> None:
    """What the processes of before could not be given on the way back."""
    if host.not_carried:
        attempt(lambda: transaction.note(not_carried=list(dict.fromkeys(host.not_carried))))


def _under_traffic(transaction: Transaction, host: Host) -> bool:
    # Without its database the new ovs-vswitchd could not stand in for the old program, and in userspace forwards nothing.
    attempt(host.ensure_server)
    return hand_back(transaction)


def _by_hand_back(transaction: Transaction) -> list[str]:
    """The steps whose effect a hand-back has undone."""
    return [name for name in transaction.begun() if name not in BEFORE_THE_PROCESS]


def flush(host: Host) -> None:
    """Without the guard of the next boot nobody would clear a flag that a power loss brings back."""
    with Ovsdb(host.remote, host.timeout) as database:
        database.flush()


def finish(host: Host) -> bool:
    """Complete a switch-over that was left half done, if the new process forwards; False when there is none."""
    if make_before_break.CUT_OVER not in host.transaction.begun():
        return False
    done: list[bool] = []
    failures = attempt(lambda: done.append(make_before_break.finish(host)))
    if failures:
        attempt(lambda: host.transaction.note(not_completed=failures[0]))
    return any(done)


def applied_processes(transaction: Transaction) -> dict[str, Process]:
    """The daemons of when all was applied, by name; none when the disk had no room to say so."""
    recorded = (transaction.read("result.json") or {}).get(FORWARDS, {})
    return {name: Process(*numbers) for name, numbers in recorded.items()}


def ended_since(transaction: Transaction) -> str | None:
    """Which of these daemons has ended, in words."""
    for name, process in applied_processes(transaction).items():
        if not alive(process):
            return f"the {name} that was handed over to, process {process.pid}, has ended"
    return None


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

    When that does not work, what it did is undone and the plain way back is left to do: False.
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
    place = os.path.join(_roomy(transaction), _BACK + secrets.token_hex(3))
    back = nested(place, _request_back(transaction, request).json())
    host = Host(back)
    try:
        run(back, steps_of(host), host)
    except Exception:  # whatever it is
        undo(back, steps_of(host), host)
        raise
    finally:
        attempt(host.close)
        shutil.rmtree(back.path, ignore_errors=True)
    attempt(lambda: transaction.note(marks=host.marks))
    _tell_not_carried(transaction, host)
    return True


def _request_back(transaction: Transaction, request: Request) -> Request:
    old = transaction.file("old")
    supervisors = {
        name: {**owner, "program": os.path.join(old, name)} for name, owner in request.supervisors.items()
    }
    with Ovsdb(request.remote, request.timeout) as database:
        found = database.bridges()
    # The words of the beginning: what the process shows of itself may be its user's (docs/security.md).
    forwards = dataclasses.replace(request.vswitchd, process=look(request.rundir, VSWITCHD).process)
    return dataclasses.replace(
        request.of_now(found),  # somebody may have added some, and deleted others
        strategy=_way_back(request),
        convert=False,
        downgrade=False,
        restart_server=False,
        prove=0,
        snapshot=None,
        supervisors=supervisors,
        vswitchd=forwards,
        back_of=transaction.id,
    )


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
    for place in (transaction.path, pulse.DIRECTORY):
        for path in glob.glob(os.path.join(glob.escape(place), f"{_BACK}*")):
            back = Transaction(path)
            with contextlib.suppress(Exception):  # one that was only half made
                if back.request["back_of"] != transaction.id:
                    continue
                ended = _end_hand_back(back) or ended
            shutil.rmtree(path, ignore_errors=True)
    return ended


def _end_hand_back(back: Transaction) -> str | None:
    host = Host(back)
    try:
        done = {event["step"] for event in timeline(back)}
        if all(step.name in done for step in steps_of(host)):
            return COMPLETE
        if finish(host):
            return HALF_DONE
        undo(back, steps_of(host), host)
        return None
    finally:
        attempt(host.close)


def _way_back(request: Request) -> str:
    """Back across 2.16, the old program would take the upcalls from the new one as soon as it opens the datapath."""
    return plan.STANDBY if request.dispatch else request.strategy
