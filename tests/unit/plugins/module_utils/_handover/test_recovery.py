# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is left with: the old process, its program anew, or one that came by itself."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import OVSDB_SERVER, VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import alive


@pytest.fixture(name="host")
def _host(world: t.Any, monkeypatch: pytest.MonkeyPatch) -> t.Any:
    """One whose parts note what is asked of them; a snapshot is there."""
    host = world.host
    os.mkdir(host.transaction.file("snapshot"))
    monkeypatch.setattr(type(host.scope), "configured", lambda _scope: frozenset())
    for name in ("database", "filler", "vswitchd"):
        spy = world.spy(name, old_runs=False, kept_program_runs=False, replace=77)
        monkeypatch.setattr(host.recovery, f"_{name}", spy)
    return host


def test_what_a_program_is_given_is_read_before_the_one_before_it_ends(world: t.Any, host: t.Any) -> None:
    world.daemon(VSWITCHD)
    host.recovery.make_whole(anew=True)
    order = [
        *("database: ensure", "filler: disconnect", "database: raise_flag", "filler: read_states"),
        *("vswitchd: quiet_old", "living: last_words", "vswitchd: replace", "filler: connect"),
        *("filler: load", "filler: release", "vswitchd: settle", "database: never_stuck"),
    ]
    assert [each for each in world.done if each in order] == order
    assert not any(alive(process) for process in world.running.values())


def test_without_a_snapshot_the_program_starts_empty(world: t.Any, host: t.Any) -> None:
    os.rmdir(host.transaction.file("snapshot"))
    host.recovery.make_whole(anew=True)
    assert {"vswitchd: replace", "filler: release"} <= set(world.done)
    assert not {"filler: read_states", "filler: load"} & set(world.done)


@pytest.mark.parametrize(("anew", "replaced"), [(False, False), (True, True)])
def test_an_old_process_that_runs_is_replaced_only_when_it_has_to_be(
    world: t.Any, host: t.Any, anew: bool, replaced: bool
) -> None:
    host.recovery._vswitchd.answers["old_runs"] = True
    host.recovery.make_whole(anew)
    assert ("vswitchd: replace" in world.done) == replaced
    assert world.done[-1] == "database: never_stuck"


@pytest.mark.parametrize("filled", [True, False])
def test_done_twice_the_kept_program_is_only_given_what_it_lacks(
    world: t.Any, host: t.Any, filled: bool
) -> None:
    host.recovery._vswitchd.answers["kept_program_runs"] = True
    if not filled:
        host.recovery._filler.answers["fill_up"] = HotUpgradeError("it refuses a flow")
    host.recovery.make_whole(anew=True)
    assert "filler: fill_up" in world.done
    assert ("vswitchd: replace" in world.done) != filled


def test_the_flag_is_cleared_whatever_goes_wrong(world: t.Any, host: t.Any) -> None:
    host.recovery._filler.answers["load"] = HotUpgradeError("it refuses a flow")
    with pytest.raises(HotUpgradeError):
        host.recovery.make_whole()
    assert world.done[-1] == "database: never_stuck"


@pytest.mark.parametrize(
    ("follows", "dpdk", "wanted"),
    [
        (True, False, ["vswitchd: quiet_old", "living: last_words"]),
        (True, True, ["living: close"]),
        (False, False, ["living: close"]),
    ],
)
def test_nothing_is_lost_that_a_process_was_told_before_its_program_is_replaced(
    world: t.Any, host: t.Any, follows: bool, dpdk: bool, wanted: list[str]
) -> None:
    """One that ends in an orderly way deletes its flows, and tells its followers so: nothing would be left to give."""
    running = world.daemon(VSWITCHD)
    world.living.follows = follows
    host.scope.request = t.cast("t.Any", world.spy("request"))
    host.scope.request.dpdk, host.scope.request.rundir = dpdk, world.rundir
    socket = pathlib.Path(world.rundir, f"{VSWITCHD}.{running.pid}.ctl")
    socket.touch()
    host.recovery._end_running()
    assert world.done == wanted
    assert alive(running) == socket.exists() == ("living: close" in wanted)


def revived(world: t.Any, host: t.Any) -> None:
    world.daemon(VSWITCHD)
    world.daemon(OVSDB_SERVER)
    world.owners[VSWITCHD].revives = True


def test_one_that_the_service_manager_has_started_lacks_flows_only(
    world: t.Any, host: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    revived(world, host)
    monkeypatch.setattr(type(host.services), "control", lambda *__: world.spy("control", call="4.0.0"))
    host.recovery.fill_revived()
    wanted = ["ensure", "never_stuck", "wait_for_vswitchd"]
    assert [each for each in world.done if each.startswith("database")] == [
        f"database: {each}" for each in wanted
    ]
    assert "filler: fill_up" in world.done
    assert "vswitchd: replace" not in world.done


def test_one_that_does_not_come_back_is_started(world: t.Any, host: t.Any) -> None:
    world.owners[VSWITCHD].revives = True
    host.recovery.fill_revived()
    assert world.clock.now > 110
    assert "vswitchd: replace" in world.done


def test_after_a_boot_the_database_is_waited_for_and_the_flag_cleared_first(
    world: t.Any, host: t.Any
) -> None:
    host.recovery.restore_after_boot()
    assert world.done == [
        *("database: wait", "database: never_stuck", "database: wait_for_vswitchd", "filler: fill_up"),
    ]


def test_the_connections_are_to_the_one_that_was_started(world: t.Any, host: t.Any) -> None:
    given: list[t.Any] = []
    host.recovery._filler.answers["connect"] = lambda *words: given.append(words)
    host.recovery.replace(None)
    [(not_pid, require_start)] = given
    require_start()
    assert (not_pid, world.done[-1]) == (77, "vswitchd: require_start")
