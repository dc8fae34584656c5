# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""How a daemon is started and ended, and who owns it afterwards: systemd, or nobody.

The Debian and RPM units tie both daemons together, so each job here is run with ``ignore-dependencies``: one
daemon changes and nothing else does.  Without systemd a daemon is started again with the arguments it has.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._command import PATH, check, run
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._daemons import Daemon
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._errors import HotUpgradeError, Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._process import (
    Process,
    alive,
    identify,
    terminate,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ready import readable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._trust import (
    DELETED,
    doubt_of_daemon,
    open_library,
    open_program,
    owner_of,
    trusted_environment,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._unitfile import quoted
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._unixctl import read_pid

# Names that come after those of others: of two drop-ins that set the same, the last name counts, not the folder.
DROP_IN = "zzz-ovsops.conf"
HOLD = "zzz-ovsops-hold.conf"


@dataclasses.dataclass(frozen=True)
class Instance:
    """A running daemon: its identity, and what is needed to start another of its kind."""

    process: Process
    argv: tuple[str, ...]
    environment: dict[str, str]

    @property
    def detached(self) -> tuple[str, ...]:
        """The arguments without those that say how the process leaves its parent and where its pid is."""
        dropped = ("--detach", "--monitor", "--no-chdir", "--pidfile", "--unixctl", "--overwrite-pidfile")
        return tuple(word for word in self.argv[1:] if word.partition("=")[0] not in dropped)


def look(rundir: str, name: str) -> Instance:
    """The daemon ``name`` that the pidfile in ``rundir`` names.  Raises ``Unreachable`` when it does not run."""
    pid = read_pid(os.path.join(rundir, f"{name}.pid"))
    process = identify(pid)
    wrong = doubt_of_daemon(pid, name, owner_of(rundir))
    if process is None or wrong:
        raise Unreachable(f"{name} does not run", wrong or f"process {pid} of its pidfile has ended")
    return inspect(process)


def inspect(process: Process) -> Instance:
    """What a daemon shows of itself, as far as root may rely on it; raises ``Unreachable`` when it has ended."""
    try:
        argv = _words(f"/proc/{process.pid}/cmdline")
        words = _words(f"/proc/{process.pid}/environ")
    except OSError as error:
        raise Unreachable(f"process {process.pid} has ended", error.strerror or str(error)) from error
    shown = dict(word.split("=", 1) for word in words if "=" in word)
    environment = trusted_environment(process.pid, shown)
    if not argv or not alive(process):
        raise Unreachable(f"process {process.pid} has ended", "it was there a moment ago")
    return Instance(process, tuple(argv), environment)


def kill(process: Process, timeout: float = 10.0) -> None:
    """SIGKILL this very process and wait for its end; raises ``HotUpgradeError`` when it survives."""
    if not terminate(process, signal.SIGKILL, timeout):
        raise HotUpgradeError(
            f"process {process.pid} survived SIGKILL for {timeout:g} s",
            "it hangs in the kernel",
            "Look at /proc/PID/stack and at dmesg",
        )


def keep_binary(rundir: str, name: str, directory: str) -> None:
    """Copy the program of a running daemon, and the libraries it uses that were deleted since, to ``directory``.

    /proc/PID/exe and /proc/PID/map_files reach the content although a package upgrade has replaced the files.  What root
    did not install is no part of it (docs/security.md); raises ``Refused`` when the program itself is not.
    """
    process = look(rundir, name).process
    os.makedirs(os.path.join(directory, "lib"), mode=0o700, exist_ok=True)
    _copy(open_program(process.pid, name, owner_of(rundir)), os.path.join(directory, name))
    with open(f"/proc/{process.pid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            fields = line.rstrip("\n").split(None, 5)
            if len(fields) < 6 or not fields[5].endswith(DELETED):
                continue
            library = os.path.basename(fields[5].removesuffix(DELETED))
            copy = os.path.join(directory, "lib", library)
            if ".so" in library and not os.path.exists(copy):
                first, last = (int(address, 16) for address in fields[0].split("-"))
                descriptor = open_library(f"/proc/{process.pid}/map_files/{first:x}-{last:x}", library)
                if descriptor is not None:
                    _copy(descriptor, copy)
                    _link_short_names(copy)


def _copy(descriptor: int, target: str) -> None:
    with open(descriptor, "rb") as source, open(target, "wb") as copy:
        os.fchmod(copy.fileno(), 0o700)
        shutil.copyfileobj(source, copy)


def _link_short_names(library: str) -> None:
    """Programs ask for ``libx.so.0`` and not for ``libx.so.0.0.4`` (the soname, ld.so(8))."""
    directory, name = os.path.split(library)
    stem, __, version = name.partition(".so.")
    parts = version.split(".")
    for count in range(1, len(parts)):
        link = os.path.join(directory, f"{stem}.so.{'.'.join(parts[:count])}")
        if not os.path.lexists(link):
            os.symlink(name, link)


def environment_of(instance: Instance, binaries: str | None) -> dict[str, str]:
    """The environment to start another daemon of this kind; programs in ``binaries`` come first."""
    environment = {**instance.environment}
    environment["PATH"] = PATH if binaries is None else f"{binaries}:{PATH}"
    if binaries is not None and os.listdir(os.path.join(binaries, "lib")):
        environment["LD_LIBRARY_PATH"] = os.path.join(binaries, "lib")
    return environment


@contextlib.contextmanager
def modest(process: Process) -> t.Iterator[None]:
    """Give the main thread of a daemon the lowest priority for a while; its other threads keep theirs.

    Without its database the main loop of ovs-vswitchd spins (seen with 3.5 and 4.0), at the nice value -10 that
    the service gives it: on a host with one CPU nothing else gets on, not even the start of the database.
    """
    before = os.getpriority(os.PRIO_PROCESS, process.pid)
    os.setpriority(os.PRIO_PROCESS, process.pid, 19)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, process.pid, before)


@contextlib.contextmanager
def stopped(process: Process) -> t.Iterator[None]:
    """Have a daemon do nothing at all for a while (SIGSTOP)."""
    _signal(process, signal.SIGSTOP)
    try:
        yield
    finally:
        resume(process)


def resume(process: Process) -> None:
    """Have a daemon go on that was stopped; one that was not stays as it is."""
    _signal(process, signal.SIGCONT)


def forwards_in_main_loop(process: Process) -> bool:
    """Whether this ovs-vswitchd polls ports in its main loop: the userspace datapath without PMD threads (dpif-netdev.c)."""
    names = set()
    for thread in os.listdir(f"/proc/{process.pid}/task"):
        with open(f"/proc/{process.pid}/task/{thread}/comm", encoding="ascii", errors="replace") as file:
            names.add(file.read())
    return not any(name.startswith(("handler", "pmd")) for name in names)


def _signal(process: Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(process.pid)
        try:
            if alive(process):
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


Quiet = t.Callable[[Process], t.ContextManager[None]]


class Supervisor(t.Protocol):
    """Owns a daemon; ``binaries`` is a directory with programs to use instead of the installed ones."""

    def restart(self, old: Instance, binaries: str | None) -> Job:
        """Begin to end ``old`` and to start the daemon; returns at once."""

    def adopt(self, new: Process) -> None:
        """Own ``new`` from the end of the present daemon on; the pidfile must name it by then."""

    def hold(self) -> bool:
        """Restart nothing by itself until ``let_go``, whatever ends; whether ``reload`` has to follow."""

    def let_go(self) -> bool:
        """Undo ``hold``; nothing to undo is fine.  Whether ``reload`` has to follow."""

    @property
    def revives(self) -> bool:
        """Whether it starts the daemon again by itself when that ends."""

    def healthy(self, process: Process) -> str | None:
        """What is wrong with the ownership of ``process``, or None."""


class Job(t.Protocol):
    """A restart under way."""

    def failed(self) -> bool:
        """Whether ``wait`` would raise at once."""

    def wait(self, timeout: float) -> None:
        """Return when it is done; raises ``HotUpgradeError`` when it failed or takes longer."""


@dataclasses.dataclass(frozen=True)
class Systemd:
    """The daemon is a systemd unit.

    With Open vSwitch 4.0 on Debian a socket unit passes ovsdb-server its listening socket.  That cannot be started
    while the service runs, so it is put between the service's stop and start; and stopped where it is left over.
    ``start`` is the command line that starts it while it is held, empty for that of its files (see ``_service_start``).
    """

    unit: str
    name: str
    rundir: str
    start: tuple[str, ...] = ()

    def restart(self, old: Instance, binaries: str | None) -> Job:
        """See ``Supervisor``."""
        self.override(binaries)
        socket = f"{self.name}.socket"
        # The programs of before may not know sockets that are passed to them.
        wanted = binaries is None and self._shown(socket, "LoadState") == ["loaded"]
        verb = "restart"
        active = self._shown(socket, "ActiveState") == ["active"]
        if wanted != active:
            if active:  # first: whoever connects to it starts the service again
                self._job("stop", socket)
            self._job("stop", self.unit)
            if wanted:
                self._job("start", socket)
            verb = "start"
        run(["systemctl", "reset-failed", self.unit])
        return _Command(_start(self._argv(verb, self.unit)), self.unit)

    def override(self, binaries: str | None) -> None:
        """Have the unit use ``binaries`` until the next boot, and its pidfile as the source of the main pid."""
        lines = ["[Service]"]
        if not self._show("PIDFile"):
            lines.append(f"PIDFile={os.path.realpath(self.rundir)}/{self.name}.pid")
        if binaries is not None:
            lines.append(f"Environment=PATH={binaries}:{PATH}")
            if os.listdir(os.path.join(binaries, "lib")):
                lines.append(f"Environment=LD_LIBRARY_PATH={binaries}/lib")
        content = "\n".join([*lines, ""]) if len(lines) > 1 else ""
        if content == self._read_drop_in():
            return
        if content:
            os.makedirs(os.path.dirname(self._drop_in), exist_ok=True)
            with open(self._drop_in, "w", encoding="ascii") as file:
                file.write(content)
        else:
            os.unlink(self._drop_in)
        reload()

    def adopt(self, new: Process) -> None:
        """See ``Supervisor``: systemd reads PIDFile= when the main process ends, so nothing is restarted."""
        self.override(None)
        group = self._show("ControlGroup")
        if group:
            root = "/sys/fs/cgroup"
            base = root if os.path.exists(f"{root}/cgroup.controllers") else f"{root}/systemd"
            with open(f"{base}{group}/cgroup.procs", "w", encoding="ascii") as file:
                file.write(str(new.pid))

    def hold(self) -> bool:
        """See ``Supervisor``: Restart=on-failure would restart the other daemon as well, and lose the flows."""
        if os.path.exists(self._held):
            return False
        lines = ["[Service]", "Restart=no"]
        if self.start:
            lines += ["ExecStart=", f"ExecStart={' '.join(map(quoted, self.start))}"]
        os.makedirs(os.path.dirname(self._held), exist_ok=True)
        with open(self._held, "w", encoding="utf-8") as file:
            file.write("\n".join([*lines, ""]))
        return True

    @property
    def revives(self) -> bool:
        """See ``Supervisor``."""
        return not os.path.exists(self._held) and self._show("Restart") not in ("", "no")

    def let_go(self) -> bool:
        """See ``Supervisor``."""
        if not os.path.exists(self._held):
            return False
        os.unlink(self._held)
        return True

    def healthy(self, process: Process) -> str | None:
        """See ``Supervisor``."""
        state, main = self._shown(self.unit, "ActiveState", "MainPID")
        # 0: systemd could not guess which process of several is the main one, and goes by their cgroup.
        if state == "active" and (main == str(process.pid) or (main == "0" and self._contains(process))):
            return None
        return f"{self.unit} is {state} with main pid {main}, not active with {process.pid}"

    @property
    def socket_user(self) -> str | None:
        """Who owns the socket that a socket unit makes for the daemon; None without such a unit."""
        loaded, user = self._shown(f"{self.name}.socket", "LoadState", "SocketUser")
        return (user or "root") if loaded == "loaded" else None

    def _contains(self, process: Process) -> bool:
        try:
            with open(f"/proc/{process.pid}/cgroup", encoding="utf-8", errors="replace") as file:
                return any(line.rstrip("\n").endswith(f"/{self.unit}") for line in file)
        except OSError:
            return False

    @property
    def _drop_in(self) -> str:
        return f"/run/systemd/system/{self.unit}.d/{DROP_IN}"

    @property
    def _held(self) -> str:
        return f"/run/systemd/system/{self.unit}.d/{HOLD}"

    def _read_drop_in(self) -> str:
        try:
            with open(self._drop_in, encoding="ascii") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def _argv(self, verb: str, unit: str) -> list[str]:
        return ["systemctl", verb, "--job-mode=ignore-dependencies", unit]

    def _job(self, verb: str, unit: str) -> None:
        check(run, self._argv(verb, unit), timeout=120)

    def _show(self, key: str) -> str:
        return self._shown(self.unit, key)[0]

    def _shown(self, unit: str, *keys: str) -> list[str]:
        out = check(run, ["systemctl", "show", "--property", ",".join(keys), unit])
        values = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        return [values.get(key, "") for key in keys]


@dataclasses.dataclass(frozen=True)
class Plain:
    """Nobody owns the daemon: it is started as it was, by ``program`` (its path on the disk)."""

    name: str
    rundir: str
    program: str

    def restart(self, old: Instance, binaries: str | None) -> Job:
        """See ``Supervisor``."""
        if alive(old.process) and not terminate(old.process, signal.SIGTERM, 5.0):
            kill(old.process)
        program = self.program if binaries is None else os.path.join(binaries, self.name)
        arguments = [f"--pidfile={self.rundir}/{self.name}.pid", "--no-chdir", "--detach"]
        if "--monitor" in old.argv:
            arguments.append("--monitor")
        return _Command(
            _start([program, *old.detached, *arguments], environment_of(old, binaries)), self.name
        )

    def adopt(self, new: Process) -> None:
        """See ``Supervisor``."""

    def hold(self) -> bool:
        """See ``Supervisor``."""
        return False

    def let_go(self) -> bool:
        """See ``Supervisor``."""
        return False

    @property
    def revives(self) -> bool:
        """See ``Supervisor``."""
        return False

    def healthy(self, process: Process) -> str | None:
        """See ``Supervisor``."""
        return None if alive(process) else f"process {process.pid} of {self.name} has ended"


@dataclasses.dataclass(frozen=True)
class _Command:
    process: subprocess.Popen[bytes]
    what: str

    def failed(self) -> bool:
        return self.process.poll() not in (None, 0)

    def wait(self, timeout: float) -> None:
        try:
            __, said = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            self.process.kill()
            raise HotUpgradeError(
                f"{self.what} did not start in {timeout:g} s", hint="Look at its log"
            ) from error
        if self.process.returncode != 0:
            why = said.decode(errors="replace").strip() or f"status {self.process.returncode}"
            raise HotUpgradeError(f"{self.what} did not start", why, "Look at its log and at the journal")


def reload() -> None:
    """Have systemd read what ``hold`` and ``let_go`` have written."""
    check(run, ["systemctl", "daemon-reload"], timeout=120)


def supervisor(daemon: Daemon) -> Supervisor:
    """Who owns ``daemon``, which runs."""
    owner = daemon.supervisor
    if daemon.binary is None or owner is None:
        raise Unreachable(f"{daemon.name} does not run", "or it is not installed")
    if owner.kind != "systemd" or owner.unit is None:
        return Plain(daemon.name, os.path.dirname(daemon.pidfile), daemon.binary)
    return Systemd(owner.unit, daemon.name, os.path.dirname(daemon.pidfile))


def spawn(
    argv: t.Sequence[str],
    environment: t.Mapping[str, str],
    log: str,
    prepare: t.Callable[[], None] | None = None,
) -> None:
    """Start a daemon as a child of init, so that a service manager learns of its end; its words go to ``log``.

    ``prepare`` runs in the new process before the program.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        done = subprocess.run(
            ["setsid", "--fork", *argv],
            env=dict(environment),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            umask=0o022,
            preexec_fn=prepare,
            check=False,
        )
    except OSError as error:
        raise HotUpgradeError("cannot run setsid", error.strerror or str(error)) from error
    finally:
        os.close(descriptor)
    if done.returncode != 0:
        raise HotUpgradeError(f"{argv[0]} could not be started", f"setsid ended with {done.returncode}")


def wait_end(process: Process, seconds: float) -> bool:
    """Whether the process ends within ``seconds``; a dead child is reaped by the kernel's caller, not here."""
    end = time.monotonic() + seconds
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        return not alive(process) or bool(readable([descriptor], end - time.monotonic()))
    finally:
        os.close(descriptor)


def wait_gone(pid: int, name: str, seconds: float) -> None:
    """Return when no thread of the process ``pid`` is left, at most ``seconds`` later, if it is a ``name`` at all.

    Its first thread may be a zombie, which counts as ended elsewhere, while others still end.
    """
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            if file.read().strip() != name:
                return
        descriptor = os.pidfd_open(pid)
        try:
            readable([descriptor], seconds)
        finally:
            os.close(descriptor)


def _start(argv: t.Sequence[str], environment: t.Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        list(argv),
        env=None if environment is None else dict(environment),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _words(path: str) -> list[str]:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read().split("\0")[:-1]
