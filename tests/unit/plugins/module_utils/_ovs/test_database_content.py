# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Contents of a database: what differs, what a schema drops, what puts it back (on a small database of its own)."""

from __future__ import annotations

import copy
import json
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import database_content as contents
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Ovsdb

Json = dict[str, t.Any]
SWITCH, BRIDGE, PORT, QOS = "s0", "b0", "p0", "q0"


def reference(*uuids: str) -> list[t.Any]:
    return ["set", [["uuid", uuid] for uuid in uuids]]


def content(**tables: dict[str, Json]) -> contents.Content:
    return {
        table: {
            uuid: {name: contents.normal(value) for name, value in row.items()} for uuid, row in rows.items()
        }
        for table, rows in tables.items()
    }


BEFORE = content(
    Open_vSwitch={
        SWITCH: {"bridges": reference(BRIDGE), "external_ids": ["map", [["system-id", "me"], ["a", "b"]]]}
    },
    Bridge={BRIDGE: {"name": "br0", "ports": reference(PORT)}},
    Port={PORT: {"name": "p0", "qos": reference(QOS), "tag": 7}},
    QoS={QOS: {"type": "linux-htb"}},
)
SCHEMA: Json = {
    "tables": {
        "Open_vSwitch": {"columns": {"bridges": {}, "external_ids": {}}},
        "Bridge": {"columns": {"name": {"mutable": False}, "ports": {}}},
        "Port": {"columns": {"name": {"mutable": False}, "qos": {}, "tag": {}}},
        "QoS": {"columns": {"type": {}}},
    }
}


def changed(**tables: dict[str, Json | None]) -> contents.Content:
    """``BEFORE`` with other rows; None takes one away."""
    after: t.Any = copy.deepcopy(BEFORE)
    for table, rows in tables.items():
        for uuid, row in rows.items():
            if row is None:
                del after[table][uuid]
            else:
                after[table].setdefault(uuid, {}).update({k: contents.normal(v) for k, v in row.items()})
    return t.cast(contents.Content, after)


class Small:
    """Applies the operations of ``putting_back`` to a content, as ovsdb-server would."""

    def __init__(self, tables: contents.Content) -> None:
        self.tables: t.Any = copy.deepcopy(tables)

    def transact(self, operations: list[Json]) -> contents.Content:
        for number, each in enumerate(operations):
            rows = self.tables[each["table"]]
            if each["op"] == "insert":
                rows[f"new{number}"] = self._row(each["row"], operations)
                continue
            ((column, comparison, value),) = each["where"]
            assert (column, comparison) == ("_uuid", "==")
            if each["op"] == "delete":
                rows.pop(value[1], None)
            else:
                rows[value[1]].update(self._row(each["row"], operations))
        return t.cast(contents.Content, self.tables)

    @staticmethod
    def _row(row: Json, operations: list[Json]) -> Json:
        numbers = {each.get("uuid-name"): f"new{number}" for number, each in enumerate(operations)}
        text = json.dumps(row)
        for name, number in numbers.items():
            text = text.replace(f'["named-uuid", "{name}"]', f'["uuid", "{number}"]')
        assert "named-uuid" not in text
        return {name: contents.normal(value) for name, value in json.loads(text).items()}


def by_name(tables: contents.Content) -> t.Any:
    """A content in which rows are found by what they are and not by their uuids."""

    def resolve(part: t.Any) -> t.Any:
        if isinstance(part, tuple) and len(part) == 2 and part[0] == "uuid":
            return next(
                (resolve_row(rows[part[1]]) for rows in tables.values() if part[1] in rows), "dangling"
            )
        return tuple(map(resolve, part)) if isinstance(part, tuple) else part

    def resolve_row(row: contents.Row) -> t.Any:
        return tuple((name, resolve(value)) for name, value in sorted(row.items()))

    return {table: sorted(map(resolve_row, rows.values()), key=repr) for table, rows in tables.items()}


def test_the_same_in_other_words_is_no_difference() -> None:
    assert contents.normal("x") == contents.normal(["set", ["x"]])
    assert contents.normal(["set", [2, 1]]) == contents.normal(["set", [1, 2]])
    assert contents.normal(["map", [["b", 1], ["a", 2]]]) == contents.normal(["map", [["a", 2], ["b", 1]]])
    assert contents.compare(BEFORE, copy.deepcopy(BEFORE)) == []


