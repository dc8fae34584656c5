# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import multiprocessing
import os
import signal
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base import heartbeat
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import pulse

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def hung() -> t.Iterator[t.Any]:
    """A process whose heart has begun to beat, and which does nothing any more."""
    ready, tell = FORK.Pipe(duplex=False)

    def hang() -> None:
        with pulse.beating("x"):
            tell.send(None)
            signal.pause()

    process = FORK.Process(target=hang)
    process.start()
    ready.recv()
    yield process
    process.kill()
    process.join(30)


def test_a_beat_is_heard_by_others() -> None:
    heartbeat.beat()
    assert pulse.last("x") is None
    with pulse.beating("x"):
        first = pulse.last("x")
        assert first is not None
        assert first.process.pid == os.getpid()
        path = os.path.join(pulse.DIRECTORY, "x.pulse")
        with open(path, "r+b") as file:
            file.seek(16)
            file.write(bytes(8))
        stale = pulse.last("x")
        assert stale is not None
        assert stale.age > first.age
        heartbeat.beat()
        fresh = pulse.last("x")
        assert fresh is not None
        assert fresh.age < stale.age
    assert os.listdir(pulse.DIRECTORY) == []
    heartbeat.beat()


def test_no_reader_sees_half_a_beat() -> None:
    """One that beats all the time was ended as one that had never beaten."""
    ready, tell = FORK.Pipe(duplex=False)

    def work() -> None:
        with pulse.beating("x"):
            tell.send(None)
            while True:
                heartbeat.beat()

    process = FORK.Process(target=work)
    process.start()
    ready.recv()
    path = os.path.join(pulse.DIRECTORY, "x.pulse")
    try:
        for __ in range(20_000):
            with open(path, "rb") as file:
                assert file.read()[16:] != bytes(8)
    finally:
        process.kill()
        process.join(30)
        pulse.bury("x")


def test_one_that_hangs_is_ended(hung: t.Any) -> None:
    assert pulse.end_hung("x", 1e6) is None
    assert hung.is_alive()
    assert pulse.end_hung("x", 0.0) is not None
    hung.join(30)
    assert hung.exitcode == -signal.SIGKILL
    assert pulse.end_hung("x", 0.0) is None
    assert pulse.last("x") is None, "a dead process has no heartbeat"
    pulse.bury("x")
    pulse.bury("x")
    assert os.listdir(pulse.DIRECTORY) == []


def test_nobody_ends_himself() -> None:
    with pulse.beating("x"):
        assert pulse.end_hung("x", 0.0) is None
        pulse.bury("x")
        assert pulse.last("x") is not None


def test_a_host_without_a_run_directory_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "DIRECTORY", "/proc/nowhere")
    with pulse.beating("x"):
        heartbeat.beat()
        assert pulse.last("x") is None
