# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The packets around the longest silence of a stream, few enough to travel in a result: what a plot needs."""

from __future__ import annotations

import dataclasses
import typing as t

# Points of one stream, whatever its rate and however long the silence was.
MOST = 160
_BESIDE = 250_000_000
_MILLISECOND = 1_000_000


@dataclasses.dataclass(frozen=True)
class AroundGap:
    """``points`` stand for ``each`` consecutive packets: when the first was sent, the longest latency, how many were lost.

    Times are milliseconds since the start of the probe; a latency is None where none of these packets has arrived.
    """

    at_ms: float
    lasted_ms: float
    each: int
    points: tuple[tuple[float, float | None, int], ...]


def around_gap(
    sent: t.Mapping[int, int], arrived: t.Mapping[int, int], gap: tuple[int, int], start: int
) -> AroundGap:
    """``sent`` and ``arrived`` are moments by number; ``gap`` is the silence, ``start`` that of the probe, in nanoseconds."""
    begin, end = gap
    beside = max(_BESIDE, end - begin)
    # What was sent before and arrived after it belongs to it.
    shown = sorted(number for number, when in sent.items() if begin - beside <= when <= end + beside)
    each = -(-len(shown) // MOST) or 1
    groups = (shown[at : at + each] for at in range(0, len(shown), each))
    return AroundGap(
        at_ms=_ms(begin - start),
        lasted_ms=_ms(end - begin),
        each=each,
        points=tuple(_point(group, sent, arrived, start) for group in groups),
    )


def _point(
    group: t.Sequence[int], sent: t.Mapping[int, int], arrived: t.Mapping[int, int], start: int
) -> tuple[float, float | None, int]:
    latencies = [_ms(arrived[number] - sent[number]) for number in group if number in arrived]
    return _ms(sent[group[0]] - start), max(latencies, default=None), len(group) - len(latencies)


def _ms(nanoseconds: int) -> float:
    return round(nanoseconds / _MILLISECOND, 2)