def test_differences_are_named_for_people() -> None:
    after = changed(
        Open_vSwitch={SWITCH: {"external_ids": ["map", [["system-id", "you"], ["a", "b"]]]}},
        Port={PORT: None, "p1": {"name": "p1"}},
        QoS={QOS: {"type": "linux-hfsc"}},
    )
    assert list(map(str, contents.compare(BEFORE, after))) == [
        "Open_vSwitch.external_ids was {system-id=me} and is {system-id=you}",
        "Port of p0 is gone",
        "Port of p1 is new",
        "QoS.type of linux-htb was linux-htb and is linux-hfsc",
    ]


def test_deleted_bridges_come_back_with_all_that_hangs_on_them() -> None:
    """The QoS is a root of its own and has stayed."""
    after = changed(Open_vSwitch={SWITCH: {"bridges": ["set", []]}}, Bridge={BRIDGE: None}, Port={PORT: None})
    operations = contents.putting_back(contents.compare(BEFORE, after), SCHEMA)
    assert by_name(Small(after).transact(operations)) == by_name(BEFORE)
    assert {each["op"] for each in operations} == {"insert", "update"}


def test_what_is_chosen_alone_is_put_back() -> None:
    after = changed(Port={PORT: {"tag": 8}}, QoS={QOS: {"type": "other"}})
    chosen = [each for each in contents.compare(BEFORE, after) if each.column == "tag"]
    assert Small(after).transact(contents.putting_back(chosen, SCHEMA)) == changed(
        QoS={QOS: {"type": "other"}}
    )


def test_immutable_columns_are_left_alone() -> None:
    after = changed(Bridge={BRIDGE: {"name": "br9"}})
    assert contents.putting_back(contents.compare(BEFORE, after), SCHEMA) == []


@given(st.data())
def test_whatever_was_changed_everything_is_as_it_was(data: st.DataObject) -> None:
    """Property: rows taken away, rows added and values changed at random, and all of it put back."""
    after: t.Any = copy.deepcopy(BEFORE)
    for table, rows in BEFORE.items():
        for uuid in rows:
            what = data.draw(st.sampled_from(["keep", "delete", "change"])) if uuid != SWITCH else "change"
            if what == "delete":
                del after[table][uuid]
            for name in rows[uuid] if what == "change" else ():
                if name != "name" and data.draw(st.booleans()):
                    empty: t.Any = ("map" if after[table][uuid][name][0] == "map" else "set", ())
                    after[table][uuid][name] = empty
        if data.draw(st.booleans()):
            after[table]["extra"] = {"name": contents.normal("extra")}
    there = {uuid for table in after.values() for uuid in table}
    for row in (row for table in after.values() for row in table.values()):
        for name in {"bridges", "ports", "qos"} & row.keys():  # no database refers to a row that is gone
            row[name] = ("set", tuple(each for each in row[name][1] if each[1] in there))
    differences = contents.of_json(json.loads(json.dumps(contents.as_json(contents.compare(BEFORE, after)))))
    assert differences == contents.compare(BEFORE, after)
    assert by_name(Small(after).transact(contents.putting_back(differences, SCHEMA))) == by_name(BEFORE)


ZONES = content(
    Open_vSwitch={SWITCH: {"datapaths": ["map", [["system", ["uuid", "d0"]]]]}},
    Datapath={
        "d0": {"ct_zones": ["map", [[5, ["uuid", "z5"]], [6, ["uuid", "z6"]]]], "ct_zone_default_limit": 9}
    },
    CT_Zone={"z5": {"limit": 100, "external_ids": ["map", []]}, "z6": {"limit": ["set", []]}},
)


MAP: Json = {"type": {"key": "string", "value": "uuid", "min": 0, "max": "unlimited"}}
LIMIT: Json = {"type": {"key": "integer", "min": 0}}


def test_what_an_older_schema_has_no_column_for_is_named_with_its_value() -> None:
    older: Json = {
        "tables": {
            "Open_vSwitch": {"columns": {"datapaths": MAP}},
            "Datapath": {"columns": {"ct_zones": MAP}},
            "CT_Zone": {"columns": {"external_ids": MAP}},
        }
    }
    lost = contents.dropped(ZONES, older)
    assert list(map(str, lost)) == [
        "CT_Zone.limit of ct_zones 5 of datapaths system = 100",
        "Datapath.ct_zone_default_limit of datapaths system = 9",
    ]
    newer = copy.deepcopy(older)
    newer["tables"]["CT_Zone"]["columns"]["limit"] = LIMIT
    newer["tables"]["Datapath"]["columns"]["ct_zone_default_limit"] = LIMIT
    assert contents.dropped(ZONES, newer) == []
    after = {table: {u: dict(row) for u, row in rows.items()} for table, rows in ZONES.items()}
    after["CT_Zone"]["z5"]["limit"] = after["Datapath"]["d0"]["ct_zone_default_limit"] = ("set", ())
    assert Small(after).transact(contents.putting_back(lost, newer)) == ZONES


