# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ovs-vswitchd of the beginning: who has replaced it, how it ends, and what became of the one that was to come."""

from __future__ import annotations

import dataclasses
import types
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    Ended,
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import vswitchd
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import OVSDB_SERVER, VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import Instance
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.upcall_dispatch import Dispatch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Completed
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process


def end(world: t.Any, number: int = 0) -> None:
    world.children[number].kill()
    world.children[number].wait()


def test_the_old_process_runs_until_it_ends_or_another_has_its_pidfile(world: t.Any) -> None:
    world.daemon()
    assert world.host.vswitchd.old_runs()
    end(world)
    assert not world.host.vswitchd.old_runs()
    world.daemon()
    assert not world.host.vswitchd.old_runs()


def test_one_that_somebody_else_has_started_is_not_taken_over(world: t.Any) -> None:
    first = world.daemon()
    world.host.vswitchd.require_no_other()
    other = world.daemon()
    with pytest.raises(
        HotUpgradeError, match=rf"process {other.pid} runs instead of {first.pid}.*journalctl"
    ):
        world.host.vswitchd.require_no_other()


def test_one_that_has_only_died_is_no_reason_to_wait(world: t.Any) -> None:
    world.daemon()
    assert world.host.vswitchd.old_runs()
    end(world)
    world.host.vswitchd.require_no_other()


@pytest.fixture(name="ends")
def _ends(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Process, float]]:
    asked: list[tuple[Process, float]] = []
    monkeypatch.setattr(vswitchd, "wait_end", lambda process, seconds: not asked.append((process, seconds)))
    return asked


def test_a_replacement_has_ended_the_one_that_ran(world: t.Any, ends: list[tuple[Process, float]]) -> None:
    running = world.daemon()
    assert world.host.vswitchd.replace("/kept") == running.pid
    assert ends == [(running, vswitchd.START_TIMEOUT)]
    assert world.done == ["owner of ovs-vswitchd: restart with /kept"]
    assert "stopped" in world.host.report.marks


def test_where_none_runs_the_service_managers_own_start_is_over_first(
    world: t.Any, ends: list[tuple[Process, float]]
) -> None:
    assert world.host.vswitchd.replace(None) == world.host.request.vswitchd.process.pid
    assert world.done == [
        "owner of ovs-vswitchd: restart with the installed program",
        "job of ovs-vswitchd: wait",
    ]


