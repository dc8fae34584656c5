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
import re
import shutil
import signal
import subprocess
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.files import write_durable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.polling import readable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import read_pid
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import Daemon
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import cgroups, likeness
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import launch as _launch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import PATH, check, run
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
    alive,
    comm,
    identify,
    is_variant,
    terminate,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.trust import (
    DELETED,
    KEPT,
    doubt_of_arguments,
    doubt_of_daemon,
    doubt_of_environment,
    open_library,
    open_program,
    owner_of,
    trusted_environment,
)

# Names that come after those of others: of two drop-ins that set the same, the last name counts, not the folder.
DROP_IN = "zzz-ovsops.conf"
HOLD = "zzz-ovsops-hold.conf"
_CAP_SYS_NICE = 23
# A PATH that means the same in a unit file.
_PLAIN = re.compile(r"[\w/:.+-]+")
# Where a unit finds its next main process meanwhile.
MAIN = "/run/ovsops"

# How long the kernel may need to close what a process had open, in seconds: with thousands of ports more than ten.
KILLED_TIMEOUT = 60.0


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


def look(rundir: str, name: str) -> Instance:
    """The daemon ``name`` that the pidfile in ``rundir`` names.  Raises ``Unreachable`` when it does not run."""
    pid = read_pid(os.path.join(rundir, f"{name}.pid"))
    process = identify(pid)
    wrong = doubt_of_daemon(pid, name, owner_of(rundir))
    if process is None or wrong:
        raise Unreachable(f"{name} does not run", wrong or f"process {pid} of its pidfile has ended")
    return inspect(process)


def inspect(process: Process) -> Instance:
    """What a daemon shows of itself, its environment as far as root may pass it on; raises ``Unreachable`` when it has ended."""
    try:
        argv = _words(f"/proc/{process.pid}/cmdline")
        words = _words(f"/proc/{process.pid}/environ")
    except OSError as error:
        raise Unreachable(f"process {process.pid} has ended", error.strerror or str(error)) from error
    shown = dict(word.split("=", 1) for word in words if "=" in word)
    # One that is somebody else's from its beginning gets a successor that is so, too (``launcher.Task.set_identity``).
    dropped = likeness.drops(argv)
    environment = trusted_environment(process.pid, shown) if dropped else shown
    if not argv or not alive(process):
        raise Unreachable(f"process {process.pid} has ended", "it was there a moment ago")
    doubt = doubt_of_arguments(process.pid, argv[1:]) or doubt_of_environment(process.pid, shown)
    return Instance(process, tuple(argv), environment, doubt if dropped else None)


def kill(process: Process, timeout: float = KILLED_TIMEOUT) -> None:
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


@contextlib.contextmanager
def modest(process: Process) -> t.Iterator[None]:
    """Give the main thread of a daemon the lowest priority for a while; its other threads keep theirs.

    Without its database the main loop of ovs-vswitchd spins (seen with 3.5 and 4.0), at the nice value -10 that
    the service gives it: on a host with one CPU nothing else gets on, not even the start of the database.
    """
    if not _may_raise_priorities():
        yield
        return
    before = os.getpriority(os.PRIO_PROCESS, process.pid)
    os.setpriority(os.PRIO_PROCESS, process.pid, 19)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, process.pid, before)


def prioritize(process: Process, nice: int) -> None:
    """Give the main thread of a daemon back what ``modest`` took: whoever was to do that may have been ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpriority(os.PRIO_PROCESS, process.pid) != nice:
            os.setpriority(os.PRIO_PROCESS, process.pid, nice)


def _may_raise_priorities() -> bool:
    """Whether this process has CAP_SYS_NICE (capabilities(7)): root under sudo or in a unit may have less than all."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        effective = next(line.split()[1] for line in file if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> _CAP_SYS_NICE & 1)


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


@dataclasses.dataclass(frozen=True)
class Heritage:
    """What the first process of a daemon had when the hand-over began: its next one is to have the same.

    ``owner`` is the unit that owned it in the eyes of systemd, None without one.
    """

    places: cgroups.Places
    owner: str | None
    like: likeness.Likeness


def heritage_of(instance: Instance) -> Heritage:
    """What ``instance`` has now.  Raises ``Unreachable`` when it has ended."""
    pid = instance.process.pid
    try:
        like = likeness.read(pid)
    except (OSError, KeyError) as error:
        raise Unreachable(f"{instance.argv[0]} does not run", f"process {pid} is gone") from error
    return Heritage(cgroups.places(pid), cgroups.unit_of(pid), like)


