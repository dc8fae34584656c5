# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an unprivileged user can put in our way: files, links, and processes that look like daemons."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused, Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import kept_programs, newcomer
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import instance
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import trust
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import identify
from tests.harness.waiting import wait_until

SOMEBODY = 65534
PROGRAM = "/usr/sbin/ovs-vswitchd"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A file system of root's with a program in it."""
    os.chmod(tmp_path, 0o755)
    program = tmp_path / PROGRAM[1:]
    program.parent.mkdir(parents=True)
    program.touch()
    for path in (program, program.parent, program.parent.parent):
        os.chmod(path, 0o755)
    return tmp_path


def test_what_a_package_installs_is_run(root: Path) -> None:
    assert trust.doubt_of_file(PROGRAM, str(root)) is None


def test_links_of_root_are_followed(root: Path) -> None:
    """As those of update-alternatives, and of /sbin."""
    (root / "etc/alternatives").mkdir(parents=True)
    (root / "etc/alternatives/daemon").symlink_to("../../sbin/ovs-vswitchd")
    (root / "usr/bin").mkdir()
    (root / "usr/bin/daemon").symlink_to("/etc/alternatives/daemon")
    (root / "sbin").symlink_to("usr/sbin")
    assert trust.doubt_of_file("/usr/bin/daemon", str(root)) is None
    assert trust.doubt_of_file("/usr/bin/../bin/./daemon", str(root)) is None


def test_a_link_does_not_lead_out_of_the_root(root: Path) -> None:
    """Whoever has that root for his own cannot get above it either."""
    (root / "usr/bin").mkdir()
    (root / "usr/bin/daemon").symlink_to(f"../../../../../../../../..{PROGRAM}")
    assert trust.real_file("/usr/bin/daemon", str(root)) == f"{root}{PROGRAM}"
    assert trust.doubt_of_file("/usr/bin/daemon", str(root)) is None


@pytest.mark.parametrize(
    ("path", "mode"), [("usr/sbin/ovs-vswitchd", 0o757), ("usr/sbin", 0o777), ("usr", 0o1777), (".", 0o757)]
)
def test_what_others_can_write_to_is_not_run(root: Path, path: str, mode: int) -> None:
    os.chmod(root / path, mode)
    assert "can be written by others" in str(trust.doubt_of_file(PROGRAM, str(root)))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("path", ["usr/sbin/ovs-vswitchd", "usr/sbin", "usr", "."])
def test_what_belongs_to_others_is_not_run(root: Path, path: str) -> None:
    os.chown(root / path, SOMEBODY, -1)
    assert "belongs to" in str(trust.doubt_of_file(PROGRAM, str(root)))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_link_of_others_is_not_followed(root: Path) -> None:
    link = root / "usr/sbin/link"
    link.symlink_to("ovs-vswitchd")
    assert trust.doubt_of_file("/usr/sbin/link", str(root)) is None
    os.chown(link, SOMEBODY, -1, follow_symlinks=False)
    assert "belongs to" in str(trust.doubt_of_file("/usr/sbin/link", str(root)))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_group_that_can_write_is_others(root: Path) -> None:
    os.chmod(root / "usr/sbin", 0o775)
    assert trust.doubt_of_file(PROGRAM, str(root)) is None
    os.chown(root / "usr/sbin", 0, SOMEBODY)
    assert "can be written by others" in str(trust.doubt_of_file(PROGRAM, str(root)))


def test_other_places_circles_and_other_things_are_refused(root: Path) -> None:
    (root / "usr/sbin/loop").symlink_to("loop")
    (root / "home").mkdir(0o755)
    (root / "home/ovs-vswitchd").touch()
    for path, why in {
        "/usr/sbin/loop": "circle",
        "/usr/sbin/none": "No such file",
        "/usr/sbin": "no file",
        "/home/ovs-vswitchd": "not where packages put",
        "/usr/sbin/../../home/ovs-vswitchd": "not where packages put",
    }.items():
        assert why in str(trust.doubt_of_file(path, str(root))), path


def test_a_directory_that_only_root_can_change() -> None:
    assert trust.doubt_of_directory("/usr/bin") is None
    assert "/tmp can be written by others" in str(trust.doubt_of_directory("/tmp"))


@contextlib.contextmanager
def process(*argv: str, **options: t.Any) -> t.Iterator[int]:
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options) as child:
        try:
            # Popen returns while the new program's arguments are not there yet.
            while not Path(f"/proc/{child.pid}/cmdline").read_bytes():
                pass
            yield child.pid
        finally:
            child.kill()


