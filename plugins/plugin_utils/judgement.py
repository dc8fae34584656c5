# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hand-over may cost before it is taken back, and whether it did; pure."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible.module_utils.parsing.convert_bool import boolean

Json = t.Mapping[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Budget:
    """The options of the doc fragment judgement.py; None is no limit. Times are in milliseconds, ``soak`` is in seconds."""

    max_lost_established: int | None = None
    max_lost_new: int | None = None
    max_gap_ms: float | None = None
    probe: str = ""
    health: bool = False
    soak: float = 0.0

    @classmethod
    def of(cls, options: Json) -> Budget:
        """As a task has it, perhaps as text. Raises ``ValueError`` or ``TypeError`` where it is nothing of the kind."""
        return cls(
            _number(options, "max_lost_established", int),
            _number(options, "max_lost_new", int),
            _number(options, "max_gap_ms", float),
            str(options.get("probe") or ""),
            bool(boolean(options.get("health") or False)),
            _number(options, "soak", float) or 0.0,
        )

    @property
    def measures(self) -> bool:
        """Whether it has to be known what was lost."""
        limits = (self.max_lost_established, self.max_lost_new, self.max_gap_ms)
        return any(limit is not None for limit in limits)

    @property
    def limits(self) -> bool:
        """Whether more than the health is judged."""
        return self.soak > 0 or self.measures

    @property
    def judges(self) -> bool:
        """Whether anything is judged before the confirmation."""
        return self.health or self.limits

    def mistake(self, state: str, confirm: str, waits: bool, has_before: bool) -> str:
        """Why a task with this ``state`` (``begins`` or ``confirmed``) cannot judge that; empty if it can.

        ``waits`` is whether the task keeps its connection, ``has_before`` whether it knows the health of before.
        """
        if not self.judges:
            return ""
        if not waits:
            return "a task with async cannot judge a hand-over: give it state=confirmed in a task of its own"
        if state == "begins" and confirm not in ("reconnected", "manual"):
            return f"with confirm={confirm} the host confirms, and nothing can be judged before that: use confirm=reconnected"
        if state == "begins" and confirm == "manual" and self.limits:
            return "with confirm=manual limits and soak belong to the task with state=confirmed, which judges"
        if state == "confirmed" and self.health and not has_before:
            return "health needs health_before, as the task that began the hand-over has returned it"
        if not self.probe and (self.max_lost_established is not None or self.max_lost_new is not None):
            return "max_lost_established and max_lost_new need the name of a running ovs_traffic_probe in the option probe"
        return ""


def _number(options: Json, name: str, kind: type[t.Any]) -> t.Any:
    value = options.get(name)
    return None if value is None or value == "" else kind(value)


def breaches(budget: Budget, result: Json, traffic: Json | None, worse: t.Sequence[str]) -> list[str]:
    """What of a hand-over's ``result`` is over the budget, and what is ``worse`` than before: a sentence each.

    ``traffic`` is what the probe has measured, None without one. What is limited and not known is a breach.
    """
    found = list(worse)
    ended = (traffic or {}).get("ended", "stopped")
    if budget.measures and ended != "stopped":
        found.append(f"the measurement was over before the end ({ended}), so what was lost is not known")
    for kind, limit, words in (
        ("established", budget.max_lost_established, "of the established flow"),
        ("new_flows", budget.max_lost_new, "of new flows"),
    ):
        if limit is None:
            continue
        if traffic is None:
            found.append(f"how many packets {words} were lost is not known")
        elif traffic[kind]["lost"] > limit:
            found.append(
                f"lost {traffic[kind]['lost']} of {traffic[kind]['sent']} packets {words} ({limit} allowed)"
            )
    return [*found, *_gap(budget.max_gap_ms, result, traffic)]


def _gap(limit: float | None, result: Json, traffic: Json | None) -> t.Iterator[str]:
    """The probe has seen the longest one; else it is what the host has measured of itself."""
    if limit is None:
        return
    gap = (
        traffic["established"]["longest_outage_ms"]
        if traffic
        else result.get("gap_ms", result.get("window_ms"))
    )
    if gap is None:
        yield "how long nothing was forwarded is not known"
    elif gap > limit:
        yield f"nothing was forwarded for {gap:g} ms ({limit:g} allowed)"
