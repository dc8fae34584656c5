# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of the last rollout, as the role writes it, has written it, and as nobody has."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._info import rollouts

OLD: dict[str, t.Any] = {
    "id": "r1",
    "at": "2026-11-23T06:15:12Z",
    "packages": {"openvswitch-switch": "3.5.0-1"},
}
OVN = {"ovn-host": "25.03.0-1"}


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({**OLD, "ovn": OVN}, {**OLD, "ovn": OVN}),
        (OLD, {**OLD, "ovn": {}}),
        ({**OLD, "packages": 7}, None),
        ({**OLD, "ovn": "all"}, None),
        ({"id": "r1"}, None),
    ],
)
def test_what_is_told_of_the_last_rollout(tmp_path: Path, record: t.Any, told: t.Any) -> None:
    path = tmp_path / rollouts.RECORD
    assert rollouts.last(str(tmp_path)) is None
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record))
    assert rollouts.last(str(tmp_path)) == told
