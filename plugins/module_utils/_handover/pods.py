# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What ``ovs_container`` does: whose the daemons are, and an old pod's first process that is held while the pod is deleted."""

from __future__ import annotations

import contextlib
import os

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused, Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import quiet
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import read_pid
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Outcome
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import OVSDB_SERVER, VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import containers
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
    comm,
    identify,
    is_stopped,
    is_variant,
)

# A signal comes when the process is on a CPU next, in seconds.
_SIGNAL_TIMEOUT = 10.0

CONTROLLER = "ovn-controller"
HELD, RELEASED = "held", "released"


def bring(identifier: str, state: str | None, rundir: str, ovn_rundir: str, check_mode: bool) -> Outcome:
    """Hold the first process of a container, have it go on, or only look.

    Raises ``Refused`` when the container does not run; to look at one that has ended is no error.
    """
    try:
        container = containers.find(identifier)
    except Refused:
        if state is None and containers.ID.fullmatch(identifier):
            return Outcome(False, {"running": False, "pid": None, "held": False, "daemons": {}})
        raise
    before = is_stopped(container.first)
    wanted = before if state is None else state == HELD
    daemons = _daemons(rundir, ovn_rundir)
    if state == HELD and container.first in daemons.values():
        raise Refused(
            f"the first process of container {identifier[:12]} is not held",
            f"process {container.first.pid} is a daemon of Open vSwitch itself",
            "A container whose first process is the daemon cannot be the old one of a hand-over",
        )
    if wanted != before and not check_mode:
        (quiet.hold if wanted else quiet.resume)(container.first)
        Waiter(_SIGNAL_TIMEOUT).wait(
            f"process {container.first.pid} is {state}",
            lambda: is_stopped(container.first),
            lambda stopped: stopped == wanted,
            hint="Look at its state in /proc/PID/status",
        )
    inside = {name: container.holds(process) for name, process in daemons.items()}
    values = {"running": True, "pid": container.first.pid, "held": wanted, "daemons": inside}
    return Outcome(wanted != before, values, {"held": before}, {"held": wanted})


def _daemons(rundir: str, ovn_rundir: str) -> dict[str, Process]:
    """The daemons that run."""
    places = {VSWITCHD: rundir, OVSDB_SERVER: rundir, CONTROLLER: ovn_rundir}
    found: dict[str, Process] = {}
    for name, place in places.items():
        with contextlib.suppress(Unreachable, OSError):
            process = identify(read_pid(os.path.join(place, f"{name}.pid")))
            # A pidfile that was left over may have the number of anybody.
            if process is not None and is_variant(comm(process.pid), name):
                found[name] = process
    return found
