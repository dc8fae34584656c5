# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import types
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    Ended,
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import newcomer
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import silence
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import Instance
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import process
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import STILL, Process, alive
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.sockets import StandsStill

COLUMNS: dict[str, dict[str, t.Any]] = {"bfd": {}, "cfm_mpid": {}, "lldp": {}}


def silenced(columns: dict[str, t.Any]) -> dict[tuple[str, str], t.Any]:
    """What the copy of a database is set to: (table, column) -> value."""
    copy = types.SimpleNamespace(bridges=list, schema={"tables": {"Interface": {"columns": columns}}})
    return {
        (operation["table"], column): value
        for operation in silence.silence(t.cast("t.Any", copy))
        for column, value in operation.get("row", {}).items()
    }


@pytest.mark.parametrize(
    ("table", "column"),
    [
        *(("Bridge", column) for column in ("controller", "sflow", "netflow", "ipfix")),
        ("Open_vSwitch", "manager_options"),
        ("Port", "lacp"),
        *(("Interface", column) for column in COLUMNS),
    ],
)
def test_two_processes_do_not_both_speak(table: str, column: str) -> None:
    assert silenced(COLUMNS)[table, column] in (["set", []], ["map", []])


def test_a_column_that_the_schema_does_not_have_is_left_alone() -> None:
    assert ("Interface", "lldp") not in silenced({"bfd": {}})


@pytest.fixture(name="host")
def _host(world: t.Any) -> t.Any:
    return world.host


