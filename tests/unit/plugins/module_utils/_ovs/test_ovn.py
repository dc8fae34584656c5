# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is found out of a chassis of OVN."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import daemons, ovn
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process

IDS = {"system-id": "host1", "ovn-remote": "tcp:192.0.2.1:6642", "ovn-bridge": "br-ovn", "hostname": "h"}


def controller(running: bool = True) -> daemons.Daemon:
    process = Process(7, 8) if running else None
    version = "25.03.0" if running else None
    return daemons.Daemon(
        "ovn-controller", "/run/ovn/p", process, "root", version, "26.03.1", "/b", False, None
    )


class Control:
    """An ovn-controller that tells ``answers``, and refuses everything else."""

    answers: t.ClassVar[dict[str, str]] = {}
    paths: t.ClassVar[list[str]] = []

    def __init__(self, path: str, timeout: float) -> None:
        self.paths.append(path)

    def call(self, command: str) -> str:
        if command not in self.answers:
            raise HotUpgradeError("refused")
        return self.answers[command]


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> list[daemons.Daemon]:
    found = [controller()]
    monkeypatch.setattr(ovn, "inspect", lambda *_, home: found[0])
    monkeypatch.setattr(ovn, "Appctl", Control)
    Control.answers = {"connection-status": "connected\n", "ct-zone-list": "lsp1 1\nport of b 2\n"}
    return found


@pytest.mark.usefixtures("running")
def test_a_chassis_at_work() -> None:
    chassis = ovn.look("/run/openvswitch", IDS, 1.0)
    assert chassis is not None
    assert (chassis.name, chassis.bridge, chassis.connected) == ("host1", "br-ovn", True)
    assert chassis.zones == {"lsp1": 1, "port of b": 2}
    assert chassis.settings == {"ovn-remote": "tcp:192.0.2.1:6642", "ovn-bridge": "br-ovn"}
    assert Control.paths[-1].endswith("/ovn/ovn-controller.7.ctl")


@pytest.mark.usefixtures("running")
def test_one_that_hangs_or_is_cut_off() -> None:
    Control.answers = {"connection-status": "not connected\n"}
    chassis = ovn.look("/run/openvswitch", IDS, 1.0)
    assert chassis is not None
    assert (chassis.connected, chassis.zones) == (False, None)
    Control.answers = {}
    chassis = ovn.look("/run/openvswitch", {}, 1.0)
    assert chassis is not None
    assert (chassis.connected, chassis.name, chassis.bridge) == (None, None, "br-int")


@pytest.mark.usefixtures("running")
def test_what_is_set_for_this_chassis_counts_more(tmp_path: Path) -> None:
    ids = {**IDS, "ovn-bridge-host1": "br-one", "ovn-bridge-host2": "br-two"}
    chassis = ovn.look("/run/openvswitch", ids, 1.0)
    assert chassis is not None
    assert (chassis.bridge, chassis.setting("ovn-bridge"), chassis.setting("ovn-x")) == (
        "br-one",
        "br-one",
        None,
    )
    (tmp_path / "etc/ovn").mkdir(parents=True)
    (tmp_path / "etc/ovn/system-id-override").write_text("host2\n")
    chassis = ovn.look("/run/openvswitch", ids, 1.0, str(tmp_path))
    assert chassis is not None
    assert (chassis.name, chassis.bridge) == ("host2", "br-two")


def test_one_that_is_stopped_and_none_at_all(running: list[daemons.Daemon]) -> None:
    running[0] = controller(running=False)
    chassis = ovn.look("/run/openvswitch", IDS, 1.0)
    assert chassis is not None
    assert (chassis.connected, chassis.zones) == (None, None)
    assert ovn.look("/run/openvswitch", {"hostname": "h"}, 1.0) is None


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("ovn-controller 25.03.0\nOpen vSwitch Library 3.5.0\n", "25.03.0"),
        ("ovs-vswitchd (Open vSwitch) 4.0.0\n", "4.0.0"),
        ("something ovn-controller 1\n", None),
    ],
)
def test_versions(text: str, version: str | None) -> None:
    assert daemons.parse_version(text) == version
