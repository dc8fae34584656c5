# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import quiet
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
    identify,
)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_stopped_process_goes_on_whatever_happens_meanwhile() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        process = identify(child.pid)
        assert isinstance(process, Process)
        try:
            with contextlib.suppress(KeyError), quiet.stopped(process):
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
            monkeypatch.setattr(quiet, "_may_raise_priorities", lambda: False)
            with quiet.modest(process):  # nobody could end it
                assert os.getpriority(os.PRIO_PROCESS, child.pid) == before
            if os.geteuid() == 0:
                monkeypatch.undo()
                with quiet.modest(process):
                    assert os.getpriority(os.PRIO_PROCESS, child.pid) == 19
                    quiet.prioritize(process, before)
                    assert os.getpriority(os.PRIO_PROCESS, child.pid) == before
        finally:
            child.kill()
