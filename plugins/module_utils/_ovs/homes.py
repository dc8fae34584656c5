# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Where the programs are, and where the daemons live: on the host itself, or in the containers of two pods.

With containers the version before stays where it is, so nothing of it is copied: to go back is to start it in its own
container again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import containers
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Completed, Runner, run
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.containers import Container
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.trust import (
    believe,
    doubt_of_directory,
    real_file,
)

# Where ovsdb-server looks when it is not told (lib/dirs.h, ovs_dbdir()).
DATABASE_FILE = "/etc/openvswitch/conf.db"


# What the two are called, by whoever names them.
_ROLES = ("container_before, that of the old pod", "container, that of the new pod")
# What comes between the run directory and the end of a transaction's id, in the names of our own ones: beside it on a host, in it
# where a container sees only that.
BESIDE, WITHIN = "-", "/ovsops-"


@dataclasses.dataclass(frozen=True)
class Homes:
    """``before`` and ``after`` are ids of containers, ``pods`` the groups of theirs (see ``Container.pod``)."""

    before: str
    after: str
    pods: tuple[str, str] = ("", "")

    @classmethod
    def of(cls, options: t.Mapping[str, t.Any]) -> Homes | None:
        """From the options of a module (the doc fragment ``containers``); None where they are not set."""
        before, after = options["container_before"], options["container"]
        return cls(before or "", after or "") if before or after else None

    def swapped(self) -> Homes:
        """Those of the way back."""
        return Homes(self.after, self.before, (self.pods[1], self.pods[0]))

    def in_before(self, process: Process) -> bool:
        """Whether a daemon is where it was before."""
        return containers.is_in(process, self.before, self.pods[0])

    def in_either(self, process: Process) -> bool:
        """Whether a daemon is in either of the two."""
        return self.in_before(process) or containers.is_in(process, self.after, self.pods[1])


def enter(homes: Homes | None) -> Container | None:
    """The container of the new daemons, None for the host; daemons in both are believed from now on.

    Raises ``Refused`` when one of them does not run.
    """
    if homes is None:
        return None
    before, after = (find() for find in _find(homes))
    trust_in(before)
    trust_in(after)
    return after


def roots(homes: Homes) -> tuple[str, str]:
    """Where the files of the new container are, and those of the one of before; raises ``Refused`` when one does not run."""
    before, after = (find() for find in _find(homes))
    return after.root, before.root


def with_pods(homes: Homes | None) -> Homes | None:
    """The same, with the groups of their pods; raises ``Refused`` when one does not run."""
    if homes is None:
        return None
    before, after = (find() for find in _find(homes))
    if before.pod == after.pod:
        raise Refused(
            f"containers {homes.before[:12]} and {homes.after[:12]} are not of two pods",
            f"both are in the control group {before.pod}",
            "Give the container of the old pod (container_before) and that of the new one (container)",
        )
    return dataclasses.replace(homes, pods=(before.pod, after.pod))


def trust(homes: Homes) -> None:
    """Believe the daemons of those of the two containers that run."""
    for find in _find(homes):
        with contextlib.suppress(Refused):
            trust_in(find())


def trust_in(container: Container) -> None:
    """Believe the daemons of a container, if it runs still."""
    namespace = containers.pin(container)
    if namespace is not None:
        believe(namespace)


def _find(homes: Homes) -> tuple[t.Callable[[], Container], ...]:
    named = zip(_ROLES, (homes.before, homes.after), homes.pods)
    return tuple(functools.partial(_found, *each) for each in named)


def _found(role: str, identifier: str, pod: str) -> Container:
    """See ``containers.find``; a refusal says which of the two it is."""
    try:
        return containers.find(identifier, pod)
    except Refused as error:
        raise Refused(error.what, f"it is {role}: {error.why}", error.hint) from error


def require_shared(container: Container | None, rundir: str) -> None:
    """Raise ``Refused`` unless the container has the host's own run directory, which only root writes to."""
    if container is None:
        return
    seen = real_file(os.path.realpath(rundir), container.root)
    if seen is None or not _same(rundir, seen):
        raise Refused(
            f"container {container.id[:12]} does not have {rundir} of this host",
            "both versions have to find the same sockets and pidfiles there",
            f"Its pod needs a volume of the type hostPath with {rundir}, mounted there",
        )
    doubt = doubt_of_directory(rundir)
    if doubt:
        raise Refused(
            f"{rundir} is not root's alone",
            f"{doubt}; the new daemon's files would be in it",
            "Open vSwitch in containers has to run as root",
        )


def require_database(container: Container | None, server: Process, argv: t.Sequence[str]) -> None:
    """Raise ``Refused`` unless the container sees the very files that ovsdb-server (its process and command line) serves."""
    if container is None:
        return
    files = [word for word in argv[1:] if word.startswith("/")] or [DATABASE_FILE]
    for path in files:
        places = (f"/proc/{server.pid}/root", container.root)
        served, seen = (real_file(path, root) for root in places)
        if served is None or seen is None or not _same(served, seen):
            raise Refused(
                f"container {container.id[:12]} does not have the database {path} of the running ovsdb-server",
                "a new one there would serve another file, or none",
                "Its pod needs the same volume there as the old one",
            )


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def root_of(container: Container | None) -> str:
    """Where the files of its programs are."""
    return "/" if container is None else container.root


def inside(container: Container | None, argv: t.Sequence[str]) -> list[str]:
    """The command that runs ``argv`` where its programs are."""
    return list(argv) if container is None else container.inside(argv)


def runner_in(container: Container | None, runner: Runner = run) -> Runner:
    """A runner whose commands are those of the container."""

    def entered(argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        return runner(inside(container, argv), timeout)

    return entered
