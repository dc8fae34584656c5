# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import subprocess

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused, Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import containers, likeness
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.containers import Container
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process, identify

ONE, TWO, PAUSE, OTHER = ("1" * 64, "2" * 64, "3" * 64, "4" * 64)
POD = "/kubepods/burstable/pod7"
ME = identify(os.getpid())


class Machine:
    """Processes, by the control groups that they are in; the start of each is its number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.groups: dict[int, str] = {}
        self.users: dict[int, int] = {}
        monkeypatch.setattr(containers, "user_of", lambda pid: self.users.get(pid, 0))
        monkeypatch.setattr(containers.cgroups, "places", self.places)
        monkeypatch.setattr(
            containers, "_processes", lambda: [Process(pid, pid) for pid in sorted(self.groups, reverse=True)]
        )
        monkeypatch.setattr(containers, "alive", lambda _process: True)
        monkeypatch.setattr(containers, "_namespace", lambda _pid, name: f"{name}:[1]")

    def places(self, pid: int) -> dict[str, str]:
        path = self.groups.get(pid)
        return {} if path is None else {"pids": path, "memory": path, "name=systemd": path}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_the_first_process_of_a_container_is_the_one_that_started_first(machine: Machine) -> None:
    machine.groups = {9: f"{POD}/{ONE}", 5: f"{POD}/{ONE}", 3: f"{POD}/{TWO}", 7: "/user.slice"}
    found = containers.find(ONE)
    assert (found.id, found.first, found.pod, found.root) == (ONE, Process(5, 5), POD, "/proc/5/root")
    assert found.holds(Process(9, 9))
    assert not found.holds(Process(3, 3))
    assert containers.holding(Process(7, 7)) is None


def test_below_systemd_a_group_is_a_scope(machine: Machine) -> None:
    pod = "/kubepods.slice/kubepods-pod7.slice"
    machine.groups = {5: f"{pod}/cri-containerd-{ONE}.scope"}
    assert containers.find(ONE).pod == pod


def test_a_user_cannot_make_a_group_of_his_own_the_container(machine: Machine) -> None:
    """An older sudo of his would be the first process: the daemons would be started in his group, with the files of the host."""
    own = f"/user.slice/user-1000.slice/user@1000.service/cri-containerd-{ONE}.scope"
    machine.groups = {3: own, 5: f"{POD}/{ONE}"}
    assert (containers.find(ONE).first, containers.holding(Process(3, 3))) == (Process(5, 5), None)


def test_the_program_that_watches_a_container_is_not_in_it(machine: Machine) -> None:
    """CRI-O's is of root, older, and sees the host; what crun starts is in a group below."""
    pod = "/kubepods.slice/kubepods-pod7.slice"
    machine.groups = {3: f"{pod}/crio-conmon-{ONE}.scope", 5: f"{pod}/crio-{ONE}.scope/container"}
    assert (containers.find(ONE).first, containers.find(ONE).pod) == (Process(5, 5), pod)
    machine.groups = {3: f"/machine.slice/libpod-conmon-{ONE}.scope"}
    with pytest.raises(Refused, match="does not run on this host"):
        containers.find(ONE)


