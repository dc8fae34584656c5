# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""A whole host's OpenFlow state: take it, restore it, compare it.

Bridges are independent of each other, so they are worked on side by side.  A restore stages every bridge
before it commits the first: if one switch refuses, no bridge has changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import types
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.side_by_side import side_by_side
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import oversize, wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import state as flowstate
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.compare import (
    EXACT,
    Difference,
    Ignore,
    renumbered,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.compare import (
    compare as compare_states,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import management_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.restore import Staged, stage
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import bonds
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl, daemon_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.database_file import backup
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import (
    Bridge,
    Connection,
    Ovsdb,
    ofport_requests,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import directory as snapshots
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import learned

# The switch may think for a while about a million flows before it answers.
_OPENFLOW_TIMEOUT = 60.0
_PIN_TIMEOUT = 30.0
# Of more flows the text would take too much memory.
_MOST_AS_TEXT = 100_000

_ONLY_OPENFLOW10 = (
    "with mod_vlan_vid or mod_vlan_pcp, which only OpenFlow 1.0 has: restored, they push a tag onto packets that have "
    "one already, instead of changing it"
)

Values = dict[str, t.Any]


# Engine: usable without Ansible


def take(
    connection: Connection, path: str, bridges: t.Sequence[str] = (), backup_database: bool = False
) -> snapshots.Snapshot:
    """Write the state of ``bridges`` (all) to the directory ``path``, replacing an older snapshot there."""
    with connection.open() as database:
        live, schema = _chosen(database, bridges), database.schema_version
    counts = side_by_side(lambda bridge: count_flows(connection, bridge.name), live)
    with snapshots.Writer(path, sum(counts)) as writer:
        neighbours = learned.neighbours(_vswitchd(connection))
        taken = side_by_side(
            lambda item: _take_bridge(connection, writer, neighbours, *item), enumerate(live, 1), sum(counts)
        )
        if backup_database:
            _backup(connection, writer)
        return writer.finish(
            {**_about_host(connection, schema), "bridges": [dataclasses.asdict(bridge) for bridge in taken]}
        )


def live_bridges(connection: Connection, names: t.Sequence[str] = ()) -> list[Bridge]:
    """The bridges of the database, or those of ``names``. Raises ``Refused`` if one of ``names`` is not there."""
    with connection.open() as database:
        return _chosen(database, names)


def _chosen(database: Ovsdb, names: t.Sequence[str]) -> list[Bridge]:
    found = {bridge.name: bridge for bridge in database.bridges()}
    missing = [name for name in names if name not in found]
    if missing:
        have = ", ".join(map(repr, sorted(found))) or "no bridge at all"
        raise Refused(
            f"there is no bridge {missing[0]!r} on this host",
            f"there is {have}",
            "Correct the option bridges",
        )
    return [found[name] for name in sorted(set(names) or found)]


class Restoration:
    """All wanted bridges of a snapshot, staged in their switches; ``commit`` makes them live. A context manager."""

    def __init__(self, connection: Connection, states: t.Mapping[str, flowstate.State]) -> None:
        self._stack = contextlib.ExitStack()
        self._staged: dict[str, Staged] = {}
        try:
            side_by_side(lambda item: self._stage(connection, *item), states.items(), _flows(states))
        except BaseException:
            with self._stack, contextlib.suppress(HotUpgradeError):
                self.discard()
            raise

    def __enter__(self) -> Restoration:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._stack.close()

    def commit(self) -> None:
        """Replace the state of every bridge."""
        side_by_side(Staged.commit, self._staged.values(), each=True)

    def discard(self) -> None:
        """Leave every bridge as it was."""
        side_by_side(Staged.discard, self._staged.values(), each=True)

    def _stage(self, connection: Connection, name: str, state: flowstate.State) -> None:
        path = management_socket(connection.rundir, name)
        switch = self._stack.enter_context(flowstate.Switch(path, (state.version,), _timeout(connection)))
        self._staged[name] = stage(switch, state, in_parts=True)


def compare(
    connection: Connection,
    states: t.Mapping[str, flowstate.State],
    ignore: Ignore = EXACT,
) -> dict[str, Difference]:
    """How each live bridge differs from ``states``; a bridge without difference is not in the result."""

    def one(item: tuple[str, flowstate.State]) -> tuple[str, Difference]:
        name, state = item
        path = management_socket(connection.rundir, name)
        with flowstate.Switch(path, (state.version,), _timeout(connection)) as switch:
            return name, compare_states(state, switch.state(), ignore)

    return {
        name: difference
        for name, difference in side_by_side(one, states.items(), _flows(states))
        if not difference.same
    }


def port_faults(
    connection: Connection, states: t.Mapping[str, flowstate.State], lost: t.Sequence[str] = ()
) -> dict[str, list[str]]:
    """For each live bridge what is wrong with its ports, compared with ``states``; one without a fault is not in the result.

    A port has another number, or is gone although the database has its interface, which is not announced as ``lost``.
    Others are none: somebody has added or deleted them.
    """
    configured = {
        bridge.name: {wire.port_name(each.name) for each in bridge.interfaces if each.name not in lost}
        for bridge in live_bridges(connection)
    }

    def one(item: tuple[str, flowstate.State]) -> tuple[str, list[str]]:
        name, state = item
        path = management_socket(connection.rundir, name)
        with flowstate.Switch(path, (state.version,), _timeout(connection)) as switch:
            live = switch.settings()
        gone = set(state.settings.names.values()) - set(live.names.values())
        missing = sorted(gone & configured.get(name, set()))
        return name, [
            *renumbered(state.settings, live),
            *(f"port {port!r} is gone" for port in missing),
        ]

    there = [item for item in states.items() if item[0] in configured]
    return {name: faults for name, faults in side_by_side(one, there) if faults}


class Numbered(t.Protocol):
    """A bridge, saved or live."""

    @property
    def ofports(self) -> t.Mapping[str, int]:
        """The ofport of each interface, by its name; -1 where it has none."""


def moved_ports(saved: Numbered, live: Numbered) -> list[str]:
    """One sentence for each interface of ``saved`` that is gone or has another ofport in ``live``: flows mean others then."""
    now = live.ofports
    return [
        f"{name!r} had ofport {ofport}, " + (f"now it has {now[name]}" if name in now else "now it is gone")
        for name, ofport in sorted(saved.ofports.items())
        if ofport > 0 and now.get(name) != ofport
    ]


def pin_ports(connection: Connection, saved: t.Sequence[snapshots.SavedBridge]) -> None:
    """Request the ofports of the snapshot for every interface, and wait until they have them.

    Raises ``HotUpgradeError`` naming those that did not get theirs.
    """
    requests = ofport_requests(item for bridge in saved for item in bridge.ofports.items())
    names = [bridge.name for bridge in saved]

    def wrong() -> list[str]:
        live = {bridge.name: bridge for bridge in live_bridges(connection, names)}
        return [
            f"{bridge.name}: {text}" for bridge in saved for text in moved_ports(bridge, live[bridge.name])
        ]

    with connection.open() as database:
        database.transact(*requests)
    Waiter(_PIN_TIMEOUT).wait(
        "every interface has the ofport of the snapshot",
        wrong,
        lambda found: not found,
        "; ".join,
        "Add the missing interfaces again, or restore with ofports=ignore if no flow needs them",
    )


def restore_learned(connection: Connection, saved: t.Sequence[snapshots.SavedBridge]) -> list[str]:
    """Set MAC entries and tunnel neighbours again. Returns one sentence for each kind that could not be set."""
    vswitchd, lost = _vswitchd(connection), []
    tags, active = _access_tags(connection), bonds.stand_ins(bonds.parse(vswitchd.call("bond/show")))
    for bridge in saved:
        ports = {str(ofport): name for name, ofport in bridge.ofports.items()} | {"LOCAL": bridge.name}
        entries = [learned.MacEntry(**entry) for entry in bridge.fdb]
        lost += learned.restore_mac_table(
            vswitchd, bridge.name, ports, [entry for entry in entries if entry.static]
        )
        mine = {ofport: tags[name] for ofport, name in ports.items() if name in tags}
        heard_at = {
            ofport: str(bridge.ofports.get(active.get(name, name), ofport)) for ofport, name in ports.items()
        }
        lost += learned.teach(vswitchd, bridge.name, mine, entries, heard_at)
        lost += learned.restore_neighbours(
            vswitchd, [learned.Neighbour(**entry) for entry in bridge.neighbours]
        )
    return lost


def with_learned(
    connection: Connection, saved: t.Sequence[snapshots.SavedBridge]
) -> list[snapshots.SavedBridge]:
    """``saved`` with the MAC tables and tunnel neighbours of now."""
    vswitchd = _vswitchd(connection)
    neighbours = learned.neighbours(vswitchd)
    found = side_by_side(lambda bridge: _learned_by(vswitchd, bridge.name, neighbours), saved)
    return [dataclasses.replace(bridge, **values) for bridge, values in zip(saved, found)]


def _learned_by(vswitchd: Appctl, bridge: str, neighbours: t.Sequence[learned.Neighbour]) -> Values:
    return {
        "fdb": [entry._asdict() for entry in learned.mac_table(vswitchd, bridge)],
        "neighbours": [entry._asdict() for entry in neighbours if entry.bridge == bridge],
    }


def _access_tags(connection: Connection) -> dict[str, int]:
    """The VLAN of each interface of an access port."""
    with connection.open() as database:
        tags = {row["name"]: row["tag"] for row in database.select("Port", ("name", "tag"))}
        interfaces = [interface for bridge in database.bridges() for interface in bridge.interfaces]
    return {each.name: tags[each.port] for each in interfaces if tags.get(each.port) is not None}


def _take_bridge(
    connection: Connection,
    writer: snapshots.Writer,
    neighbours: t.Sequence[learned.Neighbour],
    number: int,
    bridge: Bridge,
) -> snapshots.SavedBridge:
    path, name = management_socket(connection.rundir, bridge.name), f"bridge-{number:04}.of"
    vswitchd = _vswitchd(connection)
    with flowstate.Switch(path, timeout=_timeout(connection)) as switch, writer.file(name) as file:
        _require_small_flows(switch, vswitchd, bridge.name)
        taken = flowstate.take(switch, file.write)
    lost = list(taken.not_carried)
    if taken.pushes_vlan and taken.counts.flows <= _MOST_AS_TEXT:
        lost += _vlan_actions(vswitchd.call("bridge/dump-flows", bridge.name))
    elif taken.pushes_vlan:
        lost.append(f"those flows that set a VLAN {_ONLY_OPENFLOW10}")
    return snapshots.SavedBridge(
        name=bridge.name,
        datapath_id=bridge.datapath_id,
        datapath_type=bridge.datapath_type,
        openflow_version=wire.VERSION_NAMES[taken.version],
        ports_version=wire.VERSION_NAMES[taken.ports_version],
        ofports=bridge.ofports,
        counts=dataclasses.asdict(taken.counts),
        not_carried=lost,
        file=name,
        settings_bytes=taken.settings_bytes,
        **_learned_by(vswitchd, bridge.name, neighbours),
    )


def _require_small_flows(switch: flowstate.Switch, vswitchd: Appctl, bridge: str) -> None:
    """Raise ``Refused`` where the switch may end when it is asked for its flows; see ``oversize``."""
    software = switch.software()
    if not oversize.ends_over_large_flows(software) or switch.about_flows() > _MOST_AS_TEXT:
        return
    large = list(oversize.large_flows(vswitchd.call("bridge/dump-flows", bridge)))
    if large:
        raise Refused(
            f"the flows of {bridge} cannot be read",
            f"{len(large)} of them may take more than a message of OpenFlow may have, 64 KB (the first: {large[0]}); "
            f"ovs-vswitchd {software} may end when it is asked for them",
            "Make several flows of each. Nothing that asks for all flows of the bridge (ovs-ofctl dump-flows, ovs-save) is safe "
            "until then",
        )


def _vlan_actions(flows: str) -> list[str]:
    """What newer versions cannot say of the VLAN actions of OpenFlow 1.0; ``flows`` as ``bridge/dump-flows`` shows them."""
    parts = (line.partition("actions=") for line in flows.splitlines())
    matches = [match for match, __, actions in parts if "mod_vlan_" in actions and "dl_vlan=" not in match]
    if not matches:
        return []
    return [f"{len(matches)} flows set a VLAN {_ONLY_OPENFLOW10}"]


def count_flows(connection: Connection, bridge: str) -> int:
    """How many flows ``bridge`` has, hidden ones included."""
    with flowstate.Switch(
        management_socket(connection.rundir, bridge), timeout=_timeout(connection)
    ) as switch:
        return switch.about_flows()


def _about_host(connection: Connection, schema: str) -> Values:
    return {
        "host": socket.gethostname(),
        "versions": {
            "ovs_vswitchd": _vswitchd(connection).call("version").partition("\n")[0].rpartition(" ")[2],
            "schema": schema,
            "kernel": os.uname().release,
            "module": _module_srcversion(),
        },
    }


def _module_srcversion() -> str | None:
    try:
        with open("/sys/module/openvswitch/srcversion", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None


def _backup(connection: Connection, writer: snapshots.Writer) -> None:
    """The database into the snapshot: for people, never used by a restore."""
    try:
        content = backup(connection.remote, _timeout(connection))
    except HotUpgradeError as error:
        raise HotUpgradeError(
            "cannot back up the database", str(error), "Set backup_database=false"
        ) from error
    with writer.file(snapshots.CONFIGURATION) as file:
        file.write(content.encode())


def _vswitchd(connection: Connection) -> Appctl:
    return Appctl(daemon_socket(connection.rundir, "ovs-vswitchd"), connection.timeout)


def _flows(states: t.Mapping[str, flowstate.State]) -> int:
    return sum(state.flows for state in states.values())


def _timeout(connection: Connection) -> float:
    return max(connection.timeout, _OPENFLOW_TIMEOUT)
