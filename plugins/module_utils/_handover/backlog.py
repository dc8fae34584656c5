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

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Unreachable, attempt
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import newcomer
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import Request
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import memory, packet_queues
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.step import Step

# What may wait for one process, as a part of the memory that is available: tenants decide how much that is.
_PART = 8
TOO_FEW = (
    "packets that come while ovs-vswitchd is busy, when more of them wait at a port than usual: "
    "the queues of its ports cannot be made longer ({0})"
)


def lengthen(request: Request) -> list[Step[Host]]:
    """Have more packets wait for the running ovs-vswitchd until ``shorten``, which comes last in any case."""
    if not request.userspace or request.dpdk:
        return []
    return [Step("let packets wait", lambda host: _lengthen(host, host.services.process(VSWITCHD)))]


def lengthen_new(host: Host) -> None:
    """The same for the second ovs-vswitchd, when it has its ports."""
    _lengthen(host, newcomer.process(host))


def shorten(host: Host) -> None:
    """Have no more packets wait for the running ovs-vswitchd than for others: under load they would all be late for good.

    It has seen all that was changed in the database by then.
    """
    if not host.request.userspace or host.request.dpdk:
        return
    attempt(host.database.wait_for_vswitchd)
    with contextlib.suppress(Unreachable):
        shorten_of(host.services.process(VSWITCHD))


def shorten_of(process: Process) -> None:
    """The same for any process; what could be made longer can be made shorter."""
    with contextlib.suppress(OSError):
        packet_queues.shorten(process)


def _lengthen(host: Host, process: Process) -> None:
    try:
        packet_queues.lengthen(process, memory.available() // _PART)
    except OSError as error:
        host.report.missed([TOO_FEW.format(error.strerror)])
