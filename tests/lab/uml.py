# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The default backend: each host is a User Mode Linux machine with a kernel, systemd and sshd of its own."""

from __future__ import annotations

import typing as t

import images
from hosts import Host, Lab, spawn, tap

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
    ]
    return spawn(lab, host, argv, env={"TMPDIR": "/dev/shm"})
