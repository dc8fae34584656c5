# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Events in, a rollout out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils import rollout
from tests.unit.plugins.plugin_utils import rollouts
from tests.unit.plugins.plugin_utils.rollouts import HANDOVER, PLAN, ROLE, SET_FACT, Told, result


@pytest.mark.parametrize(
    ("path", "step"),
    [
        (f"{ROLE}/preflight.yml:12", "preflight"),
        (f"{ROLE}/handover.yml", "hand-over"),
        (f"{ROLE}/forget.yml:3", None),
        (f"{ROLE}/rehearse.yml:3", None),
        ("/home/op/site.yml:3", None),
        ("/home/op/roles/other/tasks/handover.yml:3", None),
        ("", None),
    ],
)
def test_a_step_is_a_file_of_the_role(path: str, step: str | None) -> None:
    assert rollout.step_of(path) == step


def test_which_tasks_make_a_rollout() -> None:
    assert rollout.is_ours(f"{ROLE}/begin.yml:1", "ansible.builtin.set_fact")
    assert rollout.is_ours("/home/op/site.yml:3", HANDOVER)
    # A rehearsal, and the playbooks that confirm and roll back.
    assert not rollout.is_ours(f"{ROLE}/rehearse.yml:30", HANDOVER)
    assert not rollout.is_ours(rollouts.PLAYBOOK.replace("hot_upgrade.yml", "confirm.yml"), HANDOVER)
    assert not rollout.is_ours("/home/op/site.yml:3", "ansible.builtin.ping")


@pytest.mark.parametrize(
    ("total", "serial", "sizes"),
    [
        (6, [1, 2, 6], [1, 2, 3]),
        (5, [2], [2, 2, 1]),
        (3, [], [3]),
        (3, [-1], [3]),
        (0, [1], []),
        (2, [5], [2]),
    ],
)
def test_batches_are_those_of_ansible(total: int, serial: list[int], sizes: list[int]) -> None:
    assert rollout.batch_sizes(total, serial) == sizes


@given(st.integers(0, 300), st.lists(st.integers(-1, 50), max_size=5))
def test_batches_hold_every_host_once(total: int, serial: list[int]) -> None:
    sizes = rollout.batch_sizes(total, serial)
    assert sum(sizes) == total
    assert all(size > 0 for size in sizes)


def test_steps_follow_each_other() -> None:
    told = rollouts.good()
    host = told.rollout.known["hv1"]
    assert [step.name for step in host.steps] == [
        "begin", "unfinished", "preflight", "snapshot", "packages", "hand-over", "verify", "result",
    ]  # fmt: skip
    assert all(one.ended == other.began for one, other in zip(host.steps, host.steps[1:]))
    assert [(batch.number, batch.of, batch.hosts) for batch in told.rollout.batches] == [
        (1, 2, ("hv1",)),
        (2, 2, ("hv2", "hv3")),
    ]
    assert told.rollout.to_come == []


def test_a_play_counts_from_the_first_thing_of_ours() -> None:
    told = Told()
    told.batch(["a", "b"], ["a", "b"], [2])
    assert not told.collector.started("a", "/home/op/site.yml:3", "ansible.builtin.ping")
    assert not told.rollout.counts
    told.step("b", "begin")
    assert told.rollout.counts
    assert [host.name for host in told.rollout.hosts] == ["a", "b"]


def test_other_plays_of_the_run_are_no_part_of_it() -> None:
    told = Told()
    told.collector.play("Else", ["x"], ["x"], [1])
    told.collector.started("x", "/home/op/site.yml:3", "ansible.builtin.ping")
    told.batch(["a"], ["a"], [1])
    told.steps(["a"])
    told.fact("a", result("a"))
    told.collector.play("After", ["x"], ["x"], [1])
    told.collector.started("x", "/home/op/site.yml:9", "ansible.builtin.ping")
    told.collector.end()
    assert [host.name for host in told.rollout.hosts] == ["a"]
    assert len(told.rollout.batches) == 1


def test_the_same_play_once_more_is_another_one() -> None:
    told = Told()
    for __ in range(2):
        told.batch(["a"], ["a"], [1])
        told.step("a", "begin")
        told.step("a", "result")
    assert [(batch.number, batch.of) for batch in told.rollout.batches] == [(1, 1), (1, 1)]
    assert [host.name for host in told.rollout.hosts] == ["a"]


def test_each_line_is_said_once_for_a_batch() -> None:
    assert sum("| preflight: " in line for line in rollouts.good().lines) == 2
    assert sum("| begins: " in line for line in rollouts.good().lines) == 2


def test_a_result_is_what_the_role_sets_and_not_what_a_host_tells() -> None:
    told = Told()
    told.batch(["a"], ["a"], [1])
    facts = {"ansible_facts": {"hot_upgrade_result": result("a")}}
    told.collector.told("a", "ansible.builtin.setup", facts)
    assert told.rollout.known["a"].outcome == ""
    told.collector.told("a", SET_FACT, facts)
    assert told.rollout.known["a"].outcome == "upgraded"


def test_a_failure_that_the_role_has_got_over_is_none() -> None:
    told = Told()
    told.batch(["a"], ["a"], [1])
    told.fails("a", "ovn", "no")
    assert told.rollout.known["a"].trouble is not None
    told.fact("a", result("a"))
    assert told.rollout.known["a"].trouble is None


def test_what_no_log_hides_is_kept_nowhere() -> None:
    told = Told()
    told.batch(["a"], ["a"], [1])
    told.collector.failed("a", f"{ROLE}/packages.yml:1", "x", "t", {"censored": "hidden", "msg": "secret"})
    told.collector.told("a", HANDOVER, {"censored": "hidden", "plan": PLAN, "transaction": "secret"})
    host = told.rollout.known["a"]
    assert host.hidden
    assert "secret" not in repr(host)


def test_a_refusal_of_the_playbook_is_no_failure_of_a_host() -> None:
    told = Told()
    told.collector.play("Understand what was asked", ["localhost"], ["localhost"], [1])
    told.collector.failed(
        "localhost", rollouts.PLAYBOOK, "ansible.builtin.assert", "Refuse", {"msg": "nonsense"}
    )
    assert (told.rollout.refusal, told.rollout.counts, told.rollout.hosts) == ("nonsense", True, [])


Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=5), each, max_size=3),
    max_leaves=8,
)


@given(Any, Any)
def test_whatever_a_module_tells_is_taken(plan: object, found: object) -> None:
    told = Told()
    told.batch(["a"], ["a"], [1])
    told.collector.told("a", HANDOVER, {"plan": plan, "transaction": found, "timeline": found})
    told.fact("a", found)
    told.collector.unreachable("a", "t", {"msg": found})
    told.collector.end()
    told.seen()
