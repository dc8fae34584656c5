# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A playbook that stops before some of its tasks, until a test lets it go on (``plays.Play``)."""

from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: hold
type: aggregate
short_description: Stop before tasks, for tests
description: [Before the first task of each of the names in OVSOPS_HOLD it waits until somebody writes to the pipe OVSOPS_GATE.]
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible has no types
    """Nothing of the task has begun when it is announced, and nothing begins before the announcement has returned."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "hold"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._names: list[str] = json.loads(os.environ["OVSOPS_HOLD"])

    def v2_playbook_on_task_start(self, task: t.Any, is_conditional: bool) -> None:
        """Wait here."""
        if task.name in self._names:
            self._names.remove(task.name)
            self._display.display(f"held before: {task.name}")
            Path(os.environ["OVSOPS_GATE"]).read_text()
