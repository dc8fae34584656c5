# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ovs_info against real daemons: what it tells is what the tools of Open vSwitch tell."""

from __future__ import annotations

import os
import shutil
import typing as t

import pytest

VERSIONS = ["2.15.0", "3.1.0", "3.5.0", "4.0.0"]


def info(ovs: t.Any) -> dict[str, t.Any]:
    found = ovs.module("ovs_info")
    assert "failed" not in found, found["msg"]
    return t.cast("dict[str, t.Any]", found)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_numbers_of_objects_on_every_version(start_ovs: t.Any, version: str) -> None:
    ovs = start_ovs(version)
    ovs.bridge("br0", "protocols=[OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15]", "fail_mode=secure")
    for number in range(1, 4):
        ovs.ofctl("add-meter", "br0", f"meter={number},pktps,band=type=drop,rate={number}00")
    for number in range(1, 3):
        ovs.ofctl("add-group", "br0", f"group_id={number},type=all,bucket=actions=output:1")
    ovs.ofctl("add-tlv-map", "br0", "{class=0xffff,type=0,len=4}->tun_metadata0")
    flows = "".join(f"table={n % 3},priority={n},udp,tp_dst={n},actions=drop\n" for n in range(1, 501))
    ovs.ofctl("add-flows", "br0", "-", feed=flows)
    found = info(ovs)
    (bridge,) = found["bridges"]
    assert bridge["counts"] == {"flows": 500, "groups": 2, "meters": 3, "tlvs": 1}
    assert bridge["counts_error"] == ""
    assert found["totals"] == {"bridges": 1, "ports": 1, "flows": 500, "groups": 2, "meters": 3, "tlvs": 1}
    assert found["upgrade_pending"] is False
    assert found["schema"]["running"] == found["schema"]["disk"]
    for daemon in found["daemons"].values():
        assert (daemon["running_version"], daemon["disk_version"]) == (version, version)
        assert daemon["user"] == "root"


@pytest.mark.parametrize("protocols", ["OpenFlow10", "[OpenFlow10,OpenFlow13]", "OpenFlow13", "[]"])
def test_whatever_versions_a_bridge_speaks(ovs: t.Any, protocols: str) -> None:
    ovs.bridge("br0", f"protocols={protocols}")
    (bridge,) = info(ovs)["bridges"]
    # The one flow of a fresh bridge.
    assert bridge["counts"] == {"flows": 1, "groups": 0, "meters": 0, "tlvs": 0}


def test_a_replaced_binary_is_the_reason_to_upgrade(ovs: t.Any) -> None:
    before = info(ovs)["daemons"]["ovs-vswitchd"]
    # As a package manager does it: a new file under the name.
    binary = ovs.path(before["binary"])
    shutil.copy(binary, binary + ".new")
    os.replace(binary + ".new", binary)
    found = info(ovs)
    daemon = found["daemons"]["ovs-vswitchd"]
    assert daemon["identity"] == before["identity"]
    assert (daemon["binary"], daemon["binary_replaced"]) == (before["binary"], True)
    assert found["upgrade_pending"] is True
    assert found["upgrade_reasons"] == [
        "ovs-vswitchd runs from a file that was replaced since it was started"
    ]
    ovs.service("restart")
    found = info(ovs)
    assert found["upgrade_pending"] is False
    assert found["daemons"]["ovs-vswitchd"]["identity"] != before["identity"]


def test_what_a_plan_has_to_know(ovs: t.Any) -> None:
    ovs.bridge("br0", "stp_enable=true", "mcast_snooping_enable=true")
    ovs.vsctl("set-manager", "ptcp:6640:127.0.0.1")
    ovs.vsctl("set", "open", ".", "other_config:hw-offload=true")
    ovs.vsctl(
        *("--", "--id=@s", "create", "sFlow", 'targets="127.0.0.1:6343"'),
        *("--", "set", "bridge", "br0", "sflow=@s"),
    )
    ovs.vsctl(
        *("--", "add-port", "br0", "vx0", "--", "set", "interface", "vx0", "type=vxlan"),
        *("options:remote_ip=192.0.2.1", "options:psk=swordfish", "bfd:enable=true"),
    )
    found = info(ovs)
    (bridge,) = found["bridges"]
    assert (bridge["stp"], bridge["mcast_snooping"], bridge["sflow"], bridge["ipfix"]) == (
        True,
        True,
        True,
        False,
    )
    assert found["managers"] == ["ptcp:6640:127.0.0.1"]
    assert found["hw_offload"] is True
    vx0 = next(interface for interface in bridge["interfaces"] if interface["name"] == "vx0")
    assert vx0["type"] == "vxlan"
    assert vx0["options"] == {"remote_ip": "192.0.2.1"}
    assert vx0["bfd"] == {"enable": "true"}


def test_a_stopped_vswitchd_leaves_the_database_readable(ovs: t.Any) -> None:
    ovs.bridge("br0")
    ovs.appctl("-t", "ovs-vswitchd", "exit")
    ovs.run("sh", "-c", "while [ -e /run/openvswitch/ovs-vswitchd.pid ]; do sleep 0.05; done")
    found = info(ovs)
    assert found["daemons"]["ovs-vswitchd"]["running"] is False
    assert found["daemons"]["ovsdb-server"]["running"] is True
    (bridge,) = found["bridges"]
    assert (bridge["name"], bridge["counts"]) == ("br0", None)
    assert found["totals"]["flows"] is None


def test_it_changes_nothing(ovs: t.Any) -> None:
    ovs.bridge("br0")
    before = ovs.run("ovsdb-client", "dump", "Open_vSwitch", "Open_vSwitch")
    info(ovs)
    assert ovs.run("ovsdb-client", "dump", "Open_vSwitch", "Open_vSwitch") == before
