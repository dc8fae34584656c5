# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a host after a rollback, by what its bridges answer."""

from __future__ import annotations

import types
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import measured
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.outside import Outside


class Switch:
    """A bridge that has so many flows now; None: nobody serves its socket."""

    def __init__(self, flows: int | None) -> None:
        if flows is None:
            raise Unreachable("nobody serves it")
        self.flows = flows

    def __enter__(self) -> Switch:
        return self

    def __exit__(self, *_words: t.Any) -> None: ...

    def count_flows(self) -> list[int]:
        return [self.flows]


def measure(
    monkeypatch: pytest.MonkeyPatch,
    before: dict[str, int],
    now: dict[str, int | None],
    version: str | None = "3.5.0",
    configured: t.Collection[str] | None = None,
) -> measured.Measured:
    def call(_method: str) -> str:
        if version is None:
            raise Unreachable("no socket")
        return f"ovs-vswitchd (Open vSwitch) {version}"

    known = set(now if configured is None else configured)
    host = types.SimpleNamespace(
        request=types.SimpleNamespace(bridges=dict.fromkeys(now, ())),
        scope=types.SimpleNamespace(management=now.__getitem__, configured=lambda: known),
        services=types.SimpleNamespace(control=lambda _name: types.SimpleNamespace(call=call)),
        outside=Outside(open_switch=t.cast("t.Any", Switch)),
    )
    monkeypatch.setattr(measured, "PATIENCE", 0.0)
    monkeypatch.setattr(measured, "_saved", lambda _host: before)
    return measured.measure(t.cast(t.Any, host))


def test_a_host_that_forwards(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure(monkeypatch, {"br0": 10, "br1": 1}, {"br0": 9, "br1": 0})
    assert (
        found.text == "ovs-vswitchd 3.5.0 forwards, 2 of 2 bridges answer, with 9 flows (11 in the snapshot)"
    )
    assert found.faults == ()


def test_without_a_snapshot_there_is_nothing_to_compare_with(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure(monkeypatch, {}, {"br0": 0})
    assert found == measured.Measured("ovs-vswitchd 3.5.0 forwards, 1 of 1 bridges answer, with 0 flows")


def test_what_is_lost_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure(monkeypatch, {"br0": 10, "br1": 5, "br2": 3}, {"br0": 1, "br1": None, "br2": 3})
    assert "2 of 3 bridges answer" in found.text
    assert len(found.faults) == 2
    assert found.faults[0] == "bridge br0 has 1 flows, and had 10"
    assert "bridge br1 does not answer" in found.faults[1]


def test_a_bridge_that_somebody_has_deleted_is_named_and_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure(monkeypatch, {"br0": 10, "br1": 5}, {"br0": 10, "br1": None}, configured=["br0", "br2"])
    assert found.text.endswith(
        "1 of 1 bridges answer, with 10 flows (15 in the snapshot); deleted meanwhile: br1"
    )
    assert found.faults == ()


def test_that_no_bridge_is_left_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure(monkeypatch, {"br0": 10, "br1": 5}, {"br0": None, "br1": None}, configured=[])
    assert len(found.faults) == 2


def test_a_daemon_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure(monkeypatch, {}, {"br0": 0}, version=None)
    assert found.text == "ovs-vswitchd does not answer"
    assert "no socket" in found.faults[0]
