# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Processes by identity: a process id alone may name another process a moment later."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.polling import readable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Clock

# More than exec(2) gives a program of arguments and environment together.
MOST_SHOWN = 8 << 20
# Processes that have not done anything for so long, in seconds, while something is wanted of them are stuck, or were stopped.
STILL = 10.0
_LOOK_AGAIN = 1.0
# A monitor says what it is in the beginning.
_MOST_TITLE = 4096


@dataclasses.dataclass(frozen=True)
class Process:
    """A process; ``started`` is in clock ticks after the boot (field 22 of /proc/PID/stat, proc(5))."""

    pid: int
    started: int


def identify(pid: int, root: str = "/") -> Process | None:
    """The process that has ``pid`` now, or None; a zombie counts as ended."""
    fields = _status(pid, root)
    return None if fields is None or fields[0] in ("Z", "X") else Process(pid, int(fields[19]))


def is_stopped(process: Process) -> bool:
    """Whether this very process does nothing until it is told to go on (state T)."""
    fields = _status(process.pid)
    return fields is not None and (fields[0], int(fields[19])) == ("T", process.started)


class Watched:
    """Processes of which is seen, time and again, whether they do anything; ``pids`` tells which ones."""

    def __init__(self, pids: t.Callable[[], t.Iterable[int]], clock: Clock = time) -> None:
        self._pids, self._clock = pids, clock
        self._traces: list[tuple[int, ...]] | None = None
        self._since = clock.monotonic()
        # Most of what is waited for comes at once: that is no moment to look through all processes.
        self._due = self._since + _LOOK_AGAIN

    def stand_still(self) -> bool:
        """Whether no thread of them has done anything for ``STILL`` seconds; to be asked again and again meanwhile."""
        now = self._clock.monotonic()
        if now >= self._due:
            self._due = now + _LOOK_AGAIN
            traces = _traces(self._pids())
            if traces is None or traces != self._traces:
                self._traces, self._since = traces, now
        return self._traces is not None and now - self._since >= STILL


def _traces(pids: t.Iterable[int]) -> list[tuple[int, ...]] | None:
    """What grows while any thread of them does anything: processor time and switches of context (proc(5)).

    None when there is none, and when one waits for the kernel (state D), a disk or a lock: that is work, too.
    """
    found = []
    try:
        for pid in pids:
            for thread in os.listdir(f"/proc/{pid}/task"):
                state, *fields = _fields(f"/proc/{pid}/task/{thread}/stat")
                with open(f"/proc/{pid}/task/{thread}/status", encoding="utf-8", errors="replace") as file:
                    switches = [int(line.split()[1]) for line in file if "_ctxt_switches:" in line]
                if state == "D":
                    return None
                found.append((int(thread), int(fields[10]), int(fields[11]), *switches))
    except (FileNotFoundError, ProcessLookupError):  # one has ended meanwhile
        return None
    return found or None


def _status(pid: int, root: str = "/") -> list[str] | None:
    """The fields of /proc/PID/stat from the third one, the state, on (proc_pid_stat(5)); None when there is no such process."""
    try:
        return _fields(os.path.join(root, "proc", str(pid), "stat"))
    except (FileNotFoundError, ProcessLookupError):
        return None


def _fields(stat: str) -> list[str]:
    with open(stat, encoding="utf-8", errors="replace") as file:
        # The second field is the name in parentheses, which may itself hold blanks and parentheses.
        return file.read().rpartition(")")[2].split()


def comm(pid: int, root: str = "/") -> str:
    """What the kernel calls the process ``pid``: 15 bytes of its program's name (proc_pid_comm(5)); raises ``OSError``."""
    return _comm(os.path.join(root, "proc", str(pid)))


def threads(pid: int, root: str = "/") -> list[str]:
    """What the threads of the process ``pid`` are called, without those that end meanwhile; none where it has ended."""
    names, place = [], os.path.join(root, "proc", str(pid), "task")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(place):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                names.append(_comm(os.path.join(place, thread)))
    return names


def _comm(place: str) -> str:
    with open(os.path.join(place, "comm"), encoding="utf-8", errors="replace") as file:
        return file.read().strip()


def is_variant(found: str, name: str) -> bool:
    """Whether ``found`` is the program ``name``, or what a wrapper starts in its place.

    dpkg-divert(1) leaves NAME.distrib, wrappers start NAME.real, and Debian has NAME-dpdk.
    """
    return found == name or found.startswith((f"{name}-", f"{name}."))


def shown(pid: int, file: str, most: int = MOST_SHOWN) -> bytes:
    """What a process shows as its ``cmdline`` or ``environ``, ``most`` bytes of it; raises ``OSError``.

    It may point either at as much memory as it likes (PR_SET_MM_MAP), whoever it belongs to.
    """
    with open(f"/proc/{pid}/{file}", "rb") as content:
        return content.read(most)


def is_monitor(pid: int) -> bool:
    """Whether the process ``pid`` is a ``--monitor``."""
    with contextlib.suppress(OSError):
        return b": monitoring pid " in shown(pid, "cmdline", _MOST_TITLE)
    return False


def named(name: str) -> frozenset[int]:
    """The processes of that name, in whatever namespace; not those that only watch one of them (``is_monitor``)."""
    found = set()
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            if comm(pid) == name and not is_monitor(pid):
                found.add(pid)
    return frozenset(found)


def alive(process: Process, root: str = "/") -> bool:
    """Whether this very process still runs."""
    return identify(process.pid, root) == process


def terminate(process: Process, number: int = signal.SIGTERM, timeout: float = 5.0) -> bool:
    """Send a signal to this very process and wait ``timeout`` seconds; return whether it ended.

    A process that has ended already, or whose pid is another's now, is left alone (True).
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        # The descriptor pins the process, so the identity holds until the signal is sent.
        if not alive(process):
            return True
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)
        return bool(readable([descriptor], timeout))
    finally:
        os.close(descriptor)


# How long the kernel may need to close what a process had open, in seconds: with thousands of ports more than ten.
KILLED_TIMEOUT = 60.0


def kill(process: Process, timeout: float = KILLED_TIMEOUT) -> None:
    """SIGKILL this very process and wait for its end; raises ``HotUpgradeError`` when it survives."""
    if not terminate(process, signal.SIGKILL, timeout):
        raise HotUpgradeError(
            f"process {process.pid} survived SIGKILL for {timeout:g} s",
            "it hangs in the kernel",
            "Look at /proc/PID/stack and at dmesg",
        )


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


def family(process: Process) -> list[Process]:
    """A daemon and its ``--monitor``, which must be where it is."""
    monitor = monitor_of(process)
    return [process] if monitor is None else [process, monitor]


def monitor_of(found: Process) -> Process | None:
    """The ``--monitor`` parent of a daemon (lib/daemon-unix.c has it say so in its command line).

    That of this very process, as long as the kernel knows it: its number may be another daemon's by now.
    """
    fields = _status(found.pid)
    if fields is None or int(fields[19]) != found.started:
        return None
    parent = int(fields[1])
    return identify(parent) if is_monitor(parent) or _becomes_monitor(parent, found.pid) else None


def _becomes_monitor(parent: int, daemon: int) -> bool:
    """Whether ``parent`` waits until its daemon is up, and only then says what it is (fork_and_wait_for_startup).

    An ovs-vswitchd that waits for another one to end is not up before that.
    """
    with contextlib.suppress(OSError):
        arguments = shown(parent, "cmdline").split(b"\0")
        return b"--monitor" in arguments and comm(parent) == comm(daemon)
    return False
