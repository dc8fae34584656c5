# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hand-overs as operators meet them, on fresh lab hosts with traffic: one test for each scenario."""

from __future__ import annotations

import typing as t

import pytest

from tests.lab.images import LabError
from tests.scenarios import scene
from tests.scenarios.conftest import SAID
from tests.scenarios.every import SCENARIOS, Scenario


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[each.name for each in SCENARIOS])
def test_it_holds(
    scenario: Scenario, stage: scene.Scene, record_property: t.Callable[[str, object], None]
) -> None:
    try:
        record_property(SAID, scenario.play(stage))
    except (scene.Broken, LabError) as error:
        for host, text in scene.journals(stage).items():
            print(f"===== {host}\n{text}")
        pytest.fail(str(error), pytrace=False)
