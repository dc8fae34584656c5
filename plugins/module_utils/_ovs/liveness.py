# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What BFD, CFM and LACP have found out, as the database tells it: no file holds it, so a restart of ovsdb-server forgets it.

ovs-vswitchd tells it again when it is connected again, about a second later. Others act on it: a gateway chassis of OVN that sees
no session of BFD up gives its ports away (ovn-controller, ha_chassis_group_is_active).
"""

from __future__ import annotations

import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Ovsdb

_TABLE = "Interface"
_COLUMNS = (
    "bfd_status",
    "cfm_fault",
    "cfm_fault_status",
    "cfm_health",
    "cfm_remote_mpids",
    "cfm_remote_opstate",
    "lacp_current",
)
Json = dict[str, t.Any]


def told(database: Ovsdb) -> list[Json]:
    """The operations (RFC 7047 section 5.2) that tell it once more, each where nothing has been told since."""
    known = database.schema["tables"][_TABLE]["columns"]
    columns = [name for name in _COLUMNS if known.get(name, {}).get("ephemeral", False)]
    (result,) = database.transact(
        {"op": "select", "table": _TABLE, "where": [], "columns": ["_uuid", *columns]}
    )
    return [
        _update(row["_uuid"], name, row[name])
        for row in result["rows"]
        for name in columns
        if not _is_empty(row[name])
    ]


def tell_again(database: Ovsdb, operations: t.Sequence[Json]) -> None:
    """Do them; raises ``HotUpgradeError``."""
    known = database.schema["tables"][_TABLE]["columns"]
    possible = [each for each in operations if each["row"].keys() <= known.keys()]
    if possible:
        database.transact(*possible)


def _update(uuid: t.Any, column: str, value: t.Any) -> Json:
    nothing = ["map", []] if isinstance(value, list) and value[0] == "map" else ["set", []]
    where = [["_uuid", "==", uuid], [column, "==", nothing]]
    return {"op": "update", "table": _TABLE, "where": where, "row": {column: value}}


def _is_empty(value: t.Any) -> bool:
    return isinstance(value, list) and not value[1]
