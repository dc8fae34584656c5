# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wrappers of examples/awx, run by ansible-runner as AWX does, over a role that only fails or does not."""

from __future__ import annotations

import itertools
import shutil
import typing as t
from pathlib import Path

import pytest

from tests.harness import awx
from tests.lab.images import REPOSITORY

HEALTHY = {"ansible_connection": "local"}
FAILING = {"ansible_connection": "local", "fails": True}
# What becomes unreachable in the middle has a result that says so from the beginning on.
LOST = {"ansible_connection": "local", "lost": True}
FLEET: awx.Hosts = {f"h{number}": HEALTHY for number in range(1, 7)}

TASKS = {
    "main": """
- name: Upgrade
  block:
    - name: Touch the host
      ansible.builtin.raw: "true"
    - name: Show what was asked
      ansible.builtin.debug:
        msg: "budget {{ __hot_upgrade_budget }} version {{ hot_upgrade_version | default('') }} of {{ hot_upgrade_rollout }}."
    - name: Begin
      ansible.builtin.set_fact:
        hot_upgrade_result: {outcome: unknown}
    - name: Lose the host
      ansible.builtin.ping:
      when: lost | default(false)
      vars: {ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: 9}
    - name: Fail where the test wants it
      ansible.builtin.fail:
      when: fails | default(false)
  rescue:
    - name: Fail again
      ansible.builtin.fail:
  always:
    - name: Result
      ansible.builtin.set_fact:
        hot_upgrade_result: {outcome: "{{ 'failed' if fails | default(false) else 'upgraded' }}", failure: it is broken}
""",
    "rehearse": """
- name: Touch the host
  ansible.builtin.raw: "true"
- name: Fail where the test wants it
  ansible.builtin.fail:
  when: fails | default(false)
""",
}
# A host on which nothing waits.
MODULE = """
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule(dict(state=dict(), transaction=dict()))
module.exit_json(changed=False)
"""


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our playbooks as they are, over other roles and modules."""
    folder = tmp_path_factory.mktemp("collections")
    collection = folder / "ansible_collections/ovsops/hot_upgrade"
    shutil.copytree(REPOSITORY / "playbooks", collection / "playbooks")
    tasks = collection / "roles/hot_upgrade/tasks"
    tasks.mkdir(parents=True)
    for name, text in TASKS.items():
        (tasks / f"{name}.yml").write_text(text)
    (collection / "plugins/modules").mkdir(parents=True)
    for name in ("ovs_handover", "ovs_info"):
        (collection / f"plugins/modules/{name}.py").write_text(MODULE)
    shutil.copy(REPOSITORY / "galaxy.yml", collection)
    return folder


Start = t.Callable[..., awx.Job]


@pytest.fixture
def start(collections: Path, tmp_path: Path) -> Start:
    """Run one job after the other."""
    numbers = itertools.count(41)

    def run(playbook: str, hosts: awx.Hosts = FLEET, options: str = "", **variables: t.Any) -> awx.Job:
        return awx.run(awx.prepare(tmp_path, next(numbers), hosts, variables, options), playbook, collections)

    return run


def said(job: awx.Job, did: str = "run") -> awx.Json:
    """What a job tells the next ones; its number is in the name."""
    ((name, of_it),) = job.artifacts.items()
    assert name.startswith(f"hot_upgrade_{did}_4")
    return t.cast("awx.Json", of_it)


def test_what_is_left_is_the_limit_of_the_next_job(start: Start) -> None:
    broken = {**FLEET, "h3": FAILING}
    first = start("fleet", broken, hot_upgrade_serial="1,2,100%")
    assert (first.status, first.touched) == ("failed", {"h1", "h2", "h3"})
    assert said(first) == {
        "outcomes": {"upgraded": 2, "failed": 1, "not begun": 3},
        "left": "h3,h4,h5,h6",
    }
    second = start(
        "fleet",
        options=f"--limit {said(first)['left']}",
        hot_upgrade_version="4.0.0*",
        hot_upgrade_change="CHG7",
    )
    assert (second.status, second.touched) == ("successful", {"h3", "h4", "h5", "h6"})
    assert said(second) == {"outcomes": {"upgraded": 4}, "left": ""}
    assert "version 4.0.0* of CHG7." in second.output


def test_nobody_is_left_of_a_batch(start: Start) -> None:
    """Ansible ends the job there: no later play is reached."""
    job = start("fleet", {**FLEET, "h2": FAILING, "h3": FAILING}, hot_upgrade_serial="1,2,100%")
    assert (job.status, job.touched) == ("failed", {"h1", "h2", "h3"})
    assert said(job)["outcomes"] == {"upgraded": 1, "failed": 2, "not begun": 3}
    assert said(job)["left"] == "h2,h3,h4,h5,h6"


def test_a_host_that_is_lost_in_the_middle_is_left(start: Start) -> None:
    job = start("fleet", {**FLEET, "h2": LOST}, hot_upgrade_serial="1,2,100%")
    assert said(job)["outcomes"] == {"upgraded": 2, "unknown": 1, "not begun": 3}
    assert said(job)["left"] == "h2,h4,h5,h6"


def test_all_of_a_batch_are_lost(start: Start) -> None:
    """Nobody can say which ones are done: all of them are left, and the next job leaves alone what is done."""
    job = start("fleet", {**FLEET, "h2": LOST}, hot_upgrade_serial="1")
    assert job.touched == {"h1", "h2"}
    assert said(job) == {"outcomes": {"unknown": 6}, "left": "h1,h2,h3,h4,h5,h6"}


def test_the_canary_goes_alone(start: Start) -> None:
    job = start("canary", {**FLEET, "h1": FAILING})
    assert (job.status, job.touched) == ("failed", {"h1"})
    assert said(job) == {"outcomes": {"failed": 1}, "left": "h1"}


def test_the_canary_is_who_was_named(start: Start) -> None:
    job = start("canary", hot_upgrade_canary="h4,h5")
    assert (job.status, job.touched) == ("successful", {"h4", "h5"})
    assert said(job) == {"outcomes": {"upgraded": 2}, "left": ""}


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        ("--limit h2", {"hot_upgrade_canary": "h1"}),
        ("", {"hot_upgrade_hosts": "ovs_hosts"}),
    ],
)
def test_a_canary_that_is_nobody_or_everybody_is_refused(
    start: Start, options: str, variables: dict[str, str]
) -> None:
    job = start("canary", options=options, **variables)
    assert (job.status, job.touched) == ("failed", set())
    assert "Nothing was done on any host" in " ".join(job.output.split())


def test_slices_have_their_own_gate_and_a_share_of_the_budget(start: Start) -> None:
    broken = {**FLEET, "h7": HEALTHY, "h8": HEALTHY, "h1": FAILING, "h2": FAILING, "h3": FAILING}
    shared = {"hot_upgrade_slices": 2, "hot_upgrade_fleet_max_failed": "3", "hot_upgrade_serial": "3"}
    one, two = (start("fleet", awx.sliced(broken, number, 2), **shared) for number in (1, 2))
    # One is allowed in each: the second failure stops one slice, and the other goes on to its end.
    assert (one.touched, two.touched) == ({"h1", "h3", "h5"}, {"h2", "h4", "h6", "h8"})
    assert (said(one)["left"], said(two)["left"]) == ("h1,h3,h7", "h2")
    # AWX hands on what all slices have said; of two things with one name it would be the last one.
    back = start("rollback", broken, **{**one.artifacts, **two.artifacts})
    assert said(back, "rollback") == {"outcomes": {"done": 4, "failed": 0}, "left": ""}


def test_a_rehearsal_tells_who_is_not_ready(start: Start) -> None:
    job = start("rehearse", {**FLEET, "h2": FAILING})
    assert said(job, "rehearse") == {"outcomes": {"done": 5, "failed": 1}, "left": "h2"}
    everybody = start("rehearse", {"h1": FAILING, "h2": FAILING})
    assert said(everybody, "rehearse")["left"] == "h1,h2"


def test_going_back_looks_at_all_hosts_where_no_job_has_left_any(start: Start) -> None:
    rehearsed = {"hot_upgrade_rehearse_40": {"outcomes": {"failed": 1}, "left": "h9"}}
    assert said(start("rollback", **rehearsed), "rollback")["outcomes"] == {"done": 6, "failed": 0}
