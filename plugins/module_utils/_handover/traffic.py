# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What a plan has to know of the traffic on a host: what a proof could cover, and the groups that spread connections."""

from __future__ import annotations

import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.side_by_side import side_by_side
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import proof, selection
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.megaflows import Survey
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import management_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import Switch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl, daemon_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Bridge, Connection

# A dump of many megaflows takes longer than other answers, in seconds.
_DUMP_TIMEOUT = 60.0


def select_groups(connection: Connection, bridges: t.Sequence[Bridge]) -> tuple[selection.Group, ...]:
    """The select groups of all bridges.  Raises ``HotUpgradeError``."""

    def one(bridge: Bridge) -> list[selection.Group]:
        path = management_socket(connection.rundir, bridge.name)
        with Switch(path, timeout=connection.timeout) as switch:
            of = switch.main
            replies = of.stream(wire.group_desc_request(of.version, of.xid()))
            return [group for reply in replies for group in selection.groups(bridge.name, reply)]

    return tuple(group for groups in side_by_side(one, bridges) for group in groups)


def live(connection: Connection, bridges: t.Sequence[Bridge]) -> Survey | None:
    """The live megaflows of the datapath; None where there is none to ask."""
    userspace = all(bridge.datapath_type == "netdev" for bridge in bridges)
    internal = {each.name for bridge in bridges for each in bridge.interfaces if each.type == "internal"}
    control = Appctl(daemon_socket(connection.rundir, VSWITCHD), max(connection.timeout, _DUMP_TIMEOUT))
    try:
        return proof.survey(control.call, proof.USERSPACE if userspace else proof.KERNEL, internal)
    except HotUpgradeError:
        return None
