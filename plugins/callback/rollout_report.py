# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See DOCUMENTATION. All that can be tested without Ansible is in ``plugin_utils``; this turns its events into calls."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_report
type: aggregate
short_description: One page about a rollout, and its progress on the terminal
version_added: 1.0.0
description:
  - Writes one HTML page and one JSON file for each rollout of the role P(ovsops.hot_upgrade.hot_upgrade#role), and for
    hand-overs in playbooks of your own. It needs no further task and asks no host for anything.
  - The page says first what happened, whether anything is lost, and what is to be done now. It loads nothing from anywhere.
  - The files are there from the first host on, and are brought up to date as the rollout goes on. Whatever ends it, they tell
    of it.
  - Prints where the rollout is, one line for each step of a batch and for each host, to be read in a terminal or a log.
  - Other playbooks are left alone. What C(no_log) hides is not shown.
  - Whatever goes wrong here is one warning, and never fails a run.
requirements:
  - C(rollout_report) in C(callbacks_enabled), with its full name C(ovsops.hot_upgrade.rollout_report).
options:
  folder:
    description:
      - Folder on the controller for the files. If it is missing, it is made for its owner alone (0700).
      - The files are for their owner alone, too (0600).
      - The names are C(rollout-DATE-PID.html) and C(rollout-DATE-PID.json).
    type: path
    default: rollout-reports
    env:
      - name: OVSOPS_REPORT_FOLDER
    ini:
      - section: callback_rollout_report
        key: folder
  progress:
    description: Whether to print where the rollout is.
    type: bool
    default: true
    env:
      - name: OVSOPS_REPORT_PROGRESS
    ini:
      - section: callback_rollout_report
        key: progress
author:
  - ovsops contributors (@ovsops)
"""

import atexit
import functools
import os
import time
import typing as t

from ansible import context
from ansible.plugins.callback import CallbackBase
from ansible.utils.helpers import pct_to_int

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils import private_files, progress, rollout
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.document import document
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.host_facts import facts
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.page import page
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.verdict import verdict

# Between two writings while the rollout runs, in seconds; and not more than this part of the time is spent on them.
_EVERY = 5.0
_PART = 0.02

Method = t.TypeVar("Method", bound=t.Callable[..., None])


def harmless(method: Method) -> Method:
    """A report that cannot be made must not disturb the rollout: say it once, and go on."""

    @functools.wraps(method)
    def guarded(self: CallbackModule, *args: t.Any, **options: t.Any) -> None:
        try:
            method(self, *args, **options)
        except Exception as error:
            self.complain(error)

    return t.cast("Method", guarded)


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible has no types
    """See DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "ovsops.hot_upgrade.rollout_report"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._collector: rollout.Collector | None = None
        self._name = ""
        self._due = 0.0
        self._complained = False
        self._pid = os.getpid()
        # Ctrl-C and errors of Ansible itself tell no callback. Whatever ends it without that leaves what was written last.
        atexit.register(self._interrupted)

    @harmless
    def v2_playbook_on_start(self, playbook: t.Any) -> None:
        """A playbook begins; each has a report of its own."""
        self._interrupted()
        given = context.CLIARGS
        self._collector = rollout.Collector(
            time.time,
            playbook=os.path.basename(playbook._file_name),
            inventories=tuple(str(path) for path in given.get("inventory") or ()),
            check_mode=bool(given.get("check")),
            forks=int(given.get("forks") or 1),
        )
        self._name = time.strftime("rollout-%Y%m%dT%H%M%SZ", time.gmtime()) + f"-{self._pid}"

    @harmless
    def v2_playbook_on_play_start(self, play: t.Any) -> None:
        """A play begins, or its next batch."""
        known = play.get_variable_manager().get_vars(play=play, include_hostvars=False)
        hosts = [str(name) for name in known.get("ansible_play_hosts_all", ())]
        serial = [int(pct_to_int(size, len(hosts))) for size in play.serial]
        batch = [str(name) for name in known.get("ansible_play_batch", ())]
        self._collecting.play(play.get_name(), hosts, batch, rollout.batch_sizes(len(hosts), serial))

    @harmless
    def v2_runner_on_start(self, host: t.Any, task: t.Any) -> None:
        """A task begins on a host."""
        self._show(self._collecting.started(host.get_name(), task.get_path() or "", task.action))

    @harmless
    def v2_runner_on_ok(self, result: t.Any) -> None:
        """A task has ended well."""
        self._show(self._collecting.told(result.host.get_name(), result.task.action, result.result))

    @harmless
    def v2_runner_on_failed(self, result: t.Any, ignore_errors: bool = False) -> None:
        """A task has failed."""
        name, task = result.host.get_name(), result.task
        if ignore_errors:
            self._show(self._collecting.told(name, task.action, result.result))
            return
        title = str(result.task_fields.get("name") or task.get_name())
        self._show(self._collecting.failed(name, task.get_path() or "", task.action, title, result.result))

    @harmless
    def v2_runner_on_unreachable(self, result: t.Any) -> None:
        """Ansible has lost a host."""
        if not result.task_fields.get("ignore_unreachable"):
            self._show(
                self._collecting.unreachable(result.host.get_name(), result.task.get_name(), result.result)
            )

    @harmless
    def v2_playbook_on_stats(self, stats: t.Any) -> None:
        """The playbook has ended."""
        self._end(rollout.ENDED)

    @property
    def _collecting(self) -> rollout.Collector:
        if self._collector is None:
            raise RuntimeError("Ansible has not told that a playbook began")
        return self._collector

    def _show(self, events: t.Sequence[rollout.Event]) -> None:
        found = self._collecting.rollout
        if self.get_option("progress"):
            for event in events:
                self._display.display(progress.line(event, found))
        if found.counts and (time.monotonic() >= self._due or any(event.kind == "batch" for event in events)):
            self._write()

    def _write(self) -> list[str]:
        """Write both files as the rollout is now, and return their paths."""
        began, found = time.monotonic(), self._collecting.rollout
        hosts = [facts(host, found) for host in found.hosts]
        judged = verdict(found, hosts)
        place = str(self.get_option("folder"))
        private_files.make_folder(place)
        paths = [os.path.join(place, f"{self._name}.{kind}") for kind in ("html", "json")]
        for path, content in zip(paths, (page(found, hosts, judged), document(found, hosts, judged))):
            private_files.write(path, content)
        ended = time.monotonic()
        self._due = ended + max(_EVERY, (ended - began) / _PART)
        return paths

    def _end(self, state: str) -> None:
        found = self._collecting.end(state)
        try:
            paths = self._write() if found.counts else []
            if found.counts and self.get_option("progress"):
                for line in progress.ending(found, paths):
                    self._display.display(line)
        finally:
            self._collector = None

    @harmless
    def _interrupted(self) -> None:
        """The run ends, and nobody has said so. Ansible's workers are copies of this process."""
        if self._collector is not None and os.getpid() == self._pid:
            self._end(rollout.INTERRUPTED)

    def complain(self, error: Exception) -> None:
        """Warn, the first time."""
        if not self._complained:
            self._complained = True
            self._display.warning(
                f"rollout_report: the report is not complete: {type(error).__name__}: {error}"
            )
