# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done with a transaction later is done by the code that began it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import handover
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.operation import OPERATION
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import own_copy
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.operation import Operation
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    APPLIED,
    PREPARED,
    ROLLED_BACK,
    Busy,
    Transaction,
)

Two = Operation[t.Any]

# The code of another version: nothing of it is that of today.
OTHER = """import json, os, sys
role, path = sys.argv[1:]
with open(os.path.join(path, "ran"), "w") as file:
    file.write(role)
os.rename(os.path.join(path, "state.applied"), os.path.join(path, "state.rolled_back"))
print(json.dumps({}))
"""


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of the tests lies below /tmp, which is everybody's."""
    monkeypatch.setattr(own_copy, "doubt_of_directory", lambda path: None)


def write_program(transaction: Transaction, text: str) -> None:
    os.makedirs(transaction.file("lib"), exist_ok=True)
    Path(transaction.file("lib", "run.py")).write_text(text)


def test_the_copy_runs_alone(transaction: Transaction) -> None:
    own_copy.make(transaction, OPERATION)
    argv = own_copy.argv(transaction, "no role")
    environment = {"PYTHONPATH": "/nowhere", "PATH": os.environ["PATH"]}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "KeyError: 'no role'"
    assert transaction.file("lib") in done.stderr
    assert str(Path(handover.__file__).parent) not in done.stderr


def test_the_copy_survives_a_power_loss(transaction: Transaction, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = set()
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    own_copy.make(transaction, OPERATION)
    lib = Path(transaction.file("lib"))
    assert {transaction.path, str(lib), *map(str, lib.rglob("*"))} <= synced


def test_a_transaction_of_another_version_is_rolled_back_by_its_own_code(
    operation: Two, transaction: Transaction
) -> None:
    """The code of today could not even read its request."""
    transaction.write("request.json", {**transaction.request, "format": 0})
    transaction.move(PREPARED, APPLIED)
    write_program(transaction, OTHER)
    own_copy.ask(transaction, "rollback", operation)
    assert (Path(transaction.file("ran")).read_text(), transaction.state) == ("rollback", ROLLED_BACK)


def test_what_the_copy_says_is_raised(operation: Two, transaction: Transaction) -> None:
    write_program(transaction, 'print(\'{"error": ["the flag", "is there", "Clear it"]}\')')
    with pytest.raises(HotUpgradeError, match=r"the flag: is there. Clear it"):
        own_copy.ask(transaction, "confirm", operation)
    write_program(transaction, 'print(\'{"error": ["a", "b", "c"], "busy": true}\')')
    with pytest.raises(Busy, match=transaction.id):
        own_copy.ask(transaction, "confirm", operation)


@pytest.mark.parametrize(
    ("text", "why"), [("import nowhere", "No module named 'nowhere'"), ("pass", "without a word")]
)
def test_one_that_cannot_run_is_told(operation: Two, transaction: Transaction, text: str, why: str) -> None:
    write_program(transaction, text)
    with pytest.raises(HotUpgradeError, match=why) as raised:
        own_copy.ask(transaction, "confirm", operation)
    assert transaction.id in raised.value.what
    assert "journalctl" in raised.value.hint


def test_a_daemon_that_it_leaves_behind_is_not_waited_for(operation: Two, transaction: Transaction) -> None:
    write_program(
        transaction,
        "import subprocess, sys\nchild = subprocess.Popen(['sleep', '600'])\n"
        "open(sys.argv[2] + '/child', 'w').write(str(child.pid))\nprint('{}')",
    )
    own_copy.ask(transaction, "rollback", operation)
    os.kill(int(Path(transaction.file("child")).read_text()), signal.SIGKILL)


def test_one_that_hangs_is_ended(
    operation: Two, transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(transaction, "import time\ntime.sleep(600)")
    monkeypatch.setattr(own_copy, "LONGEST", 0.0)
    with pytest.raises(HotUpgradeError, match="has made no progress and was ended"):
        own_copy.ask(transaction, "rollback", operation)


def test_one_that_works_on_the_transaction_is_judged_by_its_heartbeat(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction.at_work():
        assert not own_copy._silent(os.getpid(), transaction, own_copy.LONGEST + 1)
        monkeypatch.setattr(own_copy, "HUNG", -1.0)
        assert own_copy._silent(os.getpid(), transaction, 0.0)


def test_a_copy_that_was_lost_is_replaced_where_the_present_code_reads_the_request(
    operation: Two, transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def make(transaction: Transaction, present: Two) -> None:
        made.append(present.name)
        write_program(transaction, "print('{}')")

    monkeypatch.setattr(own_copy, "make", make)
    own_copy.ask(transaction, "confirm", operation)
    own_copy.ask(transaction, "confirm", operation)
    assert made == ["two_files"]
    shutil.rmtree(transaction.file("lib"))
    with pytest.raises(
        Refused, match="has lost its copy of the code: .* in format 1, this is two_files in 2"
    ):
        own_copy.ask(transaction, "confirm", dataclasses.replace(operation, format=2))
    assert made == ["two_files"]


def test_a_copy_that_others_could_have_written_is_not_run(
    operation: Two, transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(transaction, OTHER)
    monkeypatch.setattr(own_copy, "doubt_of_directory", lambda path: f"{path} is somebody's")
    with pytest.raises(Refused, match="lib is somebody's"):
        own_copy.ask(transaction, "rollback", operation)
    assert not os.path.exists(transaction.file("ran"))


def test_the_real_copy_refuses_to_confirm_what_has_ended(transaction: Transaction) -> None:
    """From end to end: the program of today as a copy, asked from outside."""
    transaction.write("request.json", {**transaction.request, "operation": "handover"})
    own_copy.make(transaction, OPERATION)
    transaction.move(PREPARED, APPLIED)
    transaction.note(forwards={"ovs-vswitchd": [os.getpid(), 1]})
    with pytest.raises(HotUpgradeError, match=f"process {os.getpid()}, has ended"):
        own_copy.ask(transaction, "confirm", OPERATION)
    assert transaction.state == APPLIED
    assert sys.executable == own_copy.argv(transaction, "confirm")[0]
