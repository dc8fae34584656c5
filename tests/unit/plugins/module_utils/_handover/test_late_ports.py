# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import types
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import late_ports

Row = dict[str, t.Any]


class Database:
    """Bridges, ports and interfaces; it does the mutations of ``ports`` and ``bridges``, and inserts bridges."""

    def __init__(self, bridges: dict[str, list[str]], types: dict[str, list[str]]) -> None:
        self.bridges = {f"uuid of {name}": {"name": name, "ports": ports} for name, ports in bridges.items()}
        self.types = types

    def select_many(self, *queries: t.Any) -> list[list[Row]]:
        assert [table for table, __, __ in queries] == ["Bridge", "Port", "Interface"]
        bridges = [{"_uuid": uuid, **row} for uuid, row in self.bridges.items()]
        ports = [
            {"_uuid": port, "name": port, "interfaces": [f"{port}.{n}" for n in range(len(types))]}
            for port, types in self.types.items()
        ]
        interfaces = [
            {"_uuid": f"{port}.{n}", "type": kind}
            for port, types in self.types.items()
            for n, kind in enumerate(types)
        ]
        return [bridges, ports, interfaces]

    def transact(self, *operations: Row) -> None:
        for operation in operations:
            if operation["table"] == "Bridge" and operation["op"] == "insert":
                ports = [uuid for __, uuid in operation["row"]["ports"][1]]
                self.bridges["parked"] = {"name": operation["row"]["name"], "ports": ports}
            elif operation["table"] == "Bridge":
                [[column, __, wanted]], [[__, mutator, (__, uuids)]] = (
                    operation["where"],
                    operation["mutations"],
                )
                [row] = [
                    row
                    for uuid, row in self.bridges.items()
                    if (["uuid", uuid] if column == "_uuid" else row["name"]) == wanted
                ]
                named = [uuid for __, uuid in uuids]
                kept = [port for port in row["ports"] if port not in named]
                row["ports"] = kept if mutator == "delete" else [*row["ports"], *named]

    def ports(self) -> dict[str, list[str]]:
        return {str(row["name"]): sorted(row["ports"]) for row in self.bridges.values()}


@pytest.fixture(name="database")
def _database() -> t.Any:
    return Database(
        {"br0": ["br0", "veth", "tap", "in0", "bond"], "br1": ["br1", "in1"]},
        {
            "br0": ["internal"],
            "br1": ["internal"],
            "veth": [""],
            "tap": ["tap"],
            "in0": ["internal"],
            "in1": ["internal"],
            "bond": ["internal", ""],
        },
    )


def test_tap_devices_are_parked_but_for_the_own_ones_of_the_bridges(database: t.Any) -> None:
    late = late_ports.park(database)
    assert sorted(each.port for each in late) == ["in0", "in1", "tap"]
    [parked] = [name for name in database.ports() if "/" in name]  # which ovs-vswitchd ignores
    assert database.ports() == {"br0": ["bond", "br0", "veth"], "br1": ["br1"], parked: ["in0", "in1", "tap"]}


def test_all_come_back_to_where_they_were(world: t.Any, database: t.Any) -> None:
    before = database.ports()
    turns: list[int] = []
    late = late_ports.LatePorts(world.clock)
    late.park(database)
    assert late.put_back(database, lambda: turns.append(1)) == 1
    assert len(turns) == 2  # one without any port, to see how long that takes
    after = database.ports()
    assert {name: after[name] for name in before} == before
    assert [ports for name, ports in after.items() if name not in before] == [[]]


def test_a_host_without_tap_devices_is_left_alone() -> None:
    database: t.Any = Database({"br0": ["br0", "veth"]}, {"br0": ["internal"], "veth": [""]})
    assert late_ports.park(database) == []
    assert database.ports() == {"br0": ["br0", "veth"]}


def test_thousands_come_back_in_turns_that_grow(world: t.Any) -> None:
    names = [f"in{n}" for n in range(2000)]
    database: t.Any = Database(
        {"br0": ["br0", *names]}, {"br0": ["internal"], **{name: ["tap"] for name in names}}
    )
    late = late_ports.LatePorts(world.clock)
    late.park(database)
    assert 2 < late.put_back(database, lambda: world.clock.sleep(0.1)) < 20
    assert database.ports()["br0"] == sorted(["br0", *names])


@pytest.mark.parametrize(
    ("count", "seconds", "alone", "following"),
    [
        (16, 0.32, 0.3, 64),  # quick beside what every turn costs: four times as many
        (64, 0.9, 0.3, 32),  # they took twice that
        (16, 0.018, 0.002, 30),  # nothing costs much: as many as the pause allows
        (16, 60.0, 0.0, 16),
    ],
)
def test_ports_take_as_long_as_what_every_turn_costs(
    count: int, seconds: float, alone: float, following: int
) -> None:
    assert late_ports.next_count(count, seconds, alone) == following


def test_only_ports_that_were_away_get_their_config_again(
    world: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the others may be somebody's by now."""
    switch = types.SimpleNamespace(describe_ports=lambda: [types.SimpleNamespace(number=1)])
    base = types.SimpleNamespace(settings=types.SimpleNamespace(ports={1: 0, 2: 4, 3: 0}))
    given: list[t.Any] = []
    monkeypatch.setattr(late_ports, "configure_ports", lambda *words: given.append(words))
    late = late_ports.LatePorts(world.clock)
    switches, bases = t.cast("t.Any", ({"br0": switch}, {"br0": base}))
    late.note_absent(switches, bases)
    late.configure(switches, bases)
    assert given == [(switch, base, {2, 3})]
