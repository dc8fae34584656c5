# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The two daemons of Open vSwitch: which process, which version, whose hands they are in.

``root`` is where /proc and the binaries are looked for, so that tests bring a host in a folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl, read_pid
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Runner, run
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.containers import Container
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    MOST_SHOWN,
    Process,
    alive,
    identify,
    is_variant,
    kill,
    threads,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.trust import (
    DELETED,
    KEPT,
    doubt_of_daemon,
    doubt_of_file,
    elsewhere,
    owner_of,
    program_of,
    real_file,
    user_name,
    user_of,
)

VSWITCHD = "ovs-vswitchd"
OVSDB_SERVER = "ovsdb-server"

# Where packages put the binaries; on Debian /usr/sbin/ovs-vswitchd leads to one of several builds.
_BINARY_FOLDERS = ("usr/local/sbin", "usr/sbin", "sbin", "usr/local/bin", "usr/bin", "opt/openvswitch/sbin")
_VERSION = re.compile(r"(?:\(Open vSwitch\)|^ovn-controller) ([\w.+~:-]{1,64})")
_REVALIDATOR = "revalidator"
_CONTAINER = re.compile(r"(?:docker|libpod|crio|containerd|nerdctl|kubepods|lxc|machine\.slice)[-/:.]")


@dataclasses.dataclass(frozen=True)
class Supervisor:
    """Who would act if the daemon ended.

    ``kind`` is the first that holds: container (``cgroup`` of a container runtime, or a mount namespace
    that is not ours), monitor (``--monitor``: ``monitor_pid`` is its parent and restarts it), systemd
    (``unit`` has it as main process), plain (nobody).
    """

    kind: str
    unit: str | None
    monitor_pid: int | None
    cgroup: str | None


@dataclasses.dataclass(frozen=True)
class Daemon:
    """One daemon; what only a running one has is None otherwise.

    ``binary`` is the file that the next start would execute (of one in a container: as it is called there; nothing of
    it is executed); ``binary_replaced`` means that the running process was started from another one (upgraded or removed
    since).  ``doubt`` is why the process of the pidfile is not taken for the daemon.
    """

    name: str
    pidfile: str
    process: Process | None
    user: str | None
    running_version: str | None
    disk_version: str | None
    binary: str | None
    binary_replaced: bool
    supervisor: Supervisor | None
    doubt: str | None = None

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None

    @property
    def identity(self) -> str | None:
        """Process id and start time: changes exactly when another process takes over."""
        return f"{self.process.pid}-{self.process.started}" if self.process else None

    @property
    def installed(self) -> bool:
        """Whether there is a binary to start."""
        return self.binary is not None

    @property
    def upgrade_pending(self) -> bool:
        """Whether a restart would run something else than what runs now."""
        if not self.running or not self.installed:
            return False
        return self.binary_replaced or None not in self._versions and len(set(self._versions)) > 1

    @property
    def _versions(self) -> tuple[str | None, str | None]:
        return self.running_version, self.disk_version


def inspect(
    name: str,
    rundir: str,
    timeout: float = 10.0,
    root: str = "/",
    runner: Runner = run,
    control: t.Callable[[str, float], Appctl] = Appctl,
    home: Container | None = None,
) -> Daemon:
    """Look at the daemon ``name`` whose pidfile is in ``rundir``; ``timeout`` (seconds) is for its answer.

    With a ``home``, what is on the disk is what that container has, and a daemon that is not in it is to be replaced.
    Never fails because a daemon is stopped or not installed.
    """
    pidfile = os.path.join(rundir, f"{name}.pid")
    process, doubt = _find(name, rundir, pidfile, root)
    running_version = _answer(name, rundir, process, timeout, control) if process else None
    contained = bool(process and elsewhere(process.pid, root))
    if (
        process
        and contained
        and running_version is None
        and not is_variant(_read(root, process.pid, "comm").strip(), name)
    ):
        # A stale pidfile whose number a process in a container has got since.
        doubt, process = f"process {process.pid} is another program, in namespaces of its own", None
    started_from = program_of(process.pid, root) if process else ""
    binary = started_from.removesuffix(DELETED) if contained else _binary(name, started_from, root)
    disk_version = _disk_version(binary, runner) if binary and not contained else None
    replaced = started_from.endswith(DELETED) or started_from.startswith(KEPT)
    if home is not None:
        binary, disk_version = _in_container(name, home, runner)
        replaced = process is not None and not home.holds(process)
    user = user_of(process.pid, root) if process else None
    return Daemon(
        name=name,
        pidfile=pidfile,
        process=process,
        user=None if user is None else user_name(user),
        running_version=running_version,
        disk_version=disk_version,
        binary=binary or None,
        binary_replaced=replaced,
        supervisor=_supervisor(name, process, root, runner) if process else None,
        doubt=doubt,
    )


def parse_version(text: str) -> str | None:
    """``3.5.0`` out of what ``--version`` and ``ovs-appctl version`` print, None if it is not there."""
    found = _VERSION.search(text)
    return found.group(1) if found else None


def _find(name: str, rundir: str, pidfile: str, root: str) -> tuple[Process | None, str | None]:
    """The process of the pidfile if it is this daemon, or why it is not taken for it.

    One in a container is taken for it: nothing of it is executed, and no hand-over touches it.
    """
    try:
        process = identify(read_pid(pidfile), root)
    except Unreachable as error:
        return None, error.why if os.path.lexists(pidfile) else None
    if process is None:
        return None, None
    if not elsewhere(process.pid, root):
        doubt = doubt_of_daemon(process.pid, name, owner_of(rundir), root)
        if doubt:
            return None, doubt
    # Whatever was looked at was this very process's.
    return (process, None) if alive(process, root) else (None, None)


