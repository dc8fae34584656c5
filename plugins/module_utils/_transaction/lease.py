# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The lease of a hand-over that waits for its confirmation: while somebody works on it, its clock stands still.

The file ``lease`` in the transaction's directory holds the moment of the last renewal.  It is made with the transaction
and overwritten in place, which needs no room on a disk that is full.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.clock import Moment
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import Transaction

NAME = "lease"

# How often ``leased`` renews, and for how long at most: one who hangs must not keep the host from going back.
INTERVAL = 1.0
LONGEST = 3600.0


def renew(transaction: Transaction) -> None:
    """Have the time until the host goes back by itself begin anew; raises ``OSError``."""
    now = Moment.now()
    descriptor = os.open(transaction.file(NAME), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(descriptor, f"{now.boot} {now.at:020.6f}\n".encode(), 0)
    finally:
        os.close(descriptor)


def age(transaction: Transaction) -> float | None:
    """Seconds since the last renewal; None when there was none in this boot, or nobody can tell."""
    try:
        with open(transaction.file(NAME), encoding="ascii") as file:
            boot, at = file.read().split()
        return Moment(boot, float(at)).age
    except (OSError, ValueError):
        return None


def left(transaction: Transaction) -> float | None:
    """Seconds until the host goes back by itself; None when nobody can tell."""
    since = age(transaction)
    return None if since is None else max(0.0, float(transaction.request["confirm_timeout"]) - since)


@contextlib.contextmanager
def leased(transaction: Transaction) -> t.Iterator[None]:
    """Renew the lease now, all the while, and at the end."""
    done = threading.Event()
    thread = threading.Thread(target=_keep, args=(transaction, done), daemon=True)
    _try_to_renew(transaction)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        _try_to_renew(transaction)


def _keep(transaction: Transaction, done: threading.Event) -> None:
    end = time.monotonic() + LONGEST
    while not done.wait(INTERVAL) and time.monotonic() < end:
        _try_to_renew(transaction)


def _try_to_renew(transaction: Transaction) -> None:
    with contextlib.suppress(OSError):
        renew(transaction)
