# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order in which the module is replaced, and in which that is undone."""

from __future__ import annotations

import types
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import held_process, newcomer
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import Reload
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.steps import reload


def request(**values: t.Any) -> t.Any:
    known = {
        "restart_server": False,
        "convert": False,
        "downgrade": False,
        "userspace": False,
        "reload": Reload("", "", "auto", stand_in=True),
    }
    return types.SimpleNamespace(**{**known, **values})


def names(**values: t.Any) -> list[str]:
    return [step.name for step in reload.steps(request(**values))]


def test_the_module_is_replaced_while_no_ovs_vswitchd_runs() -> None:
    found = names()
    window = found[found.index("arm") + 1 :]
    assert window == [
        "set the flag",
        "end ovs-vswitchd",
        "reload the module",
        "start ovs-vswitchd",
        "load the OpenFlow state",
        "clear the flag",
        "adopt",
        "carry over what was learned",
        "settle the ports",
        "verify",
    ]
    assert found.index("have the module ready") < found.index(reload.STAND_IN) < found.index("arm")
    steps = {step.name: step for step in reload.steps(request())}
    assert all(steps[name].window for name in window[:8])


def test_the_database_is_brought_along_where_the_daemons_are_others() -> None:
    found = names(restart_server=True, convert=True)
    assert found.index("restart ovsdb-server") < found.index("set the flag")
    found = names(restart_server=True, convert=True, downgrade=True)
    assert (
        found.index("clear the flag")
        < found.index("convert the database")
        < found.index("restart ovsdb-server")
    )


def test_who_wants_no_bypass_wants_nobody_to_answer_for_new_flows() -> None:
    assert reload.STAND_IN not in names(reload=Reload("", "", "no"))


class Broken:
    """A stand-in that does not start."""

    ended = 0

    def __init__(self, _host: t.Any) -> None:
        pass

    def start(self) -> None:
        raise HotUpgradeError("it did not start", "no memory")

    def end(self) -> None:
        Broken.ended += 1


def test_without_a_stand_in_new_flows_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "StandIn", Broken)
    notes: dict[str, str] = {}
    host: t.Any = types.SimpleNamespace(
        transaction=types.SimpleNamespace(note=notes.update), reloader=types.SimpleNamespace(stand_in=None)
    )
    reload._start_stand_in(host)
    assert notes == {"new_flows": "they wait for the new ovs-vswitchd: it did not start: no memory"}
    assert (host.reloader.stand_in, Broken.ended) == (None, 1)


def test_the_last_thing_the_old_process_is_asked_for_are_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(held_process, "take_pidfile", lambda _host: done.append("pidfile"))
    host: t.Any = types.SimpleNamespace(
        vswitchd=types.SimpleNamespace(require_no_other=list, end_old=lambda _first: done.append("end")),
        report=types.SimpleNamespace(mark=done.append),
        reloader=types.SimpleNamespace(stand_in=None, learn_names=lambda: done.append("names")),
    )
    {step.name: step for step in reload.steps(request())}[reload.END].do(host)
    # Behind it the pidfile names another one, which is no ovs-vswitchd yet.
    assert done == ["names", "pidfile", "end", "stopped"]


def test_a_stand_in_that_is_behind_is_not_asked_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_process, "take_pidfile", lambda _host: None)
    told: list[str] = []

    def behind() -> None:
        raise HotUpgradeError("the stand-in is not asked", "a bridge was configured anew meanwhile")

    host: t.Any = types.SimpleNamespace(
        vswitchd=types.SimpleNamespace(require_no_other=list, end_old=lambda _first: None),
        report=types.SimpleNamespace(mark=lambda _name: None),
        reloader=types.SimpleNamespace(
            stand_in=types.SimpleNamespace(catch_up=behind), learn_names=lambda: None, do_without=told.append
        ),
    )
    {step.name: step for step in reload.steps(request())}[reload.END].do(host)
    assert told == ["the stand-in is not asked: a bridge was configured anew meanwhile"]


@pytest.mark.parametrize(
    ("moved_in", "calls"),
    [(False, ["ended", "module"]), (True, ["module"])],
)
def test_a_new_process_without_its_place_ends_before_the_module_goes_back(
    moved_in: bool, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []
    monkeypatch.setattr(newcomer, "has_moved_in", lambda _host: moved_in)
    monkeypatch.setattr(newcomer, "remove", lambda _host: found.append("ended"))
    host: t.Any = types.SimpleNamespace(
        reloader=types.SimpleNamespace(bring_back=lambda: found.append("module"))
    )
    steps = {step.name: step for step in reload.steps(request())}
    steps[reload.REPLACE].undo(host)
    assert found == calls


def test_the_old_program_starts_when_the_module_is_back() -> None:
    """Undone last first: nothing of what comes after the reload starts a process."""
    order = [step.name for step in reversed(reload.steps(request()))]
    assert order.index(reload.REPLACE) < order.index("end ovs-vswitchd")
