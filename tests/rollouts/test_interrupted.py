# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook is ended in the middle, run twice at once, or left unconfirmed; then it is run again."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Waiter
from tests.harness import plays, runs
from tests.integration.target import PROBE, Target, native_targets
from tests.lab import hosts, images

OWN_POLICY = "#!/bin/sh\n# of this site\nexit 0\n"
POLICY = "/usr/sbin/policy-rc.d"
# While /root/hold is there, apt waits just before dpkg begins.
HOOK = 'DPkg::Pre-Invoke { "while [ -e /root/hold ]; do sleep 0.1; done"; };\n'
# The pauses of the hook are among them, and end by themselves.
KILL_INSTALLATION = """
found=$(grep -lzx OVSOPS_INSTALLS=1 /proc/[0-9]*/environ | cut -d/ -f3)
[ -n "$found" ]
for pid in $found; do kill -9 "$pid" 2>/dev/null || [ ! -e "/proc/$pid" ]; done
"""
NAMES = ("verify", "handover", "packages", "apt", "dpkg", "twice", "canary", "rest")


class Play(plays.Play):
    """A playbook of the collection on some hosts of a lab."""

    def __init__(self, lab: hosts.Lab, limit: str, playbook: str = "hot_upgrade", **variables: t.Any) -> None:
        # No test is to be a race with the clock that takes an unconfirmed host back.
        given = runs.prefixed("4.0.0", {"report_dir": str(lab.folder), "confirm_timeout": 1200})
        super().__init__(
            runs.playbook_argv(
                [lab.inventory],
                {**given, **variables},
                *("--limit", limit),
                playbook=f"ovsops.hot_upgrade.{playbook}",
            )
        )


@pytest.fixture(scope="module")
def targets() -> t.Iterator[dict[str, Target]]:
    """A host for each test."""
    with native_targets("interrupted", NAMES) as made:
        yield made


@pytest.fixture(autouse=True)
def ended() -> t.Iterator[list[Play]]:
    """Whatever a test started ends with it."""
    started: list[Play] = []
    yield started
    for play in started:
        if play.process.poll() is None:
            play.kill()


@pytest.fixture
def start(ended: list[Play]) -> t.Callable[..., Play]:
    """Start a playbook on one host."""

    def play(target: Target, **variables: t.Any) -> Play:
        ended.append(Play(target.lab, variables.pop("limit", target.host.name), **variables))
        return ended[-1]

    return play


Start = t.Callable[..., Play]


def result(target: Target) -> dict[str, t.Any]:
    text = (target.lab.folder / f"{target.host.name}.json").read_text()
    return t.cast("dict[str, t.Any]", json.loads(text))


def wait_for(target: Target, what: str, script: str) -> None:
    """Until ``script`` prints something on the host."""
    Waiter(120.0, 0.2).wait(what, lambda: target.shell(f"{script} || :"), bool)


def assert_upgraded(target: Target, flows: dict[str, list[str]]) -> None:
    assert target.version() == "4.0.0"
    assert target.flows() == flows
    assert target.states()[-1] == "confirmed"
    assert target.run("ovs-vsctl", "get", "open_vswitch", ".", "other_config").strip() == "{}"
    assert target.processes() == []
    assert target.run("ls", "/run/ovsops") == ""


def test_interrupted_before_it_could_confirm(targets: dict[str, Target], start: Start) -> None:
    target = targets["verify"]
    flows = target.flows()
    first = start(target, hot_upgrade_confirm="manual")
    first.until("Look at Open vSwitch after the hand-over")
    first.interrupt()
    assert target.states() == ["applied"]
    again = start(target)
    assert again.wait() == 0, again.text
    done = result(target)
    assert (done["outcome"], done["from"], done["to"], done["verified"]) == (
        "resumed",
        "3.5.0",
        "4.0.0",
        True,
    )
    assert f"an earlier run has left the hand-over {done['transaction']} unfinished" in again.text
    assert_upgraded(target, flows)


def test_killed_while_the_host_works(targets: dict[str, Target], start: Start) -> None:
    target = targets["handover"]
    flows = target.flows()
    first = start(target, hot_upgrade_probe=PROBE)
    first.until("Hand over to the new version")
    wait_for(target, "the hand-over has begun", "ls -d /var/lib/ovsops/transactions/*")
    first.kill()
    again = start(target, hot_upgrade_probe=PROBE)
    assert again.wait() == 0, again.text
    done = result(target)
    assert (done["outcome"], done["verified"]) == ("resumed", True)
    assert done["traffic"]["established"]["received"] > 0
    assert_upgraded(target, flows)


