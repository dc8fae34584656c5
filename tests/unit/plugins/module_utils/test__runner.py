# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils import _plan, _runner

REQUEST: dict[str, t.Any] = {
    "convert": False,
    "downgrade": False,
    "restart_server": False,
    "userspace": False,
    "dpdk": False,
    "filled": False,
    "dispatch": False,
    "prove": 10,
}


def names(strategy: str, **changes: t.Any) -> list[str]:
    return [step.name for step in _runner.steps_for(strategy, {**REQUEST, **changes})]


@pytest.mark.parametrize("strategy", [_plan.STANDBY, _plan.RESTART])
def test_a_process_that_is_filled_beforehand_is_loaded_before_the_host_is_touched(strategy: str) -> None:
    filled, unfilled = names(strategy, filled=True), names(strategy)
    assert filled.index("load the OpenFlow state") < filled.index("arm")
    assert unfilled.index("load the OpenFlow state") > unfilled.index("arm")


def test_the_way_back_across_2_16_does_not_open_the_datapath_of_the_one_that_forwards() -> None:
    request = {**REQUEST, "strategy": _plan.MAKE_BEFORE_BREAK}
    back = {**request, "dispatch": True, **_runner._way_back({**request, "dispatch": True})}
    assert (back["strategy"], back["filled"]) == (_plan.STANDBY, False)
    assert _runner._way_back(request) == {}
