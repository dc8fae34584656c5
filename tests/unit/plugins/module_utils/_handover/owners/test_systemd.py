# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners import owner, systemd
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
)

# What a unit has been given, where a test does not ask.
NOTHING = t.cast("t.Any", None)


def test_a_held_unit_does_not_restart_and_starts_as_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = tmp_path / "ovsdb-server.service.d" / "hold.conf"
    monkeypatch.setattr(systemd.Systemd, "_held", str(held))
    plain = systemd.Systemd("ovsdb-server.service", "ovsdb-server", "/run/openvswitch", NOTHING)
    assert plain.hold()
    assert held.read_text() == "[Service]\nRestart=no\n"
    assert not plain.hold()
    assert plain.let_go()
    lines = ("ExecStart=", "ExecStart=/bin/x")
    told = systemd.Systemd("ovsdb-server.service", "ovsdb-server", "/run/openvswitch", NOTHING, lines)
    assert told.hold()
    assert held.read_text().splitlines() == ["[Service]", "Restart=no", *lines]


class Unit:
    """What systemd knows of a unit, from the files below ``place``."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch, main: int, pidfile: str = "") -> None:
        self.drop_in, self.held = (place / "x.service.d" / name for name in (systemd.DROP_IN, systemd.HOLD))
        self.main, self.own, self.reloads = main, pidfile, 0
        self.state = "running"
        heritage = owner.Heritage({}, "x.service", t.cast("t.Any", None))
        self.supervisor = systemd.Systemd("x.service", "ovs-vswitchd", "/run/openvswitch", heritage)
        monkeypatch.setattr(systemd.Systemd, "_drop_in", str(self.drop_in))
        monkeypatch.setattr(systemd.Systemd, "_held", str(self.held))
        monkeypatch.setattr(systemd.Systemd, "_shown", lambda __, unit, *keys: list(map(self.shown, keys)))
        monkeypatch.setattr(systemd, "MAIN", str(place / "ovsops"))
        monkeypatch.setattr(systemd, "reload", self.reload)
        monkeypatch.setattr(systemd, "take_in", lambda *__: [])

    def reload(self) -> None:
        self.reloads += 1

    def shown(self, key: str) -> str:
        known = {"MainPID": str(self.main), "PIDFile": self.pidfile or self.own, "SubState": self.state}
        return known[key]

    @property
    def pidfile(self) -> str:
        """Of the drop-in; its own is another one."""
        lines = self.drop_in.read_text().splitlines() if self.drop_in.exists() else []
        return next((line.partition("=")[2] for line in lines if line.startswith("PIDFile=")), "")


def test_the_pidfile_tells_a_unit_its_next_main_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = Unit(tmp_path, monkeypatch, os.getpid())
    for __ in range(3):  # as often as somebody hands over in one boot
        unit.supervisor.adopt(Process(77, 1))
        assert unit.pidfile.endswith("/openvswitch/ovs-vswitchd.pid")
    assert unit.reloads == 1
    assert not unit.supervisor.let_go()


@pytest.mark.parametrize(
    ("state", "stopped"), [("running", False), ("auto-restart", True), ("auto-restart-queued", True)]
)
def test_a_restart_that_is_due_is_forgotten(
    state: str, stopped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit, jobs = Unit(tmp_path, monkeypatch, os.getpid()), list[tuple[str, str]]()
    monkeypatch.setattr(systemd.Systemd, "_job", lambda _self, *words: jobs.append(words))
    unit.state = state
    unit.supervisor.cancel_restart()
    assert jobs == ([("stop", "x.service")] if stopped else [])


def test_a_unit_that_names_its_pidfile_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = Unit(tmp_path, monkeypatch, os.getpid(), "/run/own.pid")
    unit.supervisor.adopt(Process(77, 1))
    assert (unit.pidfile, unit.reloads, list(tmp_path.iterdir())) == ("", 0, [])


def test_a_unit_whose_main_process_is_a_monitor_gets_the_new_monitor_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = Unit(tmp_path, monkeypatch, os.getpid())
    monkeypatch.setattr(systemd, "is_monitor", lambda pid: pid == os.getpid())
    monkeypatch.setattr(systemd, "monitor_of", lambda process: Process(76, 1))
    unit.supervisor.hold()
    unit.supervisor.adopt(Process(77, 1))
    assert Path(unit.pidfile).read_text() == "76\n"
    assert unit.supervisor.let_go()
    assert unit.pidfile == ""
    assert [str(path) for path in tmp_path.rglob("*")] == [str(tmp_path / "ovsops")]