def test_interrupted_while_packages_are_installed(targets: dict[str, Target], start: Start) -> None:
    """The host installs to the end by itself, and what was policy-rc.d is that again."""
    target = targets["packages"]
    flows = target.flows()
    target.shell(f"printf '%s' '{OWN_POLICY}' >{POLICY}; chmod 755 {POLICY}; touch /root/hold")
    target.shell(f"printf '%s' '{HOOK}' >/etc/apt/apt.conf.d/99hold")
    first = start(target)
    wait_for(target, "apt has forbidden restarts", f"grep 'exit 101' {POLICY}")
    first.interrupt()
    target.run("rm", "/root/hold")
    wait_for(target, "policy-rc.d is the site's again", f"grep 'of this site' {POLICY}")
    again = start(target)
    assert again.wait() == 0, again.text
    assert result(target)["outcome"] == "upgraded"
    assert target.run("cat", POLICY) == OWN_POLICY
    assert_upgraded(target, flows)


def test_apt_is_killed_on_the_host(targets: dict[str, Target], start: Start) -> None:
    target = targets["apt"]
    target.shell("touch /root/hold")
    target.shell(f"printf '%s' '{HOOK}' >/etc/apt/apt.conf.d/99hold")
    first = start(target)
    wait_for(target, "apt has forbidden restarts", f"grep 'exit 101' {POLICY}")
    first.kill()
    target.shell(KILL_INSTALLATION)
    target.run("rm", "/root/hold")
    wait_for(target, "there is no policy-rc.d any more", f"[ -e {POLICY} ] || echo gone")
    Waiter(30.0, 0.2).wait("nothing of ours runs", target.processes, lambda left: left == [])
    assert target.shell("ls -d /var/lib/ovsops/policy-rc.d 2>/dev/null || :") == ""


def test_an_interrupted_dpkg_is_finished_and_restarts_nothing(
    targets: dict[str, Target], start: Start
) -> None:
    """By hand that is 'dpkg --configure --pending', whose scripts restart the daemons."""
    target = targets["dpkg"]
    flows = target.flows()
    names = " ".join(f"{name}={images.package_version('4.0.0')}" for name in images.OVS_PACKAGES)
    target.shell(
        f"cd /root && apt-get -qq download {names} && dpkg --unpack --force-confold *.deb >/dev/null 2>&1"
    )
    assert "unpacked" in target.run(
        "dpkg-query", "--show", "--showformat=${db:Status-Status}", "openvswitch-switch"
    )
    again = start(target)
    assert again.wait() == 0, again.text
    assert_upgraded(target, flows)
    assert target.run("dpkg", "--audit") == ""
    assert target.shell(f"[ -e {POLICY} ] || echo gone").strip() == "gone"


def test_two_runs_at_once(targets: dict[str, Target], start: Start) -> None:
    target = targets["twice"]
    flows = target.flows()
    runs = [start(target), start(target)]
    codes = [run.wait() for run in runs]
    assert 0 in codes, runs[0].text + runs[1].text
    assert target.states().count("confirmed") == 1
    assert_upgraded(target, flows)


def test_each_batch_waits_for_the_confirmation_of_the_one_before(
    targets: dict[str, Target], start: Start
) -> None:
    canary, rest = targets["canary"], targets["rest"]
    flows = canary.flows()
    limit = f"{canary.host.name},{rest.host.name}"
    rollout = start(canary, limit=limit, hot_upgrade_confirm="manual", hot_upgrade_serial="1,1")
    rollout.until("Wait until a person confirms this host")
    waits = result(canary)
    assert (waits["outcome"], canary.states()) == ("unconfirmed", ["applied"])
    assert waits["transaction"] in rollout.text
    assert waits["deadline"] in rollout.text
    assert waits["confirm_with"] in rollout.text
    assert rest.version() == "3.5.0"
    *__, name, option, host = waits["confirm_with"].split()
    assert (option, host) == ("--limit", canary.host.name)
    assert start(canary, playbook=name.rpartition(".")[2]).wait() == 0
    assert rollout.wait() == 0, rollout.text
    assert (result(canary)["outcome"], result(rest)["outcome"]) == ("upgraded", "unconfirmed")
    assert_upgraded(canary, flows)
    assert rest.states() == ["applied"]
    assert start(rest, playbook="rollback").wait() == 0
    assert (rest.states(), rest.version()) == (["rolled_back"], "3.5.0")
    late = start(rest, playbook="confirm")
    assert late.wait() != 0
    assert "cannot be confirmed" in late.text
