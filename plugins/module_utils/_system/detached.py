# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Programs that outlive Ansible: started detached now, after N seconds, or at the next boot.

Under systemd they are transient units with a cgroup of their own: neither sshd, nor Ansible's
clean-up, nor the end of the controller reaches them.  Elsewhere a process leaves the session
(double fork, setsid).  ``launcher()`` chooses; both kinds keep a record in ``/run/ovsops``.

A program that ends in any other way than with exit status 0 is started again after a second, whoever has killed it;
with status 2, Python's word for a program that is not there, it is not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.clock import Moment
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.files import (
    sync_directory,
    write_durable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import TimedOut, Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Runner, check, run
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
    alive,
    identify,
    shown,
    terminate,
)

RUN_DIRECTORY = "run/ovsops"
UNIT_DIRECTORY = "etc/systemd/system"
_UNIT_PATHS = (UNIT_DIRECTORY, "run/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")

# Sleeps by the monotonic clock, then becomes the keeper. Passed with -c: no file that anybody could delete.
_SLEEPER = "import os, sys, time; time.sleep(float(sys.argv[1])); os.execv(sys.argv[2], sys.argv[2:])"

# A process in execve(2) shows no command line for a moment, and no event tells when it does.
_BECOMING = Waiter(0.5, 0.005)

# Python says so when its program is not there (any more).
_GONE = 2
_PAUSE = 1

# How systemd starts a program again: also one that was asked to end, but not by systemd.
_RESTART = (
    "Restart=on-failure",
    f"RestartSec={_PAUSE}s",
    "RestartForceExitStatus=SIGTERM",
    f"RestartPreventExitStatus={_GONE}",
    "StartLimitIntervalSec=0",
)

# Starts the program, and again as long as it fails; asked to end, it ends the program and all that this has started in
# its group. Its last act is to remove the record.
_KEEPER = f"""
import os, signal, sys, time
record, argv = sys.argv[1], sys.argv[2:]
os.setpgid(0, 0)
def end(number, frame):
    signal.signal(number, signal.SIG_IGN)
    os.killpg(0, number)
    try:
        os.waitpid(-1, 0)
    except ChildProcessError:
        pass
    os._exit(0)
signal.signal(signal.SIGTERM, end)
while True:
    child = os.fork()
    if not child:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.execv(argv[0], argv)
        finally:
            os._exit({_GONE})
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) in (0, {_GONE}):
        break
    time.sleep({_PAUSE})
try:
    os.unlink(record)
except FileNotFoundError:
    pass
"""


@dataclasses.dataclass(frozen=True)
class Armed:
    """A program that waits for its time, the moment ``due``; ``by`` is systemd or watcher."""

    seconds: float
    due: Moment
    by: str

    @classmethod
    def from_now(cls, seconds: float, by: str) -> Armed:
        """One whose time comes in ``seconds``."""
        now = Moment.now()
        return cls(seconds, Moment(now.boot, now.at + seconds), by)

    @property
    def expires(self) -> float:
        """When its time comes, in Unix seconds by the wall clock of now."""
        return time.time() + self.due.at - Moment.now().at


class Launcher(t.Protocol):
    """Starts programs that outlive the caller, each with a name (letters, digits, '-') of its own."""

    @property
    def kind(self) -> str:
        """``systemd`` or ``watcher``."""

    def start(self, name: str, argv: t.Sequence[str]) -> None:
        """Start ``argv`` now, detached.  Raises ``Refused`` while one of this name runs or waits."""

    def arm(self, name: str, seconds: float, argv: t.Sequence[str]) -> Armed:
        """Start ``argv`` in ``seconds``.  Raises ``Refused`` while one of this name runs or waits."""

    def armed(self, name: str) -> Armed | None:
        """What waits under this name; None when there is nothing, or when it has been started."""

    def running(self, name: str) -> bool:
        """Whether the program of this name was started and has not ended."""

    def disarm(self, name: str) -> None:
        """End what waits or runs under this name; nothing there is fine."""


