# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fake host (a JSON file) is changed by steps; processes are killed before and after each of them."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import stat
import typing as t
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
    Step,
    Transaction,
    create,
    run,
    undo,
)

FORK = multiprocessing.get_context("fork")


class FakeHost:
    """Named switches that are on or off; what is on survives the process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on(self) -> list[str]:
        return t.cast("list[str]", json.loads(self.path.read_text())) if self.path.exists() else []

    def turn_on(self, name: str) -> None:
        self.path.write_text(json.dumps([*self.on(), name]))

    def turn_off(self, name: str) -> None:
        self.path.write_text(json.dumps([other for other in self.on() if other != name]))


def switch(name: str, window: bool = False) -> Step[FakeHost]:
    return Step(name, lambda host: host.turn_on(name), lambda host: host.turn_off(name), window=window)


STEPS = [switch("a"), switch("b", window=True), switch("c", window=True), switch("d")]


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path / "host.json")


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "transactions")


def killed(transaction: Transaction, host: FakeHost, when: str, step: str) -> None:
    """Run the steps in a process that kills itself with SIGKILL at the named moment."""

    def work() -> None:
        def observe(*moment: str) -> None:
            if moment == (when, step):
                os.kill(os.getpid(), signal.SIGKILL)

        with transaction.engine():
            run(transaction, STEPS, host, observe)

    process = FORK.Process(target=work)
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("step", ["a", "b", "c", "d"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_a_killed_engine_did_is_undone_by_another_process(
    root: str, host: FakeHost, when: str, step: str
) -> None:
    transaction = create({"some": "request"}, root)
    killed(transaction, host, when, step)
    assert host.on() == list("abcd")[: "abcd".index(step) + (when == "after")]
    again = transactions.find(transaction.id, root)
    assert not again.running()
    with again.engine():
        assert undo(again, STEPS, host) == []
    assert host.on() == []
    assert again.begun() == []


def test_a_step_is_journaled_before_it_is_done(root: str, host: FakeHost) -> None:
    transaction = create({}, root)
    seen = {}
    run(transaction, STEPS, host, lambda when, step: seen.update({(when, step): transaction.begun()}))
    assert seen["before", "a"] == ["a"]
    assert seen["before", "b"] == ["a", "b", "c"], "neighbours of a window are journaled together"
    assert seen["before", "d"] == ["a", "b", "c", "d"]
    assert [entry["step"] for entry in transactions.timeline(transaction)] == list("abcd")


def test_undo_goes_backwards_and_does_not_stop_at_a_failure(root: str, host: FakeHost) -> None:
    transaction = create({}, root)
    order: list[str] = []

    def fail(_host: FakeHost) -> None:
        raise HotUpgradeError("b cannot be undone")

    steps = [
        Step("a", lambda __: None, lambda __: order.append("a")),
        Step("b", lambda __: None, fail),
        Step("c", lambda __: None, lambda __: order.append("c")),
    ]
    run(transaction, steps, host)
    assert undo(transaction, steps, host) == ["b: b cannot be undone"]
    assert order == ["c", "a"]
    assert transaction.begun() == ["b"], "what is not undone is tried again"


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError("x"), IndexError("x"), OSError(28, "x")], ids=repr
)
def test_undo_does_not_stop_at_an_error_of_any_kind(root: str, host: FakeHost, error: Exception) -> None:
    transaction = create({}, root)
    order: list[str] = []

    def fail(_host: FakeHost) -> None:
        raise error

    steps = [Step("a", lambda __: None, lambda __: order.append("a")), Step("b", lambda __: None, fail)]
    run(transaction, [*steps, Step("of another version", lambda __: None)], host)
    failures = undo(transaction, steps, host)
    assert order == ["a"]
    assert [text.partition(":")[0] for text in failures] == ["of another version", "b"]


def test_what_was_undone_otherwise_is_not_undone_again(root: str, host: FakeHost) -> None:
    transaction = create({}, root)
    run(transaction, STEPS, host)
    assert undo(transaction, STEPS, host, done=("b", "d")) == []
    assert host.on() == ["b", "d"]
    assert transaction.begun() == []


def test_a_failing_check_is_a_failing_step(root: str, host: FakeHost) -> None:
    def check(_host: FakeHost) -> None:
        raise HotUpgradeError("no effect")

    transaction = create({}, root)
    with pytest.raises(HotUpgradeError, match="no effect"):
        run(transaction, [switch("a"), Step("b", lambda __: None, check=check), switch("c")], host)
    assert host.on() == ["a"]
    assert transaction.begun() == ["a", "b"]


def test_a_full_disk_stops_before_the_step(
    root: str, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction = create({}, root)
    run(transaction, STEPS[:1], host)
    real = os.write

    def torn(descriptor: int, data: bytes) -> int:
        return real(descriptor, data[:5])

    monkeypatch.setattr(os, "write", torn)
    with pytest.raises(OSError, match="No space") as caught:
        run(transaction, STEPS[1:], host)
    assert caught.value.errno == errno.ENOSPC
    assert host.on() == ["a"]
    assert undo(transaction, STEPS, host) == [], "the way back needs no space"
    assert host.on() == []
    monkeypatch.undo()
    assert transaction.begun() == ["a"], "the torn lines are gone, the whole ones are readable"


def test_a_journal_that_a_power_loss_cut_is_readable(root: str, host: FakeHost) -> None:
    transaction = create({}, root)
    run(transaction, STEPS[:1], host)
    with open(transaction.file("journal.jsonl"), "a", encoding="utf-8") as file:
        file.write('{"event": "begin", "st')
    assert transaction.begun() == ["a"]
    transaction.log({"event": "begin", "step": "b"})
    assert transaction.begun() == ["a", "b"]


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
    with first.engine(), pytest.raises(Busy, match="is being worked on"):
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
        with transaction.engine():
            tell.send(None)
            signal.pause()

    process = FORK.Process(target=hang)
    process.start()
    ready.recv()
    with pytest.raises(Busy), transaction.engine(patience=0.0):
        pass
    monkeypatch.setattr(transactions, "HUNG", 0.0)
    with transaction.engine(patience=0.0) as hung:
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
    with transaction.engine():
        assert transaction.running()
        with pytest.raises(Busy), transaction.engine(patience=0.0):
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
