# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""A daemon that belongs to a pod: it is started in the pod's container, and ends with it.

Two pods are there during a hand-over.  The new daemon is in the new one's container from its birth, so that memory and CPU are
charged where they belong; the program of before is started in the old one's again.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.instance import (
    Instance,
    environment_of,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners.nobody import start_like
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners.owner import (
    Heritage,
    Job,
    family,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import containers
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.launch import Model
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process, alive


@dataclasses.dataclass(frozen=True)
class Home:
    """A container with the daemon's program in it, as it is called there."""

    container: str
    program: str


@dataclasses.dataclass(frozen=True)
class Pod:
    """``after`` is where the next daemon is started, ``before`` where the one was at the beginning."""

    name: str
    rundir: str
    before: Home
    after: Home
    own: Heritage

    @property
    def heritage(self) -> Heritage:
        """See ``Owner``: like the first one, with what the container of the next one has for all of its processes."""
        container = containers.find(self.after.container)
        return Heritage(container.places, None, container.like(self.own.like))

    @property
    def born_there(self) -> bool:
        """See ``Owner``."""
        return True

    def model(self, _old: Process) -> Model:
        """See ``Owner``: its streams are those of the container."""
        return self._model(self.after)

    def _model(self, home: Home) -> Model:
        container = containers.find(home.container)
        return Model(container.like(self.own.like), container.first, container.places)

    def restart(self, old: Instance, binaries: str | None) -> Job:
        """See ``Owner``; with ``binaries`` it is the program of before, in its own container."""
        home = self.after if binaries is None else self.before
        return start_like(self, old, home.program, environment_of(old, None), self._model(home))

    def adopt(self, _new: Process) -> list[str]:
        """See ``Owner``: it was born in its place."""
        return []

    def hold(self) -> bool:
        """See ``Owner``."""
        return False

    def cancel_restart(self) -> None:
        """See ``Owner``."""

    def let_go(self) -> bool:
        """See ``Owner``."""
        return False

    @property
    def revives(self) -> bool:
        """See ``Owner``: kubelet would restart the container, which its liveness probe takes minutes for."""
        return False

    def misplaced(self, process: Process) -> str | None:
        """See ``Owner``: in either container it is well, whichever version it is of."""
        ours = (self.after.container, self.before.container)
        for each in family(process):
            found = containers.holding(each)
            if found not in ours:
                where = f"container {found[:12]}" if found else "no container"
                return f"process {each.pid} is in {where}, not in that of its pod, {ours[0][:12]}"
        return None

    def healthy(self, process: Process) -> str | None:
        """See ``Owner``."""
        if not alive(process):
            return f"process {process.pid} of {self.name} has ended"
        return self.misplaced(process)


def as_json(pod: Pod) -> dict[str, t.Any]:
    """What of it is written into a transaction's request, besides its heritage."""
    return {"before": dataclasses.asdict(pod.before), "after": dataclasses.asdict(pod.after)}


def of_json(name: str, rundir: str, record: t.Mapping[str, t.Any], own: Heritage) -> Pod:
    """Undo ``as_json``."""
    return Pod(name, rundir, Home(**record["before"]), Home(**record["after"]), own)