def test_rows_of_a_table_that_is_gone() -> None:
    older: Json = {"tables": {"Bridge": {"columns": {}}}}
    assert [str(each) for each in contents.dropped(content(QoS={QOS: {"type": "linux-htb"}}), older)] == [
        "QoS of linux-htb is gone"
    ]


@pytest.mark.parametrize(
    ("kind", "value", "allowed"),
    [
        ("string", "a", True),
        ("string", ["set", []], False),
        ({"key": "string", "min": 0, "max": 3}, ["set", ["a", "b", "c"]], True),
        ({"key": "string", "min": 0, "max": 3}, ["set", ["a", "b", "c", "d"]], False),
        ({"key": "string", "value": "string", "min": 0, "max": "unlimited"}, ["map", [["a", "b"]]], True),
        ({"key": {"type": "string", "enum": ["set", ["access", "trunk"]]}, "min": 0}, "trunk", True),
        ({"key": {"type": "string", "enum": ["set", ["access", "trunk"]]}, "min": 0}, "dot1q-tunnel", False),
        ({"key": {"type": "string", "enum": "trunk"}}, "trunk", True),
        ({"key": {"type": "string", "maxLength": 3}}, "four", False),
        ({"key": {"type": "integer", "minInteger": 0, "maxInteger": 7}}, 7, True),
        ({"key": {"type": "integer", "minInteger": 0, "maxInteger": 7}}, 8, False),
        ({"key": {"type": "real", "minReal": 0.5}}, 0.25, False),
        ({"key": "integer", "value": {"type": "string", "enum": ["set", ["a"]]}}, ["map", [[1, "b"]]], False),
        ({"key": {"type": "uuid", "refTable": "Port"}, "max": "unlimited"}, ["uuid", "p0"], True),
        ({"key": {"type": "boolean"}}, True, True),
    ],
)
def test_what_a_column_allows(kind: t.Any, value: t.Any, allowed: bool) -> None:
    assert contents.allows({"type": kind}, contents.normal(value)) == allowed


def test_what_an_older_schema_does_not_allow_is_taken_out_and_comes_back() -> None:
    """Flow_Table.prefixes: ovn-controller 25.03 sets four, Open vSwitch before 3.5 allows three."""
    before = content(Flow_Table={"f0": {"name": "t", "prefixes": ["set", ["a", "b", "c", "d"]]}})
    columns = {"name": {"type": "string"}, "prefixes": {"type": {"key": "string", "min": 0, "max": 3}}}
    older: Json = {"tables": {"Flow_Table": {"columns": columns}}}
    lost = contents.dropped(before, older)
    assert list(map(str, lost)) == ["Flow_Table.prefixes of t = [a, b, c, d]"]
    emptied = Small(before).transact(contents.emptying(lost, older))
    assert emptied["Flow_Table"]["f0"]["prefixes"] == ("set", ())
    assert contents.dropped(emptied, older) == []
    assert Small(emptied).transact(contents.putting_back(lost, older)) == before


def test_read_leaves_out_what_daemons_write(serve: t.Any, database: t.Any) -> None:
    database.other_config = {"flow-restore-wait": "true", "a": "b"}
    database.add("Interface", "i0", name="p0", ofport=7, error="no")
    with Ovsdb(serve(database).remote) as session:
        found = contents.read(session, ("Port",))
    assert "Port" not in found
    assert found["Open_vSwitch"]["o0"]["other_config"] == ("map", (("a", "b"),))
    assert found["Interface"]["i0"]["name"] == ("set", ("p0",))
    assert not {"ofport", "error"} & found["Interface"]["i0"].keys()


def test_a_secret_is_not_shown() -> None:
    options = ("map", (("psk", "hunter2"), ("remote_ip", "10.0.0.1")))
    assert contents.show(options) == "{psk=(secret), remote_ip=10.0.0.1}"
    difference = contents.Difference("Interface", "i", "options", "tun0", options, ("map", ()))
    assert "hunter2" not in str(difference)