class Supervisor(t.Protocol):
    """Owns a daemon; ``binaries`` is a directory with programs to use instead of the installed ones."""

    @property
    def heritage(self) -> Heritage:
        """What the daemon had when the hand-over began."""

    def restart(self, old: Instance, binaries: str | None) -> Job:
        """Begin to end ``old`` and to start the daemon; returns at once."""

    def adopt(self, new: Process) -> list[str]:
        """Own ``new`` from the end of the present daemon on; the pidfile must name it by then.

        Returns what could not be done, as text; ``misplaced`` tells whether that matters.
        """

    def hold(self) -> bool:
        """Restart nothing by itself until ``let_go``, whatever ends; whether ``reload`` has to follow."""

    def let_go(self) -> bool:
        """Undo ``hold``; nothing to undo is fine.  Whether ``reload`` has to follow."""

    @property
    def revives(self) -> bool:
        """Whether it starts the daemon again by itself when that ends."""

    def misplaced(self, process: Process) -> str | None:
        """Why ``process`` or its monitor would not outlive the hand-over, or is somebody else's; None if it is well."""

    def healthy(self, process: Process) -> str | None:
        """What is wrong with the ownership of ``process``, or None."""


class Job(t.Protocol):
    """A restart under way."""

    @property
    def refused(self) -> list[str]:
        """What the new process could not be given, as text."""

    def failed(self) -> bool:
        """Whether ``wait`` would raise at once."""

    def wait(self, timeout: float) -> None:
        """Return when it is done; raises ``HotUpgradeError`` when it failed or takes longer."""


