# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role on native lab hosts in parts: each phase alone, by tags, from a task on, and twice in one play."""

from __future__ import annotations

import dataclasses
import json
import typing as t

import pytest

from tests.harness import runs
from tests.integration.target import PROBE, Target, native_targets

NAMES = ("alone", "chain", "tags", "twice", "refused", "lost")
PHASES = ("unfinished", "preflight", "snapshot", "packages", "handover", "verify", "result")
PLAYBOOK = "ovsops.hot_upgrade.hot_upgrade"
# Nobody listens there.
NOWHERE = {"ansible_port": 9}


@dataclasses.dataclass(frozen=True)
class Done:
    """How a run ended, what it said (in one line), and the host's result on the controller."""

    code: int
    text: str
    result: dict[str, t.Any]


@pytest.fixture(scope="module")
def targets() -> t.Iterator[dict[str, Target]]:
    """A host for each test."""
    with native_targets("phases", NAMES) as made:
        yield made


def run(target: Target, playbook: str, *options: str, **variables: t.Any) -> Done:
    """Run a playbook, or one with these tasks, on one host."""
    folder = target.lab.folder / target.host.name
    folder.mkdir(exist_ok=True)
    report = folder / f"{target.host.name}.json"
    report.unlink(missing_ok=True)
    if not playbook.startswith("ovsops."):
        tasks = json.loads(playbook)
        (folder / "play.yml").write_text(
            json.dumps([{"hosts": "ovs_hosts", "gather_facts": False, "tasks": tasks}])
        )
        playbook = str(folder / "play.yml")
    given = {**runs.prefixed("4.0.0", {"report_dir": str(folder)}), **variables}
    limit = ("--limit", target.host.name)
    argv = runs.playbook_argv([target.lab.inventory], given, *limit, *options, playbook=playbook)
    done = runs.play(argv)
    result = json.loads(report.read_text()) if report.exists() else {}
    return Done(done.returncode, " ".join(done.stdout.split()), result)


def role(phase: str = "main", **variables: t.Any) -> dict[str, t.Any]:
    """A task that calls a phase of the role."""
    call = {"name": "ovsops.hot_upgrade.hot_upgrade", "tasks_from": phase}
    return {"name": phase, "ansible.builtin.include_role": call, "vars": variables}


def on_disk(target: Target) -> str:
    """The version of the package that is installed."""
    return target.run("dpkg-query", "--show", "--showformat=${Version}", "openvswitch-switch").partition("-")[
        0
    ]


def test_each_phase_works_alone(targets: dict[str, Target]) -> None:
    """By itself in a playbook of one's own, with nothing known from the phases before."""
    target = targets["alone"]
    flows = target.flows()
    seen = {}
    for phase in PHASES:
        done = run(target, json.dumps([role(phase)]))
        assert done.code == 0, done.text
        seen[phase] = (
            target.version(),
            on_disk(target),
            target.shell("ls /var/lib/ovsops/snapshots || :") != "",
        )
    assert seen["preflight"] == ("3.5.0", "3.5.0", False)
    assert seen["snapshot"] == ("3.5.0", "3.5.0", True)
    assert seen["packages"] == ("3.5.0", "4.0.0", True)
    assert seen["handover"] == seen["verify"] == ("4.0.0", "4.0.0", True)
    assert target.states() == ["confirmed"]
    assert target.flows() == flows


def test_the_phases_one_after_the_other_make_an_upgrade(targets: dict[str, Target]) -> None:
    target = targets["chain"]
    done = run(target, json.dumps([role(phase) for phase in PHASES]))
    assert done.code == 0, done.text
    assert (done.result["outcome"], done.result["from"], done.result["to"]) == ("upgraded", "3.5.0", "4.0.0")
    assert done.result["verified"] is True
    assert done.result["before"] == done.result["after"]


