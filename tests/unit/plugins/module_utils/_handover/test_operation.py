# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import types
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import operation
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.applied import AGAIN
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.operation import OPERATION
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    APPLIED,
    ARMED,
    PREPARED,
    Transaction,
    create,
)


class FakeHost:
    """What the operation asks of a host."""

    def __init__(self, transaction: Transaction, deleted: t.Sequence[str] = (), watched: bool = True) -> None:
        self.transaction = transaction
        self.deleted: t.Sequence[str] = ()
        self.known = deleted
        self.living = types.SimpleNamespace(watched=watched)
        self.done: list[str] = []
        # One for all the parts.
        self.scope = self.filler = self.verifier = self

    def leave_deleted(self) -> None:
        if self.known == ["broken"]:
            raise Unreachable("the database does not answer")
        self.deleted = self.known

    def watch_anew(self) -> None:
        self.done.append("watched anew")

    def disconnect(self) -> None:
        self.done.append("disconnected")


@pytest.fixture
def transaction(tmp_path: Path) -> Transaction:
    return create({}, str(tmp_path))


@pytest.mark.parametrize(
    ("state", "deleted", "again"),
    [
        (PREPARED, ["br1"], True),
        (PREPARED, [], False),
        (PREPARED, ["broken"], False),
        (ARMED, ["br1"], False),
    ],
)
def test_what_fails_since_somebody_has_deleted_a_bridge_is_tried_again(
    transaction: Transaction, state: str, deleted: list[str], again: bool
) -> None:
    transaction.move(PREPARED, state)
    host: t.Any = FakeHost(transaction, deleted)
    OPERATION.failed(host)
    assert bool((transaction.read("result.json") or {}).get(AGAIN)) is again
    assert host.done == ["disconnected"]


@pytest.mark.parametrize("watched", [True, False])
def test_an_engine_that_is_started_again_follows_the_switch_anew(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    host: t.Any = FakeHost(transaction, watched=watched)
    served: list[t.Any] = []
    monkeypatch.setattr(operation.watch, "serve", lambda *arguments: served.append(arguments))
    OPERATION.watch(host, bool)
    assert host.done == ([] if watched else ["watched anew"])
    assert served == [(transaction.file("account.sock"), host, bool)]


@pytest.mark.parametrize("unexplained", ["", "3 missing"])
def test_a_difference_that_nobody_has_made_is_a_fault(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch, unexplained: str
) -> None:
    transaction.move(PREPARED, APPLIED)
    changes = {"bridges": {"br0": {"unexplained": unexplained}}}
    revived: list[Transaction] = []
    monkeypatch.setattr(operation.launching, "revive", revived.append)
    monkeypatch.setattr(operation.watch, "ask", lambda path: changes)
    if unexplained:
        with pytest.raises(HotUpgradeError, match="3 missing"):
            OPERATION.verify(transaction)
    else:
        OPERATION.verify(transaction)
    assert revived == [transaction]
    assert transaction.read("result.json")["changes"] == changes


def test_the_copy_finds_the_operation_where_it_says() -> None:
    assert OPERATION.module.endswith("._handover.operation")
