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

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused, Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners.owner import (
    Heritage,
    Job,
    Unwatched,
    ended,
    nothing,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.homes import trust_in
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import (
    Instance,
    environment_of,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.successor import start_like
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import containers
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.containers import Container
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.launch import Model
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process, family
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.trust import real_file


@dataclasses.dataclass(frozen=True)
class Home:
    """A container with the daemon's program in it, as it is called there, and the group of its pod."""

    container: str
    pod: str
    program: str

    def find(self) -> Container:
        """The container, whose daemons are believed; raises ``Refused`` when it does not run or does not have the program.

        What was started in its place counts, too.
        """
        found = containers.find(self.container, self.pod)
        if real_file(self.program, found.root) is None:
            raise Refused(
                f"container {found.id[:12]} does not have {self.program}",
                "or somebody else than root can change it there",
                "Look at the image of its pod",
            )
        trust_in(found)
        return found


@dataclasses.dataclass(frozen=True)
class Pod(Unwatched):
    """``after`` is where the next daemon is started, ``before`` where the one was at the beginning, with its ``heritage``.

    Nobody starts it again by itself: kubelet would restart the container when its liveness probe has failed for long.
    """

    name: str
    rundir: str
    before: Home
    after: Home
    heritage: Heritage

    @property
    def born_there(self) -> bool:
        """See ``Owner``."""
        return True

    def model(self, _old: Process) -> Model:
        """See ``Owner``: its streams are those of the container."""
        return self._model(self.after.find())

    def _model(self, container: Container) -> Model:
        return Model(container.like(self.heritage.like), container.first, container.places)

    def restart(self, old: Instance, binaries: str | None, ending: t.Callable[[], None] = nothing) -> Job:
        """See ``Owner``; with ``binaries`` it is the program of before, in its own container.

        Where that has gone, the new version is better than none.
        """
        home = self.after if binaries is None else self.before
        try:
            model = self._model(home.find())
        except (Refused, Unreachable):
            if home is self.after:
                raise
            home, model = self.after, self._model(self.after.find())
        return start_like(self, old, home.program, environment_of(old, None), model, ending)

    def adopt(self, _new: Process) -> list[str]:
        """See ``Owner``: it was born in its place."""
        return []

    def misplaced(self, process: Process) -> str | None:
        """See ``Owner``: in either container it is well, whichever version it is of."""
        for each in family(process):
            if not any(
                containers.is_in(each, home.container, home.pod) for home in (self.after, self.before)
            ):
                found = containers.holding(each)
                where = f"container {found[:12]}" if found else "no container"
                ours = " or ".join(home.container[:12] for home in (self.after, self.before))
                return f"process {each.pid} is in {where}, not in {ours}"
        return None

    def healthy(self, process: Process) -> str | None:
        """See ``Owner``."""
        return ended(self.name, process) or self.misplaced(process)


def as_json(pod: Pod) -> dict[str, t.Any]:
    """What of it is written into a transaction's request, besides its heritage."""
    return {"before": dataclasses.asdict(pod.before), "after": dataclasses.asdict(pod.after)}


def of_json(name: str, rundir: str, record: t.Mapping[str, t.Any], heritage: Heritage) -> Pod:
    """Undo ``as_json``."""
    return Pod(name, rundir, Home(**record["before"]), Home(**record["after"]), heritage)
