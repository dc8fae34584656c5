# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The default backend: each host is a User Mode Linux machine with a kernel, systemd and sshd of its own."""

from __future__ import annotations

import contextlib
import os
import typing as t
from collections import Counter
from pathlib import Path

from tests.lab import images
from tests.lab.hosts import Host, Lab, spawn, tap

MEMORY = "1G"
POPULATE: t.Sequence[str] = ()


def prepare(ovs: str | None) -> None:
    """Build (or find) everything that start() needs."""
    images.kernel()
    images.disk(ovs)


def start(lab: Lab, host: Host) -> Lab:
    """Power the host on; its disk is a copy-on-write layer that outlives a power-off."""
    folder = lab.folder / host.name
    folder.mkdir(exist_ok=True)
    devices = [
        f"vec{number}:transport=tap,ifname={tap(lab, host, kind)},depth=128,gro=1"
        for number, kind in enumerate(("mgmt", "data"))
    ]
    argv = [
        *("taskset", "--cpu-list", str(_idlest_cpu())),
        str(images.kernel() / "linux.uml"),
        "seccomp=on",
        f"mem={MEMORY}",
        f"ubd0={folder / 'cow'},{images.disk(lab.ovs)}",
        "root=/dev/ubda",
        "rw",
        *devices,
        "con=null",
        "con0=null,fd:1",
        f"uml_dir={folder / 'uml'}",
        f"umid={host.name}",
        f"lab.name={host.name}",
        f"lab.mgmt={host.address}/24",
        f"lab.data={host.data_address}/24",
        *_parameters(folder),
    ]
    return spawn(lab, host, argv, env={"TMPDIR": "/dev/shm"})


def finish(lab: Lab) -> None:
    """What is to be done when every host answers: nothing."""


def boot_with(lab: Lab, host: Host, *parameters: str) -> None:
    """Add these to the kernel's command line from the next start of the host on."""
    (lab.folder / host.name / "parameters").write_text(" ".join(parameters))


def _parameters(folder: Path) -> list[str]:
    try:
        return (folder / "parameters").read_text().split()
    except FileNotFoundError:
        return []


def _idlest_cpu() -> int:
    """The CPU that the fewest hosts are pinned to.

    A host's kernel and its programs are processes that take turns. On one CPU a system call costs a switch between the
    two; on several it wakes an idle CPU each way, which takes six times as long (8 and 52 us for a read of /dev/zero).
    """
    hosts = Counter(dict.fromkeys(os.sched_getaffinity(0), 0))
    for comm in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if comm.read_text().strip() == "linux.uml":
                hosts.update(os.sched_getaffinity(int(comm.parent.name)) & hosts.keys())
    return min(hosts, key=hosts.__getitem__)
