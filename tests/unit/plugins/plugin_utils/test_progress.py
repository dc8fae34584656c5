# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines for a log: where, how long, how long still."""

from __future__ import annotations

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils import progress
from tests.unit.plugins.plugin_utils import rollouts
from tests.unit.plugins.plugin_utils.rollouts import Told, result


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "00:00"), (59.6, "01:00"), (3661, "1:01:01"), (-3, "00:00"), (36000, "10:00:00")],
)
def test_times(seconds: float, shown: str) -> None:
    assert progress.clock(seconds) == shown


def test_what_is_left_follows_from_the_batches_that_are_done() -> None:
    told = Told(forks=5)
    hosts = [f"h{number}" for number in range(31)]
    told.batch(hosts, hosts[:1], [1, 10, 20])
    told.step("h0", "begin")
    assert progress.remaining(told.rollout) is None
    told.now += 60
    told.batch(hosts, hosts[1:11], [1, 10, 20])
    told.step("h1", "begin")
    # One minute for a round of five: two rounds in this batch, and four in the next.
    assert progress.remaining(told.rollout) == 360
    told.now += 90
    told.step("h1", "preflight")
    assert progress.remaining(told.rollout) == 270
    told.now += 600
    told.step("h1", "packages")
    assert progress.remaining(told.rollout) == 240


def test_each_line_says_all_by_itself() -> None:
    lines = rollouts.bad().lines
    assert lines[0] == (
        "ROLLOUT 00:00 | batch 1 of 3 | 0 of 6 hosts done | remaining not known yet | begins: hv-ams1-r07-u01.example.net"
    )
    assert all(line.startswith("ROLLOUT ") and "\n" not in line for line in lines)
    text = "\n".join(lines)
    for words in (
        "| batch 2 of 3 | 1 of 6 hosts done | about 01:24 left | begins: 4 hosts",
        "hand-over: hv-ams1-r07-u02.example.net, the first of 4",
        "u02.example.net: handed over to 4.0.0, nobody forwarded for 412.7 ms",
        "u04.example.net: TAKEN BACK, how long nobody forwarded is not known",
        "u02.example.net: upgraded 3.5.0 -> 4.0.0, lost 71 of 8400 of an established flow, lost 12 of 1680 of new flows",
        "u03.example.net: unconfirmed 3.5.0 -> 4.0.0",
        "confirm it before 2026-11-28T03:45:00Z",
        "u05.example.net: FAILED: Packages: apt-get failed",
    ):
        assert words in text, text


def test_the_last_lines_tell_those_who_need_somebody_first() -> None:
    told = rollouts.bad()
    lines = progress.ending(told.rollout, ["/reports/x.html"])
    assert [line.split()[0][-15:-12] for line in lines[1:6]] == ["u04", "u05", "u03", "u02", "u01"]
    assert "Stopped: 2 of 6 hosts failed" in lines
    assert lines[-1] == "Report: /reports/x.html"


def test_a_fleet_has_no_endless_table() -> None:
    lines = progress.ending(rollouts.fleet(200).rollout, [])
    assert len(lines) < 70
    assert "... and 160 hosts more, see the page" in lines


def test_no_control_sequence_reaches_a_terminal() -> None:
    told = rollouts.hostile()
    for line in [*told.lines, *progress.ending(told.rollout, [])]:
        assert line.isprintable(), line


def test_a_host_that_is_lost() -> None:
    told = Told()
    told.batch(["a"], ["a"], [1])
    told.step("a", "begin")
    told.hear(told.collector.unreachable("a", "Hand over", {"msg": "timed out\nno"}))
    assert told.lines[-1].endswith("a: UNREACHABLE: it became unreachable: timed out")
    told.fact("a", result("a"))
    assert told.collector.rollout.known["a"].outcome == "upgraded"
