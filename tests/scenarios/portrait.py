# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a lab host: prints as JSON all of /proc/PID that two processes of one program may have differently.

It knows nothing of the engine: what it should have kept is what is there.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys

RUNDIR = "/run/openvswitch"
DAEMONS = ("ovs-vswitchd", "ovsdb-server")
FILES = (
    *("limits", "oom_score_adj", "coredump_filter", "cgroup", "personality", "timerslack_ns", "loginuid"),
    *("attr/current", "attr/exec", "setgroups", "uid_map", "autogroup"),
)
# Of /proc/PID/status: who it is, what it has done so far.
OWN = re.compile(
    r"(Name|State|.*[Pp]id|Tgid|Ngid|NS.*|Vm.*|Rss.*|Huge.*|.*ctxt.*|SigQ|SigPnd|ShdPnd|SigCgt|FDSize|Threads|Core.*|x86.*)"
)
IOPRIO_GET = {"x86_64": 252, "aarch64": 31}


def read(pid: int, name: str) -> str:
    try:
        with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
            return file.read().strip("\0\n")
    except OSError:
        return ""


def link(pid: int, name: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/{name}")
    except OSError:
        return ""


def portrait(pid: int) -> dict[str, str]:
    """What the process has, by name."""
    found = {name: read(pid, name) for name in FILES}
    # The number of an autogroup is that of its session.
    found["autogroup"] = found["autogroup"].rpartition(" ")[2]
    for line in read(pid, "status").splitlines():
        key, __, value = line.partition(":\t")
        if not OWN.fullmatch(key):
            found[f"status {key}"] = value
    for word in read(pid, "environ").split("\0"):
        key, __, value = word.partition("=")
        found[f"environment {key}"] = value
    for number in range(3):
        found[f"stream {number}"] = link(pid, f"fd/{number}")
        found[f"flags of stream {number}"] = re.sub(r"pos:.*\n?", "", read(pid, f"fdinfo/{number}"))
    for name in ("cwd", "root", *(f"ns/{each}" for each in sorted(os.listdir(f"/proc/{pid}/ns")))):
        found[name] = link(pid, name)
    fields = read(pid, "stat").rpartition(")")[2].split()
    found["priority, nice, rt_priority, policy"] = " ".join(fields[n] for n in (15, 16, 37, 38))
    found["leads its session"] = str(int(fields[3]) == pid)
    found["CPU affinity"] = str(sorted(os.sched_getaffinity(pid)))
    call = IOPRIO_GET.get(os.uname().machine)
    if call is not None:
        found["I/O priority"] = str(ctypes.CDLL(None).syscall(call, 1, pid))
    return found


def places() -> dict[str, str]:
    """Mode and owner of what is in the run directory, by its name without what names a process."""
    found = {}
    for name in os.listdir(RUNDIR):
        status = os.lstat(os.path.join(RUNDIR, name))
        key = re.sub(r"\.\d+\.ctl$", ".PID.ctl", name)
        found[f"{RUNDIR}/{key}"] = f"{status.st_mode:o} {status.st_uid}:{status.st_gid}"
    return found


def family(daemon: str) -> dict[str, dict[str, str]]:
    with open(f"{RUNDIR}/{daemon}.pid", encoding="ascii") as file:
        pid = int(file.read())
    found = {daemon: portrait(pid)}
    parent = int(read(pid, "stat").rpartition(")")[2].split()[1])
    if ": monitoring pid" in read(parent, "cmdline"):
        found[f"monitor of {daemon}"] = portrait(parent)
    return found


def main() -> None:
    found: dict[str, dict[str, str]] = {"files": places()}
    for daemon in DAEMONS:
        found.update(family(daemon))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
