# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""An ovs-vswitchd that has all flows and no devices: it tells where the first packet of a flow goes while no other one serves.

It cannot be the one that serves afterwards: an ovs-vswitchd knows the kernel module by numbers that it has asked for when it
started, and the next module has others.  So all its devices are dummies (``--enable-dummy=system``), and it is asked by
ofproto/trace.  What it says is taken for ports alone: whatever needs more waits for the real one.
"""

from __future__ import annotations

import contextlib
import functools
import grp
import os
import pwd
import re
import shutil
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.side_by_side import side_by_side
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import newcomer, plan
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.filler import POLL
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.misses import prefer
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import management_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.restore import restore
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import Switch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import OVSDB_SERVER, VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.hints import ENGINE_LOG
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ofproto_text import (
    CHOICE,
    SLOW,
    ShownPort,
    datapath_actions,
    shown_ports,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Bridge, Connection, Ovsdb
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof.proof import traces_end
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import switch as snapshots
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.launch import spawn
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import kill

# Longer than a large host needs to open as many dummies as it has ports, in seconds.
_START_TIMEOUT = 60.0
# Whoever sent a packet has sent it again by then, in seconds.
_PATIENCE = 2.0
# What decides on where packets go beside flows.  The rest of these rows changes by itself: statistics, what OVN keeps there.
_CONFIGURED = {
    "Bridge": "name ports mirrors datapath_type fail_mode flood_vlans mcast_snooping_enable stp_enable rstp_enable other_config",
    "Port": "_uuid name interfaces tag trunks cvlans vlan_mode bond_mode lacp protected other_config",
    "Interface": "_uuid name type options ofport",
    "Mirror": "_uuid select_all select_src_port select_dst_port select_vlan output_port output_vlan snaplen",
}
_PORTS = re.compile("[0-9]+(?:,[0-9]+)*")


class StandIn:
    """Of one host; ``start`` it before the window, ``catch_up`` when the old process has ended."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._switches: dict[str, Switch] = {}
        self._ports: dict[int, ShownPort] = {}
        self._numbers: dict[int, int] = {}
        self._control: Appctl | None = None
        # Whether it may hang over a packet for ever.
        self._hangs = False
        self._doubtful: list[str] = []
        self._configured: list[list[str]] = []

    @property
    def _place(self) -> str:
        """Its run directory, that of its user, to whom strangers' packets may speak."""
        return f"{self._host.scope.private}.stand-in"

    @property
    def _database(self) -> str:
        return self._host.transaction.file("stand-in")

    def start(self) -> None:
        """Start and fill it.  Raises ``HotUpgradeError`` when that does not work; nothing of it is in anybody's way."""
        place, listening = self._place, f"{self._place}.db/db.sock"
        newcomer.give_directory(self._host, place)
        with Ovsdb(self._host.request.remote, self._host.request.timeout) as live:
            self._doubtful = list(doubtful(live.bridges()))
            self._configured = configured(live)
        with newcomer.serve_copy(self._host, self._database, listening, place) as copy:
            copy.transact(*_harmless(copy))
            kept = [bridge.name for bridge in copy.bridges()]
        program = self._host.request.supervisors[VSWITCHD]["program"]
        words = [f"--pidfile={place}/{VSWITCHD}.pid", "--no-chdir", "-vconsole:warn", "-vsyslog:off"]
        spawn(
            [
                program,
                f"unix:{listening}",
                "--enable-dummy=system",
                *_as_user(*newcomer.user(self._host)),
                *words,
            ],
            {**os.environ, "OVS_RUNDIR": place},
            self._host.transaction.file("second.log"),
        )
        side_by_side(self._fill, kept, self._host.living.flows)
        target = Connection(place, f"unix:{listening}", self._host.request.timeout)
        with contextlib.suppress(HotUpgradeError):  # it floods then, as a switch does that has just started
            snapshots.restore_learned(
                target,
                snapshots.with_learned(self._host.scope.connection, self._host.snapshot.read().bridges),
            )
        process = self._host.outside.running(place, VSWITCHD).process
        prefer(process.pid)
        self._know_ports(Appctl(os.path.join(place, f"{VSWITCHD}.{process.pid}.ctl"), _PATIENCE))

    def _fill(self, name: str) -> None:
        host, path = self._host, management_socket(self._place, name)
        found = Waiter(_START_TIMEOUT, POLL, host.outside.clock).wait(
            f"bridge {name} of the stand-in answers",
            functools.partial(host.outside.open_switch, path),
            lambda __: True,
            hint=ENGINE_LOG,
        )
        self._switches[name] = found
        if name in host.living.base:  # else it is new
            restore(found, host.living.now(name, host.living.base[name]), torn=True)

    def _know_ports(self, control: Appctl) -> None:
        """The kernel's numbers of ports and those of the dummies, by what they are called."""
        real = shown_ports(self._host.services.control(VSWITCHD).call("dpif/show"))
        dummies = shown_ports(control.call("dpif/show"))
        by_name = {(port.bridge, port.name): number for number, port in real.items()}
        self._ports, self._control = real, control
        self._hangs = not traces_end(control.call("version"))
        self._numbers = {
            number: by_name[port.bridge, port.name]
            for number, port in dummies.items()
            if (port.bridge, port.name) in by_name
        }

    def catch_up(self) -> None:
        """Carry over what was changed in the old process up to its end.

        Raises ``HotUpgradeError`` where the bridges were configured anew, which a copy of the database does not know.
        """
        self._host.living.carry(self._switches, {})
        with Ovsdb(self._host.request.remote, self._host.request.timeout) as live:
            if configured(live) != self._configured:
                raise HotUpgradeError(
                    "the stand-in is not asked", "a bridge was configured anew meanwhile", ENGINE_LOG
                )

    def keep(self, names: t.Mapping[int, str]) -> None:
        """Know only the ports that are still what they were; ``names`` are those of now, by their number in the datapath."""
        self._ports = {number: port for number, port in self._ports.items() if names.get(number) == port.name}
        self._numbers = {dummy: real for dummy, real in self._numbers.items() if real in self._ports}

    def answer(self, port: int, packet: bytes) -> t.Sequence[int] | None:
        """The ports that ``packet`` goes to when it comes from ``port``; None where it takes more than that."""
        place = self._ports.get(port)
        if place is None or self._control is None:
            return None
        try:
            said = self._control.call("ofproto/trace", place.bridge, f"in_port={place.ofport}", packet.hex())
        except Unreachable:
            if self._hangs:  # the next packets do not wait for it
                self._control = None
            raise
        numbers = outputs(said)
        if numbers is None or any(name in said for name in self._doubtful):
            return None
        if not all(number in self._numbers for number in numbers):
            return None
        return [self._numbers[number] for number in numbers]

    def end(self) -> None:
        """End it, wherever it is; nothing there is fine."""
        for connected in self._switches.values():
            connected.close()
        self._switches.clear()
        for place, name in ((self._place, VSWITCHD), (self._database, OVSDB_SERVER)):
            with contextlib.suppress(Unreachable):
                kill(self._host.outside.running(place, name).process)
        for path in (self._place, f"{self._place}.db", self._database):
            shutil.rmtree(path, ignore_errors=True)


