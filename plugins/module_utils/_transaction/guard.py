# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The guard of a transaction: a program on the host that undoes what nobody else brings to its end.

It is there from the beginning.  It rolls back when the engine has died or hangs, when what was applied does not hold any
more before anybody has confirmed, and when nobody confirms in time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import traceback
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import attempt
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.detached import launcher
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import launching, lease
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.ending import clean, roll_back
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.operation import Operation
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    APPLIED,
    FAILED,
    FINISHED,
    PREPARED,
    Busy,
    Transaction,
)

C = t.TypeVar("C")

# How often it looks, and how long it waits at most after something has gone wrong, in seconds.
INTERVAL = 0.2
LONGEST_PAUSE = 10.0

# How often it asks whether an engine that has not begun is on its way, in seconds.
COMING_INTERVAL = 1.0

DIED = "the engine was ended from outside before its work was done"


def guard(operation: Operation[C], transaction: Transaction) -> None:
    """Watch until the transaction has come to an end; nothing that goes wrong meanwhile ends the watch."""
    with contextlib.suppress(OSError):
        os.close(os.open(transaction.file(launching.WATCHED), os.O_CREAT | os.O_WRONLY, 0o600))
    watch, pause = Watch(operation, transaction), INTERVAL
    while not watch.over():
        time.sleep(pause)
        try:
            watch.intervene()
            pause = INTERVAL
        except Exception:  # whatever it is: there is nobody else who would go on
            traceback.print_exc()
            pause = min(LONGEST_PAUSE, 2 * pause)
    attempt(lambda: clean(operation, transaction))


@dataclasses.dataclass
class Watch(t.Generic[C]):
    """What the guard has seen so far."""

    operation: Operation[C]
    transaction: Transaction
    waits_since: float | None = None
    asked: float = 0.0

    def over(self) -> bool:
        """Whether nothing is left to be watched."""
        if not os.path.exists(self.transaction.path):
            return True
        try:
            return self.transaction.state in (*FINISHED, FAILED)
        except Exception:  # a damaged one stays ours
            return False

    def intervene(self) -> None:
        """Roll back where it is due."""
        if self.transaction.state == APPLIED and self._due() is None:
            return
        if self.transaction.state == PREPARED and time.monotonic() < self.asked + COMING_INTERVAL:
            return
        try:
            with self.transaction.at_work() as hung:
                self._intervene(hung)
        except Busy:
            self.waits_since = None

    def _intervene(self, hung: float | None) -> None:
        state = self.transaction.state
        if state in (*FINISHED, FAILED):
            return
        if state == APPLIED:
            reason = self._due()
        elif hung is not None:
            reason = _hung(self.transaction, hung)
        else:
            reason = None if self._is_coming() else DIED
        if reason is not None:
            roll_back(self.operation, self.transaction, reason)

    def _due(self) -> str | None:
        """Why what was applied must not wait for its confirmation any longer, if it is so."""
        ended = self.operation.ended_since(self.transaction)
        if ended is not None:
            return f"{ended} before anybody confirmed"
        seconds = float(self.transaction.request["confirm_timeout"])
        since = lease.age(self.transaction)
        if since is None:  # the disk had no room to say so: from now on
            since = self._waits()
        return f"nobody confirmed within {seconds:g} s" if since > seconds else None

    def _is_coming(self) -> bool:
        self.asked = time.monotonic()
        if not launching.is_coming(self.transaction, self.operation.name):
            return False
        if self._waits() > launching.COMING:
            launcher().disarm(launching.program_name(self.operation.name, launching.ENGINE))
            return False
        return True

    def _waits(self) -> float:
        """Since when the same is waited for."""
        if self.waits_since is None:
            self.waits_since = time.monotonic()
        return time.monotonic() - self.waits_since


def _hung(transaction: Transaction, seconds: float) -> str:
    begun = transaction.begun()
    where = f" in the step '{begun[-1]}'" if begun else ""
    return f"the engine has made no progress for {seconds:.0f} s{where} and was ended"
