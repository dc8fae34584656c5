# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base import clock
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import lease
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    Transaction,
    create,
)


@pytest.fixture
def transaction(tmp_path: Path) -> Transaction:
    return create({"confirm_timeout": 100.0}, str(tmp_path))


def let_pass(transaction: Transaction, seconds: float) -> None:
    """As if the last renewal had been ``seconds`` ago."""
    at = time.monotonic() - seconds
    Path(transaction.file(lease.NAME)).write_text(f"{clock.boot_id()} {at:020.6f}\n")


def test_the_clock_begins_anew_with_each_renewal(transaction: Transaction) -> None:
    assert lease.left(transaction) is None
    let_pass(transaction, 70)
    left = lease.left(transaction)
    assert left is not None
    assert 0 < left <= 30
    lease.renew(transaction)
    left = lease.left(transaction)
    assert left is not None
    assert left > 30
    let_pass(transaction, 1000)
    assert lease.left(transaction) == 0


def test_a_renewal_needs_no_room(transaction: Transaction) -> None:
    lease.renew(transaction)
    before = os.stat(transaction.file(lease.NAME))
    lease.renew(transaction)
    after = os.stat(transaction.file(lease.NAME))
    assert (before.st_ino, before.st_size) == (after.st_ino, after.st_size)


@pytest.mark.parametrize("content", ["", "nonsense", "another-boot 1.0\n", "x y z\n"])
def test_a_lease_that_says_nothing(transaction: Transaction, content: str) -> None:
    Path(transaction.file(lease.NAME)).write_text(content)
    assert lease.age(transaction) is None


def test_it_is_renewed_all_the_while(transaction: Transaction, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "INTERVAL", 0.001)
    with lease.leased(transaction):
        let_pass(transaction, 1000)
        end = time.monotonic() + 30
        while lease.left(transaction) == 0:
            assert time.monotonic() < end
        monkeypatch.setattr(lease, "renew", lambda __: None)
        let_pass(transaction, 1000)
        monkeypatch.undo()
    assert lease.left(transaction) != 0, "and once more at the end"


def test_one_who_hangs_does_not_renew_for_ever(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "INTERVAL", 0.001)
    monkeypatch.setattr(lease, "LONGEST", 0.0)
    done = lease.threading.Event()
    lease._keep(transaction, done)
    assert lease.age(transaction) is None
