# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import pods
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.containers import Container
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
    identify,
    is_stopped,
)

ID = "1" * 64


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Process]:
    """The first process of the only container; the container has this test's process, too."""
    child = subprocess.Popen(["/bin/sleep", "600"])
    process = identify(child.pid)
    assert process

    def find(identifier: str, _pod: str = "") -> Container:
        if identifier != ID:
            raise Refused(f"container {identifier[:12]} does not run on this host", "", "")
        return Container(ID, process, {})

    monkeypatch.setattr(pods.containers, "find", find)
    monkeypatch.setattr(Container, "holds", lambda _self, found: found.pid == os.getpid())
    yield process
    child.kill()
    child.wait()


def bring(identifier: str, state: str | None, place: Path, check_mode: bool = False) -> t.Any:
    return pods.bring(identifier, state, str(place), str(place / "ovn"), check_mode)


def test_it_is_held_until_it_is_released(first: Process, tmp_path: Path) -> None:
    assert (bring(ID, "held", tmp_path, check_mode=True).changed, is_stopped(first)) == (True, False)
    assert bring(ID, "held", tmp_path).changed
    assert is_stopped(first)
    again = bring(ID, "held", tmp_path)
    assert (again.changed, again.values["held"], again.values["pid"]) == (False, True, first.pid)
    assert bring(ID, "released", tmp_path).changed
    assert not is_stopped(first)


def test_whose_the_daemons_are_is_told(
    first: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the control groups, for those that run; a pidfile that was left over has the number of somebody else."""
    names = {os.getpid(): "ovs-vswitchd", first.pid: "ovsdb-server", 1: "init"}
    monkeypatch.setattr(pods, "comm", names.__getitem__)
    (tmp_path / "ovn").mkdir()
    (tmp_path / "ovn/ovn-controller.pid").write_text("1\n")
    (tmp_path / "ovs-vswitchd.pid").write_text(f"{os.getpid()}\n")
    (tmp_path / "ovsdb-server.pid").write_text(f"{first.pid}\n")
    told = bring(ID, None, tmp_path)
    assert (told.changed, told.values["daemons"]) == (False, {"ovs-vswitchd": True, "ovsdb-server": False})


def test_a_daemon_itself_is_not_held(first: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a container whose first process it is."""
    monkeypatch.setattr(pods, "comm", lambda _pid: "ovs-vswitchd")
    (tmp_path / "ovs-vswitchd.pid").write_text(f"{first.pid}\n")
    with pytest.raises(Refused, match="is a daemon of Open vSwitch itself"):
        bring(ID, "held", tmp_path)
    assert not is_stopped(first)


def test_to_look_at_one_that_has_ended_is_no_error(first: Process, tmp_path: Path) -> None:
    assert bring("2" * 64, None, tmp_path).values["running"] is False
    with pytest.raises(Refused, match="does not run on this host"):
        bring("2" * 64, "held", tmp_path)
    with pytest.raises(Refused):
        bring("no id", None, tmp_path)
