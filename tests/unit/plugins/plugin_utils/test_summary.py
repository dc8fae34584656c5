# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers of hosts as a table and as sums; ``make demo`` prints them, too."""

from __future__ import annotations

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils import summary
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.host_facts import from_result
from tests.unit.plugins.plugin_utils import rollouts
from tests.unit.plugins.plugin_utils.rollouts import result


def test_a_table() -> None:
    hosts = [from_result("a", result("a")), from_result("b", result("b", "failed", failure="no"))]
    lines = summary.as_table([summary.line(host) for host in hosts])
    assert lines[0].split()[:4] == ["host", "outcome", "version", "strategy"]
    assert "3.5.0 → 4.0.0" in lines[1]
    assert "0 of 8400" in lines[1]
    assert lines[2].split()[-3:] == ["-", "-", "-"]
    assert "2504 → -" in lines[2]


def test_sums() -> None:
    lines = [
        summary.line(from_result(name, result(name, traffic=rollouts.traffic(80.0, 3)))) for name in "ab"
    ]
    found = summary.sums(lines)
    assert (found["hosts"], found["lost_established"], found["sent_new"], found["longest_gap_ms"]) == (
        2,
        6,
        3360,
        80.0,
    )
    assert (found["flows_before"], found["strategy"]) == (5008, "make_before_break")


def test_a_sum_is_not_known_where_one_has_not_told() -> None:
    lines = [
        summary.line(from_result(name, result(name, traffic=known)))
        for name, known in (("a", rollouts.traffic()), ("b", None))
    ]
    found = summary.sums(lines)
    assert (found["lost_established"], found["longest_gap_ms"], found["duplicated"]) == (None, None, None)
    assert summary.sums([])["longest_gap_ms"] is None


def test_what_is_kept() -> None:
    assert summary.kept(from_result("a", result("a")))
    assert not summary.kept(from_result("a", result("a", verified=False)))
    assert not summary.kept(from_result("a", result("a", after={**rollouts.TOTALS, "flows": 1})))
    assert not summary.kept(from_result("a", result("a", "failed")))
