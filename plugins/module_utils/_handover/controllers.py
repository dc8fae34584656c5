# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Controllers of the database that shall connect when their bridge is filled, and not before.

ovs-vswitchd flushes a bridge when it gets its first primary controller (``connmgr_set_controllers`` in ofproto/connmgr.c),
and connects at once: a controller that is quicker than we are would find an empty bridge.  When one primary controller
takes the place of another nothing is flushed.  So the first one is a stand-in, at a socket that nobody serves.

A controller or manager that is reached by a bridge itself (in-band, the default) is let through by hidden flows, which a process
without it does not have.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import (
    ACTIVE,
    DATABASE,
    Ovsdb,
    Row,
    is_true,
)

# In ``external_ids`` of a controller that is held: its columns as they were, as JSON.
HELD = "ovsops-held"

# In milliseconds: a bridge with fail_mode=standalone is flushed after three of it without a controller (fail_open_run).
_PATIENCE = 3_600_000

_PASSIVE = ("ptcp:", "pssl:", "punix:")
_COLUMNS = ("_uuid", "target", "type", "inactivity_probe", "external_ids")

# Of what is reached by a bridge only IPv4 counts; where nothing is said, the port is that of OpenFlow, or of OVSDB.
_REACHED = ("tcp:", "ssl:")
_OPENFLOW, _OVSDB = "6653", "6640"
_IN_BAND = (None, "in-band")
# In ``other_config`` of a bridge: no hidden flows, whatever its controllers and the managers want.
DISABLE_IN_BAND = "disable-in-band"
# A manager at 127.0.0.1 makes no hidden flows, and a controller there does: for what the local port asks and is answered by ARP.
_LOOPBACK, _ALSO_LOOPBACK = "127.0.0.1", "127.0.0.2"

Operation = dict[str, t.Any]


def hold(database: Ovsdb, bridges: t.Collection[str]) -> None:
    """Have the controllers of ``bridges`` name sockets that nobody serves, until ``let_go``; held ones stay held.

    To be done while ovs-vswitchd does not look at controllers, under the flag: else it is what disconnects them.
    """
    rows = _controllers(database, bridges)
    held = [row for row in rows if _type(row) and HELD not in row["external_ids"]]
    if held:
        database.transact(*(operation for row in held for operation in _hold(row)))


def let_go(database: Ovsdb) -> None:
    """Have every controller that is held be as it was; what somebody else has changed meanwhile stays."""
    rows = [row for row in database.select("Controller", _COLUMNS) if HELD in row["external_ids"]]
    if rows:
        database.transact(*(operation for row in rows for operation in _let_go(row)))


def stand_in(real: Ovsdb, copy: Ovsdb, bridges: t.Collection[str]) -> None:
    """Give those of ``bridges`` that have a primary controller in ``real`` a stand-in for it in ``copy``, which has none."""
    numbers = {row["_uuid"] for row in _controllers(real, bridges) if _type(row) == "primary"}
    rows = real.select("Bridge", ("name", "controller"))
    names = [row["name"] for row in rows if row["name"] in bridges and numbers & set(row["controller"])]
    if names:
        copy.transact(
            *(operation for index, name in enumerate(names) for operation in _stand_in(name, f"c{index}"))
        )


def let_through(real: Ovsdb, copy: Ovsdb) -> None:
    """Have the process of ``copy``, which has neither controllers nor managers, let through those of ``real``.

    Every bridge makes hidden flows for managers, to whom ovs-vswitchd itself never speaks (collect_in_band_managers in
    vswitchd/bridge.c).  So all are managers in ``copy``.  A bridge that does not have all of them in ``real`` has none there.
    """
    bridges, rows, managers = real.select_many(
        ("Bridge", ("name", "controller", "other_config"), ()),
        ("Controller", ("_uuid", "target", "connection_mode"), ()),
        ("Manager", ("target", "connection_mode"), ()),
    )
    by_uuid = {row["_uuid"]: row for row in rows}
    everywhere = {remote for remote in _remotes(managers, _OVSDB) if remote[0] != _LOOPBACK}
    reached = {
        bridge["name"]: everywhere
        | set(_remotes((by_uuid[uuid] for uuid in bridge["controller"]), _OPENFLOW))
        for bridge in bridges
        if not is_true(bridge["other_config"].get(DISABLE_IN_BAND))
    }
    if wanted := everywhere.union(*reached.values()):
        without = [name for name, remotes in reached.items() if remotes != wanted]
        copy.transact(*_as_managers(wanted), *map(_disable, without))