def test_one_that_ends_while_it_is_looked_at_is_not_there(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a rollback would end with it, which is there for that very case."""

    def gone(_pid: int, _name: str) -> str:
        raise FileNotFoundError("/proc/5/ns/net")

    machine.groups = {5: f"{POD}/{ONE}"}
    monkeypatch.setattr(containers, "_namespace", gone)
    with pytest.raises(Refused, match="does not run on this host"):
        containers.find(ONE)


def test_what_has_groups_of_its_own_below_is_not_the_first_process(machine: Machine) -> None:
    machine.groups = {5: f"{POD}/{ONE}/inner", 6: f"{POD}/{ONE}"}
    assert containers.find(ONE).first == Process(6, 6)


@pytest.mark.parametrize(
    "path",
    [
        # A container of somebody else, who may make groups below it.
        f"/kubepods/burstable/pod8/{OTHER}/{ONE}",
        f"/kubepods/burstable/pod8/cri-containerd-{OTHER}.scope/kubepods/pod7/{ONE}",
        # Names that only begin or end like one.
        f"{POD}/{ONE}0",
        f"{POD}/x{ONE}",
    ],
)
def test_a_group_that_somebody_else_has_called_so_is_not_it(machine: Machine, path: str) -> None:
    machine.groups = {3: path, 5: f"{POD}/{ONE}"}
    assert containers.find(ONE).first == Process(5, 5)
    assert not containers.find(ONE).holds(Process(3, 3))


def test_a_user_of_the_host_cannot_call_his_groups_so(machine: Machine) -> None:
    machine.groups = {3: f"/user.slice/user-1000.slice/user@1000.service/{ONE}", 5: f"{POD}/{ONE}"}
    machine.users = {3: 1000}
    assert containers.find(ONE).first == Process(5, 5)
    assert containers.holding(Process(3, 3)) is None


def test_one_that_was_started_in_the_place_of_one_that_has_ended_is_it(machine: Machine) -> None:
    """Not the one that only holds the namespaces of the pod, nor what another pod has."""
    machine.groups = {2: f"{POD}/{PAUSE}", 8: f"{POD}/{TWO}", 9: f"/kubepods/burstable/pod8/{OTHER}"}
    assert containers.find(ONE, POD).id == TWO
    assert containers.is_in(Process(8, 8), ONE, POD)
    assert not containers.is_in(Process(9, 9), ONE, POD)
    with pytest.raises(Refused, match="does not run on this host"):
        containers.find(ONE)
    del machine.groups[8]
    with pytest.raises(Refused, match="does not run on this host"):
        containers.find(ONE, POD)


@pytest.mark.parametrize("name", ["", "x", ONE[:12], f"{ONE}0", f"containerd://{ONE}", f"../{ONE}"])
def test_a_name_that_is_no_id_is_refused(machine: Machine, name: str) -> None:
    with pytest.raises(Refused, match="is no container"):
        containers.find(name)


def test_one_with_a_network_of_its_own_is_refused(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.groups = {5: f"{POD}/{ONE}"}
    monkeypatch.setattr(containers, "_namespace", lambda pid, name: f"{name}:[{pid if name == 'net' else 1}]")
    with pytest.raises(Refused, match="namespaces of its own: net.*hostNetwork and hostPID"):
        containers.find(ONE)


def test_its_programs_run_with_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "alive", lambda _process: True)
    monkeypatch.setattr(containers, "_pinned", lambda _container: 77)
    argv = Container(ONE, Process(5, 6), {}).inside(["/usr/sbin/ovs-vswitchd", "--version"])
    assert argv == [
        "nsenter",
        f"--mount=/proc/{os.getpid()}/fd/77",
        "--",
        "/usr/sbin/ovs-vswitchd",
        "--version",
    ]


def test_a_daemon_is_like_the_old_one_with_what_the_container_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ME
    own = likeness.read(ME.pid)
    monkeypatch.setattr(Container, "namespaces", property(lambda _self: {"mnt": "mnt:[7]"}))
    daemon = likeness.dataclasses.replace(
        own, nice=-10, umask=0o27, bounding=0, cwd="/somewhere", files={**own.files, "oom_score_adj": "-998"}
    )
    found = Container(ONE, ME, {}).like(daemon)
    assert (found.nice, found.umask, found.cwd) == (-10, 0o27, "/")
    assert (found.bounding, found.files["oom_score_adj"]) == (own.bounding, own.files["oom_score_adj"])
    assert found.namespaces["mnt"] == "mnt:[7]"


def test_of_one_that_has_ended_nothing_can_be_known() -> None:
    gone = Container(ONE, Process(1 << 30, 1), {})
    with pytest.raises(Unreachable, match="does not run: its first process has ended"):
        gone.namespaces.clear()
    assert containers.pin(gone) is None


def test_a_pin_is_of_the_very_process() -> None:
    assert ME
    descriptor = containers.pin(Container(ONE, ME, {}))
    assert descriptor is not None
    assert os.readlink(f"/proc/self/fd/{descriptor}") == os.readlink("/proc/self/ns/mnt")
    os.close(descriptor)
    assert containers.pin(Container(ONE, Process(ME.pid, ME.started + 1), {})) is None


def test_nothing_is_run_in_what_has_its_number_by_now() -> None:
    assert ME
    later = Container(ONE, Process(ME.pid, ME.started + 1), {})
    with pytest.raises(Unreachable):
        later.inside(["ovsdb-tool"])
    with pytest.raises(Unreachable):
        later.root.strip()


def test_a_program_runs_in_the_container_that_was_meant_or_nowhere() -> None:
    """When its first process ends meanwhile, another user's may have the number: root would run what is called so there."""
    with subprocess.Popen(["sleep", "99"]) as child:
        first = identify(child.pid)
        assert first is not None
        container = Container(ONE, first, {})
        place = container.inside(["x"])[1].partition("=")[2]
        child.kill()
    assert os.readlink(place) == os.readlink("/proc/self/ns/mnt")
    with pytest.raises(Unreachable):
        container.inside(["x"])
    os.close(containers._PINNED.pop(first))
