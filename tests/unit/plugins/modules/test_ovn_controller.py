# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ovn_controller does in which state, and what it tells."""

from __future__ import annotations

import contextlib
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovn.controller import Settled
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import daemons, ovn
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Call, Outcome
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process
from ansible_collections.ovsops.hot_upgrade.plugins.modules import ovn_controller

NOTHING: dict[str, t.Any] = {"before": None, "after": None, "settled_s": None}


class Controller:
    """One of version ``runs`` on a host that has ``disk``; what it was asked for."""

    def __init__(self, runs: str | None = "25.03.0", disk: str | None = "26.03.1") -> None:
        self.runs, self.disk = runs, disk
        self.left = False
        self.waited: float | None = None
        self.done: list[str] = []

    @contextlib.contextmanager
    def alone(self, seconds: float) -> t.Iterator[None]:
        self.waited = seconds
        yield

    def chassis(self) -> ovn.Chassis:
        process = Process(7, 8) if self.runs else None
        binary = "/usr/bin/ovn-controller" if self.disk else None
        replaced = bool(self.runs and self.runs != self.disk)
        daemon = daemons.Daemon(
            "ovn-controller", "p", process, "root", self.runs, self.disk, binary, replaced, None
        )
        return ovn.Chassis(daemon, "host1", "br-int", {}, True, {"lsp1": 1})

    def look(self) -> ovn.Chassis | None:
        return self.chassis() if self.runs or self.disk else None

    def concerns(self, chassis: ovn.Chassis) -> bool:
        return chassis.controller.running or chassis.controller.installed

    def prepared(self) -> bool:
        return self.left

    def require_free(self, _chassis: ovn.Chassis) -> None:
        self.done.append("free?")

    def prepare(self, seconds: float) -> None:
        self.done.append(f"wait {seconds:g}")

    def replace(self, *_: t.Any) -> Settled:
        self.done.append("replace")
        self.runs = self.disk
        return Settled(self.chassis(), 9.04)

    def settle(self, *_: t.Any) -> Settled:
        self.done.append("settle")
        return Settled(self.chassis(), 1.0)


def run(monkeypatch: pytest.MonkeyPatch, made: Controller, check: bool = False, **options: t.Any) -> Outcome:
    monkeypatch.setattr(ovn_controller.Controller, "of", lambda _connection, _between: made)
    monkeypatch.setattr(ovn_controller, "alone", made.alone)
    connection = {"rundir": "/run/openvswitch", "database": None, "timeout": 1.0}
    connection |= {"container": None, "container_before": None}
    params = {**connection, "state": "current", "wait": 8.0, "settle_timeout": 120.0, **options}
    return ovn_controller.bring_up(Call(params, check))


def test_another_one_is_brought_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Controller()
    found = run(monkeypatch, made)
    assert (found.changed, found.values) == (
        True,
        {"before": "25.03.0", "after": "26.03.1", "settled_s": 9.0},
    )
    found = run(monkeypatch, made)
    assert (found.changed, found.values["after"], made.done) == (False, "26.03.1", ["replace"])
    assert run(monkeypatch, made, state="restarted").changed
    assert made.waited == 300.0  # for another run


def test_check_mode_tells_what_would_run(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Controller()
    found = run(monkeypatch, made, check=True)
    assert (found.changed, found.values["after"], made.done) == (True, "26.03.1", [])
    assert made.waited is None  # it is in nobody's way
    assert run(monkeypatch, made, check=True, state="prepared").changed
    assert made.done == ["free?"]


def test_one_that_a_package_has_ended_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Controller(runs=None)
    assert run(monkeypatch, made).changed
    assert made.done == ["replace"]


def test_what_nobody_has_waited_for_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Controller(runs="26.03.1")
    made.left = True
    found = run(monkeypatch, made)
    assert (found.changed, made.done) == (True, ["settle"])


def test_a_host_without_one_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for made in (Controller(None, None),):
        assert run(monkeypatch, made).values == NOTHING
        monkeypatch.setattr(made, "look", made.chassis)  # configured, and run by somebody else
        assert run(monkeypatch, made).values == NOTHING
        assert run(monkeypatch, made, state="prepared").values == NOTHING
        assert made.done == []


@pytest.mark.parametrize("options", [{"wait": 0.0}, {"wait": float("nan")}, {"settle_timeout": -1.0}])
def test_times_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch, options: dict[str, t.Any]) -> None:
    with pytest.raises(Refused, match="more than 0"):
        run(monkeypatch, Controller(), **options)
