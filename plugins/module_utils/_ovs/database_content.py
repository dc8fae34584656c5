# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What a database holds, how two contents differ, what a schema has no place for, and how a content is put back.

Values have one form whatever their type says of sizes: ("set", atoms) or ("map", pairs), each in order; an atom that names a row
is ("uuid", text).  What daemons report about themselves, and what no file holds, is left out.  Pure but for ``read``.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import (
    DATABASE,
    FLOW_RESTORE_WAIT,
    SECRETS,
    Ovsdb,
)

Value = tuple[str, tuple[t.Any, ...]]
Row = t.Mapping[str, Value]
Content = t.Mapping[str, t.Mapping[str, Row]]
Json = dict[str, t.Any]

# What ovs-vswitchd, ovsdb-server and the scripts that start them write by themselves.
REPORTED = frozenset(
    {
        *("cur_cfg", "next_cfg", "ovs_version", "db_version", "system_type", "system_version"),
        *(
            "datapath_types",
            "iface_types",
            "dpdk_initialized",
            "dpdk_version",
            "datapath_version",
            "capabilities",
        ),
        *("statistics", "status", "rstp_status", "bond_active_slave", "bfd_status", "cfm_flap_count"),
        *("ofport", "error"),
    }
)
# Columns that tell people which row it is.
_LABELS = ("name", "target", "type", "id")


@dataclasses.dataclass(frozen=True)
class Difference:
    """A row (``column`` is None), or a value, that two contents do not have alike; None where one has none.

    ``label`` tells people which row it is.  ``before`` and ``after`` are the row's columns, or the value.
    """

    table: str
    uuid: str
    column: str | None
    label: str
    before: t.Any
    after: t.Any

    @property
    def key(self) -> tuple[str, str, str | None]:
        """What it is about, without the values."""
        return self.table, self.uuid, self.column

    @property
    def place(self) -> str:
        """The table, or the table and its column."""
        return self.table if self.column is None else f"{self.table}.{self.column}"

    def __str__(self) -> str:
        where = f"{self.place} of {self.label}" if self.label else self.place
        if self.column is None:
            return f"{where} {'is new' if self.before is None else 'is gone'}"
        if self.after is None:
            return f"{where} = {show(self.before)}"
        old, new = self.before, self.after
        if old[0] == new[0] == "map":  # only the pairs that differ
            old = ("map", tuple(pair for pair in self.before[1] if pair not in self.after[1]))
            new = ("map", tuple(pair for pair in self.after[1] if pair not in self.before[1]))
        return f"{where} was {show(old)} and is {show(new)}"


def read(
    database: Ovsdb,
    tables_left_out: t.Container[str] = (),
    columns_left_out: t.Container[str] = REPORTED,
) -> Content:
    """Everything in ``database`` that is configuration, as of one moment."""
    found = rows(database, tables_left_out, columns_left_out)
    return {
        table: {uuid: _row(row, table) for uuid, row in content.items()} for table, content in found.items()
    }


def rows(
    database: Ovsdb, tables_left_out: t.Container[str] = (), columns_left_out: t.Container[str] = ()
) -> dict[str, dict[str, Json]]:
    """Every row of every table by its uuid, as it was on the wire, as of one moment; without what no file holds."""
    columns = {
        table: [
            name
            for name, column in definition["columns"].items()
            if not column.get("ephemeral", False) and name not in columns_left_out
        ]
        for table, definition in database.schema["tables"].items()
        if table not in tables_left_out
    }
    operations: list[Json] = [
        {"op": "select", "table": table, "where": [], "columns": ["_uuid", *names]}
        for table, names in columns.items()
    ]
    results = database.transact(*operations)
    return {
        table: {row.pop("_uuid")[1]: row for row in result["rows"]} for table, result in zip(columns, results)
    }


def _row(row: Json, table: str) -> Row:
    values = {name: normal(value) for name, value in row.items()}
    if table == DATABASE and "other_config" in values:
        kept = tuple(pair for pair in values["other_config"][1] if pair[0] != FLOW_RESTORE_WAIT)
        values["other_config"] = ("map", kept)
    return values


