# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The two daemons of Open vSwitch: which process, which version, whose hands they are in.

``root`` is where /proc and the binaries are looked for, so that tests bring a host in a folder.
"""

from __future__ import annotations

import dataclasses
import os
import pwd
import re
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._command import Runner, run
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._errors import HotUpgradeError, Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._process import Process, identify
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._unixctl import Appctl, read_pid

VSWITCHD = "ovs-vswitchd"
OVSDB_SERVER = "ovsdb-server"

# Where packages put the binaries; on Debian /usr/sbin/ovs-vswitchd leads to one of several builds.
_BINARY_FOLDERS = ("usr/local/sbin", "usr/sbin", "sbin", "usr/local/bin", "usr/bin", "opt/openvswitch/sbin")
_DELETED = " (deleted)"
# Where a hand-over that was rolled back keeps the programs of before: they run, but nothing would start them.
_KEPT = "/var/lib/ovsops/"
_VERSION = re.compile(r"\(Open vSwitch\) (\S+)")
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

    ``binary`` is the file that the next start would execute (that of a container as seen from the host);
    ``binary_replaced`` means that the running process was started from another one (upgraded or removed since).
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

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.process is not None

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
) -> Daemon:
    """Look at the daemon ``name`` whose pidfile is in ``rundir``; ``timeout`` (seconds) is for its answer.

    Never fails because a daemon is stopped or not installed.
    """
    pidfile = os.path.join(rundir, f"{name}.pid")
    process, running_version = _find(name, rundir, pidfile, timeout, root, control)
    # A container has files of its own under the same names.
    inside = (
        os.path.join(root, "proc", str(process.pid), "root") if process and _elsewhere(process, root) else ""
    )
    binary = _binary(name, process, root, inside)
    return Daemon(
        name=name,
        pidfile=pidfile,
        process=process,
        user=_user(process, root) if process else None,
        running_version=running_version,
        disk_version=_disk_version(binary, inside, runner) if binary else None,
        binary=binary,
        binary_replaced=bool(process and _replaced(_executable(process, root))),
        supervisor=_supervisor(name, process, root, runner) if process else None,
    )


def parse_version(text: str) -> str | None:
    """``3.5.0`` out of what ``--version`` and ``ovs-appctl version`` print, None if it is not there."""
    found = _VERSION.search(text)
    return found.group(1) if found else None


def _find(
    name: str, rundir: str, pidfile: str, timeout: float, root: str, control: t.Callable[[str, float], Appctl]
) -> tuple[Process | None, str | None]:
    """The process of the pidfile and its version, if it is this daemon: it answers, or has the name."""
    try:
        pid = read_pid(pidfile)
    except Unreachable:
        return None, None
    process = identify(pid, root)
    if process is None:
        return None, None
    try:
        socket = os.path.join(rundir, f"{name}.{pid}.ctl")
        return process, parse_version(control(socket, timeout).call("version"))
    except HotUpgradeError:
        # Silent, or a stale pidfile whose number another process has got since.
        return (process, None) if _read(root, pid, "comm").strip() == name else (None, None)


def on_disk(name: str, root: str = "/") -> str | None:
    """The file that starting ``name`` would execute, None when it is not installed."""
    paths = (os.path.join(root, folder, name) for folder in _BINARY_FOLDERS)
    return next((path for path in paths if os.access(path, os.X_OK)), None)


def _binary(name: str, process: Process | None, root: str, inside: str) -> str | None:
    started_from = _executable(process, root) if process else ""
    if started_from.endswith(_DELETED):
        started_from = started_from[: -len(_DELETED)]
    if started_from.startswith(_KEPT):
        return on_disk(name, root)
    return (
        inside + started_from if os.access(inside + started_from, os.X_OK) else on_disk(name, inside or root)
    )


def _replaced(executable: str) -> bool:
    return executable.endswith(_DELETED) or executable.startswith(_KEPT)


def _executable(process: Process, root: str) -> str:
    try:
        return os.readlink(os.path.join(root, "proc", str(process.pid), "exe"))
    except OSError:
        return ""


def _disk_version(binary: str, inside: str, runner: Runner) -> str | None:
    command = ["chroot", inside, binary[len(inside) :]] if inside else [binary]
    try:
        return parse_version(runner([*command, "--version"]).out)
    except HotUpgradeError:
        return None


def _user(process: Process, root: str) -> str | None:
    found = re.search(r"^Uid:\s+(\d+)", _read(root, process.pid, "status"), re.MULTILINE)
    if not found:
        return None
    try:
        return pwd.getpwuid(int(found.group(1))).pw_name
    except KeyError:
        return found.group(1)


def _supervisor(name: str, process: Process, root: str, runner: Runner) -> Supervisor:
    cgroup = _cgroup(_read(root, process.pid, "cgroup"))
    monitor = _monitor(name, process, root)
    unit = os.path.basename(cgroup) if cgroup and cgroup.endswith(".service") else None
    if _CONTAINER.search(cgroup or "") or _elsewhere(process, root):
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


def _elsewhere(process: Process, root: str) -> bool:
    try:
        theirs = os.readlink(os.path.join(root, "proc", str(process.pid), "ns/mnt"))
        return theirs != os.readlink(os.path.join(root, "proc/self/ns/mnt"))
    except OSError:
        return False


def _main_pid(unit: str, root: str, runner: Runner) -> int | None:
    if not os.path.isdir(os.path.join(root, "run/systemd/system")):
        return None
    answer = runner(["systemctl", "show", "--property=MainPID", "--value", "--", unit]).out.strip()
    return int(answer) if answer.isdigit() else None


def _read(root: str, pid: int, file: str) -> str:
    """A file of /proc/PID; empty when the process has ended meanwhile."""
    try:
        with open(os.path.join(root, "proc", str(pid), file), encoding="utf-8", errors="replace") as content:
            return content.read()
    except OSError:
        return ""
