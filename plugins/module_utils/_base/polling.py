# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Waiting for descriptors, by poll(2): select(2) knows none above 1023, and a host may have more bridges than that."""

from __future__ import annotations

import math
import select
import typing as t

READABLE, WRITABLE = select.POLLIN, select.POLLOUT


def readable(descriptors: t.Iterable[int], seconds: float | None) -> list[int]:
    """Those of ``descriptors`` that have something to read, or whose other end is gone; none after ``seconds``."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, READABLE)
    return [descriptor for descriptor, __ in poll.poll(_milliseconds(seconds))]


def wait_for(descriptor: int, events: int, seconds: float | None) -> int:
    """Which of ``events`` is due on ``descriptor``: both of a lost connection, which says so when used; 0 after ``seconds``."""
    poll = select.poll()
    poll.register(descriptor, events)
    found = poll.poll(_milliseconds(seconds))
    if not found:
        return 0
    return events & found[0][1] or events


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else max(0, math.ceil(seconds * 1000))
