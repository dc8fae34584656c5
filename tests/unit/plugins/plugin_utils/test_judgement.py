# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a budget allows."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.judgement import Budget, breaches


def stream(lost: int, outage: float = 0.0) -> dict[str, t.Any]:
    return {"lost": lost, "sent": 100, "longest_outage_ms": outage}


TRAFFIC = {"established": stream(2, 8.0), "new_flows": stream(5)}


@pytest.mark.parametrize(
    ("budget", "found"),
    [
        (Budget(), []),
        (Budget(max_lost_established=2, max_lost_new=5, max_gap_ms=8), []),
        (Budget(max_lost_established=1), ["lost 2 of 100 packets of the established flow (1 allowed)"]),
        (Budget(max_lost_new=0), ["lost 5 of 100 packets of new flows (0 allowed)"]),
        (Budget(max_gap_ms=7.5), ["nothing was forwarded for 8 ms (7.5 allowed)"]),
    ],
)
def test_with_a_probe(budget: Budget, found: list[str]) -> None:
    assert breaches(budget, {"window_ms": 900}, TRAFFIC, []) == found


@pytest.mark.parametrize(
    ("result", "found"),
    [
        ({"window_ms": 3.0}, []),
        ({"window_ms": 3.0, "gap_ms": 80.0}, ["nothing was forwarded for 80 ms (10 allowed)"]),
        ({"window_ms": None}, ["how long nothing was forwarded is not known"]),
    ],
)
def test_without_a_probe_the_host_tells_how_long_it_took(result: dict[str, t.Any], found: list[str]) -> None:
    assert breaches(Budget(max_gap_ms=10), result, None, []) == found


def test_what_is_limited_and_not_known_is_a_breach() -> None:
    found = breaches(Budget(max_lost_established=0, probe="p"), {}, None, ["BFD is down"])
    assert found == ["BFD is down", "how many packets of the established flow were lost is not known"]


@pytest.mark.parametrize("ended", ["killed", "max_duration"])
def test_a_measurement_that_was_over_too_early_proves_nothing(ended: str) -> None:
    (found,) = breaches(Budget(max_lost_new=9, probe="p"), {}, {**TRAFFIC, "ended": ended}, [])
    assert f"over before the end ({ended})" in found


def test_options_may_be_text() -> None:
    options = {"max_lost_established": "5", "max_gap_ms": "1.5", "soak": "", "health": "yes", "probe": None}
    assert Budget.of(options) == Budget(5, None, 1.5, "", True, 0.0)


def test_nothing_is_judged_by_default() -> None:
    assert not Budget.of({}).judges
    assert Budget.of({"max_lost_new": 0}).judges
