# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be said of one host, from what its tasks and the role have told."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.reading import (
    Json,
    mapping,
    number,
    sequence,
    text,
    texts,
    whole,
)
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.rollout import ENDED, RUNNING, Host, Rollout

# What needs somebody comes first.
OUTCOMES = (
    "failed",
    "unreachable",
    "unknown",
    "unconfirmed",
    "upgraded",
    "resumed",
    "planned",
    "unchanged",
    "at work",
    "untouched",
)
NEED_SOMEBODY = OUTCOMES[:4]
DONE = OUTCOMES[:8]
COUNTED = ("flows", "groups", "meters")
# A silence at the receiver that the sender's own pauses do not explain, in milliseconds.
SLOW_MS = 20.0
# How the module tells the end of a hand-over, where there is no role.
_STATES = {"confirmed": "upgraded", "applied": "unconfirmed", "rolled_back": "failed", "failed": "failed"}
_AFTER_FAILURE = ("", "rescue", "result")
_SOURCES = {"expired": "expired by their timeouts", "learned": "made by learn actions"}


@dataclasses.dataclass(frozen=True)
class Point:
    """One or more packets in a row: when sent, the longest latency (None: none arrived), how many were lost."""

    at_ms: float
    latency_ms: float | None
    lost: int


@dataclasses.dataclass(frozen=True)
class Stream:
    """One stream of the traffic probe; None is what nobody has told."""

    sent: int
    lost: int
    duplicated: int
    longest_gap_ms: float | None
    longest_send_gap_ms: float | None
    gap_at_ms: float | None
    around: Json

    @property
    def each(self) -> int:
        """How many packets a point stands for."""
        return whole(self.around.get("each")) or 1

    @property
    def points(self) -> tuple[Point, ...]:
        """The packets around the longest silence. Only few hosts are asked for them."""
        return tuple(_points(self.around.get("points")))

    @property
    def slow(self) -> bool:
        """Whether it was silent for longer than its sender."""
        return (self.longest_gap_ms or 0) - (self.longest_send_gap_ms or 0) > SLOW_MS


@dataclasses.dataclass(frozen=True)
class Facts:
    """One host, ready to be shown. Empty texts and None: nobody has told.

    ``own_counters`` are packets lost on their way to ovs-vswitchd and dropped by ports, of all traffic.
    """

    name: str
    outcome: str
    failure: str
    step: str
    remark: str
    hidden: bool
    from_version: str
    to_version: str
    strategy: str
    reasons: tuple[tuple[str, tuple[str, ...]], ...]
    window_ms: float | None
    established: Stream | None
    new_flows: Stream | None
    before: dict[str, int | None]
    after: dict[str, int | None]
    verified: bool
    changes: tuple[str, ...]
    not_carried: tuple[str, ...]
    warnings: tuple[str, ...]
    proof: str
    besides: tuple[str, ...]
    breaches: tuple[str, ...]
    own_counters: tuple[int, int] | None
    transaction: str
    state: str
    deadline: str
    measured: str
    not_undone: tuple[str, ...]
    snapshot: str

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Those that were measured."""
        return tuple(stream for stream in (self.established, self.new_flows) if stream)

    @property
    def lost(self) -> int:
        """Packets of both streams."""
        return sum(stream.lost for stream in self.streams)

    @property
    def slow(self) -> bool:
        """Whether a stream was silent for longer than its sender."""
        return any(stream.slow for stream in self.streams)

    @property
    def needs_somebody(self) -> bool:
        """Whether it is not at an end, or not at a good one."""
        return self.outcome in NEED_SOMEBODY or bool(self.remark)

    @property
    def stands_out(self) -> bool:
        """Whether its traffic is worth a look."""
        return self.lost > 0 or self.slow


def facts(host: Host, rollout: Rollout) -> Facts:
    """Everything that is known of ``host``; it may be asked at any time of the rollout."""
    result, told = host.result, {**host.handover, **{k: v for k, v in host.result.items() if v is not None}}
    outcome = _outcome(host, rollout)
    traffic = mapping(result.get("traffic")) or host.traffic
    versions = [mapping(host.plan.get(when)) for when in ("before", "after")]
    trouble = host.trouble
    return Facts(
        name=host.name,
        outcome=outcome,
        failure=_failure(host, outcome),
        step=_failed_in(host),
        remark=f"{trouble.task}: {trouble.message}" if trouble and outcome not in NEED_SOMEBODY else "",
        hidden=host.hidden,
        from_version=text(result.get("from")) or text(versions[0].get("ovs-vswitchd")),
        to_version=text(result.get("to")) or _reached(outcome, text(versions[1].get("ovs-vswitchd"))),
        strategy=text(result.get("strategy")) or text(host.plan.get("strategy")),
        reasons=_reasons(host.plan.get("reasons")),
        window_ms=number(told.get("window_ms")),
        established=stream(traffic.get("established")),
        new_flows=stream(traffic.get("new_flows")),
        before=_counts(result.get("before")),
        after=_counts(result.get("after")),
        verified=told.get("verified") is True,
        changes=changes(told.get("changes")),
        not_carried=texts(told.get("not_carried")),
        warnings=texts(result.get("warnings")) or texts(host.plan.get("warnings")),
        proof=text(told.get("proof")),
        besides=_besides(result),
        breaches=texts(told.get("breaches")),
        own_counters=_own_counters(result),
        transaction=text(told.get("transaction")),
        state=text(host.handover.get("state")),
        deadline=text(told.get("deadline")),
        measured=text(host.handover.get("measured")),
        not_undone=texts(host.handover.get("not_undone")),
        snapshot=text(result.get("snapshot")),
    )


def from_result(name: str, result: Json) -> Facts:
    """Of a host of which there is nothing but the role's result."""
    return facts(Host(name, result=result), Rollout(state=ENDED))


