# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import shutil
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base import clock
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import ending, guard
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import process as _process
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import lease
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import (
    transaction as transactions,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    APPLIED,
    ARMED,
    FAILED,
    PREPARED,
    ROLLED_BACK,
    ROLLING_BACK,
    Transaction,
    create,
)


class FakeLauncher:
    """Knows whether the engine is there."""

    def __init__(self) -> None:
        self.engine = False

    def running(self, name: str) -> bool:
        assert name == guard.ENGINE
        return self.engine

    def disarm(self, name: str) -> None:
        assert name == guard.ENGINE
        self.engine = False


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> FakeLauncher:
    found = FakeLauncher()
    monkeypatch.setattr(guard, "launcher", lambda: found)
    return found


@pytest.fixture
def taken_back(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The reasons of rollbacks."""
    reasons: list[str] = []

    def roll_back(transaction: Transaction, reason: str) -> None:
        reasons.append(reason)
        transaction.move(transaction.state, ROLLED_BACK)

    monkeypatch.setattr(guard, "roll_back", roll_back)
    monkeypatch.setattr(guard, "clean", lambda transaction: None)
    return reasons


@pytest.fixture
def transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launch: FakeLauncher) -> Transaction:
    monkeypatch.setattr(guard, "INTERVAL", 0.0)
    transaction = create({"confirm_timeout": 60.0}, str(tmp_path / "transactions"))
    lease.renew(transaction)
    return transaction


def applied(transaction: Transaction, process: _process.Process | None = None) -> None:
    transaction.move(PREPARED, APPLIED)
    found = process or _process.identify(os.getpid())
    assert found
    transaction.note(**{ending.FORWARDS: {"ovs-vswitchd": [found.pid, found.started]}})


def let_pass(transaction: Transaction, seconds: float) -> None:
    at = time.monotonic() - seconds
    Path(transaction.file(lease.NAME)).write_text(f"{clock.boot_id()} {at:020.6f}\n")


@pytest.mark.parametrize("state", [PREPARED, ARMED, ROLLING_BACK])
def test_what_a_dead_engine_has_left_is_undone(
    transaction: Transaction, taken_back: list[str], state: str
) -> None:
    transaction.log({"event": "begin", "step": "a"})
    transaction.move(PREPARED, state)
    guard.guard(transaction)
    assert taken_back == [guard.DIED]
    assert os.path.exists(transaction.file(guard.WATCHED))


def test_an_engine_that_is_on_its_way_is_waited_for(
    transaction: Transaction, taken_back: list[str], launch: FakeLauncher
) -> None:
    launch.engine = True
    watch = guard.Watch(transaction)
    watch.look()
    assert (taken_back, transaction.state) == ([], PREPARED)
    watch.asked, launch.engine = 0.0, False
    watch.look()
    assert taken_back == [guard.DIED]


def test_an_engine_that_never_comes_is_ended_before_the_transaction_is_taken_from_it(
    transaction: Transaction, taken_back: list[str], launch: FakeLauncher
) -> None:
    launch.engine = True
    watch = guard.Watch(transaction, waits_since=time.monotonic() - guard.COMING - 1)
    watch.look()
    assert taken_back == [guard.DIED]
    assert not launch.engine


def test_one_that_is_at_work_is_left_alone(transaction: Transaction, taken_back: list[str]) -> None:
    with transaction.engine():
        guard.Watch(transaction).look()
    assert taken_back == []


def test_one_that_hangs_is_ended_and_the_step_is_named(
    transaction: Transaction, taken_back: list[str], monkeypatch: pytest.MonkeyPatch
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
        guard.Watch(transaction).look()
    assert taken_back == ["the engine has made no progress for 301 s in the step 'cut over' and was ended"]


def test_what_nobody_confirms_in_time_is_rolled_back(
    transaction: Transaction, taken_back: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    applied(transaction)
    watch = guard.Watch(transaction)
    let_pass(transaction, 30)
    monkeypatch.setattr(time, "time", lambda: 1e10)  # a clock that was set forward
    watch.look()
    assert taken_back == []
    let_pass(transaction, 61)
    watch.look()
    assert taken_back == ["nobody confirmed within 60 s"]


def test_without_a_lease_the_time_begins_when_the_guard_sees_it(
    transaction: Transaction, taken_back: list[str]
) -> None:
    applied(transaction)
    os.unlink(transaction.file(lease.NAME))
    watch = guard.Watch(transaction)
    watch.look()
    assert taken_back == []
    watch.waits_since = time.monotonic() - 61
    watch.look()
    assert taken_back == ["nobody confirmed within 60 s"]


def test_a_new_process_that_dies_before_the_confirmation_is_not_waited_for(
    transaction: Transaction, taken_back: list[str]
) -> None:
    applied(transaction, _process.Process(os.getpid(), 1))
    guard.guard(transaction)
    words = (
        f"the ovs-vswitchd that was handed over to, process {os.getpid()}, has ended before anybody confirmed"
    )
    assert taken_back == [words]


@pytest.mark.parametrize("error", [ValueError("x"), OSError(28, "No space"), KeyError("x")], ids=repr)
def test_nothing_that_goes_wrong_ends_the_guard(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    transaction.log({"event": "begin", "step": "a"})
    monkeypatch.setattr(guard, "LONGEST_PAUSE", 0.0)
    monkeypatch.setattr(guard, "clean", lambda transaction: None)
    tries = []

    def roll_back(transaction: Transaction, reason: str) -> None:
        tries.append(reason)
        if len(tries) < 3:
            raise error
        transaction.move(PREPARED, FAILED)

    monkeypatch.setattr(guard, "roll_back", roll_back)
    guard.guard(transaction)
    assert len(tries) == 3


def test_the_guard_of_a_transaction_that_is_gone_ends(transaction: Transaction) -> None:
    shutil.rmtree(transaction.path)
    guard.guard(transaction)


def test_what_others_have_left_is_cleaned_up(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever confirmed may have been ended before it had cleaned up."""
    cleaned: list[t.Any] = []
    monkeypatch.setattr(guard, "clean", cleaned.append)
    transaction.move(PREPARED, ROLLED_BACK)
    guard.guard(transaction)
    assert cleaned == [transaction]
