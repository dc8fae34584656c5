# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What the running database says of the whole switch."""

from __future__ import annotations

import dataclasses

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import (
    DATABASE,
    Bridge,
    Connection,
)


@dataclasses.dataclass(frozen=True)
class WholeSwitch:
    """What the running database says of the whole switch."""

    schema_version: str
    bridges: tuple[Bridge, ...]
    managers: tuple[str, ...]
    datapath_types: tuple[str, ...]
    other_config: dict[str, str]
    external_ids: dict[str, str]


def read_database(connection: Connection) -> WholeSwitch:
    """The whole switch from its database.  Raises ``HotUpgradeError`` if it does not answer."""
    with connection.open() as db:
        columns = ("other_config", "external_ids", "datapath_types")
        switches, managers = db.select_many((DATABASE, columns, ()), ("Manager", ("target",), ()))
        switch = switches[0] if switches else {"other_config": {}, "external_ids": {}, "datapath_types": []}
        return WholeSwitch(
            schema_version=db.schema_version,
            bridges=tuple(db.bridges()),
            managers=tuple(sorted(row["target"] for row in managers)),
            datapath_types=tuple(sorted(switch["datapath_types"])),
            other_config=switch["other_config"],
            external_ids=switch["external_ids"],
        )
