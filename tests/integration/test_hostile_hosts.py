# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that nobody planned for: each module works there, or says clearly why not, and leaves nothing behind."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

if t.TYPE_CHECKING:
    from tests.integration.conftest import Ovs, StartOvs

# Open vSwitch takes any of these; "br sp ace" gets no device, because no kernel takes a space in its name.
NAMES = [
    "br sp ace",
    "br$(>pwned)",
    'br"q"\'s',
    "fifteen-chars-x",
    "-O",
    "br;id|x&",
    "brü",
    "`reboot`",
    "%s%n*?[a]",
]


@pytest.fixture
def hostile(ovs: Ovs) -> Ovs:
    """A host with a bridge, and a port on it, for each of the names; two flows on each bridge."""
    for number, name in enumerate(NAMES):
        ovs.bridge(name)
        ovs.vsctl("--", "add-port", name, f"p{number} $(x)'\"", "--", "set", "interface", f"p{number} $(x)'\"", "type=patch",
                  "options:peer=none")  # fmt: skip
        target = f"unix:/run/openvswitch/{name}.mgmt"
        ovs.ofctl("add-flow", target, f"priority={number + 1},udp,tp_dst={number + 1},actions=drop")
    return ovs


def files(ovs: Ovs) -> set[str]:
    """Everything below the host's writable places except what Open vSwitch itself writes."""
    found = ovs.run(
        "find",
        "/run",
        "/etc",
        "/root",
        "/tmp",
        "/var/lib",
        "-path",
        "/run/openvswitch",
        "-prune",
        "-o",
        "-print",
    )
    return {name for name in found.splitlines() if "/openvswitch/" not in name}


def snapshot(ovs: Ovs, **parameters: t.Any) -> dict[str, t.Any]:
    return ovs.module("ovs_flow_snapshot", path="/root/snapshot", **parameters)


def dump(ovs: Ovs, bridge: str, version: str = "OpenFlow15") -> list[str]:
    """The flows of a bridge, as ovs-ofctl says them, without what changes by itself."""
    target = f"unix:/run/openvswitch/{bridge}.mgmt"
    return sorted(ovs.ofctl("--no-stats", "dump-flows", target, version=version).splitlines()[1:])


def test_names_that_a_shell_would_run_are_names(hostile: Ovs) -> None:
    before = files(hostile)
    info = hostile.module("ovs_info")
    bridges = {bridge["name"]: bridge for bridge in info["bridges"]}
    assert set(bridges) == set(NAMES)
    for number, name in enumerate(NAMES):
        assert bridges[name]["counts_error"] == ""
        assert bridges[name]["counts"]["flows"] == 2
        assert f"p{number} $(x)'\"" in [interface["name"] for interface in bridges[name]["interfaces"]]
    assert files(hostile) == before
    assert not Path(hostile.path("/pwned")).exists()


def test_flows_of_any_bridge_name_come_back(hostile: Ovs) -> None:
    before = {name: dump(hostile, name) for name in NAMES}
    files_before = files(hostile)
    assert snapshot(hostile)["changed"] is True
    assert snapshot(hostile)["changed"] is False
    for name in NAMES:
        hostile.ofctl("del-flows", f"unix:/run/openvswitch/{name}.mgmt")
    lost = snapshot(hostile, state="verified")
    assert lost["failed"]
    assert set(lost["differences"]) == set(NAMES)
    restored = snapshot(hostile, state="restored")
    assert not restored.get("failed"), restored["msg"]
    assert {name: dump(hostile, name) for name in NAMES} == before
    assert snapshot(hostile, state="verified")["matches"] is True
    assert snapshot(hostile, state="restored")["changed"] is False
    snapshot(hostile, state="absent")
    assert files(hostile) == files_before


@pytest.mark.parametrize("protocols", ["OpenFlow10,OpenFlow13", "OpenFlow10"])
def test_a_bridge_of_old_protocols_only_comes_back(ovs: Ovs, protocols: str) -> None:
    ovs.bridge("br0", f"protocols={protocols}")
    version = protocols.rpartition(",")[2]
    ovs.ofctl("add-flow", "br0", "priority=7,udp,tp_dst=7,actions=drop", version=version)
    before = dump(ovs, "br0", version)
    assert snapshot(ovs)["changed"] is True
    ovs.ofctl("del-flows", "br0", version=version)
    restored = snapshot(ovs, state="restored")
    assert not restored.get("failed"), restored["msg"]
    assert dump(ovs, "br0", version) == before


