# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks on a host whose Open vSwitch comes from RPMs: the real dnf, with a repository of Open vSwitch 3.5.0 and 4.0.0."""

from __future__ import annotations

import json
import subprocess
import typing as t

import pytest

from tests.harness import runs
from tests.integration.target import Target
from tests.lab import hosts, rpms
from tests.lab import lab as laboratory

NEW = "4.0.0*"


@pytest.fixture(scope="module")
def target() -> t.Iterator[Target]:
    """One host for all tests of this file, in their order."""
    name = "dnf"
    with hosts.exclusive(name):
        try:
            lab = laboratory.up(name, "native", 1, "3.5.0")
            rpms.install(lab, "3.5.0")
            laboratory.populate(lab, ["--flows", "50", "--datapath-type", "netdev"])
            yield Target(lab, lab.hosts[0])
        finally:
            hosts.down(name)


def run(target: Target, name: str, check: bool, **variables: t.Any) -> subprocess.CompletedProcess[str]:
    """A playbook on the host; the version is one of an RPM."""
    options = ["--check"] if check else []
    given = runs.prefixed(None, variables)
    return runs.play(
        runs.playbook_argv([target.lab.inventory], given, *options, playbook=f"ovsops.hot_upgrade.{name}")
    )


def play(target: Target, name: str = "hot_upgrade", check: bool = False, **variables: t.Any) -> str:
    """What a playbook says that goes well."""
    done = run(target, name, check, **variables)
    assert done.returncode == 0, done.stdout
    return done.stdout


def refused(target: Target, **variables: t.Any) -> str:
    """What a playbook says that does not, in one line."""
    done = run(target, "hot_upgrade", False, **variables)
    assert done.returncode != 0, done.stdout
    return " ".join(done.stdout.split())


def installed(target: Target) -> str:
    return target.run("rpm", "--query", "openvswitch").strip()


def result(target: Target) -> dict[str, t.Any]:
    text = (target.lab.folder / f"{target.host.name}.json").read_text()
    return t.cast("dict[str, t.Any]", json.loads(text))


def test_what_others_lock_is_refused(target: Target) -> None:
    target.run("dnf", "--quiet", "versionlock", "add", "openvswitch")
    said = refused(target, version=NEW)
    assert "openvswitch: held by dnf's versionlock, and not by this collection" in said
    target.run("dnf", "--quiet", "versionlock", "clear")
    assert installed(target) == "openvswitch-3.5.0-1.x86_64"


def test_check_mode_plans_for_the_coming_version_and_installs_nothing(target: Target) -> None:
    play(target, check=True, version=NEW, report_dir=str(target.lab.folder))
    planned = result(target)
    assert (planned["outcome"], planned["from"], planned["to"]) == ("planned", "3.5.0", "4.0.0")
    assert installed(target) == "openvswitch-3.5.0-1.x86_64"
    assert target.version() == "3.5.0"


def test_a_rehearsal_tries_what_dnf_downloads(target: Target) -> None:
    assert "4.0.0 takes all" in " ".join(play(target, "rehearse", version=NEW).split())
    assert target.shell("ls /var/lib/ovsops/rehearsals/packages 2>/dev/null || :") == ""


def test_upgraded_and_taken_back_with_its_flows(target: Target) -> None:
    flows = target.flows()
    play(target, version=NEW, report_dir=str(target.lab.folder), rollout="change-1")
    done = result(target)
    assert (done["outcome"], done["to"], done["verified"]) == ("upgraded", "4.0.0", True)
    assert (installed(target), target.version()) == ("openvswitch-4.0.0-1.x86_64", "4.0.0")
    assert target.flows() == flows
    assert "changed=0" in play(target, version=NEW)
    play(target, "rollback", rollout="change-1")
    assert (installed(target), target.version()) == ("openvswitch-3.5.0-1.x86_64", "3.5.0")
    assert target.flows() == flows


def test_protected_it_is_upgraded_by_us_alone(target: Target) -> None:
    locks = "grep --count '^openvswitch' /etc/dnf/plugins/versionlock.list || :"
    assert target.shell(locks).strip() == "0"
    play(target, "protect")
    assert (
        target.shell("grep '^openvswitch' /etc/dnf/plugins/versionlock.list").strip()
        == "openvswitch-0:3.5.0-1.*"
    )
    assert "changed=0" in play(target, "protect")
    target.shell("dnf --quiet --assumeyes upgrade openvswitch")
    assert installed(target) == "openvswitch-3.5.0-1.x86_64"
    play(target, version=NEW)
    assert target.version() == "4.0.0"
    assert (
        target.shell("grep '^openvswitch' /etc/dnf/plugins/versionlock.list").strip()
        == "openvswitch-0:4.0.0-1.*"
    )
    play(target, "protect", protect=False)
    assert target.shell(locks).strip() == "0"
    assert "changed=0" in play(target, "protect", protect=False)
