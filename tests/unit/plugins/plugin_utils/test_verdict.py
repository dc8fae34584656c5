# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happened, is anything lost, what must I do now."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils import verdict
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.rollout import INTERRUPTED, Trouble
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.verdict import Verdict
from tests.unit.plugins.plugin_utils import rollouts
from tests.unit.plugins.plugin_utils.rollouts import Told, result, traffic


def of(*results: rollouts.Json, untouched: int = 0, end: str | None = "ended", **given: bool) -> Verdict:
    """A rollout over these hosts in one batch."""
    told = Told(**given)
    hosts = [found["host"] for found in results]
    more = [f"later{number}" for number in range(untouched)]
    told.batch([*hosts, *more], hosts, [len(hosts), *([untouched] if untouched else [])])
    told.steps(hosts)
    for found in results:
        told.fact(found["host"], found)
    if end:
        told.collector.end(end)
    return told.seen()[2]


@pytest.mark.parametrize(
    ("results", "tone", "headline"),
    [
        ([result("a"), result("b")], "good", "All 2 hosts are upgraded, no packet was lost"),
        ([result("a")], "good", "The host is upgraded, no packet was lost"),
        ([result("a", traffic=None)], "good", "The host is upgraded"),
        ([result("a"), result("b", traffic=traffic(90.0, 2))], "warning", "All 2 hosts are upgraded, 2 packets lost"),
        ([result("a", "unchanged"), result("b", "unchanged")], "good", "Nothing to do: all 2 hosts are up to date"),
        ([result("a"), result("b", "failed")], "bad", "Not all is well: 1 of 2 hosts failed"),
        ([result("a"), result("b", "unconfirmed")], "warning", "Waiting for you: 1 host not confirmed yet"),
        ([result("a"), result("b", "unknown")], "bad", "Not all is well: 1 of 2 hosts failed"),
        ([result("a", "planned")], "plain", "Plan: 1 of 1 host would be upgraded. Nothing was changed"),
    ],
)  # fmt: skip
def test_the_headline(results: list[rollouts.Json], tone: str, headline: str) -> None:
    found = of(*results)
    assert (found.tone, found.headline) == (tone, headline)


def test_a_rollout_that_goes_on_or_was_ended() -> None:
    running = of(result("a"), result("b", "failed"), result("c", "unknown"), untouched=2, end=None)
    assert (running.tone, running.headline) == ("bad", "Running: 2 of 5 hosts are done, 1 of them failed")
    ended = of(result("a"), result("b", "unknown"), untouched=2, end=INTERRUPTED)
    assert ended.headline == "The run was ended before its end: 1 host in the middle of it"
    assert "The rollout ended in batch 1 of 2." in ended.happened


def test_a_good_rollout_needs_nobody() -> None:
    found = rollouts.good().seen()[2]
    assert found.actions == ()
    assert found.lost == (
        "No packet was lost: 25,200 of established flows and 5,040 of new flows were counted.",
        "Nobody forwarded for at most 3.2 ms (hv3).",
        "The longest silence at the receiver was 31.0 ms (hv3).",
        "Flows, groups, meters: every difference is accounted for on 3 hosts.",
    )
    assert verdict.in_words(found)[-2] == "Nothing is to be done."
    back = "ansible-playbook -i inventory/prod.yml ovsops.hot_upgrade.rollback -e hot_upgrade_rollout=20261128T030405Z"
    assert found.way_back == ("To take back all that this rollout has changed", back)
    assert of(result("a", "planned")).way_back is None
    assert of(result("a", rollout=None)).way_back is None


def test_a_bad_one_says_what_to_do_the_urgent_first() -> None:
    found = rollouts.bad().seen()[2]
    u03, u04, u05 = (f"hv-ams1-r07-u0{number}.example.net" for number in (3, 4, 5))
    assert [action.hosts[0] for action in found.actions] == [u03, u04, u05, u04]
    first = found.actions[0]
    assert first.what == "Decide before 2026-11-28 03:45:00 UTC, or it goes back by itself:"
    assert first.commands == (
        (
            "keep the new version",
            f"ansible-playbook -i inventory/prod.yml ovsops.hot_upgrade.confirm --limit {u03}",
        ),
        (
            "go back at once",
            f"ansible-playbook -i inventory/prod.yml ovsops.hot_upgrade.rollback --limit {u03}",
        ),
    )
    assert found.actions[-1].hosts[-1].endswith("u06.example.net")
    assert any("Packets were lost on hv-ams1-r07-u02" in line for line in found.lost)
    assert not any("No packet was lost" in line for line in found.lost)
    assert any("u04.example.net rolled back: ovs-vswitchd 3.5.0 forwards" in line for line in found.lost)


