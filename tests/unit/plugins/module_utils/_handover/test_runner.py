# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import types
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import ending, runner
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import lease
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import (
    transaction as transactions,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    APPLIED,
    ARMED,
    CONFIRMED,
    FAILED,
    PREPARED,
    ROLLED_BACK,
    ROLLING_BACK,
    Step,
    Transaction,
    create,
)


class FakeHost:
    """Enough for ``runner``."""

    rundir = "/nowhere"
    not_carried: t.ClassVar[list[str]] = []
    marks: t.ClassVar[dict[str, int]] = {}
    closing: t.ClassVar[list[Exception]] = []
    changes: t.ClassVar[dict[str, t.Any]] = {}
    deleted: t.ClassVar[frozenset[str]] = frozenset()

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction
        self.request = transaction.request
        self.living = types.SimpleNamespace(watched=bool(transaction.begun()))

    def leave_deleted(self) -> None: ...

    def watch_anew(self) -> None:
        self.living.watched = True

    def disconnect(self) -> None:
        for error in self.closing:
            raise error

    close = disconnect


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What the engine has done."""
    done: list[str] = []

    def roll_back(transaction: Transaction, reason: str, living: object = None) -> None:
        done.append(f"rolled back: {reason}")
        transaction.move(transaction.state, ROLLED_BACK)

    def steps_of(host: FakeHost) -> list[Step[t.Any]]:
        return [
            Step("a", lambda __: done.append("a")),
            Step("arm", lambda __: host.transaction.move(PREPARED, ARMED)),
        ]

    running = types.SimpleNamespace(process=Process(7, 8))
    monkeypatch.setattr(runner, "Host", FakeHost)
    monkeypatch.setattr(runner, "protect", lambda transaction: None)
    monkeypatch.setattr(runner, "steps_of", steps_of)
    monkeypatch.setattr(runner, "flush", lambda host: None)
    monkeypatch.setattr(runner, "look", lambda rundir, name: running)
    monkeypatch.setattr(runner, "roll_back", roll_back)
    monkeypatch.setattr(runner, "serve", lambda path, host, over: done.append("watched"))
    monkeypatch.setattr(runner, "confirm", lambda transaction: transaction.move(APPLIED, CONFIRMED))
    return done


@pytest.fixture
def transaction(tmp_path: Path) -> Transaction:
    return create({"confirm": "manual"}, str(tmp_path / "transactions"))


def test_the_engine_works_up_to_applied(transaction: Transaction, done: list[str]) -> None:
    runner.engine(transaction)
    assert (done, transaction.state) == (["a", "watched"], APPLIED)
    names = ("ovs-vswitchd", "ovsdb-server")
    assert ending.applied_processes(transaction) == dict.fromkeys(names, Process(7, 8))
    assert lease.age(transaction) is not None


@pytest.mark.parametrize("state", [ROLLED_BACK, CONFIRMED, FAILED])
def test_an_engine_that_comes_late_leaves_a_transaction_alone_that_is_not_its_own_any_more(
    transaction: Transaction, done: list[str], state: str
) -> None:
    transaction.move(PREPARED, state)
    runner.engine(transaction)
    assert (done, transaction.state) == ([], state)


def test_an_engine_that_is_started_again_when_all_is_applied_goes_on_watching(
    transaction: Transaction, done: list[str]
) -> None:
    transaction.move(PREPARED, APPLIED)
    runner.engine(transaction)
    assert (done, transaction.state) == (["watched"], APPLIED)


@pytest.mark.parametrize("state", [PREPARED, ARMED, ROLLING_BACK])
def test_an_engine_that_is_started_again_undoes_what_it_has_begun(
    transaction: Transaction, done: list[str], state: str
) -> None:
    transaction.log({"event": "begin", "step": "a"})
    transaction.move(PREPARED, state)
    runner.engine(transaction)
    assert done == [f"rolled back: {runner.DIED}"]


def test_an_engine_that_died_before_it_had_begun_begins(transaction: Transaction, done: list[str]) -> None:
    runner.engine(transaction)
    assert done == ["a", "watched"]


def test_an_error_that_nobody_has_foreseen_is_taken_back(
    transaction: Transaction, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(host: FakeHost) -> t.Any:
        raise KeyError("filled")

    monkeypatch.setattr(runner, "steps_of", broken)
    monkeypatch.setattr(FakeHost, "closing", [OSError("cannot close")])
    runner.engine(transaction)
    assert done[0].startswith("rolled back: KeyError: 'filled'")


@pytest.mark.parametrize("deleted", [frozenset(), frozenset({"br1"})])
def test_what_fails_since_somebody_has_deleted_a_bridge_is_tried_again(
    transaction: Transaction, done: list[str], monkeypatch: pytest.MonkeyPatch, deleted: frozenset[str]
) -> None:
    def lost(__: object) -> None:
        raise Unreachable("br1.mgmt: the connection was lost")

    monkeypatch.setattr(FakeHost, "deleted", deleted)
    monkeypatch.setattr(runner, "steps_of", lambda host: [Step("a", lost)])
    runner.engine(transaction)
    assert transaction.state == ROLLED_BACK
    assert bool((transaction.read("result.json") or {}).get(transactions.AGAIN)) is bool(deleted)


def test_a_request_that_nobody_can_read_is_not_tried_again_and_again(
    transaction: Transaction, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(__: Transaction) -> t.Any:
        raise KeyError("rundir")

    monkeypatch.setattr(runner, "Host", broken)
    with pytest.raises(KeyError):
        runner.engine(transaction)
    assert done[0].startswith("rolled back: KeyError: 'rundir'")


def test_a_full_disk_at_the_end_is_no_reason_to_go_back(
    transaction: Transaction, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*__: t.Any, **___: t.Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Transaction, "note", full)
    monkeypatch.setattr(lease, "renew", full)
    runner.engine(transaction)
    assert (done, transaction.state) == (["a", "watched"], APPLIED)


def test_a_recovery_that_is_started_again_has_nothing_to_do(
    transaction: Transaction, done: list[str]
) -> None:
    transaction.move(PREPARED, ROLLED_BACK)
    runner.recover(transaction)
    assert done == []


class FakeLauncher:
    """Starts nothing; the names that run."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.kind = "watcher"

    def running(self, name: str) -> bool:
        return name in self.names

    def start(self, name: str, argv: t.Sequence[str]) -> None:
        assert name not in self.names
        self.names.append(name)

    def disarm(self, name: str) -> None:
        self.names.remove(name)


