# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Keeps what is idle alive: while one bridge is worked on for long, the switch would drop what waits for the others.

A thread, since whoever works does so anywhere: it loads a million flows, traces, or waits for an answer.
"""

from __future__ import annotations

import threading
import typing as t
import weakref

# How often it looks who is due, in seconds.
_INTERVAL = 0.1


class Kept(t.Protocol):
    """Something that is to be kept alive."""

    def breathe(self) -> None:
        """Show a sign of life if that is due; never waits and raises nothing."""


class Keeper:
    """Has every one of its things ``breathe`` for as long as it exists and is not let go."""

    def __init__(self) -> None:
        self._things: weakref.WeakSet[Kept] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._pause = threading.Event()
        self._thread: threading.Thread | None = None

    def keep(self, thing: Kept) -> None:
        """From now on."""
        with self._lock:
            self._things.add(thing)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
                self._thread.start()

    def let_go(self, thing: Kept) -> None:
        """No more; nothing to let go is fine."""
        with self._lock:
            self._things.discard(thing)

    def _run(self) -> None:
        while True:
            self._pause.wait(_INTERVAL)
            with self._lock:
                things = list(self._things)
                if not things:
                    self._thread = None
                    return
            for thing in things:
                thing.breathe()
            del things


KEEPER = Keeper()
