# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners import nobody, systemd
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners.owner import heritage_of
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import instance
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import cgroups
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    alive,
)

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
) -> t.Iterator[instance.Instance]:
    """A daemon that somebody has started in an odd place; it and its successors are ended."""
    monkeypatch.setattr(instance, "doubt_of_daemon", lambda *__: None)  # it is in /tmp
    argv = [program, "unix:db.sock", request.param, f"--pidfile={tmp_path}/ovs-vswitchd.pid"]
    child = subprocess.Popen(
        argv, cwd="/usr", umask=0o027, env={"ODD": "1"}, stdin=subprocess.DEVNULL, start_new_session=True
    )
    found = Waiter(10.0).wait("it runs", lambda: instance.running(str(tmp_path), "ovs-vswitchd"), bool)
    yield found
    for pid in (child.pid, found.process.pid, int((tmp_path / "ovs-vswitchd.pid").read_text())):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    child.wait()


def plain(first: instance.Instance, program: str) -> nobody.Nobody:
    rundir = next(word.partition("=")[2] for word in first.argv if word.startswith("--pidfile="))
    return nobody.Nobody("ovs-vswitchd", os.path.dirname(rundir), program, heritage_of(first))


def test_a_daemon_that_nobody_owns_is_started_as_it_was(first: instance.Instance, program: str) -> None:
    owner = plain(first, program)
    job = owner.restart(first, None)
    job.wait(10.0)
    assert not alive(first.process)
    second = instance.running(owner.rundir, "ovs-vswitchd")
    assert alive(second.process)
    assert second.environment == {"ODD": "1"}
    assert heritage_of(second) == owner.heritage
    assert os.stat(f"{owner.rundir}/ovs-vswitchd.pid").st_mode & 0o777 == 0o640
    assert ("--detach" in second.argv) == ("--detach" in first.argv)
    assert job.refused == []
    assert owner.healthy(second.process) is None


def test_one_that_does_not_start_says_why(first: instance.Instance, program: str) -> None:
    broken = dataclasses.replace(first, argv=(*first.argv, "--broken"))
    job = plain(first, program).restart(broken, None)
    with pytest.raises(HotUpgradeError, match="did not start"):
        job.wait(10.0)
    assert job.failed()


def test_a_program_that_is_not_there_leaves_the_old_process_ended_and_says_so(
    first: instance.Instance,
) -> None:
    with pytest.raises(HotUpgradeError, match="No such file"):
        plain(first, "/not/there/ovs-vswitchd").restart(first, None)


def test_a_process_in_a_group_of_ours_is_not_healthy(
    first: instance.Instance, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = plain(first, program)
    monkeypatch.setattr(cgroups, "ours", lambda pid: "/system.slice/ovsops-handover-engine.service")
    assert "systemd would end it with the hand-over" in str(owner.healthy(first.process))


@pytest.mark.parametrize(("said", "well"), [("login.scope", True), (None, True), ("ssh.service", False)])
def test_systemd_must_say_that_it_belongs_where_the_old_one_did(
    first: instance.Instance, program: str, monkeypatch: pytest.MonkeyPatch, said: str | None, well: bool
) -> None:
    owner = plain(first, program)
    elsewhere = dataclasses.replace(owner.heritage, owner="login.scope", places={"": "/somewhere else"})
    owner = dataclasses.replace(owner, heritage=elsewhere)
    monkeypatch.setattr(cgroups, "unit_of", lambda pid: said)
    assert (owner.healthy(first.process) is None) == well
    same = dataclasses.replace(elsewhere, places=cgroups.places(first.process.pid))
    assert dataclasses.replace(owner, heritage=same).healthy(first.process) is None
    unit = systemd.Systemd("ovs-vswitchd.service", "ovs-vswitchd", owner.rundir, same)
    assert unit.misplaced(first.process) is not None