def test_a_bridge_that_speaks_no_known_version_is_refused(ovs: Ovs) -> None:
    ovs.bridge("br0", "protocols=OpenFlow11,OpenFlow12")
    before = files(ovs)
    answer = snapshot(ovs)
    assert answer["failed"]
    assert "br0" in answer["msg"]
    assert "protocols" in answer["error"]["hint"]
    assert files(ovs) == before


def test_a_bridge_without_flows_comes_back_empty(ovs: Ovs) -> None:
    ovs.bridge("br0")
    ovs.ofctl("del-flows", "br0")
    assert snapshot(ovs)["bridges"][0]["counts"]["flows"] == 0
    ovs.ofctl("add-flow", "br0", "actions=NORMAL")
    assert snapshot(ovs, state="restored")["changed"] is True
    assert dump(ovs, "br0") == []


def test_a_host_without_open_vswitch_running_has_nothing_to_take(ovs: Ovs) -> None:
    ovs.bridge("br0")
    ovs.service("stop")
    before = files(ovs)
    answer = snapshot(ovs)
    assert answer["failed"]
    assert answer["error"]["hint"]
    assert files(ovs) == before


def test_a_bridge_of_old_protocols_only_is_counted(ovs: Ovs) -> None:
    ovs.bridge("br0", "protocols=OpenFlow10,OpenFlow13")
    ovs.ofctl("add-flow", "br0", "priority=7,actions=drop", version="OpenFlow13")
    ovs.ofctl("add-meter", "br0", "meter=1,kbps,bands=type=drop,rate=1000", version="OpenFlow13")
    ovs.ofctl("add-group", "br0", "group_id=1,type=all,bucket=actions=drop", version="OpenFlow13")
    [bridge] = ovs.module("ovs_info")["bridges"]
    assert bridge["counts_error"] == ""
    assert bridge["counts"] == {"flows": 2, "groups": 1, "meters": 1, "tlvs": 0}


def test_a_bridge_without_flows_is_counted(ovs: Ovs) -> None:
    ovs.bridge("br0")
    ovs.ofctl("del-flows", "br0")
    assert ovs.module("ovs_info")["totals"]["flows"] == 0


def test_a_host_without_bridges_is_no_error(ovs: Ovs) -> None:
    info = ovs.module("ovs_info")
    assert (info["bridges"], info["totals"]["flows"]) == ([], 0)


def test_open_vswitch_that_is_stopped_is_reported(ovs: Ovs) -> None:
    ovs.bridge("br0")
    ovs.service("stop")
    before = files(ovs)
    info = ovs.module("ovs_info")
    assert info["installed"] is True
    assert [info["daemons"][name]["running"] for name in ("ovs-vswitchd", "ovsdb-server")] == [False, False]
    assert "db.sock" in info["database_error"]
    refused = ovs.module("ovs_restore_wait", state="enabled", clear_after=30)
    assert refused["failed"]
    assert "db.sock" in refused["msg"]
    assert files(ovs) == before


def test_a_host_without_open_vswitch_is_reported(start_ovs: StartOvs) -> None:
    host = start_ovs(None)
    before = files(host)
    info = host.module("ovs_info")
    assert info["installed"] is False
    assert (info["bridges"], info["upgrade_pending"]) == ([], False)
    refused = host.module("ovs_restore_wait", state="enabled", clear_after=30)
    assert refused["failed"]
    assert refused["error"]["hint"]
    assert files(host) == before


@pytest.mark.parametrize(
    ("module", "parameters"),
    [
        ("ovs_info", {}),
        ("ovs_restore_wait", {"state": "enabled"}),
        ("ovs_flow_snapshot", {"path": "/root/snapshot"}),
        ("ovs_traffic_probe", {"state": "started", "address": "10.0.0.2"}),
    ],
)
def test_somebody_who_is_not_root_is_told_so(ovs: Ovs, module: str, parameters: dict[str, t.Any]) -> None:
    before = files(ovs)
    answer = ovs.module(module, as_user="nobody", **parameters)
    assert answer["failed"]
    assert "root" in answer["msg"]
    assert "become" in answer["msg"]
    assert files(ovs) == before


def test_the_flag_is_cleared_by_the_host_itself_when_ansible_does_not_come_back(ovs: Ovs) -> None:
    answer = ovs.module("ovs_restore_wait", state="enabled", clear_after=5)
    assert answer["flow_restore_wait"] is True
    watcher = ovs.module("ovs_restore_wait", state="enabled")
    assert watcher["changed"] is False
    # The deadline is the host's: nothing of this test takes part any more.
    ovs.vsctl("--timeout=30", "wait-until", "open_vswitch", ".", "other_config!=flow-restore-wait=true")
    assert "flow-restore-wait" not in ovs.vsctl("get", "open_vswitch", ".", "other_config")
