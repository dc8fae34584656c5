# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import types
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import handover
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import connected, lease
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import (
    transaction as transactions,
)

REQUEST = {"operation": "handover", "plan": {}, "confirm_timeout": 60}


def test_a_refusal_says_once_what_stands_in_the_way_of_every_strategy() -> None:
    refused = {"standby": ("no disk", "no user"), "restart": ("no disk",)}
    plan: t.Any = types.SimpleNamespace(refused=refused)
    assert handover._refusal(plan, "auto").why == "no disk; standby: no user"
    assert handover._refusal(plan, "standby").why == "no disk; no user"


def test_a_refusal_names_the_strategies_that_the_host_allows() -> None:
    plan: t.Any = types.SimpleNamespace(refused={"make_before_break": ("LACP",), "restart": ("no disk",)})
    refusal = handover._refusal(plan, "make_before_break")
    assert refusal.what == "this host cannot be handed over by make_before_break"
    assert refusal.hint == "It allows prefilled, standby: choose one of these, or auto"
    nothing: t.Any = types.SimpleNamespace(refused=dict.fromkeys(handover.STRATEGIES, ("no disk",)))
    assert "choose" not in handover._refusal(nothing, "restart").hint


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: t.Any) -> list[str]:
    """What the transaction's own copy was asked to do; it does it, unless a test says differently."""
    asked: list[str] = []

    def ask(transaction: transactions.Transaction, role: str, present: object) -> None:
        assert present is handover.OPERATION
        asked.append(role)
        if role in ("confirm", "rollback"):
            assert lease.age(transaction) is not None, "the guard could be at it first"
        if role != "verify":
            transaction.move(transaction.state, "confirmed" if role == "confirm" else "rolled_back")

    monkeypatch.setattr(connected.own_copy, "ask", ask)
    return asked


@pytest.fixture
def applied(root: str, monkeypatch: pytest.MonkeyPatch) -> transactions.Transaction:
    """One that waits for its confirmation."""
    monkeypatch.setattr(
        connected, "find_of", lambda name, identifier, __: transactions.find_of(name, identifier, root)
    )
    transaction = transactions.create(REQUEST, root)
    transaction.move("prepared", "applied")
    return transaction


@pytest.fixture
def root(tmp_path: t.Any) -> str:
    return str(tmp_path / "transactions")


@pytest.mark.parametrize(("state", "role"), [("confirmed", "confirm"), ("rolled_back", "rollback")])
def test_its_own_copy_ends_a_hand_over(
    applied: transactions.Transaction, asked: list[str], state: str, role: str
) -> None:
    assert handover.end(applied.id, state, True).changed
    assert (asked, applied.state) == ([], "applied")
    done = handover.end(applied.id, state, False)
    assert (asked, done.changed, done.values["state"]) == ([role], True, state)
    again = handover.end(applied.id, state, False)
    assert (asked, again.changed) == ([role], False)


@pytest.mark.parametrize("state", ["confirmed", "rolled_back"])
def test_what_is_finished_does_not_become_something_else(
    applied: transactions.Transaction, asked: list[str], state: str
) -> None:
    handover.end(applied.id, state, False)
    other = {"confirmed": "rolled_back", "rolled_back": "confirmed"}[state]
    with pytest.raises(HotUpgradeError, match=f"it is {state} already"):
        handover.end(applied.id, other, False)
    assert len(asked) == 1


def test_its_own_copy_verifies_it_and_what_it_finds_comes_with_the_result(
    applied: transactions.Transaction, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert handover.verify(applied.id).error is None
    assert asked == ["verify"]

    def ask(*__: object) -> t.NoReturn:
        raise HotUpgradeError("3 missing")

    monkeypatch.setattr(connected.own_copy, "ask", ask)
    found = handover.verify(applied.id)
    assert (str(found.error), found.values["state"]) == ("3 missing", "applied")


def test_a_host_without_any_hand_over_has_nothing_to_settle(root: str) -> None:
    outcome = handover.settle(None, False, root)
    assert (outcome.changed, outcome.values) == (False, {})


def test_the_unfinished_hand_over_is_told_and_its_time_begins_anew(
    root: str, applied: transactions.Transaction
) -> None:
    assert handover.settle(None, True, root).values["deadline"] is None
    assert lease.age(applied) is None
    outcome = handover.settle(None, False, root)
    assert (outcome.changed, outcome.values["state"]) == (False, "applied")
    assert outcome.values["transaction"] == applied.id
    assert outcome.values["deadline"].endswith("Z")
    assert lease.age(applied) is not None


def test_a_finished_one_is_told_as_it_is(root: str) -> None:
    """A record of an older version of this collection, too, which says less."""
    transaction = transactions.create(REQUEST, root)
    transaction.note(proof={"traced": 2})
    transaction.move("prepared", "confirmed")
    outcome = handover.settle(None, False, root)
    told = (outcome.changed, outcome.values["state"], outcome.values["deadline"])
    assert told == (False, "confirmed", None)


def test_settling_tries_again_to_undo_what_could_not_be_undone(root: str, asked: list[str]) -> None:
    transactions.create(REQUEST, root).move("prepared", "failed")
    outcome = handover.settle(None, False, root)
    assert (asked, outcome.changed, outcome.values["state"]) == (["abandon"], True, "rolled_back")


def test_one_that_still_cannot_be_undone_is_told_as_failed(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        connected.own_copy, "ask", lambda found, role, present: found.note(not_undone=["the flag"])
    )
    transactions.create(REQUEST, root).move("prepared", "failed")
    outcome = handover.settle(None, False, root)
    assert (outcome.changed, outcome.values["state"]) == (False, "failed")
    assert outcome.values["not_undone"] == ["the flag"]