@dataclasses.dataclass(frozen=True)
class Systemd:
    """The daemon is a systemd unit.

    With Open vSwitch 4.0 on Debian a socket unit passes ovsdb-server its listening socket.  That cannot be started
    while the service runs, so it is put between the service's stop and start; and stopped where it is left over.
    ``start`` are lines that the unit has while it is held (see ``service_start``).
    """

    unit: str
    name: str
    rundir: str
    heritage: Heritage
    start: tuple[str, ...] = ()

    def restart(self, old: Instance, binaries: str | None) -> Job:
        """See ``Supervisor``."""
        path = environment_of(old, None).get("PATH", "")
        self.override(
            binaries,
            None if "--monitor" in old.argv else self._pidfile,
            path if _PLAIN.fullmatch(path) else PATH,
        )
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

    def override(self, binaries: str | None, pidfile: str | None, path: str = PATH) -> None:
        """Have the unit use ``binaries`` before its ``path`` until the next boot, and ``pidfile`` where it names no source
        of its main pid.
        """
        before, lines = self._read_drop_in(), ["[Service]"]
        if pidfile is not None and (not self._show("PIDFile") or "PIDFile=" in before):
            lines.append(f"PIDFile={pidfile}")
        if binaries is not None:
            lines.append(f"Environment=PATH={binaries}:{path}")
            if os.listdir(os.path.join(binaries, "lib")):
                lines.append(f"Environment=LD_LIBRARY_PATH={binaries}/lib")
        if self._write_drop_in(before, lines):
            reload()

    def _write_drop_in(self, before: str, lines: t.Sequence[str]) -> bool:
        """Whether there was something to write."""
        content = "\n".join([*lines, ""]) if len(lines) > 1 else ""
        if content == before:
            return False
        if content:
            os.makedirs(os.path.dirname(self._drop_in), exist_ok=True)
            with open(self._drop_in, "w", encoding="ascii") as file:
                file.write(content)
        else:
            _remove(self._drop_in)
        return True

    def adopt(self, new: Process) -> list[str]:
        """See ``Supervisor``: systemd reads PIDFile= when the main process ends, so nothing is restarted.

        Where that is a ``--monitor``, the new one's has to be it: in a file for this purpose, until ``let_go``.
        """
        if _is_monitor(int(self._show("MainPID") or 0)):
            main = monitor_of(new) or new
            os.makedirs(os.path.dirname(self._main), mode=0o700, exist_ok=True)
            write_durable(self._main, f"{main.pid}\n".encode())
            self.override(None, self._main)
        else:
            self.override(None, self._pidfile)
        return _take_in(new, self.heritage)

    def misplaced(self, process: Process) -> str | None:
        """See ``Supervisor``."""
        return _misplaced(process, (self.unit,))

    def hold(self) -> bool:
        """See ``Supervisor``: Restart=on-failure would restart the other daemon as well, and lose the flows."""
        if os.path.exists(self._held):
            return False
        lines = ["[Service]", "Restart=no"]
        lines += self.start
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
        changed = os.path.exists(self._held)
        if changed:
            _remove(self._held)
        if os.path.exists(self._main):
            before = self._read_drop_in()
            lines = [line for line in before.splitlines() if not line.endswith(self._main)]
            changed |= self._write_drop_in(before, lines)
            os.unlink(self._main)
        return changed

    def healthy(self, process: Process) -> str | None:
        """See ``Supervisor``."""
        state, main = self._shown(self.unit, "ActiveState", "MainPID")
        # 0: systemd could not guess which process of several is the main one, and goes by their cgroup.
        if state == "active" and main in ("0", *(str(each.pid) for each in family(process))):
            return self.misplaced(process)
        return f"{self.unit} is {state} with main pid {main}, not active with {process.pid}"

    def owns(self, process: Process) -> bool:
        """Whether the unit's main process is ``process`` or its monitor."""
        return self._show("MainPID") in [str(each.pid) for each in family(process)]

    @property
    def socket_user(self) -> str | None:
        """Who owns the socket that a socket unit makes for the daemon; None without such a unit."""
        loaded, user = self._shown(f"{self.name}.socket", "LoadState", "SocketUser")
        return (user or "root") if loaded == "loaded" else None

    @property
    def _pidfile(self) -> str:
        return f"{os.path.realpath(self.rundir)}/{self.name}.pid"

    @property
    def _main(self) -> str:
        return f"{MAIN}/{self.unit}.main"

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
    """No unit starts the daemon: it is started as it was, where it was, by ``program`` (its path on the disk)."""

    name: str
    rundir: str
    program: str
    heritage: Heritage

    def restart(self, old: Instance, binaries: str | None) -> Job:
        """See ``Supervisor``: the new process is there, in the old one's control groups, before that ends."""
        program = self.program if binaries is None else os.path.join(binaries, self.name)
        arguments = [f"--pidfile={self.rundir}/{self.name}.pid", "--no-chdir"]
        arguments += [word for word in ("--detach", "--monitor") if word in old.argv]
        model = _launch.Model(self.heritage.like, old.process, self.heritage.places)
        detach = "--detach" in old.argv
        words = os.memfd_create("words")
        launch = _launch.prepare(
            [program, *old.detached, *arguments],
            environment_of(old, os.path.dirname(program)),
            model,
            words=words if detach else None,
        )
        try:
            _end_with_monitor(old.process)
            launch.go()
        except BaseException:
            launch.cancel()
            raise
        return _Started(launch, self, detach, words)

    def adopt(self, new: Process) -> list[str]:
        """See ``Supervisor``."""
        return _take_in(new, self.heritage)

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

    def misplaced(self, process: Process) -> str | None:
        """See ``Supervisor``."""
        return _misplaced(process, (self.heritage.owner, None, *cgroups.ROOTS), self.heritage.places)

    def healthy(self, process: Process) -> str | None:
        """See ``Supervisor``."""
        if not alive(process):
            return f"process {process.pid} of {self.name} has ended"
        return self.misplaced(process)


def _remove(drop_in: str) -> None:
    """Remove it, and its directory unless somebody else has something there."""
    os.unlink(drop_in)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(drop_in))


def family(process: Process) -> list[Process]:
    """A daemon and its ``--monitor``, which must be where it is."""
    monitor = monitor_of(process)
    return [process] if monitor is None else [process, monitor]


def monitor_of(found: Process) -> Process | None:
    """The ``--monitor`` parent of a daemon (lib/daemon-unix.c has it say so in its command line)."""
    try:
        with open(f"/proc/{found.pid}/status", encoding="utf-8", errors="replace") as file:
            parent = int(next(line for line in file if line.startswith("PPid:")).split()[1])
    except (OSError, StopIteration):
        return None
    return identify(parent) if _is_monitor(parent) else None


def _is_monitor(pid: int) -> bool:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return b": monitoring pid " in file.read()
    return False


def _take_in(new: Process, heritage: Heritage) -> list[str]:
    refused = []
    for each in family(new):
        refused += cgroups.move(each.pid, heritage.places)
        # A group of its own CPUs gives all of them to whoever comes in.
        refused += likeness.set_affinity(each.pid, heritage.like)
    return refused


