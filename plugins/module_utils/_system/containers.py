# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Containers of this host, by their id: their processes, their files, and programs that run in them.

A container is what its first process has: control groups, and a mount namespace.  Whoever names one to us trusts its image;
what root runs of it must be root's there, as on the host itself (docs/security.md).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused, Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import cgroups, likeness
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
    alive,
    identify,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.trust import user_of

# What containerd, CRI-O and Docker call a container: 64 hexadecimal digits.  The group of one is called so, or, below systemd,
# like cri-containerd-ID.scope.
ID = re.compile(r"[0-9a-f]{64}")
_GROUP = re.compile(r"(?:[a-z-]+-)?([0-9a-f]{64})(?:\.scope)?")
# Namespaces that a container may have of its own; those of the network and of processes have to be the host's.
_OWN = ("ipc", "uts", "mnt")
_SHARED = ("net", "pid", "user")
# What its runtime has set for it, and not for one of its processes.
_OF_RUNTIME = ("oom_score_adj",)


@dataclasses.dataclass(frozen=True)
class Container:
    """``first`` is its first process, by which it is entered; ``places`` are its control groups."""

    id: str
    first: Process
    places: dict[str, str]

    @property
    def root(self) -> str:
        """Where its files are; raises ``Unreachable`` when it has ended: the number may be another process's by now."""
        self._require_running()
        return f"/proc/{self.first.pid}/root"

    def _require_running(self) -> None:
        if not alive(self.first):
            raise _ended(self.id)

    @property
    def pod(self) -> str:
        """What the group of its pod is called: one that is started in its place is there, too."""
        return _pod_of(self.first)

    @property
    def namespaces(self) -> dict[str, str]:
        """Those of its namespaces that are not ours; raises ``Unreachable`` when it has ended."""
        try:
            found = {name: _namespace(self.first.pid, name) for name in _OWN}
        except OSError as error:
            raise _ended(self.id) from error
        return {name: identity for name, identity in found.items() if identity != _namespace("self", name)}

    def inside(self, argv: t.Sequence[str]) -> list[str]:
        """The command that runs ``argv`` with the files of the container, in our control groups (nsenter(1)).

        Raises ``Unreachable`` when it has ended.
        """
        self._require_running()
        return ["nsenter", f"--mount=/proc/{self.first.pid}/ns/mnt", "--", *argv]

    def holds(self, process: Process) -> bool:
        """Whether the process is in its control groups."""
        return self.id in _containers(process)

    def like(self, daemon: likeness.Likeness) -> likeness.Likeness:
        """A daemon of the container: as ``daemon`` was started, with what the container has given to its first process.

        Raises ``Unreachable`` when it has ended.
        """
        try:
            first = likeness.read(self.first.pid)
        except (OSError, KeyError) as error:
            raise _ended(self.id) from error
        files = {**daemon.files, **{name: first.files[name] for name in _OF_RUNTIME if name in first.files}}
        return dataclasses.replace(
            daemon,
            files=files,
            namespaces={**first.namespaces, **self.namespaces},
            bounding=first.bounding,
            label=first.label,
            seccomp=first.seccomp,
            cwd="/",
            streams=(None,) * 3,
        )


def find(identifier: str, pod: str = "") -> Container:
    """The container with that id, or what has been started in its place in the group ``pod`` since (see ``Container.pod``).

    Raises ``Refused`` for a name that is no id, and for a container that does not run, or that no hand-over can go into.
    """
    if not ID.fullmatch(identifier):
        raise Refused(
            f"{identifier!r} is no container",
            "an id has 64 hexadecimal digits",
            "Give what kubectl shows as containerID, without containerd:// before it",
        )
    members = list(_members(identifier)) or _successor(pod)
    if not members:
        raise Refused(
            f"container {identifier[:12]} does not run on this host",
            "no process is in a control group of that name",
            "Look for its pod: is it on this node, and Running?",
        )
    first = min(members, key=lambda process: process.started)
    alien = [name for name in _SHARED if _namespace(first.pid, name) != _namespace("self", name)]
    if alien:
        raise Refused(
            f"container {identifier[:12]} cannot have Open vSwitch of this host",
            f"it has namespaces of its own: {', '.join(alien)}",
            "Its pod needs hostNetwork and hostPID, and no user namespace",
        )
    return Container(holding(first) or identifier, first, cgroups.places(first.pid))


def _successor(pod: str) -> list[Process]:
    """The processes of the newest container of a pod: kubelet starts one in the place of one that has ended."""
    by_container: dict[str, list[Process]] = {}
    for process in _processes() if pod else ():
        found = holding(process)
        if found and _pod_of(process) == pod:
            by_container.setdefault(found, []).append(process)
    # The first one of a pod holds its namespaces, and has no program of ours.
    newest = sorted(by_container.values(), key=lambda members: min(each.started for each in members))
    return newest[-1] if len(newest) > 1 else []


def is_in(process: Process, identifier: str, pod: str) -> bool:
    """Whether a process is in the container, or in what has been started in its place."""
    return holding(process) == identifier or (bool(pod) and _pod_of(process) == pod)


def _pod_of(process: Process) -> str:
    """The group that the groups of a pod's containers are in, by its own name; empty where there is none."""
    container = holding(process)
    if container is None:
        return ""
    paths = (path for path in cgroups.places(process.pid).values() if container in os.path.basename(path))
    return next((os.path.basename(os.path.dirname(path)) for path in paths), "")


def holding(process: Process) -> str | None:
    """The id of the container that a process is in, None where there is none."""
    return next(iter(_containers(process)), None)


def _containers(process: Process) -> list[str]:
    """The containers in whose very groups the process is, by any hierarchy.

    Whoever may make groups of his own, in a container or as a user of this host, may give them any name: below a container
    it counts as what it is in, and only processes of root count at all.
    """
    if user_of(process.pid) != 0:
        return []
    found = []
    for path in cgroups.places(process.pid).values():
        group = _GROUP.fullmatch(os.path.basename(path))
        if group and len(ID.findall(path)) == 1:
            found.append(group.group(1))
    return found


def _members(identifier: str) -> t.Iterator[Process]:
    """Every process that is in the very groups of the container: what it has below them is its own affair."""
    for process in _processes():
        if identifier in _containers(process) and alive(process):
            yield process


def _processes() -> t.Iterator[Process]:
    for number in map(int, filter(str.isdigit, os.listdir("/proc"))):
        process = identify(number)
        if process is not None:
            yield process


def _namespace(pid: int | str, name: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{name}")


def _ended(identifier: str) -> Unreachable:
    return Unreachable(
        f"container {identifier[:12]} does not run", "its first process has ended", "Look at its pod"
    )


def mount_namespace(container: Container) -> str:
    """What tells whose files a process sees; empty when the container has ended."""
    with contextlib.suppress(OSError):
        found = _namespace(container.first.pid, "mnt")
        # Whatever was read was this very process's.
        if alive(container.first):
            return found
    return ""