def test_tags_do_a_part_and_a_later_run_goes_on(targets: dict[str, Target]) -> None:
    target = targets["tags"]
    planned = run(target, PLAYBOOK, "--check")
    assert planned.code == 0, planned.text
    assert "ovs-vswitchd is upgraded from 3.5.0 to 4.0.0, by make_before_break" in planned.text
    assert (planned.result["outcome"], planned.result["from"], planned.result["to"]) == (
        "planned",
        "3.5.0",
        "4.0.0",
    )
    assert planned.result["after"] is planned.result["transaction"] is planned.result["window_ms"] is None
    looked = run(target, PLAYBOOK, "--tags", "preflight")
    assert looked.code == 0, looked.text
    assert (looked.result["outcome"], looked.result["to"], looked.result["after"]) == (
        "planned",
        "4.0.0",
        None,
    )
    assert looked.result["before"]["flows"] > 0
    assert "ovs-vswitchd is upgraded from 3.5.0 to 4.0.0, by make_before_break" in looked.text
    installed = run(target, PLAYBOOK, "--tags", "snapshot,packages")
    assert installed.code == 0, installed.text
    assert (target.version(), on_disk(target), target.states()) == ("3.5.0", "4.0.0", [])
    assert installed.result["snapshot"]
    rest = run(target, PLAYBOOK, "--start-at-task", "Hand-over")
    assert rest.code == 0, rest.text
    assert (rest.result["outcome"], rest.result["to"]) == ("upgraded", "4.0.0")
    assert "ovs-vswitchd is upgraded from 3.5.0 to 4.0.0, by make_before_break" in rest.text
    assert "nobody forwarded for" in rest.text


def test_the_second_use_in_one_play_knows_nothing_of_the_first(targets: dict[str, Target]) -> None:
    target = targets["twice"]
    first = role(hot_upgrade_probe=PROBE)
    second = role(hot_upgrade_manage_packages=False)
    keep = {"ansible.builtin.set_fact": {"first": "{{ hot_upgrade_result }}"}}
    show = {"ansible.builtin.debug": {"msg": "first: {{ first.outcome }} {{ first.traffic.ended }}"}}
    done = run(target, json.dumps([first, keep, second, show]))
    assert done.code == 0, done.text
    assert "first: upgraded stopped" in done.text
    result = done.result
    assert (result["outcome"], result["from"], result["to"]) == ("unchanged", "4.0.0", "4.0.0")
    for what in (
        "transaction",
        "strategy",
        "traffic",
        "snapshot",
        "window_ms",
        "changes",
        "deadline",
        "proof",
    ):
        assert result[what] is None, what
    assert result["not_carried"] == result["warnings"] == []


def test_a_strategy_that_is_not_allowed_is_refused_before_the_packages_are_new(
    targets: dict[str, Target],
) -> None:
    target = targets["refused"]
    target.run("ovs-vsctl", "set", "bridge", "br0", "stp_enable=true")
    done = run(target, PLAYBOOK, hot_upgrade_strategy="make_before_break")
    assert done.code != 0
    assert on_disk(target) == "3.5.0"
    assert "cannot be handed over by make_before_break" in done.text
    assert "It allows standby, restart" in done.text
    assert done.result["outcome"] == "failed"
    assert done.result["to"] is done.result["after"] is done.result["transaction"] is None


def test_what_only_the_new_version_cannot_do_is_refused_before_it_is_installed(
    targets: dict[str, Target],
) -> None:
    """4.0 does not open devices with names of more than 15 bytes."""
    target = targets["refused"]
    target.run("ovs-vsctl", "add-port", "br0", "a-name-of-19-bytes-", "--", "set", "interface", "a-name-of-19-bytes-",
               "type=internal")  # fmt: skip
    target.run("ip", "link", "set", "a-name-of-19-by", "up")
    done = run(target, PLAYBOOK)
    assert done.code != 0
    assert on_disk(target) == "3.5.0"
    assert "has a name of more than 15 bytes, which 4.0.0 does not open" in done.text


def test_a_host_that_is_unreachable_from_the_beginning_has_a_report(targets: dict[str, Target]) -> None:
    done = run(targets["lost"], PLAYBOOK, **NOWHERE)
    assert done.code != 0
    assert done.result["outcome"] == "failed"
    assert "does not answer" in done.result["failure"]
    assert done.result["from"] is done.result["before"] is done.result["to"] is None


def test_a_host_that_becomes_unreachable_has_a_report(targets: dict[str, Target]) -> None:
    """Ansible drops it where it is: what is known was written before."""
    target = targets["lost"]
    target.shell("echo 'DPkg::Pre-Invoke { \"pkill sshd || :\"; };' >/etc/apt/apt.conf.d/99lost")
    done = run(target, PLAYBOOK)
    assert done.code != 0
    assert done.result["outcome"] == "unknown"
    assert "has not come to its end" in done.result["failure"]
    assert done.result["to"] is done.result["after"] is done.result["transaction"] is None
