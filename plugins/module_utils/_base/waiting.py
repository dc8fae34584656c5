# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Waiting = a pure predicate + a monotonic clock; a time-out says what was last seen."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    Ended,
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.heartbeat import beat

T = t.TypeVar("T")


class TimedOut(HotUpgradeError):
    """What was waited for did not come about in time."""


class Clock(t.Protocol):
    """``time`` has this shape; tests pass one that does not sleep."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary point, never going back."""

    def sleep(self, seconds: float, /) -> None:
        """Return ``seconds`` later."""


@dataclasses.dataclass(frozen=True)
class Waiter:
    """Looks every ``interval`` seconds, for at most ``timeout`` seconds.

    One that is ``strict`` waits for something that is there already: when it cannot be reached any more, that is final.
    """

    timeout: float
    interval: float = 0.05
    clock: Clock = time
    strict: bool = False

    def wait(
        self,
        what: str,
        look: t.Callable[[], T],
        done: t.Callable[[T], bool],
        describe: t.Callable[[T], str] = str,
        hint: str = "",
    ) -> T:
        """Return what ``look()`` saw first that ``done`` accepts.

        ``what`` names the wanted state ("br0 has its management socket").  ``Unreachable`` from ``look``
        means "not yet", but is raised where it is ``Ended`` or the waiter is ``strict``.  Raises ``TimedOut``,
        which tells ``describe`` of the last look and how long was waited; the last look is always taken
        after the last sleep.
        """
        start = self.clock.monotonic()
        while True:
            beat()
            try:
                seen = look()
                if done(seen):
                    return seen
                last = describe(seen)
            except Unreachable as error:
                if self.strict or isinstance(error, Ended):
                    raise
                last = str(error)
            elapsed = self.clock.monotonic() - start
            if elapsed >= self.timeout:
                raise TimedOut(f"waited {elapsed:.1f} s in vain until {what}", f"last seen: {last}", hint)
            self.clock.sleep(min(self.interval, self.timeout - elapsed))
