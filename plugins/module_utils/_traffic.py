# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What a plan has to know of the traffic on a host: what a proof could cover, and the groups that spread connections."""

from __future__ import annotations

import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils import _ofwire as wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils import _proof, _selection
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._daemons import VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._flowstate import Switch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._megaflows import Survey
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import management_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovsdb import Bridge, Connection
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._side_by_side import side_by_side
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._unixctl import Appctl, daemon_socket

# A dump of many megaflows takes longer than other answers, in seconds.
_DUMP_TIMEOUT = 60.0


def select_groups(connection: Connection, bridges: t.Sequence[Bridge]) -> tuple[_selection.Group, ...]:
    """The select groups of all bridges.  Raises ``HotUpgradeError``."""

    def one(bridge: Bridge) -> list[_selection.Group]:
        path = management_socket(connection.rundir, bridge.name)
        with Switch(path, timeout=connection.timeout) as switch:
            of = switch.main
            replies = of.stream(wire.group_desc_request(of.version, of.xid()))
            return [group for reply in replies for group in _selection.groups(bridge.name, reply)]

    return tuple(group for groups in side_by_side(one, bridges) for group in groups)


def live(connection: Connection, bridges: t.Sequence[Bridge]) -> Survey | None:
    """The live megaflows of the datapath; None where there is none to ask."""
    userspace = all(bridge.datapath_type == "netdev" for bridge in bridges)
    internal = {each.name for bridge in bridges for each in bridge.interfaces if each.type == "internal"}
    control = Appctl(daemon_socket(connection.rundir, VSWITCHD), max(connection.timeout, _DUMP_TIMEOUT))
    try:
        return _proof.survey(control.call, _proof.USERSPACE if userspace else _proof.KERNEL, internal)
    except HotUpgradeError:
        return None
