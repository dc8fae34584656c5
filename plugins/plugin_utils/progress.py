# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a rollout is, as lines for a terminal or a log: no cursor is moved, each line says all by itself."""

from __future__ import annotations

import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils import summary
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.host_facts import (
    DONE,
    OUTCOMES,
    Facts,
    facts,
)
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.reading import mapping, text
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.rollout import Batch, Event, Host, Rollout
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.table import printable
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.verdict import counted, in_words, verdict

# A fleet's table is for the page.
_ROWS = 40


def clock(seconds: float) -> str:
    """``mm:ss``, with hours where there are some."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return (f"{hours}:" if hours else "") + f"{minutes:02}:{whole % 60:02}"


def remaining(rollout: Rollout) -> float | None:
    """Seconds, about; None before a batch is done. A batch takes as long as it has rounds of as many hosts as there are forks."""
    done = [batch for batch in rollout.batches if batch.ended is not None]
    took = sum((batch.ended or batch.began) - batch.began for batch in done)
    rounds = sum(_rounds(len(batch.hosts), rollout.forks) for batch in done)
    if not rounds:
        return None
    per_round = took / rounds
    left = per_round * sum(_rounds(size, rollout.forks) for size in rollout.to_come)
    for batch in (batch for batch in rollout.batches if batch.ended is None):
        left += max(0.0, per_round * _rounds(len(batch.hosts), rollout.forks) - (rollout.now - batch.began))
    return left


def _rounds(hosts: int, forks: int) -> int:
    return -(-hosts // max(1, forks))


def line(event: Event, rollout: Rollout) -> str:
    """One event as a line."""
    return f"ROLLOUT {_where(event.batch, rollout)} | {_what(event, rollout)}"


def _where(batch: Batch | None, rollout: Rollout) -> str:
    hosts = rollout.hosts
    done = sum(host.outcome in DONE and host.outcome != "unknown" for host in hosts)
    left = remaining(rollout)
    return " | ".join(
        [
            clock(rollout.now - rollout.began),
            f"batch {batch.number} of {batch.of}" if batch else "no batch",
            f"{done} of {counted(len(hosts))} done",
            "remaining not known yet" if left is None else f"about {clock(left)} left",
        ]
    )


def _what(event: Event, rollout: Rollout) -> str:
    hosts = event.batch.hosts if event.batch else ()
    name = printable(event.host.name)
    if event.kind == "batch":
        return f"begins: {counted(len(hosts))}" if len(hosts) > 1 else f"begins: {name}"
    if event.kind == "step":
        others = len(hosts) > 1 and event.host.step != "rescue"
        return f"{event.host.step}: {name}" + (f", the first of {len(hosts)}" if others else "")
    found = facts(event.host, rollout)
    if event.kind == "cut over":
        return f"{name}: {_cut_over(event.host)}, {window(found)}"
    return f"{name}: {_end(found)}"


def _cut_over(host: Host) -> str:
    state = text(host.handover.get("state"))
    if state not in ("applied", "confirmed"):
        return "TAKEN BACK" if state == "rolled_back" else "NOT handed over"
    return f"handed over to {printable(text(mapping(host.plan.get('after')).get('ovs-vswitchd')) or 'what is on the disk')}"


def window(found: Facts) -> str:
    """How long nobody forwarded, in words."""
    return (
        "how long nobody forwarded is not known"
        if found.window_ms is None
        else f"nobody forwarded for {found.window_ms:,.1f} ms"
    )


def _end(found: Facts) -> str:
    if found.outcome in ("failed", "unreachable", "unknown"):
        first = (found.failure or "no reason was given").splitlines()[0]
        return f"{found.outcome.upper()}: {printable(first)}"
    version = (
        f" {printable(found.from_version or '?')} -> {printable(found.to_version)}"
        if found.to_version
        else ""
    )
    lost = [
        f"lost {summary.lost_of(each.lost, each.sent)} of {kind}"
        for kind, each in (("an established flow", found.established), ("new flows", found.new_flows))
        if each
    ]
    waits = (
        [f"confirm it before {printable(found.deadline)}"]
        if found.outcome == "unconfirmed" and found.deadline
        else []
    )
    return ", ".join([found.outcome + version, *lost, *waits])


def ending(rollout: Rollout, paths: t.Sequence[str]) -> list[str]:
    """The last lines: a table of those who need somebody first, the answers, and where the page is."""
    hosts = [facts(host, rollout) for host in rollout.hosts]
    first = sorted(
        hosts, key=lambda host: (not host.needs_somebody, not host.stands_out, OUTCOMES.index(host.outcome))
    )
    shown = [host for host in first if host.outcome != "untouched"][:_ROWS]
    lines = summary.as_table([summary.line(host) for host in shown]) if shown else []
    if len(shown) < len(hosts):
        lines.append(f"... and {counted(len(hosts) - len(shown))} more, see the page")
    lines += ["", *(printable(each) for each in in_words(verdict(rollout, hosts)))]
    return [*lines, *(f"Report: {path}" for path in paths)]
