# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What a running daemon has from whoever started it: all that exec(2) keeps and a unit sets.

It is taken from the process, not from the unit: an administrator may have changed it since, and some have no unit.
What a process shares with ours need not be taken, so namespaces are those that differ.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import re
import resource
import typing as t

NAMESPACES = ("net", "ipc", "uts")
# Files of /proc/PID that are written as they are read.
FILES = ("oom_score_adj", "coredump_filter", "loginuid")
# As /proc/PID/limits and getrlimit(2) call them: prlimit(2) wants a capability that root may lack (CAP_SYS_RESOURCE).
LIMITS = {
    "Max cpu time": "CPU",
    "Max file size": "FSIZE",
    "Max data size": "DATA",
    "Max stack size": "STACK",
    "Max core file size": "CORE",
    "Max resident set": "RSS",
    "Max processes": "NPROC",
    "Max open files": "NOFILE",
    "Max locked memory": "MEMLOCK",
    "Max address space": "AS",
    "Max pending signals": "SIGPENDING",
    "Max msgqueue size": "MSGQUEUE",
    "Max nice priority": "NICE",
    "Max realtime priority": "RTPRIO",
    "Max realtime timeout": "RTTIME",
}
_LIMIT = re.compile(r"^(Max .{0,22}?) +(\d+|unlimited) +(\d+|unlimited)\b", re.MULTILINE)
IOPRIO_GET = {"x86_64": 252, "aarch64": 31, "riscv64": 31, "ppc64le": 274, "s390x": 283}
# What no profile of AppArmor and no policy of SELinux has given.
_NO_LABEL = ("", "unconfined", "kernel")


@dataclasses.dataclass(frozen=True)
class Likeness:
    """A process as ``launcher.Task`` makes another one; None where the kernel does not tell.

    ``streams`` are the names of the files behind standard input, output and error, where they have one.
    """

    limits: dict[str, tuple[int, int]]
    files: dict[str, str]
    affinity: tuple[int, ...]
    policy: int
    priority: int
    nice: int
    ioprio: int | None
    timer_slack: int | None
    huge_pages: bool | None
    personality: int | None
    umask: int
    cwd: str
    ignored: int
    blocked: int
    label: str
    namespaces: dict[str, str]
    streams: tuple[str | None, ...]
    uid: int
    gid: int
    groups: tuple[int, ...]
    bounding: int
    inheritable: int
    ambient: int
    no_new_privs: bool
    seccomp: int


def read(pid: int) -> Likeness:
    """The process ``pid``.  Raises ``OSError`` when it has ended."""
    found = _read(pid)
    return found if found.uid == 0 else _without_choices(found)


def _without_choices(like: Likeness) -> Likeness:
    """Without what a daemon of another user could have chosen so that root does it harm (docs/security.md)."""
    return dataclasses.replace(
        like, streams=(None,) * 3, cwd="/", personality=None, umask=like.umask | 0o002, ignored=0, blocked=0
    )


def _read(pid: int) -> Likeness:
    status = _status(pid)
    return Likeness(
        limits=_limits(pid),
        files={name: text for name in FILES for text in [_text(pid, name)] if text is not None},
        affinity=tuple(sorted(os.sched_getaffinity(pid))),
        policy=os.sched_getscheduler(pid),
        priority=os.sched_getparam(pid).sched_priority,
        nice=os.getpriority(os.PRIO_PROCESS, pid),
        ioprio=_ioprio(pid),
        timer_slack=_number(_text(pid, "timerslack_ns"), 10),
        huge_pages=None if "THP_enabled" not in status else status["THP_enabled"] == "1",
        personality=_number(_text(pid, "personality"), 16),
        umask=int(status["Umask"], 8),
        cwd=os.readlink(f"/proc/{pid}/cwd"),
        ignored=int(status["SigIgn"], 16),
        blocked=int(status["SigBlk"], 16),
        label=_label(pid),
        namespaces=_namespaces(pid),
        streams=tuple(_stream(pid, number) for number in range(3)),
        uid=int(status["Uid"].split()[1]),
        gid=int(status["Gid"].split()[1]),
        groups=tuple(map(int, status["Groups"].split())),
        bounding=int(status["CapBnd"], 16),
        inheritable=int(status["CapInh"], 16),
        ambient=int(status["CapAmb"], 16),
        no_new_privs=status.get("NoNewPrivs") == "1",
        seccomp=int(status.get("Seccomp", "0")),
    )


def drops(argv: t.Sequence[str]) -> bool:
    """Whether a daemon with this command line gives up being root by itself, and with that its groups and capabilities."""
    return any(word == "--user" or word.startswith("--user=") for word in argv)


def from_json(record: t.Mapping[str, t.Any]) -> Likeness:
    """Undo ``dataclasses.asdict`` and a journey through JSON."""
    plain: dict[str, t.Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in record.items()
    }
    limits = {name: tuple(pair) for name, pair in record["limits"].items()}
    return Likeness(**{**plain, "limits": limits})


def not_kept(like: Likeness) -> list[str]:
    """What cannot be given to another process at all, as text."""
    return ["its filter of system calls (seccomp) cannot be given to another process"] if like.seccomp else []


def set_affinity(pid: int, like: Likeness) -> list[str]:
    """Give all threads of the process the CPUs that it had; returns what could not be done, as text."""
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            if os.sched_getaffinity(int(thread)) != set(like.affinity):
                os.sched_setaffinity(int(thread), like.affinity)
    except (FileNotFoundError, ProcessLookupError):
        return []
    except OSError as error:
        return [f"the CPU affinity {list(like.affinity)} cannot be set: {error.strerror}"]
    return []


def _limits(pid: int) -> dict[str, tuple[int, int]]:
    found = _LIMIT.findall(_text(pid, "limits") or "")
    return {LIMITS[name]: (_limit(soft), _limit(hard)) for name, soft, hard in found if name in LIMITS}


def _limit(text: str) -> int:
    return resource.RLIM_INFINITY if text == "unlimited" else int(text)


def _status(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        lines = (line.rstrip("\n").partition(":\t") for line in file)
        return {key: value.strip() for key, __, value in lines}


def _text(pid: int, name: str) -> str | None:
    try:
        with open(f"/proc/{pid}/{name}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None


def _number(text: str | None, base: int) -> int | None:
    return int(text, base) if text else None


def _ioprio(pid: int) -> int | None:
    number = IOPRIO_GET.get(os.uname().machine)
    if number is None:
        return None
    found = ctypes.CDLL(None, use_errno=True).syscall(number, 1, pid)
    return None if found < 0 else int(found)


def _label(pid: int) -> str:
    """The label of AppArmor or SELinux as /proc/self/attr/exec takes it; empty when nothing confines the process."""
    label = (_text(pid, "attr/current") or "").strip("\0")
    if label in _NO_LABEL:
        return ""
    profile = re.fullmatch(r"(.*) \((?:enforce|complain|kill|mixed|prompt|unconfined)\)", label)
    return f"exec {profile.group(1)}" if profile else label


def _namespaces(pid: int) -> dict[str, str]:
    found = {}
    for name in NAMESPACES:
        with contextlib.suppress(OSError):
            theirs = os.readlink(f"/proc/{pid}/ns/{name}")
            if theirs != os.readlink(f"/proc/self/ns/{name}"):
                found[name] = theirs
    return found


def _stream(pid: int, number: int) -> str | None:
    try:
        path = os.readlink(f"/proc/{pid}/fd/{number}")
    except OSError:
        return None
    return path if path.startswith("/") and not path.endswith(" (deleted)") else None
