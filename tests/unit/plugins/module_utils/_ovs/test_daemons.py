# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import daemons
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Completed
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process

SYSTEMD = "0::/system.slice/ovs-vswitchd.service\n"
OURS = "mnt:[4026531841]"


class Host:
    """A host in a folder, with one ovs-vswitchd of pid 700 whose start time is 22."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rundir = root / "run/openvswitch"
        self.rundir.mkdir(parents=True)
        os.chmod(root, 0o755)
        self._namespaces("self", OURS)
        self.disk: str | None = "ovs-vswitchd (Open vSwitch) 4.0.0\n"
        self.running: str | None = "ovs-vswitchd (Open vSwitch) 3.5.0\n"
        self.main_pid = "700"
        self.versions_asked: list[list[str]] = []

    def binary(self, path: str = "usr/sbin/ovs-vswitchd") -> str:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(0o755)
        os.chmod(file, 0o755)
        return str(file)

    def _namespaces(self, who: str, mounts: str) -> None:
        folder = self.root / "proc" / who
        (folder / "ns").mkdir(parents=True)
        (folder / "ns/mnt").symlink_to(mounts)
        (folder / "ns/user").symlink_to("user:[4026531837]")
        (folder / "root").symlink_to("/")

    def start(
        self,
        cgroup: str = SYSTEMD,
        exe: str = "",
        parent: int = 1,
        name: str = "ovs-vswitchd",
        uid: int | None = None,
        mounts: str = OURS,
    ) -> None:
        (self.rundir / "ovs-vswitchd.pid").write_text("700\n")
        uid = os.geteuid() if uid is None else uid
        folder = self.root / "proc/700"
        self._namespaces("700", mounts)
        (folder / "stat").write_text(f"700 ({name}) " + " ".join(["S", *(str(n) for n in range(4, 40))]))
        (folder / "comm").write_text(name + "\n")
        (folder / "status").write_text(f"Name:\t{name}\nPPid:\t{parent}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
        (folder / "cgroup").write_text(cgroup)
        (folder / "exe").symlink_to(exe or self.binary())

    def monitor(self, title: str) -> None:
        (self.root / "proc/699").mkdir()
        (self.root / "proc/699/cmdline").write_text(title + "\0")

    def systemd(self) -> None:
        (self.root / "run/systemd/system").mkdir(parents=True)

    def inspect(self, name: str = daemons.VSWITCHD) -> daemons.Daemon:
        return daemons.inspect(name, str(self.rundir), 1.0, str(self.root), self._run, self._control)

    def _run(self, argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        if argv[0] == "systemctl":
            return Completed(0, self.main_pid + "\n", "")
        self.versions_asked.append(list(argv))
        assert argv[-1] == "--version"
        if self.disk is None:
            raise HotUpgradeError("cannot run it")
        return Completed(0, self.disk, "")

    def _control(self, path: str, timeout: float) -> t.Any:
        assert path == str(self.rundir / "ovs-vswitchd.700.ctl")
        host = self

        class Control:
            def call(self, command: str) -> str:
                assert command == "version"
                if host.running is None:
                    raise Unreachable("silent")
                return host.running

        return Control()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_daemon_of_systemd_before_its_upgrade(host: Host) -> None:
    host.systemd()
    host.start()
    daemon = host.inspect()
    assert daemon == daemons.Daemon(
        name="ovs-vswitchd",
        pidfile=str(host.rundir / "ovs-vswitchd.pid"),
        process=Process(700, 22),
        user="root",
        running_version="3.5.0",
        disk_version="4.0.0",
        binary=str(host.root / "usr/sbin/ovs-vswitchd"),
        binary_replaced=False,
        supervisor=daemons.Supervisor(
            "systemd", "ovs-vswitchd.service", None, "/system.slice/ovs-vswitchd.service"
        ),
    )
    assert daemon.running
    assert daemon.upgrade_pending


def test_the_same_version_from_the_same_file_is_up_to_date(host: Host) -> None:
    host.running = "ovs-vswitchd (Open vSwitch) 4.0.0\n"
    host.start()
    assert not host.inspect().upgrade_pending


def test_a_rebuilt_package_of_the_same_version_is_an_upgrade(host: Host) -> None:
    host.running = "ovs-vswitchd (Open vSwitch) 4.0.0\n"
    host.binary()
    host.start(exe=host.binary("usr/sbin/ovs-vswitchd (deleted)"))
    daemon = host.inspect()
    assert daemon.binary_replaced
    assert daemon.binary == str(host.root / "usr/sbin/ovs-vswitchd")
    assert daemon.upgrade_pending


def test_the_binary_is_where_the_process_came_from(host: Host) -> None:
    host.binary()
    host.start(exe=host.binary("opt/ovs/sbin/ovs-vswitchd"))
    assert host.inspect().binary == str(host.root / "opt/ovs/sbin/ovs-vswitchd")


def test_a_program_that_a_rollback_kept_is_not_the_one_on_disk(host: Host) -> None:
    installed = host.binary()
    host.start(exe=host.binary("var/lib/ovsops/tx-1/old/ovs-vswitchd"))
    daemon = host.inspect()
    assert (daemon.binary, daemon.binary_replaced, daemon.upgrade_pending) == (installed, True, True)


def test_a_removed_package(host: Host) -> None:
    host.start(exe=host.binary("usr/sbin/ovs-vswitchd (deleted)"))
    daemon = host.inspect()
    assert (daemon.installed, daemon.binary, daemon.disk_version) == (False, None, None)
    assert daemon.running
    assert not daemon.upgrade_pending


def test_stopped(host: Host) -> None:
    host.binary()
    daemon = host.inspect()
    assert (daemon.running, daemon.installed, daemon.disk_version) == (False, True, "4.0.0")
    assert (daemon.supervisor, daemon.user, daemon.running_version) == (None, None, None)
    assert not daemon.upgrade_pending


def test_not_installed(host: Host) -> None:
    daemon = host.inspect()
    assert not daemon.installed
    assert not daemon.running


def test_a_binary_that_does_not_run(host: Host) -> None:
    host.binary()
    host.disk = None
    assert host.inspect().disk_version is None


def test_a_pidfile_of_a_process_that_ended(host: Host) -> None:
    (host.rundir / "ovs-vswitchd.pid").write_text("700\n")
    assert not host.inspect().running


def test_a_pidfile_whose_number_somebody_else_has_got(host: Host) -> None:
    host.start(exe=host.binary("usr/bin/bash"))
    daemon = host.inspect()
    assert (daemon.running, daemon.doubt) == (False, "process 700 runs /usr/bin/bash")


def test_a_daemon_that_hangs_still_runs(host: Host) -> None:
    host.running = None
    host.start()
    daemon = host.inspect()
    assert daemon.running
    assert daemon.running_version is None
    assert not daemon.upgrade_pending


@pytest.mark.parametrize(
    ("cgroup", "kind", "unit"),
    [
        ("0::/user.slice/user-0.slice/session-3.scope\n", "plain", None),
        ("0::/system.slice/cron.service\n", "plain", "cron.service"),
        ("0::/\n", "plain", None),
        ("0::/user.slice/user-7.slice/user@7.service/app.slice/ovs-vswitchd.service\n", "plain", None),
        (
            "9:name=systemd:/system.slice/ovs-vswitchd.service\n4:memory:/\n0::/x\n",
            "systemd",  # although its main process is not known
            "ovs-vswitchd.service",
        ),
        ("0::/system.slice/docker-0123abcd.scope\n", "container", None),
        ("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-12.scope\n", "container", None),
        ("0::/machine.slice/libpod-12.scope/container\n", "container", None),
        ("12:pids:/docker/12\n9:name=systemd:/docker/12\n", "container", None),
    ],
)
def test_supervisors_by_control_group(host: Host, cgroup: str, kind: str, unit: str | None) -> None:
    host.systemd()
    host.main_pid = "0"
    host.start(cgroup=cgroup)
    supervisor = host.inspect().supervisor
    assert supervisor is not None
    assert (supervisor.kind, supervisor.unit) == (kind, unit)


@pytest.mark.parametrize("name", ["ns/mnt", "ns/user", "root"])
def test_nothing_of_a_process_in_other_namespaces_is_executed(host: Host, name: str) -> None:
    host.start(exe="/srv/theirs/ovs-vswitchd")
    (host.root / "proc/700" / name).unlink()
    (host.root / "proc/700" / name).symlink_to("other:[1]")
    host.binary()
    daemon = host.inspect()
    assert daemon.supervisor is not None
    assert daemon.supervisor.kind == "container"
    assert (daemon.running_version, daemon.disk_version) == ("3.5.0", None)
    assert daemon.binary == "/srv/theirs/ovs-vswitchd"
    assert host.versions_asked == []


def test_a_silent_process_of_another_name_in_a_container_is_not_the_daemon(host: Host) -> None:
    host.running = None
    host.start(mounts="mnt:[1]", exe="/bin/sh", name="sh")
    daemon = host.inspect()
    assert (daemon.running, daemon.doubt) == (
        False,
        "process 700 is another program, in namespaces of its own",
    )


def test_a_unit_without_a_running_systemd_supervises_nothing(host: Host) -> None:
    host.start()
    supervisor = host.inspect().supervisor
    assert supervisor is not None
    assert (supervisor.kind, supervisor.unit) == ("plain", "ovs-vswitchd.service")


def test_a_monitor(host: Host) -> None:
    host.systemd()
    host.start(parent=699)
    host.monitor("ovs-vswitchd: monitoring pid 700 (healthy)")
    supervisor = host.inspect().supervisor
    assert supervisor is not None
    assert (supervisor.kind, supervisor.monitor_pid, supervisor.unit) == (
        "monitor",
        699,
        "ovs-vswitchd.service",
    )


def test_a_parent_that_is_no_monitor(host: Host) -> None:
    host.start(parent=699)
    host.monitor("bash")
    supervisor = host.inspect().supervisor
    assert supervisor is not None
    assert (supervisor.kind, supervisor.monitor_pid) == ("plain", None)


def test_the_user_of_the_run_directory_is_the_daemons(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemons, "owner_of", lambda rundir: 4294967)
    host.start(uid=4294967)
    assert (host.inspect().user, host.inspect().doubt) == ("4294967", None)


def test_another_users_process_is_not_the_daemon(host: Host) -> None:
    host.start(uid=4294967)
    daemon = host.inspect()
    assert not daemon.running
    assert "process 700 is of the user 4294967, not of root" in str(daemon.doubt)
    assert host.versions_asked == [[str(host.root / "usr/sbin/ovs-vswitchd"), "--version"]]


@pytest.mark.parametrize("place", ["home/u/ovs-vswitchd", "tmp/ovs-vswitchd", "var/lib/mine/ovs-vswitchd"])
def test_a_program_that_no_package_has_put_there_is_not_the_daemon(host: Host, place: str) -> None:
    host.start(exe=host.binary(place))
    daemon = host.inspect()
    assert (daemon.process, daemon.binary) == (None, None)
    assert daemon.doubt == f"/{place} is not where packages put programs"
    assert host.versions_asked == []


@pytest.mark.parametrize("what", ["usr/sbin/ovs-vswitchd", "usr/sbin", "usr"])
def test_a_program_that_others_can_change_is_not_run(host: Host, what: str) -> None:
    host.start()
    os.chmod(host.root / what, 0o757)
    daemon = host.inspect()
    assert (daemon.binary, daemon.disk_version) == (None, None)
    assert host.versions_asked == []


def test_a_hostile_answer_is_no_version() -> None:
    assert daemons.parse_version("(Open vSwitch) " + "9" * 1000) == "9" * 64
    assert daemons.parse_version("(Open vSwitch) <script>") is None


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("ovs-vswitchd (Open vSwitch) 2.15.0\nDPDK 20.11\n", "2.15.0"),
        ("ovsdb-server (Open vSwitch) 3.5.0-git1\n", "3.5.0-git1"),
        ("no version", None),
        ("", None),
    ],
)
def test_versions(text: str, version: str | None) -> None:
    assert daemons.parse_version(text) == version


def test_a_file_that_cannot_be_executed_is_not_installed(host: Host) -> None:
    os.chmod(host.binary(), 0o644)
    assert daemons.on_disk("ovs-vswitchd", str(host.root)) is None


def test_an_ovs_vswitchd_is_asked_nothing_that_would_end_it_while_it_waits(tmp_path: Path) -> None:
    task = tmp_path / "proc/7/task"

    class Control:
        """Has done what it was about to do when it answers."""

        def call(self, command: str) -> str:
            assert command == "version"  # upcall/show ends 2.15.0 while its threads are not there
            (task / "8").mkdir(parents=True, exist_ok=True)
            (task / "8/comm").write_text("revalidator1\n")
            return "ovs-vswitchd (Open vSwitch) 2.15.0"

    control = t.cast("daemons.Appctl", Control())
    seen = [daemons.takes_upcalls(Process(7, 1), control, str(tmp_path)) for __ in range(2)]
    assert seen == [False, True]
