# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The chassis of OVN that a host is: its ovn-controller, and what that is told by the database (ovn-controller(8))."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import Daemon, inspect
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Runner, run
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.containers import Container

CONTROLLER = "ovn-controller"
# How long it waits with the deletion of what an earlier one has left in the switch, in milliseconds: OVN 22.06 to 25.03. Later
# ones wait until they know what to put there.
WAIT_BEFORE_CLEAR = "ovn-ofctrl-wait-before-clear"
# Has a controller wait for an ovn-northd of its own version.
MATCH_NORTHD = "ovn-match-northd-version"
_SYSTEM_ID, _REMOTE, _BRIDGE, _PREFIX = "system-id", "ovn-remote", "ovn-bridge", "ovn-"
_USUAL_BRIDGE = "br-int"


@dataclasses.dataclass(frozen=True)
class Chassis:
    """``name`` is what OVN knows the host by; ``settings`` are the keys ``ovn-…`` of ``external_ids``.

    ``connected`` tells whether it has its southbound database, ``zones`` the zones of conntrack by what uses them; both are
    None where it does not answer.
    """

    controller: Daemon
    name: str | None
    bridge: str
    settings: t.Mapping[str, str]
    connected: bool | None
    zones: t.Mapping[str, int] | None

    def setting(self, key: str) -> str | None:
        """What counts for this chassis: ``KEY-NAME``, else ``KEY``."""
        return _setting(self.settings, key, self.name)


def rundir(openvswitch: str) -> str:
    """The run directory of OVN beside that of Open vSwitch."""
    return os.path.join(os.path.dirname(os.path.realpath(openvswitch)), "ovn")


def look(
    openvswitch: str,
    external_ids: t.Mapping[str, str],
    timeout: float,
    root: str = "/",
    runner: Runner = run,
    home: Container | None = None,
) -> Chassis | None:
    """The chassis that this host is; None where no ovn-controller is told where its database is, and none runs.

    ``openvswitch`` is the run directory of Open vSwitch; ``home`` see ``daemons.inspect``.
    """
    place = rundir(openvswitch)
    controller = inspect(CONTROLLER, place, timeout, root, runner, home=home)
    name = _override(root) or external_ids.get(_SYSTEM_ID)
    if _setting(external_ids, _REMOTE, name) is None and not controller.running:
        return None
    control = None
    if controller.process is not None and controller.running_version is not None:
        control = Appctl(socket(place, controller.process.pid), timeout)
    return Chassis(
        controller=controller,
        name=name,
        bridge=_setting(external_ids, _BRIDGE, name) or _USUAL_BRIDGE,
        settings={key: value for key, value in external_ids.items() if key.startswith(_PREFIX)},
        connected=connected(control) if control else None,
        zones=_zones(control) if control else None,
    )


def _setting(external_ids: t.Mapping[str, str], key: str, name: str | None) -> str | None:
    return external_ids.get(f"{key}-{name}", external_ids.get(key))


def _override(root: str) -> str | None:
    """The name that a file gives the chassis, whatever the database says (OVN 22.12)."""
    try:
        with open(
            os.path.join(root, "etc/ovn/system-id-override"), encoding="utf-8", errors="replace"
        ) as file:
            return file.readline().strip() or None
    except OSError:
        return None


def socket(place: str, pid: int) -> str:
    """The control socket of an ovn-controller."""
    return os.path.join(place, f"{CONTROLLER}.{pid}.ctl")


def connected(control: Appctl) -> bool | None:
    """Whether it has its southbound database; None where it does not tell."""
    try:
        return control.call("connection-status").strip() == "connected"
    except HotUpgradeError:
        return None


def _zones(control: Appctl) -> dict[str, int] | None:
    try:
        said = control.call("ct-zone-list")
    except HotUpgradeError:
        return None
    # A name may be anything that a port of the logical network is called.
    pairs = (line.rpartition(" ") for line in said.splitlines())
    return {name: int(number) for name, __, number in pairs if number.isdecimal()}
