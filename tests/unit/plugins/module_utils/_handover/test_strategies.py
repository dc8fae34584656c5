# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import plan, strategies
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import Request

Make = t.Callable[..., Request]


@pytest.mark.parametrize(
    ("strategy", "before"),
    [
        (plan.MAKE_BEFORE_BREAK, True),
        (plan.PREFILLED, True),
        (plan.STANDBY, False),
        (plan.RESTART, False),
        (plan.RELOAD, False),
    ],
)
def test_a_process_that_is_filled_beforehand_is_loaded_before_the_host_is_touched(
    make_request: Make, strategy: str, before: bool
) -> None:
    found = [step.name for step in strategies.steps_for(make_request(strategy=strategy))]
    assert (found.index("load the OpenFlow state") < found.index("arm")) == before
