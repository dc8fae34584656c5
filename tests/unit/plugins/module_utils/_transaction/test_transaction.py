# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import stat
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
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
    Busy,
    Lost,
    create,
)

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "transactions")


def test_of_two_that_leave_a_state_exactly_one_wins(root: str) -> None:
    transaction = create({}, root)
    transaction.move(PREPARED, ARMED)
    transaction.move(ARMED, APPLIED)
    results = FORK.Queue()
    barrier = FORK.Barrier(2)

    def leave(new: str) -> None:
        barrier.wait()
        try:
            transaction.move(APPLIED, new)
        except Lost:
            results.put(None)
        else:
            results.put(new)

    racers = [FORK.Process(target=leave, args=(new,)) for new in (CONFIRMED, ROLLING_BACK)]
    for racer in racers:
        racer.start()
    found = [results.get(timeout=30) for __ in racers]
    for racer in racers:
        racer.join(30)
    assert sorted(found, key=str).count(None) == 1
    assert transaction.state in found


def test_a_second_transaction_is_refused_with_the_first_ones_id(root: str) -> None:
    first = create({}, root)
    with pytest.raises(Busy, match=first.id) as caught:
        create({}, root)
    assert caught.value.transaction == first
    with first.at_work(), pytest.raises(Busy, match="is being worked on"):
        create({}, root)


@pytest.mark.parametrize("last", [CONFIRMED, ROLLED_BACK])
def test_a_finished_transaction_does_not_stand_in_the_way(root: str, last: str) -> None:
    first = create({}, root)
    first.move(PREPARED, last)
    assert create({}, root).id != first.id


def test_a_failed_transaction_stands_in_the_way(root: str) -> None:
    first = create({}, root)
    first.move(PREPARED, FAILED)
    with pytest.raises(Busy, match=f"{first.id}.*state failed"):
        create({}, root)


def test_one_that_hangs_is_ended_by_the_next(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    transaction = create({}, root)
    ready, tell = FORK.Pipe(duplex=False)

    def hang() -> None:
        with transaction.at_work():
            tell.send(None)
            signal.pause()

    process = FORK.Process(target=hang)
    process.start()
    ready.recv()
    with pytest.raises(Busy), transaction.at_work(patience=0.0):
        pass
    monkeypatch.setattr(transactions, "HUNG", 0.0)
    with transaction.at_work(patience=0.0) as hung:
        assert hung is not None
    process.join(30)
    assert process.exitcode == -signal.SIGKILL


def test_one_that_is_made_has_somebody_who_works_on_it(root: str) -> None:
    with transactions.making({}, root) as transaction:
        assert transaction.running()
        assert transactions.find(transaction.id, root) == transaction
    assert not transaction.running()


def test_a_state_that_is_read_while_it_is_renamed(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    transaction = create({}, root)
    seen = iter([["state.prepared", "state.armed"], [], ["state.armed"]])
    monkeypatch.setattr(os, "listdir", lambda __: next(seen))
    assert transaction.state == ARMED


def test_two_engines_cannot_work_on_one_transaction(root: str) -> None:
    transaction = create({}, root)
    with transaction.at_work():
        assert transaction.running()
        with pytest.raises(Busy), transaction.at_work(patience=0.0):
            pass
    assert not transaction.running()


def test_only_root_can_read_it(root: str) -> None:
    transaction = create({"secret": "x"}, root)
    transaction.note(reason="none")
    transaction.log({"event": "begin", "step": "a"})
    modes = {
        name: stat.S_IMODE(os.stat(transaction.file(name)).st_mode) for name in os.listdir(transaction.path)
    }
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(os.stat(transaction.path).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(root).st_mode) == 0o700


def test_old_records_and_drafts_of_the_dead_go(root: str) -> None:
    for __ in range(transactions.KEPT_RECORDS + 3):
        create({}, root).move(PREPARED, CONFIRMED)
    draft = os.path.join(root, ".draft-dead")
    os.mkdir(draft)
    create({}, root)
    assert len(transactions.transactions(root)) == transactions.KEPT_RECORDS + 1
    assert not os.path.exists(draft)


def test_records_of_more_than_a_year_go(root: str) -> None:
    old = create({}, root)
    old.move(PREPARED, CONFIRMED)
    os.rename(old.path, os.path.join(root, "20200101T000000Z-abcdef"))
    new = create({}, root)
    assert [each.id for each in transactions.transactions(root)] == [new.id]


def test_an_unknown_transaction_is_refused_with_those_that_are_known(root: str) -> None:
    known = create({}, root)
    with pytest.raises(HotUpgradeError, match=known.id):
        transactions.find("nonsense", root)


def test_a_result_is_replaced_whole(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    transaction = create({}, root)
    transaction.note(reason="first")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        transaction.note(reason="second")
    monkeypatch.undo()
    assert transaction.read("result.json") == {"reason": "first"}
    assert not [name for name in os.listdir(transaction.path) if name.startswith(".draft")]
