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
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import (
    transaction as transactions,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.step import (
    Step,
    do_steps,
    timeline,
    undo_steps,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    Transaction,
    create,
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

        with transaction.at_work():
            do_steps(Transaction(transaction.path, observe), STEPS, host)

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
    with again.at_work():
        assert undo_steps(again, STEPS, host) == []
    assert host.on() == []
    assert again.begun() == []


def test_a_step_is_journaled_before_it_is_done(root: str, host: FakeHost) -> None:
    transaction = create({}, root)
    seen = {}
    observed = Transaction(
        transaction.path, lambda when, step: seen.update({(when, step): transaction.begun()})
    )
    do_steps(observed, STEPS, host)
    assert seen["before", "a"] == ["a"]
    assert seen["before", "b"] == ["a", "b", "c"], "neighbours of a window are journaled together"
    assert seen["before", "d"] == ["a", "b", "c", "d"]
    assert [entry["step"] for entry in timeline(transaction)] == list("abcd")


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
    do_steps(transaction, steps, host)
    assert undo_steps(transaction, steps, host) == ["b: b cannot be undone"]
    assert order == ["c", "a"]
    # Again, with what comes behind it: its undo may take away what theirs has made.
    assert transaction.begun() == ["a", "b"]
    steps[1] = Step("b", lambda __: None, lambda __: order.append("b"))
    assert undo_steps(transaction, steps, host) == []
    assert order == ["c", "a", "b", "a"]


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError("x"), IndexError("x"), OSError(28, "x")], ids=repr
)
def test_undo_does_not_stop_at_an_error_of_any_kind(root: str, host: FakeHost, error: Exception) -> None:
    transaction = create({}, root)
    order: list[str] = []

    def fail(_host: FakeHost) -> None:
        raise error

    steps = [Step("a", lambda __: None, lambda __: order.append("a")), Step("b", lambda __: None, fail)]
    do_steps(transaction, [*steps, Step("of another version", lambda __: None)], host)
    failures = undo_steps(transaction, steps, host)
    assert order == ["a"]
    assert [text.partition(":")[0] for text in failures] == ["of another version", "b"]


def test_what_was_undone_differently_is_not_undone_again(root: str, host: FakeHost) -> None:
    transaction = create({}, root)
    do_steps(transaction, STEPS, host)
    assert undo_steps(transaction, STEPS, host, done=("b", "d")) == []
    assert host.on() == ["b", "d"]
    assert transaction.begun() == []


def test_a_failing_check_is_a_failing_step(root: str, host: FakeHost) -> None:
    def check(_host: FakeHost) -> None:
        raise HotUpgradeError("no effect")

    transaction = create({}, root)
    with pytest.raises(HotUpgradeError, match="no effect"):
        do_steps(transaction, [switch("a"), Step("b", lambda __: None, check=check), switch("c")], host)
    assert host.on() == ["a"]
    assert transaction.begun() == ["a", "b"]


def test_a_full_disk_stops_before_the_step(
    root: str, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction = create({}, root)
    do_steps(transaction, STEPS[:1], host)
    real = os.write

    def torn(descriptor: int, data: bytes) -> int:
        return real(descriptor, data[:5])

    monkeypatch.setattr(os, "write", torn)
    with pytest.raises(OSError, match="No space") as caught:
        do_steps(transaction, STEPS[1:], host)
    assert caught.value.errno == errno.ENOSPC
    assert host.on() == ["a"]
    assert undo_steps(transaction, STEPS, host) == [], "a rollback needs no space"
    assert host.on() == []
    monkeypatch.undo()
    assert transaction.begun() == ["a"], "the torn lines are gone, the whole ones are readable"


def test_a_journal_that_a_power_loss_cut_is_readable(root: str, host: FakeHost) -> None:
    transaction = create({}, root)
    do_steps(transaction, STEPS[:1], host)
    with open(transaction.file("journal.jsonl"), "a", encoding="utf-8") as file:
        file.write('{"event": "begin", "st')
    assert transaction.begun() == ["a"]
    transaction.log({"event": "begin", "step": "b"})
    assert transaction.begun() == ["a", "b"]
