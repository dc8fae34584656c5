# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Becomes a daemon like one that runs already: what a process is before exec(2), and keeps through it.

``launch.py`` passes this file to ``python3 -c``; it runs alone, with the standard library only.  Nothing runs here
in a fork of a process with threads.  Lines of JSON go through standard input and output:

    the task (see ``Task``)                  ->
                                             <-  {"pid": of the process that will be the daemon}
    "placed": it is in its control groups    ->
                                             <-  {"refused": [what could not be set, as text]}
    "go"                                     ->
                                             <-  nothing more, or {"failed": why exec did not work}
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import errno
import functools
import json
import os
import resource
import signal
import typing as t

Json = dict[str, t.Any]

# prctl(2), capabilities(7), personality(2); pidfd_getfd(2) has this number on every architecture but alpha.
PR_CAPBSET_DROP, PR_SET_KEEPCAPS, PR_SET_TIMERSLACK, PR_SET_NO_NEW_PRIVS = 24, 8, 29, 38
PR_SET_THP_DISABLE, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 41, 47, 2
CAPABILITIES = 64
CAPABILITY_VERSION = 0x20080522
PIDFD_GETFD = 438
IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "ppc64le": 273, "s390x": 282}
# Python reads the code of a codec when it is first used: in another mount namespace that file may not be there any more.
CODECS = ("ascii", "utf-8")
# Signals that cannot be ignored, and those that the C library keeps for itself.
UNTOUCHED = frozenset({signal.SIGKILL, signal.SIGSTOP, 32, 33})


class Cannot(OSError):
    """A call that the standard library does not have was refused."""


def system(name: str, *arguments: t.Any) -> int:
    """Call ``name`` of the C library; raises ``Cannot`` when it fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(getattr(libc, name)(*arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise Cannot(number, os.strerror(number))
    return result


def prctl(option: int, *arguments: int) -> None:
    """See prctl(2)."""
    system("prctl", option, *(ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]))


def write(path: str, text: str) -> None:
    """Write ``text`` in one call, as files of /proc want it."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode(errors="surrogateescape"))
    finally:
        os.close(descriptor)


