# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import supervisors
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import cgroups
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
    alive,
    identify,
)

# What a unit has been given, where a test does not ask.
NOTHING = t.cast("t.Any", None)


def test_a_kept_library_is_found_by_its_short_names(tmp_path: Path) -> None:
    library = tmp_path / "libofproto-2.15.so.0.0.4"
    library.write_bytes(b"code")
    supervisors._link_short_names(str(library))
    supervisors._link_short_names(str(library))
    assert sorted(os.listdir(tmp_path)) == [
        "libofproto-2.15.so.0",
        "libofproto-2.15.so.0.0",
        "libofproto-2.15.so.0.0.4",
    ]
    assert (tmp_path / "libofproto-2.15.so.0").read_bytes() == b"code"


def test_a_stopped_process_goes_on_whatever_happens_meanwhile() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        process = identify(child.pid)
        assert isinstance(process, Process)
        try:
            with contextlib.suppress(KeyError), supervisors.stopped(process):
                assert os.waitpid(child.pid, os.WUNTRACED)[0] == child.pid
                assert _state(child.pid) == "T"
                raise KeyError
            assert os.waitpid(child.pid, os.WCONTINUED)[0] == child.pid
        finally:
            child.kill()


def test_a_process_is_modest_for_a_while_and_whoever_comes_later_ends_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        process = identify(child.pid)
        assert process is not None
        before = os.getpriority(os.PRIO_PROCESS, child.pid)
        try:
            monkeypatch.setattr(supervisors, "_may_raise_priorities", lambda: False)
            with supervisors.modest(process):  # nobody could end it
                assert os.getpriority(os.PRIO_PROCESS, child.pid) == before
            if os.geteuid() == 0:
                monkeypatch.undo()
                with supervisors.modest(process):
                    assert os.getpriority(os.PRIO_PROCESS, child.pid) == 19
                    supervisors.prioritize(process, before)
                    assert os.getpriority(os.PRIO_PROCESS, child.pid) == before
        finally:
            child.kill()


def test_a_held_unit_does_not_restart_and_starts_as_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = tmp_path / "ovsdb-server.service.d" / "hold.conf"
    monkeypatch.setattr(supervisors.Systemd, "_held", str(held))
    plain = supervisors.Systemd("ovsdb-server.service", "ovsdb-server", "/run/openvswitch", NOTHING)
    assert plain.hold()
    assert held.read_text() == "[Service]\nRestart=no\n"
    assert not plain.hold()
    assert plain.let_go()
    lines = ("ExecStart=", "ExecStart=/bin/x")
    told = supervisors.Systemd("ovsdb-server.service", "ovsdb-server", "/run/openvswitch", NOTHING, lines)
    assert told.hold()
    assert held.read_text().splitlines() == ["[Service]", "Restart=no", *lines]


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


# A daemon as lib/daemon-unix.c makes one: what ``--detach`` and ``--pidfile`` do.
DAEMON = """#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    const char *pidfile = NULL; int detach = 0;
    for (int i = 1; i < argc; i++) {
        if (!strncmp(argv[i], "--pidfile=", 10)) pidfile = argv[i] + 10;
        if (!strcmp(argv[i], "--detach")) detach = 1;
        if (!strcmp(argv[i], "--broken")) { fputs("it is broken\\n", stderr); return 1; }
    }
    int notify[2];
    if (detach) {
        if (pipe(notify)) return 2;
        if (fork()) { char c; close(notify[1]); return read(notify[0], &c, 1) == 1 ? 0 : 3; }
        setsid();
    }
    FILE *file = fopen(pidfile, "w");
    fprintf(file, "%d\\n", (int) getpid());
    fclose(file);
    if (detach) {
        int null = open("/dev/null", O_RDWR);
        for (int fd = 0; fd < 3; fd++) dup2(null, fd);
        if (write(notify[1], "", 1) != 1) return 4;
        close(notify[0]);
        close(notify[1]);
        close(null);
    }
    pause();
    return 0;
}
"""


