# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An operation that is not a hand-over: it puts two files on a disk.  Engine and guard are the real ones."""

from __future__ import annotations

import dataclasses
import functools
import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.clock import boot_id
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import (
    ending,
    guard,
    launching,
    lease,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.operation import Operation
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.step import Step, undo_steps
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    ARMED,
    CONFIRMED,
    PREPARED,
    ROLLED_BACK,
    Transaction,
    create,
)

FILES = ("first", "second")


@dataclasses.dataclass
class Disk:
    """The context of the operation."""

    transaction: Transaction
    failed: Disk | None = None
    closed: bool = False

    def path(self, name: str) -> Path:
        """One of the two files."""
        return Path(self.transaction.request["folder"]) / name

    def put(self, name: str) -> None:
        self.path(name).write_text("put")

    def remove(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)

    def close(self) -> None:
        self.closed = True


def arm(disk: Disk) -> None:
    disk.transaction.move(PREPARED, ARMED)


def steps(__: Disk) -> list[Step[Disk]]:
    first, second = (
        Step(name, functools.partial(Disk.put, name=name), functools.partial(Disk.remove, name=name))
        for name in FILES
    )
    return [first, Step("arm", arm), second]


def ended_since(transaction: Transaction) -> str | None:
    there = [(Path(transaction.request["folder"]) / name).exists() for name in FILES]
    return None if all(there) else "a file is gone"


def verify(transaction: Transaction) -> None:
    ended = ended_since(transaction)
    if ended:
        raise HotUpgradeError("the disk is not as it should be", ended, "Roll it back")


def roll_back(disk: Disk, __: str) -> list[str]:
    return undo_steps(disk.transaction, steps(disk), disk)


def after_boot(disk: Disk, restore: bool) -> list[str]:
    disk.transaction.note(restored=restore)
    return roll_back(disk, "")


def watch(disk: Disk, over: t.Callable[[], bool]) -> None:
    disk.transaction.note(watched=not over())


TWO_FILES = Operation(
    name="two_files",
    format=1,
    module=__name__,
    heavy={CONFIRMED: ("kept", "image"), ROLLED_BACK: ()},
    context=Disk,
    close=Disk.close,
    steps=steps,
    conclude=lambda disk: {"files": [name for name in FILES if disk.path(name).exists()]},
    failed=lambda disk: disk.transaction.note(step_failed=True),
    watch=watch,
    ended_since=ended_since,
    verify=verify,
    roll_back=roll_back,
    after_boot=after_boot,
    unblock=lambda disk: disk.transaction.note(unblocked=True),
)


@pytest.fixture
def operation() -> Operation[Disk]:
    """The operation; ``dataclasses.replace`` changes what a test needs differently."""
    return TWO_FILES


class FakeLauncher:
    """Starts nothing; the names that run, and what they would run."""

    kind = "watcher"

    def __init__(self) -> None:
        self.names: dict[str, t.Sequence[str]] = {}

    def running(self, name: str) -> bool:
        return name in self.names

    def start(self, name: str, argv: t.Sequence[str]) -> None:
        assert name not in self.names
        self.names[name] = argv

    def disarm(self, name: str) -> None:
        del self.names[name]


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> FakeLauncher:
    """The launcher of engine and guard."""
    found = FakeLauncher()
    monkeypatch.setattr(launching, "launcher", lambda: found)
    monkeypatch.setattr(guard, "launcher", lambda: found)
    return found


class BootGuards:
    """No test touches the units of this machine."""

    def __init__(self) -> None:
        self.removed: list[str] = []

    def __call__(self, name: str) -> BootGuards:
        self.name = name
        return self

    def remove(self) -> None:
        self.removed.append(self.name)


@pytest.fixture(autouse=True)
def boot_guards(monkeypatch: pytest.MonkeyPatch) -> BootGuards:
    """The guards of the next boot."""
    found = BootGuards()
    monkeypatch.setattr(ending, "BootGuard", found)
    return found


@pytest.fixture
def root(tmp_path: Path) -> str:
    """Where the transactions are."""
    return str(tmp_path / "transactions")


@pytest.fixture
def request_of_two_files(tmp_path: Path) -> dict[str, t.Any]:
    """What a transaction of the operation is asked."""
    folder = tmp_path / "disk"
    folder.mkdir()
    return {
        "operation": TWO_FILES.name,
        "format": TWO_FILES.format,
        "confirm": "manual",
        "confirm_timeout": 60.0,
        "boot": boot_id(),
        "folder": str(folder),
    }


@pytest.fixture
def transaction(
    root: str, request_of_two_files: dict[str, t.Any], launch: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> Transaction:
    """One of the operation, whose guard is there."""
    monkeypatch.setattr(guard, "INTERVAL", 0.0)
    made = create(request_of_two_files, root)
    lease.renew(made)
    os.close(os.open(made.file(launching.WATCHED), os.O_CREAT, 0o600))
    return made
