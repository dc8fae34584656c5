# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connected as soon as somebody serves, filled before anybody can find an empty bridge."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import TimedOut
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import controllers, filler


@pytest.fixture(name="parts")
def _parts(world: t.Any, monkeypatch: pytest.MonkeyPatch, kept: t.Any) -> t.Any:
    """The filler of a host with br0, and br1 which has a controller; what is staged is noted."""
    world.wish |= {"bridges": {"br0": (), "br1": ("tcp:1.2.3.4",)}, "ports": 0}
    for name in ("br0", "br1"):
        world.switches[name] = world.spy(name, count_flows=(10, 0), about_flows=12, software="2.15.0")
        world.servers[name] = [2]
    monkeypatch.setattr(controllers, "hold", lambda _database, names: world.done.append(f"hold {[*names]}"))
    monkeypatch.setattr(controllers, "let_go", lambda _database: world.done.append("let go"))
    monkeypatch.setattr(
        filler, "stage", lambda connected, _state, torn: world.spy(f"staged {connected.name}")
    )
    monkeypatch.setattr(
        filler, "fill_up", lambda connected, state: world.done.append(f"fill up {connected.name}")
    )
    monkeypatch.setattr(filler, "readable", lambda _descriptors, seconds: world.clock.sleep(seconds))
    monkeypatch.setattr(filler.Encoded, "of", classmethod(lambda _kind, state: state))
    snapshot = world.host.snapshot
    monkeypatch.setattr(type(snapshot), "read", lambda _snapshot: kept(["br0", "br1"]))
    monkeypatch.setattr(type(snapshot), "now", lambda _self, found, name: found.state(name))
    monkeypatch.setattr(type(world.host.scope), "configured", lambda _scope: frozenset({"br0", "br1"}))
    return world.host.filler


def connect(found: t.Any, require: t.Callable[[], None] = lambda: None) -> None:
    found.connect(1, require)


def test_it_connects_when_another_process_serves_the_sockets(world: t.Any, parts: t.Any) -> None:
    world.servers["br0"] = [1, None, 2]
    looks: list[str] = []
    connect(parts, lambda: looks.append("is it there"))
    assert parts.switches.keys() == {"br0", "br1"}
    assert len(looks) == 2
    assert world.clock.now == pytest.approx(100 + 2 * filler.POLL)


def test_one_that_nobody_serves_is_named_with_what_was_seen(world: t.Any, parts: t.Any) -> None:
    world.servers["br0"] = [1]
    with pytest.raises(
        TimedOut, match=r"br0 has its management socket.*served by process 1.*ovs-vswitchd\.log"
    ):
        connect(parts)
    assert world.clock.now == pytest.approx(100 + world.host.scope.take_over_timeout, abs=0.1)


@pytest.mark.parametrize("error", [HotUpgradeError("it did not start"), Unreachable("the database ended")])
def test_what_has_failed_to_start_is_not_waited_for(
    world: t.Any, parts: t.Any, error: HotUpgradeError
) -> None:
    world.servers["br0"] = [None]

    def failed() -> t.NoReturn:
        raise error

    with pytest.raises(type(error), match=error.what):
        connect(parts, failed)
    assert world.clock.now == 100


def test_bridges_without_controllers_are_filled_and_the_others_wait(world: t.Any, parts: t.Any) -> None:
    connect(parts)
    world.done.clear()
    parts.load()
    assert world.done == [
        *("living: watch", "living: restore", "living: make_again", "living: watch", "living: append")
    ]
    assert parts.staged.keys() == {"br1"}


def test_whoever_cannot_be_reached_by_others_is_watched_when_it_is_full(world: t.Any, parts: t.Any) -> None:
    parts.switches.update(world.switches)
    parts.load()
    assert world.done.count("living: watch") == 1


@pytest.mark.parametrize(
    ("dropped", "staged"), [(None, 0), (HotUpgradeError("the switch has dropped it"), 1)]
)
def test_what_the_switch_has_dropped_is_staged_again(
    world: t.Any, parts: t.Any, dropped: Exception | None, staged: int
) -> None:
    parts.switches.update(world.switches)
    parts.staged["br1"] = world.spy("first", require=dropped)
    parts.stage_controlled()
    assert world.done.count("living: append") == staged


