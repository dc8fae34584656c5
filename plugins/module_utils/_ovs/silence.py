# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""A copy of the database whose ovs-vswitchd speaks to nobody beside the one that runs."""

from __future__ import annotations

import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import (
    DATABASE,
    FLOW_RESTORE_WAIT,
    Ovsdb,
    ofport_requests,
)


def silence(copy: Ovsdb) -> list[dict[str, t.Any]]:
    """The operations that set the flag and take out whatever would speak to somebody beside the first process."""
    empty = ["set", []]
    # Ports that cannot be opened beside the first process get their numbers when it has ended.
    interfaces = [interface for bridge in copy.bridges() for interface in bridge.interfaces]
    numbers = ofport_requests((interface.name, interface.ofport) for interface in interfaces)
    flag = [["other_config", "insert", ["map", [[FLOW_RESTORE_WAIT, "true"]]]]]
    operations: list[dict[str, t.Any]] = [
        {"op": "mutate", "table": DATABASE, "where": [], "mutations": flag},
        {"op": "update", "table": DATABASE, "where": [], "row": {"manager_options": empty}},
        {"op": "delete", "table": "Flow_Sample_Collector_Set", "where": []},
        *numbers,
    ]
    speakers = ("controller", "sflow", "netflow", "ipfix")
    operations.append({"op": "update", "table": "Bridge", "where": [], "row": dict.fromkeys(speakers, empty)})
    trees = {"stp_enable": False, "rstp_enable": False}
    operations.append({"op": "update", "table": "Bridge", "where": [], "row": trees})
    operations.append({"op": "update", "table": "Port", "where": [], "row": {"lacp": empty}})
    silent = {"bfd": ["map", []], "cfm_mpid": empty, "lldp": ["map", []]}
    known = {
        name: silent[name] for name in silent.keys() & copy.schema["tables"]["Interface"]["columns"].keys()
    }
    operations.append({"op": "update", "table": "Interface", "where": [], "row": known})
    return operations
