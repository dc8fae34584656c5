# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host, in words and numbers."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils import host_facts
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.host_facts import Facts, facts, from_result
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.rollout import (
    ENDED,
    RUNNING,
    Host,
    Rollout,
    Step,
    Trouble,
)
from tests.unit.plugins.plugin_utils import rollouts
from tests.unit.plugins.plugin_utils.rollouts import CHANGES, PLAN, packets, result
from tests.unit.plugins.plugin_utils.test_rollout import Any

LOST = Trouble("hand-over", "Hand over", "timed out", unreachable=True)
BROKEN = Trouble("packages", "Install", "no such version")


def of(state: str = ENDED, check_mode: bool = False, **known: t.Any) -> Facts:
    return facts(Host("h", **known), Rollout(state=state, check_mode=check_mode))


@pytest.mark.parametrize(
    ("known", "outcome"),
    [
        ({}, "untouched"),
        ({"result": result("h")}, "upgraded"),
        ({"result": result("h", "unconfirmed")}, "unconfirmed"),
        ({"result": result("h", "unknown")}, "unknown"),
        ({"result": result("h", "unknown"), "trouble": LOST}, "unreachable"),
        ({"result": result("h", "nonsense")}, "unknown"),
        ({"steps": [Step("begin", 0.0)], "trouble": BROKEN}, "failed"),
        ({"plan": PLAN, "handover": {"state": "confirmed"}}, "upgraded"),
        ({"plan": PLAN, "handover": {"state": "applied"}}, "unconfirmed"),
        ({"plan": PLAN, "handover": {"state": "rolled_back"}}, "failed"),
        ({"plan": {"needed": False}}, "unchanged"),
        ({"plan": PLAN}, "unknown"),
        ({"hidden": True}, "unknown"),
    ],
)
def test_how_it_ended(known: dict[str, t.Any], outcome: str) -> None:
    assert of(**known).outcome == outcome


def test_how_it_stands_meanwhile() -> None:
    assert of(RUNNING, steps=[Step("begin", 0.0)], result=result("h", "unknown")).outcome == "at work"
    assert of(RUNNING, result=result("h")).outcome == "upgraded"
    assert of(RUNNING).outcome == "untouched"


def test_a_plan_without_the_role() -> None:
    assert of(check_mode=True, plan=PLAN).outcome == "planned"


def test_why_it_failed_and_where() -> None:
    found = of(result=result("h", "failed", failure="Install: no"), trouble=BROKEN)
    assert (found.failure, found.step) == ("Install: no", "packages")
    assert of(result=result("h", "unknown"), trouble=LOST).failure == "it became unreachable: timed out"
    after = of(
        result=result("h", "failed"), steps=[Step(name, 0.0) for name in ("verify", "rescue", "result")]
    )
    assert after.step == "verify"


def test_a_task_after_the_upgrade_that_failed_is_a_remark() -> None:
    found = of(result=result("h"), trouble=BROKEN)
    assert (found.outcome, found.failure, found.remark) == ("upgraded", "", "Install: no such version")
    assert found.needs_somebody


def test_versions_are_those_that_run() -> None:
    assert of(plan=PLAN, handover={"state": "confirmed"}).to_version == "4.0.0"
    assert of(plan=PLAN, handover={"state": "rolled_back"}).to_version == ""
    assert of(plan=PLAN).from_version == "3.5.0"


def test_reasons_of_each_strategy_and_of_a_reload() -> None:
    assert dict(of(plan=PLAN).reasons)["standby"] == tuple(rollouts.REASONS["standby"])
    assert of(plan={"reasons": ["it is built in"]}).reasons == (("reload", ("it is built in",)),)


def test_who_has_changed_what() -> None:
    assert host_facts.changes(CHANGES) == (
        "br-int: 3 flows expired by their timeouts",
        "br-int: 12 flows made by learn actions",
        "br-int: the controller with cookie 0xc0ffee: 40 added, 7 modified, 39 removed",
        "br-int: settings that were changed: group 5",
    )


def test_what_nobody_explains_comes_first() -> None:
    bridges = {"a": {"expired": 1}, "b": {"unexplained": "2 flows are missing"}}
    found = host_facts.changes({"bridges": bridges, "unfollowed": {"c": "no monitor"}})
    assert found[0] == "b: NOT EXPLAINED: 2 flows are missing"
    assert found[1:] == (
        "a: 1 flow expired by their timeouts",
        "c: only compared, it does not tell what is changed in it: no monitor",
    )


def test_a_stream_is_slow_when_it_was_silent_for_longer_than_its_sender() -> None:
    told = packets(200, 100.0, 0)
    assert from_result("h", {"traffic": {"established": told}}).slow
    assert not from_result("h", {"traffic": {"established": {**told, "longest_send_gap_ms": 90.0}}}).slow
    assert not from_result("h", {"traffic": None}).slow


def test_lost_packets_of_both_streams() -> None:
    found = from_result("h", result("h", traffic=rollouts.traffic(100.0, 7, 100.0, 2)))
    assert (found.lost, found.stands_out) == (9, True)


@pytest.mark.parametrize(
    "points", [None, 3, [None], [[1]], [[1, 2, 3, 4]], [["a", 1, 1]], [[float("nan"), 1, 1]]]
)
def test_points_that_are_none(points: object) -> None:
    found = host_facts.stream({"sent": 1, "lost": 0, "around_gap": {"points": points}})
    assert found is not None
    assert found.points == ()


def test_what_only_some_hosts_have() -> None:
    found = from_result("h", {
        "connections": {"carried": 3, "of": 4}, "ovn": {"from": None, "to": "25.03.0"},
        "kernel_module": {"why": "another one", "gap_ms": 12.0, "restored": {"of": 3, "missing": ["route x"]}},
    })  # fmt: skip
    assert found.besides == (
        "connections: 3 of 4 were carried over", "another one", "the datapath was away for 12.0 ms",
        "things of its ports that are not back: route x", "ovn-controller 25.03.0 runs instead of none",
    )  # fmt: skip


@given(Any, Any)
def test_any_result_is_shown(found: object, plan: object) -> None:
    names = [*result("h"), "connections", "kernel_module", "ovn", "changes", "traffic"]
    given: t.Any = dict.fromkeys(names, found)
    of(result=given, plan=t.cast("t.Any", plan if isinstance(plan, dict) else {}), handover=given)


def test_outcomes_are_in_one_list() -> None:
    assert set(host_facts.NEED_SOMEBODY) <= set(host_facts.DONE) <= set(host_facts.OUTCOMES)
    assert set(host_facts.OUTCOMES) - set(host_facts.DONE) == {"at work", "untouched"}
