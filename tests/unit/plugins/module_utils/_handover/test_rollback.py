# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import os
import socket
import subprocess
import types
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.clock import boot_id
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import (
    applied,
    plan,
    rollback,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.measured import Measured
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.operation import OPERATION
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import Reload, Request
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process, identify
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import ending, pulse
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.operation import Operation
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.step import Step, do_steps
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    APPLIED,
    FAILED,
    PREPARED,
    ROLLED_BACK,
    ROLLING_BACK,
    Transaction,
    create,
    nested,
)

Make = t.Callable[..., Request]


class FakeHost:
    """What ``ending`` wants of a host; the steps write down what was done."""

    rundir = "/nowhere"
    done: t.ClassVar[list[str]] = []
    broken: t.ClassVar[dict[str, Exception]] = {}
    # The transactions whose old process got its meters back.
    metered: t.ClassVar[list[str]] = []

    def __init__(self, transaction: Transaction, living: object = None) -> None:
        self.transaction = transaction
        self.request = transaction.request
        self.marks: dict[str, int] = {}
        self.not_carried: list[str] = []
        # One for all the parts.
        self.scope = self.report = self.services = self.database = self.snapshot = self.filler = (
            self.recovery
        ) = self.vswitchd = self.reloader = self.metering = self

    def close(self) -> None:
        self.note("closed")

    def ensure(self) -> None:
        if "database" in self.broken:
            raise self.broken["database"]

    def fill_up(self) -> None:
        self.note("restored")

    def take_anew(self) -> None:
        self.note("taken anew")

    def never_stuck(self) -> None:
        self.note("flag cleared")

    def restore_after_boot(self) -> None:
        self.note("restored after the boot")

    def hold(self) -> None:
        self.note("held")

    def let_go(self) -> None:
        self.note("let go")

    def missed(self, texts: t.Iterable[str]) -> None:
        self.not_carried += texts

    def leave(self) -> list[str]:
        self.metered.append(os.path.basename(self.transaction.path)[:5].rstrip("-"))
        return []

    def fill_revived(self) -> None:
        self.note("started anew")

    def old_runs(self) -> bool:
        return "old" not in self.broken

    def complete(self) -> None:
        self.note("completed")

    def leave_gap(self, to: Transaction) -> None:
        self.note(f"gap left to {os.path.basename(to.path)[:5]}")

    def require_old(self) -> None:
        self.note("old module")

    def require_places(self) -> None:
        self.note("placed")

    def require_home(self, *_names: str) -> None:
        """It has no pods."""

    def note(self, what: str) -> None:
        FakeHost.done.append(f"{os.path.basename(self.transaction.path)[:5]}{what}")
        if what in self.broken:
            raise self.broken[what]


NAMES = ("a", rollback.shared.CONVERT, "b")
OF_RELOAD = (rollback.shared.HOLD_RESTARTS, "a", rollback.reload.END, rollback.reload.REPLACE, "b")


def steps(host: FakeHost, names: t.Sequence[str] = NAMES) -> list[Step[FakeHost]]:
    return [
        Step(
            name,
            functools.partial(FakeHost.note, what=f"do {name}"),
            functools.partial(FakeHost.note, what=f"undo {name}"),
        )
        for name in names
    ]


