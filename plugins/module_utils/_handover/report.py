# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What a hand-over has to tell of itself when it is done."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Clock
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import Json


@dataclasses.dataclass
class Report:
    """``marks`` are moments of the window, by name, in monotonic microseconds; ``not_carried`` is text for people."""

    clock: Clock = time
    marks: dict[str, int] = dataclasses.field(default_factory=dict)
    not_carried: list[str] = dataclasses.field(default_factory=list)

    def mark(self, name: str) -> None:
        """Remember when ``name`` happened."""
        self.marks[name] = int(self.clock.monotonic() * 1e6)

    def missed(self, texts: t.Iterable[str]) -> None:
        """Remember what could not be carried over."""
        self.not_carried += texts

    def outcome(self) -> Json:
        """For the transaction's result; what was said twice is told once."""
        return {"marks": self.marks, "not_carried": list(dict.fromkeys(self.not_carried))}
