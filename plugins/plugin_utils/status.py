# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fleet looks like: one row for each host."""

from __future__ import annotations

import datetime
import typing as t

Json = t.Mapping[str, t.Any]

HEADING = (
    "HOST",
    "RUNS",
    "ON DISK",
    "OFFERED",
    "PENDING SINCE",
    "MODULE",
    "LAST HAND-OVER",
    "REHEARSED",
    "PROTECTED",
)
NONE = "-"


def row(host: str, found: Json | None, now: datetime.datetime) -> tuple[str, ...]:
    """The row of a host; ``found`` is what ``tasks/status.yml`` has put together, None where it did not answer."""
    if found is None:
        return (host, "no answer", *[NONE] * (len(HEADING) - 2))
    info = found["info"]
    if not info["installed"]:
        return (host, "not installed", *[NONE] * (len(HEADING) - 2))
    return (
        host,
        info["daemons"]["ovs-vswitchd"]["running_version"] or "not running",
        info["daemons"]["ovs-vswitchd"]["disk_version"] or NONE,
        found["offered"] or NONE,
        _day(info["pending_since"]),
        _module(info["kernel_modules"]),
        _hand_over(found["transactions"]),
        _rehearsed(info["rehearsal"], now),
        _protected(info["protection"]),
    )


def _day(moment: str | None) -> str:
    return moment[:10] if moment else NONE


def _module(modules: t.Sequence[Json]) -> str:
    """Of openvswitch.ko, which comes first."""
    module = modules[0] if modules else {}
    if not module.get("loaded"):
        return NONE
    if module.get("builtin"):
        return "built in"
    needed = module.get("reload_needed")
    return "unknown" if needed is None else "reload needed" if needed else "current"


def _hand_over(transactions: t.Sequence[Json]) -> str:
    if not transactions:
        return NONE
    last = transactions[0]
    if last["state"] == "applied" and last["deadline"]:
        return f"applied, goes back at {last['deadline']}"
    # Its name begins with the time at which it was made.
    day = last["transaction"][:8]
    return f"{last['state']} {day[:4]}-{day[4:6]}-{day[6:]}"


def _rehearsed(rehearsal: Json | None, now: datetime.datetime) -> str:
    if not rehearsal:
        return NONE
    days = (now - datetime.datetime.fromisoformat(rehearsal["at"])).days
    outcome = (
        ("passed" if rehearsal["passed_back"] else "passed, no way back") if rehearsal["passed"] else "FAILED"
    )
    return f"{rehearsal['to']}: {outcome}, {days} d ago"


def _protected(protection: Json | None) -> str:
    if not protection:
        return "no"
    if protection["restarted"]:
        return f"yes, but restarted: {', '.join(protection['restarted'])}"
    return f"since {protection['since'][:10]}"
