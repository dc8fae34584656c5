# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import types
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils import _second

COLUMNS = {"bfd": {}, "cfm_mpid": {}, "lldp": {}}


def silenced(columns: dict[str, t.Any]) -> dict[tuple[str, str], t.Any]:
    """What the copy of a database is set to: (table, column) -> value."""
    copy = types.SimpleNamespace(bridges=list, schema={"tables": {"Interface": {"columns": columns}}})
    return {
        (operation["table"], column): value
        for operation in _second.silence(t.cast("t.Any", copy))
        for column, value in operation.get("row", {}).items()
    }


@pytest.mark.parametrize(
    ("table", "column"),
    [
        *(("Bridge", column) for column in ("controller", "sflow", "netflow", "ipfix")),
        ("Open_vSwitch", "manager_options"),
        ("Port", "lacp"),
        *(("Interface", column) for column in COLUMNS),
    ],
)
def test_two_processes_do_not_both_speak(table: str, column: str) -> None:
    assert silenced(COLUMNS)[table, column] in (["set", []], ["map", []])


def test_a_column_that_the_schema_does_not_have_is_left_alone() -> None:
    assert ("Interface", "lldp") not in silenced({"bfd": {}})
