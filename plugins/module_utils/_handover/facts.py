# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The look at a host that a plan rests on."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.side_by_side import side_by_side
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import executables, shaping
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners import choice
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners.systemd import (
    DROP_IN,
    HOLD,
    Systemd,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.plan import Facts
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.spoken import (
    Spoken,
    overhear,
    speaking,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import management_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.counts import count
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import (
    conntrack,
    database_content,
    homes,
    service_start,
    upcall_dispatch,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl, daemon_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import (
    OVSDB_SERVER,
    VSWITCHD,
    Daemon,
    inspect,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.homes import Homes
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import (
    Instance,
    instance_of,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import (
    FLOW_RESTORE_WAIT,
    Bridge,
    Connection,
    is_true,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.schema import (
    disk_schema_version,
    read_schema,
    schema_file,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.whole_switch import read_database
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof import traffic
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import (
    containers,
    links,
    memory,
    unit_files,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.likeness import drops
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.trust import (
    doubt_of_directory,
    user_name,
    user_of,
)


def read_facts(connection: Connection, between: Homes | None = None) -> Facts:
    """The facts that a plan rests on; ``between`` are the containers that the daemons are to move between.

    Raises ``HotUpgradeError`` when the database does not answer.
    """
    home = homes.enter(between)
    homes.require_shared(home, connection.rundir)
    vswitchd = inspect(VSWITCHD, connection.rundir, connection.timeout, home=home)
    server = inspect(OVSDB_SERVER, connection.rundir, connection.timeout, home=home)
    database = read_database(connection)
    process = vswitchd.process
    if server.process is not None:
        homes.require_database(home, server.process, instance_of(server.process).argv)
    instances = {daemon.name: instance_of(daemon.process) for daemon in (vswitchd, server) if daemon.process}
    return Facts(
        vswitchd=vswitchd,
        server=server,
        schema_running=database.schema_version,
        schema_on_disk=disk_schema_version(homes.root_of(home)) or database.schema_version,
        bridges=database.bridges,
        other_config=database.other_config,
        flows=_flows(connection, database.bridges) if process else 0,
        memory_available=memory.available(),
        memory_vswitchd=memory.resident(process.pid) if process else 0,
        foreign_flag=is_true(database.other_config.get(FLOW_RESTORE_WAIT)),
        confined=_confinement(process.pid) if process else None,
        down=frozenset(filter(links.is_down, _cut_off_devices(database.bridges))),
        tracked=_tracked(connection, database.bridges) if process else 0,
        socket_user=_socket_user(server) if home is None else None,
        start=_foresight(connection, server, vswitchd) if home is None else service_start.Foresight(),
        groups=traffic.select_groups(connection, database.bridges) if process else (),
        live=traffic.live(connection, database.bridges) if process else None,
        instances=instances,
        distrust=(*_distrust(connection.rundir, instances), *_astray(between, (vswitchd, server))),
        dropped=_dropped(connection, homes.root_of(home)),
        homes=between,
        ingress=_ingress(connection),
        spoken=_spoken(connection, database.bridges) if process else Spoken(),
        upcalls_told=_upcalls_told(database.bridges),
    )


def _distrust(rundir: str, instances: t.Mapping[str, Instance]) -> t.Iterator[str]:
    """What a hand-over would have to rely on although somebody else than root can change it (docs/security.md)."""
    wrong = doubt_of_directory(os.path.dirname(os.path.realpath(rundir)))
    if wrong:
        yield f"a run directory cannot be made beside {rundir}: {wrong}"
    for name, instance in instances.items():
        if instance.doubt:
            yield f"root cannot start another {name} like the running one: {instance.doubt}"
        user = user_of(instance.process.pid)
        if user and not drops(instance.argv):
            yield (
                f"{name} runs as {user_name(user)}, which it did not become by --user: nothing that is kept for a rollback "
                f"could be executed as that user; have it started as root with --ovs-user={user_name(user)} (ovs-ctl)"
            )


def _astray(between: Homes | None, found: t.Iterable[Daemon]) -> t.Iterator[str]:
    """Daemons that cannot move between these containers: because they are in neither, or one would end with them."""
    if between is None:
        return
    first = containers.find(between.before).first
    for daemon in found:
        if daemon.process == first:
            yield f"{daemon.name} is the first process of its container, which would end with it and be started again"
        elif daemon.process and not between.in_either(daemon.process):
            where = containers.holding(daemon.process)
            own = f"container {where[:12]}" if where else "no container"
            yield f"{daemon.name} is in {own}, not in container {between.before[:12]} as was said"


def _cut_off_devices(bridges: t.Sequence[Bridge]) -> set[str]:
    names = {interface.name for bridge in bridges for interface in bridge.interfaces}
    return {links.device(name) for name in names} - names


def _flows(connection: Connection, bridges: t.Iterable[Bridge]) -> int:
    paths = [management_socket(connection.rundir, bridge.name) for bridge in bridges]
    return sum(counts.flows for counts in side_by_side(lambda path: count(path, connection.timeout), paths))


def _tracked(connection: Connection, bridges: t.Sequence[Bridge]) -> int:
    """How many connections the userspace datapath tracks: the kernel keeps its own."""
    if all(bridge.datapath_type != "netdev" for bridge in bridges):
        return 0
    try:
        return conntrack.count(Appctl(daemon_socket(connection.rundir, VSWITCHD), connection.timeout))
    except HotUpgradeError:  # no datapath: nothing is tracked
        return 0


def _spoken(connection: Connection, bridges: t.Sequence[Bridge]) -> Spoken:
    """What ovs-vswitchd shows of LACP, BFD and CFM, where there is any."""
    if not speaking(bridges):
        return Spoken()
    return overhear(Appctl(daemon_socket(connection.rundir, VSWITCHD), connection.timeout))


def _upcalls_told(bridges: t.Sequence[Bridge]) -> bool:
    if not any(bridge.datapath_type == "system" for bridge in bridges):
        return False
    try:
        return upcall_dispatch.read() is not None
    except HotUpgradeError:  # no datapath yet
        return False


def _foresight(connection: Connection, *found: Daemon) -> service_start.Foresight:
    """What starting the services of these daemons would do besides starting them."""
    with connection.open() as database:
        known = service_start.known(database)
    services = [_service(daemon) for daemon in found]
    foreseen = service_start.together(service_start.foresee(service, known) for service in services)
    lost = executables.missing(services)
    return dataclasses.replace(foreseen, refusals=(*lost, *foreseen.refusals))


def _ingress(connection: Connection) -> tuple[str, ...]:
    """The ports with an ingress qdisc that is not Open vSwitch's."""
    with connection.open() as database:
        found = shaping.foreign(database, shaping.shapers())
    return tuple(each.device for each in found if each.ingress)


def _dropped(connection: Connection, root: str) -> tuple[str, ...]:
    """What is in the database that the schema on the disk has no place for."""
    path = schema_file(root)
    if path is None:
        return ()
    schema = read_schema(path)
    with connection.open() as database:
        return tuple(map(str, database_content.lost(database, schema)))


def _service(daemon: Daemon) -> unit_files.Service | None:
    owner = choice.of_daemon(daemon) if daemon.running else None
    if not isinstance(owner, Systemd):
        return None
    return unit_files.read(owner.unit, ignored=(DROP_IN, HOLD))


def _socket_user(server: Daemon) -> str | None:
    owner = choice.of_daemon(server) if server.running else None
    return owner.socket_user if isinstance(owner, Systemd) else None


def _confinement(pid: int) -> str | None:
    """The AppArmor or SELinux label that confines the process (proc_pid_attr(5)), None when none does."""
    label = _first_line(f"/proc/{pid}/attr/current")
    if label.endswith(" (enforce)"):
        return label
    if _first_line("/sys/fs/selinux/enforce") == "1" and "unconfined" not in label:
        return label
    return None


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip("\0\n ")
    except OSError:
        return ""
