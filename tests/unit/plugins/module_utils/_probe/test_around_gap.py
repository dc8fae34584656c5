# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packets around the longest silence, few enough for a result."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._probe import around_gap as module
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._probe.around_gap import (
    AroundGap,
    around_gap,
)

MS = 1_000_000


def test_packets_that_are_lost_have_no_latency() -> None:
    sent = {n: 10 * n * MS for n in range(4)}
    arrived = {0: 1 * MS, 3: 32 * MS}
    assert around_gap(sent, arrived, (1 * MS, 32 * MS), 0) == AroundGap(
        1.0, 31.0, 1, ((0.0, 1.0, 0), (10.0, None, 1), (20.0, None, 1), (30.0, 2.0, 0))
    )


def test_times_count_from_the_start_of_the_probe() -> None:
    found = around_gap({0: 1000 * MS}, {0: 1001 * MS}, (1000 * MS, 1001 * MS), 900 * MS)
    assert (found.at_ms, found.points) == (100.0, ((100.0, 1.0, 0),))


def test_what_is_far_away_is_left_out() -> None:
    sent = {n: 100 * n * MS for n in range(100)}
    found = around_gap(sent, sent, (5000 * MS, 5100 * MS), 0)
    assert [point[0] for point in found.points] == [4800.0, 4900.0, 5000.0, 5100.0, 5200.0, 5300.0]


def test_a_long_silence_has_as_few_points_and_loses_nothing() -> None:
    sent = {n: 5 * n * MS for n in range(20_000)}
    arrived = {n: when for n, when in sent.items() if not 4000 <= n < 16_000 or n == 9000}
    found = around_gap(sent, arrived, (20_000 * MS, 80_000 * MS), 0)
    assert len(found.points) <= module.MOST
    assert sum(point[2] for point in found.points) == 11_999


def test_nothing_sent_is_nothing_to_show() -> None:
    assert around_gap({}, {}, (0, 0), 0) == AroundGap(0.0, 0.0, 1, ())


@given(st.integers(0, 700), st.sets(st.integers(0, 700)), st.integers(0, 900), st.integers(0, 900))
def test_it_is_bounded_and_in_order(count: int, gone: set[int], begin: int, end: int) -> None:
    sent = {n: n * MS for n in range(count)}
    arrived = {n: when + MS for n, when in sent.items() if n not in gone}
    found = around_gap(sent, arrived, (min(begin, end) * MS, max(begin, end) * MS), 0)
    times = [point[0] for point in found.points]
    assert len(times) <= module.MOST
    assert times == sorted(times)
    assert all(0 <= point[2] <= found.each for point in found.points)
