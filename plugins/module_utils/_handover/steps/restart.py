# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The documented five steps: stop, flag, start, restore, clear.

On the kernel datapath established flows go on through the stop; new flows wait until the flag is cleared.
"""

from __future__ import annotations

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import (
    held_process,
    newcomer,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.newcomer import (
    Act,
    all_attended,
    attended,
    end_first,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.quiet import modest, stopped
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import Request
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.steps.shared import (
    adopt,
    arm,
    database_after,
    database_before,
    filled,
    flag,
    learned,
    prepare,
    ready,
    verify,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import OVSDB_SERVER, VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.death_watch import attention
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.step import Step

RESTART = "restart ovs-vswitchd"


def steps(request: Request) -> list[Step[Host]]:
    """The steps of the strategy ``restart`` for a transaction's request."""
    late = request.userspace and not request.dpdk
    return [
        *prepare(request),
        *database_before(request, free_try=late),
        *([] if request.dpdk else all_attended(held())),
        ready(),
        arm(),
        flag(),
        Step(RESTART, _restart, _make_whole if request.dpdk else back, window=True),
        *filled(persistent),
        Step("wait for the service", _settle, window=True) if request.dpdk else adopt(),
        learned(persistent),
        *database_after(request, free_try=late),
        verify(persistent),
    ]


def held() -> list[Step[Host]]:
    """Have a process wait to become the new ovs-vswitchd, that belongs to the service already."""
    return [
        Step("make the private run directory", newcomer.make_directory, newcomer.remove),
        Step("start the process that waits", held_process.start, held_process.end),
        Step(
            "move the new process to the service",
            lambda host: host.services.adopt(held_process.process(host)),
        ),
    ]


def persistent(do: Act) -> Act:
    """Make a step go on when the database ended in it: the new ovs-vswitchd runs, and a rollback would take longer."""

    def step(host: Host) -> None:
        try:
            attended(do)(host)
        except Unreachable:
            host.filler.disconnect()
            new = host.services.process(VSWITCHD)
            # Under the flag it takes no new flows anyway; stopped, it has not begun to wait between its tries to connect.
            host.database.ensure(modest if "forwarding" in host.report.marks else stopped)
            if host.request.dpdk:
                host.filler.connect(
                    host.request.vswitchd.process.pid, lambda: host.vswitchd.require_start(new)
                )
            else:
                newcomer.connect(host)
            attended(do)(host)

    return step


def _restart(host: Host) -> None:
    """Replace the process; DPDK wants to give back what it has before, which the service manager knows to wait for."""
    host.vswitchd.require_no_other()
    if host.request.dpdk:
        host.vswitchd.end_old(lambda: host.recovery.replace(None))
        return
    held_process.take_pidfile(host)
    host.vswitchd.clear_the_way()
    host.vswitchd.end_old(lambda: end_first(host))
    host.report.mark("stopped")
    start_held(host)


def start_held(host: Host) -> None:
    """Let the process that waits become ovs-vswitchd, and connect to its bridges."""
    server = host.services.process(OVSDB_SERVER)
    held_process.release(host)
    with attention({OVSDB_SERVER: server}):
        newcomer.connect(host)
    newcomer.take_pidfile(host)
    host.report.mark("connected")


def _settle(host: Host) -> None:
    host.vswitchd.settle()


def _make_whole(host: Host) -> None:
    host.recovery.make_whole()


def back(host: Host) -> None:
    """Have the old program start anew; a new process that has not got its place yet is not found there, and ends first."""
    if not newcomer.has_moved_in(host):
        newcomer.remove(host)
    host.recovery.make_whole()
