# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import itertools
import os
import types
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import (
    connected,
    launching,
    lease,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.operation import Operation
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    APPLIED,
    CONFIRMED,
    FAILED,
    PREPARED,
    ROLLED_BACK,
    Busy,
    Refused,
    Transaction,
    create,
    making,
)

Two = Operation[t.Any]
ENGINE, GUARD = "two_files-engine", "two_files-guard"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the transaction's own copy was asked to do, which it does."""
    asked: list[str] = []

    def ask(transaction: Transaction, role: str, present: object) -> None:
        asked.append(role)
        transaction.move(transaction.state, CONFIRMED if role == "confirm" else ROLLED_BACK)

    monkeypatch.setattr(connected, "LOOK_INTERVAL", 0.0)
    monkeypatch.setattr(connected.own_copy, "ask", ask)
    return asked


def test_one_is_begun_with_its_own_code_and_its_time(
    root: str, operation: Two, request_of_two_files: dict[str, t.Any], launch: t.Any
) -> None:
    transaction = connected.begin(
        operation, request_of_two_files, root, argv=lambda transaction, role: [role, transaction.id]
    )
    assert transaction.state == PREPARED
    assert launch.names == {GUARD: ["guard", transaction.id], ENGINE: ["engine", transaction.id]}
    assert os.path.exists(transaction.file("lib", "run.py"))
    assert lease.age(transaction) is not None
    assert not transaction.running()


def test_one_that_somebody_begins_at_this_moment_is_left_alone(
    root: str, operation: Two, request_of_two_files: dict[str, t.Any], asked: list[str]
) -> None:
    """Whoever makes it has its lock until the engine was started, and may not have copied its code yet."""
    with making(request_of_two_files, root) as transaction, pytest.raises(Busy) as raised:
        connected.clear_away(operation, root)
    assert f"{transaction.id} is being worked on" in str(raised.value)
    assert "ovs_two_files" in raised.value.hint
    assert asked == []


def test_one_that_waits_for_its_confirmation_is_left_alone(
    root: str, operation: Two, transaction: Transaction, asked: list[str]
) -> None:
    transaction.move(PREPARED, APPLIED)
    with pytest.raises(Busy):
        connected.clear_away(operation, root)
    assert asked == []


def test_one_whose_engine_never_came_is_undone(
    root: str, operation: Two, transaction: Transaction, asked: list[str]
) -> None:
    connected.clear_away(operation, root)
    assert (asked, transaction.state) == (["abandon"], ROLLED_BACK)


def test_what_cannot_be_undone_stands_in_the_way(
    root: str, operation: Two, transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(transaction: Transaction, role: str, present: object) -> None:
        transaction.note(not_undone=["the second file"])
        transaction.move(transaction.state, FAILED)

    monkeypatch.setattr(connected.own_copy, "ask", ask)
    with pytest.raises(Refused, match="the second file"):
        connected.clear_away(operation, root)


@pytest.mark.parametrize("name", [ENGINE, GUARD])
def test_one_who_waits_does_not_take_the_transaction_from_an_engine_that_is_slow_to_come(
    operation: Two,
    transaction: Transaction,
    launch: t.Any,
    asked: list[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """However long it takes: the wall clock and the monotonic one may be hours later."""
    launch.start(name, [])
    looks = itertools.count()

    def sleep(__: float) -> None:
        if next(looks) == 50:
            transaction.move(PREPARED, APPLIED)

    clock = itertools.count(0, 3600)
    fake = types.SimpleNamespace(monotonic=lambda: float(next(clock)), sleep=sleep)
    monkeypatch.setattr(connected, "time", fake)
    assert connected.wait(transaction, operation) == APPLIED
    assert asked == []


def test_one_who_waits_has_it_undone_when_neither_engine_nor_guard_is_there_any_more(
    operation: Two, transaction: Transaction, launch: t.Any, asked: list[str]
) -> None:
    assert connected.wait(transaction, operation) == ROLLED_BACK
    assert asked == ["abandon"]


def test_settling_waits_for_the_engine(
    operation: Two, transaction: Transaction, launch: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch.start(ENGINE, [])
    os.unlink(transaction.file(lease.NAME))
    monkeypatch.setattr(connected.time, "sleep", lambda __: transaction.move(PREPARED, APPLIED))
    connected.settle(transaction, operation)
    assert transaction.state == APPLIED
    assert lease.age(transaction) is not None


@pytest.mark.parametrize("watched", [True, False])
def test_one_that_waits_for_its_confirmation_without_a_guard_is_looked_after(
    operation: Two, transaction: Transaction, launch: t.Any, asked: list[str], watched: bool
) -> None:
    """A host without a service manager was rebooted: nothing of ours was started."""
    transaction.move(PREPARED, APPLIED)
    if watched:
        launch.start(GUARD, [])
    connected.settle(transaction, operation)
    assert asked == ([] if watched else ["look-after"])


def test_the_last_one_is_told_where_nobody_names_one(
    root: str, request_of_two_files: dict[str, t.Any]
) -> None:
    assert connected.latest(None, "two_files", root) is None
    first = create(request_of_two_files, root)
    assert connected.latest(None, "two_files", root) == first
    first.move(PREPARED, CONFIRMED)
    assert connected.latest(None, "two_files", root) == first
    assert connected.latest(first.id, "two_files", root) == first
    assert connected.latest(None, "handover", root) is None
    assert launching.program_name(first.operation, "engine") == ENGINE


def test_only_what_is_unfinished_is_ended_without_a_name(
    root: str, request_of_two_files: dict[str, t.Any]
) -> None:
    first = create(request_of_two_files, root)
    assert connected.named(None, "two_files", root) == first
    with pytest.raises(Refused, match="there is no transaction to end"):
        connected.named(None, "handover", root)
    with pytest.raises(Refused, match="Use ovs_two_files"):
        connected.named(first.id, "handover", root)
    first.move(PREPARED, CONFIRMED)
    with pytest.raises(Refused, match="there is no transaction to end"):
        connected.named(None, "two_files", root)
