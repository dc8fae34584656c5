# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The readers of databases, control sockets and processes against the daemons of every version."""

from __future__ import annotations

import os
import signal
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import daemons
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl, daemon_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Ovsdb

VERSIONS = ["2.15.0", "3.1.0", "3.5.0", "4.0.0"]
# No blank: no kernel takes one in the name of a device (ports without one have them, test_hostile_hosts.py).
NASTY = 'a"b"$(id)'
LONG = "p23456789012345"


def remote(ovs: t.Any) -> str:
    return f"unix:{ovs.rundir}/db.sock"


@pytest.fixture(params=VERSIONS)
def ovs_of_each_version(request: pytest.FixtureRequest, start_ovs: t.Any) -> t.Any:
    return start_ovs(request.param)


def test_what_ovs_vsctl_sets_is_read_on_every_version(ovs_of_each_version: t.Any) -> None:
    ovs = ovs_of_each_version
    ovs.bridge(NASTY, "fail_mode=secure", "protocols=[OpenFlow10,OpenFlow13]", 'other_config:x="y z"')
    ovs.vsctl("add-port", NASTY, LONG, "--", "set", "interface", LONG, "type=internal", "ofport_request=7")
    ovs.vsctl(
        *("--", "add-bond", NASTY, "bond 0", "m0", "m1", "lacp=active"),
        *("--", "set", "interface", "m0", "type=internal", "--", "set", "interface", "m1", "type=internal"),
    )
    ovs.vsctl("set-controller", NASTY, "tcp:127.0.0.1:6653", "ptcp:6654:127.0.0.1")
    with Ovsdb(remote(ovs)) as db:
        (bridge,) = db.bridges()
        schema = db.schema_version
    assert bridge.name == NASTY
    assert (bridge.datapath_type, bridge.fail_mode) == ("netdev", "secure")
    assert bridge.datapath_id is not None
    assert len(bridge.datapath_id) == 16
    assert bridge.protocols == ("OpenFlow10", "OpenFlow13")
    assert bridge.controllers == ("ptcp:6654:127.0.0.1", "tcp:127.0.0.1:6653")
    assert bridge.other_config == {"x": "y z"}
    assert [(port.name, port.interfaces, port.lacp) for port in bridge.ports] == [
        (NASTY, (NASTY,), None),
        ("bond 0", ("m0", "m1"), "active"),
        (LONG, (LONG,), None),
    ]
    numbers = {interface.name: interface.ofport for interface in bridge.interfaces}
    assert (numbers[NASTY], numbers[LONG]) == (65534, 7)
    assert schema == ovs.run("ovsdb-client", "get-schema-version", "Open_vSwitch").strip()


def test_the_flag_as_ovs_vsctl_sees_it_on_every_version(ovs_of_each_version: t.Any) -> None:
    ovs = ovs_of_each_version
    ovs.vsctl("set", "open", ".", "other_config:flow-restore-wait=false", "other_config:vlan-limit=1")
    with Ovsdb(remote(ovs)) as db:
        assert not db.flow_restore_wait()
        db.set_flow_restore_wait(True)
        assert db.flow_restore_wait()
        assert ovs.vsctl("get", "open", ".", "other_config:flow-restore-wait") == '"true"\n'
        db.set_flow_restore_wait(False)
        assert not db.flow_restore_wait()
    assert ovs.vsctl("get", "open", ".", "other_config") == '{vlan-limit="1"}\n'


def test_an_interface_that_cannot_be_added_says_why(ovs: t.Any) -> None:
    ovs.bridge("br0")
    # From 4.0 on ovs-vsctl would fail for want of the device, so it does not wait.
    ovs.vsctl("--no-wait", "add-port", "br0", "nowhere")
    ovs.vsctl("wait-until", "interface", "nowhere", "ofport=-1")
    with Ovsdb(remote(ovs)) as db:
        (bridge,) = db.bridges()
    nowhere = next(interface for interface in bridge.interfaces if interface.name == "nowhere")
    assert nowhere.ofport == -1
    assert nowhere.error


