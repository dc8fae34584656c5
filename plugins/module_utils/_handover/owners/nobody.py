# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""A daemon that no unit owns: it is started again with the arguments it has, where it was."""

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
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.instance import (
    Instance,
    environment_of,
    running,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners.owner import (
    Adopting,
    Heritage,
    Job,
    Owner,
    Unwatched,
    ended,
    misplaced_of,
    monitor_of,
    nothing,
    take_in,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.hints import ENGINE_LOG, log_of
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import cgroups
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.launch import Launch, Model, prepare
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
    alive,
    kill,
    terminate,
)


@dataclasses.dataclass(frozen=True)
class Nobody(Adopting, Unwatched):
    """No unit starts the daemon: it is started as it was, where it was, by ``program`` (its path on the disk)."""

    name: str
    rundir: str
    program: str
    heritage: Heritage

    def restart(self, old: Instance, binaries: str | None, ending: t.Callable[[], None] = nothing) -> Job:
        """See ``Owner``: the new process is there, in the old one's control groups, before that ends."""
        program = self.program if binaries is None else os.path.join(binaries, self.name)
        environment = environment_of(old, os.path.dirname(program))
        return start_like(self, old, program, environment, self.model(old.process), ending)

    def adopt(self, new: Process) -> list[str]:
        """See ``Owner``."""
        return take_in(new, self.heritage)

    def misplaced(self, process: Process) -> str | None:
        """See ``Owner``."""
        return misplaced_of(process, (self.heritage.owner, None, *cgroups.ROOTS), self.heritage.places)

    def healthy(self, process: Process) -> str | None:
        """See ``Owner``."""
        return ended(self.name, process) or self.misplaced(process)


def start_like(
    owner: Owner,
    old: Instance,
    program: str,
    environment: t.Mapping[str, str],
    model: Model,
    ending: t.Callable[[], None],
) -> Job:
    """Have ``program`` take the place of the daemon ``old``, with its arguments, as soon as that has ended (see ``Owner``)."""
    arguments = [f"--pidfile={owner.rundir}/{owner.name}.pid", "--no-chdir"]
    arguments += [word for word in ("--detach", "--monitor") if word in old.argv]
    detach = "--detach" in old.argv
    words = os.memfd_create("words")
    launch = prepare(
        [program, *old.detached, *arguments], environment, model, words=words if detach else None
    )
    try:
        ending()
        _end_with_monitor(old.process)
        launch.go()
    except BaseException:
        launch.cancel()
        raise
    return _Started(launch, owner, detach, words)


def _end_with_monitor(process: Process) -> None:
    """The monitor first: it would start another one."""
    monitor = monitor_of(process)
    if monitor is not None:
        kill(monitor)
    if alive(process) and not terminate(process, signal.SIGTERM, 5.0):
        kill(process)


@dataclasses.dataclass(frozen=True)
class _Started:
    """A daemon that nobody owns, while it starts; one with ``--detach`` leaves another process when it has."""

    launch: Launch
    owner: Owner
    detach: bool
    words: int

    @property
    def refused(self) -> list[str]:
        return [f"{self.owner.name}: {text}" for text in self.launch.refused]

    def failed(self) -> bool:
        return not alive(self.launch.process) and not self._runs()

    def wait(self, timeout: float) -> None:
        Waiter(timeout, 0.005).wait(
            f"{self.owner.name} has started",
            self._has_started,
            bool,
            lambda _started: self._said(),
            self._hint,
        )
        wrong = self.owner.misplaced(running(self.owner.rundir, self.owner.name).process)
        if wrong is not None:
            raise HotUpgradeError(f"{self.owner.name} is not where it was", wrong, ENGINE_LOG)

    def _has_started(self) -> bool:
        if self._runs() and not (self.detach and alive(self.launch.process)):
            return True
        if self.failed():
            raise HotUpgradeError(f"{self.owner.name} did not start", self._said(), self._hint)
        return False

    @property
    def _hint(self) -> str:
        return log_of(self.owner.name)

    def _runs(self) -> bool:
        """Whether the pidfile names a process that has come from ours."""
        try:
            found = running(self.owner.rundir, self.owner.name).process
        except Unreachable:
            return False
        return found.started >= self.launch.process.started

    def _said(self) -> str:
        return os.pread(self.words, 1 << 12, 0).decode(errors="replace").strip()[-500:] or "it said nothing"
