# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The kernel module is replaced between the end of the old ovs-vswitchd and the start of the new one.

Up to the first and from the second on established flows go through the datapath; in between it is not there.
"""

from __future__ import annotations

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, attempt
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import held_process, newcomer
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.newcomer import (
    all_attended,
    end_first,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import Request
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.stand_in import StandIn
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.steps.restart import (
    back,
    held,
    persistent,
    start_held,
)
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
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.step import Step

END = "end ovs-vswitchd"
REPLACE = "reload the module"
STAND_IN = "fill one that answers for new flows"


def steps(request: Request) -> list[Step[Host]]:
    """The steps of the strategy ``reload`` for a transaction's request.

    Undone last first: the module is the old one again before the old program starts.
    """
    return [
        *prepare(request),
        *database_before(request),
        *all_attended(held()),
        Step("have the module ready", lambda host: host.reloader.make_ready()),
        ready(),
        *(all_attended([Step(STAND_IN, _start_stand_in, _end_stand_in)]) if _has_stand_in(request) else []),
        arm(),
        flag(),
        Step(END, _end, back, window=True),
        Step(REPLACE, lambda host: host.reloader.replace(), _bring_back, window=True),
        Step("start ovs-vswitchd", start_held, window=True),
        *filled(persistent),
        adopt(),
        learned(persistent),
        *database_after(request),
        Step("settle the ports", _settle, window=True),
        verify(persistent),
    ]


def _has_stand_in(request: Request) -> bool:
    return request.reload is not None and request.reload.stand_in


def _end(host: Host) -> None:
    host.vswitchd.require_no_other()
    host.reloader.learn_names()  # the pidfile names the old process up to here
    held_process.take_pidfile(host)
    host.vswitchd.end_old(lambda: end_first(host))
    host.report.mark("stopped")
    if host.reloader.stand_in is None:
        return
    failed = attempt(host.reloader.stand_in.catch_up)
    if failed:
        host.reloader.do_without(failed[0])


def _settle(host: Host) -> None:
    host.reloader.settle()
    _end_stand_in(host)


def _start_stand_in(host: Host) -> None:
    """Without one new flows wait for the new ovs-vswitchd, as they do in a restart."""
    found = StandIn(host)
    try:
        found.start()
    except (HotUpgradeError, OSError, KeyError) as error:  # no room, or a user that has no name
        found.end()
        host.transaction.note(new_flows=f"they wait for the new ovs-vswitchd: {error}")
        return
    host.reloader.stand_in = found


def _end_stand_in(host: Host) -> None:
    try:
        host.reloader.ask_nobody()
    finally:
        StandIn(host).end()


def _bring_back(host: Host) -> None:
    """A new process that has not got its place yet is not found there, and would be in the way of the module.

    Who answers for new flows goes on with it until the old program has its own, where the datapath stays what it is.
    """
    if not newcomer.has_moved_in(host):
        newcomer.remove(host)
    host.reloader.bring_back()
