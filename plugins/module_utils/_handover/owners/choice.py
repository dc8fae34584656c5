# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Who owns a daemon that runs, and the same from a transaction's request: a unit of systemd, two pods, or nobody."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners import pod
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners.nobody import Nobody
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners.owner import (
    Heritage,
    Owner,
    heritage_of,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners.pod import Home, Pod
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners.systemd import Systemd
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import Daemon
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.homes import Homes
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import instance_of
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import likeness
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.trust import program_of


def of_daemon(daemon: Daemon, homes: Homes | None = None) -> Owner:
    """Who owns ``daemon``, which runs; with ``homes`` it moves from a pod to another one."""
    owner = daemon.supervisor
    if daemon.binary is None or owner is None or daemon.process is None:
        raise Unreachable(
            f"{daemon.name} does not run", "or it is not installed", f"Start {daemon.name}, then begin again"
        )
    rundir = os.path.dirname(daemon.pidfile)
    heritage = heritage_of(instance_of(daemon.process))
    if homes is not None:
        before = Home(homes.before, homes.pods[0], program_of(daemon.process.pid))
        before.find()  # else there would be no way back
        return Pod(daemon.name, rundir, before, Home(homes.after, homes.pods[1], daemon.binary), heritage)
    unit = Systemd(owner.unit or "", daemon.name, rundir, heritage)
    # Of a daemon with a monitor it is not known yet whether a unit began it: its main process is either of them then.
    monitored = owner.kind == "monitor" and owner.unit is not None and heritage.owner == owner.unit
    if owner.kind == "systemd" or (monitored and unit.owns(daemon.process)):
        return unit
    return Nobody(daemon.name, rundir, daemon.binary, heritage)


def as_json(owner: Owner, program: str | None) -> dict[str, t.Any]:
    """``owner`` as JSON for a transaction's request; ``program`` is the one on the disk."""
    unit = owner.unit if isinstance(owner, Systemd) else None
    homes = pod.as_json(owner) if isinstance(owner, Pod) else None
    return {"unit": unit, "program": program, "heritage": dataclasses.asdict(owner.heritage), "homes": homes}


def of_json(name: str, rundir: str, record: t.Mapping[str, t.Any], start: t.Sequence[str] = ()) -> Owner:
    """Undo ``as_json``; ``start`` is how a unit starts it while it is held (see ``Systemd``)."""
    heritage = record["heritage"]
    found = Heritage(heritage["places"], heritage["owner"], likeness.from_json(heritage["like"]))
    if record.get("homes"):
        return pod.of_json(name, rundir, record["homes"], found)
    if record["unit"] is None:
        return Nobody(name, rundir, record["program"], found)
    return Systemd(record["unit"], name, rundir, found, tuple(start))
