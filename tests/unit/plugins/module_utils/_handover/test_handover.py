# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import handover
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import (
    transaction as transactions,
)


def test_the_copy_of_the_engine_runs_alone(tmp_path: Path) -> None:
    transaction = transactions.create({}, str(tmp_path))
    handover._copy_program(transaction)
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
    handover._copy_program(transaction)
    lib = Path(transaction.file("lib"))
    assert {transaction.path, str(lib), *map(str, lib.rglob("*"))} <= synced


def test_a_refusal_says_once_what_stands_in_the_way_of_every_strategy() -> None:
    refused = {"standby": ("no disk", "no user"), "restart": ("no disk",)}
    plan = types.SimpleNamespace(refused=refused)
    assert handover._refusal(plan, "auto").why == "no disk; standby: no user"
    assert handover._refusal(plan, "standby").why == "no disk; no user"


def test_a_refusal_names_the_strategies_that_the_host_allows() -> None:
    plan = types.SimpleNamespace(refused={"make_before_break": ("LACP",), "restart": ("no disk",)})
    refusal = handover._refusal(plan, "make_before_break")
    assert refusal.what == "this host cannot be handed over by make_before_break"
    assert refusal.hint == "It allows prefilled, standby: choose one of these, or auto"
    nothing = types.SimpleNamespace(refused=dict.fromkeys(handover.STRATEGIES, ("no disk",)))
    assert "choose" not in handover._refusal(nothing, "restart").hint


class FakeLauncher:
    """Which of the two programs are there."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.asked = 0

    def running(self, name: str) -> bool:
        self.asked += 1
        return name in self.names


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeLauncher:
    launch = FakeLauncher()
    monkeypatch.setattr(handover, "launcher", lambda: launch)
    monkeypatch.setattr(handover, "LOOK_INTERVAL", 0.0)
    monkeypatch.setattr(
        handover.ending,
        "roll_back",
        lambda found, _why: found.move(found.state, transactions.ROLLED_BACK),
    )
    return launch


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "transactions")


def test_a_transaction_that_somebody_begins_at_this_moment_is_left_alone(
    root: str, launch: FakeLauncher
) -> None:
    """Whoever makes it has its lock until the engine was started."""
    with transactions.making({}, root) as transaction, pytest.raises(transactions.Busy) as raised:
        handover.clear_away(root)
    assert f"{transaction.id} is being worked on" in str(raised.value)


def test_a_transaction_whose_engine_is_on_its_way_is_left_alone(root: str, launch: FakeLauncher) -> None:
    transaction = transactions.create({}, root)
    launch.names = {handover.guard.ENGINE}
    with pytest.raises(transactions.Busy):
        handover.clear_away(root)
    assert transaction.state == transactions.PREPARED


def test_a_transaction_whose_engine_never_came_is_undone(root: str, launch: FakeLauncher) -> None:
    transaction = transactions.create({}, root)
    handover.clear_away(root)
    assert transaction.finished


@pytest.mark.parametrize("name", [handover.guard.ENGINE, handover.guard.GUARD])
def test_one_who_waits_does_not_take_the_transaction_from_an_engine_that_is_slow_to_come(
    root: str, launch: FakeLauncher, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """However long it takes: the wall clock and the monotonic one may be hours later."""
    transaction = transactions.create({}, root)
    launch.names = {name}
    looks = itertools.count()

    def sleep(__: float) -> None:
        if next(looks) == 50:
            transaction.move(transactions.PREPARED, transactions.APPLIED)

    clock = itertools.count(0, 3600)
    fake = types.SimpleNamespace(monotonic=lambda: float(next(clock)), sleep=sleep)
    monkeypatch.setattr(handover, "time", fake)
    assert handover.wait(transaction) == transactions.APPLIED
    assert launch.asked >= 50


def test_one_who_waits_takes_it_back_when_neither_engine_nor_guard_is_there_any_more(
    root: str, launch: FakeLauncher
) -> None:
    transaction = transactions.create({}, root)
    assert handover.wait(transaction) == transactions.ROLLED_BACK


def test_what_has_ended_is_not_confirmed(root: str, launch: FakeLauncher) -> None:
    transaction = transactions.create({}, root)
    transaction.move(transactions.PREPARED, transactions.APPLIED)
    handover._require_alive(transaction)
    transaction.note(**{handover.ending.FORWARDS: {"ovs-vswitchd": [os.getpid(), 1]}})
    with pytest.raises(handover.HotUpgradeError, match=f"process {os.getpid()}, has ended"):
        handover._require_alive(transaction)


REQUEST = {"plan": {}, "confirm_timeout": 60}


def test_a_host_without_any_hand_over_has_nothing_to_settle(root: str) -> None:
    outcome = handover.settle(None, False, root)
    assert (outcome.changed, outcome.values) == (False, {})


def test_the_unfinished_hand_over_is_told_and_its_time_begins_anew(root: str, launch: FakeLauncher) -> None:
    transaction = transactions.create(REQUEST, root)
    transaction.move("prepared", "applied")
    assert handover.settle(None, True, root).values["deadline"] is None
    assert handover.lease.age(transaction) is None
    outcome = handover.settle(None, False, root)
    assert (outcome.changed, outcome.values["state"]) == (False, "applied")
    assert outcome.values["transaction"] == transaction.id
    assert outcome.values["deadline"].endswith("Z")
    assert handover.lease.age(transaction) is not None


def test_a_finished_one_is_told_as_it_is(root: str, launch: FakeLauncher) -> None:
    """A record of an older version of this collection, too, which says less."""
    transaction = transactions.create(REQUEST, root)
    transaction.note(proof={"traced": 2})
    transaction.move("prepared", "confirmed")
    outcome = handover.settle(None, False, root)
    assert (outcome.changed, outcome.values["state"], outcome.values["deadline"]) == (
        False,
        "confirmed",
        None,
    )


def test_settling_waits_for_the_engine(
    root: str, launch: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch.names = {handover.guard.ENGINE}
    transaction = transactions.create(REQUEST, root)
    monkeypatch.setattr(handover.time, "sleep", lambda _seconds: transaction.move("prepared", "applied"))
    told = handover.settle(None, True, root)
    assert (told.changed, told.values["state"]) == (False, "prepared")
    waited = handover.settle(None, False, root)
    assert (waited.changed, waited.values["state"]) == (True, "applied")


def test_settling_tries_again_to_undo_what_could_not_be_undone(root: str, launch: FakeLauncher) -> None:
    transactions.create(REQUEST, root).move("prepared", "failed")
    outcome = handover.settle(None, False, root)
    assert (outcome.changed, outcome.values["state"]) == (True, "rolled_back")


def test_one_that_still_cannot_be_undone_is_told_as_failed(
    root: str, launch: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover.ending, "roll_back", lambda found, _why: found.note(not_undone=["the flag"]))
    transactions.create(REQUEST, root).move("prepared", "failed")
    outcome = handover.settle(None, False, root)
    assert (outcome.changed, outcome.values["state"]) == (False, "failed")
    assert outcome.values["not_undone"] == ["the flag"]
