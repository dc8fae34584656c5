# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import types
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.late_ports import TAP_TYPES
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.outside import OUTSIDE
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.report import Report
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.steps import (
    make_before_break as strategy,
)


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
    monkeypatch.setattr(strategy, "netlink_sockets", lambda _pid: frozenset())
    monkeypatch.setattr(strategy, "queued", lambda _sockets: False)

    def end_old(end: t.Callable[[], None]) -> None:
        calls.append("quiet")
        end()
        calls.append("last words")

    return types.SimpleNamespace(
        calls=calls,
        request=types.SimpleNamespace(vswitchd=types.SimpleNamespace(process=types.SimpleNamespace(pid=1))),
        outside=OUTSIDE,
        living=types.SimpleNamespace(
            carry=noted("carry"), quiet=noted("quiet"), last_words=noted("last words")
        ),
        filler=types.SimpleNamespace(switches={}, staged={}),
        report=Report(),
        vswitchd=types.SimpleNamespace(end_old=end_old, fit_dispatch=noted("fit_dispatch")),
        database=types.SimpleNamespace(ensure=noted("ensure"), wait_for_vswitchd=noted("wait_for_vswitchd")),
        copy=types.SimpleNamespace(set_flow_restore_wait=noted("clear the flag")),
    )


TAKES_UPCALLS = ["clear the flag", "_wait_for_handlers", "fit_dispatch"]
# What the old process was told is asked for before it ends, and made in the new one when all of it is known.
ENDS = ["take_pidfile", "quiet", "end_first", "last words", "carry"]


@pytest.mark.parametrize(
    ("switch_over", "calls"),
    [
        (strategy._switch_over_shared, [*TAKES_UPCALLS, *ENDS]),
        (strategy._switch_over_in_turn, [*ENDS, *TAKES_UPCALLS]),
    ],
)
def test_the_old_process_ends_after_the_new_one_takes_upcalls_or_before_it(
    host: t.Any, switch_over: t.Callable[..., None], calls: list[str]
) -> None:
    switch_over(host, None, host.copy)
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