@pytest.fixture(name="program", scope="module")
def _program(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = shutil.which("cc")
    if compiler is None or os.geteuid() != 0:
        pytest.skip("needs a C compiler and root")
    place = tmp_path_factory.mktemp("program")
    (place / "x.c").write_text(DAEMON)
    subprocess.run([compiler, "-o", str(place / "ovs-vswitchd"), str(place / "x.c")], check=True)
    return str(place / "ovs-vswitchd")


@pytest.fixture(name="first", params=["--detach", "--no-chdir"])
def _first(
    program: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> t.Iterator[supervisors.Instance]:
    """A daemon that somebody has started in an odd place; it and its successors are ended."""
    monkeypatch.setattr(supervisors, "doubt_of_daemon", lambda *__: None)  # it is in /tmp
    argv = [program, "unix:db.sock", request.param, f"--pidfile={tmp_path}/ovs-vswitchd.pid"]
    child = subprocess.Popen(
        argv, cwd="/usr", umask=0o027, env={"ODD": "1"}, stdin=subprocess.DEVNULL, start_new_session=True
    )
    found = Waiter(10.0).wait("it runs", lambda: supervisors.look(str(tmp_path), "ovs-vswitchd"), bool)
    yield found
    for pid in (child.pid, found.process.pid, int((tmp_path / "ovs-vswitchd.pid").read_text())):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    child.wait()


def plain(first: supervisors.Instance, program: str) -> supervisors.Plain:
    rundir = next(word.partition("=")[2] for word in first.argv if word.startswith("--pidfile="))
    return supervisors.Plain("ovs-vswitchd", os.path.dirname(rundir), program, supervisors.heritage_of(first))


def test_a_daemon_that_nobody_owns_is_started_as_it_was(first: supervisors.Instance, program: str) -> None:
    owner = plain(first, program)
    job = owner.restart(first, None)
    job.wait(10.0)
    assert not alive(first.process)
    second = supervisors.look(owner.rundir, "ovs-vswitchd")
    assert alive(second.process)
    assert second.environment == {"ODD": "1"}
    assert supervisors.heritage_of(second) == owner.heritage
    assert os.stat(f"{owner.rundir}/ovs-vswitchd.pid").st_mode & 0o777 == 0o640
    assert ("--detach" in second.argv) == ("--detach" in first.argv)
    assert job.refused == []
    assert owner.healthy(second.process) is None


def test_one_that_does_not_start_says_why(first: supervisors.Instance, program: str) -> None:
    broken = dataclasses.replace(first, argv=(*first.argv, "--broken"))
    job = plain(first, program).restart(broken, None)
    with pytest.raises(HotUpgradeError, match="did not start"):
        job.wait(10.0)
    assert job.failed()


def test_a_program_that_is_not_there_leaves_the_old_process_ended_and_says_so(
    first: supervisors.Instance,
) -> None:
    with pytest.raises(HotUpgradeError, match="No such file"):
        plain(first, "/not/there/ovs-vswitchd").restart(first, None)


def test_a_process_in_a_group_of_ours_is_not_healthy(
    first: supervisors.Instance, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = plain(first, program)
    monkeypatch.setattr(cgroups, "ours", lambda pid: "/system.slice/ovsops-handover-engine.service")
    assert "systemd would end it with the hand-over" in str(owner.healthy(first.process))


@pytest.mark.parametrize(("said", "well"), [("login.scope", True), (None, True), ("ssh.service", False)])
def test_systemd_must_say_that_it_belongs_where_the_old_one_did(
    first: supervisors.Instance, program: str, monkeypatch: pytest.MonkeyPatch, said: str | None, well: bool
) -> None:
    owner = plain(first, program)
    elsewhere = dataclasses.replace(owner.heritage, owner="login.scope", places={"": "/somewhere else"})
    owner = dataclasses.replace(owner, heritage=elsewhere)
    monkeypatch.setattr(cgroups, "unit_of", lambda pid: said)
    assert (owner.healthy(first.process) is None) == well
    same = dataclasses.replace(elsewhere, places=cgroups.places(first.process.pid))
    assert dataclasses.replace(owner, heritage=same).healthy(first.process) is None
    unit = supervisors.Systemd("ovs-vswitchd.service", "ovs-vswitchd", owner.rundir, same)
    assert unit.misplaced(first.process) is not None


def test_what_is_described_is_found_again(first: supervisors.Instance, program: str) -> None:
    owner = plain(first, program)
    record = json.loads(json.dumps(supervisors.describe(owner, program)))
    assert supervisors.described("ovs-vswitchd", owner.rundir, record) == owner
    unit = supervisors.Systemd("x.service", "ovs-vswitchd", owner.rundir, owner.heritage)
    record = json.loads(json.dumps(supervisors.describe(unit, program)))
    assert supervisors.described("ovs-vswitchd", owner.rundir, record) == unit


def test_libraries_of_kept_programs_go_with_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(supervisors, "KEPT", (f"{tmp_path}/",))
    (tmp_path / "old/lib/x.so").parent.mkdir(parents=True)
    (tmp_path / "old/lib/x.so").touch()
    inherited = {"LD_LIBRARY_PATH": f"{tmp_path}/gone/lib:/opt/ovs/lib", "PATH": f"{tmp_path}/gone:/bin"}
    instance = supervisors.Instance(Process(1, 1), ("x",), inherited)
    assert supervisors.environment_of(instance, "/usr/sbin") == {
        "PATH": "/bin",
        "LD_LIBRARY_PATH": "/opt/ovs/lib",
    }
    kept = supervisors.environment_of(instance, f"{tmp_path}/old")
    assert kept["LD_LIBRARY_PATH"] == f"{tmp_path}/old/lib:/opt/ovs/lib"


class Unit:
    """What systemd knows of a unit, from the files below ``place``."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch, main: int, pidfile: str = "") -> None:
        self.drop_in, self.held = (
            place / "x.service.d" / name for name in (supervisors.DROP_IN, supervisors.HOLD)
        )
        self.main, self.own, self.reloads = main, pidfile, 0
        heritage = supervisors.Heritage({}, "x.service", t.cast("t.Any", None))
        self.supervisor = supervisors.Systemd("x.service", "ovs-vswitchd", "/run/openvswitch", heritage)
        monkeypatch.setattr(supervisors.Systemd, "_drop_in", str(self.drop_in))
        monkeypatch.setattr(supervisors.Systemd, "_held", str(self.held))
        monkeypatch.setattr(
            supervisors.Systemd, "_shown", lambda __, unit, *keys: list(map(self.shown, keys))
        )
        monkeypatch.setattr(supervisors, "MAIN", str(place / "ovsops"))
        monkeypatch.setattr(supervisors, "reload", self.reload)
        monkeypatch.setattr(supervisors, "_take_in", lambda *__: [])

    def reload(self) -> None:
        self.reloads += 1

    def shown(self, key: str) -> str:
        return {"MainPID": str(self.main), "PIDFile": self.pidfile or self.own}[key]

    @property
    def pidfile(self) -> str:
        """Of the drop-in; its own is another one."""
        lines = self.drop_in.read_text().splitlines() if self.drop_in.exists() else []
        return next((line.partition("=")[2] for line in lines if line.startswith("PIDFile=")), "")


def test_the_pidfile_tells_a_unit_its_next_main_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = Unit(tmp_path, monkeypatch, os.getpid())
    for __ in range(3):  # as often as somebody hands over in one boot
        unit.supervisor.adopt(Process(77, 1))
        assert unit.pidfile.endswith("/openvswitch/ovs-vswitchd.pid")
    assert unit.reloads == 1
    assert not unit.supervisor.let_go()


def test_a_unit_that_names_its_pidfile_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = Unit(tmp_path, monkeypatch, os.getpid(), "/run/own.pid")
    unit.supervisor.adopt(Process(77, 1))
    assert (unit.pidfile, unit.reloads, list(tmp_path.iterdir())) == ("", 0, [])


def test_a_unit_whose_main_process_is_a_monitor_gets_the_new_monitor_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = Unit(tmp_path, monkeypatch, os.getpid())
    monkeypatch.setattr(supervisors, "_is_monitor", lambda pid: pid == os.getpid())
    monkeypatch.setattr(supervisors, "monitor_of", lambda process: Process(76, 1))
    unit.supervisor.hold()
    unit.supervisor.adopt(Process(77, 1))
    assert Path(unit.pidfile).read_text() == "76\n"
    assert unit.supervisor.let_go()
    assert unit.pidfile == ""
    assert [str(path) for path in tmp_path.rglob("*")] == [str(tmp_path / "ovsops")]
