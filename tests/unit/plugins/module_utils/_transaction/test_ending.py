# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import errno
import os
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import ending
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.operation import Operation
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    APPLIED,
    CONFIRMED,
    FAILED,
    PREPARED,
    ROLLED_BACK,
    ROLLING_BACK,
    Lost,
    Transaction,
)

Two = Operation[t.Any]


@pytest.fixture
def transaction(transaction: Transaction) -> Transaction:
    """One that is applied."""
    transaction.move(PREPARED, APPLIED)
    return transaction


@pytest.fixture
def operation(operation: Two) -> Two:
    """One whose work holds."""
    return dataclasses.replace(operation, ended_since=lambda __: None)


def test_a_rollback_that_was_interrupted_keeps_its_reason(operation: Two, transaction: Transaction) -> None:
    def killed(*__: object) -> t.NoReturn:
        raise SystemExit

    with pytest.raises(SystemExit):
        ending.roll_back(
            dataclasses.replace(operation, roll_back=killed), transaction, "nobody confirmed within 120 s"
        )
    assert transaction.state == ROLLING_BACK
    ending.roll_back(operation, transaction, "the engine was ended from outside")
    assert transaction.state == ROLLED_BACK
    assert transaction.read("result.json")["reason"] == "nobody confirmed within 120 s"


def test_one_that_cannot_even_be_looked_at_is_failed_not_forgotten(
    operation: Two, transaction: Transaction
) -> None:
    def broken(*__: object) -> t.Any:
        raise KeyError("rundir")

    ending.roll_back(dataclasses.replace(operation, context=broken), transaction, "why")
    assert transaction.state == FAILED
    assert "KeyError: 'rundir'" in transaction.read("result.json")["not_undone"][0]


def test_what_could_not_be_undone_is_tried_again_by_the_next(
    operation: Two, transaction: Transaction
) -> None:
    halfway = dataclasses.replace(operation, roll_back=lambda disk, state: ["the second file"])
    ending.roll_back(halfway, transaction, "why")
    assert (transaction.state, transaction.read("result.json")["not_undone"]) == (FAILED, ["the second file"])
    ending.roll_back(operation, transaction, "again")
    assert (transaction.state, transaction.read("result.json")["not_undone"]) == (ROLLED_BACK, [])


def test_the_state_before_is_told_to_whoever_undoes_it(operation: Two, transaction: Transaction) -> None:
    states: list[str] = []

    def roll_back(disk: t.Any, state: str) -> list[str]:
        states.append(state)
        return []

    ending.roll_back(dataclasses.replace(operation, roll_back=roll_back), transaction, "why")
    assert states == [APPLIED]


def test_what_another_version_has_begun_is_left_alone(operation: Two, transaction: Transaction) -> None:
    transaction.write("request.json", {**transaction.request, "format": 0})
    with pytest.raises(HotUpgradeError, match="version that began it"):
        ending.roll_back(operation, transaction, "why")
    assert transaction.state == APPLIED


def test_a_confirmation_that_cannot_clean_up_is_one(
    operation: Two, transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*__: object) -> None:
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(ending, "clean", full)
    ending.confirm(operation, transaction)
    assert transaction.state == CONFIRMED
    with pytest.raises(Lost):
        ending.roll_back(operation, transaction, "why")


def test_only_what_is_finished_is_cleaned(
    operation: Two, transaction: Transaction, boot_guards: t.Any
) -> None:
    for name in ("lib", "kept"):
        os.mkdir(transaction.file(name))
    ending.clean(operation, transaction)
    assert (boot_guards.removed, os.path.isdir(transaction.file("lib"))) == ([], True)
    transaction.move(APPLIED, ROLLED_BACK)
    ending.clean(operation, transaction)
    assert boot_guards.removed == [operation.name]
    assert os.path.isdir(transaction.file("kept"))  # a rollback leaves it
    assert not os.path.exists(transaction.file("lib"))
