# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import controllers


class Database:
    """One bridge with one controller; ``done`` are the operations that were sent."""

    def __init__(self, **columns: t.Any) -> None:
        self.row = {
            "_uuid": "u",
            "target": "tcp:127.0.0.1:6653",
            "type": None,
            "inactivity_probe": None,
            "external_ids": {},
            **columns,
        }
        self.done: list[dict[str, t.Any]] = []

    def select(self, table: str, columns: t.Sequence[str]) -> list[dict[str, t.Any]]:
        row = self.row if table == "Controller" else {"name": "br0", "controller": ["u"]}
        return [{column: row[column] for column in columns}]

    def select_many(
        self, *queries: tuple[str, t.Sequence[str], t.Sequence[t.Any]]
    ) -> list[list[dict[str, t.Any]]]:
        return [self.select(table, columns) for table, columns, __ in queries]

    def transact(self, *operations: dict[str, t.Any]) -> None:
        self.done += operations

    def updated(self) -> dict[str, t.Any]:
        """All columns that were updated."""
        return {
            column: value
            for operation in self.done
            if operation["op"] == "update"
            for column, value in operation["row"].items()
        }


@pytest.mark.parametrize(
    ("target", "kind", "held", "primary"),
    [
        ("tcp:127.0.0.1:6653", None, "primary", True),
        ("ssl:127.0.0.1:6653", "service", "service", False),
        ("ptcp:6653", None, "service", False),
        ("ptcp:6653", "primary", "primary", True),
        ("none", None, None, False),
        ("nonsense", "primary", None, False),
    ],
)
def test_a_controller_is_held_as_what_ovs_vswitchd_takes_it_for(
    target: str, kind: str | None, held: str | None, primary: bool
) -> None:
    """A stand-in of another type would be flushed for when the real one comes, or for nothing."""
    database, copy = Database(target=target, type=kind), Database()
    controllers.hold(t.cast("t.Any", database), ["br0"])
    assert database.updated().get("type") == held
    controllers.stand_in(t.cast("t.Any", database), t.cast("t.Any", copy), ["br0"])
    assert bool(copy.done) == primary


def test_controllers_of_other_bridges_are_left_alone() -> None:
    database, copy = Database(), Database()
    controllers.hold(t.cast("t.Any", database), ["br1"])
    controllers.stand_in(t.cast("t.Any", database), t.cast("t.Any", copy), ["br1"])
    controllers.let_go(t.cast("t.Any", database))
    assert not database.done + copy.done


@pytest.mark.parametrize("probe", [None, 0, 5000])
def test_a_controller_that_is_let_go_is_as_it_was(probe: int | None) -> None:
    database = Database(inactivity_probe=probe)
    controllers.hold(t.cast("t.Any", database), ["br0"])
    (saved,) = [operation["mutations"][0][2][1] for operation in database.done if operation["op"] == "mutate"]
    held = Database(**database.updated(), external_ids=dict(saved))
    controllers.let_go(t.cast("t.Any", held))
    wanted = ["set", []] if probe is None else probe
    assert held.updated() == {
        "target": "tcp:127.0.0.1:6653",
        "type": ["set", []],
        "inactivity_probe": wanted,
    }


def let_through(
    bridges: t.Sequence[tuple[str, str | None, str | None, str | None]], *managers: tuple[str, str | None]
) -> tuple[set[str], set[str]]:
    """The managers of the copy, and the bridges there that have no hidden flows for them.

    ``bridges`` are (name, target of the controller, its connection mode, disable-in-band), ``managers`` (target, mode).
    """
    tables: dict[str, list[dict[str, t.Any]]] = {
        "Bridge": [
            {
                "name": name,
                "controller": [name] if target else [],
                "other_config": {"disable-in-band": disabled} if disabled else {},
            }
            for name, target, __, disabled in bridges
        ],
        "Controller": [
            {"_uuid": name, "target": target, "connection_mode": mode} for name, target, mode, __ in bridges
        ],
        "Manager": [{"target": target, "connection_mode": mode} for target, mode in managers],
    }

    class Real:
        def select_many(
            self, *queries: tuple[str, t.Sequence[str], t.Sequence[t.Any]]
        ) -> list[list[dict[str, t.Any]]]:
            return [tables[table] for table, __, __ in queries]

    copy = Database()
    controllers.let_through(t.cast("t.Any", Real()), t.cast("t.Any", copy))
    made = {operation["row"]["target"] for operation in copy.done if operation["op"] == "insert"}
    closed = {operation["where"][0][2] for operation in copy.done if operation["table"] == "Bridge"}
    return made, closed


@pytest.mark.parametrize(
    ("target", "mode", "disabled", "made"),
    [
        ("tcp:10.0.0.1:6633", None, None, "tcp:10.0.0.1:6633"),
        ("ssl:10.0.0.1", "in-band", "false", "tcp:10.0.0.1:6653"),
        ("tcp:127.0.0.1:6653", None, None, "tcp:127.0.0.2:6653"),
        ("tcp:10.0.0.1:6653", "out-of-band", None, None),
        ("tcp:10.0.0.1:6653", None, "true", None),
        ("tcp:[fe80::1]:6653", None, None, None),
        ("tcp:controller.example:6653", None, None, None),
        ("unix:/run/x.sock", None, None, None),
        ("ptcp:6653", None, None, None),
    ],
)
def test_a_process_without_controllers_lets_them_through(
    target: str, mode: str | None, disabled: str | None, made: str | None
) -> None:
    """What is not let through is dropped from the switch-over on, and the proof finds it gone."""
    found, closed = let_through([("br0", target, mode, disabled), ("br1", None, None, None)])
    assert found == ({made} if made else set())
    assert closed == ({"br1"} if made else set())


def test_managers_are_let_through_by_every_bridge_that_does_not_get_controllers_of_others() -> None:
    bridges = [("br0", "tcp:10.0.0.1:6653", None, None), ("br1", None, None, None)]
    found, closed = let_through(bridges, ("ssl:10.0.0.2", None), ("ptcp:6640", None), ("tcp:127.0.0.1", None))
    assert (found, closed) == ({"tcp:10.0.0.1:6653", "tcp:10.0.0.2:6640"}, {"br1"})
    assert let_through([("br1", None, None, None)], ("ssl:10.0.0.2", None)) == ({"tcp:10.0.0.2:6640"}, set())
    assert let_through([("br1", None, None, None)], ("tcp:127.0.0.1:6640", None)) == (set(), set())
