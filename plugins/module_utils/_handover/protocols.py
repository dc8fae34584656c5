# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""LACP, BFD, CFM, STP and RSTP in the second ovs-vswitchd: silent beside the first, and no neighbour sees a change.

Its ports have NO_FWD, which takes away what it sends and not what it gets.  What the neighbours would tell it comes from us, as
packets-out, also while it waits for its flows.  So it knows them, and what it tells them first is what they know already.
"""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Clock, TimedOut, Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import spoken
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.trees import Trees
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.restore import configure_ports
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import State, Switch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import spanning_tree
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.hints import VSWITCHD_LOG
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Interface, Ovsdb

# A member that nobody answers is "defaulted" only after 3 s (LACP_RX_MULTIPLIER * LACP_FAST_TIME_TX); in seconds.
SETTLE_TIMEOUT = 15.0
# How often the neighbours are heard meanwhile, in seconds: what lasts shortest is a fault of CFM at 100 ms.
_OFTEN = 0.05

_UNSET = (["set", []], ["map", []], False)
_NO_PORT = "OFPPMFC_BAD_PORT"
RAPID_NUMBER = "rstp-port-num"
# By table: what configures a protocol, and what its copy has until it is to run (see ``silence``).
_COLUMNS = {
    "Bridge": ("stp_enable", "rstp_enable"),
    "Port": ("lacp",),
    "Interface": ("bfd", "cfm_mpid"),
}


class Protocols:
    """Those of one hand-over."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.trees = Trees(clock)
        self._places: dict[str, tuple[Switch, Interface]] = {}
        self._muted: list[tuple[Switch, wire.Port]] = []
        self._greeting: list[spoken.Heard] = []

    def begin(
        self,
        real: Ovsdb,
        copy: Ovsdb,
        switches: t.Mapping[str, Switch],
        old: Appctl,
        apply: t.Callable[[], None],
    ) -> None:
        """Have the second process run what the first one (``old``) runs, without a word.

        ``apply`` returns when it has read its ``copy``.
        """
        bridges = real.bridges()
        found = spoken.speaking(bridges)
        self._places = {
            name: (switches[bridge], each) for name, (bridge, each) in found.items() if bridge in switches
        }
        self._mute()
        self.trees.listen(bridges, switches, old)
        configure(real, copy)
        apply()
        self.trees.begin()

    @property
    def impatient(self) -> bool:
        """Whether a neighbour would miss a second process that hears nothing for a moment."""
        return any(map(spoken.watched, self._interfaces.values()))

    def _mute(self) -> None:
        numbers: dict[Switch, set[int]] = {}
        for switch, interface in self._places.values():
            if interface.ofport is not None and interface.ofport > 0:
                numbers.setdefault(switch, set()).add(interface.ofport)
        for switch, wanted in numbers.items():
            ports = [port for port in switch.describe_ports() if port.number in wanted]
            # What is silent because its user wants so stays silent.
            self._muted += [(switch, port) for port in ports if not port.config & wire.PORT_NO_FORWARD]
        self._forward(False)

    def _forward(self, forwarded: bool) -> None:
        bit = wire.PORT_NO_FORWARD
        config = 0 if forwarded else bit
        requests = []
        for switch, port in self._muted:
            of = switch.ports
            requests.append(
                (switch, wire.port_mod(of.version, of.xid(), port.number, port.hw_addr, config, bit))
            )
        for switch, each in _by_switch(requests):
            for __, error in switch.ports.refusals(each):
                if forwarded and error.name == _NO_PORT:  # its device has gone meanwhile
                    continue
                raise HotUpgradeError(
                    f"{switch.name}: a port cannot be {'heard' if forwarded else 'silenced'}",
                    error.name,
                    VSWITCHD_LOG,
                )

    def settle(self, old: Appctl, new: Appctl) -> None:
        """Return when the second process sees its neighbours as the first does.

        Raises ``Unprimed`` when it does not come to that.
        """
        try:
            self.trees.settle(old, new)
        except TimedOut as error:
            raise Unprimed(error.why) from error
        before, now = spoken.hear(old), spoken.hear(new)
        strangers = spoken.strangers(before, now)
        if strangers:
            raise Unprimed("; ".join(strangers))
        self._see(old, new)

    def _see(self, old: Appctl, new: Appctl) -> tuple[spoken.Spoken, spoken.Spoken]:
        """What both show as soon as the second process sees its neighbours as the first one does."""
        try:
            return Waiter(SETTLE_TIMEOUT, _OFTEN, self._clock, strict=True).wait(
                "the new process sees its neighbours as the old one does",
                functools.partial(self._prime, old, new),
                lambda seen: not spoken.lacking(*seen),
                lambda seen: "; ".join(spoken.lacking(*seen)),
                VSWITCHD_LOG,
            )
        except TimedOut as error:
            raise Unprimed(error.why) from error

    def _prime(self, old: Appctl, new: Appctl) -> tuple[spoken.Spoken, spoken.Spoken]:
        """Tell the second process what its neighbours would; what both showed a moment before."""
        before, now = spoken.hear(old), spoken.hear(new)
        self._tell(spoken.priming(before, now, self._interfaces))
        return before, now

    def speak(self, old: Appctl, new: Appctl) -> None:
        """Have the second process speak.  With BFD that is for milliseconds: the two have different discriminators.

        What it was told may have expired since ``settle``: other steps take their time.
        """
        before, now = self._see(old, new)
        self._greeting = spoken.greeting(before, now, self._interfaces)
        self._forward(True)
        _come_round(new)

    def take_up(self, real: Ovsdb, switches: t.Mapping[str, Switch], states: t.Mapping[str, State]) -> None:
        """Have a second process speak that somebody else has silenced: its ports are to be as in ``states``."""
        found = spoken.speaking(real.bridges())
        self._places = {
            name: (switches[bridge], each) for name, (bridge, each) in found.items() if bridge in switches
        }
        for bridge, switch in switches.items():
            numbers = [each.ofport for of, each in self._places.values() if of is switch and each.ofport]
            configure_ports(switch, states[bridge], numbers)

    def greet_as(self, new: Appctl) -> None:
        """The same as ``greet``, where the first process can show nothing any more."""
        now = spoken.hear(new)
        self._tell(spoken.greeting(now, now, self._interfaces))

    def greet(self) -> None:
        """Have the neighbours hear of the second process at once, which is the only one from now on."""
        self._tell(self._greeting)

    @property
    def _interfaces(self) -> dict[str, Interface]:
        return {name: interface for name, (__, interface) in self._places.items()}

    def _tell(self, heard: t.Iterable[spoken.Heard]) -> None:
        requests = []
        for name, frame in heard:
            if name not in self._places:  # somebody has begun to run it meanwhile
                continue
            switch, interface = self._places[name]
            of = switch.main
            requests.append((switch, wire.packet_out(of.version, of.xid(), interface.ofport or 0, frame)))
        for switch, each in _by_switch(requests):
            switch.main.exchange(each)


