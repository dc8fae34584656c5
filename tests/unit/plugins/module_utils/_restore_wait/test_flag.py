# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.clock import Moment
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Connection
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._restore_wait import flag as restore_wait
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._restore_wait.flag import (
    ARM,
    CLEAR,
    DISARM,
    PROTECT,
    SET,
    UNPROTECT,
    FlagState,
    RestoreWait,
    Wanted,
    plan,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.detached import Armed
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import (
    transaction as transactions,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import Transaction

ON = Wanted(True)
OFF = Wanted(False)
FOR_60 = Wanted(True, 60.0)
TIMER = Armed(60.0, Moment("boot", 1.0), "systemd")


@pytest.mark.parametrize(
    ("before", "wanted", "systemd", "steps"),
    [
        (FlagState(False, None, False, False), OFF, True, ()),
        (FlagState(False, None, False, False), ON, True, (PROTECT, SET)),
        (FlagState(False, None, False, False), ON, False, (SET,)),
        (FlagState(False, None, False, False), FOR_60, True, (PROTECT, ARM, SET)),
        (FlagState(False, None, False, False), FOR_60, False, (ARM, SET)),
        (FlagState(True, TIMER, True, True), FOR_60, True, ()),
        (FlagState(True, TIMER, True, True), ON, True, ()),
        (FlagState(True, TIMER, True, True), Wanted(True, 90.0), True, (DISARM, ARM)),
        (FlagState(True, None, True, True), FOR_60, True, (ARM,)),
        (FlagState(True, None, False, False), ON, True, (PROTECT,)),
        # Somebody cleared the flag, the timer still runs: its time starts anew with the flag.
        (FlagState(False, TIMER, True, True), FOR_60, True, (DISARM, ARM, SET)),
        (FlagState(True, TIMER, True, True), OFF, True, (CLEAR, DISARM, UNPROTECT)),
        (FlagState(True, None, False, False), OFF, True, (CLEAR,)),
        (FlagState(False, TIMER, True, True), OFF, True, (DISARM, UNPROTECT)),
        (FlagState(False, None, False, True), OFF, False, (UNPROTECT,)),
    ],
)
def test_plans(before: FlagState, wanted: Wanted, systemd: bool, steps: tuple[str, ...]) -> None:
    assert plan(before, wanted, systemd) == steps


class FakeLauncher:
    """Remembers what is armed; ``log`` also gets what the database does."""

    def __init__(self, kind: str = "systemd") -> None:
        self.kind = kind
        self.waiting: dict[str, tuple[Armed, list[str]]] = {}
        self.refusal = ""
        self.expire = False

    def start(self, name: str, argv: t.Sequence[str]) -> None:
        raise AssertionError("nothing is started at once")

    def arm(self, name: str, seconds: float, argv: t.Sequence[str]) -> Armed:
        if self.refusal:
            raise HotUpgradeError(self.refusal)
        armed = Armed(seconds, Moment("boot", 1e9), self.kind)
        if not self.expire:
            self.waiting[name] = (armed, list(argv))
        return armed

    def armed(self, name: str) -> Armed | None:
        return self.waiting[name][0] if name in self.waiting else None

    def running(self, name: str) -> bool:
        return False

    def disarm(self, name: str) -> None:
        self.waiting.pop(name, None)


class Bench:
    """A flag of a scripted database, on a host in a folder."""

    def __init__(self, serve: t.Any, database: t.Any, root: Path, kind: str = "systemd") -> None:
        (root / "etc/systemd/system").mkdir(parents=True)
        self.database = database
        self.root = root
        self.launcher = FakeLauncher(kind)
        self.server = serve(database)
        self.flag = RestoreWait(Connection("/nowhere", self.server.remote, 5.0), str(root), self.launcher)

    def apply(self, wanted: Wanted) -> FlagState:
        return self.flag.apply(self.flag.state(), wanted)

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())


@pytest.fixture
def bench(serve: t.Any, database: t.Any, tmp_path: Path) -> Bench:
    return Bench(serve, database, tmp_path / "host")


def test_on_and_off_again(bench: Bench) -> None:
    on = bench.apply(FOR_60)
    assert (on.enabled, on.guarded, on.deadline) == (True, True, Armed(60.0, Moment("boot", 1e9), "systemd"))
    assert bench.database.other_config == {"flow-restore-wait": "true"}
    assert bench.flag.guard.installed()
    assert bench.apply(OFF) == FlagState(False, None, False, False)
    assert bench.database.other_config == {}
    assert bench.files() == []
    assert bench.launcher.waiting == {}


def test_check_mode_predicts_what_comes(bench: Bench) -> None:
    before = bench.flag.state()
    predicted = bench.flag.predict(before, FOR_60)
    assert bench.database.other_config == {}
    after = bench.apply(FOR_60)
    assert (predicted.enabled, predicted.guarded) == (after.enabled, after.guarded)
    assert predicted.deadline is not None
    assert predicted.deadline.seconds == 60.0
    assert bench.flag.predict(after, ON) == after
    assert bench.flag.predict(after, OFF) == FlagState(False, None, False, False)


def test_without_systemd_there_is_no_guard(serve: t.Any, database: t.Any, tmp_path: Path) -> None:
    bench = Bench(serve, database, tmp_path / "host", "watcher")
    assert not bench.apply(FOR_60).guarded
    assert bench.apply(OFF) == FlagState(False, None, False, False)
    assert bench.files() == []


def test_the_flag_is_not_set_when_the_timer_cannot_be(bench: Bench) -> None:
    bench.launcher.refusal = "no bus"
    with pytest.raises(HotUpgradeError, match="no bus"):
        bench.apply(FOR_60)
    assert bench.database.other_config == {}
    assert bench.files() == []


def test_the_timer_is_there_before_the_flag(bench: Bench) -> None:
    bench.database.refuse = None
    before = bench.flag.state()
    bench.database.refuse = {"error": "resources exhausted"}
    with pytest.raises(HotUpgradeError, match="resources exhausted"):
        bench.flag.apply(before, FOR_60)
    # Setting was refused; timer and guard, which had been there, are taken back.
    assert bench.launcher.waiting == {}
    assert bench.files() == []


def test_a_timer_that_is_over_before_the_flag_is_set(bench: Bench) -> None:
    bench.launcher.expire = True
    with pytest.raises(HotUpgradeError, match=r"cleared again: the deadline of 60 s was over"):
        bench.apply(FOR_60)
    assert bench.database.other_config == {}


def test_somebody_who_sets_it_right_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.apply(ON)
    look = bench.flag.state
    monkeypatch.setattr(bench.flag, "state", lambda: FlagState(True, None, False, False))
    with pytest.raises(HotUpgradeError, match="is set: it was cleared a moment ago.*another upgrade"):
        bench.flag.apply(look(), OFF)


@pytest.mark.parametrize("seconds", [0.0, 4.9, 86401.0, float("nan"), float("inf")])
def test_deadlines_that_make_no_sense(bench: Bench, seconds: float) -> None:
    for attempt in (bench.flag.apply, bench.flag.predict):
        with pytest.raises(Refused, match="from 5 to 86400 s"):
            attempt(bench.flag.state(), Wanted(True, seconds))
    assert bench.database.other_config == {}


def test_a_deadline_for_a_database_that_the_guard_cannot_reach(tmp_path: Path) -> None:
    flag = RestoreWait(Connection("/nowhere", "ssl:192.0.2.1:6640", 5.0), str(tmp_path), FakeLauncher())
    with pytest.raises(Refused, match="unix: and tcp: remotes only"):
        flag.predict(FlagState(False, None, False, False), FOR_60)


def test_two_databases_have_timers_of_their_own(tmp_path: Path) -> None:
    names = {
        RestoreWait(Connection("/x", remote, 5.0), str(tmp_path), FakeLauncher()).name
        for remote in ("unix:/a/db.sock", "unix:/b/db.sock")
    }
    assert len(names) == 2


def test_the_program_on_the_host_clears_the_flag_and_every_trace(bench: Bench) -> None:
    bench.apply(FOR_60)
    ((_armed, argv),) = bench.launcher.waiting.values()
    program = Path(argv[2])
    assert program.stat().st_mode & 0o777 == 0o600
    assert program.parent.stat().st_mode & 0o777 == 0o700
    subprocess.run(argv, check=True, timeout=60, env={}, cwd="/")
    assert bench.database.other_config == {}
    assert bench.files() == []
    assert not program.parent.exists()
    assert not (bench.root / "etc/systemd/system/multi-user.target.wants").exists()


def test_guard_and_timer_run_the_same(bench: Bench) -> None:
    bench.apply(FOR_60)
    ((_armed, argv),) = bench.launcher.waiting.values()
    unit = Path(bench.flag.guard.unit_file).read_text()
    assert " ".join(json.dumps(word) for word in argv) in unit
    assert argv[0] == sys.executable
    assert os.path.isabs(argv[0])


def test_a_leftover_program_is_cleaned_up(bench: Bench) -> None:
    folder = bench.root / restore_wait.STATE_DIRECTORY / bench.flag.name
    folder.mkdir(parents=True)
    (folder / "guard.py").touch()
    assert bench.apply(OFF) == FlagState(False, None, False, False)
    assert not folder.exists()


def begin(bench: Bench, remote: str) -> Transaction:
    """A hand-over on the database ``remote``."""
    root = bench.root / transactions.ROOT.lstrip("/")
    return transactions.create({"remote": remote}, str(root))


@pytest.fixture
def hand_over(bench: Bench) -> Transaction:
    """A hand-over on the same database."""
    return begin(bench, bench.flag.connection.remote)


@pytest.mark.parametrize("state", ["prepared", "armed", "rolling_back"])
@pytest.mark.parametrize("wanted", [ON, FOR_60, OFF])
def test_the_flag_of_a_hand_over_at_work_is_not_touched(
    bench: Bench, hand_over: Transaction, state: str, wanted: Wanted
) -> None:
    hand_over.move("prepared", state)
    bench.database.other_config = {"flow-restore-wait": "true"} if wanted is OFF else {}
    before = dict(bench.database.other_config)
    for action in (bench.flag.apply, bench.flag.predict):
        with pytest.raises(Refused, match=f"belongs to the hand-over {hand_over.id}, which is {state}"):
            action(bench.flag.state(), wanted)
    assert bench.database.other_config == before
    assert bench.launcher.waiting == {}


@pytest.mark.parametrize("state", ["applied", "confirmed", "rolled_back", "failed"])
def test_a_hand_over_that_does_not_work_keeps_nobody_from_clearing_the_flag(
    bench: Bench, hand_over: Transaction, state: str
) -> None:
    hand_over.move("prepared", state)
    bench.database.other_config = {"flow-restore-wait": "true"}
    assert not bench.apply(OFF).enabled


def test_a_timer_of_ours_can_be_ended_during_a_hand_over(bench: Bench) -> None:
    bench.apply(FOR_60)
    bench.database.other_config = {}
    begin(bench, bench.flag.connection.remote)
    assert bench.apply(OFF) == FlagState(False, None, False, False)


def test_the_flag_of_another_database_is_nobody_elses(bench: Bench) -> None:
    begin(bench, "unix:/somewhere/else/db.sock")
    assert bench.apply(ON).enabled
