# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for what nothing tells of."""

from __future__ import annotations

import time
import typing as t


def wait_until(done: t.Callable[[], bool], seconds: float = 30.0, interval: float = 0.05) -> None:
    """Return when ``done()`` is true; AssertionError after so many seconds."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise AssertionError(f"this did not happen within {seconds:g} s")
        time.sleep(interval)