def _misplaced(
    process: Process, owners: t.Sequence[str | None], places: cgroups.Places | None = None
) -> str | None:
    """See ``Supervisor``; in the very groups of the one before, ``places``, it is well whatever systemd calls them now."""
    for each in family(process):
        group = cgroups.ours(each.pid)
        if group is not None:
            return (
                f"process {each.pid} is in the control group {group}: systemd would end it with the hand-over"
            )
        unit = cgroups.unit_of(each.pid)
        if unit not in owners and cgroups.places(each.pid) != places:
            wanted = owners[0] or "no unit"
            return f"systemd says that process {each.pid} belongs to {unit or 'no unit'}, not to {wanted}"
    return None


def _end_with_monitor(process: Process) -> None:
    """The monitor first: it would start another one."""
    monitor = monitor_of(process)
    if monitor is not None:
        kill(monitor)
    if alive(process) and not terminate(process, signal.SIGTERM, 5.0):
        kill(process)


@dataclasses.dataclass(frozen=True)
class _Started:
    """A daemon that nobody owns, while it starts; one with ``--detach`` leaves another process when it has."""

    launch: _launch.Launch
    owner: Plain
    detach: bool
    words: int

    @property
    def refused(self) -> list[str]:
        return [f"{self.owner.name}: {text}" for text in self.launch.refused]

    def failed(self) -> bool:
        return not alive(self.launch.process) and not self._runs()

    def wait(self, timeout: float) -> None:
        end = time.monotonic() + timeout
        while not self._runs() or (self.detach and alive(self.launch.process)):
            if self.failed():
                raise HotUpgradeError(f"{self.owner.name} did not start", self._said(), "Look at its log")
            if time.monotonic() > end:
                raise HotUpgradeError(
                    f"{self.owner.name} did not start in {timeout:g} s", self._said(), "Look at its log"
                )
            time.sleep(0.02)
        wrong = self.owner.misplaced(look(self.owner.rundir, self.owner.name).process)
        if wrong is not None:
            raise HotUpgradeError(f"{self.owner.name} is not where it was", wrong)

    def _runs(self) -> bool:
        """Whether the pidfile names a process that has come from ours."""
        try:
            found = look(self.owner.rundir, self.owner.name).process
        except Unreachable:
            return False
        return found.started >= self.launch.process.started

    def _said(self) -> str:
        return os.pread(self.words, 1 << 12, 0).decode(errors="replace").strip()[-500:] or "it said nothing"


@dataclasses.dataclass(frozen=True)
class _Command:
    process: subprocess.Popen[bytes]
    what: str

    @property
    def refused(self) -> list[str]:
        return []

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
    if daemon.binary is None or owner is None or daemon.process is None:
        raise Unreachable(f"{daemon.name} does not run", "or it is not installed")
    rundir = os.path.dirname(daemon.pidfile)
    heritage = heritage_of(inspect(daemon.process))
    unit = Systemd(owner.unit or "", daemon.name, rundir, heritage)
    # Of a daemon with a monitor it is not known yet whether a unit began it: its main process is either of them then.
    monitored = owner.kind == "monitor" and owner.unit is not None and heritage.owner == owner.unit
    if owner.kind == "systemd" or (monitored and unit.owns(daemon.process)):
        return unit
    return Plain(daemon.name, rundir, daemon.binary, heritage)


def describe(owner: Supervisor, program: str | None) -> dict[str, t.Any]:
    """``owner`` as JSON for a transaction's request; ``program`` is the one on the disk."""
    unit = owner.unit if isinstance(owner, Systemd) else None
    return {"unit": unit, "program": program, "heritage": dataclasses.asdict(owner.heritage)}


def described(
    name: str, rundir: str, record: t.Mapping[str, t.Any], start: t.Sequence[str] = ()
) -> Supervisor:
    """Undo ``describe``; ``start`` is how a unit starts it while it is held (see ``Systemd``)."""
    heritage = record["heritage"]
    found = Heritage(heritage["places"], heritage["owner"], likeness.from_json(heritage["like"]))
    if record["unit"] is None:
        return Plain(name, rundir, record["program"], found)
    return Systemd(record["unit"], name, rundir, found, tuple(start))


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
        if not is_variant(comm(pid), name):
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