def _come_round(process: Appctl) -> None:
    """Return when the main loop of an ovs-vswitchd has come round, as the settings of ports need to count for its other threads.

    Those begin when the flag is cleared, before the loop gets to that (type_run in ofproto-dpif.c): they would take ports that
    were just unmuted for silent ones, and change what the kernel forwards.  The first answer may be of the same round.
    """
    for __ in range(2):
        process.call("version")


def _by_switch(requests: t.Iterable[tuple[Switch, bytes]]) -> t.Iterable[tuple[Switch, list[bytes]]]:
    found: dict[Switch, list[bytes]] = {}
    for switch, request in requests:
        found.setdefault(switch, []).append(request)
    return found.items()


class Unprimed(HotUpgradeError):
    """The second process cannot go on with the protocols of the first."""

    def __init__(self, why: str) -> None:
        super().__init__(
            "the new ovs-vswitchd cannot go on with the protocols of the old one",
            why,
            "Take another strategy; the plan tells which of them this host allows",
        )


def configure(real: Ovsdb, copy: Ovsdb) -> None:
    """Give the copy what it was not to run at first; no member waits for its updelay, since its neighbours are known.

    A new process numbers ports for RSTP in another order than they came, or than their numbers were set in; numbers that it
    was given stay when it is asked for none, or for one that another port has (rstp_port_set_port_number__).
    """
    queries = [
        {"op": "select", "table": table, "where": [], "columns": ["_uuid", *columns]}
        for table, columns in _COLUMNS.items()
    ]
    operations = []
    for table, result in zip(_COLUMNS, real.transact(*queries)):
        for row in result["rows"]:
            uuid = row.pop("_uuid")
            values = {name: value for name, value in row.items() if value not in _UNSET}
            if values:
                operations.append(
                    {"op": "update", "table": table, "where": [["_uuid", "==", uuid]], "row": values}
                )
    at_once = {"op": "update", "table": "Port", "where": [], "row": {"bond_updelay": 0}}
    numbers = [
        {
            "op": "mutate",
            "table": "Port",
            "where": [["_uuid", "==", ["uuid", row["_uuid"]]]],
            "mutations": [
                ["other_config", "delete", ["set", [RAPID_NUMBER]]],
                ["other_config", "insert", ["map", [[RAPID_NUMBER, str(number)]]]],
            ],
        }
        for row in real.select("Port", ("_uuid", "rstp_status"))
        for number in spanning_tree.rapid_numbers(row["rstp_status"])
    ]
    copy.transact(*operations, *numbers, at_once)
