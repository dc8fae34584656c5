# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import types
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import applied
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.report import Report
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process, identify
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import create


def test_the_daemons_of_when_all_was_applied_are_written_down_when_the_database_has_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def process(name: str) -> Process:
        order.append(name)
        return Process(7, 8)

    monkeypatch.setattr(applied, "flush", lambda host: order.append("flushed"))
    monkeypatch.setattr(applied.backlog, "shorten", lambda host: order.append("shortened"))
    host: t.Any = types.SimpleNamespace(
        services=types.SimpleNamespace(process=process),
        report=Report(marks={"stopped": 1}, not_carried=["a", "b", "a"]),
        verifier=types.SimpleNamespace(changes={}),
    )
    transaction = create({}, str(tmp_path))
    transaction.note(**applied.conclude(host))
    names = ("ovs-vswitchd", "ovsdb-server")
    assert order == ["flushed", "shortened", *names]
    assert applied.applied_processes(transaction) == dict.fromkeys(names, Process(7, 8))
    assert transaction.read("result.json")["not_carried"] == ["a", "b"]


def test_one_that_has_ended_since_is_named(tmp_path: Path) -> None:
    transaction = create({}, str(tmp_path))
    assert applied.ended_since(transaction) is None, "the disk had no room to say which it was"
    me = identify(os.getpid())
    assert me
    transaction.note(**{applied.FORWARDS: {"ovsdb-server": [me.pid, me.started]}})
    assert applied.ended_since(transaction) is None
    transaction.note(**{applied.FORWARDS: {"ovs-vswitchd": [me.pid, 1]}})
    words = f"the ovs-vswitchd that was handed over to, process {os.getpid()}, has ended"
    assert applied.ended_since(transaction) == words
