# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""A daemon that no unit owns: it is started again with the arguments it has, where it was."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners.owner import (
    Adopting,
    Heritage,
    Job,
    Unwatched,
    ended,
    misplaced_of,
    nothing,
    take_in,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import Instance, environment_of
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.successor import start_like
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import cgroups
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
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
