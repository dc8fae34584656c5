# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host tells of its protection between rollouts."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.clock import boot_id
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import protection

RECORD = {
    "since": "2026-11-23T06:15:00Z",
    "packages": ["openvswitch-switch"],
    "boot": boot_id(),
    "daemons": {"ovs-vswitchd": "7-100", "ovsdb-server": "8-90"},
}


def look(place: Path, record: t.Any, **now: str | None) -> dict[str, t.Any] | None:
    path = place / protection.RECORD
    path.parent.mkdir(parents=True)
    path.write_text(record if isinstance(record, str) else json.dumps(record))
    identities = {"ovs-vswitchd": "7-100", "ovsdb-server": "8-90"}
    return protection.look(
        {**identities, **{name.replace("_", "-"): each for name, each in now.items()}}, str(place)
    )


def test_what_runs_as_it_was_left(tmp_path: Path) -> None:
    assert look(tmp_path, RECORD) == {
        "since": "2026-11-23T06:15:00Z", "packages": ["openvswitch-switch"], "restarted": [],
    }  # fmt: skip


@pytest.mark.parametrize("now", ["7-101", None])
def test_a_daemon_that_is_another_process_or_none_is_named(tmp_path: Path, now: str | None) -> None:
    found = look(tmp_path, RECORD, ovs_vswitchd=now)
    assert found is not None
    assert found["restarted"] == ["ovs-vswitchd"]


def test_a_reboot_is_no_restart(tmp_path: Path) -> None:
    found = look(tmp_path, {**RECORD, "boot": "another"}, ovs_vswitchd="1-1")
    assert found is not None
    assert found["restarted"] == []


@pytest.mark.parametrize("record", ["", "7", "[]", "{}", {**RECORD, "daemons": 7}, {**RECORD, "packages": 7}])
def test_a_record_that_cannot_be_read_is_none(tmp_path: Path, record: t.Any) -> None:
    assert look(tmp_path, record) is None