@pytest.fixture
def transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_request: Make) -> Transaction:
    """One whose steps were all done."""
    monkeypatch.setattr(FakeHost, "done", [])
    monkeypatch.setattr(FakeHost, "broken", {})
    monkeypatch.setattr(FakeHost, "metered", [])
    monkeypatch.setattr(rollback, "Host", FakeHost)
    monkeypatch.setattr(rollback, "steps_of", steps)
    monkeypatch.setattr(rollback, "flush", lambda host: None)
    monkeypatch.setattr(rollback.backlog, "shorten", lambda host: None)
    monkeypatch.setattr(rollback, "finish", lambda host: False)
    monkeypatch.setattr(rollback, "_forwards", lambda host: True)
    monkeypatch.setattr(rollback, "_running", lambda host: identify(os.getpid()))
    monkeypatch.setattr(rollback.measured, "measure", lambda host: Measured("all is well"))
    monkeypatch.setattr(ending, "clean", lambda operation, transaction: None)
    monkeypatch.setattr(
        rollback, "_request_back", lambda found, request: dataclasses.replace(request, back_of=found.id)
    )
    transaction = create(
        make_request(strategy=plan.PREFILLED, boot=boot_id()).json(), str(tmp_path / "transactions")
    )
    do_steps(transaction, steps(FakeHost(transaction)), FakeHost(transaction))
    transaction.move(PREPARED, APPLIED)
    FakeHost.done.clear()
    return transaction


def roll_back(transaction: Transaction, reason: str, restore: bool = False) -> None:
    """What the guard does."""
    known: t.Any = OPERATION
    operation: Operation[t.Any] = dataclasses.replace(known, context=lambda found, failed: FakeHost(found))
    ending.roll_back(operation, transaction, reason, restore=restore)


def what_was_done() -> list[str]:
    return [text for text in FakeHost.done if not text.endswith(("closed", "placed", "taken anew"))]


def prefixed(transaction: Transaction, *texts: str) -> list[str]:
    return [f"{transaction.id[:5]}{text}" for text in texts]


def test_a_rollback_goes_back_under_traffic_and_undoes_the_rest(transaction: Transaction) -> None:
    roll_back(transaction, "why")
    back = [f"back-do {name}" for name in ("a", rollback.shared.CONVERT, "b")]
    assert what_was_done() == [*back, *prefixed(transaction, f"undo {rollback.shared.CONVERT}")]
    assert transaction.state == ROLLED_BACK
    assert transaction.read("result.json")["reason"] == "why"
    assert not list(Path(transaction.path).glob("back-*"))


def test_the_moments_of_a_hand_back_are_told(transaction: Transaction) -> None:
    moments: list[tuple[str, str]] = []
    observed = Transaction(transaction.path, lambda when, moment: moments.append((when, moment)))
    roll_back(observed, "why")
    assert moments[:4] == [
        ("before", "become rolling_back"),
        ("after", "become rolling_back"),
        ("before", rollback.HAND_BACK),
        ("before", f"{rollback.HAND_BACK}: a"),
    ]
    undo = f"undo {rollback.shared.CONVERT}"
    assert moments[-4:] == [
        ("before", undo),
        ("after", undo),
        ("before", "become rolled_back"),
        ("after", "become rolled_back"),
    ]


