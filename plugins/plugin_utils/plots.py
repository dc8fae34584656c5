# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of a rollout as inline SVG: the packets around a gap, steps over time, shares."""

from __future__ import annotations

import math
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.host_facts import Stream
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.markup import Html, join, tag

# Of the picture of one stream, in its own units: small, so that its letters can be read on a phone.
_WIDTH, _HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 8, 44, 38
_BAR = 1000


class Segment(t.NamedTuple):
    """From and to, as parts of the whole; ``kind`` names the colour."""

    begin: float
    end: float
    kind: str


def strip(segments: t.Iterable[Segment], label: str, class_: str = "bar") -> Html:
    """Segments on one line, as wide as there is room; the shortest can still be seen."""
    rects = [
        tag(
            "rect",
            x=_place(each.begin),
            y=0,
            width=max(4.0, _place(each.end) - _place(each.begin)),
            height=10,
            class_=each.kind,
        )
        for each in segments
    ]
    return tag(
        "svg",
        *rects,
        viewBox=f"0 0 {_BAR} 10",
        preserveAspectRatio="none",
        class_=class_,
        role="img",
        aria_label=label,
    )


def _place(part: float) -> float:
    return round(min(max(part, 0.0), 1.0) * _BAR, 1)


def swatch(kind: str) -> Html:
    """A square of a legend."""
    return tag("svg", tag("rect", width=10, height=10, class_=kind), viewBox="0 0 10 10", aria_hidden="true")


def arrivals(found: Stream, label: str) -> Html:
    """Each packet when it was sent, and how long it took; those that were lost, and the silence of the receiver."""
    begin = found.gap_at_ms or 0.0
    scale = _Scale(found, begin)
    return tag(
        "svg",
        *_silence(found, scale),
        *_axes(scale),
        tag("path", d=_dots(found, scale), class_="dots"),
        tag("path", d=_rug(found, scale), class_="arrivals"),
        *_losses(found, scale),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=label,
    )


class _Scale:
    """Milliseconds to places. Zero is where the silence begins."""

    def __init__(self, found: Stream, zero: float) -> None:
        times = [point.at_ms for point in found.points]
        self.zero = zero
        self.first = min(times, default=zero)
        gap_end = zero + (found.longest_gap_ms or 0.0)
        self.last = max([*times, gap_end, self.first + 1.0])
        self.most = nice(max((point.latency_ms or 0.0 for point in found.points), default=0.0))

    def x(self, at_ms: float) -> str:
        part = (min(max(at_ms, self.first), self.last) - self.first) / (self.last - self.first)
        return f"{_LEFT + part * (_WIDTH - _LEFT - _RIGHT):.1f}"

    def y(self, latency_ms: float) -> str:
        part = min(max(latency_ms, 0.0) / self.most, 1.0)
        return f"{_HEIGHT - _BOTTOM - part * (_HEIGHT - _TOP - _BOTTOM):.1f}"


def nice(value: float) -> float:
    """The next of 1, 2, 5, 10, 20 … that is not smaller than ``value``."""
    if value <= 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((step * power for step in (1, 2, 5) if step * power >= value), 10 * power)


def _silence(found: Stream, scale: _Scale) -> t.Iterator[Html]:
    if found.gap_at_ms is None or found.longest_gap_ms is None:
        return
    left, right = float(scale.x(scale.zero)), float(scale.x(scale.zero + found.longest_gap_ms))
    yield tag(
        "rect",
        x=left,
        y=_TOP - 8,
        width=max(1.0, right - left),
        height=_HEIGHT - _TOP - _BOTTOM + 8,
        class_="silent",
    )
    middle = min(max((left + right) / 2, _LEFT + 45), _WIDTH - 60)
    yield tag("text", f"silent {found.longest_gap_ms:,.1f} ms", x=middle, y=12, text_anchor="middle")


def _axes(scale: _Scale) -> t.Iterator[Html]:
    floor = _HEIGHT - _BOTTOM
    yield tag("path", d=f"M{_LEFT} {_TOP - 8}V{floor}H{_WIDTH - _RIGHT}", class_="axis")
    for value in (0.0, scale.most):
        yield tag("text", f"{value:g} ms", x=_LEFT - 5, y=float(scale.y(value)) + 4, text_anchor="end")
    for at_ms in ticks(scale.first - scale.zero, scale.last - scale.zero):
        place = float(scale.x(at_ms + scale.zero))
        yield tag("path", d=f"M{place} {floor}v4", class_="axis")
        yield tag(
            "text", f"{at_ms:g}", x=min(max(place, _LEFT), _WIDTH - 18), y=floor + 22, text_anchor="middle"
        )
    yield tag(
        "text", "sent, ms from the begin of the silence", x=_WIDTH - _RIGHT, y=_HEIGHT - 3, text_anchor="end"
    )


def ticks(first: float, last: float) -> list[float]:
    """Round places from ``first`` to ``last``, not more than six."""
    step = nice((last - first) / 5)
    return [place * step for place in range(math.ceil(first / step), math.floor(last / step) + 1)]


def _dots(found: Stream, scale: _Scale) -> str:
    return "".join(
        f"M{scale.x(each.at_ms)} {scale.y(each.latency_ms)}h0"
        for each in found.points
        if each.latency_ms is not None
    )


def _rug(found: Stream, scale: _Scale) -> str:
    """When they arrived, below the axis."""
    base = _HEIGHT - _BOTTOM + 5
    return "".join(
        f"M{scale.x(each.at_ms + each.latency_ms)} {base}v5"
        for each in found.points
        if each.latency_ms is not None
    )


def _losses(found: Stream, scale: _Scale) -> t.Iterator[Html]:
    places = [scale.x(each.at_ms) for each in found.points if each.lost]
    if places:
        crosses = "".join(f"M{float(x) - 3:.1f} {_TOP - 19}l6 6m0 -6l-6 6" for x in places)
        yield tag("path", d=crosses, class_="lost")
        yield tag("text", "lost", x=_LEFT - 5, y=_TOP - 12, text_anchor="end", class_="lost-word")


def shares(parts: t.Sequence[tuple[str, int]], label: str) -> Html:
    """How many of the whole are of which kind."""
    total, place, segments = sum(count for __, count in parts) or 1, 0, []
    for kind, count in parts:
        segments.append(Segment(place / total, (place + count) / total, kind))
        place += count
    return join([strip([each for each in segments if each.end > each.begin], label, class_="shares")])
