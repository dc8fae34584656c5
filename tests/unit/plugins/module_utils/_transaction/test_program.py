# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import json
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import lease, own_copy, program
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.operation import Operation
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    APPLIED,
    CONFIRMED,
    PREPARED,
    ROLLED_BACK,
    Transaction,
)

Two = Operation[t.Any]


@pytest.fixture
def answer(operation: Two, transaction: Transaction, capsys: pytest.CaptureFixture[str]) -> t.Any:
    """What a role prints."""

    def ask(role: str) -> t.Any:
        program.main(operation, [role, transaction.path])
        return json.loads(capsys.readouterr().out)

    return ask


def test_the_engine_is_a_role_and_so_is_what_ends_its_work(
    transaction: Transaction, operation: Two, answer: t.Any
) -> None:
    program.main(operation, ["engine", transaction.path])
    assert transaction.state == APPLIED
    assert [answer("verify"), answer("confirm")] == [{}, {}]
    assert transaction.state == CONFIRMED


def test_what_goes_wrong_is_an_answer(transaction: Transaction, answer: t.Any) -> None:
    assert answer("confirm")["error"][:2] == [
        f"transaction {transaction.id} cannot become confirmed",
        "it is prepared, not applied",
    ]
    with transaction.at_work():
        pass
    assert answer("rollback") == {}
    assert transaction.state == ROLLED_BACK


def test_whoever_verifies_keeps_it_from_going_back_meanwhile(
    transaction: Transaction, operation: Two, monkeypatch: pytest.MonkeyPatch, answer: t.Any
) -> None:
    transaction.move(PREPARED, APPLIED)
    renewed: list[Transaction] = []
    monkeypatch.setattr(lease, "renew", renewed.append)
    assert "a file is gone" in answer("verify")["error"]
    assert set(renewed) == {transaction}


@pytest.mark.parametrize("state", [PREPARED, APPLIED])
def test_one_is_not_taken_from_an_engine_that_is_on_its_way_or_has_done_its_work(
    transaction: Transaction, launch: t.Any, answer: t.Any, state: str
) -> None:
    if state == PREPARED:
        launch.start("two_files-engine", [])
    else:
        transaction.move(PREPARED, state)
    assert answer("abandon")["busy"]
    assert transaction.state == state


def test_what_a_dead_engine_has_left_is_undone(transaction: Transaction, answer: t.Any) -> None:
    transaction.log({"event": "begin", "step": "first"})
    assert answer("abandon") == {}
    assert transaction.state == ROLLED_BACK
    assert answer("abandon") == {}, "somebody else was quicker"


@pytest.mark.parametrize(
    ("rebooted", "ended", "reason"),
    [
        (False, None, ""),
        (False, "it has ended", "it has ended"),
        (True, None, "the host was rebooted before anybody confirmed"),
    ],
)
def test_what_was_applied_and_has_gone_with_its_guard_goes_back(
    transaction: Transaction,
    operation: Two,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rebooted: bool,
    ended: str | None,
    reason: str,
) -> None:
    transaction.move(PREPARED, APPLIED)
    monkeypatch.setattr(Transaction, "rebooted", rebooted)
    seen = dataclasses.replace(operation, ended_since=lambda __: ended, after_boot=lambda *__: [])
    program.main(seen, ["look-after", transaction.path])
    assert json.loads(capsys.readouterr().out) == {}
    assert transaction.state == (ROLLED_BACK if reason else APPLIED)
    assert (transaction.read("result.json") or {}).get("reason", "") == reason


def test_an_error_that_nobody_has_foreseen_is_told_by_its_traceback() -> None:
    def broken() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        own_copy.answer(broken)
