# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rollouts as Ansible would tell them, for tests: played through the collector, with a clock that is set by hand."""

from __future__ import annotations

import random
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils import progress, rollout
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.host_facts import Facts, facts
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.rollout import Rollout
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.verdict import Verdict, verdict

Json = dict[str, t.Any]
# 2026-11-28 03:04:05 UTC.
BEGAN = 1795835045.0
ROLE = "/usr/share/ansible/collections/ansible_collections/ovsops/hot_upgrade/roles/hot_upgrade/tasks"
PLAYBOOK = (
    "/usr/share/ansible/collections/ansible_collections/ovsops/hot_upgrade/playbooks/hot_upgrade.yml:20"
)
SET_FACT, HANDOVER = "ansible.builtin.set_fact", "ovsops.hot_upgrade.ovs_handover"
# Seconds that a host spends in each.
STEPS = {
    "begin": 2.0,
    "unfinished": 1.5,
    "preflight": 6.0,
    "snapshot": 1.5,
    "packages": 18.0,
    "handover": 7.0,
    "verify": 3.0,
    "result": 2.0,
}
TOTALS = {"bridges": 2, "flows": 2504, "groups": 12, "meters": 4}
REASONS = {
    "standby": ["a newer version than 3.0 is on the disk: it is better replaced by make_before_break"],
    "restart": ["make_before_break is possible, and loses nothing"],
}
PLAN = {
    "strategy": "make_before_break", "needed": True, "reasons": REASONS, "warnings": [],
    "before": {"ovs-vswitchd": "3.5.0"}, "after": {"ovs-vswitchd": "4.0.0"},
}  # fmt: skip
CHANGES = {
    "bridges": {
        "br-int": {
            "expired": 3, "learned": 12, "settings": ["group 5"], "unexplained": "",
            "others": {"0xc0ffee": {"added": 40, "modified": 7, "removed": 39}},
        }
    },
    "unfollowed": {},
}  # fmt: skip
REFUSED = (
    "Packages: apt-get failed: E: Unable to locate package openvswitch-switch=4.0.0-1. Nothing was installed. Name a "
    "version that the package sources have (apt-cache policy openvswitch-switch), and start again."
)
UNDONE = (
    "Hand-over: the new ovs-vswitchd refuses 2 of the OpenFlow objects of br-int: flow table=7,priority=10 "
    "(OFPBAC_BAD_TYPE), group 12 (OFPGMFC_OUT_OF_GROUPS). The hand-over 20261128T030512Z-3fa2c1 is undone, and 3.5.0 "
    "forwards as before. Remove them, or have the controller send what 4.0.0 takes, and start again."
)