def _answer(
    name: str, rundir: str, process: Process, timeout: float, control: t.Callable[[str, float], Appctl]
) -> str | None:
    socket = os.path.join(rundir, f"{name}.{process.pid}.ctl")
    try:
        return parse_version(control(socket, timeout).call("version"))
    except HotUpgradeError:
        return None


def takes_upcalls(vswitchd: Process, control: Appctl, root: str = "/") -> bool:
    """Whether an ovs-vswitchd keeps megaflows; one with ``flow-restore-wait`` does not.  Raises ``Unreachable``.

    The threads that do are there then (udpif_start_threads of ofproto/ofproto-dpif-upcall.c).  ``upcall/show`` tells it, too, but
    ends the daemon while they are not (up to 2.13.6, 2.14.4, 2.15.3 and 2.16.2, "Fix n_revalidators on upcall show").
    """
    kept = any(name.startswith(_REVALIDATOR) for name in threads(vswitchd.pid, root))
    control.call("version")  # after the look: by now it has also done what it was about to do then
    return kept


def on_disk(name: str, root: str = "/") -> str | None:
    """The file that starting ``name`` would execute, None when it is not installed, or not by root alone."""
    paths = (os.path.join(folder, name) for folder in _BINARY_FOLDERS)
    return next((os.path.join(root, path) for path in paths if _executable(f"/{path}", root)), None)


def called_in(name: str, home: Container) -> str | None:
    """The program that starting ``name`` in the container would execute, as it is called there; see ``on_disk``."""
    path = on_disk(name, home.root)
    return None if path is None else path.removeprefix(home.root)


def _in_container(name: str, home: Container, runner: Runner) -> tuple[str | None, str | None]:
    """The program as it is called in the container, and its version."""
    called = called_in(name, home)
    if called is None:
        return None, None
    try:
        return called, parse_version(runner(home.inside([called, "--version"])).out)
    except HotUpgradeError:
        return called, None


def _binary(name: str, started_from: str, root: str) -> str | None:
    path = started_from.removesuffix(DELETED)
    if path and not path.startswith(KEPT) and _executable(path, root):
        return os.path.join(root, path.lstrip("/"))
    return on_disk(name, root)


def _executable(path: str, root: str) -> bool:
    found = real_file(path, root)
    return found is not None and os.access(found, os.X_OK) and doubt_of_file(path, root) is None


def _disk_version(binary: str, runner: Runner) -> str | None:
    try:
        return parse_version(runner([binary, "--version"]).out)
    except HotUpgradeError:
        return None


def _supervisor(name: str, process: Process, root: str, runner: Runner) -> Supervisor:
    cgroup = _cgroup(_read(root, process.pid, "cgroup"))
    monitor = _monitor(name, process, root)
    # Not a unit of the same name that a user's own service manager has.
    own = cgroup and "/user@" not in cgroup
    unit = os.path.basename(cgroup) if cgroup and own and cgroup.endswith(".service") else None
    if _CONTAINER.search(cgroup or "") or elsewhere(process.pid, root):
        kind = "container"
    elif monitor is not None:
        kind = "monitor"
    elif unit and _owns(unit, name, process, root, runner):
        kind = "systemd"
    else:
        kind = "plain"
    return Supervisor(kind, unit, monitor, cgroup)


def _owns(unit: str, name: str, process: Process, root: str, runner: Runner) -> bool:
    main = _main_pid(unit, root, runner)
    # 0: of several processes systemd could not guess the main one (GuessMainPID=, systemd.service(5)).
    return main == process.pid or (main == 0 and unit == f"{name}.service")


def _cgroup(text: str) -> str | None:
    """The path in systemd's hierarchy, or the unified one: cgroups(7), ``ID:CONTROLLERS:PATH`` a line."""
    lines = (line.split(":", 2) for line in text.splitlines())
    paths = {fields[1]: fields[2] for fields in lines if len(fields) == 3}
    return paths.get("name=systemd") or paths.get("")


def _monitor(name: str, process: Process, root: str) -> int | None:
    """The parent if it is the daemon's monitor: lib/daemon-unix.c has it say so in its command line."""
    found = re.search(r"^PPid:\s+(\d+)", _read(root, process.pid, "status"), re.MULTILINE)
    parent = int(found.group(1)) if found else 0
    title = _read(root, parent, "cmdline") if parent > 1 else ""
    return parent if title.startswith(f"{name}: monitoring pid") else None


def _main_pid(unit: str, root: str, runner: Runner) -> int | None:
    if not os.path.isdir(os.path.join(root, "run/systemd/system")):
        return None
    answer = runner(["systemctl", "show", "--property=MainPID", "--value", "--", unit]).out.strip()
    return int(answer) if answer.isdigit() else None


def _read(root: str, pid: int, file: str) -> str:
    """A file of /proc/PID; empty when the process has ended meanwhile."""
    try:
        with open(os.path.join(root, "proc", str(pid), file), encoding="utf-8", errors="replace") as content:
            return content.read(MOST_SHOWN)
    except OSError:
        return ""


def kill_daemon(name: str, process: Process, rundir: str) -> None:
    """SIGKILL the daemon ``name``, and remove the control socket in ``rundir`` that it could not remove itself.

    Raises ``HotUpgradeError`` when it survives.
    """
    kill(process)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(rundir, f"{name}.{process.pid}.ctl"))
