# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Whatever ends an installation, /usr/sbin/policy-rc.d is afterwards what it was before.

``agent.py`` watches on the host, detached, and a unit does the same at the next boot.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import shutil
import sys
import time

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Clock, Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._policy_guard import agent
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.detached import (
    BootGuard,
    Launcher,
    launcher,
    record_path,
    write_private,
)

NAME = "policy-guard"
POLICY = "usr/sbin/policy-rc.d"
FOLDER = "var/lib/ovsops/policy-rc.d"

# How long an installation may take to end, in seconds.
PATIENCE = 3600.0


@dataclasses.dataclass(frozen=True)
class PolicyGuard:
    """The guard of one host; ``root`` is where its files are looked for."""

    root: str = "/"
    launch: Launcher | None = None
    clock: Clock = time

    @property
    def policy(self) -> str:
        """The path of policy-rc.d."""
        return os.path.join(self.root, POLICY)

    @property
    def folder(self) -> str:
        """Where the agent is, and what was there before."""
        return os.path.join(self.root, FOLDER)

    @property
    def present(self) -> bool:
        """Whether it watches, or has left something that a next boot or run has to do."""
        return os.path.isdir(self.folder)

    @property
    def due(self) -> bool:
        """Whether an installation was cut short and nobody has put the policy back yet."""
        return self.present and agent.forbids(self.policy)

    def start(self) -> None:
        """Keep a copy of what is there and watch; what an earlier one has left is done first.  Raises as ``end`` does.

        A policy that forbids everything already is somebody's wish, and nothing else can come of an installation.
        """
        self.end()
        if agent.forbids(self.policy):
            return
        os.makedirs(self.folder, mode=0o700)
        if os.path.lexists(self.policy):
            agent.copy(self.policy, os.path.join(self.folder, agent.KEPT))
        write_private(self._program, inspect.getsource(agent).encode())
        guard = BootGuard(NAME, self.root)
        if self._launcher.kind == "systemd":
            guard.install(
                "Put policy-rc.d back that an interrupted installation replaced", self._argv("boot")
            )
        self._launcher.start(NAME, self._argv("watch"))

    def end(self) -> bool:
        """Wait for an installation that is under way, put the policy back if need be, and watch no longer.

        Returns whether something was put back. Raises ``TimedOut`` when the installation does not end.
        """
        Waiter(PATIENCE, 1.0, self.clock).wait(
            "the installation has ended",
            agent.installers,
            lambda pids: not pids,
            lambda pids: f"the processes {', '.join(map(str, pids))} of one",
            "Look what they wait for ('ps' shows them), and start again when they have ended",
        )
        if not self.present:
            return False
        self._launcher.disarm(NAME)
        restored = self.present and agent.put_back(self.policy, self.folder)
        BootGuard(NAME, self.root).remove()
        shutil.rmtree(self.folder, ignore_errors=True)
        return restored

    @property
    def _launcher(self) -> Launcher:
        return self.launch or launcher(self.root)

    @property
    def _program(self) -> str:
        return os.path.join(self.folder, "agent.py")

    def _argv(self, role: str) -> list[str]:
        files = (*BootGuard(NAME, self.root).files, record_path(self.root, NAME))
        return [sys.executable, "-I", self._program, role, self.policy, self.folder, *files]
