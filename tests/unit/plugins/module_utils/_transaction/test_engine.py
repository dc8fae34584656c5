# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import engine, lease
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.operation import Operation
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.step import Step
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    APPLIED,
    ARMED,
    CONFIRMED,
    FAILED,
    PREPARED,
    ROLLED_BACK,
    ROLLING_BACK,
    Transaction,
)

Two = Operation[t.Any]


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the engine has done."""
    done: list[str] = []

    def roll_back(operation: Two, transaction: Transaction, reason: str, failed: object = None) -> None:
        done.append(f"rolled back: {reason}")
        transaction.move(transaction.state, ROLLED_BACK)

    monkeypatch.setattr(engine, "roll_back", roll_back)
    return done


@pytest.fixture
def operation(operation: Two, done: list[str]) -> Two:
    """One that writes down what it does."""

    def steps(disk: t.Any) -> list[Step[t.Any]]:
        return [
            Step("a", lambda __: done.append("a")),
            Step("arm", lambda __: disk.transaction.move(PREPARED, ARMED)),
        ]

    return dataclasses.replace(operation, steps=steps, watch=lambda disk, over: done.append("watched"))


def test_the_engine_works_up_to_applied(operation: Two, transaction: Transaction, done: list[str]) -> None:
    engine.engine(operation, transaction)
    assert (done, transaction.state) == (["a", "watched"], APPLIED)
    assert transaction.read("result.json")["timeline"][0]["step"] == "a"
    assert lease.age(transaction) is not None


def test_nobody_is_asked_where_nobody_is_to_be(
    operation: Two, transaction: Transaction, done: list[str]
) -> None:
    transaction.write("request.json", {**transaction.request, "confirm": "none"})
    engine.engine(operation, transaction)
    assert (done, transaction.state) == (["a"], CONFIRMED)


@pytest.mark.parametrize("state", [ROLLED_BACK, CONFIRMED, FAILED])
def test_an_engine_that_comes_late_leaves_a_transaction_alone_that_is_not_its_own_any_more(
    operation: Two, transaction: Transaction, done: list[str], state: str
) -> None:
    transaction.move(PREPARED, state)
    engine.engine(operation, transaction)
    assert (done, transaction.state) == ([], state)


def test_an_engine_that_is_started_again_when_all_is_applied_goes_on_watching(
    operation: Two, transaction: Transaction, done: list[str]
) -> None:
    transaction.move(PREPARED, APPLIED)
    engine.engine(operation, transaction)
    assert (done, transaction.state) == (["watched"], APPLIED)


@pytest.mark.parametrize("state", [PREPARED, ARMED, ROLLING_BACK])
def test_an_engine_that_is_started_again_undoes_what_it_has_begun(
    operation: Two, transaction: Transaction, done: list[str], state: str
) -> None:
    transaction.log({"event": "begin", "step": "a"})
    transaction.move(PREPARED, state)
    engine.engine(operation, transaction)
    assert done == [f"rolled back: {engine.DIED}"]


def test_an_engine_that_died_before_it_had_begun_begins(
    operation: Two, transaction: Transaction, done: list[str]
) -> None:
    engine.engine(operation, transaction)
    assert done == ["a", "watched"]


def test_an_error_that_nobody_has_foreseen_is_taken_back(
    operation: Two, transaction: Transaction, done: list[str]
) -> None:
    def broken(__: object) -> t.Any:
        raise KeyError("filled")

    def failed(__: object) -> None:
        raise OSError("cannot close")

    engine.engine(dataclasses.replace(operation, steps=broken, failed=failed), transaction)
    assert done[0].startswith("rolled back: KeyError: 'filled'")


def test_what_must_not_be_applied_is_taken_back(
    operation: Two, transaction: Transaction, done: list[str]
) -> None:
    def conclude(__: object) -> t.Any:
        raise OSError("the disk does not take it")

    engine.engine(dataclasses.replace(operation, conclude=conclude), transaction)
    assert done == ["a", "rolled back: the disk does not take it"]


def test_a_request_that_nobody_can_read_is_not_tried_again_and_again(
    operation: Two, transaction: Transaction, done: list[str]
) -> None:
    def broken(*__: object) -> t.Any:
        raise KeyError("rundir")

    with pytest.raises(KeyError):
        engine.engine(dataclasses.replace(operation, context=broken), transaction)
    assert done[0].startswith("rolled back: KeyError: 'rundir'")


def test_a_full_disk_at_the_end_is_no_reason_to_go_back(
    operation: Two, transaction: Transaction, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*__: t.Any, **___: t.Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Transaction, "note", full)
    monkeypatch.setattr(lease, "renew", full)
    engine.engine(operation, transaction)
    assert (done, transaction.state) == (["a", "watched"], APPLIED)
