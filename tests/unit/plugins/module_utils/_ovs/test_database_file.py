# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database as a file. That ovsdb-server takes it, every hand-over of the integration tests shows."""

from __future__ import annotations

import hashlib
import json
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import database_file

ROW = {"_uuid": ["uuid", "a1"], "name": "br0 \u00e9", "ports": ["set", []]}


class Database:
    """Two tables, one of which is empty, and a column that no file holds."""

    schema: t.ClassVar[dict[str, t.Any]] = {
        "name": "Open_vSwitch",
        "tables": {
            "Bridge": {"columns": {"name": {}, "ports": {}, "status": {"ephemeral": True}}},
            "Mirror": {"columns": {"name": {}}},
        },
    }

    def transact(self, *operations: t.Any) -> list[t.Any]:
        assert [each["columns"] for each in operations] == [["_uuid", "name", "ports"], ["_uuid", "name"]]
        return [{"rows": [dict(ROW)]}, {"rows": []}]


def records(content: str) -> list[t.Any]:
    """Each one, by its header."""
    found, rest = [], content.encode()
    while rest:
        head, __, rest = rest.partition(b"\n")
        magic, kind, length, checksum = head.split()
        body, rest = rest[: int(length)], rest[int(length) :]
        assert (magic, kind, checksum.decode()) == (b"OVSDB", b"JSON", hashlib.sha1(body).hexdigest())
        found.append(json.loads(body))
    return found


def test_the_schema_and_every_row_of_what_a_file_holds() -> None:
    schema, content = records(database_file.text(t.cast(t.Any, Database())))
    assert schema == Database.schema
    assert content.pop("_date") > 0
    assert content.pop("_comment")
    assert content == {"Bridge": {"a1": {"name": "br0 \u00e9", "ports": ["set", []]}}}


def test_a_file_is_fitted_to_a_schema_that_allows_less(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = {"type": {"key": "string", "min": 0, "max": 1}}
    older = {"tables": {"Bridge": {"columns": {"ports": ports}}}}
    written = database_file.text(t.cast(t.Any, Database()))
    assert records(database_file.fitted(written, older)) == records(written)
    full = {**ROW, "ports": ["set", ["a", "b"]]}
    monkeypatch.setattr(Database, "transact", lambda *_: [{"rows": [full]}, {"rows": []}])
    written = database_file.text(t.cast(t.Any, Database()))
    schema, content = records(database_file.fitted(written, older))
    assert schema == Database.schema
    assert content["Bridge"] == {"a1": {"name": ROW["name"]}}
