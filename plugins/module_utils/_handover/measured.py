# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What a host is found to be after a rollback: no message promises what was not looked at.

Flows may have come and gone meanwhile, and controllers bring theirs again, so a bridge is at fault only when it is not there,
does not answer, or has lost everything.  One that somebody has deleted is named, and no fault, unless none is left.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.side_by_side import side_by_side
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import VSWITCHD, parse_version

# How long controllers may take to bring the flows of their bridges again, in seconds.
PATIENCE = 10.0

# The flow of fail_mode=standalone, which a bridge has by itself.
OWN_FLOWS = 1


@dataclasses.dataclass(frozen=True)
class Measured:
    """``text`` is what was found, ``faults`` what is not as it was."""

    text: str
    faults: tuple[str, ...] = ()


def measure(host: Host) -> Measured:
    """Look at the ovs-vswitchd that runs now, and at every bridge of the beginning."""
    try:
        version = parse_version(host.services.control(VSWITCHD).call("version")) or "of unknown version"
    except HotUpgradeError as error:
        return Measured(f"{VSWITCHD} does not answer", (f"{VSWITCHD} does not answer: {error}",))
    before, deleted = _saved(host), _deleted(host)
    end = host.outside.clock.monotonic() + PATIENCE
    left = [name for name in host.request.bridges if name not in deleted]
    counts = side_by_side(lambda name: _flows(host, name, before.get(name, 0), end), left)
    found = dict(zip(left, counts))
    faults = tuple(fault for name, count in found.items() for fault in _faults(name, count, before.get(name)))
    known = [count for count in counts if isinstance(count, int)]
    flows = f"{sum(known)} flows" + (f" ({sum(before.values())} in the snapshot)" if before else "")
    text = f"{VSWITCHD} {version} forwards, {len(known)} of {len(found)} bridges answer, with {flows}"
    if deleted:
        text += f"; deleted meanwhile: {', '.join(deleted)}"
    return Measured(text, faults)


def _deleted(host: Host) -> list[str]:
    """Which bridges of the beginning the database does not hold any more; all gone are no administrator's doing."""
    try:
        known = host.scope.configured()
    except HotUpgradeError:  # then the bridges themselves are asked
        return []
    beginning = list(host.request.bridges)
    return [name for name in beginning if name not in known] if known.intersection(beginning) else []


def _saved(host: Host) -> dict[str, int]:
    """How many flows each bridge had in the snapshot; empty where none was taken."""
    if not host.snapshot.exists:
        return {}
    return {bridge.name: bridge.counts.get("flows", 0) for bridge in host.snapshot.read().bridges}


def _flows(host: Host, name: str, before: int, end: float) -> int | str:
    """How many flows the bridge has, once it has some if it had some; else why it does not tell."""
    last: list[int] = []

    def flows() -> int:
        with host.outside.open_switch(host.scope.management(name)) as switch:
            last[:] = [switch.count_flows()[0]]
        return last[0]

    try:
        clock = host.outside.clock
        return Waiter(max(0.0, end - clock.monotonic()), clock=clock).wait(
            f"bridge {name} has flows", flows, lambda count: count > OWN_FLOWS or before <= OWN_FLOWS
        )
    except HotUpgradeError as error:
        return last[0] if last else str(error)


def _faults(name: str, count: int | str, before: int | None) -> t.Iterator[str]:
    if isinstance(count, str):
        yield f"bridge {name} does not answer: {count}"
    elif before is not None and count <= OWN_FLOWS < before:
        yield f"bridge {name} has {count} flows, and had {before}"