def test_a_refused_transaction_changes_nothing(ovs: t.Any) -> None:
    rename = {
        "op": "update",
        "table": "Open_vSwitch",
        "where": [],
        "row": {"external_ids": ["map", [["a", "b"]]]},
    }
    wrong = {"op": "insert", "table": "Bridge", "row": {"fail_mode": "sometimes"}}
    with (
        Ovsdb(remote(ovs)) as db,
        pytest.raises(HotUpgradeError, match="refused insert: constraint violation"),
    ):
        db.transact(rename, wrong)
    assert "a=b" not in ovs.vsctl("get", "open", ".", "external_ids")


def test_a_database_that_goes_away(ovs: t.Any) -> None:
    with Ovsdb(remote(ovs)) as db:
        assert db.bridges() == []
        ovs.service("stop")
        with pytest.raises(Unreachable, match="closed the connection|Connection reset|Broken pipe"):
            db.bridges()
    with pytest.raises(Unreachable, match="cannot connect"):
        Ovsdb(remote(ovs))


def test_a_database_that_hangs(ovs: t.Any) -> None:
    server = ovs.pid("ovsdb-server")
    os.kill(server, signal.SIGSTOP)
    try:
        with (
            Ovsdb(remote(ovs), timeout=0.2) as db,
            pytest.raises(Unreachable, match=r"no answer .* in 0\.2 s"),
        ):
            db.bridges()
    finally:
        os.kill(server, signal.SIGCONT)


def test_control_sockets_of_every_version(ovs_of_each_version: t.Any) -> None:
    ovs = ovs_of_each_version
    ovs.bridge(NASTY)
    for name in (daemons.VSWITCHD, daemons.OVSDB_SERVER):
        control = Appctl(ovs.path(f"/run/openvswitch/{name}.{ovs.pid(name)}.ctl"))
        assert daemons.parse_version(control.call("version")) == ovs.version
    assert daemon_socket(ovs.rundir, "ovs-vswitchd").endswith(f"/ovs-vswitchd.{ovs.pid()}.ctl")
    control = Appctl(daemon_socket(ovs.rundir, "ovs-vswitchd"))
    assert "port" in control.call("fdb/show", NASTY).lower()
    with pytest.raises(HotUpgradeError, match="refused the command fdb/show: no such bridge"):
        control.call("fdb/show", "$(id)")


def test_a_vswitchd_that_hangs_still_counts_as_running(ovs: t.Any) -> None:
    pid = ovs.pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        daemon = daemons.inspect(daemons.VSWITCHD, ovs.rundir, timeout=0.2)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert daemon.process is not None
    assert daemon.process.pid == pid
    assert daemon.running_version is None
    assert daemons.inspect(daemons.VSWITCHD, ovs.rundir).running_version == ovs.version


def test_its_monitor_is_known_and_a_new_process_is_another_one(ovs: t.Any) -> None:
    before = daemons.inspect(daemons.VSWITCHD, ovs.rundir)
    assert before.supervisor is not None
    # Seen from this machine the daemon is in another mount namespace, as in a container.
    assert before.supervisor.kind == "container"
    # Root runs no program of another mount namespace, so what is on the disk there is not known.
    assert (before.disk_version, before.upgrade_pending) == (None, False)
    assert before.supervisor.monitor_pid is not None
    inside = ovs.module("ovs_info")["daemons"]["ovs-vswitchd"]
    assert inside["supervisor"]["kind"] == "monitor"
    assert inside["supervisor"]["monitor_pid"] == before.supervisor.monitor_pid
    # A monitor restarts what crashed, but not what was killed (lib/daemon-unix.c, should_restart).
    os.kill(ovs.pid(), signal.SIGSEGV)
    after = Waiter(20.0).wait(
        "its monitor has started another ovs-vswitchd",
        lambda: daemons.inspect(daemons.VSWITCHD, ovs.rundir),
        lambda daemon: daemon.running_version is not None and daemon.process != before.process,
    )
    assert after.supervisor == before.supervisor


def test_stopped(ovs: t.Any) -> None:
    ovs.service("stop")
    info = ovs.module("ovs_info")
    assert info["installed"] is True
    assert info["daemons"]["ovs-vswitchd"]["running"] is False
    assert info["daemons"]["ovs-vswitchd"]["disk_version"] == ovs.version
    assert info["upgrade_pending"] is False
    assert "cannot connect" in info["database_error"]
