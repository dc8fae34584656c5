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
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.quiet import modest, stopped
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.steps import restart, shared


@pytest.fixture(name="host")
def _host(monkeypatch: pytest.MonkeyPatch) -> t.Any:
    calls: list[t.Any] = []

    def connect(not_pid: int, require_start: t.Callable[[], None]) -> None:
        calls.append(f"connect to another than {not_pid}")
        require_start()

    monkeypatch.setattr(restart, "attended", lambda do: do)
    monkeypatch.setattr(restart.newcomer, "connect", lambda host: calls.append("private"))
    return types.SimpleNamespace(
        calls=calls,
        report=types.SimpleNamespace(marks={}),
        request=types.SimpleNamespace(
            dpdk=False, vswitchd=types.SimpleNamespace(process=types.SimpleNamespace(pid=1))
        ),
        services=types.SimpleNamespace(process=lambda _name: "new"),
        filler=types.SimpleNamespace(disconnect=lambda: calls.append("close"), connect=connect),
        database=types.SimpleNamespace(ensure=calls.append),
        vswitchd=types.SimpleNamespace(require_start=lambda new: calls.append(f"{new} has to be there")),
        recovery=types.SimpleNamespace(make_whole=lambda: calls.append("whole")),
    )


@pytest.mark.parametrize(("marks", "quiet"), [({}, stopped), ({"forwarding": 1}, modest)])
def test_a_database_that_ended_is_started_and_the_step_done_again(
    host: t.Any, marks: dict[str, int], quiet: t.Any
) -> None:
    host.report.marks = marks
    outcomes = [Unreachable("no database", "killed"), None]

    def do(_host: t.Any) -> None:
        host.calls.append("do")
        if error := outcomes.pop(0):
            raise error

    restart.persistent(do)(host)
    assert host.calls == ["do", "close", quiet, "private", "do"]


def test_with_dpdk_the_service_has_started_it_in_the_real_directory(host: t.Any) -> None:
    host.request.dpdk = True
    outcomes = [Unreachable("no database", "killed"), None]

    def do(_host: t.Any) -> None:
        if error := outcomes.pop(0):
            raise error

    restart.persistent(do)(host)
    assert host.calls == ["close", stopped, "connect to another than 1", "new has to be there"]


def test_what_is_wrong_with_the_new_version_is_not_tried_again(host: t.Any) -> None:
    def do(_host: t.Any) -> None:
        host.calls.append("do")
        raise HotUpgradeError("it does not hold what it held", "a flow is missing")

    with pytest.raises(HotUpgradeError):
        restart.persistent(do)(host)
    assert host.calls == ["do"]


def test_the_restart_policies_are_held_before_anything_else() -> None:
    """A service manager that restarts ovsdb-server by itself restarts ovs-vswitchd with it: the flows are gone."""
    request: t.Any = types.SimpleNamespace(restart_server=True, userspace=True, dpdk=False)
    assert shared.prepare(request)[0].name == "hold the restart policies"


def test_a_database_that_is_dead_is_told_what_to_give_back(
    host: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.database.ensure = lambda: host.calls.append("database")
    monkeypatch.setattr(shared.shaping, "give_back", lambda host: host.calls.append("given back"))
    shared._give_back(host)
    assert host.calls == ["database", "given back"]


@pytest.mark.parametrize(("adopted", "calls"), [(False, ["ended", "whole"]), (True, ["whole"])])
def test_a_new_process_without_its_place_ends_first(
    host: t.Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, adopted: bool, calls: list[str]
) -> None:
    """With a place it is the model of the old program that starts anew: its open files, say."""
    place = tmp_path / "private"
    if adopted:
        place.symlink_to(tmp_path)
    host.scope = types.SimpleNamespace(private=str(place))
    monkeypatch.setattr(restart.newcomer, "remove", lambda host: host.calls.append("ended"))
    restart.back(host)
    assert host.calls == calls


@pytest.mark.parametrize(
    ("dpdk", "calls"),
    [
        (True, ["vswitchd: require_no_other", "vswitchd: end_old", "recovery: replace"]),
        (
            False,
            [
                *("vswitchd: require_no_other", "held: take_pidfile", "vswitchd: clear_the_way"),
                *("vswitchd: end_old", "end_first"),
                *("held: release", "connect", "take_pidfile"),
            ],
        ),
    ],
)
def test_the_one_that_waits_runs_the_program_when_the_old_one_has_ended(
    world: t.Any, monkeypatch: pytest.MonkeyPatch, dpdk: bool, calls: list[str]
) -> None:
    world.wish["dpdk"] = dpdk
    host = world.host
    world.daemon("ovsdb-server")
    host.vswitchd = world.spy("vswitchd", end_old=lambda end: end())
    host.recovery = world.spy("recovery")
    monkeypatch.setattr(restart, "held_process", world.spy("held"))
    monkeypatch.setattr(restart, "end_first", lambda _host: world.done.append("end_first"))
    for name in ("connect", "take_pidfile"):
        monkeypatch.setattr(restart.newcomer, name, lambda _host, name=name: world.done.append(name))
    restart._restart(host)
    assert world.done == calls
