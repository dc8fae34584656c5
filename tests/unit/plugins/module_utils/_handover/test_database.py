# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The database through the hand-over: restarted, brought back, its flag and its controllers never left behind."""

from __future__ import annotations

import contextlib
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import TimedOut, Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import controllers, database
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import homes
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import OVSDB_SERVER, VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.homes import Homes


@pytest.fixture(autouse=True)
def let_go(world: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controllers, "let_go", lambda _database: world.done.append("controllers: let go"))
    monkeypatch.setattr(database.liveness, "told", lambda _database: ["up"])
    monkeypatch.setattr(
        database.liveness, "tell_again", lambda _database, found: world.done.append(f"told again: {found}")
    )


def test_a_flag_is_cleared_and_controllers_let_go_whoever_did_it_has_ended(world: t.Any) -> None:
    world.host.database.never_stuck()
    assert "controllers: let go" in world.done
    assert not [each for each in world.done if "flag" in each]
    world.host.database.raise_flag()
    world.host.database.never_stuck()
    assert not world.session.flag


def test_what_vswitchd_has_applied_is_waited_for(world: t.Any) -> None:
    world.session.looks = 3
    world.host.database.wait_for_vswitchd()
    assert 100.03 < world.clock.now < 100.05


def test_one_that_never_applies_it_is_named_with_its_log(world: t.Any) -> None:
    world.session.looks = 10_000
    with pytest.raises(
        TimedOut, match=r"ovs-vswitchd has applied the database.*/var/log/openvswitch/ovs-vswitchd.log"
    ):
        database.wait_until_applied(world.session, Waiter(1.0, clock=world.clock))


class Server:
    """ovsdb-server's control socket: the remotes of before and after."""

    def __init__(self, *remotes: str) -> None:
        self.remotes = list(remotes)
        self.added: list[str] = []

    def call(self, command: str, *words: str) -> str:
        if command.endswith("add-remote"):
            self.added += words
            return ""
        return self.remotes.pop(0)


@pytest.fixture(name="server")
def _server(world: t.Any, monkeypatch: pytest.MonkeyPatch) -> Server:
    return serving(world, monkeypatch)


def serving(world: t.Any, monkeypatch: pytest.MonkeyPatch) -> Server:
    """An ovsdb-server that is restarted once, and an ovs-vswitchd."""
    server = Server("punix:/run/db.sock ptcp:6640 db:x", "pfd:3 db:x")
    monkeypatch.setattr(type(world.host.services), "control", lambda *__: server)
    monkeypatch.setattr(database, "forwards_in_main_loop", lambda _process: True)
    for name in (VSWITCHD, OVSDB_SERVER):
        world.daemon(name)
    return server


def test_a_restart_gives_the_remotes_again_but_for_the_sockets_of_the_start(
    world: t.Any, server: Server
) -> None:
    world.host.database.restart_server()
    assert server.added == ["ptcp:6640"]
    assert "owner of ovsdb-server: restart with the installed program" in world.done


