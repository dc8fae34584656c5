# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Ports of the userspace datapath that the new process gets only when the old one has ended: tap devices.

It tries to open all that it lacks whenever its database changes, and moves no packet meanwhile: with thousands, for seconds.
So they are taken out of its bridges before the switch-over, and put back some at a time.
"""

from __future__ import annotations

import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.side_by_side import side_by_side
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Clock
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.restore import configure_ports
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import State, Switch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import DATABASE, Ovsdb

# Interfaces that are tap devices.
TAP_TYPES = frozenset({"internal", "tap"})

# A bridge of such a name ovs-vswitchd ignores (add_del_bridges in vswitchd/bridge.c), but its ports stay in the database.
_PARKED = "ovsops/late"
# For how long the new process may stop to move packets, in seconds: the sockets of its other ports hold more than that.
_PAUSE = 0.03
# How long it is let alone between two turns, at most, in seconds.
_LONGEST_REST = 0.25
# How many are put back at first, and at least.
_FIRST = 16

Operation = dict[str, t.Any]


class Late(t.NamedTuple):
    """A port that comes late, and its bridge, by their UUIDs."""

    bridge: str
    port: str


class LatePorts:
    """Those of one hand-over: where they were, and which OpenFlow ports the new process did not have without them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._parked: list[Late] = []
        self._absent: dict[str, t.AbstractSet[int]] = {}

    def park(self, copy: Ovsdb) -> None:
        """See ``park``."""
        self._parked = park(copy)

    def put_back(self, copy: Ovsdb, apply: t.Callable[[], None]) -> int:
        """See ``put_back``."""
        return put_back(copy, self._parked, apply, self._clock)

    def note_absent(self, switches: t.Mapping[str, Switch], base: t.Mapping[str, State]) -> None:
        """Remember which ports the new process does not have yet, for ``configure``."""

        def one(name: str) -> None:
            there = {port.number for port in switches[name].describe_ports()}
            self._absent[name] = base[name].settings.ports.keys() - there

        side_by_side(one, switches)

    def configure(self, switches: t.Mapping[str, Switch], base: t.Mapping[str, State]) -> None:
        """Give the ports that were not there before the config that they had; that of others may be somebody's by now."""

        def one(name: str) -> None:
            configure_ports(switches[name], base[name], self._absent.get(name, ()))

        side_by_side(one, switches)


def park(copy: Ovsdb) -> list[Late]:
    """Take the ports that are tap devices out of their bridges, but for the bridges' own, which are not to be taken out."""
    bridges, ports, interfaces = copy.select_many(
        ("Bridge", ("_uuid", "name", "ports"), ()),
        ("Port", ("_uuid", "name", "interfaces"), ()),
        ("Interface", ("_uuid", "type"), ()),
    )
    types = {row["_uuid"]: row["type"] for row in interfaces}
    known = {row["_uuid"]: row for row in ports}
    late = [
        Late(bridge["_uuid"], port)
        for bridge in bridges
        for port in bridge["ports"]
        if known[port]["name"] != bridge["name"]
        and TAP_TYPES.issuperset(types[interface] for interface in known[port]["interfaces"])
    ]
    if late:
        parked = {
            "op": "insert",
            "table": "Bridge",
            "uuid-name": "parked",
            "row": {"name": _PARKED, "ports": _uuids(each.port for each in late)},
        }
        kept = {
            "op": "mutate",
            "table": DATABASE,
            "where": [],
            "mutations": [["bridges", "insert", ["named-uuid", "parked"]]],
        }
        copy.transact(*_moved(late, "delete"), parked, kept)
    return late


def put_back(copy: Ovsdb, late: t.Sequence[Late], apply: t.Callable[[], None], clock: Clock) -> int:
    """Give the bridges their ports, some at a time; ``apply`` returns when ovs-vswitchd has done what the database says.

    Returns in how many turns.
    """
    began = clock.monotonic()
    apply()
    alone = clock.monotonic() - began
    count, turns = _FIRST, 0
    while late:
        some, late = late[:count], late[count:]
        away: Operation = {
            "op": "mutate",
            "table": "Bridge",
            "where": [["name", "==", _PARKED]],
            "mutations": [["ports", "delete", _uuids(each.port for each in some)]],
        }
        began = clock.monotonic()
        copy.transact(away, *_moved(some, "insert"))
        apply()
        seconds = clock.monotonic() - began
        count = next_count(count, seconds, alone)
        turns += 1
        if late:  # what came meanwhile waits in the sockets, of which it takes some packets each time it looks at them
            clock.sleep(min(_LONGEST_REST, seconds / 2))
    return turns


def next_count(count: int, seconds: float, alone: float) -> int:
    """How many ports to put back at once, after ``count`` of them took so many ``seconds``.

    To look at its whole configuration takes ovs-vswitchd a time ``alone``, whatever has changed: the ports are to take about
    as long again, so that all of them together take at most twice as long as all at once would.
    """
    each = max(seconds - alone, 1e-4) / count
    return round(max(_FIRST, min(4 * count, max(_PAUSE, alone) / each)))


def _moved(late: t.Sequence[Late], mutator: str) -> list[Operation]:
    """``delete`` the ports from their bridges, or ``insert`` them there."""
    by_bridge: dict[str, list[str]] = {}
    for each in late:
        by_bridge.setdefault(each.bridge, []).append(each.port)
    return [
        {
            "op": "mutate",
            "table": "Bridge",
            "where": [["_uuid", "==", ["uuid", bridge]]],
            "mutations": [["ports", mutator, _uuids(ports)]],
        }
        for bridge, ports in by_bridge.items()
    ]


def _uuids(values: t.Iterable[str]) -> list[t.Any]:
    return ["set", [["uuid", value] for value in values]]
