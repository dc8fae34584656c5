# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which snapshot is restored, and what is told of what was changed since."""

from __future__ import annotations

import os
import types
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import own_snapshot
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.own_snapshot import in_words
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.compare import NONE, Difference
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import directory, switch


@pytest.fixture(name="taken")
def _taken(world: t.Any, monkeypatch: pytest.MonkeyPatch, kept: t.Any) -> list[str]:
    """Where snapshots were taken; each holds br0 and br1, but for the one that is given, which has br0 alone."""
    taken: list[str] = []

    def take(_connection: t.Any, path: str) -> None:
        os.makedirs(path, exist_ok=True)
        taken.append(os.path.basename(path))

    def read(path: str) -> t.Any:
        names = ["br0"] if path == "/given" else ["br0", "br1"]
        return types.SimpleNamespace(
            bridges=[types.SimpleNamespace(name=name) for name in names],
            state=lambda name: f"{name} of {path}",
        )

    monkeypatch.setattr(switch, "take", take)
    monkeypatch.setattr(directory, "read", read)
    monkeypatch.setattr(own_snapshot, "leaving_devices", lambda state: f"{state} without devices")
    world.wish |= {"bridges": {"br0": (), "br1": ()}}
    return taken


def test_bridges_are_followed_before_they_are_read(world: t.Any, taken: list[str]) -> None:
    world.host.snapshot.take()
    assert world.done == ["living: follow", "living: forget", "living: rest_on"]
    assert taken == ["snapshot"]
    assert "changed_since_snapshot" not in (world.host.transaction.read("result.json") or {})


def test_what_was_changed_since_the_given_snapshot_is_told(
    world: t.Any, taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bridge that it does not know is new, and no difference."""
    compared: list[t.Any] = []

    def compare(saved: str, live: str, _ignore: t.Any) -> Difference:
        compared.append((saved, live))
        return NONE

    monkeypatch.setattr(own_snapshot, "compare", compare)
    world.wish["snapshot"] = "/given"
    assert world.host.snapshot.path == "/given"
    world.host.snapshot.take()
    own = world.host.transaction.file("snapshot")
    assert (world.host.snapshot.path, compared) == (own, [("br0 of /given", f"br0 of {own}")])
    assert world.host.transaction.read("result.json")["changed_since_snapshot"] == {}


@pytest.mark.parametrize(
    ("changed", "unfollowed", "again"), [(False, {}, 0), (True, {}, 1), (False, {"br0": "OpenFlow 1.0"}, 1)]
)
def test_it_is_taken_again_only_if_it_may_be_old(
    world: t.Any, taken: list[str], changed: bool, unfollowed: dict[str, str], again: int
) -> None:
    world.living.answers["changed"] = changed
    world.living.unfollowed = unfollowed
    world.host.snapshot.renew()
    assert len(taken) == again


def test_a_rollback_gives_again_what_forwards_now_in_the_bridges_of_now(
    world: t.Any, taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [types.SimpleNamespace(name="new", controllers=(), interfaces=[1], ports=())]
    monkeypatch.setattr(
        "ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.scope.live_bridges",
        lambda _connection: now,
    )
    world.host.snapshot.take_anew()
    assert (world.host.scope.bridges, taken) == (["new"], ["snapshot"])


def test_what_it_holds_is_brought_up_to_now(world: t.Any, taken: list[str]) -> None:
    world.living.answers["now"] = lambda name, state: f"{state}, now"
    world.host.snapshot.take()
    snapshot = world.host.snapshot.read()
    assert world.host.snapshot.now(snapshot, "br0").endswith("snapshot without devices, now")


def test_a_difference_is_told_with_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_snapshot.text, "line", lambda message: f"<{message.decode()}>")
    found = types.SimpleNamespace(missing_count=2, missing=[b"a", b"b"], extra_count=1, extra=[b"c"])
    assert in_words(t.cast("t.Any", found)) == "2 missing, as <a>; 1 extra, as <c>"
    assert in_words(NONE) == ""
