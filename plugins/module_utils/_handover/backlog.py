# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Packets that wait while ovs-vswitchd has no time for them.

In the userspace datapath without DPDK its main loop moves the packets, and does all else: to tell 100,000 tracked connections
keeps it busy for half a second.  Meanwhile they wait, as many as fit.
"""

from __future__ import annotations

import contextlib

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import newcomer
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import memory, packet_queues
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process

# What may wait for one process, as a part of the memory that is available: tenants decide how much that is.
_PART = 4
SHORT = (
    "packets that come while ovs-vswitchd is busy, beyond some 270 at each port: "
    "the queues of its ports cannot be made longer ({0})"
)


def lengthen(host: Host) -> None:
    """Have more packets wait for the running ovs-vswitchd until ``shorten``."""
    _lengthen(host, host.services.process(VSWITCHD))


def lengthen_new(host: Host) -> None:
    """The same for the second ovs-vswitchd, when it has its ports."""
    _lengthen(host, newcomer.process(host))


def shorten(host: Host) -> None:
    """Have no more packets wait for the running ovs-vswitchd than for others: under load they would all be late for good."""
    with contextlib.suppress(Unreachable, OSError):  # what could be made longer can be made shorter
        packet_queues.shorten(host.services.process(VSWITCHD))


def _lengthen(host: Host, process: Process) -> None:
    try:
        packet_queues.lengthen(process, memory.available() // _PART)
    except OSError as error:
        host.report.missed([SHORT.format(error.strerror)])
