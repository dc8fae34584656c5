# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What BFD, CFM and LACP have found out is told again, and nothing that was told since is overwritten."""

from __future__ import annotations

import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import liveness

EPHEMERAL = {"type": "any", "ephemeral": True}
UP = ["map", [["state", "up"]]]


class Database:
    """Two interfaces; what was asked of it."""

    def __init__(self, **columns: t.Any) -> None:
        self.schema = {"tables": {"Interface": {"columns": columns}}}
        self.asked: list[t.Any] = []

    def transact(self, *operations: t.Any) -> list[t.Any]:
        self.asked.append(operations)
        rows = [
            {"_uuid": ["uuid", "a"], "bfd_status": UP, "cfm_fault": ["set", []], "lacp_current": True},
            {
                "_uuid": ["uuid", "b"],
                "bfd_status": ["map", []],
                "cfm_fault": False,
                "lacp_current": ["set", []],
            },
        ]
        return [{"rows": rows}]


def test_each_value_is_told_again_where_there_is_none() -> None:
    known = {"bfd_status": EPHEMERAL, "cfm_fault": EPHEMERAL, "lacp_current": EPHEMERAL}
    found = liveness.told(t.cast(t.Any, Database(**known)))
    assert [(each["where"], each["row"]) for each in found] == [
        ([["_uuid", "==", ["uuid", "a"]], ["bfd_status", "==", ["map", []]]], {"bfd_status": UP}),
        ([["_uuid", "==", ["uuid", "a"]], ["lacp_current", "==", ["set", []]]], {"lacp_current": True}),
        ([["_uuid", "==", ["uuid", "b"]], ["cfm_fault", "==", ["set", []]]], {"cfm_fault": False}),
    ]
    # Another schema may have fewer columns.
    older = Database(bfd_status=EPHEMERAL)
    liveness.tell_again(t.cast(t.Any, older), found)
    assert older.asked == [(found[0],)]


def test_what_a_file_holds_is_not_told_again() -> None:
    found = liveness.told(t.cast(t.Any, Database(bfd_status={"type": "any"}, lacp_current=EPHEMERAL)))
    assert [list(each["row"]) for each in found] == [["lacp_current"]]
    nothing = Database()
    liveness.tell_again(t.cast(t.Any, nothing), [])
    assert nothing.asked == []
