# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ovn-controller between two pods: what is kept of it, and in which container the next one is started."""

from __future__ import annotations

import os
import types
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovn import pods
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.homes import Homes
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import Instance
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import likeness
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process

OLD, NEW = "a" * 64, "b" * 64
RUNNING = Instance(
    Process(7, 8),
    ("/usr/bin/ovn-controller", "unix:/run/openvswitch/db.sock", "--private-key=/tls/key", "--detach"),
    {"ODD": "\udcff"},
)

LIKE = likeness.read(os.getpid())


class Container:
    """One of the two, with the program or without."""

    def __init__(self, identifier: str, first: int) -> None:
        self.id, self.first, self.places = identifier, Process(first, 1), {"": f"/kubepods/{identifier}"}
        self.program: str | None = f"/opt/{first}/ovn-controller"

    def like(self, found: likeness.Likeness) -> likeness.Likeness:
        return found

    def holds(self, process: Process) -> bool:
        return process.pid // 100 == self.first.pid // 100


class World:
    """Both containers, and what was started."""

    def __init__(self) -> None:
        self.old, self.new = Container(OLD, 100), Container(NEW, 200)
        self.started: list[tuple[t.Any, ...]] = []


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(pods.homes, "with_pods", lambda between: between)
    monkeypatch.setattr(pods.homes, "enter", lambda _between: made.new)
    monkeypatch.setattr(pods.homes, "require_shared", lambda *_: None)
    monkeypatch.setattr(pods.containers, "find", lambda *_: made.old)
    monkeypatch.setattr(pods, "called_in", lambda _name, home: home.program)
    monkeypatch.setattr(pods, "running", lambda *_: RUNNING)
    monkeypatch.setattr(pods, "like_of", lambda _instance: LIKE)

    def start(*given: t.Any) -> t.Any:
        made.started.append(given)
        return types.SimpleNamespace(wait=lambda _timeout: None)

    monkeypatch.setattr(pods, "start_like", start)
    return made


def between(tmp_path: Path) -> pods.Pods:
    return pods.Pods(Homes(OLD, NEW), "/run/ovn", str(tmp_path / "kept/ovn-controller.json"))


def nothing() -> None:
    pass


def test_it_is_started_as_it_was_where_it_is_wanted(world: World, tmp_path: Path) -> None:
    made = between(tmp_path)
    made.keep(RUNNING.process)
    made.start(nothing)
    made.go_back(nothing)
    (new, old) = world.started
    assert [each[0].container.id for each in (new, old)] == [NEW, OLD]
    assert [each[1:4] for each in (new, old)] == [
        (RUNNING, "/opt/200/ovn-controller", {"ODD": "\udcff"}),
        (RUNNING, "/opt/100/ovn-controller", {"ODD": "\udcff"}),
    ]
    assert (new[4].like, new[4].process, new[4].places) == (LIKE, world.new.first, world.new.places)


@pytest.mark.parametrize(
    ("pid", "age", "ended"),
    [
        pytest.param(201, 1, True, id="ours"),
        pytest.param(101, 1, False, id="of the old container"),
        pytest.param(201, -1, False, id="older than this run"),
    ],
)
def test_what_was_started_in_vain_is_ended_whatever_it_is_called(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid: int, age: int, ended: bool
) -> None:
    seen: list[Process] = []
    monkeypatch.setattr(pods, "read_pid", lambda _path: pid)
    monkeypatch.setattr(
        pods, "identify", lambda number: Process(number, 1000 + (age if number == pid else 0))
    )
    monkeypatch.setattr(pods, "end_with_monitor", seen.append)
    made = between(tmp_path)
    made.keep(RUNNING.process)
    made.go_back(nothing)
    world.started[-1][5]()
    assert bool(seen) is ended


def test_what_is_kept_is_for_root_alone_and_until_the_next_one_is_well(world: World, tmp_path: Path) -> None:
    made = between(tmp_path)
    with pytest.raises(Refused, match="nobody knows how it was started"):
        made.keep(None)
    assert not made.own(None)
    made.keep(RUNNING.process)
    kept = tmp_path / "kept/ovn-controller.json"
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert made.own(None)
    made.keep(None)  # whoever comes again, while none runs
    made.forget()
    made.forget()
    assert not kept.exists()
    with pytest.raises(HotUpgradeError, match="cannot be started"):
        made.start(nothing)


def test_an_image_without_it_is_refused(world: World, tmp_path: Path) -> None:
    made, world.new.program = between(tmp_path), None
    with pytest.raises(Refused, match="has no ovn-controller"):
        made.require_usable()


def test_one_that_root_must_not_start_is_refused(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubtful = Instance(RUNNING.process, RUNNING.argv, {}, "another user could change its key")
    monkeypatch.setattr(pods, "running", lambda *_: doubtful)
    with pytest.raises(Refused, match="another user could change its key"):
        between(tmp_path).keep(RUNNING.process)


def test_a_process_outside_is_misplaced(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "family", lambda process: [process])
    place = pods._Place(t.cast(t.Any, world.new), "/run/ovn")
    assert place.misplaced(Process(205, 1)) is None
    assert "process 105 is not in container bbbb" in str(place.misplaced(Process(105, 1)))
