# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""ovn-controller replaced by another one, while the flows of the one before stay in the switch.

``exit --restart`` leaves flows and the chassis' row (ovn-controller(8)). The next one deletes the flows as soon as it is
connected, before it knows what to put there, unless it is told to wait (OVN 22.06 to 25.03), or waits by itself (later).
"""

from __future__ import annotations

import dataclasses
import os
import time

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Clock, Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import management_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import Switch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import ovn
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import Daemon
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovn import CONTROLLER, Chassis
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Connection, is_true
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.whole_switch import read_database
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Runner, check, run
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import wait_end
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.trust import doubt_of_file

LOG = "Look into /var/log/ovn/ovn-controller.log"
# How long a controller may take to end, or to start, in seconds.
_PATIENCE = 30.0
_INTERVAL = 0.2
# Each flow of a chassis begins here, and it has few of them.
_FIRST_TABLE = 0


# Where the database remembers what an administrator had set before.
_REMEMBERED = "ovsops-ovn-ofctrl-wait-before-clear"
_UNSET = ""
_BOOTED = "/run/systemd/system"  # sd_booted(3)
_UNIT = f"{CONTROLLER}.service"
_SCRIPT = "/usr/share/ovn/scripts/ovn-ctl"


@dataclasses.dataclass(frozen=True)
class Settled:
    """What has become of a replacement; ``seconds`` until all flows were of the new one."""

    chassis: Chassis
    seconds: float


class Controller:
    """The ovn-controller of this host."""

    def __init__(self, connection: Connection, runner: Runner = run, clock: Clock = time) -> None:
        self._connection, self._runner, self._clock = connection, runner, clock

    def look(self) -> Chassis | None:
        """See ``ovn.look``."""
        external_ids = read_database(self._connection).external_ids
        return ovn.look(self._connection.rundir, external_ids, self._connection.timeout, runner=self._runner)

    def require_free(self, chassis: Chassis) -> None:
        """Raise ``Refused`` where a new controller would do nothing, or is somebody else's matter."""
        if is_true(chassis.settings.get(ovn.MATCH_NORTHD)):
            raise Refused(
                f"a new {CONTROLLER} would change nothing until ovn-northd is as new",
                f"external_ids:{ovn.MATCH_NORTHD} is true",
                f"Upgrade OVN by hand, or remove the setting first: ovs-vsctl remove open . external_ids {ovn.MATCH_NORTHD}",
            )
        supervisor = chassis.controller.supervisor
        if supervisor is not None and supervisor.kind == "container":
            raise Refused(
                f"{CONTROLLER} runs in a container",
                "this module replaces one of the host itself",
                "Have whoever runs the container replace it",
            )

    def prepared(self) -> bool:
        """Whether ``prepare`` was done."""
        with self._connection.open() as database:
            return _REMEMBERED in database.external_ids()

    def prepare(self, seconds: float) -> None:
        """Have the next controller leave the flows for so long, whoever starts it."""
        if self.prepared():
            return
        with self._connection.open() as database:
            before = database.external_ids().get(ovn.WAIT_BEFORE_CLEAR, _UNSET)
            database.set_external_ids(
                {_REMEMBERED: before, ovn.WAIT_BEFORE_CLEAR: str(round(seconds * 1000))}
            )

    def _forget(self) -> None:
        """Undo ``prepare``."""
        with self._connection.open() as database:
            before = database.external_ids().get(_REMEMBERED)
            if before is not None:
                database.set_external_ids({ovn.WAIT_BEFORE_CLEAR: before or None, _REMEMBERED: None})

    def replace(self, chassis: Chassis, wait: float, timeout: float) -> Settled:
        """End the controller, if it runs, start the one that is on the disk, and return when all flows are its own.

        The flows of before stay for ``wait`` seconds, until the new one knows what it wants.  Raises ``Refused`` before anything
        is touched, else ``HotUpgradeError`` with what is to be done.
        """
        self.require_free(chassis)
        start = self._starter(chassis.controller)
        self.prepare(wait)
        since = self._clock.monotonic()
        self._end(chassis.controller)
        check(self._runner, start, _PATIENCE)
        settled = self._settle(chassis.bridge, since, timeout)
        self._forget()
        return settled

    def _end(self, controller: Daemon) -> None:
        process = controller.process
        if process is None:  # the scripts of Debian's package end it, and leave its flows, too
            return
        place = ovn.rundir(self._connection.rundir)
        Appctl(ovn.socket(place, process.pid), self._connection.timeout).call("exit", "--restart")
        if not wait_end(process, _PATIENCE):
            raise HotUpgradeError(f"{CONTROLLER} does not end", f"process {process.pid} is still there", LOG)

    def _settle(self, bridge: str, since: float, timeout: float) -> Settled:
        chassis, __ = Waiter(timeout, _INTERVAL, self._clock).wait(
            f"the new {CONTROLLER} has all flows of its own in {bridge}",
            lambda: self._lacking(bridge, since),
            lambda seen: not seen[1],
            lambda seen: seen[1],
            f"{LOG}, and see that its southbound database answers (ovn-appctl connection-status)",
        )
        assert chassis is not None
        return Settled(chassis, self._clock.monotonic() - since)

    def _lacking(self, bridge: str, since: float) -> tuple[Chassis | None, str]:
        """The chassis, and what it lacks, in words."""
        chassis = self.look()
        if chassis is None or not chassis.controller.running:
            return chassis, "it does not run"
        if not chassis.connected:
            return chassis, "it is not connected to its southbound database"
        path = management_socket(self._connection.rundir, bridge)
        with Switch(path, timeout=self._connection.timeout) as switch:
            oldest = switch.oldest_flow(_FIRST_TABLE)
        if oldest is None or oldest + 1 > self._clock.monotonic() - since:  # it is told in whole seconds
            return chassis, "flows of the one before are still there"
        return chassis, ""

    def _starter(self, controller: Daemon) -> list[str]:
        """What starts the next one."""
        supervisor = controller.supervisor
        if controller.binary is None:
            raise Refused(f"no usable {CONTROLLER} is on the disk", "", "Install the package ovn-host")
        if os.path.isdir(_BOOTED):
            return ["systemctl", "start", "--", (supervisor and supervisor.unit) or _UNIT]
        wrong = doubt_of_file(_SCRIPT)
        if wrong:
            raise Refused(
                f"{_SCRIPT} cannot start the next {CONTROLLER}", wrong, "Install the package ovn-common"
            )
        return [_SCRIPT, "start_controller"]