def _as_user(user: int, group: int) -> list[str]:
    if not user:
        return []
    return [f"--user={pwd.getpwuid(user).pw_name}:{grp.getgrgid(group).gr_name}"]


def outputs(said: str) -> list[int] | None:
    """The datapath ports in what ofproto/trace says; None for anything that is more than output, or is not only that."""
    found = datapath_actions(said)
    if found is None or SLOW in said or CHOICE.search(said):
        return None
    if found == "drop":
        return []
    return [int(word) for word in found.split(",")] if _PORTS.fullmatch(found) else None


def doubtful(bridges: t.Sequence[Bridge]) -> t.Iterator[str]:
    """What a trace says when it comes through a bridge of which dummies do not know where packets go: their links are up, and
    nobody speaks to them.
    """
    for bridge in bridges:
        if any(len(port.interfaces) > 1 for port in bridge.ports) or any(plan.speakers(bridge)):
            yield f'bridge("{bridge.name}")'


def configured(database: Ovsdb) -> list[list[str]]:
    """What is the same for two looks unless somebody has configured bridges in between; plain text, since it is in the window."""
    queries = [
        {"op": "select", "table": table, "columns": columns.split(), "where": []}
        for table, columns in _CONFIGURED.items()
    ]
    return [sorted(map(str, found["rows"])) for found in database.transact(*queries)]


def _harmless(copy: Ovsdb) -> list[dict[str, t.Any]]:
    """The operations after which it opens no device: what is not of the kernel's datapath is no dummy."""
    taps = {"op": "update", "table": "Interface", "where": [["type", "==", "tap"]], "row": {"type": ""}}
    bridges = copy.select("Bridge", ("_uuid", "datapath_type"))
    gone = [["uuid", row["_uuid"]] for row in bridges if row["datapath_type"] not in ("", "system")]
    leave = {
        "op": "mutate",
        "table": "Open_vSwitch",
        "where": [],
        "mutations": [["bridges", "delete", ["set", gone]]],
    }
    return [taps, *([leave] if gone else [])]