def packets(rate: int, gap_ms: float, lost: int, seed: int = 1) -> Json:
    """A stream as ovs_traffic_probe tells it, silent for ``gap_ms`` around second 6."""
    chance, every, begin = random.Random(seed), 1000 / rate, 6220.0
    points: list[list[t.Any]] = []
    for number in range(int(5900 / every), int((6600 + gap_ms) / every)):
        at = round(number * every, 2)
        late = begin <= at < begin + gap_ms
        gone = late and sum(point[2] for point in points) < lost
        latency = (
            None if gone else round(max(begin + gap_ms - at, 0) if late else chance.uniform(0.05, 0.4), 2)
        )
        points.append([at, latency, int(gone)])
    each = -(-len(points) // 160)
    grouped = [points[at : at + each] for at in range(0, len(points), each)]
    return {
        "sent": 42 * rate, "received": 42 * rate - lost, "lost": lost, "duplicated": 0, "longest_gap_ms": gap_ms,
        "longest_send_gap_ms": round(every * 1.9, 2), "max_latency_ms": gap_ms, "worst_runs": [],
        "around_gap": {
            "at_ms": begin, "lasted_ms": gap_ms, "each": each,
            "points": [
                [group[0][0], max((p[1] for p in group if p[1] is not None), default=None), sum(p[2] for p in group)]
                for group in grouped
            ],
        },
    }  # fmt: skip


def traffic(gap_ms: float = 9.9, lost: int = 0, new_gap_ms: float = 31.0, new_lost: int = 0) -> Json:
    return {
        "ended": "stopped",
        "established": packets(200, gap_ms, lost),
        "new_flows": packets(40, new_gap_ms, new_lost, 2),
    }


def result(host: str, outcome: str = "upgraded", **changes: t.Any) -> Json:
    """What the role finds of a host."""
    done = outcome in ("upgraded", "unconfirmed", "resumed")
    return {
        "host": host, "outcome": outcome, "rollout": "20261128T030405Z",
        "failure": "", "from": "3.5.0", "to": "4.0.0" if done else None,
        "strategy": "make_before_break", "transaction": f"20261128T030512Z-{len(host):06x}" if done else None,
        "before": TOTALS, "after": TOTALS if done else None, "deadline": None, "confirm_with": None, "warnings": [],
        "proof": "410 of 416 live megaflows, with 99.2 % of their packets, were traced through both versions; none would be "
        "forwarded differently", "verified": done, "connections": None, "changes": CHANGES if done else None,
        "not_carried": [], "window_ms": 3.2 if done else None, "kernel_module": None, "ovn": None,
        "traffic": traffic() if done else None, "snapshot": "/var/lib/ovsops/snapshots/20261128T030501000000Z",
        **changes,
    }  # fmt: skip


class Told:
    """A rollout that is told by hand."""

    def __init__(self, **given: t.Any) -> None:
        self.now = BEGAN
        self.collector = rollout.Collector(
            lambda: self.now,
            **{"playbook": "hot_upgrade.yml", "inventories": ("inventory/prod.yml",), **given},
        )
        self.lines: list[str] = []

    def fails(self, host: str, step: str, message: str) -> None:
        """In a task of the role, which then says so."""
        self.step(host, step)
        path = f"{ROLE}/{step}.yml:3"
        self.hear(self.collector.failed(host, path, "ansible.builtin.fail", "Do it", {"msg": message}))
        self.now += 0.5
        self.step(host, "rescue")
        self.now += 0.5
        self.step(host, "result")

    def batch(self, hosts: t.Sequence[str], batch: t.Sequence[str], sizes: t.Sequence[int]) -> None:
        self.collector.play("Hot-upgrade Open vSwitch", hosts, batch, sizes)

    def step(self, host: str, step: str) -> None:
        self.hear(self.collector.started(host, f"{ROLE}/{step}.yml:3", "ansible.builtin.command"))

    def hear(self, events: t.Sequence[rollout.Event]) -> None:
        self.lines += [progress.line(event, self.rollout) for event in events]

    def steps(self, hosts: t.Sequence[str], until: str = "result", after: str = "") -> None:
        """In step, as the strategy linear does it."""
        names = list(STEPS)
        for step, seconds in list(STEPS.items())[names.index(after) + 1 if after else 0 :]:
            for host in hosts:
                self.step(host, step)
                self.now += seconds / 50
            self.now += seconds
            if step == until:
                return

    def fact(self, host: str, found: t.Any) -> None:
        self.hear(self.collector.told(host, SET_FACT, {"ansible_facts": {"hot_upgrade_result": found}}))

    def handed_over(self, host: str, **told: t.Any) -> None:
        result = {"plan": PLAN, "transaction": "t1", "state": "confirmed", **told}
        self.hear(self.collector.told(host, HANDOVER, result))

    @property
    def rollout(self) -> Rollout:
        return self.collector.rollout

    def seen(self) -> tuple[Rollout, list[Facts], Verdict]:
        """What page and document are made of."""
        hosts = [facts(host, self.rollout) for host in self.rollout.hosts]
        return self.rollout, hosts, verdict(self.rollout, hosts)


def good(count: int = 3) -> Told:
    """All is well."""
    told = Told()
    hosts = [f"hv{number}" for number in range(1, count + 1)]
    for batch in (hosts[:1], hosts[1:]):
        told.batch(hosts, batch, [1, count - 1])
        told.steps(batch, "handover")
        for host in batch:
            told.handed_over(host, window_ms=3.2)
        told.steps(batch, after="handover")
        for host in batch:
            told.fact(host, result(host))
    told.collector.end()
    return told


def bad() -> Told:
    """Of six hosts one lost packets, one waits, one was taken back, one was refused, and one nobody touched."""
    told = Told()
    hosts = [f"hv-ams1-r07-u{number:02}.example.net" for number in range(1, 7)]
    first, second, third, fourth, fifth, __ = hosts
    told.batch(hosts, hosts[:1], [1, 4, 1])
    told.steps(hosts[:1])
    told.fact(first, result(first))
    told.batch(hosts, hosts[1:5], [1, 4, 1])
    told.steps(hosts[1:4], "handover")
    told.handed_over(second, window_ms=412.7)
    told.handed_over(third, state="applied", deadline="2026-11-28T03:45:00Z")
    measured = "ovs-vswitchd 3.5.0 forwards, 2 of 2 bridges answer, with 2504 flows (2504 in the snapshot)"
    told.handed_over(fourth, state="rolled_back", transaction="20261128T030512Z-3fa2c1", measured=measured)
    told.fails(fifth, "packages", REFUSED)
    told.fails(fourth, "handover", UNDONE)
    told.steps(hosts[1:3], after="handover")
    lossy = traffic(412.7, 71, 455.0, 12)
    told.fact(
        second,
        result(
            second, window_ms=412.7, strategy="restart", traffic=lossy, not_carried=["the MAC table of br-ex"]
        ),
    )
    deadline = {"deadline": "2026-11-28T03:45:00Z", "verified": True}
    told.fact(third, result(third, "unconfirmed", **deadline))
    told.fact(fourth, result(fourth, "failed", failure=UNDONE, traffic=traffic(9.9, 0, 96.0, 0)))
    told.fact(fifth, result(fifth, "failed", failure=REFUSED, strategy=None))
    told.collector.end()
    return told


def fleet(count: int = 1000, failed: int = 3) -> Told:
    """A canary, a tenth, the rest; some lost something, and some of the last batch failed."""
    told = Told(forks=50)
    hosts = [f"hv{number:04}" for number in range(count)]
    tenth = count // 10
    parts = (hosts[:1], hosts[1 : 1 + tenth], hosts[1 + tenth :])
    one = traffic()
    for batch in parts:
        told.batch(hosts, batch, [len(part) for part in parts])
        told.steps(batch)
        for host in batch:
            lossy = int(host[2:]) % 37 == 5
            told.fact(host, result(host, traffic=traffic(180.0, 36, 200.0, 5) if lossy else one))
    for host in hosts[-failed:]:
        told.fact(host, result(host, "failed", failure=f"{host}: {REFUSED}"))
    told.collector.end()
    return told


HOSTILE = "<script>alert(1)</script>\"'&\x1b[31m\u202e</style>--><!--\x00\ud800"


def hostile() -> Told:
    """Every text is one that somebody else has chosen."""
    told = Told(playbook=HOSTILE, inventories=(HOSTILE,))
    hosts = [HOSTILE, f"{HOSTILE}2"]
    told.batch(hosts, hosts, [2])
    told.steps(hosts)
    plan = {**PLAN, "reasons": {HOSTILE: [HOSTILE]}, "warnings": [HOSTILE]}
    told.collector.told(
        hosts[0], HANDOVER, {"plan": plan, "transaction": HOSTILE, "state": "failed", "not_undone": [HOSTILE]}
    )
    names = ("failure", "from", "to", "strategy", "deadline", "proof", "snapshot", "transaction")
    texts = dict.fromkeys(names, HOSTILE)
    bridges = {HOSTILE: {"unexplained": HOSTILE, "others": {HOSTILE: {HOSTILE: 3}}, "settings": [HOSTILE]}}
    told.fact(
        hosts[0],
        {
            **result(hosts[0], "failed"),
            **texts,
            "changes": {"bridges": bridges, "unfollowed": {HOSTILE: HOSTILE}},
        },
    )
    told.collector.failed(
        hosts[1], f"{ROLE}/preflight.yml:3", "ansible.builtin.fail", HOSTILE, {"msg": HOSTILE}
    )
    told.collector.end()
    return told
