# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rollout as JSON."""

from __future__ import annotations

import json
import math
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils import document
from tests.unit.plugins.plugin_utils import rollouts
from tests.unit.plugins.plugin_utils.rollouts import HANDOVER, Told


def written(told: Told) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", json.loads(document.document(*told.seen())))


def test_a_program_finds_all_of_it() -> None:
    found = written(rollouts.bad())
    assert (found["format"], found["version"], found["state"]) == ("ovsops.hot_upgrade.rollout", 1, "ended")
    assert found["rollout"] == "20261128T030405Z"
    assert found["began"] == "2026-11-28T03:04:05.000+00:00"
    assert found["verdict"]["headline"] == "Stopped: 2 of 6 hosts failed"
    assert found["verdict"]["actions"][0]["commands"][0][0] == "keep the new version"
    assert [len(batch["hosts"]) for batch in found["batches"]] == [1, 4]
    assert found["batches_to_come"] == [1]
    assert found["totals"]["lost_established"] == 71
    by_name = {host["host"][-15:-12]: host for host in found["hosts"]}
    assert by_name["u02"]["result"]["traffic"]["established"]["around_gap"]["points"]
    assert (by_name["u04"]["failed_in"], by_name["u04"]["handover"]["state"]) == ("hand-over", "rolled_back")
    assert by_name["u04"]["reasons"] == rollouts.REASONS
    assert (by_name["u06"]["outcome"], by_name["u06"]["batch"], by_name["u06"]["result"]) == (
        "untouched",
        None,
        None,
    )
    assert by_name["u01"]["steps"][0] == {
        "name": "begin", "began": "2026-11-28T03:04:05.000+00:00", "ended": "2026-11-28T03:04:07.040+00:00",
    }  # fmt: skip


def test_whatever_a_host_tells_can_be_written() -> None:
    told = Told()
    told.batch(["a"], ["a"], [1])
    told.step("a", "handover")
    strange = {"bytes": b"x", "set": {1}, "nan": math.nan}
    told.collector.told("a", HANDOVER, {"plan": strange, "transaction": "t", "timeline": strange})
    document.document(*told.seen())


def test_a_moment_that_is_not_known() -> None:
    assert document.moment(None) is None