def test_a_start_that_converts_the_database_is_told(
    world: t.Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = iter(["8.3.0", "8.3.0", "8.5.0", "8.5.0"])
    monkeypatch.setattr(type(world.session), "schema_version", property(lambda _session: next(versions)))
    with pytest.raises(HotUpgradeError, match=r"it was 8\.3\.0 and is 8\.5\.0.*old/conf\.db"):
        world.host.database.restart_server()


@pytest.fixture(params=[True, False])
def userspace(world: t.Any, request: pytest.FixtureRequest) -> bool:
    """Before anything else makes the host."""
    world.wish["userspace"] = request.param
    return bool(request.param)


@pytest.mark.parametrize("free_try", [True, False])
def test_a_process_that_moves_packets_itself_is_stopped_only_if_it_comes_back_at_once(
    world: t.Any, userspace: bool, server: Server, monkeypatch: pytest.MonkeyPatch, free_try: bool
) -> None:
    used: list[str] = []

    for name in ("stopped", "modest"):
        monkeypatch.setattr(
            database, name, lambda _process, name=name: contextlib.nullcontext(used.append(name))
        )
    world.host.database.restart_server(free_try)
    assert used == ["stopped" if free_try and userspace else "modest"]


def test_one_with_a_database_of_its_own_is_neither_held_back_nor_waited_for(
    world: t.Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope, used = world.host.scope, list[str]()
    for name in ("stopped", "modest", "unhindered"):
        monkeypatch.setattr(
            database, name, lambda _process, name=name: contextlib.nullcontext(used.append(name))
        )
    Path(scope.private).symlink_to(world.rundir)
    world.daemon(OVSDB_SERVER, scope.seen("database"))
    world.session.looks = 10_000
    world.host.database.restart_server(free_try=True)
    assert used == ["unhindered"]
    # Its own has ended: it has the real one.
    del world.running[scope.seen("database"), OVSDB_SERVER]
    assert not world.host.database.apart()


def test_the_server_of_a_pod_goes_back_into_the_pod_of_before(
    world: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would end with the new pod, which is deleted then."""
    world.wish["homes"] = Homes("1" * 64, "2" * 64)
    server = serving(world, monkeypatch)
    where = ["2"]
    monkeypatch.setattr(
        homes.containers, "is_in", lambda _process, identifier, _pod: identifier[0] == where[0]
    )
    with pytest.raises(HotUpgradeError, match="ovsdb-server is not in the container of before"):
        world.host.database.put_server_back(free_try=False)
    assert f"owner of ovsdb-server: restart with {world.host.scope.kept}" in world.done
    assert server.added == ["ptcp:6640"]
    where[0], world.done[:] = "1", []
    world.host.database.put_server_back(free_try=False)
    assert not [each for each in world.done if "restart" in each]


def test_a_database_that_answers_is_left_alone(world: t.Any, server: Server) -> None:
    world.host.database.ensure()
    assert not [each for each in world.done if "restart" in each]


def test_one_that_is_dead_is_started_and_else_by_the_program_of_before(world: t.Any, server: Server) -> None:
    starts = [world.spy("job", wait=HotUpgradeError("it did not start")), world.spy("job")]
    for job in starts:
        job.refused = ["a limit"]
    given: list[str | None] = []
    world.owners[OVSDB_SERVER].answers["restart"] = lambda _old, binaries: (
        given.append(binaries) or starts.pop(0)
    )
    world.owners[OVSDB_SERVER].answers["healthy"] = lambda _process: "it is not active"
    world.host.database.ensure()
    assert given == [None, world.host.scope.kept]
    assert world.host.report.not_carried == ["a limit"]


@pytest.mark.parametrize(
    ("revives", "seconds"), [(True, database.REVIVED_TIMEOUT), (False, database.MONITOR_TIMEOUT)]
)
def test_one_whose_service_starts_it_again_gets_the_time_for_it(
    world: t.Any, server: Server, revives: bool, seconds: float
) -> None:
    world.owners[OVSDB_SERVER].answers["healthy"] = lambda _process: "it is not active"
    world.owners[OVSDB_SERVER].revives = revives
    world.host.database.ensure()
    assert world.clock.now == pytest.approx(100 + seconds, abs=0.01)


@pytest.mark.parametrize(("found", "converted"), [("8.8.0", True), ("8.3.1", False)])
def test_a_database_of_another_schema_is_converted_without_what_that_does_not_allow(
    world: t.Any, monkeypatch: pytest.MonkeyPatch, found: str, converted: bool
) -> None:
    content = {"Flow_Table": {"f0": {"name": ("set", ("t",)), "prefixes": ("set", ("a", "b"))}}}
    columns = {"name": {"type": "string"}, "prefixes": {"type": {"key": "string", "min": 0, "max": 1}}}
    monkeypatch.setattr(type(world.session), "schema_version", found)
    monkeypatch.setattr(database.database_content, "read", lambda _session: content)
    monkeypatch.setattr(
        type(world.session),
        "transact",
        lambda _session, *operations: world.done.append([each.get("row") for each in operations]),
    )
    monkeypatch.setattr(world.host.database, "wait_for_vswitchd", lambda: None)
    schema = {"version": "8.3.1", "tables": {"Flow_Table": {"columns": columns}}}
    with world.host.database.open() as session:
        lost = database.database_content.lost(session, schema)
    told = world.host.database.convert(schema, lost)
    done = [each for each in world.done if each == "database: call" or isinstance(each, list)]
    assert done == ([[{"prefixes": ["set", []]}], "database: call"] if converted else [])
    assert told == (["schema 8.3.1 has no place for Flow_Table.prefixes of t = [a, b]"] if converted else [])


@pytest.mark.usefixtures("server")
def test_sessions_that_are_up_are_told_again_before_vswitchd_is_back(
    world: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway chassis of OVN would give its ports away until then; that it cannot be told is no reason to go back."""
    world.host.database.restart_server()
    assert "told again: ['up']" in world.done

    def refuse(*_: t.Any) -> None:
        raise HotUpgradeError("the database refuses it", "it is full")

    monkeypatch.setattr(database.liveness, "tell_again", refuse)
    serving(world, monkeypatch)
    world.host.database.restart_server()
    assert "was gone for a moment: the database refuses it" in world.host.report.not_carried[0]
