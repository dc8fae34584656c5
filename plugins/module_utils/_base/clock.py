# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Moments that processes of one boot can compare: the wall clock is set by others, also backwards."""

from __future__ import annotations

import dataclasses
import time


@dataclasses.dataclass(frozen=True)
class Moment:
    """A moment of the boot ``boot``, in seconds of its monotonic clock."""

    boot: str
    at: float

    @classmethod
    def now(cls) -> Moment:
        """This moment."""
        return cls(boot_id(), time.monotonic())

    @property
    def age(self) -> float | None:
        """How long ago it was, in seconds; None when it was before the last boot."""
        return max(0.0, time.monotonic() - self.at) if self.boot == boot_id() else None


def boot_id() -> str:
    """What names this boot (random(4))."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
