# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What a plan has to know of the traffic on a host: what a proof could cover, and the groups that spread connections."""

from __future__ import annotations

import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.side_by_side import side_by_side
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import management_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import Switch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl, daemon_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Bridge, Connection
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof import proof, selection
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof.megaflows import Survey

# A dump of many megaflows takes longer than other answers, in seconds.
DUMP_TIMEOUT = 60.0
# How long one trace may take that fills 100 MB of memory in a second if it has no end.
_TRACE_TIMEOUT = 10.0


def select_groups(connection: Connection, bridges: t.Sequence[Bridge]) -> tuple[selection.Group, ...]:
    """The select groups of all bridges.  Raises ``HotUpgradeError``."""

    def one(bridge: Bridge) -> list[selection.Group]:
        path = management_socket(connection.rundir, bridge.name)
        with Switch(path, timeout=connection.timeout) as switch:
            return [
                group for reply in switch.group_replies() for group in selection.groups(bridge.name, reply)
            ]

    return tuple(group for groups in side_by_side(one, bridges) for group in groups)


def live(connection: Connection, bridges: t.Sequence[Bridge]) -> Survey | None:
    """The live megaflows of the datapath; None where there is none to ask."""
    internal = {each.name for bridge in bridges for each in bridge.interfaces if each.type == "internal"}
    control = Appctl(daemon_socket(connection.rundir, VSWITCHD), max(connection.timeout, DUMP_TIMEOUT))
    try:
        return proof.survey(control.call, datapath(bridges), internal)
    except HotUpgradeError:
        return None


def of_new(control: Appctl) -> proof.Trace:
    """How the new process is asked, which may hang over it: nothing that is forwarded depends on it."""
    if proof.traces_end(control.call("version")):
        return control.call
    brief = Appctl(control.socket_path, min(control.timeout, _TRACE_TIMEOUT))

    def ask(command: str, *args: str) -> str:
        try:
            return brief.call(command, *args)
        except Unreachable as error:
            raise Unreachable(
                f"the new {VSWITCHD} does not say what it would do with live packets",
                f"{error.what}; one of that version never does when it sees them go round in a circle",
                "Begin again with prove: 0 (role: hot_upgrade_prove), or with one that ends such a trace: 2.17.10, 3.0.7, "
                "3.1.5, 3.2.3, 3.3.1 and newer",
            ) from error

    return ask


def datapath(bridges: t.Sequence[Bridge]) -> proof.Datapath:
    """That of all bridges; the kernel's where they have both, which only a restart takes."""
    return proof.USERSPACE if all(bridge.datapath_type == "netdev" for bridge in bridges) else proof.KERNEL


def members(bridges: t.Sequence[Bridge]) -> dict[str, str]:
    """The port of each member of a bond."""
    bonds = [port for bridge in bridges for port in bridge.ports if len(port.interfaces) > 1]
    return {interface: port.name for port in bonds for interface in port.interfaces}
