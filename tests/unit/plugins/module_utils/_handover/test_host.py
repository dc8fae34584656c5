# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
import types
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import controllers
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import host as _host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import living as _living
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import switch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process


def test_what_a_program_is_given_on_the_way_back_is_read_before_the_one_before_it_ends(
    tmp_path: Path,
) -> None:
    done: list[str] = []

    def noted(name: str) -> t.Callable[..., bool]:
        return lambda *__: bool(done.append(name))

    host = types.SimpleNamespace(
        snapshot=str(tmp_path),
        kept=str(tmp_path / "old"),
        **{
            name: noted(name)
            for name in (
                *("ensure_server", "old_program_forwards", "old_runs", "disconnect", "raise_flag", "swap"),
                *("_read_states", "load", "release", "settle", "never_stuck", "leave_deleted"),
                "_end_running",
            )
        },
    )
    Host.make_whole(t.cast(Host, host), anew=True)
    assert done.index("_read_states") < done.index("_end_running") < done.index("swap") < done.index("load")


@pytest.mark.parametrize(
    ("follows", "dpdk", "wanted"),
    [
        (True, False, ["quiet", "kill", "last words"]),
        (True, True, ["close"]),
        (False, False, ["close"]),
    ],
)
def test_nothing_is_lost_that_a_process_was_told_before_its_program_is_replaced(
    monkeypatch: pytest.MonkeyPatch, follows: bool, dpdk: bool, wanted: list[str]
) -> None:
    """One that ends in an orderly way deletes its flows, and tells its followers so: nothing would be left to give."""
    done: list[str] = []

    def noted(name: str) -> t.Callable[..., None]:
        return lambda *__: done.append(name)

    monkeypatch.setattr(_host, "kill", noted("kill"))
    monkeypatch.setattr(_host, "look", lambda *__: types.SimpleNamespace(process=None))
    living = types.SimpleNamespace(follows=follows, last_words=noted("last words"), close=noted("close"))
    host = types.SimpleNamespace(
        living=living, quiet_old=noted("quiet"), request=types.SimpleNamespace(dpdk=dpdk), rundir=""
    )
    Host._end_running(t.cast(Host, host))
    assert done == wanted


def test_nobody_waits_for_a_bridge_that_somebody_has_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    configured = [types.SimpleNamespace(name=name) for name in ("br1", "new")]
    monkeypatch.setattr(switch, "live_bridges", lambda connection: configured)
    request = types.SimpleNamespace(bridges={"br0": (), "br1": ()})
    host = t.cast("t.Any", types.SimpleNamespace(request=request, connection=None, deleted=frozenset()))
    assert t.cast("property", Host.bridges).fget(host) == ["br0", "br1"]  # type: ignore[misc]
    Host.leave_deleted(host)
    assert t.cast("property", Host.bridges).fget(host) == ["br1"]  # type: ignore[misc]


def test_a_bridge_that_somebody_has_deleted_is_no_fault_and_one_that_does_not_answer_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(name: str) -> t.NoReturn:
        raise Unreachable(f"cannot connect to {name}.mgmt")

    configured = [types.SimpleNamespace(name="br1")]
    monkeypatch.setattr(switch, "live_bridges", lambda connection: configured)
    host = t.cast("t.Any", types.SimpleNamespace(_switch=gone, living=_living.Living(), connection=None))
    found = Host._account(host, "br0")
    assert (found.settings, found.unexplained.same) == (["the bridge was deleted"], True)
    with pytest.raises(Unreachable):
        Host._account(host, "br1")


def test_a_process_whose_database_has_ended_is_not_asked_for_its_last_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would not answer for a minute, and forwards nothing in userspace meanwhile."""
    gone = subprocess.Popen(["/bin/true"])
    gone.wait()
    process = types.SimpleNamespace(process=Process(gone.pid, 1))
    monkeypatch.setattr(_host, "look", lambda *__: process)
    done: list[str] = []
    living = types.SimpleNamespace(quiet=lambda: done.append("asked"))
    host = types.SimpleNamespace(rundir="", living=living)
    with pytest.raises(Unreachable):
        Host.quiet_old(t.cast(Host, host))
    assert not done


class Database:
    """A database that notes what is done with it."""

    def __init__(self, done: list[str]) -> None:
        self._done = done

    def __call__(self, *__: t.Any) -> Database:
        return self

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *__: object) -> None:
        pass

    def flow_restore_wait(self) -> bool:
        return False

    def set_flow_restore_wait(self, enabled: bool) -> None:
        self._done.append(f"flag {enabled}")


@pytest.fixture(name="done")
def _done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done with the database."""
    done: list[str] = []
    monkeypatch.setattr(_host, "Ovsdb", Database(done))
    monkeypatch.setattr(controllers, "hold", lambda _database, names: done.append(f"hold {[*names]}"))
    monkeypatch.setattr(controllers, "let_go", lambda _database: done.append("let go"))
    return done


def test_controllers_come_when_their_bridges_are_full(done: list[str]) -> None:
    def commit(_database: t.Any, change: t.Callable[[], None]) -> None:
        change()
        done.append("commit")

    host = types.SimpleNamespace(
        request=types.SimpleNamespace(dispatch=False),
        bridges=["br0"],
        states={"br0": None},
        staged={},
        remote="",
        timeout=1.0,
        stage_controlled=lambda: host.staged.update(br0=None),
        commit_behind_flush=commit,
        mark=lambda _name: None,
    )
    Host.release(t.cast(Host, host))
    assert done == ["hold ['br0']", "flag False", "commit", "let go"]


def test_a_controller_is_not_held_for_ever_where_the_flag_is_cleared_and_whoever_did_it_has_ended(
    done: list[str],
) -> None:
    Host.never_stuck(t.cast(Host, types.SimpleNamespace(remote="", timeout=1.0)))
    assert done == ["let go"]
