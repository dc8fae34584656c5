# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The new ovs-vswitchd waits for the OVSDB lock of the old one and takes over the moment that ends.

Works on every datapath.  What remains in the window is the creation of ports and the transfer of flows that are
encoded already.  ovsdb-server is not restarted while one waits, both would race for the lock, but after it: only the
new process has a free try to find the database again at once.
"""

from __future__ import annotations

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import newcomer
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.newcomer import (
    all_attended,
    attended,
)
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
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.step import Step


def steps(request: Request) -> list[Step[Host]]:
    """The steps of the strategy ``standby`` for a transaction's request."""
    return [
        *prepare(request),
        *database_before(request, free_try=True),
        *all_attended(
            [
                Step("make the private run directory", newcomer.make_directory, newcomer.remove),
                Step("start the waiting ovs-vswitchd", _start),
                Step("move the new process to the service", _own),
            ]
        ),
        ready(),
        arm(),
        flag(),
        Step("end the old ovs-vswitchd", _end_old, _back, window=True),
        *filled(),
        adopt(),
        learned(),
        *database_after(request, free_try=True),
        verify(),
    ]


def _start(host: Host) -> None:
    newcomer.start(host, host.request.remote, host.request.supervisors[VSWITCHD]["program"])
    newcomer.patient(host, lambda: newcomer.reachable(host).call("version"))


def _own(host: Host) -> None:
    host.services.adopt(newcomer.process(host))


def _end_old(host: Host) -> None:
    host.vswitchd.require_no_other()
    host.database.wait(0.0)
    newcomer.require_answer(host)
    newcomer.take_pidfile(host)
    host.vswitchd.clear_the_way()
    host.vswitchd.end_old(lambda: newcomer.end_first(host))
    host.report.mark("stopped")
    attended(newcomer.connect)(host)
    host.report.mark("connected")


def _back(host: Host) -> None:
    """End the one that waits or took over; if the old process has ended its program starts anew.

    First, since a database that comes back would give the lock, and with it the bridges, to either of two that wait.
    """
    newcomer.remove(host)
    if not host.vswitchd.old_runs():
        host.recovery.make_whole(anew=True)
