# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order in which the waiting process takes over, and how that is undone."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.steps import standby


@pytest.fixture(name="host")
def _host(world: t.Any, monkeypatch: pytest.MonkeyPatch) -> t.Any:
    """One that notes what is done to it, and by ``newcomer``."""
    host = world.host
    for name in ("require_answer", "take_pidfile", "end_first", "connect", "remove"):
        monkeypatch.setattr(standby.newcomer, name, lambda _host, name=name: world.done.append(name))
    monkeypatch.setattr(standby, "attended", lambda do: do)
    for name in ("vswitchd", "database", "recovery"):
        setattr(host, name, world.spy(name, end_old=lambda end: end()))
    return host


def test_nothing_is_taken_from_the_old_process_before_the_new_one_can_do_its_work(
    world: t.Any, host: t.Any
) -> None:
    standby._end_old(host)
    assert world.done == [
        *("vswitchd: require_no_other", "database: wait", "require_answer", "take_pidfile"),
        *("vswitchd: clear_the_way", "vswitchd: end_old", "end_first", "connect"),
    ]
    assert list(host.report.marks) == ["stopped", "connected"]


@pytest.mark.parametrize("missing", ["require_no_other", "wait", "require_answer"])
def test_what_is_not_ready_leaves_the_old_process_alone(
    world: t.Any, host: t.Any, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    error = HotUpgradeError("it is not ready")
    host.vswitchd.answers["require_no_other"] = error if missing == "require_no_other" else None
    host.database.answers["wait"] = error if missing == "wait" else None
    if missing == "require_answer":

        def silent(_host: t.Any) -> t.NoReturn:
            raise error

        monkeypatch.setattr(standby.newcomer, "require_answer", silent)
    with pytest.raises(HotUpgradeError):
        standby._end_old(host)
    assert not {"take_pidfile", "end_first"} & set(world.done)


@pytest.mark.parametrize(("runs", "calls"), [(True, []), (False, ["recovery: make_whole"])])
def test_the_one_that_waits_ends_before_the_old_program_starts(
    world: t.Any, host: t.Any, runs: bool, calls: list[str]
) -> None:
    """A database that comes back would give the lock to either of two that wait."""
    host.vswitchd.answers["old_runs"] = runs
    standby._back(host)
    assert world.done == ["remove", "vswitchd: old_runs", *calls]


def test_the_new_process_waits_on_the_real_database(
    world: t.Any, host: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[t.Any] = []
    monkeypatch.setattr(standby.newcomer, "start", lambda _host, *words: started.append(words))
    monkeypatch.setattr(standby.newcomer, "reachable", lambda _host: world.spy("new"))
    monkeypatch.setattr(standby.newcomer, "patient", lambda _host, ask: ask())
    standby._start(host)
    assert started == [(host.request.remote, "/usr/sbin/it")]
    assert world.done == ["new: call"]