class Task:
    """What is to be run, and like what: ``like`` is a ``likeness.Likeness`` as JSON.

    ``drops`` tells that the program becomes its user itself (``likeness.drops``).  ``pid`` and ``pidfd`` are a process
    that has its namespaces and streams, None when that has ended; ``words`` is a descriptor that becomes standard error
    instead, or None.
    """

    def __init__(self, task: Json) -> None:
        self.argv: list[str] = task["argv"]
        self.environment: dict[str, str] = task["environment"]
        self.like: Json = task["like"]
        self.drops: bool = task["drops"]
        self.pid: int | None = task["pid"]
        self.pidfd: int | None = task["pidfd"]
        self.words: int | None = task["words"]
        self.refused: list[str] = []
        # Opened while /dev is the host's: in a container that name may be a link, which we follow with more rights than it has.
        self.nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (self.pidfd, self.words):
            if descriptor is not None:
                os.set_inheritable(descriptor, False)

    def attempt(self, what: str, action: t.Callable[[], t.Any]) -> None:
        """Do it, or remember that it could not be done."""
        try:
            action()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.refused.append(f"{what} cannot be set: {reason}")

    # In this order: what needs capabilities comes before they are given up.

    def join_namespaces(self) -> None:
        """Raises ``OSError``: in another network, or with other files, it would be another daemon."""
        for name in CODECS:
            codecs.lookup(name)
        for name, identity in self.like["namespaces"].items():
            if os.readlink(f"/proc/self/ns/{name}") == identity:
                continue
            descriptor = os.open(f"/proc/{self.pid}/ns/{name}", os.O_RDONLY)
            try:
                if os.readlink(f"/proc/self/fd/{descriptor}") != identity:
                    raise OSError(errno.ESRCH, "the process whose namespaces are wanted has ended")
                system("setns", descriptor, 0)
            finally:
                os.close(descriptor)

    def set_resources(self) -> None:
        """Limits, priorities and what else costs the host something."""
        like = self.like
        for name, pair in like["limits"].items():
            values = (pair[0], pair[1])
            self.attempt(f"the limit {name} {values}", functools.partial(self._limit, name, values))
        for file, content in like["files"].items():
            self.attempt(f"{file} {content}", functools.partial(self._file, file, content))
        self.attempt(f"the CPU affinity {like['affinity']}", lambda: self._affinity(like["affinity"]))
        self.attempt(f"the scheduling policy {like['policy']}", self._schedule)
        self.attempt(f"the nice value {like['nice']}", lambda: self._nice(like["nice"]))
        if like["ioprio"] is not None:
            self.attempt(f"the I/O priority {like['ioprio']:#x}", self._ioprio)
        if like["timer_slack"] is not None:
            self.attempt("the timer slack", lambda: prctl(PR_SET_TIMERSLACK, like["timer_slack"]))
        if like["huge_pages"] is False:
            self.attempt("the ban on huge pages", lambda: prctl(PR_SET_THP_DISABLE, 1))
        if like["personality"] is not None:
            self.attempt("the personality", lambda: system("personality", like["personality"]))

    @staticmethod
    def _file(name: str, content: str) -> None:
        with open(f"/proc/self/{name}", encoding="ascii") as file:
            if file.read().strip() == content:
                return
        # The filter is shown without the prefix that it is read with (core(5)).
        write(f"/proc/self/{name}", f"0x{content}" if name == "coredump_filter" else content)

    @staticmethod
    def _limit(name: str, values: tuple[int, int]) -> None:
        number = getattr(resource, f"RLIMIT_{name}")
        if resource.getrlimit(number) != values:
            resource.setrlimit(number, values)

    @staticmethod
    def _affinity(cpus: t.Sequence[int]) -> None:
        if os.sched_getaffinity(0) != set(cpus):
            os.sched_setaffinity(0, cpus)

    @staticmethod
    def _nice(value: int) -> None:
        if os.getpriority(os.PRIO_PROCESS, 0) != value:
            os.setpriority(os.PRIO_PROCESS, 0, value)

    def _schedule(self) -> None:
        wanted = (self.like["policy"], self.like["priority"])
        if (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority) != wanted:
            os.sched_setscheduler(0, wanted[0], os.sched_param(wanted[1]))

    def _ioprio(self) -> None:
        number = IOPRIO_SET.get(os.uname().machine)
        if number is None:
            raise ValueError(f"unknown on {os.uname().machine}")
        system("syscall", number, 1, 0, self.like["ioprio"])

    def set_identity(self) -> None:
        """User, groups, capabilities.  Raises ``OSError`` when the user cannot be had."""
        like = self.like
        if like["no_new_privs"]:
            self.attempt("no_new_privs", lambda: prctl(PR_SET_NO_NEW_PRIVS, 1))
        if self.drops:  # the program itself, when it has started as root
            return
        for number in range(CAPABILITIES):
            if not like["bounding"] >> number & 1 and self._bounded(number):
                self.attempt(
                    f"the ban on capability {number}", functools.partial(prctl, PR_CAPBSET_DROP, number)
                )
        own = (os.getuid(), os.getgid(), sorted(os.getgroups()))
        if own != (like["uid"], like["gid"], sorted(like["groups"])):
            os.setgroups(like["groups"])
            os.setresgid(like["gid"], like["gid"], like["gid"])
            prctl(PR_SET_KEEPCAPS, 1)
            os.setresuid(like["uid"], like["uid"], like["uid"])
        if like["inheritable"] or like["ambient"]:
            self.attempt("the capabilities", self._capabilities)

    @staticmethod
    def _bounded(number: int) -> bool:
        try:
            return bool(system("prctl", 23, number, 0, 0, 0))  # PR_CAPBSET_READ
        except Cannot:  # the kernel does not know so many
            return False

    def _capabilities(self) -> None:
        keep = self.like["inheritable"] | self.like["ambient"]
        header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
        halves = [(value & 0xFFFFFFFF, value >> 32) for value in (keep, keep, keep)]
        data = (ctypes.c_uint32 * 6)(*(half[part] for part in (0, 1) for half in halves))
        system("capset", header, data)
        for number in range(CAPABILITIES):
            if self.like["ambient"] >> number & 1:
                prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)

    def set_signals(self) -> None:
        """Which signals are ignored and which are blocked."""
        like = self.like
        for number in range(1, signal.NSIG):
            if number not in UNTOUCHED:
                ignored = like["ignored"] >> (number - 1) & 1
                signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
        blocked = [n for n in range(1, signal.NSIG) if like["blocked"] >> (n - 1) & 1 and n not in UNTOUCHED]
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def set_label(self) -> None:
        """The label of a security module from exec on."""
        like = self.like
        if like["label"]:
            self.attempt(f"the label {like['label']}", lambda: write("/proc/self/attr/exec", like["label"]))

    def take_streams(self) -> None:
        """Standard input, output and error are the very ones of the other process, or else go nowhere."""
        for number in (0, 1, 2):
            descriptor = self._stream(number)
            os.dup2(descriptor, number)
            os.close(descriptor)

    def _stream(self, number: int) -> int:
        if number == 2 and self.words is not None:
            return os.dup(self.words)
        path, failure = self.like["streams"][number], None
        if self.pidfd is not None:
            try:
                return system("syscall", PIDFD_GETFD, self.pidfd, number, 0)
            except Cannot as error:  # an old kernel, or a security module
                failure = error
        if path is not None:
            try:
                return os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_APPEND)
            except OSError as error:
                failure = Cannot(error.errno, error.strerror)
        if failure is not None:
            self.refused.append(f"stream {number} leads nowhere: {failure.strerror}")
        return os.dup(self.nowhere)

    def prepare(self) -> None:
        """All of the above, in order."""
        self.join_namespaces()
        self.set_resources()
        self.attempt(f"the directory {self.like['cwd']}", lambda: os.chdir(self.like["cwd"]))
        os.umask(self.like["umask"])
        self.take_streams()
        self.set_identity()
        self.set_signals()
        self.set_label()


def main() -> None:
    """See the file's head."""
    # Both close by themselves when the daemon's program begins.
    orders, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
    task = Task(json.loads(orders.readline()))
    if os.fork():
        os._exit(0)
    os.setsid()
    _answer(answers, pid=os.getpid())
    try:
        _expect(orders, b"placed")
        task.prepare()
        _answer(answers, refused=task.refused)
        _expect(orders, b"go")
        with contextlib.suppress(PermissionError):
            os.execve(task.argv[0], task.argv, task.environment)
        # A kept program is elsewhere, where a security policy may know no such label for it.
        if task.like["label"]:
            _answer(answers, refused=[f"the label {task.like['label']} cannot be had"])
            write("/proc/self/attr/exec", "\n")
        os.execve(task.argv[0], task.argv, task.environment)
    except Exception as error:  # its words would go to the daemon's log
        _answer(answers, failed=f"{type(error).__name__}: {error}")
    os._exit(1)


def _answer(descriptor: int, **content: t.Any) -> None:
    os.write(descriptor, json.dumps(content).encode() + b"\n")


def _expect(orders: t.BinaryIO, word: bytes) -> None:
    """The next order; without one the caller has died, and nobody wants a daemon."""
    if orders.readline().strip() != word:
        os._exit(1)


if __name__ == "__main__":
    main()
