# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    MOST_SHOWN,
    Process,
    alive,
    identify,
    is_monitor,
    monitor_of,
    shown,
    terminate,
    threads,
)

# Points its command line at as many bytes as are asked for (prctl(2), PR_SET_MM_MAP), which needs no privilege.
_SHOWS = """
import ctypes, mmap, struct
libc = ctypes.CDLL(None, use_errno=True)
libc.sbrk.restype = ctypes.c_void_p
memory = mmap.mmap(-1, {size}, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
first = ctypes.addressof(ctypes.c_char.from_buffer(memory))
fields = open("/proc/self/stat").read().rpartition(")")[2].split()[1:]
place = dict(zip(range(4, 60), map(int, fields)))
known = [place[26], place[27], place[45], place[46], place[47], libc.sbrk(0), place[28]]
layout = struct.pack("=11QQII", *known, first, first + {size}, place[50], place[51], 0, 0, 0xFFFFFFFF)
if libc.prctl(35, 14, ctypes.create_string_buffer(layout, len(layout)), ctypes.c_ulong(len(layout)), 0):
    raise SystemExit(3)
"""


def sleeper(code: str = "pass") -> subprocess.Popen[bytes]:
    """A process that has run ``code`` and waits for a signal."""
    program = f"import signal; {code}; print(flush=True); signal.pause()"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_the_start_time_is_found_behind_a_nasty_name(tmp_path: Path) -> None:
    folder = tmp_path / "proc/42"
    folder.mkdir(parents=True)
    fields = ["S", *(str(n) for n in range(4, 40))]
    (folder / "stat").write_text(f"42 (a) b (c) {' '.join(fields)}\n")
    assert identify(42, str(tmp_path)) == Process(42, 22)


def test_a_zombie_has_ended(tmp_path: Path) -> None:
    folder = tmp_path / "proc/42"
    folder.mkdir(parents=True)
    (folder / "stat").write_text("42 (ovs-vswitchd) Z " + " ".join(["0"] * 40))
    assert identify(42, str(tmp_path)) is None


def test_nobody_there(tmp_path: Path) -> None:
    assert identify(42, str(tmp_path)) is None


def test_we_live() -> None:
    us = identify(os.getpid())
    assert us is not None
    assert alive(us)
    assert not alive(Process(us.pid, us.started - 1))


def test_terminate_ends_the_process_and_waits() -> None:
    child = sleeper()
    process = identify(child.pid)
    assert process is not None
    assert terminate(process)
    assert not alive(process)
    assert child.wait() == -signal.SIGTERM


def test_a_process_that_ignores_the_signal_is_reported_and_can_be_killed() -> None:
    child = sleeper("signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    process = identify(child.pid)
    assert process is not None
    assert not terminate(process, timeout=0.05)
    assert terminate(process, signal.SIGKILL)
    child.wait()


def test_another_process_with_the_same_number_is_left_alone() -> None:
    child = sleeper()
    process = identify(child.pid)
    assert process is not None
    assert terminate(Process(child.pid, process.started - 1))
    assert child.poll() is None
    child.kill()
    child.wait()


def test_one_that_ended_long_ago() -> None:
    child = sleeper()
    process = identify(child.pid)
    assert process is not None
    child.kill()
    child.wait()
    assert terminate(process)


def test_a_process_that_shows_more_than_there_can_be_is_read_to_a_bound() -> None:
    """Anybody may name a process like a daemon: root would fill its memory with what it shows."""
    child = sleeper(f"exec({_SHOWS.format(size=4 * MOST_SHOWN)!r})")
    try:
        if child.poll() == 3:
            pytest.skip("this kernel has no PR_SET_MM_MAP")
        assert len(shown(child.pid, "cmdline")) == MOST_SHOWN
        assert not is_monitor(child.pid)
    finally:
        child.kill()
        child.wait()


def test_the_threads_of_a_process_have_names(tmp_path: Path) -> None:
    for number, name in enumerate(("ovs-vswitchd", "urcu1", "revalidator2")):
        folder = tmp_path / f"proc/7/task/{7 + number}"
        folder.mkdir(parents=True)
        (folder / "comm").write_text(f"{name}\n")
    (tmp_path / "proc/7/task/99").mkdir()  # one that ends while it is looked at
    assert sorted(threads(7, str(tmp_path))) == ["ovs-vswitchd", "revalidator2", "urcu1"]
    assert threads(8, str(tmp_path)) == []


@pytest.mark.parametrize("title", ["x: monitoring pid 7", "--monitor"])
def test_the_monitor_of_another_process_with_the_same_number_is_nobodys(title: str) -> None:
    """The number comes from a record, which outlives the process: whoever ends a daemon by it ends its monitor, too.

    The monitor says what it is when its daemon is up; one that waits for another one to end is not.
    """
    program = "import os, time; os.fork() or os.write(1, b'%d' % os.getpid()); time.sleep(99)"
    argv = [sys.executable, "-c", program, title]
    monitor = subprocess.Popen(argv, stdout=subprocess.PIPE)
    try:
        assert monitor.stdout is not None
        child = identify(int(os.read(monitor.stdout.fileno(), 16)))
        assert child is not None
        assert monitor_of(child) == identify(monitor.pid)
        assert monitor_of(Process(child.pid, child.started - 1)) is None
        terminate(child, signal.SIGKILL)
        assert monitor_of(child) is not None  # one that has ended is its monitor's until that looks
    finally:
        monitor.kill()
        monitor.wait()