def test_a_process_is_taken_for_what_it_runs() -> None:
    with process("/bin/cat") as pid:
        name = os.path.basename(trust.program_of(pid))
        assert trust.doubt_of_daemon(pid, name, 0) is None
        assert "runs /" in str(trust.doubt_of_daemon(pid, "ovs-vswitchd", 0))
    assert "has ended" in str(trust.doubt_of_daemon(pid, name, 0))


def test_a_program_that_was_put_aside_for_a_wrapper_is_the_daemon() -> None:
    """dpkg-divert(1) and local wrappers leave ``ovs-vswitchd.distrib`` or ``.real``; ``python3.13`` is named likewise."""
    with process(os.path.realpath("/usr/bin/python3"), "-") as pid:
        assert trust.doubt_of_daemon(pid, "python3", 0) is None
        assert "runs /" in str(trust.doubt_of_daemon(pid, "python", 0))


def test_a_name_alone_makes_no_daemon(tmp_path: Path) -> None:
    fake = tmp_path / "ovs-vswitchd"
    fake.write_bytes(Path(os.path.realpath("/bin/cat")).read_bytes())
    fake.chmod(0o755)
    environment = {**os.environ, "OVS_RUNDIR": str(tmp_path)}
    with process(str(fake), env=environment) as pid:
        assert "not where packages put" in str(trust.doubt_of_daemon(pid, "ovs-vswitchd", os.geteuid()))
        assert newcomer.processes_of(str(tmp_path)) == []
        # It may be a wrapper that becomes the daemon: worth waiting for, and no more.
        assert newcomer._named(str(tmp_path), ("ovs-vswitchd",), 0) == [(identify(pid), "ovs-vswitchd")]
        (tmp_path / "ovs-vswitchd.pid").write_text(f"{pid}\n")
        with pytest.raises(Unreachable, match="not where packages put programs"):
            instance.running(str(tmp_path), "ovs-vswitchd")
        with pytest.raises(Refused, match="program of ovs-vswitchd is not kept"):
            trust.open_program(pid, "ovs-vswitchd", 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_in_a_container_only_that_is_believed_which_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of any pod could have that name, and the number that a pidfile has."""
    monkeypatch.setattr(trust, "_BELIEVED", {})
    argv = ["unshare", "--mount", "/bin/sleep", "60"]
    with process(*argv) as pid:
        wait_until(lambda: trust.program_of(pid).endswith("/sleep"))
        assert trust.doubt_of_daemon(pid, "sleep", 0) == f"process {pid} is in namespaces of its own"
        trust.believe(os.open("/proc/self/ns/mnt", os.O_RDONLY))
        assert trust.doubt_of_daemon(pid, "sleep", 0)
        for __ in range(2):  # the second one is closed again
            trust.believe(os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY))
        assert len(trust._BELIEVED) == 2
        assert trust.doubt_of_daemon(pid, "sleep", 0) is None
        assert trust.doubt_of_daemon(pid, "ovs-vswitchd", 0)


def test_another_users_process_is_no_daemon(tmp_path: Path) -> None:
    name = os.path.basename(os.path.realpath("/bin/cat"))
    environment = {"OVS_RUNDIR": str(tmp_path)}
    with process("/bin/cat", env=environment, user=SOMEBODY) as pid:
        assert f"not of root or {pwd.getpwuid(1).pw_name}" in str(trust.doubt_of_daemon(pid, name, 1))
        assert trust.doubt_of_daemon(pid, name, SOMEBODY) is None
        assert newcomer.processes_of(str(tmp_path), (name,)) == []
        os.chown(tmp_path, SOMEBODY, -1)
        assert newcomer.processes_of(str(tmp_path), (name,)) == [identify(pid)]
        own = {"LANG": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "OVS_RUNDIR": "/run/openvswitch"}
        hostile = {
            "LD_PRELOAD": "/tmp/x.so",
            "OPENSSL_CONF": "/tmp/x",
            "LC_ALL": "../x",
            "LC_X\n": "x",
            "TZ": "/tmp/x",
            "PATH": "/usr/bin:/tmp:/bin",
            "HOME": "/tmp",
            "OVS_LOGDIR": "/etc/cron.d",
            "OVS_RUNDIR": "/run/openvswitch-1\n/x",
        }
        assert trust.trusted_environment(pid, own) == own
        assert trust.trusted_environment(pid, hostile) == {}
        # The service's own file has it, the daemon does not read it.
        assert trust.doubt_of_environment(pid, {**own, "OVS_CTL_OPTS": "--ovs-user=ovs"}) is None
        assert "OVS_LOGDIR=/etc/cron.d" in str(trust.doubt_of_environment(pid, hostile))
    with process("/bin/cat") as pid:
        assert trust.trusted_environment(pid, {"OVS_DBDIR": "/srv"}) == {"OVS_DBDIR": "/srv"}
        assert trust.doubt_of_environment(pid, {"OVS_DBDIR": "/srv"}) is None


USER = [pwd.getpwuid(SOMEBODY).pw_name, grp.getgrgid(pwd.getpwuid(SOMEBODY).pw_gid).gr_name]
OVS_CTL = [
    "unix:/var/run/openvswitch/db.sock",
    "-vconsole:emer",
    "-vsyslog:err",
    "-vfile:info",
    "--mlockall",
    "--user",
    ":".join(USER),
    "--no-chdir",
    "--log-file=/var/log/openvswitch/ovs-vswitchd.log",
    "--pidfile=/var/run/openvswitch/ovs-vswitchd.pid",
    "--detach",
    "--monitor",
]
OVS_CTL_SERVER = [
    "/etc/openvswitch/conf.db",
    "--remote=punix:/var/run/openvswitch/db.sock",
    "--remote=pfd:3",
    "--private-key=db:Open_vSwitch,SSL,private_key",
    "--certificate=db:Open_vSwitch,SSL,certificate",
    "--bootstrap-ca-cert=db:Open_vSwitch,SSL,ca_cert",
    f"--user={USER[0]}",
]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
class TestArguments:
    """Of a daemon that is not root's, and says itself how it was started."""

    @pytest.fixture
    def pid(self) -> t.Iterator[int]:
        group = pwd.getpwuid(SOMEBODY).pw_gid
        with process("/bin/cat", user=SOMEBODY, group=group, extra_groups=[]) as pid:
            yield pid

    @pytest.mark.parametrize("arguments", [OVS_CTL, OVS_CTL_SERVER], ids=["ovs-vswitchd", "ovsdb-server"])
    def test_those_of_ovs_ctl_are_passed_on(self, pid: int, arguments: list[str]) -> None:
        assert trust.doubt_of_arguments(pid, arguments) is None

    @pytest.mark.parametrize(
        "argument",
        [
            "--log-file=/etc/cron.d/x",
            "--log-file=/var/log/openvswitch/../../../etc/cron.d/x.log",
            "--log-f=/etc/cron.d/x",
            "--run=/tmp/x",
            "--remote=punix:/etc/passwd",
            "--bootstrap-ca-cert=/etc/passwd",
            "--hw-rawio-access",
            "--dpdk",
            "/etc/shadow",
            "--user",
            "--user=root",
            "",
            "unix:/x\n--run=x",
        ],
    )
    def test_others_are_not(self, pid: int, argument: str) -> None:
        assert trust.doubt_of_arguments(pid, [*OVS_CTL, argument])

    @pytest.mark.parametrize(
        "arguments", [[], ["--user", "root"], [f"--user={USER[0]}:root"], ["--user", "nobody-knows"]]
    )
    def test_the_user_is_the_one_that_the_process_is(self, pid: int, arguments: list[str]) -> None:
        assert "--user=" in str(trust.doubt_of_arguments(pid, arguments))

    def test_root_may_give_any(self) -> None:
        assert trust.doubt_of_arguments(os.getpid(), ["--run=/root/x"]) is None


def test_the_program_of_a_running_daemon_is_kept(tmp_path: Path) -> None:
    name = os.path.basename(os.path.realpath("/bin/cat"))
    with process("/bin/cat") as pid:
        (tmp_path / f"{name}.pid").write_text(f"{pid}\n")
        kept_programs.keep_binary(str(tmp_path), name, str(tmp_path / "kept"))
    kept = tmp_path / "kept" / name
    assert kept.read_bytes() == Path(os.path.realpath("/bin/cat")).read_bytes()
    assert kept.stat().st_mode & 0o777 == 0o700
    assert os.listdir(tmp_path / "kept/lib") == []


def test_a_library_that_no_package_has_installed_is_not_kept(tmp_path: Path) -> None:
    """A daemon can map any file, delete it, and call it as it likes."""
    code = (
        "import mmap, os, sys, ctypes\n"
        "path = sys.argv[1]\n"
        "descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o755)\n"
        "os.write(descriptor, b'x' * 4096)\n"
        "area = mmap.mmap(descriptor, 4096, prot=mmap.PROT_READ)\n"
        "os.unlink(path)\n"
        "print(flush=True); sys.stdin.read()"
    )
    with process("/usr/bin/python3", "-c", code, str(tmp_path / "libevil.so.1")) as pid:
        name = os.path.basename(trust.program_of(pid))
        while "libevil" not in Path(f"/proc/{pid}/maps").read_text():
            pass
        (tmp_path / f"{name}.pid").write_text(f"{pid}\n")
        kept_programs.keep_binary(str(tmp_path), name, str(tmp_path / "kept"))
    assert os.listdir(tmp_path / "kept/lib") == []
