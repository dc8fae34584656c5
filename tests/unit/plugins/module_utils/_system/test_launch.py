# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real processes: one that has everything differently than this one, and another that is launched like it."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.machinery
import os
import re
import signal
import subprocess
import sys
import types
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import launch as _launch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import likeness
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
    alive,
    identify,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="changes priorities and limits")

# The first process of a daemon: unlike whatever runs the tests in each thing that exec(2) keeps.
ODD = """
import ctypes, os, resource, signal
libc = ctypes.CDLL(None)
for name, values in {"STACK": (1 << 20, 1 << 22), "CORE": (0, 0), "NOFILE": (700, 900), "MEMLOCK": (1 << 20, 1 << 22)}.items():
    resource.setrlimit(getattr(resource, "RLIMIT_" + name), values)
for name, text in {"oom_score_adj": "321", "coredump_filter": "0x7"}.items():
    with open("/proc/self/" + name, "w") as file:
        file.write(text)
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
os.setpriority(os.PRIO_PROCESS, 0, -7)
libc.prctl(29, 123456)
libc.prctl(38, 1, 0, 0, 0)
libc.prctl(24, 25, 0, 0, 0)
libc.prctl(41, 1, 0, 0, 0)
libc.personality(0x0040000)
if os.uname().machine == "x86_64":
    libc.syscall(251, 1, 0, 2 << 13 | 3)  # ioprio_set: best effort, 3
for number in (10, 12):
    signal.signal(number, signal.SIG_IGN)
for number in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(number, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGWINCH])
os.umask(0o027)
os.chdir("/usr")
os.setgroups([7, 3])
os.setgid(5)
"""
PATIENCE = 10.0


@contextlib.contextmanager
def odd_one(out: Path, more: str = "") -> t.Iterator[Process]:
    """The first process; its streams go to a socket, a file and a pipe."""
    reader, writer = os.pipe()
    code = f"{ODD}{more}\nos.execve('/bin/sleep', ['first', '300'], {{'PLAIN': '1'}})"
    with (
        out.open("ab") as file,
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=reader,
            stdout=file,
            stderr=writer,
            start_new_session=True,
        ) as child,
    ):
        Waiter(PATIENCE).wait("it is odd", lambda: comm(child.pid), lambda name: name == "sleep")
        found = identify(child.pid)
        assert found is not None
        try:
            yield found
        finally:
            child.kill()
            os.close(reader)
            os.close(writer)


def comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def launched(first: Process, **changes: t.Any) -> _launch.Launch:
    like = dataclasses.replace(likeness.read(first.pid), **changes)
    return _launch.prepare(["/bin/sleep", "300"], {"PLAIN": "1"}, _launch.Model(like, first, {}))


@contextlib.contextmanager
def second(first: Process, **changes: t.Any) -> t.Iterator[_launch.Launch]:
    launch = launched(first, **changes)
    try:
        launch.go()
        assert comm(launch.process.pid) == "sleep"
        yield launch
    finally:
        os.kill(launch.process.pid, signal.SIGKILL)


def _portrait() -> t.Callable[[int], dict[str, str]]:
    """What the scenarios look at on lab hosts."""
    place = Path(__file__).parents[4] / "scenarios/portrait.py"
    # Not by runpy, which ansible-test's own importer breaks on Python 3.9.
    loader = importlib.machinery.SourceFileLoader("portrait", str(place))
    module = types.ModuleType("portrait")
    loader.exec_module(module)
    return t.cast("t.Callable[[int], dict[str, str]]", module.portrait)


portrait = _portrait()


def test_the_second_is_like_the_first(tmp_path: Path) -> None:
    with odd_one(tmp_path / "out") as first, second(first) as launch:
        assert portrait(launch.process.pid) == portrait(first.pid)
        assert sorted(os.listdir(f"/proc/{launch.process.pid}/fd")) == ["0", "1", "2"]
        assert launch.refused == []


# What another user's process may have chosen to harm root with.
CHOSEN = re.compile(r"stream|flags of stream|cwd|personality|status Sig(Ign|Blk)|status Umask")


def test_it_has_a_user_and_capabilities_where_the_first_has_but_not_what_that_has_chosen(
    tmp_path: Path,
) -> None:
    # Ambient capabilities, as a unit with User= and AmbientCapabilities= has them: net_admin.
    more = """
libc.prctl(8, 1, 0, 0, 0)
os.setresuid(2, 2, 2)
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
libc.capset(header, (ctypes.c_uint32 * 6)(1 << 12, 1 << 12, 1 << 12, 0, 0, 0))
libc.prctl(47, 2, 12, 0, 0)
os.umask(0)
"""
    with odd_one(tmp_path / "out", more) as first, second(first) as launch:
        seen, model = portrait(launch.process.pid), portrait(first.pid)
        different = {name for name in seen if seen[name] != model[name]}
        assert all(map(CHOSEN.match, different))
        assert (seen["status CapEff"], seen["status Uid"]) == (f"{1 << 12:016x}", "2\t2\t2\t2")
        assert seen["status Umask"] == "0002"
        assert {seen[f"stream {number}"] for number in range(3)} == {"/dev/null"}
        assert launch.refused == []


def test_what_cannot_be_set_is_said_and_nothing_fails(tmp_path: Path) -> None:
    with odd_one(tmp_path / "out") as first:
        limits = {"NOFILE": (1 << 40, 1 << 40), "CORE": (0, 0)}
        with second(first, limits=limits, affinity=(4095,), cwd="/not there") as launch:
            assert alive(launch.process)
    assert len(launch.refused) == 3
    assert all("cannot be set" in text for text in launch.refused)


@pytest.mark.parametrize(("argument", "user"), [("--user=daemon:daemon", 0), ("--use=daemon", 2)])
def test_only_one_that_gives_up_root_itself_is_left_root(tmp_path: Path, argument: str, user: int) -> None:
    with odd_one(tmp_path / "out", "os.setuid(2)") as first:
        model = _launch.Model(likeness.read(first.pid), first, {})
        launch = _launch.prepare(["/bin/sh", "-c", "exec sleep 300", argument], {}, model)
        launch.go()
    try:
        assert f"Uid:\t{user}\t{user}" in Path(f"/proc/{launch.process.pid}/status").read_text()
    finally:
        os.kill(launch.process.pid, signal.SIGKILL)


def test_streams_of_a_process_that_has_ended_are_opened_by_name(tmp_path: Path) -> None:
    with odd_one(tmp_path / "out") as first:
        like = likeness.read(first.pid)
    launch = _launch.prepare(["/bin/echo", "said"], {}, _launch.Model(like, first, {}))
    launch.go()
    Waiter(PATIENCE).wait("it has spoken", (tmp_path / "out").read_text, lambda text: text == "said\n")


def test_a_program_that_cannot_run_is_a_sentence(tmp_path: Path) -> None:
    with odd_one(tmp_path / "out") as first:
        like = likeness.read(first.pid)
        launch = _launch.prepare(["/not/there"], {}, _launch.Model(like, first, {}))
        with pytest.raises(HotUpgradeError, match="No such file"):
            launch.go()


def test_one_that_is_not_let_go_ends(tmp_path: Path) -> None:
    with odd_one(tmp_path / "out") as first:
        launch = launched(first)
        assert alive(launch.process)
        launch.cancel()
        Waiter(PATIENCE).wait("it is gone", lambda: alive(launch.process), lambda lives: not lives)
