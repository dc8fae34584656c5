# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The native backend: each host is a set of namespaces on the machine's own kernel, with the userspace datapath.

Dozens start in seconds. There is no systemd and no kernel of its own: services are sysvinit's.
"""

from __future__ import annotations

import typing as t

from tests.lab import images
from tests.lab.hosts import Host, Lab, spawn
from tests.lab.nativehost import boot_argv

POPULATE: t.Sequence[str] = ("--datapath-type", "netdev")


def prepare(ovs: str | None) -> None:
    """Build (or find) everything that start() needs."""
    images.root(ovs)


def start(lab: Lab, host: Host) -> Lab:
    """Power the host on; what it wrote before a power-off is still there."""
    folder = lab.folder / host.name
    folder.mkdir(exist_ok=True)
    network = (lab.netns, str(host.index), host.address, host.data_address)
    return spawn(lab, host, boot_argv(folder, images.root(lab.ovs), host.name, network))


def finish(lab: Lab) -> None:
    """What is to be done when every host answers: nothing."""
