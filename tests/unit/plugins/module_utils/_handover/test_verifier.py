# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What counts as a fault after a hand-over, and for how long one must be seen."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import verifier
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.account import Account
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.compare import NONE
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import OVSDB_SERVER, VSWITCHD


@pytest.fixture(name="found")
def _found(world: t.Any, monkeypatch: pytest.MonkeyPatch) -> t.Any:
    """The verifier of a host with br0, whose accounts are in ``texts``; the last one stays."""
    world.wish |= {"bridges": {"br0": ()}}
    world.switches["br0"] = world.spy("br0")
    world.texts = [""]

    def values(_account: t.Any) -> dict[str, str]:
        return {"unexplained": world.texts.pop(0) if len(world.texts) > 1 else world.texts[0]}

    monkeypatch.setattr(verifier, "values", values)
    monkeypatch.setattr(verifier, "port_faults", lambda *__: {})
    world.living.base = {"br0": "state"}
    for name in (VSWITCHD, OVSDB_SERVER):
        world.daemon(name)
    return world.host.verifier


def test_all_is_explained(world: t.Any, found: t.Any) -> None:
    found.verify()
    assert found.changes == {"bridges": {"br0": {"unexplained": ""}}, "unfollowed": {}}
    assert "owner of ovs-vswitchd: healthy" in world.done


def test_a_difference_that_nobody_made_is_a_fault_at_once(world: t.Any, found: t.Any) -> None:
    world.texts = ["1 missing"]
    with pytest.raises(
        HotUpgradeError, match=r"nobody was seen to change it: bridge br0: 1 missing\. .*log.*journalctl"
    ):
        found.verify()
    assert world.clock.now == 100


@pytest.mark.parametrize(("texts", "fault"), [(["1 missing", "1 missing", ""], False), (["1 missing"], True)])
def test_where_changes_are_not_told_it_must_last(
    world: t.Any, found: t.Any, texts: list[str], fault: bool
) -> None:
    world.living.unfollowed = {"br0": "OpenFlow 1.0"}
    world.texts = texts
    if fault:
        with pytest.raises(HotUpgradeError):
            found.verify()
        assert world.clock.now >= 100 + verifier.SETTLED_TIMEOUT
    else:
        found.verify()
        assert world.clock.now == 101


def test_a_port_with_another_number_is_a_fault_before_any_flow(
    world: t.Any, found: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier, "port_faults", lambda *__: {"br0": ["p1 is 7 and was 3"]})
    with pytest.raises(
        HotUpgradeError, match=r"do not mean the same ports: p1 is 7 and was 3.*list interface"
    ):
        found.verify()
    assert "living: account" not in world.done


@pytest.mark.parametrize(("configured", "gone"), [(frozenset(), True), (frozenset({"br0"}), False)])
def test_a_bridge_that_somebody_has_deleted_is_no_fault_and_one_that_does_not_answer_is(
    world: t.Any, found: t.Any, monkeypatch: pytest.MonkeyPatch, configured: frozenset[str], gone: bool
) -> None:
    monkeypatch.setattr(type(world.host.scope), "configured", lambda _scope: configured)
    accounts: list[Account] = []
    monkeypatch.setattr(verifier, "values", lambda account: accounts.append(account) or {"unexplained": ""})
    del world.switches["br0"]
    world.living.unfollowed = {"br0": "even where a difference may settle"}
    if gone:
        found.verify()
        assert (accounts[0].settings, accounts[0].unexplained) == (["the bridge was deleted"], NONE)
    else:
        with pytest.raises(Unreachable):
            found.verify()


def test_an_engine_that_comes_again_follows_from_two_looks_on(world: t.Any, found: t.Any) -> None:
    """What is changed between the first look and the first word is in the second look."""
    world.host.snapshot.rest_on_now = lambda _path: world.done.append("look")
    found.watch_anew()
    assert [each for each in world.done if not each.startswith("connect")] == [
        *("look", "living: watch", "look", "living: watch")
    ]