def normal(value: t.Any) -> Value:
    """A value of the wire (RFC 7047 section 5.1), or of ``as_json``."""
    if isinstance(value, list) and value and value[0] == "map":
        return "map", tuple(sorted(((_atom(key), _atom(item)) for key, item in value[1]), key=repr))
    if isinstance(value, list) and value and value[0] == "set":
        return "set", tuple(sorted(map(_atom, value[1]), key=repr))
    return "set", (_atom(value),)


def _atom(atom: t.Any) -> t.Any:
    return tuple(atom) if isinstance(atom, list) else atom


def compare(before: Content, after: Content) -> list[Difference]:
    """Every row and value that is not in both alike, in the order of the tables' names."""
    found = []
    for table in sorted({*before, *after}):
        old, new = before.get(table, {}), after.get(table, {})
        for uuid in sorted({*old, *new}):
            label = _label(before if uuid in old else after, table, uuid)
            if uuid not in old or uuid not in new:
                found.append(Difference(table, uuid, None, label, old.get(uuid), new.get(uuid)))
                continue
            found += [
                Difference(table, uuid, name, label, old[uuid][name], new[uuid][name])
                for name in sorted(old[uuid].keys() & new[uuid].keys())
                if old[uuid][name] != new[uuid][name]
            ]
    return found


def dropped(content: Content, schema: Json) -> list[Difference]:
    """What ``schema`` has no place for: rows of tables and values of columns that it does not have, values it does not allow.

    What is empty, 0 or false is what a row without the column means, too.
    """
    found = []
    for table, rows in sorted(content.items()):
        known = schema["tables"].get(table, {}).get("columns")
        for uuid, row in sorted(rows.items()):
            label = _label(content, table, uuid)
            if known is None:
                found.append(Difference(table, uuid, None, label, row, None))
                continue
            found += [
                Difference(table, uuid, name, label, value, None)
                for name, value in sorted(row.items())
                if (
                    not allows(known[name], value)
                    if name in known
                    else any(atom not in ("", 0, False) for atom in value[1])
                )
            ]
    return found


def allows(column: Json, value: Value) -> bool:
    """Whether a column that is defined so may hold ``value`` (RFC 7047 section 3.2, type)."""
    kind = column["type"]
    if isinstance(kind, str):
        kind = {"key": kind}
    shape, parts = value
    most = kind.get("max", 1)
    if len(parts) < kind.get("min", 1) or (most != "unlimited" and len(parts) > most):
        return False
    if shape == "set":
        return all(_allows_atom(kind["key"], atom) for atom in parts)
    return all(_allows_atom(kind["key"], key) and _allows_atom(kind["value"], item) for key, item in parts)


def _allows_atom(base: t.Any, atom: t.Any) -> bool:
    if isinstance(base, str):
        return True
    if "enum" in base and atom not in normal(base["enum"])[1]:
        return False
    measure = len(atom) if isinstance(atom, str) else atom
    kind = "Length" if isinstance(atom, str) else base["type"].capitalize()
    return bool(base.get(f"min{kind}", measure) <= measure <= base.get(f"max{kind}", measure))


def emptying(lost: t.Sequence[Difference], schema: Json) -> list[Json]:
    """The operations that take out what is ``lost`` in columns that ``schema`` has: a conversion refuses such a value."""
    return [
        {
            "op": "update",
            "table": each.table,
            "where": [["_uuid", "==", ["uuid", each.uuid]]],
            "row": {each.column: [each.before[0], []]},
        }
        for each in lost
        if each.column in schema["tables"].get(each.table, {}).get("columns", {})
    ]


def lost(database: Ovsdb, schema: Json) -> list[Difference]:
    """What a conversion of the running ``database`` to ``schema`` would lose: nothing where it has this version already."""
    return dropped(read(database), schema) if database.schema_version != schema["version"] else []


