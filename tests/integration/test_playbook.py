# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook over SSH on native lab hosts that nobody planned for: each is upgraded with all it has, or refused."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import typing as t
from pathlib import Path

import pytest

from tests.harness import runs
from tests.integration.target import PROBE, Target, prepare_traffic
from tests.lab import hosts
from tests.lab import lab as laboratory

NAMES = ["br sp ace", "br$(>pwned)", 'br"q"\'s', "fifteen-chars-x", "-O", "br;id|x&", "brü", "`reboot`"]


def prepare_names(target: Target) -> None:
    for name in NAMES:
        target.bridge(name)


def prepare_old_protocols(target: Target) -> None:
    target.bridge("br0", "protocols=OpenFlow10,OpenFlow13", version="OpenFlow13")


def prepare_no_flows(target: Target) -> None:
    target.bridge("br0")
    target.run("ovs-ofctl", "-O", "OpenFlow15", "del-flows", "br0")


def prepare_nothing(target: Target) -> None:
    """No bridge at all."""


def prepare_stopped(target: Target) -> None:
    target.run("service", "openvswitch-switch", "stop")


def prepare_not_installed(target: Target) -> None:
    target.run("apt-get", "--yes", "--quiet", "purge", "openvswitch-switch", "openvswitch-common")


def prepare_not_root(target: Target) -> None:
    target.shell("useradd -m -p '*' op; cp -r /root/.ssh /home/op/; chown -R op /home/op/.ssh")


# What is done to each host, and the inventory's variables for it.
CASES: dict[t.Callable[[Target], None], dict[str, t.Any]] = {
    prepare_traffic: {"hot_upgrade_probe": PROBE},
    prepare_names: {"hot_upgrade_strategy": "restart"},
    prepare_old_protocols: {},
    prepare_no_flows: {"hot_upgrade_strategy": "restart"},
    prepare_nothing: {},
    prepare_stopped: {},
    prepare_not_installed: {},
    prepare_not_root: {"ansible_user": "op"},
}


@dataclasses.dataclass(frozen=True)
class Case:
    """What was and what came of it: flows of each bridge before, the play's output, the host's result."""

    target: Target
    flows: dict[str, list[str]]
    output: str
    result: dict[str, t.Any]

    def assert_upgraded(self) -> None:
        assert self.result["outcome"] == "upgraded", self.result["failure"]
        assert (self.result["from"], self.result["to"]) == ("3.5.0", "4.0.0")
        assert self.result["verified"] is True
        assert self.result["before"] == self.result["after"]
        target = self.target
        assert target.version() == "4.0.0"
        assert target.flows() == self.flows
        assert target.run("ovs-vsctl", "get", "open_vswitch", ".", "other_config").strip() == "{}"
        assert target.processes() == []
        assert "pwned" not in target.run("ls", "/", "/root")
        assert "policy-rc.d" not in target.run("ls", "/usr/sbin")

    def assert_refused(self, text: str) -> None:
        assert self.result["outcome"] == "failed"
        assert text in self.result["failure"]
        assert self.target.processes() == []
        left = "ls -d /run/ovsops /var/lib/ovsops /usr/sbin/policy-rc.d 2>/dev/null || :"
        assert self.target.shell(left) == ""


def play(lab: hosts.Lab, limit: str = "all") -> subprocess.CompletedProcess[str]:
    """Run the playbook on all hosts at once; each leaves its result on the controller."""
    report = lab.folder / "report"
    report.mkdir(exist_ok=True)
    special = lab.folder / "special.yml"
    variables = {host.name: values for host, values in zip(lab.hosts, CASES.values())}
    special.write_text(json.dumps({"ovs_hosts": {"hosts": variables}}))
    given = runs.prefixed("4.0.0", {"report_dir": str(report), "serial": "100%", "max_failed": 3})
    argv = runs.playbook_argv([lab.inventory, special], given, "--limit", limit, "--forks", "8")
    return runs.play(argv)


def result(lab: hosts.Lab, host: hosts.Host) -> dict[str, t.Any]:
    path = lab.folder / "report" / f"{host.name}.json"
    assert path.exists(), f"{host.name} left no result"
    return t.cast("dict[str, t.Any]", json.loads(path.read_text()))


@pytest.fixture(scope="module")
def cases() -> t.Iterator[dict[t.Callable[[Target], None], Case]]:
    """One run of the playbook over all of them."""
    name = f"it-{os.getpid()}"
    try:
        lab = laboratory.up(name, "native", len(CASES), "3.5.0")
        targets = {prepare: Target(lab, host) for prepare, host in zip(CASES, lab.hosts)}
        for prepare, target in targets.items():
            prepare(target)
        flows = {prepare: target.flows() for prepare, target in targets.items()}
        done = play(lab)
        # Some are to be refused, and that has to be seen.
        assert done.returncode != 0, done.stdout
        yield {
            prepare: Case(target, flows[prepare], done.stdout, result(lab, target.host))
            for prepare, target in targets.items()
        }
    finally:
        hosts.down(name)


Cases = dict[t.Callable[[Target], None], Case]


def test_traffic_is_measured_and_every_object_kept(cases: Cases) -> None:
    case = cases[prepare_traffic]
    case.assert_upgraded()
    assert case.result["strategy"] == "make_before_break"
    traffic = case.result["traffic"]
    assert traffic["ended"] == "stopped"
    for stream in (traffic["established"], traffic["new_flows"]):
        assert stream["sent"] == stream["received"] + stream["lost"] > 0
        assert stream["duplicated"] == 0


def test_bridge_names_that_a_shell_would_run(cases: Cases) -> None:
    case = cases[prepare_names]
    case.assert_upgraded()
    assert case.result["strategy"] == "restart"
    assert set(case.flows) == set(NAMES)


def test_a_bridge_of_openflow_10_and_13(cases: Cases) -> None:
    cases[prepare_old_protocols].assert_upgraded()


def test_no_flows_at_all(cases: Cases) -> None:
    case = cases[prepare_no_flows]
    case.assert_upgraded()
    assert case.result["after"]["flows"] == 0


def test_no_bridge_at_all(cases: Cases) -> None:
    case = cases[prepare_nothing]
    case.assert_upgraded()
    assert case.result["after"]["bridges"] == 0


def test_open_vswitch_is_stopped(cases: Cases) -> None:
    cases[prepare_stopped].assert_refused("Open vSwitch is installed, but not running")


def test_open_vswitch_is_not_installed(cases: Cases) -> None:
    cases[prepare_not_installed].assert_refused("Open vSwitch is not installed")


def test_not_root(cases: Cases) -> None:
    cases[prepare_not_root].assert_refused("this module must run as root")


def test_a_second_run_changes_nothing(cases: Cases) -> None:
    target = cases[prepare_traffic].target
    again = play(target.lab, limit=target.host.name)
    assert again.returncode == 0, again.stdout
    assert "changed=0" in again.stdout
    assert result(target.lab, target.host)["outcome"] == "unchanged"


def test_a_plan_is_made_of_every_host_also_behind_a_canary_that_is_refused(
    cases: Cases, tmp_path: Path
) -> None:
    good, bad = cases[prepare_traffic].target, cases[prepare_stopped].target
    pattern = f"{bad.host.name},{good.host.name}"
    done = runs.playbook(
        good.lab, "3.5.0", check=True, report_dir=str(tmp_path), serial="1,100%", hosts=pattern
    )
    assert done.returncode != 0
    outcomes = [
        json.loads((tmp_path / f"{each.host.name}.json").read_text())["outcome"] for each in (bad, good)
    ]
    assert outcomes == ["failed", "planned"], done.stdout
