# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout with limits: what breaks them is taken back hot, what has not begun does not begin, and the next run goes on."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest

from tests.harness import runs
from tests.integration.target import Target, native_targets
from tests.lab import hosts

# Fails on host1 as soon as the new version runs.
CHECKS = """
- name: See that the site is content
  ansible.builtin.assert:
    that: hot_upgrade_moment == 'before' or inventory_hostname != 'host1'
    fail_msg: the site is not content
"""


@pytest.fixture(scope="module", name="lab")
def _lab() -> t.Iterator[hosts.Lab]:
    with native_targets("budget", ("host1", "host2")) as made:
        yield made["host1"].lab


class Run(t.NamedTuple):
    """How a run of the playbook ended: its exit status, what it said, and what each host was left as."""

    code: int
    output: str
    results: list[dict[str, t.Any]]
    versions: list[str]


def roll_out(lab: hosts.Lab, forks: int = 5, **variables: t.Any) -> Run:
    report = lab.folder / "report"
    done = runs.playbook(lab, "4.0.0", forks=forks, serial="100%", report_dir=str(report), **variables)
    results = [json.loads((report / f"{host.name}.json").read_text()) for host in lab.hosts]
    return Run(done.returncode, done.stdout, results, [Target(lab, host).version() for host in lab.hosts])


def test_limits_that_nobody_could_judge_are_refused(lab: hosts.Lab) -> None:
    run = roll_out(lab, confirm="manual", max_gap_ms=5)
    assert run.code != 0
    assert "hot_upgrade_max_gap_ms need hot_upgrade_confirm=automatic" in run.results[0]["failure"]
    assert run.versions == ["3.5.0", "3.5.0"]


def test_a_host_over_the_limit_goes_back_and_the_others_of_its_batch_do_not_begin(lab: hosts.Lab) -> None:
    before = [Target(lab, host).flows() for host in lab.hosts]
    # Without a probe it is the host that measures how long nobody forwarded, which is never nothing.
    run = roll_out(lab, forks=1, max_gap_ms=0)
    assert run.code != 0
    first, second = run.results
    assert (first["outcome"], len(first["breaches"])) == ("failed", 1), first["failure"]
    (breach,) = first["breaches"]
    assert "(0 allowed)" in breach
    assert "It was taken back: ovs-vswitchd 3.5.0 forwards" in first["failure"]
    assert "it was not begun, because the hand-over has failed on 1 of the other hosts" in second["failure"]
    assert run.versions == ["3.5.0", "3.5.0"]
    assert [Target(lab, host).flows() for host in lab.hosts] == before


def test_a_check_of_the_site_takes_its_host_back(lab: hosts.Lab, tmp_path: Path) -> None:
    checks = tmp_path / "checks.yml"
    checks.write_text(CHECKS)
    run = roll_out(lab, checks=str(checks), max_failed=1)
    assert run.code != 0
    assert "the site is not content" in run.results[0]["failure"], run.output
    assert "The host was taken back: ovs-vswitchd 3.5.0 forwards" in run.results[0]["failure"]
    assert run.results[1]["outcome"] == "upgraded"
    assert run.versions == ["3.5.0", "4.0.0"]


def test_the_next_run_goes_on_and_watches_the_host_first(lab: hosts.Lab) -> None:
    run = roll_out(lab, probe={"bridge": "br0"}, soak=2, max_gap_ms=60000, max_lost_established=100000)
    assert run.code == 0, run.output
    assert [result["outcome"] for result in run.results] == ["upgraded", "unchanged"]
    first = run.results[0]
    assert first["breaches"] == []
    assert first["traffic"]["established"]["sent"] > 100
    assert first["before"] == first["after"]
    assert first["counted"]["why"] == "the counters of netdev@ovs-netdev began anew"
    assert run.versions == ["4.0.0", "4.0.0"]
    # What was made for the measurement is gone.
    target = Target(lab, lab.hosts[0])
    assert "ovsops" not in target.run("ip", "netns", "list")
    assert "opr" not in target.run("ovs-vsctl", "list-ports", "br0")


def test_all_that_a_rollout_has_changed_is_taken_back(lab: hosts.Lab) -> None:
    """The last rollout has changed host1 alone; host2 was changed by the one before."""
    targets = [Target(lab, host) for host in lab.hosts]
    flows = [target.flows() for target in targets]
    # Both were named by the playbook when the packages came, and not again when a run went on.
    names = {host["id"] for host in rollouts(lab)}
    wrong = runs.playbook(lab, None, name="rollback", rollout="nobody")
    assert (wrong.returncode, [target.version() for target in targets]) == (2, ["4.0.0", "4.0.0"])
    assert "nothing to take back. Its packages were changed last by the rollout" in wrong.stdout
    name = next(iter(names))
    wrong = runs.playbook(lab, "4.0.0", name="rollback", rollout=name)
    assert wrong.returncode != 0
    assert "make no sense here. Leave them out. Nothing was done." in wrong.stdout
    # What the inventory wants of all hosts is no hindrance, nor that of rehearsals: the version before was not rehearsed.
    wanted = lab.folder / "wanted.yml"
    wanted.write_text(json.dumps({"ovs_hosts": {"vars": runs.prefixed("4.0.0", {"rehearsal_days": 7})}}))
    argv = runs.playbook_argv(
        [lab.inventory, wanted], {"hot_upgrade_rollout": name}, playbook="ovsops.hot_upgrade.rollback"
    )
    done = runs.play(argv)
    assert done.returncode == 0, done.stdout
    again = runs.playbook(lab, None, name="rollback", rollout="last")
    assert again.returncode == 0, again.stdout
    assert [target.version() for target in targets] == ["3.5.0", "3.5.0"]
    assert [target.flows() for target in targets] == flows


def rollouts(lab: hosts.Lab) -> list[dict[str, t.Any]]:
    record = "/var/lib/ovsops/rollout.json"
    return [json.loads(Target(lab, host).run("cat", record)) for host in lab.hosts]
