# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator asks first: what happened, is anything lost, what must I do now."""

from __future__ import annotations

import collections
import dataclasses
import re
import shlex
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils import summary
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.host_facts import (
    NEED_SOMEBODY,
    OUTCOMES,
    Facts,
)
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.rollout import INTERRUPTED, RUNNING, Rollout

BAD, WARNING, GOOD, PLAIN = "bad", "warning", "good", "plain"
# Longer lists of names are cut: the table has all of them.
NAMES = 8
_LIMIT = 30


class Command(t.NamedTuple):
    """``line`` can be pasted into a shell; ``why`` tells it from others, and is empty for a single one."""

    why: str
    line: str


@dataclasses.dataclass(frozen=True)
class Action:
    """What to do, and for which hosts."""

    what: str
    hosts: tuple[str, ...] = ()
    commands: tuple[Command, ...] = ()


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The answers, in the order in which they are read; ``way_back`` takes back all that was changed."""

    tone: str
    headline: str
    happened: tuple[str, ...]
    lost: tuple[str, ...]
    actions: tuple[Action, ...]
    way_back: Command | None = None


def verdict(rollout: Rollout, hosts: t.Sequence[Facts]) -> Verdict:
    """Of a rollout at any moment."""
    tone, headline = _headline(rollout, hosts)
    return Verdict(
        tone,
        headline,
        tuple(_happened(rollout, hosts)),
        tuple(_lost(hosts)),
        tuple(_actions(rollout, hosts)),
        _way_back(rollout, hosts),
    )


def named(names: t.Sequence[str]) -> str:
    """Names in a sentence, not more than fit."""
    shown = ", ".join(names[:NAMES])
    return shown if len(names) <= NAMES else f"{shown} and {len(names) - NAMES} more"


def counted(count: int, noun: str = "host") -> str:
    """``1 host``, ``2 hosts``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def in_utc(moment: str) -> str:
    """ISO 8601 as a person reads it; anything else as it is."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|\+00:00)", moment)
    return f"{found[1]} {found[2]} UTC" if found else moment


def _headline(rollout: Rollout, hosts: t.Sequence[Facts]) -> tuple[str, str]:
    total, by = len(hosts), _by_outcome(hosts)
    bad = sum(len(by[name]) for name in ("failed", "unreachable"))
    if rollout.refusal:
        return BAD, "Refused: nothing was done on any host"
    if rollout.state == RUNNING:
        done = sum(len(each) for name, each in by.items() if name not in ("at work", "untouched"))
        so_far = f", {bad:,} of them failed" if bad else ""
        return (BAD if bad else PLAIN), f"Running: {done:,} of {counted(total)} are done{so_far}"
    if rollout.state == INTERRUPTED:
        return (
            BAD,
            f"The run was ended before its end: {counted(len(by['unknown']))} in the middle of it"
            if by["unknown"]
            else ("The run was ended before its end: no host was in the middle of it"),
        )
    if bad or by["unknown"]:
        failed = f"{bad + len(by['unknown']):,} of {counted(total)} failed"
        return BAD, f"Stopped: {failed}" if by["untouched"] else f"Not all is well: {failed}"
    return _good_headline(total, by, hosts)


def _good_headline(total: int, by: dict[str, list[Facts]], hosts: t.Sequence[Facts]) -> tuple[str, str]:
    if by["unconfirmed"]:
        return WARNING, f"Waiting for you: {counted(len(by['unconfirmed']))} not confirmed yet"
    if any(host.remark for host in hosts):
        return WARNING, "Upgraded, but a task after it failed"
    if by["planned"]:
        return (
            PLAIN,
            f"Plan: {len(by['planned']):,} of {counted(total)} would be upgraded. Nothing was changed",
        )
    if not hosts:
        return PLAIN, "There was no host to upgrade"
    if len(by["unchanged"]) == total:
        return GOOD, f"Nothing to do: {'it is' if total == 1 else f'all {total:,} hosts are'} up to date"
    whole = "The host is" if total == 1 else f"All {total:,} hosts are"
    lost = sum(host.lost for host in hosts)
    measured = any(host.streams for host in hosts)
    if lost:
        return WARNING, f"{whole} upgraded, {counted(lost, 'packet')} lost"
    return GOOD, f"{whole} upgraded{', no packet was lost' if measured and not _unmeasured(hosts) else ''}"


def _happened(rollout: Rollout, hosts: t.Sequence[Facts]) -> t.Iterator[str]:
    if rollout.refusal:
        yield rollout.refusal
    by = _by_outcome(hosts)
    for name in OUTCOMES:
        if by[name]:
            few = len(by[name]) <= NAMES and name != "untouched"
            yield f"{len(by[name]):,} {name}" + (
                f": {named([host.name for host in by[name]])}" if few else ""
            )
    batches, to_come = rollout.batches, rollout.to_come
    if to_come and rollout.state != RUNNING:
        yield (
            f"The rollout ended in batch {batches[-1].number} of {batches[-1].of}."
            if batches
            else "No batch was begun."
        )


def _lost(hosts: t.Sequence[Facts]) -> t.Iterator[str]:
    touched = [
        host
        for host in hosts
        if host.outcome in ("upgraded", "unconfirmed", "resumed", "failed") and host.transaction
    ]
    yield from _packets(touched)
    windows = [(host.window_ms, host.name) for host in touched if host.window_ms is not None]
    if windows:
        longest, name = max(windows)
        yield f"Nobody forwarded for at most {longest:,.1f} ms ({name})."
    silences = [
        (each.longest_gap_ms, host.name) for host in touched for each in host.streams if each.longest_gap_ms
    ]
    if silences:
        longest, name = max(silences)
        yield f"The longest silence at the receiver was {longest:,.1f} ms ({name})."
    yield from _objects([host for host in touched if host.outcome != "failed"])
    for host in [host for host in touched if host.outcome == "failed"][:NAMES]:
        yield f"{host.name} {host.state.replace('_', ' ') or 'failed'}: {host.measured or 'nobody has looked at it afterwards'}."
    if not touched:
        yield "Nothing: no host was handed over."


def _packets(touched: t.Sequence[Facts]) -> t.Iterator[str]:
    measured = [host for host in touched if host.streams]
    losing = [host.name for host in measured if host.lost]
    both = [
        (kind, sum(found.lost for found in each), sum(found.sent for found in each))
        for kind, each in (
            ("established flows", [host.established for host in measured if host.established]),
            ("new flows", [host.new_flows for host in measured if host.new_flows]),
        )
    ]
    if measured and not losing:
        yield f"No packet was lost: {' and '.join(f'{sent:,} of {kind}' for kind, __, sent in both)} were counted."
    if losing:
        counts = ", ".join(f"{lost:,} of {sent:,} of {kind}" for kind, lost, sent in both)
        yield f"Packets were lost on {named(losing)}: {counts}."
    counting = [host.own_counters for host in _unmeasured(touched) if host.own_counters]
    if counting:
        upcalls, drops = (sum(counts) for counts in zip(*counting))
        told = f"{upcalls:,} packets lost on their way to ovs-vswitchd, {drops:,} dropped by ports"
        yield f"Without a probe, {counted(len(counting))} counted of all traffic, as a lower bound: {told}."
    silent = len(_unmeasured(touched)) - len(counting)
    if silent:
        yield f"Traffic was not measured on {counted(silent)}."


def _objects(touched: t.Sequence[Facts]) -> t.Iterator[str]:
    other = [host.name for host in touched if not host.verified]
    if touched and not other:
        yield f"Flows, groups, meters: every difference is accounted for on {counted(len(touched))}."
    if other:
        yield f"Flows, groups, meters were not verified on {named(other)}."
    gone = [host.name for host in touched if host.not_carried]
    if gone:
        yield f"Something was not carried over on {named(gone)}, see there."


def _actions(rollout: Rollout, hosts: t.Sequence[Facts]) -> t.Iterator[Action]:
    if rollout.refusal:
        yield Action("Correct what is named, and start it again.")
        return
    by = _by_outcome(hosts)
    yield from _decisions(
        [host for host in hosts if host.outcome in NEED_SOMEBODY and host.state == "failed"], rollout
    )
    waiting = [
        host
        for host in hosts
        if host.outcome == "unconfirmed" or (host.outcome in NEED_SOMEBODY and host.state == "applied")
    ]
    if waiting and rollout.state != RUNNING:
        yield _confirm(waiting, rollout)
    if by["unreachable"]:
        yield Action(
            "Reach these hosts, by their console if need be. "
            "What was under way they bring to an end, or take back, by themselves.",
            _names(by["unreachable"]),
        )
    yield from _causes([host for host in by["failed"] if host.state != "failed"])
    later = [host for host in hosts if host.remark]
    if later:
        yield Action("The upgrade is done. See why a task after it failed.", _names(later))
    if rollout.state != RUNNING and (by["failed"] or by["unreachable"] or by["unknown"] or by["untouched"]):
        rest = [host for name in ("failed", "unreachable", "unknown", "untouched") for host in by[name]]
        yield Action(
            "When that is done, start the same rollout again: it goes on from where each host stands, "
            "and leaves alone what is done.",
            _names(rest),
        )
    if by["unknown"] and rollout.state != RUNNING:
        yield Action(
            "To see how they stand now:", _names(by["unknown"]), (_command(rollout, "status", by["unknown"]),)
        )


def _decisions(hosts: t.Sequence[Facts], rollout: Rollout) -> t.Iterator[Action]:
    """What nobody has undone comes before everything else."""
    for host in hosts:
        yield Action(
            f"Fix by hand what could not be undone: {'; '.join(host.not_undone) or host.failure}. Then:",
            (host.name,),
            (_command(rollout, "rollback", [host]),),
        )


def _confirm(hosts: t.Sequence[Facts], rollout: Rollout) -> Action:
    deadlines = sorted(host.deadline for host in hosts if host.deadline)
    until = f" before {in_utc(deadlines[0])}" if deadlines else ""
    back = "it goes back by itself" if len(hosts) == 1 else "they go back by themselves"
    return Action(
        f"Decide{until}, or {back}:",
        _names(hosts),
        (
            _command(rollout, "confirm", hosts, "keep the new version"),
            _command(rollout, "rollback", hosts, "go back at once"),
        ),
    )


def _causes(failed: t.Sequence[Facts]) -> t.Iterator[Action]:
    """One for each cause: what failed in the same way is named together."""
    causes: dict[str, list[str]] = collections.defaultdict(list)
    for host in failed:
        cause = (
            host.failure[len(host.name) + 2 :] if host.failure.startswith(f"{host.name}: ") else host.failure
        )
        causes[cause.replace(host.name, "HOST")].append(host.name)
    for cause, names in causes.items():
        shown = cause.replace("HOST", names[0]) if len(names) == 1 else cause
        yield Action(f"Fix the cause: {shown or 'no reason was given'}", tuple(names))


def _command(rollout: Rollout, playbook: str, hosts: t.Sequence[Facts], why: str = "") -> Command:
    """Without a limit for very many hosts: these playbooks leave alone what waits for nothing."""
    limit = ["--limit", ",".join(_names(hosts))] if len(hosts) <= _LIMIT else []
    return Command(why, _line(rollout, playbook, limit))


def _line(rollout: Rollout, playbook: str, more: t.Sequence[str]) -> str:
    inventories = [word for path in rollout.inventories for word in ("-i", path)]
    return shlex.join(["ansible-playbook", *inventories, f"ovsops.hot_upgrade.{playbook}", *more])


def _way_back(rollout: Rollout, hosts: t.Sequence[Facts]) -> Command | None:
    if not rollout.name or not any(host.outcome in ("upgraded", "resumed") for host in hosts):
        return None
    given = ["-e", f"hot_upgrade_rollout={rollout.name}"]
    return Command("To take back all that this rollout has changed", _line(rollout, "rollback", given))


def _by_outcome(hosts: t.Sequence[Facts]) -> dict[str, list[Facts]]:
    return {name: [host for host in hosts if host.outcome == name] for name in OUTCOMES}


def _names(hosts: t.Sequence[Facts]) -> tuple[str, ...]:
    return tuple(host.name for host in hosts)


def _unmeasured(hosts: t.Sequence[Facts]) -> list[Facts]:
    return [host for host in hosts if host.transaction and not host.streams]


def in_words(found: Verdict) -> list[str]:
    """For a terminal."""
    lines = [
        found.headline,
        *(f"  {each}" for each in found.happened),
        "Lost:",
        *(f"  {each}" for each in found.lost),
    ]
    lines.append("To do:" if found.actions else "Nothing is to be done.")
    for action in found.actions:
        lines.append("  - " + (f"{named(action.hosts)}: " if action.hosts else "") + action.what)
        lines.extend(f"      {_why(command)}{command.line}" for command in action.commands)
    if found.way_back:
        lines.append(f"{found.way_back.why}: {found.way_back.line}")
    return lines


def _why(command: Command) -> str:
    return f"{command.why}: " if command.why else ""


def numbers(hosts: t.Sequence[Facts]) -> summary.Line:
    """Sums over the hosts that were handed over."""
    return summary.sums([summary.line(host) for host in hosts if host.transaction])
