# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""A daemon that takes the place of another one: with its arguments, started before that ends, and run as soon as it has."""

from __future__ import annotations

import dataclasses
import os
import signal
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.hints import log_of
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import Instance, running
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.launch import Launch, Model, prepare
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
    alive,
    kill,
    monitor_of,
    terminate,
)


class Place(t.Protocol):
    """Where a daemon is to be."""

    @property
    def name(self) -> str:
        """The daemon."""

    @property
    def rundir(self) -> str:
        """Its run directory."""

    def misplaced(self, process: Process) -> str | None:
        """Why the process is not where it is to be, or None."""


def start_like(
    place: Place,
    old: Instance,
    program: str,
    environment: t.Mapping[str, str],
    model: Model,
    ending: t.Callable[[], None],
) -> Started:
    """Have ``program`` take the place of the daemon ``old``, with its arguments, as soon as that has ended (see ``Place``)."""
    arguments = [f"--pidfile={place.rundir}/{place.name}.pid", "--no-chdir"]
    arguments += [word for word in ("--detach", "--monitor") if word in old.argv]
    detach = "--detach" in old.argv
    words = os.memfd_create("words")
    launch = prepare(
        [program, *old.detached, *arguments], environment, model, words=words if detach else None
    )
    try:
        ending()
        end_with_monitor(old.process)
        launch.go()
    except BaseException:
        launch.cancel()
        raise
    return Started(launch, place, detach, words)


def end_with_monitor(process: Process) -> None:
    """End a daemon, and its monitor first: that would start another one."""
    monitor = monitor_of(process)
    if monitor is not None:
        kill(monitor)
    if alive(process) and not terminate(process, signal.SIGTERM, 5.0):
        kill(process)


@dataclasses.dataclass(frozen=True)
class Started:
    """A daemon that nobody owns, while it starts; one with ``--detach`` leaves another process when it has."""

    launch: Launch
    place: Place
    detach: bool
    words: int

    @property
    def refused(self) -> list[str]:
        return [f"{self.place.name}: {text}" for text in self.launch.refused]

    def failed(self) -> bool:
        return not alive(self.launch.process) and not self._runs()

    def wait(self, timeout: float) -> None:
        Waiter(timeout, 0.005).wait(
            f"{self.place.name} has started",
            self._has_started,
            bool,
            lambda _started: self._said(),
            self._hint,
        )
        wrong = self.place.misplaced(running(self.place.rundir, self.place.name).process)
        if wrong is not None:
            raise HotUpgradeError(f"{self.place.name} is not where it was", wrong, self._hint)

    def _has_started(self) -> bool:
        if self._runs() and not (self.detach and alive(self.launch.process)):
            return True
        if self.failed():
            raise HotUpgradeError(f"{self.place.name} did not start", self._said(), self._hint)
        return False

    @property
    def _hint(self) -> str:
        return log_of(self.place.name)

    def _runs(self) -> bool:
        """Whether the pidfile names a process that has come from ours."""
        try:
            found = running(self.place.rundir, self.place.name).process
        except Unreachable:
            return False
        return found.started >= self.launch.process.started

    def _said(self) -> str:
        return os.pread(self.words, 1 << 12, 0).decode(errors="replace").strip()[-500:] or "it said nothing"
