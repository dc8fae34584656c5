# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What ``ovs_info`` tells about Open vSwitch on this host; nothing here changes anything.

A host where Open vSwitch is stopped or not installed is described like any other: what cannot be known is None.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.clock import boot_id
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.side_by_side import side_by_side
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._info import rollouts
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import management_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.counts import (
    ObjectCounts,
    count,
    count_cookies,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import (
    daemons,
    ovn,
    packages,
    protection,
    rehearsed,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import kernel_modules as kmod
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import (
    FLOW_RESTORE_WAIT,
    SECRETS,
    Bridge,
    Connection,
    is_true,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.schema import disk_schema_version
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.whole_switch import (
    WholeSwitch,
    read_database,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Runner, run
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.containers import Container

# So many zones of conntrack are named.
_MOST_ZONES = 100


def present(connection: Connection, root: str = "/") -> bool:
    """Whether there is any trace of Open vSwitch: a binary, or a run directory with a database socket."""
    names = (daemons.VSWITCHD, daemons.OVSDB_SERVER)
    files = ("db.sock", *(f"{name}.pid" for name in names))
    traces = [os.path.join(connection.rundir, name) for name in files]
    return any(daemons.on_disk(name, root) for name in names) or any(map(os.path.exists, traces))


def gather(
    connection: Connection, root: str = "/", runner: Runner = run, home: Container | None = None
) -> dict[str, t.Any]:
    """All that ``ovs_info`` returns, as its RETURN documents it; with a ``home`` the disk is that of a container."""
    found = {
        name: daemons.inspect(name, connection.rundir, connection.timeout, root, runner, home=home)
        for name in (daemons.VSWITCHD, daemons.OVSDB_SERVER)
    }
    database, problem = _read_database(connection) if present(connection, root) else (None, "")
    answering = found[daemons.VSWITCHD].running_version is not None
    bridges = side_by_side(
        lambda bridge: _bridge(bridge, connection, answering), database.bridges if database else ()
    )
    schema = {
        "running": database.schema_version if database else None,
        "disk": disk_schema_version(home.root if home else root),
    }
    modules = kmod.modules(root, runner)
    kernel = os.uname().release
    reasons = pending(found.values(), schema)
    known = packages.look(runner, root)
    return {
        "installed": found[daemons.VSWITCHD].installed,
        "upgrade_pending": bool(reasons),
        "upgrade_reasons": reasons,
        "pending_since": _since(found.values()) if reasons else None,
        "daemons": {name: _daemon(daemon) for name, daemon in found.items()},
        "schema": schema,
        "database_error": problem,
        "flow_restore_wait": is_true(database.other_config.get(FLOW_RESTORE_WAIT)) if database else None,
        "hw_offload": is_true(database.other_config.get("hw-offload")) if database else None,
        "other_config": database.other_config if database else None,
        "managers": list(database.managers) if database else None,
        "datapath_types": list(database.datapath_types) if database else None,
        "kernel": kernel,
        "kernel_modules": [
            {**dataclasses.asdict(module), "reload_needed": module.reload_needed} for module in modules
        ],
        "module_support": dataclasses.asdict(
            kmod.support(found[daemons.VSWITCHD].disk_version, kernel, modules)
        ),
        "ovn": _ovn(connection, database, answering, root, runner, home) if database else None,
        "rehearsal": rehearsed.last(root),
        "protection": protection.look({name: each.identity for name, each in found.items()}, root),
        "rollout": rollouts.last(root),
        "package_manager": known.manager,
        "held_packages": known.held,
        "restarting_packages": known.restarting,
        "unfinished_packages": list(known.unfinished),
        "boot": boot_id(),
        "bridges": bridges,
        "totals": totals(bridges),
    }


def pending(found: t.Iterable[daemons.Daemon], schema: t.Mapping[str, str | None]) -> list[str]:
    """Why an upgrade is due, one sentence each; empty when what runs is what is on disk."""
    reasons = []
    for daemon in found:
        if daemon.upgrade_pending and daemon.running_version != daemon.disk_version:
            reasons.append(f"{daemon.name} runs {daemon.running_version}, {daemon.disk_version} is on disk")
        elif daemon.upgrade_pending and daemon.supervisor and daemon.supervisor.kind == "container":
            reasons.append(f"{daemon.name} runs in another container")
        elif daemon.upgrade_pending:
            reasons.append(f"{daemon.name} runs from a file that was replaced since it was started")
    running, disk = schema["running"], schema["disk"]
    if running and disk and running != disk:
        reasons.append(f"the database has schema {running}, {disk} is on disk")
    return reasons


def _since(found: t.Iterable[daemons.Daemon]) -> str | None:
    """When the newest of the programs on the disk came there, in UTC; None where there is none."""
    paths = [daemon.binary for daemon in found if daemon.binary and os.path.exists(daemon.binary)]
    if not paths:
        return None
    moment = datetime.datetime.fromtimestamp(
        max(os.stat(path).st_ctime for path in paths), datetime.timezone.utc
    )
    return moment.isoformat(timespec="seconds")


def totals(bridges: t.Sequence[t.Mapping[str, t.Any]]) -> dict[str, int | None]:
    """Sums over all bridges; what a single bridge did not tell is None, since part of a sum misleads."""
    known = all(bridge["counts"] for bridge in bridges)
    fields = [field.name for field in dataclasses.fields(ObjectCounts)]
    sums = {name: sum(bridge["counts"][name] for bridge in bridges) if known else None for name in fields}
    return {"bridges": len(bridges), "ports": sum(len(bridge["ports"]) for bridge in bridges), **sums}


def _read_database(connection: Connection) -> tuple[WholeSwitch | None, str]:
    try:
        return read_database(connection), ""
    except HotUpgradeError as error:
        return None, str(error)


def _ovn(
    connection: Connection,
    database: WholeSwitch,
    answering: bool,
    root: str,
    runner: Runner,
    home: Container | None,
) -> dict[str, t.Any] | None:
    chassis = ovn.look(connection.rundir, database.external_ids, connection.timeout, root, runner, home)
    if chassis is None:
        return None
    described = {field.name: getattr(chassis, field.name) for field in dataclasses.fields(chassis)}
    zones = chassis.zones
    return {
        **described,
        "controller": _daemon(chassis.controller),
        "zones": None if zones is None else len(zones),
        "zone_numbers": zones if zones is not None and len(zones) <= _MOST_ZONES else None,
        "flows": _flows_of(chassis.bridge, connection) if answering else None,
    }


def _flows_of(bridge: str, connection: Connection) -> dict[str, t.Any] | None:
    """The flows of the integration bridge by their cookies; None where it does not answer."""
    try:
        path = management_socket(connection.rundir, bridge)
        return dataclasses.asdict(count_cookies(path, connection.timeout))
    except HotUpgradeError:
        return None


def _daemon(daemon: daemons.Daemon) -> dict[str, t.Any]:
    process = daemon.process
    return {
        "running": daemon.running,
        "installed": daemon.installed,
        "upgrade_pending": daemon.upgrade_pending,
        "pid": process.pid if process else None,
        "identity": daemon.identity,
        "pidfile": daemon.pidfile,
        "user": daemon.user,
        "running_version": daemon.running_version,
        "disk_version": daemon.disk_version,
        "binary": daemon.binary,
        "binary_replaced": daemon.binary_replaced,
        "supervisor": dataclasses.asdict(daemon.supervisor) if daemon.supervisor else None,
        "doubt": daemon.doubt,
    }


def _bridge(bridge: Bridge, connection: Connection, answering: bool) -> dict[str, t.Any]:
    counts, problem = None, "ovs-vswitchd does not answer"
    if answering:
        try:
            path = management_socket(connection.rundir, bridge.name)
            counts, problem = dataclasses.asdict(count(path, connection.timeout)), ""
        except HotUpgradeError as error:
            problem = str(error)
    described = dataclasses.asdict(bridge)
    for interface in described["interfaces"]:
        for key in SECRETS & interface["options"].keys():
            del interface["options"][key]
    return {**described, "counts": counts, "counts_error": problem}
