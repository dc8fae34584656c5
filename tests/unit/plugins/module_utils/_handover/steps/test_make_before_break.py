# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import types
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import newcomer
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.applied import AGAIN
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.late_ports import TAP_TYPES
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.outside import OUTSIDE
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.report import Report
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.steps import (
    make_before_break as strategy,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.steps.shared import (
    CONVERT,
    RESTART_SERVER,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process


@pytest.fixture(name="host")
def _host(monkeypatch: pytest.MonkeyPatch) -> t.Any:
    """A host that remembers in ``calls`` what was done to it, in order."""
    calls: list[str] = []

    def noted(name: str) -> t.Callable[..., None]:
        return lambda *_words: calls.append(name)

    for name in ("take_pidfile", "end_first", "move_in", "end_database"):
        monkeypatch.setattr(strategy.newcomer, name, noted(name))
    monkeypatch.setattr(strategy.newcomer, "version", lambda _host: "2.15.0")
    for name in ("_wait_for_handlers", "_tidy"):
        monkeypatch.setattr(strategy, name, noted(name))
    monkeypatch.setattr(strategy, "sockets_of", lambda _pid: frozenset())
    monkeypatch.setattr(strategy, "queued", lambda _sockets: False)

    def end_old(end: t.Callable[[], None]) -> None:
        calls.append("quiet")
        end()
        calls.append("last words")

    return types.SimpleNamespace(
        calls=calls,
        transaction=types.SimpleNamespace(
            observe=lambda _when, _moment: None,
            write=lambda *_words: calls.append("may be empty"),
            prune=lambda _name: calls.append("is full"),
            read=lambda _name: None,
        ),
        request=types.SimpleNamespace(
            vswitchd=types.SimpleNamespace(process=types.SimpleNamespace(pid=1)), protocols=True
        ),
        services=types.SimpleNamespace(control=lambda _name: None),
        scope=types.SimpleNamespace(bridges=[]),
        snapshot=types.SimpleNamespace(read=lambda: None),
        protocols=types.SimpleNamespace(
            impatient=False,
            speak=noted("speak"),
            greet=noted("greet"),
            take_up=noted("take_up"),
            greet_as=noted("greet"),
        ),
        outside=OUTSIDE,
        living=types.SimpleNamespace(
            carry=noted("carry"), quiet=noted("quiet"), last_words=noted("last words")
        ),
        filler=types.SimpleNamespace(
            switches={}, staged={}, metering=types.SimpleNamespace(tell_of_new=noted("tell its meters"))
        ),
        report=Report(),
        vswitchd=types.SimpleNamespace(
            end_old=end_old,
            fit_dispatch=noted("fit_dispatch"),
            remember_dispatch=lambda: True,
            can_take_upcalls_back=lambda: False,
            take_upcalls_back=noted("old answers"),
        ),
        database=types.SimpleNamespace(
            ensure=noted("ensure"), wait_for_vswitchd=noted("wait_for_vswitchd"), open=contextlib.nullcontext
        ),
        copy=types.SimpleNamespace(set_flow_restore_wait=noted("clear the flag")),
    )


NEW = newcomer.Running(Process(2, 1), t.cast("t.Any", None))
TAKES_UPCALLS = ["clear the flag", "_wait_for_handlers", "fit_dispatch"]
BACK = "vswitchd: take_upcalls_back"
# What the old process was told is asked for before it ends, and made in the new one when all of it is known. Its pidfile is
# its own up to then: without the database it is not ended, and has to be found.
ENDS = ["quiet", "take_pidfile", "end_first", "last words", "carry"]


@pytest.mark.parametrize(
    ("switch_over", "calls"),
    [
        # What it is to say it may say before it forwards, and what makes it say that at once when it hears answers.
        (strategy._switch_over_shared, ["speak", *TAKES_UPCALLS, "greet", *ENDS, "tell its meters"]),
        (strategy._switch_over_in_turn, [*ENDS, *TAKES_UPCALLS, "tell its meters"]),
    ],
)
def test_the_old_process_ends_after_the_new_one_takes_upcalls_or_before_it(
    host: t.Any, switch_over: t.Callable[..., None], calls: list[str]
) -> None:
    switch_over(host, NEW, host.copy)
    assert host.calls == calls


@pytest.mark.parametrize(
    ("takes", "runs", "finished"),
    [(True, True, True), (True, False, True), (False, False, True), (False, True, False)],
)
def test_a_switch_over_is_completed_unless_the_old_process_still_takes_the_upcalls(
    host: t.Any, monkeypatch: pytest.MonkeyPatch, takes: bool, runs: bool, finished: bool
) -> None:
    monkeypatch.setattr(strategy, "_takes_upcalls", lambda _host: takes)
    monkeypatch.setattr(strategy, "alive", lambda _process: runs)
    assert strategy.finish(host) == finished
    assert ("end_first" in host.calls) == finished
    # It answers nobody before it has its database again.
    assert (host.calls[-2:] == ["take_up", "greet"]) if finished else not host.calls


def test_what_the_old_process_can_have_back_is_not_completed(
    host: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategy, "_takes_upcalls", lambda _host: True)
    host.vswitchd.can_take_upcalls_back = lambda: True
    assert not strategy.finish(host)
    host.vswitchd.can_take_upcalls_back = lambda: False
    host.transaction.read = lambda _name: {}  # its tables may be empty
    assert not strategy.finish(host)
    assert host.calls == []


@pytest.mark.parametrize(
    ("known", "runs", "calls"),
    [
        (
            True,
            True,
            [
                *("may be empty", "old answers", "forget", "purge", "pause", "_meet_flush", "resume"),
                *("new answers", "is full", "forget", "purge"),
            ],
        ),
        (False, True, []),  # the kernel does not tell where upcalls go
        (True, False, []),  # nobody could answer meanwhile
    ],
)
def test_bridges_are_flushed_while_the_old_process_answers(
    host: t.Any, monkeypatch: pytest.MonkeyPatch, known: bool, runs: bool, calls: list[str]
) -> None:
    """So the new one is never asked while its tables are empty, and does not touch megaflows meanwhile."""

    def control(who: str) -> t.Any:
        words = {
            "dpctl/del-flows": "forget",
            "revalidator/pause": "pause",
            "revalidator/resume": "resume",
            "revalidator/purge": "purge",
        }

        def call(command: str, *_words: str) -> str:
            host.calls.append(words[command])
            return ""

        return types.SimpleNamespace(call=call)

    monkeypatch.setattr(strategy.upcall_dispatch, "read", lambda: "sockets of the new one" if known else None)
    monkeypatch.setattr(
        strategy.upcall_dispatch, "direct", lambda _dispatch: host.calls.append("new answers")
    )
    monkeypatch.setattr(strategy, "_meet_flush", lambda host: host.calls.append("_meet_flush"))
    host.services.control = control
    host.vswitchd.can_take_upcalls_back = lambda: runs
    strategy._meet_flush_unseen(host, NEW._replace(control=control("new")))
    assert host.calls == calls


@pytest.mark.parametrize(
    ("version", "impatient", "met"),
    [("3.5.0", False, True), ("2.15.0", False, False), ("3.5.0", True, False)],
)
def test_a_process_is_not_left_deaf_that_cannot_bear_it(
    host: t.Any, monkeypatch: pytest.MonkeyPatch, version: str, impatient: bool, met: bool
) -> None:
    monkeypatch.setattr(strategy.newcomer, "version", lambda _host: version)
    monkeypatch.setattr(strategy, "_meet_flush_unseen", lambda host, _new: host.calls.append("met"))
    host.filler.staged, host.protocols.impatient = {"br0": None}, impatient
    strategy._switch_over_shared(host, NEW, host.copy)
    assert ("met" in host.calls) == met


class Database:
    """A database with one Interface table."""

    def __init__(self, *interfaces: dict[str, t.Any]) -> None:
        self.schema: dict[str, t.Any] = {"tables": {"Interface": {"columns": {"name": {}, "ofport": {}}}}}
        self.interfaces = interfaces

    def select(self, _table: str, columns: t.Sequence[str]) -> list[dict[str, t.Any]]:
        return [{name: row.get(name) for name in columns} for row in self.interfaces]

    def transact(self, operation: dict[str, t.Any]) -> list[dict[str, t.Any]]:
        rows = self.select(operation["table"], operation["columns"])
        return [{"rows": [{**row, "_uuid": ["uuid", row["_uuid"]]} for row in rows]}]


def interface(name: str, ofport: int | None, **columns: t.Any) -> dict[str, t.Any]:
    return {"_uuid": f"uuid of {name}", "name": name, "type": "", "ofport": ofport, **columns}


@pytest.mark.parametrize(
    ("numbers", "found"),
    [
        ((1, 2), []),
        ((2, 1), ["Interface.ofport"]),
        ((1, -1), []),  # a tap device that cannot be opened yet, or see unopened
        ((1, None), []),
    ],
)
def test_ports_are_part_of_what_makes_a_copy_stale(numbers: tuple[int, int | None], found: list[str]) -> None:
    real = Database(interface("p1", 1), interface("p2", 2))
    copy = Database(interface("p1", numbers[0]), interface("p2", numbers[1]))
    assert strategy.drift(t.cast(t.Any, real), t.cast(t.Any, copy)) == found


def test_a_port_that_the_new_process_cannot_open_is_named_with_its_reason() -> None:
    busy, long = (
        f"could not open network device it ({why})" for why in (strategy.BUSY, "File name too long")
    )
    names = ("p1", "tap0", "tap1", "tap2", "veth", "lost")
    real = Database(
        *(interface(name, number) for number, name in enumerate(names, 1)), interface("broken", -1)
    )
    copy = Database(
        interface("p1", 1),
        interface("tap0", -1, type="internal", error=busy),  # it will, when the first has ended
        interface("tap1", -1, type="internal", error=long),
        interface("tap2", None, type="tap"),
        interface("veth", -1, error=busy),
        interface("lost", -1, type="internal", error=long),
        interface("broken", -1),
    )
    databases: tuple[t.Any, t.Any] = (real, copy)
    assert strategy.unopened(*databases, TAP_TYPES, ["lost"]) == [f"tap1: {long}", f"veth: {busy}"]
    kernel = strategy.unopened(*databases)
    assert [text.partition(":")[0] for text in kernel] == ["tap0", "tap1", "tap2", "veth", "lost"]


@pytest.mark.parametrize(
    ("staged", "calls"), [({"br0": None}, ["_meet_flush", "move_in"]), ({}, ["move_in"])]
)
def test_nobody_finds_a_bridge_that_was_flushed_for_its_controller(
    host: t.Any, monkeypatch: pytest.MonkeyPatch, staged: dict[str, None], calls: list[str]
) -> None:
    """Where its socket is in the real run directory already, or the controller itself there, somebody may be quicker."""
    monkeypatch.setattr(strategy, "_meet_flush", lambda host: host.calls.append("_meet_flush"))
    monkeypatch.setattr(strategy, "attended", lambda do: do)
    host.filler.staged = staged
    strategy._adopt(host)
    assert host.calls == calls


@pytest.mark.parametrize(("looks", "seconds"), [(1, 0.0), (10**6, strategy.DRAIN_TIMEOUT)])
def test_queues_that_never_empty_are_waited_for_a_moment_only(
    world: t.Any, monkeypatch: pytest.MonkeyPatch, looks: int, seconds: float
) -> None:
    left = [looks]

    def queued(_sockets: t.Any) -> bool:
        left[0] -= 1
        return left[0] > 0

    monkeypatch.setattr(strategy, "queued", queued)
    strategy._wait_for_drained(world.host, frozenset())
    assert world.clock.now == pytest.approx(100 + seconds, abs=0.01)


def test_a_new_process_that_takes_no_upcalls_is_named_with_its_log(
    world: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = world.spy("new", call="2.15.0")
    monkeypatch.setattr(
        strategy, "takes_upcalls", lambda _process, control: control.call("version") == "taken"
    )
    new = NEW._replace(control=control)
    with pytest.raises(HotUpgradeError, match=r"takes upcalls.*ovs-vswitchd\.log"):
        strategy._wait_for_handlers(world.host, new)
    control.answers["call"] = Unreachable("it has ended")
    world.clock.now = 100
    with pytest.raises(Unreachable):
        strategy._wait_for_handlers(world.host, new)
    assert world.clock.now == 100


def test_in_userspace_the_old_process_is_stopped_until_the_new_one_forwards(
    world: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Internal ports come last: their tap devices cannot be opened twice."""
    host = world.host

    @contextlib.contextmanager
    def stopped(_process: t.Any) -> t.Iterator[None]:
        world.done.append("stop")
        yield
        world.done.append("go on")

    monkeypatch.setattr(strategy, "stopped", stopped)
    for name, words in {"_follow_connections": "connections", "_speak": "speak"}.items():
        monkeypatch.setattr(strategy, name, lambda *__, words=words: world.done.append(words))
    monkeypatch.setattr(strategy, "sockets_of", lambda _pid: frozenset())
    waiting = [True, False, True, False, False]
    monkeypatch.setattr(
        strategy.packet_queues, "waits", lambda *__: world.done.append("waits?") or waiting.pop(0)
    )
    monkeypatch.setattr(strategy.backlog, "shorten_of", lambda _process: world.done.append("shorten"))
    monkeypatch.setattr(strategy, "_wait_for_handlers", lambda *__: world.done.append("takes packets"))
    for name in ("take_pidfile", "end_first"):
        monkeypatch.setattr(strategy.newcomer, name, lambda _host, name=name: world.done.append(name))
    host.vswitchd, host.late = world.spy("vswitchd"), world.spy("late ports")
    strategy._switch_over_alone(host, NEW, world.session)
    assert world.done == [
        *("vswitchd: quiet_old", "connections", "shorten", *["waits?"] * 5, "speak"),
        *("stop", "database: flag down", "takes packets", "take_pidfile", "end_first"),
        *("go on", "living: last_words", "living: carry", "late ports: put_back"),
        "late ports: configure",
    ]
    assert list(host.report.marks) == ["stopped", "forwarding", "ended", "carried", "complete"]


@pytest.mark.parametrize("undo", [strategy._back, strategy._remove_place])
def test_a_process_with_a_database_of_its_own_is_not_ended_where_the_real_one_is_lost(
    world: t.Any, monkeypatch: pytest.MonkeyPatch, undo: t.Callable[[t.Any], None]
) -> None:
    """It forwards, and nobody else would."""

    def lost() -> None:
        raise HotUpgradeError("neither starts")

    world.wish["userspace"] = True
    host = world.host
    host.database.apart, host.database.ensure = lambda: True, lost
    monkeypatch.setattr(strategy, "_untouched", lambda _host: False)
    monkeypatch.setattr(strategy.newcomer, "remove", lambda _host: world.done.append("remove"))
    with pytest.raises(HotUpgradeError, match="neither starts"):
        undo(host)
    assert "remove" not in world.done


@pytest.mark.parametrize(
    ("runs", "takes", "userspace", "served", "calls"),
    [
        (True, False, False, True, []),
        (True, True, False, True, [BACK, "old: call", "old: call", "remove", "make whole"]),
        # It would not answer: who waits for that is late with the database.
        (True, True, False, False, [BACK, "remove", "make whole", "old: call", "old: call"]),
        (False, False, False, True, [BACK, "remove", "make whole anew"]),
        (True, True, True, True, ["remove", "make whole"]),  # it goes on where it was stopped
        (False, True, True, True, ["remove", "make whole anew"]),
    ],
)
def test_the_old_process_goes_on_where_it_can(
    world: t.Any,
    monkeypatch: pytest.MonkeyPatch,
    runs: bool,
    takes: bool,
    userspace: bool,
    served: bool,
    calls: list[str],
) -> None:
    world.wish["userspace"] = userspace
    monkeypatch.setattr(strategy, "alive", lambda _process: served)
    host = world.host
    monkeypatch.setattr(strategy, "resume", lambda _process: None)
    monkeypatch.setattr(strategy.newcomer, "running", lambda _host: NEW)
    monkeypatch.setattr(strategy, "takes_upcalls", lambda _process, _control: takes)
    monkeypatch.setattr(strategy.newcomer, "remove", lambda _host: world.done.append("remove"))
    host.vswitchd = world.spy("vswitchd", old_runs=runs, take_upcalls_back=runs)
    host.services = types.SimpleNamespace(control=lambda _name: world.spy("old"), process=lambda _name: None)
    host.recovery = types.SimpleNamespace(
        make_whole=lambda anew: world.done.append("make whole anew" if anew else "make whole")
    )
    strategy._back(host)
    assert [each for each in world.done if each != "vswitchd: old_runs"] == calls


def test_a_changed_database_is_worth_another_try(world: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategy, "drift", lambda *__: ["Bridge.ports"])
    monkeypatch.setattr(strategy, "unopened", lambda *__: [])
    with pytest.raises(HotUpgradeError, match=r"it differs from the copy in Bridge\.ports"):
        strategy._require_no_drift(world.host)
    assert world.host.transaction.read("result.json") == {AGAIN: True}


def test_a_port_that_did_not_open_is_no_reason_to_try_again(
    world: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategy, "drift", lambda *__: [])
    monkeypatch.setattr(strategy, "unopened", lambda *__: ["p1: no such device"])
    with pytest.raises(HotUpgradeError, match=r"lacks 1 ports that the old one has: p1: no such device"):
        strategy._require_no_drift(world.host)
    assert world.host.transaction.read("result.json") is None


class Held:
    """A bridge of the new process: each look finds the next difference, the last one stays."""

    def __init__(self, *differences: t.Any) -> None:
        self.differences = list(differences)

    def settings(self) -> t.Any:
        return None

    def state(self) -> t.Any:
        return None

    def found(self) -> t.Any:
        return self.differences.pop(0) if len(self.differences) > 1 else self.differences[0]


def difference(same: bool, flows_alone: bool = True) -> t.Any:
    found = types.SimpleNamespace(
        same=same, flows_alone=flows_alone, missing_count=0, missing=[], extra_count=0, extra=[]
    )
    found.without_groups = lambda _groups: found
    return found


@pytest.mark.parametrize(
    ("differences", "made"),
    [
        ([difference(True)], []),
        ([difference(False), difference(True)], ["amend"]),
        ([difference(False, flows_alone=False), difference(True)], ["restore"]),
        ([difference(False)], None),
    ],
)
def test_the_new_process_holds_what_the_old_one_held_a_moment_ago(
    world: t.Any, monkeypatch: pytest.MonkeyPatch, differences: list[t.Any], made: list[str] | None
) -> None:
    switch = Held(*differences)
    done: list[str] = []
    monkeypatch.setattr(strategy, "compare", lambda *__: switch.found())
    monkeypatch.setattr(strategy, "renumbered", lambda *__: [])
    monkeypatch.setattr(strategy, "amend", lambda *__: done.append("amend"))
    monkeypatch.setattr(strategy, "restore", lambda *__, **___: done.append("restore"))
    world.host.filler.switches["br0"] = t.cast("t.Any", switch)
    world.living.base = {"br0": types.SimpleNamespace(settings=None)}
    if made is None:
        with pytest.raises(
            HotUpgradeError, match=r"br0 of the new ovs-vswitchd does not hold what the old one holds"
        ):
            strategy._fill(world.host, "br0")
    else:
        strategy._fill(world.host, "br0")
        assert done == made


class Settling:
    """Protocols that settle or not, of bridges with or without trees."""

    def __init__(self, error: HotUpgradeError | None = None, trees: t.Any = False) -> None:
        self.error, self.trees = error, trees

    def begin(self, *_words: t.Any) -> None: ...

    def settle(self, *_words: t.Any) -> None:
        if self.error:
            raise self.error


@pytest.mark.parametrize("error", [None, strategy.Unprimed("no neighbour")])
@pytest.mark.parametrize("changed", [True, False])
def test_a_database_that_changes_while_the_protocols_settle_is_the_reason_to_begin_anew(
    host: t.Any, monkeypatch: pytest.MonkeyPatch, error: HotUpgradeError | None, changed: bool
) -> None:
    noted: dict[str, t.Any] = {}
    contents = iter([{"Port": {"p1": {"tag": ("set", (tag,))}}} for tag in ("1", "2" if changed else "1")])
    monkeypatch.setattr(strategy, "_content", lambda _database: next(contents))
    monkeypatch.setattr(strategy.newcomer, "control", lambda _host: None)
    monkeypatch.setattr(strategy.newcomer, "open_database", contextlib.nullcontext)
    monkeypatch.setattr(strategy, "_carry_learned", lambda _host: None)
    host.transaction.note = lambda **words: noted.update(words)
    host.protocols = Settling(error)
    expected = "the database was changed" if changed else "cannot go on" if error else ""
    with pytest.raises(HotUpgradeError, match=expected) if expected else contextlib.nullcontext():
        strategy._run_protocols(host)
    assert (AGAIN in noted, strategy.UNPRIMED in noted) == (bool(expected), bool(error and not changed))


def test_trees_that_are_not_the_same_any_more_are_tried_again(
    host: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: dict[str, t.Any] = {}

    def require(*_words: t.Any) -> None:
        raise strategy.TimedOut("they differ", "br0")

    monkeypatch.setattr(strategy.newcomer, "control", lambda _host: None)
    host.transaction.note = lambda **words: noted.update(words)
    host.protocols = Settling(trees=types.SimpleNamespace(require=require))
    with pytest.raises(strategy.TimedOut):
        strategy._renew(host)
    assert noted == {AGAIN: True}


class Bonds:
    """A process that shows its bonds."""

    def __init__(self, active: str) -> None:
        self.active, self.commands = active, list[tuple[str, ...]]()

    def call(self, *command: str) -> str:
        self.commands.append(command)
        told = [
            f"member {name}: enabled\n{'  active member' if name == self.active else ''}\n" for name in "ab"
        ]
        return "---- bond0 ----\nbond_mode: active-backup\n" + "".join(told)


def test_bonds_without_protocols_keep_their_active_member_too(
    host: t.Any, monkeypatch: pytest.MonkeyPatch, make_request: t.Any
) -> None:
    new = Bonds("a")
    monkeypatch.setattr(strategy.newcomer, "control", lambda _host: new)
    host.services.control = lambda _name: Bonds("b")
    strategy._spread_load(host)
    assert new.commands[1:] == [("bond/set-active-member", "bond0", "b")]
    assert strategy.SPREAD in [step.name for step in strategy.steps(make_request(bonds=True))]


@pytest.mark.parametrize("downgrade", [True, False])
def test_in_userspace_the_database_is_restarted_while_the_new_process_has_its_own(
    make_request: t.Any, downgrade: bool
) -> None:
    request = make_request(userspace=True, restart_server=True, convert=downgrade, downgrade=downgrade)
    names = [step.name for step in strategy.steps(request)]
    adopted = names.index("adopt")
    expected = [*([CONVERT] if downgrade else []), RESTART_SERVER, strategy.RECONNECT]
    assert names[adopted + 1 : adopted + 1 + len(expected)] == expected


def test_the_clocks_of_flows_are_set_last(make_request: t.Any) -> None:
    for userspace in (True, False):
        names = [step.name for step in strategy.steps(make_request(userspace=userspace, protocols=True))]
        last = names[names.index(strategy.RENEW) + 1 : names.index(strategy.CUT_OVER)]
        assert last == [strategy.QUEUES] * userspace, "its queues hold nothing of the time that it took"
