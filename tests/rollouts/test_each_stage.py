# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Six hosts in batches of one, two and three; host3 fails, at one stage after the other.

The rollout stops there, whoever has not begun is not touched, the report tells of it, and the next run completes it.
Each rollout goes to the other of two versions.
"""

from __future__ import annotations

import json
import typing as t
from pathlib import Path
from types import MappingProxyType

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Waiter
from tests.harness import runs
from tests.integration.target import Target, native_targets
from tests.lab.images import LabError

NAMES = tuple(f"host{number}" for number in range(1, 7))
VICTIM, MATE, LATER = "host3", "host2", NAMES[3:]
VERSIONS = ("3.5.0", "4.0.0")
Targets = dict[str, Target]
APT = "/etc/apt/apt.conf.d/99-stage"
SWITCH = "/usr/lib/openvswitch-switch/ovs-vswitchd"
# In the place of a new ovs-vswitchd: it tells its version, and ends at its start.
SPOIL = f"""
mv {SWITCH} {SWITCH}.real
cat > {SWITCH} <<'END'
#!/bin/bash
[ "$1" = --version ] && exec {SWITCH}.real --version
exit 134
END
chmod 755 {SWITCH}
"""
# From the moment at which its packages are there nobody can log in to the host for a while.
CUT_OFF = """
was=$(dpkg-query --show openvswitch-switch)
setsid sh -c 'while [ "$(dpkg-query --show openvswitch-switch)" = "$0" ]; do sleep 0.1; done
pkill -KILL sshd; sleep 60; /usr/sbin/sshd' "$was" </dev/null >/dev/null 2>&1 &
"""
CHECKS = f"""
- name: See that the site is content
  ansible.builtin.assert:
    that: hot_upgrade_moment == 'before' or inventory_hostname != '{VICTIM}'
    fail_msg: the site is not content
"""


class Stage(t.NamedTuple):
    """How host3 is made to fail, and made good again: scripts, variables of its ``own``, and ``checks`` of the site.

    ``says`` is in its failure, ``outcome`` is what becomes of it, ``mate`` what becomes of the host beside it; ``installed``
    tells that host3 has the new packages already.
    """

    says: str
    breaks: str = ":"
    mends: str = ":"
    own: t.Mapping[str, t.Any] = MappingProxyType({})
    checks: bool = False
    outcome: str = "failed"
    mate: str = "failed"
    installed: bool = False


FLAG = "ovs-vsctl {} open_vswitch . other_config{}flow-restore-wait{}"
STAGES = {
    "rehearsal": Stage("no version was rehearsed", own={"hot_upgrade_rehearsal_days": 7}),
    "preflight": Stage(
        "flow-restore-wait is set already",
        FLAG.format("set", ":", "=true"),
        FLAG.format("remove", " ", ""),
    ),
    "package": Stage("apt-get", f"echo 'DPkg::Pre-Invoke {{ \"false\"; }};' > {APT}", f"rm {APT}"),
    "prepare": Stage(
        "ended",
        SPOIL,
        f"mv {SWITCH}.real {SWITCH}",
        own={"hot_upgrade_manage_packages": False},
        mate="upgraded",
        installed=True,
    ),
    "unreachable": Stage("", CUT_OFF, outcome="unknown"),
    "verify": Stage("the site is not content", checks=True, mate="upgraded"),
    "budget": Stage("(0 allowed)", own={"hot_upgrade_max_gap_ms": 0}, mate="upgraded"),
}


@pytest.fixture(scope="module", name="targets")
def _targets() -> t.Iterator[dict[str, Target]]:
    with native_targets("stages", NAMES) as made:
        yield made


class Run(t.NamedTuple):
    """How a rollout ended: its exit status, what it said, and each host's result."""

    code: int
    output: str
    results: dict[str, dict[str, t.Any]]

    @property
    def outcomes(self) -> dict[str, str]:
        return {name: result["outcome"] for name, result in self.results.items()}


def roll_out(
    targets: Targets, to: str, folder: Path, own: t.Mapping[str, t.Any] = MappingProxyType({}), **more: t.Any
) -> Run:
    report = folder / "report"
    report.mkdir(parents=True)
    inventory = folder / "own.json"
    inventory.write_text(json.dumps({"ovs_hosts": {"hosts": {VICTIM: dict(own)}}}))
    given = {**runs.prefixed(to, {"report_dir": str(report), "serial": "1,2,100%"}), **more}
    done = runs.play(runs.playbook_argv([targets[VICTIM].lab.inventory, inventory], given, "--forks", "6"))
    return Run(
        done.returncode,
        done.stdout,
        {path.stem: json.loads(path.read_text()) for path in report.glob("host*.json")},
    )


def versions(targets: Targets) -> dict[str, str]:
    """What runs on each host."""
    return {name: target.version() for name, target in targets.items()}


def reachable(target: Target) -> bool:
    try:
        target.run("true")
    except LabError:
        return False
    return True


def packages(targets: Targets) -> dict[str, str]:
    """The version of Open vSwitch that is installed on each host of the last batch."""
    ask = ("dpkg-query", "--show", "--showformat=${Version}", "openvswitch-switch")
    return {name: targets[name].run(*ask) for name in LATER}


@pytest.mark.parametrize("name", STAGES)
def test_it_stops_where_it_must_and_the_next_run_completes_it(
    targets: Targets, tmp_path: Path, name: str
) -> None:
    stage, victim = STAGES[name], targets[VICTIM]
    before = victim.version()
    to = next(version for version in VERSIONS if version != before)
    flows = victim.flows()
    if stage.installed:
        victim.shell(
            f"{runs.NO_RESTART}\n{' '.join(runs.install(to))} >/dev/null 2>&1; rm /usr/sbin/policy-rc.d"
        )
    victim.shell(stage.breaks)
    installed, checks = packages(targets), tmp_path / "checks.yml"
    checks.write_text(CHECKS)
    first = roll_out(
        targets, to, tmp_path, stage.own, **({"hot_upgrade_checks": str(checks)} if stage.checks else {})
    )
    assert first.code != 0
    assert first.outcomes["host1"] == "upgraded", first.output
    assert (first.outcomes[VICTIM], first.outcomes[MATE]) == (stage.outcome, stage.mate), first.output
    assert stage.says in (first.results[VICTIM]["failure"] or "")
    if stage.mate == "failed":
        assert "it was not begun, because" in first.results[MATE]["failure"]
    assert "The rollout stops here" in first.output
    assert f"Nothing was done on {', '.join(LATER)}" in first.output
    Waiter(120.0, 1.0).wait("host3 can be reached", lambda: reachable(victim), bool)
    assert versions(targets) == {
        each: to if first.outcomes.get(each) == "upgraded" else before for each in NAMES
    }
    assert packages(targets) == installed
    assert victim.flows() == flows
    victim.shell(stage.mends)
    second = roll_out(targets, to, tmp_path / "second")
    assert second.code == 0, second.output
    assert set(versions(targets).values()) == {to}
    assert victim.flows() == flows
    assert {second.outcomes[each] for each in NAMES if first.outcomes.get(each) == "upgraded"} == {
        "unchanged"
    }
