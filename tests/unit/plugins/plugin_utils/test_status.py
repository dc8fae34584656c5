# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet as a table."""

from __future__ import annotations

import datetime
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils import status
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.table import table

NOW = datetime.datetime(2026, 11, 27, 12, tzinfo=datetime.timezone.utc)
REHEARSAL = {"at": "2026-11-23T06:15:00+00:00", "to": "4.0.0", "passed": True, "passed_back": True}
LOADED = {"loaded": True, "builtin": False, "reload_needed": False}


def found(**changes: t.Any) -> dict[str, t.Any]:
    """What a host that needs nothing tells."""
    info = {
        "installed": True,
        "daemons": {"ovs-vswitchd": {"running_version": "3.5.0", "disk_version": "3.5.0"}},
        "pending_since": None, "kernel_modules": [LOADED], "rehearsal": None, "protection": None,
    }  # fmt: skip
    top: dict[str, t.Any] = {"offered": None, "transactions": []}
    return {
        **{key: changes.pop(key, value) for key, value in top.items()},
        "info": {**info, **changes},
    }


def cell(name: str, **changes: t.Any) -> str:
    return dict(zip(status.HEADING, status.row("h", found(**changes), NOW)))[name]


def test_a_host_that_needs_nothing() -> None:
    assert status.row("h", found(), NOW) == ("h", "3.5.0", "3.5.0", "-", "-", "current", "-", "-", "no")


@pytest.mark.parametrize(
    ("name", "changes", "text"),
    [
        ("OFFERED", {"offered": "4.0.0"}, "4.0.0"),
        ("PENDING SINCE", {"pending_since": "2026-11-20T01:02:03+00:00"}, "2026-11-20"),
        (
            "RUNS",
            {"daemons": {"ovs-vswitchd": {"running_version": None, "disk_version": "1"}}},
            "not running",
        ),
        ("MODULE", {"kernel_modules": []}, "-"),
        ("MODULE", {"kernel_modules": [{**LOADED, "reload_needed": True}]}, "reload needed"),
        ("MODULE", {"kernel_modules": [{**LOADED, "reload_needed": None}]}, "unknown"),
        ("MODULE", {"kernel_modules": [{**LOADED, "builtin": True}]}, "built in"),
        ("REHEARSED", {"rehearsal": REHEARSAL}, "4.0.0: passed, 4 d ago"),
        (
            "REHEARSED",
            {"rehearsal": {**REHEARSAL, "passed_back": False}},
            "4.0.0: passed, no way back, 4 d ago",
        ),
        ("REHEARSED", {"rehearsal": {**REHEARSAL, "passed": False}}, "4.0.0: FAILED, 4 d ago"),
        ("PROTECTED", {"protection": {"since": "2026-11-01T00:00:00Z", "restarted": []}}, "since 2026-11-01"),
        (
            "PROTECTED",
            {"protection": {"since": "2026-11-01T00:00:00Z", "restarted": ["ovs-vswitchd"]}},
            "yes, but restarted: ovs-vswitchd",
        ),
        (
            "LAST HAND-OVER",
            {
                "transactions": [
                    {"state": "confirmed", "transaction": "20261123T061500Z-3fa2c1", "deadline": None}
                ]
            },
            "confirmed 2026-11-23",
        ),
        (
            "LAST HAND-OVER",
            {"transactions": [{"state": "applied", "transaction": "2", "deadline": "2026-11-23T06:17:03Z"}]},
            "applied, goes back at 2026-11-23T06:17:03Z",
        ),
    ],
)
def test_what_an_operator_has_to_know(name: str, changes: dict[str, t.Any], text: str) -> None:
    assert cell(name, **changes) == text


def test_a_host_that_tells_nothing_has_a_row_of_its_own() -> None:
    assert status.row("h", None, NOW)[:2] == ("h", "no answer")
    assert status.row("h", found(installed=False), NOW)[:2] == ("h", "not installed")
    assert {len(status.row("h", each, NOW)) for each in (None, found(installed=False), found())} == {
        len(status.HEADING)
    }


def test_columns_stand_below_each_other_whatever_the_names_are() -> None:
    lines = table([("A", "B"), ("x" * 5, "1"), ("\u540d\u524d", "2"), ("a\x1b[31m\n", "3")])
    assert lines == ["A        B", "xxxxx    1", "\u540d\u524d     2", "a?[31m?  3"]
