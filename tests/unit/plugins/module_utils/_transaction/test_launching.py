# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import launching
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import Transaction

ENGINE, GUARD = "two_files-engine", "two_files-guard"


def test_the_guard_is_there_before_the_engine(transaction: Transaction, launch: t.Any) -> None:
    launching.start(transaction)
    assert list(launch.names) == [GUARD, ENGINE]
    assert launch.names[ENGINE][-3:] == [transaction.file("lib", "run.py"), "engine", transaction.path]
    assert launching.is_there(transaction)


def test_a_predecessor_that_does_not_end_does_not_stand_in_the_way(
    transaction: Transaction, launch: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch.start(ENGINE, ["the last one"])
    monkeypatch.setattr(launching, "PREDECESSOR", 0.0)
    launching.start(transaction)
    assert list(launch.names) == [GUARD, ENGINE]
    assert launch.names[ENGINE] != ["the last one"]


def test_the_engine_waits_for_its_guard(
    transaction: Transaction, launch: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.unlink(transaction.file(launching.WATCHED))
    monkeypatch.setattr(launching, "COMING", 0.0)
    with pytest.raises(HotUpgradeError, match="the guard watches"):
        launching.protect(transaction)
    os.close(os.open(transaction.file(launching.WATCHED), os.O_CREAT, 0o600))
    launching.protect(transaction)


@pytest.mark.parametrize("runs", [True, False])
def test_an_engine_that_nobody_starts_again_is_revived(
    transaction: Transaction, launch: t.Any, runs: bool
) -> None:
    if runs:
        launch.start(ENGINE, [])
    launching.revive(transaction)
    assert list(launch.names) == [ENGINE]