def test_a_switch_that_is_gone_is_not_taken_for_one_that_has_dropped_it(world: t.Any, parts: t.Any) -> None:
    parts.staged["br1"] = world.spy("first", require=Unreachable("it has ended"))
    with pytest.raises(Unreachable):
        parts.stage_controlled()


def test_controllers_come_when_their_bridges_are_full(world: t.Any, parts: t.Any) -> None:
    connect(parts)
    parts.load()
    world.done.clear()
    world.living.answers["flushed"] = True
    world.session.looks = 2
    parts.release()
    order = ["hold ['br1']", "database: flag down", "staged br1: refill", "let go"]
    assert [each for each in world.done if each in order] == order
    assert not parts.staged
    assert {"flushed", "refilled", "forwarding"} <= world.host.report.marks.keys()


def test_what_was_lost_with_its_connection_is_staged_again_before_the_flag_is_cleared(
    world: t.Any, parts: t.Any
) -> None:
    connect(parts)
    parts.load()
    parts.disconnect()
    connect(parts)
    world.done.clear()
    parts.release()
    assert world.done.index("living: append") < world.done.index("database: flag down")


def test_a_bridge_that_was_empty_is_filled_when_all_is_applied(world: t.Any, parts: t.Any) -> None:
    connect(parts)
    parts.load()
    world.switches["br1"].answers["count_flows"] = (0, 0)
    world.session.looks = 3
    parts.release()
    assert "staged br1: commit" in world.done
    assert "staged br1: refill" not in world.done


@pytest.mark.parametrize(("about", "refilled"), [(2, True), (12, False)])
def test_where_nothing_tells_of_the_flush_the_bridge_is_asked(
    world: t.Any, parts: t.Any, about: int, refilled: bool
) -> None:
    connect(parts)
    parts.load()
    world.session.looks = 2
    counts = iter([12])
    world.switches["br1"].answers["about_flows"] = lambda: next(counts, about)
    parts.release()
    assert ("staged br1: refill" in world.done) == refilled


def test_the_window_does_not_wait_for_a_database_that_has_ended(
    world: t.Any, parts: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(parts)
    calls = iter([[{}, {"rows": [{"next_cfg": 7}]}]])

    def transact(_session: t.Any, *__: t.Any) -> t.Any:
        for answer in calls:
            return answer
        raise Unreachable("the database ended")

    monkeypatch.setattr(type(world.session), "transact", transact)
    with pytest.raises(Unreachable):
        parts.release()
    assert world.clock.now == 100


def test_what_never_applies_its_database_is_named_with_its_log(world: t.Any, parts: t.Any) -> None:
    connect(parts)
    world.session.looks = 100_000
    with pytest.raises(TimedOut, match=r"has applied its database.*ovs-vswitchd\.log"):
        parts.release()


def test_an_older_version_gets_its_upcalls_before_the_flag_is_cleared(
    world: t.Any, parts: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        type(world.host.vswitchd), "fit_dispatch", lambda _self, version: world.done.append(f"fit {version}")
    )
    world.host.scope.request = world.spy("request")
    request = world.host.scope.request
    request.dispatch, request.bridges, request.remote, request.timeout, request.ports = (
        True,
        {"br0": ()},
        "",
        1.0,
        0,
    )
    parts.switches.update(world.switches)
    parts.release()
    assert world.done.index("fit 2.15.0") < world.done.index("database: flag down")


def test_every_bridge_that_is_left_gets_what_it_lacks(
    world: t.Any, parts: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(world.host.scope), "configured", lambda _scope: frozenset({"br1"}))
    parts.fill_up()
    assert [each for each in world.done if each.startswith("fill up")] == ["fill up br1"]
    assert world.done[-1] == "br1: left"


def test_connections_are_closed_and_what_waits_is_dropped(world: t.Any, parts: t.Any) -> None:
    connect(parts)
    parts.load()
    parts.disconnect()
    assert {"br0: close", "br1: close", "living: unwatch"} <= set(world.done)
    assert not parts.switches
    assert not parts.staged
