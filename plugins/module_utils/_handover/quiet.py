# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Daemons that are held back for a moment: stopped, or the last to get a CPU."""

from __future__ import annotations

import contextlib
import os
import signal
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process, alive

_CAP_SYS_NICE = 23


# Has an ovs-vswitchd leave the flows of its datapath as they are (see ``plan.pauses``).  What was not paused must not be resumed:
# it would wait for ever (udpif_resume_revalidators).
PAUSE, RESUME = "revalidator/pause", "revalidator/resume"

Quiet = t.Callable[[Process], t.ContextManager[None]]


def unhindered(_process: Process) -> t.ContextManager[None]:
    """Hold nothing back."""
    return contextlib.nullcontext()


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
    hold(process)
    try:
        yield
    finally:
        resume(process)


def hold(process: Process) -> None:
    """Have a process do nothing until ``resume``."""
    _signal(process, signal.SIGSTOP)


def resume(process: Process) -> None:
    """Have a daemon go on that was stopped; one that was not stays as it is."""
    _signal(process, signal.SIGCONT)


def forwards_in_main_loop(process: Process) -> bool:
    """Whether this ovs-vswitchd with the userspace datapath polls ports in its main loop: without PMD threads (dpif-netdev.c).

    Whether it has threads that handle upcalls depends on the version.
    """
    names = set()
    for thread in os.listdir(f"/proc/{process.pid}/task"):
        with open(f"/proc/{process.pid}/task/{thread}/comm", encoding="ascii", errors="replace") as file:
            names.add(file.read())
    return not any(name.startswith("pmd") for name in names)


def _signal(process: Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(process.pid)
        try:
            if alive(process):
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)
