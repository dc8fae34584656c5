# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import types
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.clock import boot_id
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import scope as scopes
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import Request
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.scope import Scope
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.homes import Homes


@pytest.fixture
def scope(make_request: t.Callable[..., Request]) -> Scope:
    request = make_request(bridges={"br0": ("tcp:1.2.3.4",), "br1": ()}, ports=1000, boot=boot_id())
    transaction = types.SimpleNamespace(
        id="20260101T000000Z-abcdef", request=request.json(), file=lambda name: f"/t/{name}"
    )
    return Scope(t.cast("t.Any", transaction))


@pytest.fixture(autouse=True)
def configured(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        types.SimpleNamespace(name=name, controllers=(), interfaces=[1, 2], ports=())
        for name in ("br1", "new")
    ]
    monkeypatch.setattr(scopes, "live_bridges", lambda connection: found)


def test_nobody_waits_for_a_bridge_that_somebody_has_deleted(scope: Scope) -> None:
    assert scope.bridges == ["br0", "br1"]
    scope.leave_deleted()
    assert (scope.bridges, scope.deleted) == (["br1"], {"br0"})


def test_a_rollback_is_about_the_bridges_that_there_are_then(scope: Scope) -> None:
    assert scope.controlled == {"br0"}
    scope.look_again()
    assert (scope.bridges, scope.controlled, scope.request.ports) == (["br1", "new"], set(), 4)


def test_the_time_to_take_over_grows_with_the_ports(scope: Scope) -> None:
    assert scope.take_over_timeout == 35.0


def test_a_boot_is_noticed(scope: Scope, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not scope.rebooted
    monkeypatch.setattr(scopes, "boot_id", lambda: "another")
    assert scope.rebooted


def test_what_a_container_is_to_see_is_in_the_run_directory(scope: Scope) -> None:
    assert (scope.beside, scope.seen("dry")) == (f"{scope.request.rundir}-", "/t/dry")
    scope.request = dataclasses.replace(scope.request, homes=Homes("1" * 64, "2" * 64))
    assert scope.beside == f"{scope.request.rundir}/ovsops-"
    assert scope.seen("dry") == f"{scope.request.rundir}/ovsops-abcdef.dry"