def test_the_guard_is_there_before_the_engine(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = FakeLauncher()
    monkeypatch.setattr(runner, "launcher", lambda: launch)
    runner.start(transaction)
    assert launch.names == [runner.GUARD, runner.ENGINE]


def test_a_predecessor_that_does_not_end_does_not_stand_in_the_way(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = FakeLauncher(runner.ENGINE)
    monkeypatch.setattr(runner, "launcher", lambda: launch)
    monkeypatch.setattr(runner, "PREDECESSOR", 0.0)
    runner.start(transaction)
    assert launch.names == [runner.GUARD, runner.ENGINE]


def test_the_engine_waits_for_its_guard(transaction: Transaction, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "launcher", FakeLauncher)
    monkeypatch.setattr(runner, "COMING", 0.0)
    with pytest.raises(transactions.HotUpgradeError, match="the guard watches"):
        runner.protect(transaction)
    os.close(os.open(transaction.file(runner.WATCHED), os.O_CREAT, 0o600))
    runner.protect(transaction)


@pytest.mark.parametrize("runs", [True, False])
def test_an_engine_that_nobody_starts_again_is_revived(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch, runs: bool
) -> None:
    launch = FakeLauncher(*[runner.ENGINE] * runs)
    monkeypatch.setattr(runner, "launcher", lambda: launch)
    runner.revive(transaction)
    assert launch.names == [runner.ENGINE]