def launcher(root: str = "/", runner: Runner = run) -> Launcher:
    """The launcher for this host: systemd when it is the running init (sd_booted(3)), else a watcher."""
    if os.path.isdir(os.path.join(root, "run/systemd/system")):
        return SystemdLauncher(root, runner)
    return WatcherLauncher(root)


@dataclasses.dataclass(frozen=True)
class SystemdLauncher:
    """Transient units ``ovsops-NAME.service`` and ``.timer`` (systemd-run(1))."""

    root: str = "/"
    runner: Runner = run
    kind: str = "systemd"

    def start(self, name: str, argv: t.Sequence[str]) -> None:
        """See ``Launcher``."""
        self._vacant(name)
        check(self.runner, [*self._systemd_run(name), *_literal(argv)])

    def arm(self, name: str, seconds: float, argv: t.Sequence[str]) -> Armed:
        """See ``Launcher``."""
        self._vacant(name)
        timing = [f"--on-active={seconds:.3f}s", "--timer-property=AccuracySec=100ms"]
        check(self.runner, [*self._systemd_run(name), *timing, *_literal(argv)])
        return _record(self.root, name, Armed.from_now(seconds, self.kind))

    def armed(self, name: str) -> Armed | None:
        """See ``Launcher``."""
        record = _recorded(self.root, name)
        # The timer stays active while its service runs.
        waits = record and self._active(f"{unit(name)}.timer") and not self.running(name)
        return record[0] if record and waits else None

    def running(self, name: str) -> bool:
        """See ``Launcher``."""
        return self._active(f"{unit(name)}.service")

    def disarm(self, name: str) -> None:
        """See ``Launcher``."""
        # The timer first: stopped second, it could start the service again.
        for suffix in ("timer", "service"):
            self._stop(f"{unit(name)}.{suffix}")
        _forget(self.root, name)

    def _stop(self, full_name: str) -> None:
        """Stop a unit; one that ends by itself at this moment is gone with its name."""
        if not self._active(full_name):
            return
        done = self.runner(["systemctl", "stop", full_name])
        if done.rc and self._active(full_name):
            why = done.err.strip() or f"status {done.rc}"
            raise HotUpgradeError(f"{full_name} does not stop", why, f"Look at journalctl -u {full_name}")

    def _systemd_run(self, name: str) -> list[str]:
        properties = [f"--property={text}" for text in ("OOMScoreAdjust=-900", *_RESTART)]
        return ["systemd-run", "--quiet", "--collect", *properties, f"--unit={unit(name)}"]

    def _active(self, full_name: str) -> bool:
        return self.runner(["systemctl", "is-active", full_name]).out.strip() in ("active", "activating")

    def _vacant(self, name: str) -> None:
        if self._active(f"{unit(name)}.timer") or self.running(name):
            raise _occupied(name, f"'systemctl status {unit(name)}.timer {unit(name)}.service' shows it")


