# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""A running daemon, and what is needed to start another of its kind."""

from __future__ import annotations

import dataclasses
import os

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import read_pid
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.hints import SYSTEM_LOG, log_of
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import likeness
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
    alive,
    identify,
    shown,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.trust import (
    KEPT,
    doubt_of_arguments,
    doubt_of_daemon,
    doubt_of_environment,
    owner_of,
    trusted_environment,
)


@dataclasses.dataclass(frozen=True)
class Instance:
    """A running daemon: its identity, and what is needed to start another of its kind.

    ``doubt`` is why root must not start one like that.
    """

    process: Process
    argv: tuple[str, ...]
    environment: dict[str, str]
    doubt: str | None = None

    @property
    def detached(self) -> tuple[str, ...]:
        """The arguments without those that say how the process leaves its parent and where its pid is."""
        dropped = ("--detach", "--monitor", "--no-chdir", "--pidfile", "--unixctl", "--overwrite-pidfile")
        return tuple(word for word in self.argv[1:] if word.partition("=")[0] not in dropped)


def running(rundir: str, name: str) -> Instance:
    """The daemon ``name`` that the pidfile in ``rundir`` names.  Raises ``Unreachable`` when it does not run."""
    pid = read_pid(os.path.join(rundir, f"{name}.pid"))
    process = identify(pid)
    wrong = doubt_of_daemon(pid, name, owner_of(rundir))
    if process is None or wrong:
        raise Unreachable(
            f"{name} does not run", wrong or f"process {pid} of its pidfile has ended", log_of(name)
        )
    return instance_of(process)


def instance_of(process: Process) -> Instance:
    """What a daemon shows of itself, its environment as far as root may pass it on; raises ``Unreachable`` when it has ended."""
    try:
        argv, words = (_words(process.pid, file) for file in ("cmdline", "environ"))
    except OSError as error:
        raise Unreachable(
            f"process {process.pid} has ended", error.strerror or str(error), SYSTEM_LOG
        ) from error
    given = dict(word.split("=", 1) for word in words if "=" in word)
    # One that is somebody else's from its beginning gets a successor that is so, too (``launcher.Task.set_identity``).
    dropped = likeness.drops(argv)
    environment = trusted_environment(process.pid, given) if dropped else given
    doubt = doubt_of_arguments(process.pid, argv[1:]) or doubt_of_environment(process.pid, given)
    # Last of all: whose it is was asked by its number, too, which may be a process of root's by now.
    if not argv or not alive(process):
        raise Unreachable(f"process {process.pid} has ended", "it was there a moment ago", SYSTEM_LOG)
    return Instance(process, tuple(argv), environment, doubt if dropped else None)


def like_of(instance: Instance) -> likeness.Likeness:
    """What the process has that exec keeps.  Raises ``Unreachable`` when it has ended."""
    pid = instance.process.pid
    try:
        like = likeness.read(pid)
    except (OSError, KeyError) as error:
        raise Unreachable(f"{instance.argv[0]} does not run", f"process {pid} is gone", SYSTEM_LOG) from error
    if not alive(instance.process):  # or it was another process that was read
        raise Unreachable(f"{instance.argv[0]} does not run", f"process {pid} is gone", SYSTEM_LOG)
    return like


def environment_of(instance: Instance, binaries: str | None) -> dict[str, str]:
    """The environment to start another daemon of this kind, by a program in ``binaries`` if that is one of ours."""
    environment = {**instance.environment}
    for name in ("PATH", "LD_LIBRARY_PATH"):
        if name in environment:  # of an earlier hand-over that was taken back
            own = [path for path in environment[name].split(":") if not path.startswith(KEPT)]
            environment[name] = ":".join(own)
    libraries = [path for path in (environment.pop("LD_LIBRARY_PATH", ""),) if path]
    if binaries is not None and binaries.startswith(KEPT) and os.listdir(os.path.join(binaries, "lib")):
        libraries.insert(0, os.path.join(binaries, "lib"))
    if libraries:
        environment["LD_LIBRARY_PATH"] = ":".join(libraries)
    return environment


def _words(pid: int, file: str) -> list[str]:
    """Of more than exec(2) takes the beginning alone: whoever passes on so much is refused by it."""
    return shown(pid, file).decode(errors="surrogateescape").split("\0")[:-1]
