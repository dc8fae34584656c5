# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import select
import signal
import subprocess
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.death_watch import Ended, attention
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process, identify


@pytest.fixture
def daemon() -> t.Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def identity(process: subprocess.Popen[bytes]) -> Process:
    found = identify(process.pid)
    assert found
    return found


def test_the_end_of_a_daemon_interrupts_a_wait(daemon: subprocess.Popen[bytes]) -> None:
    with pytest.raises(Ended, match="ovsdb-server ended"), attention({"ovsdb-server": identity(daemon)}):
        kill_and_wait_for_something_else(daemon)


def kill_and_wait_for_something_else(daemon: subprocess.Popen[bytes]) -> None:
    reader, writer = os.pipe()
    try:
        daemon.kill()
        select.select([reader], [], [], 60)
    finally:
        os.close(reader)
        os.close(writer)


def test_nothing_happens_when_nothing_ends(daemon: subprocess.Popen[bytes]) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with attention({"ovsdb-server": identity(daemon)}):
        pass
    daemon.kill()
    daemon.wait()
    assert signal.getsignal(signal.SIGUSR1) == before


def test_a_daemon_that_has_ended_before_is_noticed(daemon: subprocess.Popen[bytes]) -> None:
    process = identity(daemon)
    daemon.kill()
    daemon.wait()
    with pytest.raises(Ended), attention({"ovs-vswitchd": process}):
        pytest.fail("the block must not run")


def test_an_error_of_the_block_is_the_error(daemon: subprocess.Popen[bytes]) -> None:
    with pytest.raises(ZeroDivisionError), attention({"ovs-vswitchd": identity(daemon)}):
        __ = 1 / 0