@dataclasses.dataclass(frozen=True)
class WatcherLauncher:
    """A keeper of its own session for each name, with the program as its child; its identity is in the record."""

    root: str = "/"
    kind: str = "watcher"

    def start(self, name: str, argv: t.Sequence[str]) -> None:
        """See ``Launcher``."""
        self._vacant(name)
        _record(self.root, name, Armed.from_now(0.0, self.kind), _detach(self._kept(name, argv)))

    def arm(self, name: str, seconds: float, argv: t.Sequence[str]) -> Armed:
        """See ``Launcher``."""
        self._vacant(name)
        kept = self._kept(name, argv)
        process = _detach([sys.executable, "-I", "-S", "-c", _SLEEPER, str(seconds), *kept])
        return _record(self.root, name, Armed.from_now(seconds, self.kind), process)

    def armed(self, name: str) -> Armed | None:
        """See ``Launcher``."""
        record = _recorded(self.root, name)
        return record[0] if record and _alive(record[1]) and self._sleeps(record[1]) else None

    def running(self, name: str) -> bool:
        """See ``Launcher``."""
        record = _recorded(self.root, name)
        return bool(record and _alive(record[1]) and not self._sleeps(record[1]))

    def disarm(self, name: str) -> None:
        """See ``Launcher``."""
        record = _recorded(self.root, name)
        process = record[1] if record else None
        if process and not terminate(process) and not self._kill(process):
            raise HotUpgradeError(
                f"process {process.pid} of {name} does not end",
                "it survived SIGKILL for 5 s",
                "It waits in the kernel: look at its state in /proc and at dmesg",
            )
        _forget(self.root, name)

    def _kept(self, name: str, argv: t.Sequence[str]) -> list[str]:
        """The command line of a keeper of ``argv``."""
        return [sys.executable, "-I", "-S", "-c", _KEEPER, record_path(self.root, name), *argv]

    def _kill(self, process: Process) -> bool:
        """End a keeper that has not ended its program."""
        if _alive(process):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        return terminate(process, signal.SIGKILL)

    def _sleeps(self, process: Process | None) -> bool:
        """Whether the process is still the sleeper: it keeps its pid when it becomes the keeper."""
        if process is None:
            return False
        with contextlib.suppress(OSError, TimedOut):
            return _SLEEPER.encode() in _BECOMING.wait(
                "the watcher shows its command line", lambda: _command_line(process.pid), bool
            )
        return False

    def _vacant(self, name: str) -> None:
        record = _recorded(self.root, name)
        if record and record[1] and alive(record[1]):
            raise _occupied(name, f"process {record[1].pid} is it")


