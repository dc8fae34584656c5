# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each strategy begins and ends with, in which order, and how it is undone."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import Request
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.steps import shared

Make = t.Callable[..., Request]


def names(steps: t.Iterable[t.Any]) -> list[str]:
    return [step.name for step in steps]


@pytest.mark.parametrize(
    ("downgrade", "free_try", "before", "after"),
    [
        (False, False, [shared.CONVERT, shared.RESTART_SERVER], []),
        (False, True, [shared.CONVERT], [shared.RESTART_SERVER]),
        (True, False, [], [shared.CONVERT, shared.RESTART_SERVER]),
        (True, True, [], [shared.CONVERT, shared.RESTART_SERVER]),
    ],
)
def test_a_running_process_never_sees_a_schema_that_lacks_what_it_asks_for(
    make_request: Make, downgrade: bool, free_try: bool, before: list[str], after: list[str]
) -> None:
    request = make_request(convert=True, restart_server=True, downgrade=downgrade)
    assert names(shared.database_before(request, free_try)) == before
    assert names(shared.database_after(request, free_try)) == after


@pytest.mark.parametrize("downgrade", [True, False])
def test_a_server_of_the_same_version_is_left_alone(make_request: Make, downgrade: bool) -> None:
    request = make_request(downgrade=downgrade)
    assert not [*shared.database_before(request), *shared.database_after(request)]
    assert "start the new ovsdb-server dry" not in names(shared.prepare(request))


@pytest.fixture(name="host")
def _host(world: t.Any, monkeypatch: pytest.MonkeyPatch) -> t.Any:
    host = world.host
    for name in ("services", "recovery", "verifier", "database", "filler"):
        setattr(host, name, world.spy(name))
    monkeypatch.setattr(shared.shaping, "give_back", lambda _host: world.done.append("qdiscs: given back"))
    monkeypatch.setattr(shared, "remove_dead_links", lambda _host: world.done.append("links: removed"))
    return host


@pytest.mark.parametrize("error", [None, HotUpgradeError("it does not start")])
def test_the_restart_policies_come_back_whatever_became_of_the_daemons(
    world: t.Any, host: t.Any, error: Exception | None
) -> None:
    host.recovery.answers["fill_revived"] = error
    if error is None:
        shared._let_go(host)
    else:
        with pytest.raises(HotUpgradeError):
            shared._let_go(host)
    assert world.done == ["recovery: fill_revived", "services: let_go"]


def test_what_is_verified_is_let_go_of(world: t.Any, host: t.Any) -> None:
    shared.verify(lambda do: do).do(host)
    assert world.done == ["verifier: verify", "services: let_go", "links: removed", "qdiscs: given back"]


def test_what_does_not_verify_stays_held(world: t.Any, host: t.Any) -> None:
    host.verifier.answers["verify"] = HotUpgradeError("1 missing")
    with pytest.raises(HotUpgradeError):
        shared.verify(lambda do: do).do(host)
    assert world.done == ["verifier: verify"]


def test_the_flag_is_lowered_by_whoever_undoes_it(world: t.Any, host: t.Any) -> None:
    step = shared.flag()
    step.do(host)
    step.undo(host)
    assert (step.window, world.done) == (True, ["database: raise_flag", "database: lower_flag"])


def test_bridges_are_full_before_the_flag_is_cleared(world: t.Any, host: t.Any) -> None:
    for step in shared.filled(lambda do: do):
        assert step.window
        step.do(host)
    assert world.done == ["filler: load", "filler: release"]
