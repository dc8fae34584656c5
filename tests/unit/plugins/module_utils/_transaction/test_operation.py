# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An operation that nobody has thought of (``conftest.py``) from its beginning to each of its ends."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import shutil
import signal
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import lease, program
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.boot import boot, recover
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.engine import engine
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.guard import DIED, guard
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.operation import (
    Operation,
    require_format,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    APPLIED,
    CONFIRMED,
    ROLLED_BACK,
    Transaction,
)

FORK = multiprocessing.get_context("fork")
Two = Operation[t.Any]


def files(transaction: Transaction) -> list[str]:
    return sorted(os.listdir(transaction.request["folder"]))


def result(transaction: Transaction) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", transaction.read("result.json"))


def test_it_is_applied_and_confirmed(operation: Two, transaction: Transaction, boot_guards: t.Any) -> None:
    engine(operation, transaction)
    assert (transaction.state, files(transaction)) == (APPLIED, ["first", "second"])
    assert (result(transaction)["files"], result(transaction)["watched"]) == (["first", "second"], True)
    os.mkdir(transaction.file("kept"))
    with open(transaction.file("image"), "wb"):
        pass
    os.mkdir(transaction.file("lib"))
    program.verify(operation, transaction)
    program.confirm(operation, transaction)
    assert (transaction.state, files(transaction)) == (CONFIRMED, ["first", "second"])
    assert boot_guards.removed == [operation.name]
    assert not {"kept", "image", "lib"} & set(os.listdir(transaction.path))
    guard(operation, transaction)  # it has nothing to do, and ends


def test_it_is_rolled_back_when_somebody_asks_for_it(operation: Two, transaction: Transaction) -> None:
    engine(operation, transaction)
    program.rollback(operation, transaction)
    assert (transaction.state, files(transaction)) == (ROLLED_BACK, [])
    assert result(transaction)["reason"] == "it was asked for"


@pytest.mark.parametrize("moment", [("after", "first"), ("before", "second"), ("after", "become applied")])
def test_the_guard_undoes_the_work_of_an_engine_that_is_killed(
    operation: Two, transaction: Transaction, moment: tuple[str, str]
) -> None:
    def killed(*now: str) -> None:
        if now == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    process = FORK.Process(target=engine, args=(operation, Transaction(transaction.path, killed)))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    assert "first" in files(transaction)
    if transaction.state == APPLIED:  # nothing has died that is needed: its time has to run out
        Path(transaction.file(lease.NAME)).write_text(f"{transaction.request['boot']} {0:020.6f}\n")
    guard(operation, transaction)
    assert (transaction.state, files(transaction)) == (ROLLED_BACK, [])
    expected = "nobody confirmed within 60 s" if moment[1] == "become applied" else DIED
    assert result(transaction)["reason"] == expected


def test_what_does_not_hold_any_more_is_neither_verified_nor_confirmed_but_rolled_back(
    operation: Two, transaction: Transaction
) -> None:
    engine(operation, transaction)
    os.unlink(Path(transaction.request["folder"]) / "second")
    with pytest.raises(HotUpgradeError, match="a file is gone"):
        program.verify(operation, transaction)
    with pytest.raises(HotUpgradeError, match=r"cannot be confirmed: a file is gone"):
        program.confirm(operation, transaction)
    guard(operation, transaction)
    assert (transaction.state, files(transaction)) == (ROLLED_BACK, [])


def test_a_step_that_fails_is_undone_with_what_was_seen_until_then(
    operation: Two, transaction: Transaction
) -> None:
    seen: list[t.Any] = []

    def context(found: Transaction, failed: t.Any) -> t.Any:
        seen.append(failed)
        return operation.context(found, failed)

    os.mkdir(Path(transaction.request["folder"]) / "second")  # a file of this name cannot be put there

    def roll_back(disk: t.Any, state: str) -> list[str]:
        shutil.rmtree(disk.path("second"))
        return operation.roll_back(disk, state)

    engine(dataclasses.replace(operation, context=context, roll_back=roll_back), transaction)
    assert (transaction.state, files(transaction)) == (ROLLED_BACK, [])
    assert "Is a directory" in result(transaction)["reason"]
    assert result(transaction)["step_failed"]
    nothing, failed = seen
    assert (nothing, failed.transaction, failed.closed) == (None, transaction, True)


def test_a_boot_after_a_power_loss_unblocks_and_brings_back(
    operation: Two, transaction: Transaction, launch: t.Any
) -> None:
    engine(operation, transaction)
    transaction.write("request.json", {**transaction.request, "boot": "another"})
    boot(operation, transaction)
    assert result(transaction)["unblocked"]
    (name,) = launch.names
    assert (name, launch.names[name][-2:]) == ("two_files-recover", ["recover", transaction.path])
    recover(operation, transaction)
    assert (transaction.state, files(transaction)) == (ROLLED_BACK, [])
    assert result(transaction)["restored"]
    recover(operation, transaction)  # it was started again
    assert transaction.state == ROLLED_BACK


def test_the_boot_guard_of_a_finished_transaction_removes_itself(
    operation: Two, transaction: Transaction, boot_guards: t.Any
) -> None:
    transaction.move("prepared", CONFIRMED)
    boot(operation, transaction)
    assert boot_guards.removed == [operation.name]


@pytest.mark.parametrize("wrong", [{"operation": "handover"}, {"format": 2}, {"format": None}])
def test_a_request_of_another_operation_or_format_is_not_read(
    request_of_two_files: dict[str, t.Any], wrong: dict[str, t.Any]
) -> None:
    require_format(request_of_two_files, "two_files", 1)
    with pytest.raises(HotUpgradeError, match="version that began it"):
        require_format({**request_of_two_files, **wrong}, "two_files", 1)