def test_the_private_directory_is_the_daemons_user_s(host: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is not root could not make its sockets and its pidfile there."""
    given: list[t.Any] = []
    monkeypatch.setattr(os, "chown", lambda *words, **__: given.append(words))
    host.services.owner("ovs-vswitchd").heritage.like.uid = 123
    newcomer.make_directory(host)
    assert given == [(host.scope.private, 123, os.getegid())]


@pytest.mark.parametrize("end", [newcomer.remove, newcomer.tidy])
def test_nothing_stays_beside_the_run_directory(
    world: t.Any, host: t.Any, end: t.Callable[[t.Any], None]
) -> None:
    for suffix in (".db", ".done"):
        os.mkdir(host.scope.private + suffix)
    end(host)
    assert [each for each in os.listdir(world.place) if each != "transactions"] == ["run"]


@pytest.mark.parametrize(
    "name", ["ovs-vswitchd", "ovs-vswitchd.real", "ovs-vswitchd.distrib", "ovs-vswitchd-dpdk"]
)
def test_whatever_a_wrapper_starts_is_ended_with_the_private_directory(
    host: t.Any, tmp_path: Path, name: str
) -> None:
    """Two that forward on one datapath take the upcalls from each other; the kernel cuts a name off after 15 bytes."""
    newcomer.make_directory(host)
    program = tmp_path / name
    shutil.copy("/bin/sleep", program)
    environment = {"OVS_RUNDIR": host.scope.private}
    with subprocess.Popen([str(program), "60"], env=environment) as left_over:
        try:
            newcomer.remove(host)
            assert left_over.wait(10) == -signal.SIGKILL
        finally:
            left_over.kill()
    assert not os.path.exists(host.scope.private)


def test_a_second_process_may_need_a_while_until_it_answers(world: t.Any, host: t.Any) -> None:
    answers: t.Iterator[t.Any] = iter([Unreachable("no socket"), Unreachable("no socket"), "3.5.0"])

    def ask() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    assert newcomer.patient(host, ask) == "3.5.0"
    assert world.clock.now == pytest.approx(100 + 2 * newcomer.POLL)


@pytest.mark.parametrize(
    ("state", "seconds", "said"),
    [("gone", 2.0, "it has ended"), ("works", 30.0, "it hangs"), ("stands still", STILL + 1.0, "it hangs")],
)
def test_one_that_has_ended_is_not_waited_for_and_one_that_hangs_not_for_ever(
    world: t.Any, host: t.Any, monkeypatch: pytest.MonkeyPatch, state: str, seconds: float, said: str
) -> None:
    there = [] if state == "gone" else [Process(1234567, 1)]
    monkeypatch.setattr(newcomer, "_there", lambda _host: there)
    done = itertools.count() if state == "works" else itertools.repeat(0)
    monkeypatch.setattr(process, "_traces", lambda pids: [(next(done),)] if list(pids) else None)

    def ask() -> t.NoReturn:
        raise Unreachable("no socket", "nobody listens")

    with pytest.raises(HotUpgradeError, match=rf"did not start: {said}; .*nobody listens.*ovs-vswitchd\.log"):
        newcomer.patient(host, ask)
    assert world.clock.now == pytest.approx(100 + seconds, abs=0.1)


def test_one_that_was_seen_to_stand_still_is_not_waited_for(world: t.Any, host: t.Any) -> None:
    def ask() -> t.NoReturn:
        raise Unreachable("the switch did not answer for 10 s") from StandsStill()

    with pytest.raises(HotUpgradeError, match="did not start"):
        newcomer.patient(host, ask)
    assert world.clock.now == 100


def test_a_database_that_ends_meanwhile_is_not_taken_for_a_process_that_starts(
    world: t.Any, host: t.Any
) -> None:
    def ask() -> t.NoReturn:
        raise Ended("ovsdb-server ended while it was needed")

    with pytest.raises(Ended):
        newcomer.patient(host, ask)
    assert world.clock.now == 100


def test_only_bridges_without_a_connection_are_connected_to(
    world: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.wish |= {"bridges": {"br0": (), "br1": ()}}
    for name in ("br0", "br1"):
        world.switches[name] = world.spy(name)
    world.host.filler.switches["br0"] = "there"
    newcomer.connect(world.host)
    assert world.done == ["connect to br1"]
    assert world.host.filler.switches["br0"] == "there"


def test_the_sockets_come_into_the_real_directory_and_a_link_in_their_place(
    world: t.Any, host: t.Any
) -> None:
    second = world.daemon()
    place, real = host.scope.private, host.request.rundir
    os.mkdir(place)
    moved = ["br0.mgmt", ".hidden.mgmt", "br0.snoop", f"ovs-vswitchd.{second.pid}.ctl"]
    for name in (*moved, "ovs-vswitchd.1.ctl", "db.sock"):
        Path(place, name).touch()
    for __ in range(2):  # whoever goes on after an interruption does it again
        newcomer.move_in(host)
        assert sorted(os.listdir(real)) == sorted(moved)
        assert os.path.realpath(place) == real
    newcomer.tidy(host)
    assert os.path.islink(place) == bool(newcomer.processes_of(place))


def test_sockets_stay_where_nobody_serves_them_any_more(world: t.Any, host: t.Any) -> None:
    os.mkdir(host.scope.private)
    with pytest.raises(Unreachable):
        newcomer.move_in(host)
    assert not os.path.islink(host.scope.private)


def test_the_first_process_ends_with_its_control_socket_alone(world: t.Any) -> None:
    first = world.daemon()
    host = world.host
    own, others = (Path(host.request.rundir, f"ovs-vswitchd.{pid}.ctl") for pid in (first.pid, 1))
    for path in (own, others):
        path.touch()
    newcomer.end_first(host)
    assert not alive(first)
    assert (own.exists(), others.exists()) == (False, True)


def test_the_command_line_is_that_of_the_first_with_two_free_tries(world: t.Any) -> None:
    first = Instance(
        Process(1, 2), ("ovs-vswitchd", "unix:/run/db.sock", "-vinfo", "--detach", "--monitor"), {}
    )
    world.wish["vswitchd"] = first
    assert newcomer.command_line(world.host, "unix:/new.sock", "/usr/sbin/new", "/run/private") == [
        *("/usr/sbin/new", "unix:/new.sock,unix:/new.sock,unix:/new.sock", "-vinfo", "--no-chdir"),
        *("--pidfile=/run/private/ovs-vswitchd.pid", "--monitor"),
    ]


@pytest.mark.parametrize(("answer", "fine"), [("3.5.0", True), (Unreachable("no socket"), False)])
def test_nothing_is_taken_from_the_first_before_the_second_answers(
    world: t.Any, host: t.Any, monkeypatch: pytest.MonkeyPatch, answer: t.Any, fine: bool
) -> None:
    monkeypatch.setattr(newcomer, "reachable", lambda _host: world.spy("new", call=answer))
    if fine:
        newcomer.require_answer(host)
    else:
        with pytest.raises(HotUpgradeError, match="does not answer any more"):
            newcomer.require_answer(host)