def putting_back(differences: t.Sequence[Difference], schema: Json) -> list[Json]:
    """The operations (RFC 7047 section 5.2) that make everything in ``differences`` what it was before, in one transaction.

    A row that is gone comes back with another uuid, which everything that is put back refers to.
    """
    names = {
        each.uuid: f"row_{each.uuid.replace('-', '_')}"
        for each in differences
        if each.column is None and each.before is not None
    }
    operations: list[Json] = []
    for each in differences:
        where = [["_uuid", "==", ["uuid", each.uuid]]]
        columns = schema["tables"].get(each.table, {}).get("columns", {})
        if each.column is None and each.before is None:
            operations.append({"op": "delete", "table": each.table, "where": where})
        elif each.column is None:
            row = {name: wire(value, names) for name, value in each.before.items() if name in columns}
            operations.append(
                {"op": "insert", "table": each.table, "uuid-name": names[each.uuid], "row": row}
            )
        elif each.column in columns and columns[each.column].get("mutable", True):
            row = {each.column: wire(each.before, names)}
            operations.append({"op": "update", "table": each.table, "where": where, "row": row})
    return operations


def wire(value: Value, names: t.Mapping[str, str] | None = None) -> t.Any:
    """``value`` as RFC 7047 section 5.1 has it; rows in ``names`` are referred to by these names."""
    kind, parts = value
    known = names or {}
    if kind == "map":
        return ["map", [[_wire_atom(key, known), _wire_atom(item, known)] for key, item in parts]]
    return ["set", [_wire_atom(atom, known) for atom in parts]]


def _wire_atom(atom: t.Any, names: t.Mapping[str, str]) -> t.Any:
    if not isinstance(atom, tuple):
        return atom
    return ["named-uuid", names[atom[1]]] if atom[1] in names else ["uuid", atom[1]]


def show(value: Value) -> str:
    """A value for people, without secrets."""
    kind, parts = value
    if kind == "map":
        pairs = ((key, "(secret)" if key in SECRETS else _show_atom(item)) for key, item in parts)
        return "{" + ", ".join(f"{_show_atom(key)}={item}" for key, item in pairs) + "}"
    return _show_atom(parts[0]) if len(parts) == 1 else "[" + ", ".join(map(_show_atom, parts)) + "]"


def _show_atom(atom: t.Any) -> str:
    return str(atom[1]) if isinstance(atom, tuple) else str(atom)


def as_json(differences: t.Sequence[Difference]) -> list[Json]:
    """``differences`` for a file; see ``of_json``."""
    return [
        {
            **dataclasses.asdict(each),
            "before": _sides(each.before, wire),
            "after": _sides(each.after, wire),
        }
        for each in differences
    ]


def of_json(documents: t.Iterable[Json]) -> list[Difference]:
    """What ``as_json`` was given."""
    return [
        Difference(
            **{
                **each,
                "before": _sides(each["before"], normal),
                "after": _sides(each["after"], normal),
            }
        )
        for each in documents
    ]


def _sides(side: t.Any, change: t.Callable[[t.Any], t.Any]) -> t.Any:
    if side is None:
        return None
    return {name: change(value) for name, value in side.items()} if isinstance(side, dict) else change(side)


def _label(content: Content, table: str, uuid: str, depth: int = 3) -> str:
    """The row's own name, else the way to it from a row that refers to it."""
    row = content[table][uuid]
    for column in _LABELS:
        if column in row and len(row[column][1]) == 1 and row[column][1][0] != "":
            return str(row[column][1][0])
    if depth == 0:
        return ""
    reference = ("uuid", uuid)
    for other, rows in sorted(content.items()):
        for number, referring in rows.items():
            for column, (kind, parts) in referring.items():
                for part in parts:
                    if (part[1] if kind == "map" else part) == reference:
                        way = f"{column} {_show_atom(part[0])}" if kind == "map" else column
                        above = _label(content, other, number, depth - 1)
                        return f"{way} of {above}" if above else way
    return ""