def test_one_that_does_not_stop_is_named(world: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    running = world.daemon()
    monkeypatch.setattr(vswitchd, "wait_end", lambda *__: False)
    with pytest.raises(HotUpgradeError, match=rf"did not stop: process {running.pid} is still there.*\.log"):
        world.host.vswitchd.replace(None)


def test_a_start_that_has_failed_says_so(world: t.Any, ends: list[tuple[Process, float]]) -> None:
    world.daemon()
    world.host.vswitchd.require_start()  # none is under way
    world.host.vswitchd.replace(None)
    world.host.vswitchd.require_start()
    failed = world.spy("job", failed=True, wait=HotUpgradeError("it did not start"))
    world.host.vswitchd._job = failed
    with pytest.raises(HotUpgradeError, match="it did not start"):
        world.host.vswitchd.require_start()


def test_a_new_process_that_has_ended_is_told_with_its_last_words(
    world: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = world.daemon()
    world.host.vswitchd.require_start(new)
    end(world)
    asked: list[t.Any] = []

    def last_words(argv: list[str], since: int, runner: t.Any) -> str:
        asked.append((argv, since, runner))
        return "a library is missing"

    monkeypatch.setattr(vswitchd, "last_words", last_words)
    world.host.transaction.write("second.json", {"argv": ["/usr/sbin/ovs-vswitchd"], "since": 7})
    with pytest.raises(HotUpgradeError, match=r"has ended: a library is missing.*ovs-vswitchd\.log"):
        world.host.vswitchd.require_start(new)
    assert asked[0][:2] == (["/usr/sbin/ovs-vswitchd"], 7)


@pytest.mark.parametrize(("user", "asked"), [(0, True), (123, False)])
def test_a_program_of_another_user_is_not_run_to_hear_what_is_wrong(
    world: t.Any, monkeypatch: pytest.MonkeyPatch, user: int, asked: bool
) -> None:
    world.owners[VSWITCHD].heritage.like.uid = user
    runners: list[t.Any] = []
    monkeypatch.setattr(vswitchd, "last_words", lambda _argv, _since, runner: runners.append(runner) or "")
    assert world.host.vswitchd.words_of_new() == ""
    world.host.transaction.write("second.json", {"argv": ["/usr/sbin/ovs-vswitchd"], "since": 0})
    world.host.vswitchd.words_of_new()
    assert [runner is not None for runner in runners] == [asked]


def test_what_is_wrong_is_asked_of_the_program_that_was_started(
    world: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a container has its name there: on the host that may be another file, and anybody's."""
    host, run = world.host, []
    monkeypatch.setattr(type(host.scope), "inside", lambda _scope, argv: ["within", *argv])
    host.vswitchd._outside = dataclasses.replace(
        host.outside, run=lambda argv, timeout: run.append(argv) or Completed(127, "", "no library")
    )
    host.transaction.write("second.json", {"argv": ["/usr/local/sbin/none-such"], "since": 0})
    assert host.vswitchd.words_of_new() == "no library"
    assert run == [["within", "/usr/local/sbin/none-such", "--version"]]


@pytest.mark.parametrize(
    ("dispatch", "version", "set_back"), [(True, "2.15.0", 1), (True, "2.16.0", 0), (False, "2.15.0", 0)]
)
def test_a_version_that_knows_no_upcalls_per_cpu_gets_them_per_port(
    world: t.Any, monkeypatch: pytest.MonkeyPatch, dispatch: bool, version: str, set_back: int
) -> None:
    done: list[str] = []
    monkeypatch.setattr(vswitchd.upcall_dispatch, "send_upcalls_per_port", lambda: done.append("per port"))
    world.wish["dispatch"] = dispatch
    world.host.vswitchd.fit_dispatch(version)
    assert len(done) == set_back


def test_upcalls_go_back_to_the_old_process_while_it_runs(
    world: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, directed = world.daemon(), list[Dispatch]()
    found: list[Dispatch | None] = [None, Dispatch(8, b"abcd")]
    monkeypatch.setattr(vswitchd.upcall_dispatch, "read", lambda: found.pop(0))
    monkeypatch.setattr(vswitchd.upcall_dispatch, "direct", directed.append)
    world.wish["vswitchd"] = Instance(old, ("/usr/sbin/ovs-vswitchd",), {})
    assert not world.host.vswitchd.remember_dispatch()  # the kernel does not tell
    assert not world.host.vswitchd.take_upcalls_back()
    assert world.host.vswitchd.remember_dispatch()
    assert world.host.vswitchd.take_upcalls_back()
    assert directed == [Dispatch(8, b"abcd")]
    end(world)
    assert not world.host.vswitchd.take_upcalls_back()


def test_the_old_process_says_all_before_it_ends(world: t.Any) -> None:
    world.daemon(OVSDB_SERVER)
    world.host.vswitchd.end_old(lambda: world.done.append("end"))
    assert world.done == ["living: quiet", "end", "living: last_words"]


def test_a_process_whose_database_has_ended_is_not_asked_for_its_last_words(world: t.Any) -> None:
    """It would not answer for a minute, and forwards nothing in userspace meanwhile."""
    server = world.daemon(OVSDB_SERVER)
    end(world)
    world.host.services._outside = types.SimpleNamespace(
        running=lambda *__: types.SimpleNamespace(process=server)
    )
    with pytest.raises(Ended):
        world.host.vswitchd.quiet_old()
    assert not world.done
    assert issubclass(Ended, Unreachable)


@pytest.mark.parametrize(
    ("userspace", "in_the_way", "told"), [(False, [1017], True), (False, [], False), (True, [1017], False)]
)
def test_meters_in_the_way_of_a_start_are_taken_out_and_told(
    world: t.Any, userspace: bool, in_the_way: list[int], told: bool
) -> None:
    world.wish, world.in_the_way = {"userspace": userspace}, in_the_way
    world.daemon()
    world.host.vswitchd.clear_the_way()
    assert [text for text in world.host.report.not_carried if "[1017]" in text] == (
        ["the limits of the kernel's meters [1017] while the new ovs-vswitchd started"] if told else []
    )


def test_a_kernel_without_meters_is_in_nobodys_way(world: t.Any) -> None:
    def none() -> list[int]:
        raise HotUpgradeError("no datapath", "none")

    world.daemon()
    host = world.host
    host.vswitchd._outside = dataclasses.replace(host.outside, clear_the_way=none)
    host.vswitchd.clear_the_way()
    assert not host.report.not_carried
