# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A playbook that runs while a test does something to it, or to what it works on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import typing as t
from pathlib import Path

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Waiter
from tests.harness import runs

CALLBACKS = Path(__file__).with_name("callbacks")


class Play:
    """A playbook that runs in a process group of its own; it stops before the first task of each name in ``hold``."""

    def __init__(self, argv: t.Sequence[str], hold: t.Sequence[str] = ()) -> None:
        self.text = ""
        self._folder = tempfile.TemporaryDirectory()
        self._gate = Path(self._folder.name, "gate")
        os.mkfifo(self._gate)
        held = {
            "ANSIBLE_CALLBACK_PLUGINS": str(CALLBACKS), "ANSIBLE_CALLBACKS_ENABLED": "hold",
            "OVSOPS_HOLD": json.dumps(list(hold)), "OVSOPS_GATE": str(self._gate),
        }  # fmt: skip
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=runs.environment(PYTHONUNBUFFERED="1", **(held if hold else {})), start_new_session=True,
        )  # fmt: skip

    def until(self, text: str) -> None:
        """Read on until a line with ``text`` comes."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.text += line
            if text in line:
                return
        raise AssertionError(f"{text!r} never came:\n{self.text}")

    def held(self, task: str) -> None:
        """Until it stands before that task."""
        self.until(f"held before: {task}")

    def go_on(self) -> None:
        """Let it go on with the task before which it stands."""
        self._gate.write_text("")

    def kill(self) -> None:
        """End it and all that it started on this machine."""
        for pid in (self.process.pid, *_descendants(self.process.pid)):
            os.kill(pid, signal.SIGKILL)
        assert self.wait() != 0

    def interrupt(self) -> None:
        """Press Ctrl-C until it ends: Ansible loses one that comes between two tasks (its handler finds a closed process)."""

        def once_more() -> bool:
            self.process.send_signal(signal.SIGINT)
            return self.process.poll() is not None

        Waiter(60.0, 0.5).wait("the playbook ends", once_more, bool)
        assert self.wait() != 0

    def wait(self) -> int:
        """Read the rest of its output; return how it ended."""
        assert self.process.stdout is not None
        self.text += self.process.stdout.read()
        self._folder.cleanup()
        return self.process.wait()


def _descendants(pid: int) -> list[int]:
    """Children and theirs: ansible's workers have sessions of their own."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [found for child in map(int, children) for found in (child, *_descendants(child))]
