# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import os
import shutil
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base import clock
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import guard, launching, lease
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import (
    transaction as transactions,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.operation import Operation
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    APPLIED,
    ARMED,
    FAILED,
    PREPARED,
    ROLLED_BACK,
    ROLLING_BACK,
    Transaction,
)

Two = Operation[t.Any]
ENGINE = "two_files-engine"


@pytest.fixture
def operation(operation: Two) -> Two:
    """What was applied holds, unless a test says differently."""
    return dataclasses.replace(operation, ended_since=lambda __: None)


@pytest.fixture
def taken_back(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The reasons of rollbacks."""
    reasons: list[str] = []

    def roll_back(operation: Two, transaction: Transaction, reason: str) -> None:
        reasons.append(reason)
        transaction.move(transaction.state, ROLLED_BACK)

    monkeypatch.setattr(guard, "roll_back", roll_back)
    return reasons


def let_pass(transaction: Transaction, seconds: float) -> None:
    at = time.monotonic() - seconds
    Path(transaction.file(lease.NAME)).write_text(f"{clock.boot_id()} {at:020.6f}\n")


@pytest.mark.parametrize("state", [PREPARED, ARMED, ROLLING_BACK])
def test_what_a_dead_engine_has_left_is_undone(
    operation: Two, transaction: Transaction, taken_back: list[str], state: str
) -> None:
    transaction.log({"event": "begin", "step": "a"})
    transaction.move(PREPARED, state)
    guard.guard(operation, transaction)
    assert taken_back == [guard.DIED]
    assert os.path.exists(transaction.file(launching.WATCHED))


def test_an_engine_that_is_on_its_way_is_waited_for(
    operation: Two, transaction: Transaction, taken_back: list[str], launch: t.Any
) -> None:
    launch.start(ENGINE, [])
    watch = guard.Watch(operation, transaction)
    watch.intervene()
    assert (taken_back, transaction.state) == ([], PREPARED)
    watch.asked = 0.0
    launch.disarm(ENGINE)
    watch.intervene()
    assert taken_back == [guard.DIED]


def test_an_engine_that_never_comes_is_ended_before_the_transaction_is_taken_from_it(
    operation: Two, transaction: Transaction, taken_back: list[str], launch: t.Any
) -> None:
    launch.start(ENGINE, [])
    watch = guard.Watch(operation, transaction, waits_since=time.monotonic() - launching.COMING - 1)
    watch.intervene()
    assert taken_back == [guard.DIED]
    assert not launch.names


def test_one_that_is_at_work_is_left_alone(
    operation: Two, transaction: Transaction, taken_back: list[str]
) -> None:
    with transaction.at_work():
        guard.Watch(operation, transaction).intervene()
    assert taken_back == []


def test_one_that_hangs_is_ended_and_the_step_is_named(
    operation: Two, transaction: Transaction, taken_back: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction.log({"event": "begin", "step": "cut over"})
    with transactions._locked(transaction.file(transactions.LOCK)) as mine:
        assert mine

        def end_hung(name: str, seconds: float) -> float:
            assert (name, seconds) == (transaction.id, transactions.HUNG)
            monkeypatch.setattr(
                transactions, "_locked", lambda path: transactions.contextlib.nullcontext(True)
            )
            return 301.0

        monkeypatch.setattr(transactions, "end_hung", end_hung)
        guard.Watch(operation, transaction).intervene()
    assert taken_back == ["the engine has made no progress for 301 s in the step 'cut over' and was ended"]


def test_what_nobody_confirms_in_time_is_rolled_back(
    operation: Two, transaction: Transaction, taken_back: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction.move(PREPARED, APPLIED)
    watch = guard.Watch(operation, transaction)
    let_pass(transaction, 30)
    monkeypatch.setattr(time, "time", lambda: 1e10)  # a clock that was set forward
    watch.intervene()
    assert taken_back == []
    let_pass(transaction, 61)
    watch.intervene()
    assert taken_back == ["nobody confirmed within 60 s"]


def test_without_a_lease_the_time_begins_when_the_guard_sees_it(
    operation: Two, transaction: Transaction, taken_back: list[str]
) -> None:
    transaction.move(PREPARED, APPLIED)
    os.unlink(transaction.file(lease.NAME))
    watch = guard.Watch(operation, transaction)
    watch.intervene()
    assert taken_back == []
    watch.waits_since = time.monotonic() - 61
    watch.intervene()
    assert taken_back == ["nobody confirmed within 60 s"]


def test_what_does_not_hold_any_more_is_not_waited_for(
    operation: Two, transaction: Transaction, taken_back: list[str]
) -> None:
    transaction.move(PREPARED, APPLIED)
    guard.guard(dataclasses.replace(operation, ended_since=lambda __: "it has ended"), transaction)
    assert taken_back == ["it has ended before anybody confirmed"]


@pytest.mark.parametrize("error", [ValueError("x"), OSError(28, "No space"), KeyError("x")], ids=repr)
def test_nothing_that_goes_wrong_ends_the_guard(
    operation: Two, transaction: Transaction, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    transaction.log({"event": "begin", "step": "a"})
    monkeypatch.setattr(guard, "LONGEST_PAUSE", 0.0)
    tries = []

    def roll_back(operation: Two, transaction: Transaction, reason: str) -> None:
        tries.append(reason)
        if len(tries) < 3:
            raise error
        transaction.move(PREPARED, FAILED)

    monkeypatch.setattr(guard, "roll_back", roll_back)
    guard.guard(operation, transaction)
    assert len(tries) == 3


def test_the_guard_of_a_transaction_that_is_gone_ends(operation: Two, transaction: Transaction) -> None:
    shutil.rmtree(transaction.path)
    guard.guard(operation, transaction)


def test_what_others_have_left_is_cleaned_up(
    operation: Two, transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever confirmed may have been ended before it had cleaned up."""
    cleaned: list[t.Any] = []
    monkeypatch.setattr(guard, "clean", lambda __, found: cleaned.append(found))
    transaction.move(PREPARED, ROLLED_BACK)
    guard.guard(operation, transaction)
    assert cleaned == [transaction]
