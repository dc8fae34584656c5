# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose queues are made longer, and what is told where they cannot be."""

from __future__ import annotations

import errno
import types
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import backlog, newcomer
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.report import Report
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import memory, packet_queues

GB = 1 << 30


@pytest.fixture(name="host")
def _host() -> t.Any:
    return types.SimpleNamespace(
        report=Report(),
        request=types.SimpleNamespace(userspace=True, dpdk=False),
        services=types.SimpleNamespace(process=lambda name: f"the running {name}"),
        database=types.SimpleNamespace(wait_for_vswitchd=lambda: None),
    )


def lengthen(host: t.Any) -> None:
    for step in backlog.lengthen(host.request):
        step.do(host)


def test_both_get_a_part_of_the_memory(host: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[t.Any] = []
    monkeypatch.setattr(packet_queues, "lengthen", lambda *words: given.append(words))
    monkeypatch.setattr(newcomer, "process", lambda _host: "the second one")
    monkeypatch.setattr(memory, "available", lambda: 4 * GB)
    lengthen(host)
    backlog.lengthen_new(host)
    assert given == [("the running ovs-vswitchd", GB // 2), ("the second one", GB // 2)]


def test_a_host_that_does_not_let_us_is_told_of(host: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_words: t.Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(packet_queues, "lengthen", refuse)
    monkeypatch.setattr(packet_queues, "shorten", refuse)
    lengthen(host)
    backlog.shorten(host)
    assert host.report.not_carried == [backlog.TOO_FEW.format("Operation not permitted")]


def test_nothing_is_shortened_where_nothing_runs(host: t.Any) -> None:
    def gone(_name: str) -> t.NoReturn:
        raise Unreachable("it does not run", "", "")

    host.services.process = gone
    backlog.shorten(host)


@pytest.mark.parametrize(("userspace", "dpdk"), [(False, False), (True, True)])
def test_other_datapaths_are_left_alone(host: t.Any, userspace: bool, dpdk: bool) -> None:
    host.request = types.SimpleNamespace(userspace=userspace, dpdk=dpdk)
    host.services = None
    lengthen(host)
    backlog.shorten(host)


def test_it_is_shortened_when_all_was_applied(host: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    host.database.wait_for_vswitchd = lambda: done.append("applied")
    monkeypatch.setattr(packet_queues, "shorten", done.append)
    backlog.shorten(host)
    assert done == ["applied", "the running ovs-vswitchd"]
