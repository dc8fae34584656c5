# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import types
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import living as _living
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.follower import Changes


class FakeFollower:
    """One that counts how often the switch is asked to tell."""

    asked = 0

    def __init__(self, *__: object) -> None:
        FakeFollower.asked += 1


def test_a_bridge_that_is_followed_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_living, "Follower", FakeFollower)
    living, switch = _living.Living(), t.cast("t.Any", types.SimpleNamespace(main=None))
    living.base = {"br0": t.cast("t.Any", None)}
    for __ in range(2):
        living.watch({"br0": switch})
    assert FakeFollower.asked == 1
    assert living.watched
    assert not living.unfollowed


@pytest.mark.parametrize(
    ("deleted", "expired", "paused", "flushed"),
    [
        (10, 0, False, True),
        (9, 0, False, False),
        (9, 1, False, True),  # one had expired before
        (0, 10, False, False),  # all have expired, and the flush is still to come
        (1, 0, True, True),
    ],
)
def test_a_flush_is_told_from_flows_that_expire(
    deleted: int, expired: int, paused: bool, flushed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = Changes()
    changes.deleted, changes.expired, changes.paused = deleted, expired, paused
    connection = types.SimpleNamespace(fileno=lambda: 7)
    follower = types.SimpleNamespace(changes=changes, take=lambda: None, connections=[connection])
    living = _living.Living()
    monkeypatch.setattr(living, "_after", {"br0": follower})
    assert living.flushed("br0", 10) is flushed
    assert living.flushed("br1", 10) is None
    assert living.descriptors({"br0", "br1"}) == [7]
    assert living.descriptors(()) == []


def test_a_bridge_that_is_gone_keeps_nobody_from_listening_to_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone() -> None:
        raise Unreachable("br0.mgmt: the OpenFlow connection was lost", "closed by the switch")

    heard: list[str] = []
    followers = {
        "br0": types.SimpleNamespace(take=gone),
        "br1": types.SimpleNamespace(take=lambda: heard.append("br1")),
    }
    living = _living.Living()
    monkeypatch.setattr(living, "_after", followers)
    living.take()
    assert heard == ["br1"]
