# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The numbers of a rollout: a line for each host, as a table and as sums."""

from __future__ import annotations

import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.host_facts import COUNTED, Facts, Stream
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.table import table

Line = dict[str, t.Any]
HEADING = ("host", "outcome", "version", "strategy", *COUNTED, "lost established", "lost new", "longest gap")
_SUMMED = (
    *(f"{kind}_{when}" for kind in COUNTED for when in ("before", "after")),
    *("sent_established", "lost_established", "sent_new", "lost_new", "duplicated"),
)


def line(host: Facts) -> Line:
    """One host's numbers; None is what nobody has told."""
    return {
        "host": host.name,
        "outcome": host.outcome,
        "from": host.from_version or None,
        "to": host.to_version or None,
        "strategy": host.strategy or None,
        **{f"{kind}_{when}": found[kind] for kind in COUNTED for when, found in _both(host)},
        **_counted("established", host.established),
        **_counted("new", host.new_flows),
        "duplicated": sum(each.duplicated for each in host.streams) if host.streams else None,
        "window_ms": host.window_ms,
        "longest_gap_ms": max((each.longest_gap_ms or 0 for each in host.streams), default=None),
        "verified": host.verified,
        "not_carried": list(host.not_carried),
        "failure": host.failure,
    }


def _both(host: Facts) -> tuple[tuple[str, dict[str, int | None]], ...]:
    return ("before", host.before), ("after", host.after)


def _counted(name: str, found: Stream | None) -> Line:
    return {f"sent_{name}": found and found.sent, f"lost_{name}": found and found.lost}


def kept(host: Facts) -> bool:
    """Whether a host was upgraded with everything it had."""
    return host.outcome == "upgraded" and host.verified and host.before == host.after


def as_table(lines: t.Sequence[Line]) -> list[str]:
    """What a person reads, a line of text for each host after the heading."""
    return table([HEADING, *(_cells(each) for each in lines)])


def _cells(found: Line) -> tuple[str, ...]:
    return (
        _shown(found["host"]),
        _shown(found["outcome"]),
        _pair(found["from"], found["to"]),
        _shown(found["strategy"]),
        *(_pair(found[f"{kind}_before"], found[f"{kind}_after"]) for kind in COUNTED),
        *(lost_of(found[f"lost_{kind}"], found[f"sent_{kind}"]) for kind in ("established", "new")),
        "-" if found["longest_gap_ms"] is None else f"{found['longest_gap_ms']:g} ms",
    )


def lost_of(lost: int | None, sent: int | None) -> str:
    """How many packets of how many, or a dash."""
    return "-" if lost is None or sent is None else f"{lost} of {sent}"


def _shown(value: object) -> str:
    return "-" if value is None else str(value)


def _pair(before: object, after: object) -> str:
    """Once where it is the same, and what is not known as a dash."""
    return _shown(before) if before == after else f"{_shown(before)} → {_shown(after)}"


def sums(lines: t.Sequence[Line]) -> Line:
    """Sums over the hosts; None where one of them has not told."""
    gaps = [each["longest_gap_ms"] for each in lines]
    return {
        "hosts": len(lines),
        "strategy": "+".join(sorted({each["strategy"] or "none" for each in lines})),
        **{name: _total([each[name] for each in lines]) for name in _SUMMED},
        "longest_gap_ms": None if None in gaps else max(gaps, default=None),
    }


def _total(values: t.Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
