# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Containers of this host, by their id: their processes, their files, and programs that run in them.

A container is what its first process has: control groups, and a mount namespace.  Whoever names one to us trusts its image;
what root runs of it must be root's there, as on the host itself (docs/security.md).
"""

from __future__ import annotations

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
# like cri-containerd-ID.scope; CRI-O has one for the program that watches it, too.
ID = re.compile(r"[0-9a-f]{64}")
_GROUP = re.compile(r"(?:(?![a-z-]*conmon)[a-z-]+-)?([0-9a-f]{64})(?:\.scope)?")
# Below the service manager of a user the groups are his, with all that he puts there: a sudo of his is of root.
_OF_USER = re.compile(r"/user@(?!0\.)")
# What crun has below it.
_BELOW = "/container"
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
        """The path of its pod's group: one that is started in its place is there, too."""
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
        # By the descriptor: until nsenter looks, the number may be a process of anybody's, with files of his.
        return ["nsenter", f"--mount=/proc/{os.getpid()}/fd/{_pinned(self)}", "--", *argv]

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
        namespaces = {**first.namespaces, **self.namespaces}
        self._require_running()  # or it was another process that was read
        return dataclasses.replace(
            daemon,
            files=files,
            namespaces=namespaces,
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
        raise _not_here(identifier)
    first = min(members, key=lambda process: (process.started, process.pid))
    try:
        alien = [name for name in _SHARED if _namespace(first.pid, name) != _namespace("self", name)]
    except OSError as error:  # it has ended meanwhile
        raise _not_here(identifier) from error
    if alien:
        raise Refused(
            f"container {identifier[:12]} cannot have Open vSwitch of this host",
            f"it has namespaces of its own: {', '.join(alien)}",
            "Its pod needs hostNetwork and hostPID, and no user namespace",
        )
    return Container(holding(first) or identifier, first, cgroups.places(first.pid))


def _not_here(identifier: str) -> Refused:
    return Refused(
        f"container {identifier[:12]} does not run on this host",
        "no process of root is in a control group of that name",
        "Look for its pod: is it on this node, and Running, and does its program run as root?",
    )


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
    """The path of the group that the groups of a pod's containers are in; empty where there is none."""
    container = holding(process)
    if container is None:
        return ""
    paths = (path for path in _paths(process) if container in os.path.basename(path))
    return next((os.path.dirname(path) for path in paths), "")


def _paths(process: Process) -> list[str]:
    return [path.removesuffix(_BELOW) for path in cgroups.places(process.pid).values()]


def holding(process: Process) -> str | None:
    """The id of the container that a process is in, None where there is none."""
    return next(iter(_containers(process)), None)


def _containers(process: Process) -> list[str]:
    """The containers in whose very groups the process is, by any hierarchy.

    Whoever may make groups of his own, in a container or as a user of this host, may give them any name: below a container,
    or a user's service manager, none of them counts, and only processes of root do.
    """
    if user_of(process.pid) != 0:
        return []
    found = []
    for path in _paths(process):
        group = _GROUP.fullmatch(os.path.basename(path))
        if group and len(ID.findall(path)) == 1 and not _OF_USER.search(path):
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


# The mount namespaces of containers that programs of ours run in, by their first process.
_PINNED: dict[Process, int] = {}


def _pinned(container: Container) -> int:
    """What ``pin`` opens, once for each; raises ``Unreachable`` when it has ended."""
    if container.first not in _PINNED:
        descriptor = pin(container)
        if descriptor is None:
            raise _ended(container.id)
        _PINNED[container.first] = descriptor
    return _PINNED[container.first]


def pin(container: Container) -> int | None:
    """A descriptor of the mount namespace of its processes, None when it has ended.

    As long as it is open, no other namespace gets the same number.
    """
    try:
        descriptor = os.open(f"/proc/{container.first.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    # Whatever was opened was this very process's.
    if alive(container.first):
        return descriptor
    os.close(descriptor)
    return None