@dataclasses.dataclass(frozen=True)
class BootGuard:
    """A program that systemd runs once at the next boot, before ovs-vswitchd, if a power cut got in between.

    It does not run in the boot that installed it, whoever starts ovs-vswitchd or reloads systemd: a marker in
    /run, which no boot survives, holds it back.
    """

    name: str
    root: str = "/"

    @property
    def unit_file(self) -> str:
        """The unit's path."""
        return os.path.join(self.root, UNIT_DIRECTORY, f"{unit(self.name)}-boot.service")

    @property
    def files(self) -> tuple[str, ...]:
        """All that ``install`` makes; a guard program removes them itself when it has done its work."""
        wants = [
            os.path.join(self.root, UNIT_DIRECTORY, f"{target}.wants", os.path.basename(self.unit_file))
            for target in ("ovs-vswitchd.service", "multi-user.target")
        ]
        return (*wants, self.unit_file, self._marker)

    @property
    def _marker(self) -> str:
        return os.path.join(self.root, RUN_DIRECTORY, f"{self.name}.this-boot")

    def installed(self) -> bool:
        """Whether the program will run at the next boot."""
        return os.path.exists(self.unit_file)

    def install(self, description: str, argv: t.Sequence[str]) -> None:
        """Have ``argv`` run at the next boot; on disk (fsync) when this returns.

        The program must end by itself and may be started again after 5 s if it fails.
        """
        write_private(self._marker, b"")
        write_durable(self.unit_file, self._unit(description, argv).encode(), 0o644)
        units = [os.path.join(self.root, path, "ovs-vswitchd.service") for path in _UNIT_PATHS]
        wants = self.files[0 if any(map(os.path.exists, units)) else 1]
        os.makedirs(os.path.dirname(wants), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.symlink(f"../{os.path.basename(self.unit_file)}", wants)
        sync_directory(os.path.dirname(wants))
        sync_directory(os.path.dirname(os.path.dirname(wants)))

    def remove(self) -> None:
        """Take it away; nothing there is fine."""
        for path in self.files:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            if os.path.dirname(path).endswith(".wants"):
                # install() may have made it; one that is not empty is somebody else's.
                with contextlib.suppress(OSError):
                    os.rmdir(os.path.dirname(path))

    def _unit(self, description: str, argv: t.Sequence[str]) -> str:
        # A systemd that has the unit in memory still skips it after remove(): the first condition.
        return f"""# Written by ovsops.hot_upgrade; removed by it when the work is done.
[Unit]
Description={description.replace("%", "%%")}
DefaultDependencies=no
RequiresMountsFor=/var/lib
After=local-fs.target ovsdb-server.service
Before=ovs-vswitchd.service shutdown.target
Conflicts=shutdown.target
ConditionPathExists={_unit_path(self.unit_file)}
ConditionPathExists=!{_unit_path(self._marker)}

[Service]
Type=oneshot
ExecStart={" ".join(_unit_word(word) for word in argv)}
TimeoutStartSec=60
Restart=on-failure
RestartSec=5
"""


def unit(name: str) -> str:
    """The unit name (without suffix) of ``name``."""
    if not re.fullmatch(r"[A-Za-z0-9-]{1,100}", name):
        raise ValueError(f"{name!r} cannot be part of a unit name")
    return f"ovsops-{name}"


def write_private(path: str, content: bytes) -> None:
    """``write_durable`` with mode 0600, into a directory that is made with 0700."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    write_durable(path, content)


def _literal(argv: t.Sequence[str]) -> list[str]:
    """``argv`` for systemd-run, which expands $VARIABLE in it."""
    return [word.replace("$", "$$") for word in argv]


def _unit_word(word: str) -> str:
    """One word of ExecStart= (systemd.syntax(7), systemd.service(5))."""
    for special, escaped in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$"), ("\n", "\\n")):
        word = word.replace(special, escaped)
    return f'"{word}"'


def _unit_path(path: str) -> str:
    return path.replace("%", "%%")


def _occupied(name: str, hint: str) -> Refused:
    return Refused(f"{unit(name)} is armed or at work already", hint, "Let it end or disarm it first")


def record_path(root: str, name: str) -> str:
    """The file that describes what waits or runs under ``name``."""
    return os.path.join(root, RUN_DIRECTORY, f"{name}.armed")


def _record(root: str, name: str, armed: Armed, process: Process | None = None) -> Armed:
    content = {**dataclasses.asdict(armed), "process": dataclasses.astuple(process) if process else None}
    write_private(record_path(root, name), json.dumps(content).encode())
    return armed


def _recorded(root: str, name: str) -> tuple[Armed, Process | None] | None:
    try:
        with open(record_path(root, name), "rb") as file:
            content = json.load(file)
    except FileNotFoundError:
        return None
    process, due = content.pop("process"), content.pop("due")
    return Armed(due=Moment(**due), **content), Process(*process) if process else None


def _forget(root: str, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(record_path(root, name))


def _alive(process: Process | None) -> bool:
    return process is not None and alive(process)


# Leaves the session, tells its pid, becomes the program: with only these streams open nothing ties it to us.
_DETACHER = """
import os, sys
os.setsid()
if os.fork():
    os._exit(0)
os.write(1, b"%d" % os.getpid())
null = os.open(os.devnull, os.O_RDWR)
for stream in (0, 1, 2):
    os.dup2(null, stream)
os.chdir("/")
os.execv(sys.argv[1], sys.argv[1:])
"""


def _command_line(pid: int) -> list[bytes]:
    """Its words; none while the kernel shows none.  Raises ``OSError`` when it has ended."""
    return shown(pid, "cmdline").split(b"\0")[:-1]


def _detach(argv: t.Sequence[str]) -> Process:
    """Start ``argv`` in a session of its own, as a child of init."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _DETACHER, *argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=30,
    )
    process = identify(int(done.stdout))
    if process is None:
        raise HotUpgradeError(
            f"{argv[0]} ended at once", "it was started detached and is gone", "Run it by hand to see why"
        )
    return process