def test_one_that_ends_when_it_has_just_taken_over_is_started_again(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by the undo of a step: those that would are left out, since the hand-back has undone them."""
    gone = subprocess.Popen(["/bin/true"])
    gone.wait()
    monkeypatch.setattr(rollback, "_running", lambda host: Process(gone.pid, 1))
    roll_back(transaction, "it was asked for")
    assert "started anew" in what_was_done()[-1]


def test_a_daemon_that_would_end_with_the_guard_is_told(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeHost, "broken", {"placed": HotUpgradeError("ovs-vswitchd would end")})
    roll_back(transaction, "why")
    assert transaction.state == FAILED
    assert transaction.read("result.json")["not_undone"] == ["ovs-vswitchd would end"]


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError("x"), OSError(errno.ENOSPC, "No space"), IndexError()], ids=repr
)
def test_a_hand_back_that_fails_in_whatever_way_leaves_the_plain_way_back(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(FakeHost, "broken", {"do b": error, "database": error})
    roll_back(transaction, "why")
    undone = [f"undo {name}" for name in ("b", rollback.shared.CONVERT, "a")]
    assert what_was_done()[3:] == [*(f"back-{text}" for text in undone), *prefixed(transaction, *undone)]
    assert transaction.state == ROLLED_BACK
    assert "hand_back" in transaction.read("result.json")
    assert FakeHost.metered == ["back", transaction.id[:5]]


@pytest.mark.parametrize("forwards", [True, False])
def test_a_hand_back_that_has_ended_the_process_that_forwarded_leaves_its_successor_to_the_plain_way_back(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch, forwards: bool
) -> None:
    """It would be started on the new module, and then the old program on the old one: two interruptions more."""
    monkeypatch.setattr(rollback, "steps_of", functools.partial(steps, names=OF_RELOAD))
    broken: dict[str, Exception] = {"do b": ValueError("died")}
    monkeypatch.setattr(FakeHost, "broken", broken if forwards else {**broken, "old": ValueError()})
    assert not rollback.hand_back(transaction)
    back = [text for text in FakeHost.done if text.startswith("back-undo")]
    undone = [f"back-undo {name}" for name in reversed(OF_RELOAD) if name != rollback.shared.HOLD_RESTARTS]
    assert back == (undone if forwards else ["back-undo b", "back-undo a"])
    assert ("back-completed" in FakeHost.done) is not forwards


def test_what_a_hand_back_cannot_bring_back_is_left_to_the_plain_way_back(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes with all that was known of the ports, else."""
    monkeypatch.setattr(rollback, "steps_of", functools.partial(steps, names=OF_RELOAD))
    broken = {what: ValueError("died") for what in ("do b", "old", "completed")}
    monkeypatch.setattr(FakeHost, "broken", broken)
    assert not rollback.hand_back(transaction)
    assert f"back-gap left to {transaction.id[:5]}" in FakeHost.done


def test_a_rollback_of_a_reload_that_leaves_the_new_module_has_failed(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    roll_back(transaction, "why")
    assert "old module" not in " ".join(FakeHost.done)
    monkeypatch.setattr(rollback, "steps_of", functools.partial(steps, names=OF_RELOAD))
    again = create(transaction.request, os.path.dirname(transaction.path))
    do_steps(again, steps(FakeHost(again), OF_RELOAD), FakeHost(again))
    monkeypatch.setattr(FakeHost, "broken", {"old module": HotUpgradeError("it is still loaded")})
    roll_back(again, "why")
    assert again.state == FAILED
    assert again.read("result.json")["not_undone"] == ["it is still loaded"]


@pytest.mark.parametrize(
    ("forwards", "lost", "taken"), [(True, "", True), (False, "", False), (True, "3 missing", False)]
)
def test_the_plain_way_back_gives_again_what_the_new_process_holds_if_that_is_what_it_should(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch, forwards: bool, lost: str, taken: bool
) -> None:
    monkeypatch.setattr(rollback, "hand_back", lambda __: False)
    monkeypatch.setattr(rollback, "_forwards", lambda __: forwards)
    transaction.note(changes={"bridges": {"br0": {"unexplained": lost}}})
    roll_back(transaction, "why")
    assert (prefixed(transaction, "taken anew")[0] in FakeHost.done) is taken


@pytest.mark.parametrize(("count", "held"), [(1, False), (2, True)])
def test_while_nothing_is_to_be_undone_the_service_manager_may_start_what_has_died(
    tmp_path: Path, transaction: Transaction, make_request: Make, count: int, held: bool
) -> None:
    begun = create(make_request().json(), str(tmp_path / "others"))
    do_steps(begun, steps(FakeHost(begun), OF_RELOAD[:count]), FakeHost(begun))
    FakeHost.done.clear()
    rollback.roll_back(t.cast("t.Any", FakeHost(begun)), PREPARED)
    assert (prefixed(begun, "held")[0] in FakeHost.done) is held


def test_a_hand_back_is_of_the_bridges_of_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_request: Make
) -> None:
    """Somebody has deleted br0 since, and added br1."""

    device = types.SimpleNamespace(type="")
    live = types.SimpleNamespace(
        bridges=lambda: [
            types.SimpleNamespace(name="br1", controllers=("tcp:1",), interfaces=(device, device), ports=())
        ]
    )
    monkeypatch.setattr(rollback, "Ovsdb", lambda *__: contextlib.nullcontext(live))
    monkeypatch.setattr(
        rollback, "running", lambda rundir, name: types.SimpleNamespace(process=Process(7, 8))
    )
    request = make_request(bridges={"br0": ()}, ports=1)
    given = create(request.json(), str(tmp_path / "transactions"))
    back = rollback._request_back(given, request)
    assert (back.bridges, back.ports, back.back_of) == ({"br1": ("tcp:1",)}, 2, given.id)
    assert back.vswitchd == dataclasses.replace(request.vswitchd, process=Process(7, 8))


def test_a_hand_back_that_cannot_even_begin_leaves_the_plain_way_back(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(*__: t.Any) -> t.Any:
        raise RuntimeError("the new ovs-vswitchd is dead")

    monkeypatch.setattr(rollback, "_request_back", dead)
    roll_back(transaction, "why")
    assert what_was_done() == prefixed(transaction, "undo b", f"undo {rollback.shared.CONVERT}", "undo a")
    assert transaction.state == ROLLED_BACK


def test_a_dead_vswitchd_is_not_handed_back(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollback, "_forwards", lambda host: False)
    roll_back(transaction, "why")
    assert what_was_done() == prefixed(transaction, "undo b", f"undo {rollback.shared.CONVERT}", "undo a")


def test_one_that_came_after_the_one_that_was_filled_does_not_forward(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    services = types.SimpleNamespace(process=lambda _name: Process(1, 2))
    host = t.cast("t.Any", types.SimpleNamespace(transaction=transaction, services=services))
    assert rollback._forwards(host), "nobody has said which it was"
    transaction.note(**{applied.FORWARDS: {"ovs-vswitchd": [1, 2]}})
    assert rollback._forwards(host)
    transaction.note(**{applied.FORWARDS: {"ovs-vswitchd": [1, 1]}})
    assert not rollback._forwards(host)


def test_whatever_way_it_went_no_more_packets_wait_than_usual(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(rollback, "flush", lambda host: done.append("flushed"))
    monkeypatch.setattr(rollback.backlog, "shorten", lambda host: done.append("shortened"))
    roll_back(transaction, "why")
    assert done == ["flushed", "shortened"]


def test_a_full_disk_does_not_stop_the_way_back(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be written below the transaction; a hand-back has its files in memory then."""
    real, room = os.open, os.statvfs

    def full(path: t.Any, flags: int, *rest: t.Any, **more: t.Any) -> int:
        if str(path).startswith(transaction.path) and flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        return real(path, flags, *rest, **more)

    def none_left(path: t.Any) -> t.Any:
        found = room(path)
        return types.SimpleNamespace(
            f_bfree=0 if path == transaction.path else found.f_bfree, f_frsize=found.f_frsize
        )

    monkeypatch.setattr(os, "open", full)
    monkeypatch.setattr(os, "statvfs", none_left)
    roll_back(transaction, "why")
    assert what_was_done()[-1:] == prefixed(transaction, f"undo {rollback.shared.CONVERT}")
    assert transaction.state == ROLLED_BACK
    assert not list(Path(pulse.DIRECTORY).glob("back-*"))


def test_nobody_else_starts_a_daemon_while_the_rest_is_undone(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollback.shared, "HOLD_RESTARTS", "a")
    monkeypatch.setattr(rollback, "hand_back", lambda transaction: False)
    transaction.move(APPLIED, ROLLING_BACK)
    roll_back(transaction, "why")
    done = what_was_done()
    assert done.index(f"{transaction.id[:5]}held") < done.index(f"{transaction.id[:5]}undo b")


def test_of_a_hand_back_that_a_boot_has_ended_nothing_is_left(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    back = nested(transaction.file("back-1"), {"back_of": transaction.id})
    other = nested(transaction.file("back-2"), {"back_of": "another"})
    rollback.after_boot(t.cast("t.Any", FakeHost(transaction)), restore=False)
    assert not os.path.exists(back.path)
    assert os.path.exists(other.path)


def test_a_hand_back_that_was_cut_short_is_undone_before_the_next(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction.move(APPLIED, ROLLING_BACK)
    back = nested(transaction.file("back-1"), {"back_of": transaction.id})
    back.log({"event": "begin", "step": "a"})
    other = nested(transaction.file("back-2"), {"back_of": "another"})
    os.mkdir(transaction.file("back-3"))
    roll_back(transaction, "why")
    assert what_was_done()[0] == "back-undo a"
    assert what_was_done()[1:] == prefixed(transaction, "undo b", f"undo {rollback.shared.CONVERT}", "undo a")
    assert os.path.exists(other.path)
    assert not os.path.exists(back.path)
    assert not os.path.exists(transaction.file("back-3"))


def test_a_hand_back_that_was_complete_is_not_done_twice(transaction: Transaction) -> None:
    transaction.move(APPLIED, ROLLING_BACK)
    back = nested(transaction.file("back-1"), {"back_of": transaction.id})
    do_steps(back, steps(FakeHost(back)), FakeHost(back))
    FakeHost.done.clear()
    roll_back(transaction, "why")
    assert what_was_done() == prefixed(transaction, f"undo {rollback.shared.CONVERT}")


def test_a_hand_back_that_was_completed_for_somebody_else_gets_its_last_steps(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the restart policies stay held, and a bridge that was flushed stays empty."""
    monkeypatch.setattr(rollback.shaping, "give_back", lambda host: host.note("given back"))
    monkeypatch.setattr(rollback, "finish", lambda host: host.transaction.path.endswith("back-1"))
    transaction.move(APPLIED, ROLLING_BACK)
    back = nested(transaction.file("back-1"), {"back_of": transaction.id})
    back.log({"event": "begin", "step": "a"})
    roll_back(transaction, "why")
    assert what_was_done() == prefixed(
        transaction, f"undo {rollback.shared.CONVERT}", "let go", "given back", "restored"
    )


def test_what_another_version_has_begun_is_left_to_its_own_guard(transaction: Transaction) -> None:
    transaction.write("request.json", {**transaction.request, "format": 0})
    with pytest.raises(HotUpgradeError, match="version that began it"):
        roll_back(transaction, "why")
    assert transaction.state == APPLIED


def test_qdiscs_of_others_are_left_alone_on_the_way_back_too(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were given back when all was applied, and a program that starts anew would delete them."""
    monkeypatch.setattr(rollback.shaping, "leave_alone", lambda host: host.note("left alone"))
    monkeypatch.setattr(rollback, "hand_back", lambda _transaction: False)
    roll_back(transaction, "a test")
    assert not any("left alone" in what for what in FakeHost.done)
    again = create(transaction.request, os.path.dirname(transaction.path))
    shaped = [Step(rollback.shaping.STEP, lambda host: None), *steps(FakeHost(again))]
    monkeypatch.setattr(rollback, "steps_of", lambda _host: shaped)
    do_steps(again, shaped, FakeHost(again))
    roll_back(again, "a test")
    assert sum("left alone" in what for what in FakeHost.done) == 1


def test_what_a_power_loss_has_left_in_the_database_is_taken_out(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction.write("request.json", {**transaction.request, "boot": "another"})
    monkeypatch.setattr(FakeHost, "restore_after_boot", lambda host: host.note("filled"), raising=False)
    monkeypatch.setattr(rollback.shaping, "give_back", lambda host: host.note("given back"))
    roll_back(transaction, "a test", restore=True)
    assert what_was_done() == prefixed(transaction, "filled", "given back")


@pytest.mark.parametrize(("faults", "state"), [((), ROLLED_BACK), (("bridge br0 has 0 flows",), FAILED)])
def test_what_is_found_afterwards_is_told_and_judged(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch, faults: tuple[str, ...], state: str
) -> None:
    monkeypatch.setattr(rollback.measured, "measure", lambda host: Measured("what is there", faults))
    roll_back(transaction, "a test")
    result = transaction.read("result.json")
    assert (result["measured"], result["not_undone"]) == ("what is there", list(faults))
    assert transaction.state == state


def test_what_cannot_be_looked_at_is_said(transaction: Transaction, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_host: t.Any) -> t.NoReturn:
        raise KeyError("x")

    monkeypatch.setattr(rollback.measured, "measure", broken)
    roll_back(transaction, "a test")
    assert transaction.read("result.json")["measured"].startswith("nothing, since KeyError: 'x'")
    assert transaction.state == ROLLED_BACK


def test_what_cannot_be_undone_is_told_and_the_state_says_so(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollback, "_forwards", lambda host: False)
    monkeypatch.setattr(FakeHost, "broken", {"undo b": IndexError("list index out of range")})
    roll_back(transaction, "why")
    assert what_was_done() == prefixed(transaction, "undo b", f"undo {rollback.shared.CONVERT}", "undo a")
    assert transaction.state == FAILED
    (failure,) = transaction.read("result.json")["not_undone"]
    assert failure.startswith("b: IndexError: list index out of range (test_rollback.py, line ")


def test_sockets_of_daemons_that_were_killed_do_not_stay(tmp_path: Path) -> None:
    """As those of a pod that has ended; whoever still runs keeps his."""
    host: t.Any = types.SimpleNamespace(request=types.SimpleNamespace(rundir=str(tmp_path)))
    listens, dead, of_another = "ovsdb-server.7.ctl", "ovs-vswitchd.8.ctl", "ovn-controller.9.ctl"
    for name in (dead, of_another):
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(tmp_path / name))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / listens))
        listener.listen()
        for __ in range(2):
            rollback._remove_dead_sockets(host)
            assert set(os.listdir(tmp_path)) == {listens, of_another}


def test_the_way_back_across_2_16_does_not_open_the_datapath_of_the_one_that_forwards(
    make_request: Make,
) -> None:
    assert rollback._strategy_back(make_request(dispatch=True), []) == plan.STANDBY
    assert rollback._strategy_back(make_request(), []) == plan.MAKE_BEFORE_BREAK


@pytest.mark.parametrize(
    ("version", "kind", "expected"),
    [
        ("3.1.0", "vxlan", plan.STANDBY),
        ("3.1.0", "internal", plan.MAKE_BEFORE_BREAK),
        ("3.5.0", "vxlan", plan.MAKE_BEFORE_BREAK),
    ],
)
def test_the_way_back_does_not_take_tunnel_devices_from_the_one_that_forwards(
    make_request: Make, version: str, kind: str, expected: str
) -> None:
    request = make_request(plan={"before": {"ovs-vswitchd": version}})
    bridge = types.SimpleNamespace(interfaces=(types.SimpleNamespace(name="vx0", type=kind),))
    assert rollback._strategy_back(request, [t.cast("t.Any", bridge)]) == expected


def test_the_module_goes_back_as_it_came(transaction: Transaction, make_request: Make) -> None:
    request = make_request(
        strategy=plan.RELOAD, dispatch=True, reload=Reload("/disk.ko", "/kept.ko", "require")
    )
    assert rollback._strategy_back(request, []) == plan.RELOAD
    old, new = transaction.file("old.ko"), transaction.file("new.ko")
    assert rollback._reload_back(transaction, request) == Reload(old, new, "require")
    assert rollback._reload_back(transaction, make_request()) is None