def _remotes(rows: t.Iterable[Row], usual: str) -> t.Iterator[tuple[str, str]]:
    """The (address, port) for which a bridge makes hidden flows; the port is the ``usual`` one where none is named."""
    for row in rows:
        if row["connection_mode"] not in _IN_BAND or not row["target"].startswith(_REACHED):
            continue
        address, __, port = row["target"].partition(":")[2].partition(":")
        with contextlib.suppress(ValueError):  # a name, or IPv6
            yield str(ipaddress.IPv4Address(address)), port or usual


def _as_managers(remotes: t.Collection[tuple[str, str]]) -> list[Operation]:
    targets = sorted(
        {f"tcp:{_ALSO_LOOPBACK if address == _LOOPBACK else address}:{port}" for address, port in remotes}
    )
    names = [f"m{index}" for index in range(len(targets))]
    rows: list[Operation] = [
        {"op": "insert", "table": "Manager", "row": {"target": target}, "uuid-name": name}
        for name, target in zip(names, targets)
    ]
    options = ["set", [["named-uuid", name] for name in names]]
    return [*rows, _mutate(DATABASE, [], ["manager_options", "insert", options])]


def _disable(bridge: str) -> Operation:
    where = [["name", "==", bridge]]
    # Whatever is there is no "true", and an insertion leaves a key that is there.
    delete = ["other_config", "delete", ["set", [DISABLE_IN_BAND]]]
    insert = ["other_config", "insert", ["map", [[DISABLE_IN_BAND, "true"]]]]
    return {"op": "mutate", "table": "Bridge", "where": where, "mutations": [delete, insert]}


def _controllers(database: Ovsdb, bridges: t.Collection[str]) -> list[Row]:
    owners, rows = database.select_many(("Bridge", ("name", "controller"), ()), ("Controller", _COLUMNS, ()))
    wanted = {uuid for owner in owners if owner["name"] in bridges for uuid in owner["controller"]}
    return [row for row in rows if row["_uuid"] in wanted]


def _type(row: Row) -> str | None:
    """What ovs-vswitchd takes it for (get_controller_ofconn_type in vswitchd/bridge.c); None: it ignores it."""
    if not row["target"].startswith(ACTIVE + _PASSIVE):
        return None
    return row["type"] or ("primary" if row["target"].startswith(ACTIVE) else "service")


def _hold(row: Row) -> list[Operation]:
    saved = json.dumps({column: row[column] for column in ("target", "type", "inactivity_probe")})
    values = {"target": _nowhere(row["_uuid"]), "type": _type(row), "inactivity_probe": _PATIENCE}
    where = [*_of(row), ["target", "==", row["target"]]]
    return [
        _mutate("Controller", where, ["external_ids", "insert", ["map", [[HELD, saved]]]]),
        _update(where, values),
    ]


def _let_go(row: Row) -> list[Operation]:
    saved = json.loads(row["external_ids"][HELD])
    values = {column: _wire(saved[column]) for column in ("type", "inactivity_probe")}
    return [
        _update(_of(row), values),
        _update([*_of(row), ["target", "==", _nowhere(row["_uuid"])]], {"target": saved["target"]}),
        _mutate("Controller", _of(row), ["external_ids", "delete", ["set", [HELD]]]),
    ]


def _stand_in(bridge: str, name: str) -> list[Operation]:
    values = {"target": _nowhere(name), "type": "primary", "inactivity_probe": _PATIENCE}
    where = [["name", "==", bridge]]
    return [
        {"op": "insert", "table": "Controller", "row": values, "uuid-name": name},
        _mutate("Bridge", where, ["controller", "insert", ["set", [["named-uuid", name]]]]),
    ]


def _nowhere(name: str) -> str:
    """A socket in the run directory of ovs-vswitchd, which alone is allowed, that is not there."""
    return f"unix:{name}.held"


def _of(row: Row) -> list[t.Any]:
    return [["_uuid", "==", ["uuid", row["_uuid"]]]]


def _update(where: t.Sequence[t.Any], values: t.Mapping[str, t.Any]) -> Operation:
    return {"op": "update", "table": "Controller", "where": list(where), "row": dict(values)}


def _mutate(table: str, where: t.Sequence[t.Any], mutation: t.Sequence[t.Any]) -> Operation:
    return {"op": "mutate", "table": table, "where": list(where), "mutations": [list(mutation)]}


def _wire(value: t.Any) -> t.Any:
    """An optional scalar on the wire."""
    return ["set", []] if value is None else value
