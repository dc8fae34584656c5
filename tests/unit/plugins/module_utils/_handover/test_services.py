# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who owns the daemons, and that nothing is taken for owned that would end with the hand-over."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import TimedOut
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import services
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import homes
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import OVSDB_SERVER, VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.homes import Homes


def looks(*answers: str | None) -> t.Callable[..., str | None]:
    left = list(answers)
    return lambda *__: left.pop(0) if len(left) > 1 else left[0]


def test_a_service_may_need_a_while_to_notice_its_new_process(world: t.Any) -> None:
    world.owners[VSWITCHD].answers["misplaced"] = looks("it belongs to the hand-over", None)
    world.host.services.adopt(world.daemon())
    assert world.done == [
        *(
            "owner of ovs-vswitchd: adopt",
            "owner of ovs-vswitchd: misplaced",
            "owner of ovs-vswitchd: misplaced",
        )
    ]
    assert world.host.report.not_carried == ["a limit"]


def test_one_that_would_end_with_the_hand_over_is_not_taken(world: t.Any) -> None:
    world.owners[VSWITCHD].answers["misplaced"] = looks("it belongs to the hand-over")
    with pytest.raises(TimedOut, match=r"it belongs to the hand-over.*journalctl"):
        world.host.services.adopt(world.daemon())
    assert world.clock.now >= 130


def test_both_daemons_must_be_where_they_were(world: t.Any) -> None:
    world.daemon(VSWITCHD)
    with pytest.raises(Unreachable):
        world.host.services.require_places()
    world.daemon(OVSDB_SERVER)
    world.host.services.require_places()
    assert world.done[-2:] == ["owner of ovs-vswitchd: healthy", "owner of ovsdb-server: healthy"]


@pytest.mark.parametrize(("changed", "reloads"), [((False, False), 0), ((True, False), 1), ((True, True), 1)])
@pytest.mark.parametrize("what", ["hold", "let_go"])
def test_the_service_manager_reads_its_files_once_and_only_if_they_were_changed(
    world: t.Any, monkeypatch: pytest.MonkeyPatch, what: str, changed: tuple[bool, bool], reloads: int
) -> None:
    monkeypatch.setattr(services, "reload", lambda: world.done.append("reload"))
    for name, each in zip((VSWITCHD, OVSDB_SERVER), changed):
        world.owners[name].answers[what] = each
    getattr(world.host.services, what)()
    assert [each for each in world.done if each.endswith(f": {what}")] == [
        f"owner of {name}: {what}" for name in (VSWITCHD, OVSDB_SERVER)
    ]
    assert world.done.count("reload") == reloads
    cancelled = [place for place, each in enumerate(world.done) if each.endswith(": cancel_restart")]
    assert len(cancelled) == (2 * reloads if what == "hold" else 0)
    assert not cancelled or cancelled[-1] < world.done.index("reload")


def test_the_control_socket_is_that_of_the_process_that_runs(world: t.Any) -> None:
    process = world.daemon()
    assert (
        world.host.services.control(VSWITCHD).socket_path == f"{world.rundir}/ovs-vswitchd.{process.pid}.ctl"
    )


def test_a_pod_that_is_to_go_must_have_no_daemon(world: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollback that leaves one there says so."""
    world.wish["homes"] = Homes("1" * 64, "2" * 64)
    daemons = {name: world.daemon(name) for name in (VSWITCHD, OVSDB_SERVER)}
    moved = {daemons[OVSDB_SERVER]}
    monkeypatch.setattr(
        homes.containers,
        "is_in",
        lambda process, identifier, _pod: (process in moved) == (identifier[0] == "2"),
    )
    with pytest.raises(
        HotUpgradeError, match=r"ovsdb-server is not in the container of before.*no container.*Leave its pod"
    ):
        world.host.services.require_home(VSWITCHD, OVSDB_SERVER)
    world.host.services.require_home(VSWITCHD)
    moved.clear()
    world.host.services.require_home(VSWITCHD, OVSDB_SERVER)


def test_a_host_without_pods_has_no_such_place(world: t.Any) -> None:
    world.host.services.require_home(VSWITCHD, OVSDB_SERVER)
