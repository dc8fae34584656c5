# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures as SVG, whatever the numbers are."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils import host_facts, plots
from tests.unit.plugins.plugin_utils.rollouts import packets

Number = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12)


def drawn(found: dict[str, object]) -> ElementTree.Element:
    stream = host_facts.stream(found)
    assert stream is not None
    return ElementTree.fromstring(plots.arrivals(stream, "label"))


def test_packets_of_a_gap() -> None:
    picture = drawn(packets(40, 455.0, 12))
    classes = [each.get("class") for each in picture.iter()]
    assert {"silent", "dots", "arrivals", "lost", "lost-word", "axis"} <= set(classes)
    by_class = {each.get("class"): each.get("d") or "" for each in picture.iter()}
    assert len(re.findall("M", by_class["lost"])) == 12
    assert "silent 455.0 ms" in [each.text for each in picture.iter()]


def test_nothing_lost_is_nothing_red() -> None:
    assert "lost" not in [each.get("class") for each in drawn(packets(200, 9.9, 0)).iter()]


@given(
    st.lists(st.tuples(Number, st.none() | Number, st.integers(0, 9)), max_size=20),
    st.none() | Number,
    st.none() | Number,
)
def test_any_numbers_stay_in_the_picture(
    points: list[tuple[object, ...]], at_ms: float | None, gap_ms: float | None
) -> None:
    around = {"points": [list(each) for each in points], "at_ms": at_ms, "each": 1}
    picture = drawn({"sent": 1, "lost": 0, "longest_gap_ms": gap_ms, "around_gap": around})
    for element in picture.iter():
        for value in re.findall(r"M(-?[\d.]+) (-?[\d.]+)", element.get("d") or ""):
            assert all(-10 <= float(each) <= 360 for each in value)


@pytest.mark.parametrize(("value", "shown"), [(0, 1), (1.1, 2), (3, 5), (7, 10), (412.7, 500), (501, 1000)])
def test_round_numbers(value: float, shown: float) -> None:
    assert plots.nice(value) == shown


@given(Number, st.floats(min_value=1, max_value=1e9))
def test_there_are_few_ticks(first: float, span: float) -> None:
    found = plots.ticks(first, first + span)
    assert len(found) <= 7
    slack = (abs(first) + span) * 1e-9
    assert all(first - slack <= each <= first + span + slack for each in found)


def test_a_bar_can_be_seen_however_short_it_is() -> None:
    (rect,) = ElementTree.fromstring(plots.strip([plots.Segment(0.5, 0.5, "s-cut")], "x"))
    assert (rect.get("x"), rect.get("width"), rect.get("class")) == ("500", "4", "s-cut")


def test_shares_fill_the_whole() -> None:
    rects = list(ElementTree.fromstring(plots.shares([("o-bad", 1), ("o-good", 3)], "x")))
    assert [float(rect.get("width") or math.nan) for rect in rects] == [250, 750]
