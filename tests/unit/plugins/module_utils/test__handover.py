# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils import _handover
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils import _transaction as transactions


def test_the_copy_of_the_engine_runs_alone(tmp_path: Path) -> None:
    transaction = transactions.create({}, str(tmp_path))
    _handover._copy_program(transaction)
    argv = [sys.executable, transaction.file("lib", "run.py"), "no role", "nowhere"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "KeyError: 'no role'"


def test_the_copy_of_the_engine_survives_a_power_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction = transactions.create({}, str(tmp_path))
    synced = set()
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    _handover._copy_program(transaction)
    lib = Path(transaction.file("lib"))
    assert {transaction.path, str(lib), *map(str, lib.rglob("*"))} <= synced


def test_a_refusal_says_once_what_stands_in_the_way_of_every_strategy() -> None:
    refused = {"standby": ("no disk", "no user"), "restart": ("no disk",)}
    plan = types.SimpleNamespace(refused=refused)
    assert _handover._refusal(plan, "auto").why == "no disk; standby: no user"
    assert _handover._refusal(plan, "standby").why == "no disk; no user"


def test_a_transaction_that_somebody_begins_at_this_moment_is_left_alone(tmp_path: Path) -> None:
    """Its engine takes the lock a moment after the transaction is there; until then nobody is to undo it."""
    transaction = transactions.create({}, str(tmp_path))
    with pytest.raises(transactions.Busy, match="a second hand-over") as raised:
        _handover.clear_away(str(tmp_path))
    assert f"{transaction.id} is being begun" in str(raised.value)


def test_a_transaction_whose_engine_never_came_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction = transactions.create({}, str(tmp_path))
    old = transaction.since + transactions.PATIENCE + 1
    monkeypatch.setattr(_handover.time, "time", lambda: old)
    monkeypatch.setattr(
        _handover._runner, "roll_back", lambda found, _why: found.move("prepared", "rolled_back")
    )
    _handover.clear_away(str(tmp_path))
    assert transaction.finished
