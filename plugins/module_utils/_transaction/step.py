# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The steps of a transaction: journaled before they are done, and undone last first by whoever comes after."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import functools
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import attempt
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.heartbeat import beat
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    Json,
    Transaction,
)

C = t.TypeVar("C")


def _nothing(_context: t.Any) -> None:
    """The default of a step that has nothing to undo or to check."""


@dataclasses.dataclass(frozen=True)
class Step(t.Generic[C]):
    """One reversible action on the context ``C``.

    ``undo`` must be right whether ``do`` never ran, ran in part or ran to its end, and in a process that did
    not run it.  ``check`` raises ``HotUpgradeError`` when the effect is not there.  Neighbouring steps with
    ``window`` are journaled together before the first of them, so that no disk is waited for between them.
    """

    name: str
    do: collections.abc.Callable[[C], None]
    undo: collections.abc.Callable[[C], None] = _nothing
    check: collections.abc.Callable[[C], None] = _nothing
    window: bool = False


def do_steps(transaction: Transaction, steps: t.Sequence[Step[C]], context: C) -> list[Json]:
    """Do the steps in order; the first failure is raised, nothing is undone.

    Returns each step with its times, as ``timeline`` does.
    """
    finished: list[Json] = []
    for group in _windows(steps):
        transaction.log(*({"event": "begin", "step": step.name} for step in group))
        logged = len(finished)
        try:
            for step in group:
                beat()
                transaction.observe("before", step.name)
                start = time.monotonic_ns() // 1000
                step.do(context)
                step.check(context)
                end = time.monotonic_ns() // 1000
                finished.append({"step": step.name, "start_us": start, "end_us": end})
                transaction.observe("after", step.name)
        finally:
            # Only a record: a rollback starts from what was begun. A full disk is no reason to take it.
            with contextlib.suppress(OSError):
                transaction.log(*({"event": "done", **step} for step in finished[logged:]))
    return finished


def undo_steps(
    transaction: Transaction, steps: t.Sequence[Step[C]], context: C, done: t.Collection[str] = ()
) -> list[str]:
    """Undo, last first, what the journal says was begun and ``done`` does not name; returns the failures as text.

    A failing undo, however it fails, does not keep the others from running: each makes the host better.
    """
    by_name = {step.name: step for step in steps}
    failures = []
    for name in reversed(transaction.begun()):
        beat()
        if name not in done:
            failed = attempt(functools.partial(_undo_one, transaction, by_name, name, context))
            failures += [f"{name}: {text}" for text in failed]
            if failed:
                continue
        with contextlib.suppress(OSError):  # a full disk must not stop a rollback; undoing twice is allowed
            transaction.log({"event": "undone", "step": name})
    return failures


def _undo_one(transaction: Transaction, by_name: t.Mapping[str, Step[C]], name: str, context: C) -> None:
    transaction.observe("before", f"undo {name}")
    by_name[name].undo(context)
    transaction.observe("after", f"undo {name}")


def timeline(transaction: Transaction) -> list[Json]:
    """The finished steps as ``{step, start_us, end_us}`` on the monotonic clock of this boot."""
    keys = ("step", "start_us", "end_us")
    return [{key: event[key] for key in keys} for event in transaction.journal() if event["event"] == "done"]


def _windows(steps: t.Sequence[Step[C]]) -> t.Iterator[list[Step[C]]]:
    group: list[Step[C]] = []
    for step in steps:
        if group and not (step.window and group[-1].window):
            yield group
            group = []
        group.append(step)
    if group:
        yield group