def stream(found: object) -> Stream | None:
    """One stream as ovs_traffic_probe tells it; None where that does not count packets."""
    told = mapping(found)
    sent, lost = whole(told.get("sent")), whole(told.get("lost"))
    if sent is None or lost is None:
        return None
    around = mapping(told.get("around_gap"))
    return Stream(
        sent=sent,
        lost=lost,
        duplicated=whole(told.get("duplicated")) or 0,
        longest_gap_ms=number(told.get("longest_gap_ms")),
        longest_send_gap_ms=number(told.get("longest_send_gap_ms")),
        gap_at_ms=number(around.get("at_ms")),
        around=around,
    )


def changes(found: object) -> tuple[str, ...]:
    """Who has changed what in each bridge meanwhile, one sentence each; what nobody has explained comes first."""
    told = mapping(found)
    bridges = [(name, mapping(each)) for name, each in mapping(told.get("bridges")).items()]
    unexplained = [
        f"{name}: NOT EXPLAINED: {text(each['unexplained'])}"
        for name, each in bridges
        if each.get("unexplained")
    ]
    known = [f"{name}: {what}" for name, each in bridges for what in _changed(each)]
    unfollowed = [
        f"{name}: only compared, it does not tell what is changed in it: {text(why)}"
        for name, why in mapping(told.get("unfollowed")).items()
    ]
    return (*unexplained, *known, *unfollowed)


def _changed(bridge: Json) -> t.Iterator[str]:
    for name, source in _SOURCES.items():
        count = whole(bridge.get(name))
        if count:
            yield f"{count} {_plural(count, 'flow')} {source}"
    for cookie, counts in mapping(bridge.get("others")).items():
        done = [f"{whole(count)} {what}" for what, count in mapping(counts).items() if whole(count)]
        if done:
            yield f"the controller with cookie {cookie}: {', '.join(done)}"
    settings = texts(bridge.get("settings"))
    if settings:
        yield f"settings that were changed: {', '.join(settings)}"


def _points(found: object) -> t.Iterator[Point]:
    for each in sequence(found):
        values = sequence(each)
        at_ms = number(values[0]) if len(values) == 3 else None
        if at_ms is not None:
            yield Point(at_ms, number(values[1]), whole(values[2]) or 0)


def _outcome(host: Host, rollout: Rollout) -> str:
    if host.outcome in DONE and host.outcome not in ("unknown", "unreachable"):
        return host.outcome
    if host.trouble and host.trouble.unreachable:
        return "unreachable"
    if not (host.steps or host.result or host.plan or host.handover or host.trouble or host.hidden):
        return "untouched"
    if rollout.state == RUNNING:
        return "at work"
    if host.trouble:
        return "failed"
    if host.result:
        return "unknown"
    if rollout.check_mode and host.plan:
        return "planned" if host.plan.get("needed") is True else "unchanged"
    return _STATES.get(
        text(host.handover.get("state")), "unchanged" if host.plan.get("needed") is False else "unknown"
    )


def _failure(host: Host, outcome: str) -> str:
    if outcome in ("unreachable", "failed", "unknown") and host.trouble and host.outcome != "failed":
        lost = "it became unreachable: " if host.trouble.unreachable else f"{host.trouble.task}: "
        return lost + host.trouble.message
    if outcome == "unknown" and host.hidden:
        return "what its tasks said is hidden by no_log"
    return text(host.result.get("failure")) or text(host.handover.get("reason"))


def _failed_in(host: Host) -> str:
    """The step in which it failed: what comes after a failure is no part of it."""
    if host.trouble and host.trouble.step not in _AFTER_FAILURE:
        return host.trouble.step
    return next((step.name for step in reversed(host.steps) if step.name not in _AFTER_FAILURE), "")


def _reached(outcome: str, version: str) -> str:
    """The version of the plan, where it is known to run or would."""
    return version if outcome in ("upgraded", "unconfirmed", "resumed", "planned") else ""


def _reasons(found: object) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """By strategy. A reload has a list of them."""
    by_strategy = found if isinstance(found, dict) else {"reload": found}
    return tuple((name, texts(each)) for name, each in mapping(by_strategy).items() if texts(each))


def _counts(found: object) -> dict[str, int | None]:
    return {name: whole(mapping(found).get(name)) for name in COUNTED}


def _own_counters(result: Json) -> tuple[int, int] | None:
    """What the host itself counts of lost packets, on their way to ovs-vswitchd and at ports; None where it does not tell."""
    counted = mapping(result.get("counted"))
    lost, dropped = whole(counted.get("lost_upcalls")), whole(counted.get("dropped"))
    return None if lost is None or dropped is None else (lost, dropped)


def _besides(result: Json) -> tuple[str, ...]:
    """What only some hosts have: connections, a kernel module, ovn-controller."""
    module, ovn = mapping(result.get("kernel_module")), mapping(result.get("ovn"))
    connections, missing = (
        mapping(result.get("connections")),
        texts(mapping(module.get("restored")).get("missing")),
    )
    gap_ms, controller = number(module.get("gap_ms")), text(ovn.get("to"))
    carried, of = whole(connections.get("carried")), whole(connections.get("of"))
    said = [
        f"connections: {carried} of {of} were carried over" if connections else "",
        text(module.get("why")),
        f"the datapath was away for {gap_ms:,.1f} ms" if gap_ms is not None else "",
        text(module.get("bypass")),
        text(module.get("new_flows")),
        f"things of its ports that are not back: {'; '.join(missing)}" if missing else "",
        f"ovn-controller {controller} runs instead of {text(ovn.get('from')) or 'none'}"
        if controller
        else "",
    ]
    return tuple(each for each in said if each)


def _plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"