def test_the_same_cause_is_named_once() -> None:
    found = of(
        *(result(name, "failed", failure=f"{name}: br-int of {name} is full") for name in ("aa", "bb"))
    )
    assert found.actions[0].what == "Fix the cause: br-int of HOST is full"
    assert found.actions[0].hosts == ("aa", "bb")
    one = of(result("aa", "failed", failure="aa: br-int of aa is full"))
    assert one.actions[0].what == "Fix the cause: br-int of aa is full"


def test_what_could_not_be_undone_comes_before_all_else() -> None:
    told = Told()
    told.batch(["a", "b"], ["a", "b"], [2])
    told.steps(["a", "b"])
    told.fact("a", result("a", "unconfirmed"))
    told.handed_over("b", state="failed", not_undone=["the port p1"])
    told.fact("b", result("b", "failed", failure="no"))
    told.collector.end()
    first = told.seen()[2].actions[0]
    assert (first.hosts, first.what) == (("b",), "Fix by hand what could not be undone: the port p1. Then:")
    assert first.commands[0].line.endswith("rollback --limit b")


def test_a_host_that_is_lost_and_one_that_failed_later() -> None:
    told = Told()
    told.batch(["a", "b"], ["a", "b"], [2])
    told.steps(["a", "b"])
    told.fact("a", result("a"))
    told.collector.failed("a", "/home/op/site.yml:9", "ansible.builtin.fail", "Check it", {"msg": "no route"})
    told.collector.unreachable("b", "Hand over", {"msg": "timed out"})
    told.collector.end()
    found = told.seen()[2]
    assert found.actions[0].what.startswith("Reach these hosts")
    assert ("a",) in [action.hosts for action in found.actions]


def test_names_in_commands_are_quoted_and_many_need_no_limit() -> None:
    found = of(result("a b;reboot", "unconfirmed"))
    assert found.actions[0].commands[0].line.endswith("--limit 'a b;reboot'")
    many = of(*(result(f"h{number}", "unconfirmed") for number in range(40)))
    assert many.actions[0].commands[0].line.endswith("ovsops.hot_upgrade.confirm")
    assert "they go back by themselves" in many.actions[0].what


def test_a_refused_rollout() -> None:
    told = Told()
    told.rollout.refusal = "hot_upgrade_serial is abc"
    found = told.seen()[2]
    assert (found.tone, found.headline) == ("bad", "Refused: nothing was done on any host")
    assert found.happened == ("hot_upgrade_serial is abc",)
    assert len(found.actions) == 1


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        ("2026-11-28T03:45:00Z", "2026-11-28 03:45:00 UTC"),
        ("2026-11-28T03:45:00.5+00:00", "2026-11-28 03:45:00 UTC"),
        ("soon", "soon"),
    ],
)
def test_moments(moment: str, shown: str) -> None:
    assert verdict.in_utc(moment) == shown


def test_what_is_not_measured_is_not_said_to_be_lost() -> None:
    found = of(result("a", traffic=None, window_ms=None, verified=False))
    assert found.lost == (
        "Traffic was not measured on 1 host.",
        "Flows, groups, meters were not verified on a.",
    )
    assert of(result("a", "failed", transaction=None)).lost == ("Nothing: no host was handed over.",)


def test_counters_of_the_host_are_told_as_what_they_are() -> None:
    hosts = [
        result(name, traffic=None, counted={"lost_upcalls": 3, "dropped": 1, "why": ""})
        for name in ("a", "b")
    ]
    assert of(*hosts, result("c", traffic=None)).lost[:2] == (
        "Without a probe, 2 hosts counted of all traffic, as a lower bound: "
        "6 packets lost on their way to ovs-vswitchd, 2 dropped by ports.",
        "Traffic was not measured on 1 host.",
    )


def test_a_verdict_is_plain_data() -> None:
    assert dataclasses.asdict(rollouts.bad().seen()[2])["actions"]
    assert Trouble("", "t", "m").unreachable is False
