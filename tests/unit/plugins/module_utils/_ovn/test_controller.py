# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ovn-controller replaced: what is set before and set back, in which order, and when it counts as settled."""

from __future__ import annotations

import contextlib
import types
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Refused,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import TimedOut
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovn import controller as controllers
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import daemons, ovn
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Connection
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Completed
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process
from tests.unit.plugins.module_utils._handover.conftest import Clock

WAIT = ovn.WAIT_BEFORE_CLEAR
SYSTEMD = daemons.Supervisor("systemd", "ovn-controller.service", None, None)


class World:
    """A host with a chassis: what was done to it, and how old its oldest flow is at each look."""

    def __init__(self) -> None:
        self.ids: dict[str, str] = {"ovn-remote": "tcp:192.0.2.1:6642"}
        self.done: list[t.Any] = []
        self.ages: list[int | None] = [3600, None, 0]
        self.connected = True
        self.fails = False
        self.clock = Clock()
        self.supervisor: daemons.Supervisor | None = SYSTEMD
        self.processes = frozenset({7})
        self.users: dict[int, int] = {}
        self.refuses = False
        self.refusal: type[HotUpgradeError] = HotUpgradeError
        self.pods: t.Any = None

    def chassis(self, running: bool = True) -> ovn.Chassis:
        process = Process(7, 8) if running else None
        daemon = daemons.Daemon(
            *("ovn-controller", "p", process, "root", "25.03.0" if running else None, "26.03.1", "/b", True),
            self.supervisor if running else None,
        )
        settings = {key: value for key, value in self.ids.items() if key.startswith("ovn-")}
        return ovn.Chassis(
            daemon, "host1", "br-int", settings, self.connected if running else None, {"lsp1": 1}
        )

    # The database

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def external_ids(self) -> dict[str, str]:
        return dict(self.ids)

    def set_external_ids(self, values: t.Mapping[str, str | None]) -> None:
        self.done.append(dict(values))
        for key, value in values.items():
            self.ids.pop(key, None)
            if value is not None:
                self.ids[key] = value

    # Its daemon, and the switch

    def run(self, argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        self.done.append(list(argv))
        return Completed(1, "", "it does not start") if self.fails else Completed(0, "", "")

    def call(self, *words: str) -> str:
        self.done.append(words)
        if self.refuses:
            raise self.refusal("refused the command")
        return ""

    def oldest_flow(self, table: int) -> int | None:
        self.clock.sleep(1.0)
        return self.ages.pop(0) if len(self.ages) > 1 else self.ages[0]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(Connection, "open", lambda _self: made)
    monkeypatch.setattr(controllers, "read_database", lambda _: types.SimpleNamespace(external_ids=made.ids))
    monkeypatch.setattr(controllers.ovn, "look", lambda *_args, **_more: made.chassis())
    monkeypatch.setattr(controllers, "Appctl", lambda *_: made)
    monkeypatch.setattr(controllers, "Switch", lambda *_args, **_more: made)
    monkeypatch.setattr(controllers, "wait_end", lambda *_: True)
    monkeypatch.setattr(controllers, "user_of", lambda pid: made.users.get(pid, 0))
    monkeypatch.setattr(controllers, "owner_of", lambda _directory: 994)
    monkeypatch.setattr(controllers.os.path, "isdir", lambda _: True)
    return made


def controller(world: World) -> controllers.Controller:
    connection = Connection("/run/openvswitch", "unix:/run/openvswitch/db.sock", 1.0)
    return controllers.Controller(
        connection, world.pods, world.run, world.clock, lambda _name: world.processes
    )


def test_flows_stay_until_all_are_of_the_new_one(world: World) -> None:
    settled = controller(world).replace(world.chassis(), 8.0, 60.0)
    assert world.done[1:3] == [("exit", "--restart"), ["systemctl", "start", "--", "ovn-controller.service"]]
    assert world.done[0][WAIT] == "8000"
    assert WAIT not in world.ids
    assert set(world.ids) == {"ovn-remote"}
    assert settled.seconds >= 3


def test_what_was_set_before_is_set_again(world: World) -> None:
    world.ids[WAIT] = "500"
    made = controller(world)
    made.prepare(8.0)
    made.prepare(9.0)  # whoever comes again does not take ours for theirs
    assert world.ids[WAIT] == "9000"
    made.replace(world.chassis(), 8.0, 60.0)
    assert world.ids == {"ovn-remote": "tcp:192.0.2.1:6642", WAIT: "500"}


def test_a_longer_wait_is_left(world: World) -> None:
    world.ids[WAIT] = "30000"
    made = controller(world)
    made.prepare(8.0)
    assert world.ids[WAIT] == "30000"
    made.prepare(60.0)
    assert world.ids[WAIT] == "60000"
    made.settle(world.chassis(), 0.0, 60.0)
    assert world.ids[WAIT] == "30000"


def test_one_that_does_not_take_the_command_goes_on_as_it_was(world: World) -> None:
    world.refuses = True
    with pytest.raises(HotUpgradeError, match="refused"):
        controller(world).replace(world.chassis(), 8.0, 60.0)
    assert set(world.ids) == {"ovn-remote"}


@pytest.mark.parametrize("ends", [True, False])
def test_one_that_is_too_busy_to_answer_may_have_heard_it(
    world: World, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """It ends when it has computed; forgotten, nobody would know how to start the next one."""
    made, world.refuses, world.refusal = pods_of(world, monkeypatch), True, Unreachable
    monkeypatch.setattr(controllers, "wait_end", lambda *_: ends)
    monkeypatch.setattr(controllers, "alive", lambda _process: not ends)
    with contextlib.nullcontext() if ends else pytest.raises(HotUpgradeError, match="Run this again"):
        made.replace(world.chassis(), 8.0, 60.0)
    assert deeds(world)[2:] == [("exit", "--restart"), *(["start", "forget"] if ends else [])]
    assert (WAIT in world.ids) is not ends


def test_a_unit_that_only_started_it_is_not_asked_for_another(world: World) -> None:
    world.supervisor = daemons.Supervisor("plain", "cron.service", None, "/system.slice/cron.service")
    controller(world).replace(world.chassis(), 8.0, 60.0)
    assert ["systemctl", "start", "--", "ovn-controller.service"] in world.done


def test_a_second_one_and_one_without_its_database_are_left_alone(world: World) -> None:
    world.processes = frozenset({7, 99})
    with pytest.raises(Refused, match="process 99"):
        controller(world).replace(world.chassis(), 8.0, 60.0)
    world.processes, world.connected = frozenset({7}), False
    with pytest.raises(Refused, match="southbound"):
        controller(world).replace(world.chassis(), 8.0, 60.0)
    assert world.done == []


@pytest.mark.parametrize(("user", "counts"), [(0, True), (994, True), (1000, False)])
def test_what_any_user_calls_so_is_in_nobodys_way(world: World, user: int, counts: bool) -> None:
    """Else whoever has an account keeps ovn-controller from being replaced, and has a node handed back behind Open vSwitch."""
    world.processes, world.users = frozenset({7, 99}), {99: user}
    with pytest.raises(Refused, match="process 99") if counts else contextlib.nullcontext():
        controller(world).require_free(world.chassis())


def test_one_that_a_package_has_ended_is_started(world: World) -> None:
    world.processes = frozenset()
    controller(world).replace(world.chassis(running=False), 8.0, 60.0)
    assert ("exit", "--restart") not in world.done
    assert ["systemctl", "start", "--", "ovn-controller.service"] in world.done


def test_flows_stay_where_the_new_one_does_not_start(world: World) -> None:
    world.fails = True
    with pytest.raises(HotUpgradeError, match="does not start"):
        controller(world).replace(world.chassis(), 8.0, 60.0)
    assert world.ids[WAIT] == "8000"


def test_one_that_comes_to_no_flows_is_told(world: World) -> None:
    world.ages = [None]
    with pytest.raises(TimedOut, match="no flows"):
        controller(world).replace(world.chassis(), 8.0, 5.0)
    world.ages, chassis, world.connected = [0], world.chassis(), False
    with pytest.raises(TimedOut, match="southbound"):
        controller(world).settle(chassis, -9.0, 5.0)
    assert world.ids[WAIT] == "8000"  # whoever comes again goes on with it


def test_one_in_a_container_is_left_alone(world: World) -> None:
    world.supervisor = daemons.Supervisor("container", None, None, "/docker/x")
    with pytest.raises(Refused, match="container"):
        controller(world).replace(world.chassis(), 8.0, 5.0)
    assert world.done == []


class Pods:
    """Two containers, of which the new one may not be able to have it; what was done is in the world's list."""

    home = None

    def __init__(self, world: World, fails: tuple[str, ...] = ()) -> None:
        self._world, self._fails = world, fails

    def __getattr__(self, name: str) -> t.Callable[..., None]:
        def act(*given: t.Any) -> None:
            for ending in filter(callable, given):
                ending()
            self._world.done.append(name)
            if name in self._fails:
                raise HotUpgradeError(f"{name} failed", "it cannot", "See why")

        return act


def pods_of(world: World, monkeypatch: pytest.MonkeyPatch, *fails: str) -> controllers.Controller:
    """Whoever is told to end has ended."""
    world.pods = Pods(world, fails)
    world.supervisor = daemons.Supervisor("container", None, None, "/kubepods/x")
    monkeypatch.setattr(controllers, "alive", lambda _process: False)
    monkeypatch.setattr(controllers, "end_with_monitor", lambda _process: world.done.append("gone"))
    return controller(world)


def deeds(world: World) -> list[t.Any]:
    return [each for each in world.done if not isinstance(each, dict)]


def test_between_two_pods_it_is_kept_before_it_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pods_of(world, monkeypatch).replace(world.chassis(), 8.0, 60.0)
    assert deeds(world) == ["require_usable", "keep", ("exit", "--restart"), "start", "forget"]
    assert WAIT not in world.ids


@pytest.mark.parametrize("settles", [True, False])
def test_one_that_does_not_come_up_in_the_new_pod_gives_way_to_the_one_before(
    world: World, monkeypatch: pytest.MonkeyPatch, settles: bool
) -> None:
    made = pods_of(world, monkeypatch, *(() if settles else ("start",)))
    if settles:  # it starts, and has no flows of its own in time; the one before has
        ages = iter([None] * 7 + [0] * 99)
        monkeypatch.setattr(world, "oldest_flow", lambda _table: (world.clock.sleep(1.0), next(ages))[1])
    with pytest.raises(HotUpgradeError, match="25.03.0 runs in the old pod again") as raised:
        made.replace(world.chassis(), 8.0, 5.0)
    assert ("no flows" in str(raised.value)) == settles
    assert deeds(world)[-4:] == [("exit", "--restart"), "gone", "go_back", "forget"]
    assert set(world.ids) == {"ovn-remote"}


def test_neither_of_both_is_said_with_both_reasons(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = pods_of(world, monkeypatch, "start", "go_back")
    with pytest.raises(HotUpgradeError, match="start failed.*did not come back: go_back failed"):
        made.replace(world.chassis(), 8.0, 5.0)
    assert world.ids[WAIT] == "8000"  # the flows stay for whoever comes again
    assert "forget" not in deeds(world)


def test_one_that_goes_on_is_not_started_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made, world.refuses = pods_of(world, monkeypatch), True
    monkeypatch.setattr(controllers, "alive", lambda _process: True)
    with pytest.raises(HotUpgradeError, match="refused the command"):
        made.replace(world.chassis(), 8.0, 60.0)
    assert deeds(world) == ["require_usable", "keep", ("exit", "--restart"), "forget"]


def test_one_in_a_third_pod_is_no_matter_of_ours(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = pods_of(world, monkeypatch)
    for own in (True, False):
        monkeypatch.setattr(Pods, "own", lambda _self, _process, own=own: own, raising=False)
        assert made.concerns(world.chassis()) is own


def test_one_that_waits_for_northd_is_left_alone(world: World) -> None:
    world.ids["ovn-match-northd-version"] = "true"
    with pytest.raises(Refused, match="northd"):
        controller(world).require_free(world.chassis())
    with pytest.raises(Refused, match="northd"):
        controller(world).replace(world.chassis(), 8.0, 5.0)
    assert world.done == []


def test_without_systemd_its_script_starts_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controllers.os.path, "isdir", lambda _: False)
    world.processes = frozenset()
    monkeypatch.setattr(controllers, "doubt_of_file", lambda path: None if "ovn-ctl" in path else "gone")
    controller(world).replace(world.chassis(running=False), 8.0, 60.0)
    assert ["/usr/share/ovn/scripts/ovn-ctl", "start_controller"] in world.done
    monkeypatch.setattr(controllers, "doubt_of_file", lambda _: "others can write to it")
    with pytest.raises(Refused, match="others can write"):
        controller(world).replace(world.chassis(running=False), 8.0, 60.0)


def test_two_runs_do_not_replace_it_at_once(tmp_path: Path) -> None:
    """The second one would find none, start another from the record, and end the first one's as a stranger."""
    path, clock = str(tmp_path / "run/lock"), Clock()
    first = controllers.alone(5.0, path, clock)
    with first, pytest.raises(TimedOut, match="no other run"), controllers.alone(5.0, path, clock):
        pass
    with controllers.alone(5.0, path, clock):
        pass
