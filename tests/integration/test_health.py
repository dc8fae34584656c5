# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ovs_health_info against real daemons: what is worse than before is told, and nothing else."""

from __future__ import annotations

import typing as t

import pytest

Json = dict[str, t.Any]


def health(ovs: t.Any, before: Json | None = None, wait: float = 0) -> Json:
    found = ovs.module("ovs_health_info", before=before, wait=wait)
    assert "failed" not in found, found["msg"]
    return t.cast("Json", found)


@pytest.mark.parametrize("version", ["2.15.0", "3.1.0", "3.5.0", "4.0.0"])
def test_a_switch_as_well_as_before_and_one_whose_link_and_controller_are_gone(
    start_ovs: t.Any, version: str
) -> None:
    ovs = start_ovs(version)
    ovs.bridge("br0")
    ovs.endpoints("br0")
    ovs.vsctl("add-port", "br0", "own", "--", "set", "interface", "own", "type=internal")
    ovs.run("ip", "link", "set", "own", "up")
    ovs.run("ovs-vsctl", "--timeout=10", "wait-until", "interface", "own", "link_state=up")
    # One that was never there is not what anybody has broken; the passive one is connected while somebody is.
    ovs.vsctl("set-manager", "ptcp:6640:127.0.0.1")
    ovs.vsctl("set-controller", "br0", "tcp:127.0.0.1:1")
    first = health(ovs)["health"]
    (name,) = first["datapaths"]
    assert name == "netdev@ovs-netdev"
    assert {"br0"} < set(first["datapaths"][name]["ports"])
    assert first["well"]["the connection of br0 to the controller tcp:127.0.0.1:1"] is False
    again = health(ovs, first)
    assert (again["worse"], again["counted"]["lost_upcalls"]) == ([], 0)
    # What a tenant does with the other end of its port, or with the port, is the tenant's own.
    ovs.run("ip", "link", "set", "p-h1", "down")
    ovs.run("ip", "link", "set", "own", "down")
    ovs.run("ovs-vsctl", "--timeout=10", "wait-until", "interface", "p-h1", "link_state=down")
    ovs.run("ovs-vsctl", "--timeout=10", "wait-until", "interface", "own", "link_state=down")
    found = health(ovs, first)
    assert found["worse"] == ["the link of own is down, and was up before"]


def test_after_a_restart_the_counters_of_userspace_tell_nothing(ovs: t.Any) -> None:
    ovs.bridge("br0")
    before = health(ovs)["health"]
    ovs.service("restart")
    found = health(ovs, before, wait=10)
    assert found["counted"] == {
        "lost_upcalls": None,
        "dropped": None,
        "why": "the counters of netdev@ovs-netdev began anew",
    }
    assert found["worse"] == []


@pytest.mark.parametrize("version", ["2.15.0", "4.0.0"])
def test_a_switch_without_a_datapath(start_ovs: t.Any, version: str) -> None:
    assert health(start_ovs(version))["health"]["datapaths"] == {}


def test_what_is_no_health_is_refused(shared_ovs: t.Any) -> None:
    found = shared_ovs.module("ovs_health_info", before={"well": 5})
    assert found["failed"]
    assert "it is not the health that this module has returned" in found["msg"]
