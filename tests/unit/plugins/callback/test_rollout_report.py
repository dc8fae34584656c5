# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback between Ansible's events and the report; Ansible's objects are stand-ins."""

from __future__ import annotations

import json
import os
import types
import typing as t
from pathlib import Path

import pytest
from ansible import context
from ansible.utils.context_objects import CLIArgs

from ansible_collections.ovsops.hot_upgrade.plugins.callback import rollout_report
from tests.unit.plugins.plugin_utils.rollouts import ROLE, SET_FACT, result

SET = types.SimpleNamespace(
    action=SET_FACT, get_path=lambda: f"{ROLE}/collect.yml:3", get_name=lambda: "Put it together"
)
BEGIN = types.SimpleNamespace(
    action="raw", get_path=lambda: f"{ROLE}/begin.yml:3", get_name=lambda: "Reach it"
)
PLAYBOOK = types.SimpleNamespace(_file_name="/home/op/site.yml")


class Callback(rollout_report.CallbackModule):
    """With a folder, and a screen that is a list."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.warnings: list[str] = []
        self._display = types.SimpleNamespace(display=self.lines.append, warning=self.warnings.append)
        self.options: dict[str, t.Any] = {"folder": str(folder), "progress": True}

    def get_option(self, k: str, hostvars: object = None) -> t.Any:
        return self.options[k]


def host(name: str) -> t.Any:
    return types.SimpleNamespace(get_name=lambda: name)


def play(hosts: list[str], batch: list[str], serial: list[t.Any]) -> t.Any:
    known = {"ansible_play_hosts_all": hosts, "ansible_play_batch": batch}
    manager = types.SimpleNamespace(get_vars=lambda **options: known)
    return types.SimpleNamespace(
        get_variable_manager=lambda: manager, get_name=lambda: "Upgrade", serial=serial
    )


def ended(on: str, found: dict[str, t.Any], task: t.Any = SET, **fields: t.Any) -> t.Any:
    return types.SimpleNamespace(host=host(on), task=task, result=found, task_fields=fields)


@pytest.fixture
def callback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callback:
    arguments = {"inventory": ("hosts.yml",), "check": False, "forks": 7}
    monkeypatch.setattr(context, "CLIARGS", CLIArgs(arguments))
    monkeypatch.setattr(rollout_report.atexit, "register", lambda method: method)
    return Callback(tmp_path / "reports")


def begun(callback: Callback) -> None:
    callback.v2_playbook_on_start(PLAYBOOK)
    callback.v2_playbook_on_play_start(play(["a", "b", "c"], ["a"], [1, "100%"]))
    callback.v2_runner_on_start(host("a"), BEGIN)


def document(callback: Callback) -> dict[str, t.Any]:
    (path,) = Path(callback.options["folder"]).glob("*.json")
    return t.cast("dict[str, t.Any]", json.loads(path.read_text()))


def test_the_files_are_there_from_the_first_host_on(callback: Callback) -> None:
    begun(callback)
    found = document(callback)
    assert (found["state"], found["forks"], found["playbook"]) == ("running", 7, "site.yml")
    assert found["batches_to_come"] == [2]
    assert "begins: a" in callback.lines[0]


def test_the_end_is_written_and_said(callback: Callback) -> None:
    begun(callback)
    callback.v2_runner_on_ok(ended("a", {"ansible_facts": {"hot_upgrade_result": result("a")}}))
    callback.v2_playbook_on_stats(None)
    assert document(callback)["state"] == "ended"
    assert callback.lines[-1].startswith("Report: ")
    assert callback.lines[-1].endswith(f"-{os.getpid()}.json")
    assert callback.warnings == []


def test_it_is_not_written_all_the_time(callback: Callback, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(callback)
    monkeypatch.setattr(callback, "_write", lambda: pytest.fail("too often"))
    callback.v2_runner_on_ok(ended("a", {"changed": False}))


def test_without_progress_nothing_is_printed(callback: Callback) -> None:
    callback.options["progress"] = False
    begun(callback)
    callback.v2_playbook_on_stats(None)
    assert callback.lines == []
    assert document(callback)["state"] == "ended"


def test_a_failure_that_is_ignored_is_none(callback: Callback) -> None:
    begun(callback)
    callback.v2_runner_on_failed(ended("a", {"msg": "no"}, BEGIN), ignore_errors=True)
    callback.v2_runner_on_unreachable(ended("a", {"msg": "no"}, BEGIN, ignore_unreachable=True))
    callback.v2_playbook_on_stats(None)
    assert document(callback)["hosts"][0]["outcome"] == "unknown"


def test_failures_and_lost_hosts(callback: Callback) -> None:
    begun(callback)
    callback.v2_runner_on_failed(ended("a", {"msg": "no"}, BEGIN, name="Reach it"))
    callback.v2_runner_on_unreachable(ended("b", {"msg": "gone"}, BEGIN))
    callback.v2_playbook_on_stats(None)
    assert callback.warnings == []
    outcomes = [(found["outcome"], found["failure"]) for found in document(callback)["hosts"]]
    assert outcomes[:2] == [("failed", "Reach it: no"), ("unreachable", "it became unreachable: gone")]


def test_a_run_that_ends_without_a_word_is_told_as_ended(callback: Callback) -> None:
    begun(callback)
    callback._interrupted()
    assert document(callback)["state"] == "interrupted"
    callback._interrupted()


def test_a_worker_that_ends_writes_nothing(callback: Callback, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(callback)
    monkeypatch.setattr(callback, "_pid", -1)
    callback._interrupted()
    assert document(callback)["state"] == "running"


def test_an_error_is_one_warning(callback: Callback) -> None:
    callback.v2_playbook_on_stats(None)
    callback.v2_runner_on_start(host("a"), BEGIN)
    assert len(callback.warnings) == 1
    assert "RuntimeError" in callback.warnings[0]


def test_where_it_cannot_be_written_progress_goes_on(callback: Callback, tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file")
    begun(callback)
    callback.v2_runner_on_ok(ended("a", {"ansible_facts": {"hot_upgrade_result": result("a")}}))
    callback.v2_playbook_on_stats(None)
    assert "a: upgraded" in callback.lines[-1]
    assert len(callback.warnings) == 1
