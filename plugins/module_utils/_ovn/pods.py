# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""ovn-controller between two pods: started in the container of the new one, as it was started in that of the old one.

Its command line is kept on the disk until the next one has settled: between the end of one and the start of the other there is
none that could be asked, and whoever comes again has to know it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused, Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.files import write_durable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import homes, records
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import read_pid
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import called_in
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.homes import Homes
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import (
    Instance,
    environment_of,
    like_of,
    running,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovn import CONTROLLER
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.successor import (
    end_with_monitor,
    start_like,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import containers, likeness
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.containers import Container
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.launch import Model
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
    family,
    identify,
)

# Where the one that was ended last is written down.
RECORD = "/var/lib/ovsops/ovn-controller.json"
# How long one may take to start, in seconds.
_PATIENCE = 30.0


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A running ovn-controller, and what it takes to start another one like it."""

    instance: Instance
    like: likeness.Likeness

    @classmethod
    def of(cls, rundir: str) -> Recipe:
        """That of the one that runs.  Raises ``Refused`` where root must not start one like it, ``Unreachable`` when it ends."""
        instance = running(rundir, CONTROLLER)
        if instance.doubt:
            raise Refused(
                f"{CONTROLLER} cannot be started like the one that runs", instance.doubt, "Restart its pod"
            )
        return cls(instance, like_of(instance))

    def as_json(self) -> dict[str, t.Any]:
        """For the disk."""
        return dataclasses.asdict(self)

    @classmethod
    def of_json(cls, record: t.Mapping[str, t.Any]) -> Recipe:
        """Undo ``as_json``."""
        found = record["instance"]
        process = Process(**found["process"])
        instance = Instance(process, tuple(found["argv"]), dict(found["environment"]))
        return cls(instance, likeness.from_json(record["like"]))


@dataclasses.dataclass(frozen=True)
class _Place:
    """See ``successor.Place``."""

    container: Container
    rundir: str
    name: str = CONTROLLER

    def misplaced(self, process: Process) -> str | None:
        """See ``successor.Place``."""
        strays = [each.pid for each in family(process) if not self.container.holds(each)]
        return f"process {strays[0]} is not in container {self.container.id[:12]}" if strays else None


class Pods:
    """The two containers between which it goes; ``rundir`` is that of OVN, which both share with the host."""

    def __init__(self, between: Homes, rundir: str, record: str = RECORD) -> None:
        self._homes = t.cast(Homes, homes.with_pods(between))
        self._rundir, self._record = rundir, record
        self.home = t.cast(Container, homes.enter(self._homes))

    def own(self, process: Process | None) -> bool:
        """Whether that one is in either of them, or one was ended here and none runs yet."""
        return self._homes.in_either(process) if process else self._kept() is not None

    def require_usable(self) -> None:
        """Raise ``Refused`` where the new container cannot have it."""
        homes.require_shared(self.home, self._rundir)
        if called_in(CONTROLLER, self.home) is None:
            raise Refused(
                f"container {self.home.id[:12]} has no {CONTROLLER}",
                "the one that runs is in the old pod, and would end with it",
                "Take an image that has it, too",
            )

    def keep(self, process: Process | None) -> None:
        """Write down how it was started, if it runs; raises ``Refused`` where nobody knows."""
        if process is None:
            if self._kept() is None:
                raise Refused(
                    f"no {CONTROLLER} runs, and nobody knows how it was started",
                    f"{self._record} tells of none",
                    "Start it in its pod, or restart the pod's container",
                )
            return
        os.makedirs(os.path.dirname(self._record), 0o700, exist_ok=True)
        write_durable(self._record, json.dumps(Recipe.of(self._rundir).as_json()).encode())

    def _kept(self) -> Recipe | None:
        return records.read(self._record, Recipe.of_json)

    def forget(self) -> None:
        """The next one is as well as it was."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._record)

    def start(self, ending: t.Callable[[], None]) -> None:
        """Have one run in the new container as soon as ``ending`` has ended the other; it has been kept."""
        self._start(self.home, ending)

    def go_back(self, ending: t.Callable[[], None]) -> None:
        """The same in the old container; raises ``Refused`` when that has gone."""

        def end_all() -> None:
            ending()
            self._end_stranger()

        self._start(containers.find(self._homes.before, self._homes.pods[0]), end_all)

    def _end_stranger(self) -> None:
        """End what we have started, where it is called otherwise, as the daemon of a wrapper may be: it has the pidfile."""
        with contextlib.suppress(Unreachable):
            process = identify(read_pid(os.path.join(self._rundir, f"{CONTROLLER}.pid")))
            if process is not None and self.home.holds(process) and process.started >= _own_start():
                end_with_monitor(process)

    def _start(self, home: Container, ending: t.Callable[[], None]) -> None:
        kept, program = self._kept(), called_in(CONTROLLER, home)
        if kept is None or program is None:
            why = (
                f"{self._record} cannot be read"
                if kept is None
                else f"container {home.id[:12]} does not have it"
            )
            raise Refused(f"{CONTROLLER} cannot be started", why, "Restart the pod's container")
        model = Model(home.like(kept.like), home.first, home.places)
        environment = environment_of(kept.instance, None)
        start_like(_Place(home, self._rundir), kept.instance, program, environment, model, ending).wait(
            _PATIENCE
        )


def _own_start() -> int:
    """When this process was started: what runs longer is not of our making."""
    return t.cast(Process, identify(os.getpid())).started
