# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The snapshot engine and its module against real Open vSwitches of every version."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.polling import READABLE, wait_for
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import state as flowstate
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.compare import Ignore, compare
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import management_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.restore import (
    Staged,
    restore,
    stage,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Connection
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import directory as snapshots
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import switch as engine

VERSIONS = ("2.15.0", "3.1.0", "3.5.0", "4.0.0")
HOSTILE = "b $(id)'\";"
# For the state of a bridge that was restored into another one.
OTHER_PORTS = Ignore(ports=True)

METERS = (
    "meter=1,kbps,burst,stats,bands=type=drop,rate=1000,burst_size=100",
    "meter=2,pktps,stats,bands=type=drop,rate=10",
    "meter=3,pktps,burst,bands=type=drop,rate=9,burst_size=3,type=drop,rate=5,burst_size=7",
)
GROUPS = (
    "group_id=10,type=select,selection_method=hash,fields(ip_src=255.255.255.0,tcp_dst),"
    "bucket=bucket_id:7,weight:5,actions=output:1,bucket=bucket_id:9,weight:3,watch_port:1,actions=output:2",
    "group_id=11,type=select,selection_method=dp_hash,selection_method_param=7,bucket=actions=output:1",
    "group_id=12,type=ff,bucket=watch_port:1,watch_group:10,actions=output:1,bucket=watch_port:2,actions=group:13",
    "group_id=13,type=indirect,bucket=actions=mod_dl_dst:02:00:00:00:00:09,output:2",
    "group_id=4294967040,type=all,bucket=actions=output:1,bucket=actions=group:12",
)
# Added in OpenFlow 1.5, then those that only OpenFlow 1.0 takes.
FLOWS15 = (
    "table=0,cookie=0xffffffffffffffff,priority=65535,tcp,tcp_flags=+syn-ack,actions=meter:1,group:10",
    "table=0,cookie=0x8000000000000001,priority=1,importance=9,idle_timeout=600,hard_timeout=900,send_flow_rem,"
    "no_packet_counts,no_byte_counts,actions=NORMAL",
    "table=0,priority=9,tcp,nw_dst=10.0.0.0/255.255.0.255,actions=ct(commit,zone=NXM_NX_REG1[0..15],nat(src=10.0.0.1-10.0.0.9:"
    "5000-6000,random),exec(set_field:0x5->ct_mark,set_field:0x1->ct_label),alg=ftp,table=7)",
    "table=1,priority=5,in_port=1,actions=learn(table=2,idle_timeout=100,hard_timeout=200,fin_idle_timeout=3,cookie=0xabc,"
    "priority=77,NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),resubmit(,2)",
    "table=3,priority=5,ip,ip_src=10.1.1.1,actions=conjunction(7,1/2)",
    "table=3,priority=5,tcp,tcp_dst=80,actions=conjunction(7,2/2)",
    "table=3,priority=4,conj_id=7,ip,actions=output:2",
    "table=4,priority=1,ip,actions=encap(nsh(md_type=2,tlv(0x1000,10,0x12345678))),set_field:0x1234->nsh_spi,encap(ethernet),"
    "output:2",
    "table=4,priority=2,packet_type=(1,0x894f),actions=decap(),decap(),goto_table:5",
    "table=5,priority=3,tun_id=0x5/0xff,tun_metadata0=0x12345678/0xffff0000,tun_metadata3=0xab,"
    "actions=set_field:0x7->tun_metadata3,output:1",
    "table=5,priority=4,metadata=0x1234567890abcdef/0xffffffffffffff00,reg0=1,xxreg1=0x1/0xf,actions=write_metadata:0x5/0xff,"
    "goto_table:6",
    "table=6,priority=4,udp6,ipv6_src=fd00::/17,udp_src=0x400/0xfc00,actions=clone(set_field:fd00::1->ipv6_src,"
    "clone(dec_ttl,output:1),ct_clear,output:2),controller(reason=no_match,max_len=99,id=5,userdata=00.01.02,pause)",
    "table=6,priority=5,icmp6,icmp_type=135,nd_target=fd00::5,actions=write_actions(set_field:02:00:00:00:00:01->eth_src,group:11)",
    "table=8,priority=6,dl_vlan=5,dl_vlan_pcp=3,actions=pop_vlan,push_mpls:0x8847,set_field:77->mpls_label,output:1",
    "table=8,priority=7,arp,arp_op=1,arp_tpa=10.0.0.1,actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],set_field:2->arp_op,IN_PORT",
    "table=8,priority=8,ip,ip_frag=later,actions=multipath(symmetric_l4,1024,hrw,16,0,NXM_NX_REG2[0..7]),note:00.11.22,"
    "check_pkt_larger(1500)->NXM_NX_REG0[0],output:NXM_NX_REG1[]",
    "table=253,priority=0,actions=drop",
)
FLOWS10 = (
    "table=9,priority=1,actions=dec_ttl,mod_nw_dst:10.0.0.1,mod_tp_dst:443,output:1",
    "table=9,priority=2,in_port=2,actions=pop_mpls:0x0800,dec_ttl,load:3->NXM_NX_REG0[4..7],set_queue:5,output:2,clone(dec_ttl)",
    "table=9,priority=3,vlan_tci=0x1000/0x1000,actions=strip_vlan,mod_nw_tos:48,LOCAL",
)


def connection(ovs: t.Any) -> Connection:
    """How the test's own process reaches the engine's counterparts in the host."""
    return Connection(ovs.rundir, f"unix:{ovs.rundir}/db.sock", 10.0)


def add_bridge(ovs: t.Any, name: str = "br0", *settings: str) -> str:
    """A bridge with the ports 1 and 2."""
    ovs.bridge(name, "fail_mode=secure", *settings)
    for number in (1, 2):
        port = f"p{number}-{abs(hash(name)) % 1000}"
        ovs.vsctl(
            "--",
            "add-port",
            name,
            port,
            "--",
            "set",
            "interface",
            port,
            "type=internal",
            f"ofport_request={number}",
        )
    return name


def fill(ovs: t.Any, name: str = "br0") -> None:
    """Everything that a bridge can hold."""
    ovs.ofctl(
        "add-tlv-map",
        name,
        "{class=0xffff,type=0x10,len=4}->tun_metadata0,{class=0x102,type=0x80,len=8}->tun_metadata3",
    )
    for meter in METERS:
        ovs.ofctl("add-meter", name, meter)
    ovs.ofctl("add-groups", name, "-", feed="\n".join(GROUPS))
    ovs.ofctl("add-flows", name, "-", feed="\n".join(FLOWS15))
    ovs.ofctl("add-flows", name, "-", feed="\n".join(FLOWS10), version="OpenFlow10")
    ovs.ofctl("mod-table", name, "3", "evict")
    ovs.ofctl("mod-table", name, "5", "vacancy:20,80")
    ovs.ofctl("mod-port", name, "1", "no-flood", version="OpenFlow10")
    ovs.ofctl("mod-port", name, "2", "no-forward")
    ovs.ofctl("set-frags", name, "nx-match")


def fill_largely(ovs: t.Any, name: str) -> None:
    """More flows than go through one connection, in ten tables, and a group in the first and in the last."""
    ovs.ofctl("add-group", name, "group_id=1,type=all,bucket=actions=output:1")
    flows = [
        f"table={number % 10},cookie={number:#x},priority=9,ip,metadata={number:#x},nw_dst=10.0.0.9,"
        f"actions=set_field:{number}->reg1,set_field:{number}->reg2,set_field:{number}->reg3,resubmit(,{number % 10 + 1})"
        for number in range(20000)
    ]
    flows += [f"table={table},priority=1,actions=group:1" for table in (0, 9)]
    ovs.ofctl("add-flows", name, "-", feed="\n".join(flows))


def content(ovs: t.Any, name: str = "br0") -> str:
    """What ovs-ofctl shows of a bridge, without what counts and grows."""
    ours = ("--no-stats", "--no-names")
    shown = [ovs.ofctl("dump-flows", *ours, name)]
    # OpenFlow 1.0 tells some actions apart that newer versions show alike.
    shown.append(ovs.ofctl("dump-flows", *ours, name, "table=9", version="OpenFlow10"))
    commands = ("dump-groups", "dump-meters", "dump-tlv-map", "dump-table-desc", "get-frags")
    shown += [ovs.ofctl(command, name) for command in commands]
    shown.append(ovs.ofctl("dump-ports-desc", name, version="OpenFlow10"))
    lines = "\n".join(shown).splitlines()
    # Transaction ids, the names of ports and MAC addresses are not content; the order of flows is the switch's own affair.
    lines = [re.sub(r"\(.*?\):|\(xid=.*| addr:.*", "", line) for line in lines]
    return "\n".join(sorted(filter(None, lines)))


def open_switch(ovs: t.Any, name: str, *versions: int) -> flowstate.Switch:
    path = management_socket(ovs.rundir, name)
    return flowstate.Switch(path, versions) if versions else flowstate.Switch(path)


def test_every_version_restores_the_snapshots_of_every_version(start_ovs: t.Any, tmp_path: Path) -> None:
    hosts = {version: start_ovs(version) for version in VERSIONS}
    taken = {}
    for version, ovs in hosts.items():
        fill(ovs, add_bridge(ovs))
        taken[version] = engine.take(connection(ovs), str(tmp_path / version))
        assert taken[version].bridges[0].not_carried == []
        assert taken[version].bridges[0].counts == {
            "flows": len(FLOWS15) + len(FLOWS10),
            "groups": len(GROUPS),
            "meters": len(METERS),
            "tlvs": 2,
            "ports": 3,
            "tables": 2,
        }
    for new, ovs in hosts.items():
        for old, snapshot in taken.items():
            name = add_bridge(ovs, f"from{old}")
            state = snapshot.state("br0")
            with open_switch(ovs, name, state.version) as switch:
                restore(switch, state)
                difference = compare(state, switch.state(), OTHER_PORTS)
                assert difference.same, f"{old} on {new}: {difference}"
            assert content(ovs, name) == content(ovs, "br0"), f"{old} on {new}"


@pytest.mark.parametrize("protocols", ["OpenFlow10", "OpenFlow10,OpenFlow13", "OpenFlow13", "OpenFlow14"])
def test_old_protocols_keep_what_they_can_carry(ovs: t.Any, tmp_path: Path, protocols: str) -> None:
    add_bridge(ovs)
    fill(ovs)
    version = protocols.rpartition(",")[2]
    if "OpenFlow10" not in protocols:
        ovs.ofctl("del-flows", "br0", "table=9")
    if protocols == "OpenFlow10":
        # encap, decap and write_metadata, which a switch shows in OpenFlow 1.0 but does not take back.
        ovs.ofctl("del-flows", "br0", "table=4")
        ovs.ofctl("del-flows", "br0", "table=5")
    before = set(content(ovs).splitlines())
    ovs.vsctl("set", "bridge", "br0", f"protocols={protocols}")
    bridge = engine.take(connection(ovs), str(tmp_path / "snapshot")).bridges[0]
    assert bridge.openflow_version == version
    assert any(version in sentence for sentence in bridge.not_carried)
    state = snapshots.read(str(tmp_path / "snapshot")).state("br0")
    ovs.ofctl("del-flows", "br0", version=version)
    with open_switch(ovs, "br0", state.version) as switch:
        assert compare(state, switch.state()).missing_count == bridge.counts["flows"]
        restore(switch, state)
        assert compare(state, switch.state()).same
    ovs.vsctl("clear", "bridge", "br0", "protocols")
    lost = before - set(content(ovs).splitlines())
    # Flags, importance, meters, write_actions and selection methods, as not_carried says.
    assert len(lost) <= {"OpenFlow10": 14}.get(version, 5), lost


def test_a_refusal_names_the_flow_and_leaves_the_bridge_as_it_was(start_ovs: t.Any, tmp_path: Path) -> None:
    new, old = start_ovs("4.0.0"), start_ovs("2.15.0")
    add_bridge(new)
    fill(new)
    # Open vSwitch 2.15 has 16 registers.
    new.ofctl("add-flow", "br0", "table=12,priority=5,reg20=7,actions=output:1")
    snapshot = engine.take(connection(new), str(tmp_path / "snapshot"))
    add_bridge(old)
    old.ofctl("add-meter", "br0", "meter=9,kbps,bands=type=drop,rate=9")
    old.ofctl("add-flow", "br0", "priority=3,ip,actions=meter:9,output:1")
    before = content(old)
    with open_switch(old, "br0", wire.OF15) as switch, pytest.raises(Refused) as refusal:
        restore(switch, snapshot.state("br0"))
    assert "table=12, priority=5" in str(refusal.value)
    assert "OFPBMC_BAD_FIELD" in str(refusal.value)
    assert content(old) == before


def test_what_the_snapshot_does_not_have_is_gone_after_a_restore(ovs: t.Any, tmp_path: Path) -> None:
    add_bridge(ovs)
    state = engine.take(connection(ovs), str(tmp_path / "snapshot")).state("br0")
    empty = content(ovs)
    fill(ovs)
    assert content(ovs) != empty
    with open_switch(ovs, "br0") as switch:
        restore(switch, state)
        assert compare(state, switch.state()).same
    assert content(ovs) == empty


def test_the_bridge_stays_as_it_was_when_the_commit_is_refused(ovs: t.Any, tmp_path: Path) -> None:
    add_bridge(ovs)
    fill(ovs)
    state = engine.take(connection(ovs), str(tmp_path / "snapshot")).state("br0")
    add_bridge(ovs, "br1")
    ovs.ofctl("add-flow", "br1", "priority=3,ip,actions=output:1")
    before = content(ovs, "br1")
    with open_switch(ovs, "br1") as switch:
        staged = stage(switch, without_groups(state))
        with pytest.raises(Refused, match=r"OFPBAC_BAD_OUT_GROUP"):
            staged.commit()
    assert content(ovs, "br1") == before


def without_groups(state: flowstate.State) -> flowstate.State:
    """What no switch can take, and notices at the commit only."""
    return dataclasses.replace(
        state, replies=lambda: (reply for reply in state.replies() if not wire.is_group_reply(reply))
    )


@pytest.mark.parametrize("empty", [True, False])
def test_a_large_state_comes_whole_or_not_at_all(
    ovs: t.Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty: bool
) -> None:
    further: list[int] = []
    connect = flowstate.Switch.further

    def counted(switch: flowstate.Switch, count: int) -> t.Any:
        further.append(count)
        return connect(switch, count)

    monkeypatch.setattr(flowstate.Switch, "further", counted)
    add_bridge(ovs)
    fill_largely(ovs, "br0")
    whole = content(ovs)
    state = engine.take(connection(ovs), str(tmp_path / "snapshot")).state("br0")
    add_bridge(ovs, "br1")
    if not empty:
        ovs.ofctl("add-flow", "br1", "priority=3,ip,actions=output:1")
    before = content(ovs, "br1")
    with open_switch(ovs, "br1") as switch:
        with pytest.raises(Refused, match=r"OFPBAC_BAD_OUT_GROUP"):
            restore(switch, without_groups(state))
        assert content(ovs, "br1") == before
        stage(switch, state, in_parts=True).discard()
        assert content(ovs, "br1") == before
        restore(switch, state)
        # Only of an empty bridge nobody can tell that it is filled step by step.
        assert [bool(count) for count in further] == [empty] * 3
        assert compare(state, switch.state(), OTHER_PORTS).same
    assert content(ovs, "br1") == whole


@pytest.mark.parametrize("protocols", ["OpenFlow15,OpenFlow10", "OpenFlow10"])
def test_a_damaged_snapshot_is_found_out_before_it_has_an_effect(
    ovs: t.Any, tmp_path: Path, protocols: str
) -> None:
    add_bridge(ovs)
    fill(ovs)
    # A switch shows them in OpenFlow 1.0, but does not take them back.
    for table in ("4", "5"):
        ovs.ofctl("del-flows", "br0", f"table={table}")
    ovs.vsctl("set", "bridge", "br0", f"protocols={protocols}")
    path = str(tmp_path / "snapshot")
    file = Path(path) / engine.take(connection(ovs), path).bridge("br0").file
    whole = file.read_bytes()
    ovs.vsctl("clear", "bridge", "br0", "protocols")
    for command in ("del-flows", "del-groups", "del-meters", "del-tlv-map"):
        ovs.ofctl(command, "br0")
    ovs.ofctl("add-flow", "br0", "priority=3,ip,actions=output:1")
    before = content(ovs)
    for at in [*range(0, len(whole), len(whole) // 40), len(whole) - 1]:
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with pytest.raises(Refused, match=r"bridge-0001.of is damaged: its SHA-256"):
            engine.Restoration(connection(ovs), snapshots.read(path, at_once=False).states)
        assert content(ovs) == before
    # What was staged of it is gone: the same connection can stage again.
    state = snapshots.read(path, at_once=False).state("br0")
    with open_switch(ovs, "br0", state.version) as switch:
        with pytest.raises(Refused, match="damaged"):
            stage(switch, state)
        file.write_bytes(whole)
        restore(switch, snapshots.read(path, at_once=False).state("br0"))
        assert compare(state, switch.state(), OTHER_PORTS).same


def test_a_staged_state_survives_the_idle_timeout_and_a_flush(ovs: t.Any, tmp_path: Path) -> None:
    add_bridge(ovs)
    fill(ovs)
    state = engine.take(connection(ovs), str(tmp_path / "snapshot")).state("br0")
    before = content(ovs)
    ovs.vsctl("set", "open", ".", "other_config:bundle-idle-timeout=1")
    with open_switch(ovs, "br0") as switch:
        staged = stage(switch, state)
        # Longer than the timeout, after which the switch drops a bundle that nothing keeps alive.
        time.sleep(4)
        staged.require()
        for command in ("del-flows", "del-groups", "del-meters"):
            ovs.ofctl(command, "br0")
        staged.commit()
        assert content(ovs) == before
        staged = staged_and_dropped(switch, state)
        with pytest.raises(HotUpgradeError, match="dropped the staged state"):
            staged.require()
        ovs.ofctl("del-flows", "br0")
        stage(switch, state).commit()
        assert content(ovs) == before
        staged = staged_and_dropped(switch, state)
        with pytest.raises(Refused, match="BFC_"):
            staged.commit()
        assert content(ovs) == before


@contextlib.contextmanager
def survives(ovs: t.Any) -> t.Iterator[None]:
    """Whatever is asked of ovs-vswitchd, it is the same process afterwards, and serves."""
    before = ovs.pid()
    yield
    ovs.appctl("version")
    assert ovs.pid() == before


def staged_and_dropped(switch: flowstate.Switch, state: flowstate.State) -> Staged:
    """What the switch does not hold any more, because nobody has kept it alive."""
    staged = stage(switch, state)
    switch.main.sign_of_life(3600.0)
    # All else that the switch tells was asked for.
    assert wait_for(switch.main.fileno(), READABLE, 30.0)
    # Whoever asks meanwhile reads what the switch says of its own accord.
    switch.count_flows()
    return staged


def test_many_groups_with_forward_references_many_meters_and_the_longest_flow(
    ovs: t.Any, tmp_path: Path
) -> None:
    add_bridge(ovs)
    groups = [f"group_id={number},type=all,bucket=actions=group:{number + 1}" for number in range(1, 5000)]
    ovs.ofctl(
        "add-groups",
        "br0",
        "-",
        feed="\n".join(["group_id=5000,type=all,bucket=actions=output:1", *reversed(groups)]),
    )
    meters = "".join(
        f"meter={n},kbps,burst,bands=type=drop,rate={n},burst_size={n * 2}\n" for n in range(1, 1001)
    )
    ovs.run(
        "sh",
        "-c",
        'while read -r meter; do ovs-ofctl -O OpenFlow15 add-meter br0 "$meter"; done',
        feed=meters,
    )
    longest = ",".join(["output:1"] * 4086)
    ovs.ofctl("add-flow", "br0", f"table=1,priority=5,in_port=1,actions={longest}")
    too_long = ",".join(["output:1"] * 4090)
    ovs.ofctl("add-flow", "br0", f"table=2,priority=5,in_port=1,actions={too_long}")
    bridge = engine.take(connection(ovs), str(tmp_path / "snapshot")).bridges[0]
    assert (bridge.counts["groups"], bridge.counts["meters"], bridge.counts["flows"]) == (5000, 1000, 1)
    assert [text for text in bridge.not_carried if text.startswith("table 2: 1 of 1 flows are not listed")]
    state = snapshots.read(str(tmp_path / "snapshot")).state("br0")
    add_bridge(ovs, "br1")
    with open_switch(ovs, "br1") as switch:
        restore(switch, state)
        assert compare(state, switch.state(), OTHER_PORTS).same


@pytest.mark.parametrize("version", VERSIONS)
def test_a_group_too_large_to_be_told_is_refused_and_the_switch_lives(
    start_ovs: t.Any, tmp_path: Path, version: str
) -> None:
    """All at once would end it: in OpenFlow 1.5 each of these buckets has 8 bytes more than in 1.3, and another one follows."""
    ovs = start_ovs(version)
    add_bridge(ovs)
    buckets = ",".join(["bucket=weight:3,watch_port:1,actions=output:2"] * 1900)
    small = "group_id={},type=select,bucket=actions=output:1"
    groups = [small.format(1), f"group_id=2,type=select,{buckets}", small.format(3)]
    ovs.run("ovs-ofctl", "-O", "OpenFlow13", "add-groups", "br0", "-", feed="\n".join(groups))
    with survives(ovs), pytest.raises(Refused, match="group 2 cannot be read"):
        engine.take(connection(ovs), str(tmp_path / "snapshot"))
    with open_switch(ovs, "br0") as switch:
        assert sorted(switch.groups()) == [1, 2, 3]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_group_of_more_buckets_than_can_be_told_is_refused_and_the_switch_lives(
    start_ovs: t.Any, tmp_path: Path, version: str
) -> None:
    """An empty bucket has 8 bytes in OpenFlow 1.5 and 16 in 1.3, in which only all groups can be asked for."""
    ovs = start_ovs(version)
    add_bridge(ovs)
    groups = [f"group_id=1,type=all,{','.join(['bucket=actions=drop'] * 4200)}", "group_id=2,type=all"]
    ovs.ofctl("add-groups", "br0", "-", feed="\n".join(groups))
    ovs.vsctl("set", "bridge", "br0", "protocols=OpenFlow13")
    with survives(ovs), pytest.raises(Refused, match="groups cannot be counted"):
        engine.take(connection(ovs), str(tmp_path / "snapshot"))


def test_a_flow_too_large_to_be_told_is_refused_by_an_old_switch_and_it_lives(
    start_ovs: t.Any, tmp_path: Path
) -> None:
    """An output has 8 bytes in OpenFlow 1.0, and 16 in 1.4.  Newer ones leave such a flow out, as seen above."""
    ovs = start_ovs("2.15.0")
    add_bridge(ovs, "br0", "protocols=OpenFlow10,OpenFlow14")
    flows = [f"priority=5,ip,actions={','.join(['output:1'] * 6000)}", "priority=6,udp,actions=drop"]
    ovs.run("ovs-ofctl", "-O", "OpenFlow10", "add-flows", "br0", "-", feed="\n".join(flows))
    with survives(ovs), pytest.raises(Refused, match="flows of br0 cannot be read.*priority=5,ip"):
        engine.take(connection(ovs), str(tmp_path / "snapshot"))


def test_the_module_from_taking_to_deleting(ovs: t.Any) -> None:
    path = "/var/lib/openvswitch/snapshot"

    def module(**options: t.Any) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", ovs.module("ovs_flow_snapshot", path=path, **options))

    for name in ("br0", HOSTILE):
        add_bridge(ovs, name)
        fill(ovs, name)
    before = {name: content(ovs, name) for name in ("br0", HOSTILE)}
    assert module(check_mode=True)["changed"]
    assert not Path(ovs.path(path)).exists()
    taken = module()
    assert taken["changed"]
    assert [bridge["name"] for bridge in taken["bridges"]] == [HOSTILE, "br0"]
    assert oct(Path(ovs.path(path)).stat().st_mode & 0o777) == "0o700"
    assert not module()["changed"]
    assert module(state="verified")["matches"]
    assert not module(state="restored")["changed"]
    ovs.ofctl("del-flows", HOSTILE, "table=3")
    ovs.ofctl("add-flow", HOSTILE, "table=77,priority=7,udp,actions=output:1")
    failed = module(state="verified")
    compared = module(state="compared")
    assert "failed" not in compared
    assert (compared["matches"], compared["differences"]) == (False, failed["differences"])
    assert failed["failed"]
    assert failed["differences"].keys() == {HOSTILE}
    assert failed["differences"][HOSTILE]["missing_count"] == 3
    assert "table=77" in failed["differences"][HOSTILE]["extra"][0]
    assert module(state="verified", ignore={"tables": [3, 77]})["matches"]
    predicted = module(state="restored", check_mode=True)
    assert predicted["changed"]
    assert predicted["diff"]["after"][HOSTILE] == failed["differences"][HOSTILE]["missing"]
    assert module(state="verified")["failed"]
    assert module(state="restored")["changed"]
    assert {name: content(ovs, name) for name in ("br0", HOSTILE)} == before
    texts = module(state="verified", return_text=True)["text"]["br0"]
    assert any("learn(table=2" in text for text in texts)
    assert module(state="absent", check_mode=True)["changed"]
    assert module(state="absent")["changed"]
    assert not module(state="absent")["changed"]
    assert "there is no snapshot" in module(state="restored")["msg"]


def test_ports_that_moved_are_refused_or_pinned(ovs: t.Any) -> None:
    path = "/var/lib/openvswitch/snapshot"
    ovs.bridge("br0", "fail_mode=secure")
    for number, port in ((1, "left"), (2, "right")):
        ovs.vsctl(
            "--",
            "add-port",
            "br0",
            port,
            "--",
            "set",
            "interface",
            port,
            "type=internal",
            f"ofport_request={number}",
        )
    ovs.ofctl("add-flow", "br0", "in_port=1,actions=output:2")
    ovs.module("ovs_flow_snapshot", path=path)
    ovs.vsctl(
        "--",
        "set",
        "interface",
        "left",
        "ofport_request=2",
        "--",
        "set",
        "interface",
        "right",
        "ofport_request=1",
    )
    verified = ovs.module("ovs_flow_snapshot", path=path, state="verified")
    assert verified["failed"]
    assert "'left' had ofport 1, now it has 2" in verified["msg"]
    assert not verified["matches"]
    assert len(verified["differences"]["br0"]["ports"]) == 2
    # As the switch tells it, which knows no database.
    assert [text.split()[:2] for text in verified["differences"]["br0"]["missing"]] == [
        ["port", "1(left):"],
        ["port", "2(right):"],
    ]
    assert ovs.module("ovs_flow_snapshot", path="/root/swapped")["changed"]
    against = ovs.module("ovs_flow_snapshot", path=path, state="verified", against="/root/swapped")
    assert "'left' had ofport 1, now it has 2" in against["msg"]
    assert ovs.module("ovs_flow_snapshot", path="/root/swapped", state="verified")["matches"]
    ovs.ofctl("del-flows", "br0")
    refused = ovs.module("ovs_flow_snapshot", path=path, state="restored")
    assert refused["failed"]
    assert "'left' had ofport 1, now it has 2" in refused["msg"]
    assert "in_port" not in ovs.ofctl("dump-flows", "br0")
    assert ovs.module("ovs_flow_snapshot", path=path, state="restored", ofports="pin")["changed"]
    assert ovs.vsctl("get", "interface", "left", "ofport").strip() == "1"
    assert "in_port=1" in ovs.ofctl("dump-flows", "br0", "--no-names")
    ovs.vsctl("add-port", "br0", "more", "--", "set", "interface", "more", "type=internal")
    ovs.ofctl("del-flows", "br0")
    more = ovs.module("ovs_flow_snapshot", path=path, state="restored")
    assert more["changed"], more["msg"]
    assert not more.get("failed"), more["msg"]
    ovs.vsctl("del-port", "br0", "right")
    gone = ovs.module("ovs_flow_snapshot", path=path, state="restored")
    assert "'right' had ofport 2, now it is gone" in gone["msg"]
    ovs.ofctl("del-flows", "br0")
    ignored = ovs.module("ovs_flow_snapshot", path=path, state="restored", ofports="ignore")
    assert ignored["changed"]
    assert not ignored.get("failed"), ignored["msg"]
    assert not ovs.module("ovs_flow_snapshot", path=path, state="restored", ofports="ignore")["changed"]


TAKE_FOR_EVER = """
import sys
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import switch as engine
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import directory
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import management_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Connection
write = directory.File.write
def slow(self, data):
    write(self, data)
    print("writing", flush=True)
    sys.stdin.read(1)
directory.File.write = slow
engine.take(Connection(sys.argv[1], f"unix:{sys.argv[1]}/db.sock", 10.0), sys.argv[2])
"""


def test_a_killed_snapshot_leaves_nothing_that_looks_like_one(ovs: t.Any, tmp_path: Path) -> None:
    add_bridge(ovs)
    fill(ovs)
    path = tmp_path / "snapshot"
    with subprocess.Popen(
        [sys.executable, "-c", TAKE_FOR_EVER, ovs.rundir, str(path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not path.exists()
    assert [entry.suffix for entry in tmp_path.iterdir()] == [".partial"]
    engine.take(connection(ovs), str(path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["snapshot"]


def test_a_full_disk_is_said_and_nothing_is_left(ovs: t.Any) -> None:
    add_bridge(ovs)
    ovs.ofctl(
        "add-flows",
        "br0",
        "-",
        feed="\n".join(f"priority={n % 60000},reg0={n},actions=output:1" for n in range(20000)),
    )
    ovs.run("mkdir", "/srv/small")
    ovs.run("mount", "-t", "tmpfs", "-o", "size=1200k", "tmpfs", "/srv/small")
    refused = ovs.module("ovs_flow_snapshot", path="/srv/small/snapshot")
    assert "not enough room" in refused["msg"]
    assert ovs.run("ls", "-A", "/srv/small") == ""
    ovs.run("mount", "-o", "remount,size=7m", "/srv/small")
    ovs.run("sh", "-c", "head -c 900000 /dev/zero > /srv/small/other")
    code = (
        "from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import directory as d\n"
        "d._BYTES_PER_FLOW = 1"
    )
    ovs.run("mount", "-o", "remount,size=2200k", "/srv/small")
    with pytest.raises(Exception, match=r"disk of /srv/small is full"):
        ovs.python(f"{code}; {TAKE.format(path='/srv/small/snapshot')}")
    assert ovs.run("ls", "-A", "/srv/small") == "other\n"


TAKE = (
    "from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import switch as e; "
    "from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Connection; "
    "e.take(Connection('/run/openvswitch', 'unix:/run/openvswitch/db.sock', 10.0), '{path}')"
)


def test_static_macs_and_tunnel_neighbours_are_put_back(ovs: t.Any) -> None:
    add_bridge(ovs)
    ovs.appctl("fdb/add", "br0", ovs.vsctl("list-ports", "br0").split()[0], "7", "02:00:00:00:00:77")
    ovs.appctl("tnl/neigh/set", "br0", "10.9.9.9", "02:00:00:00:00:99")
    ovs.ofctl("add-flow", "br0", "priority=1,actions=NORMAL")
    ovs.module("ovs_flow_snapshot", path="/srv/snapshot")
    ovs.appctl("fdb/flush", "br0")
    ovs.appctl("fdb/del", "br0", "7", "02:00:00:00:00:77")
    ovs.appctl("tnl/neigh/flush")
    ovs.ofctl("del-flows", "br0")
    restored = ovs.module("ovs_flow_snapshot", path="/srv/snapshot", state="restored")
    assert restored["not_restored"] == []
    assert "02:00:00:00:00:77" in ovs.appctl("fdb/show", "br0")
    assert "10.9.9.9" in ovs.appctl("tnl/neigh/show")


def test_learned_macs_are_learned_again(ovs: t.Any) -> None:
    add_bridge(ovs)
    access, trunk = ovs.vsctl("list-ports", "br0").split()[:2]
    ovs.vsctl("set", "port", access, "tag=7")
    ovs.ofctl("add-flow", "br0", "actions=NORMAL")
    for port, number, vlan in ((access, 1, ""), (trunk, 2, "dl_vlan=9,"), (trunk, 3, "")):
        packet = (
            f"in_port={port},dl_src=02:00:00:00:00:0{number},dl_dst=ff:ff:ff:ff:ff:ff,{vlan}dl_type=0x0806"
        )
        ovs.appctl("ofproto/trace", "br0", packet, "-generate")

    def known() -> list[list[str]]:
        return sorted(line.split()[:3] for line in ovs.appctl("fdb/show", "br0").splitlines()[1:])

    before = known()
    assert [row[1] for row in before] == ["7", "0", "9"]
    taken = ovs.module("ovs_flow_snapshot", path="/srv/snapshot")
    assert taken["bridges"][0]["not_carried"] == []
    ovs.appctl("fdb/flush", "br0")
    ovs.ofctl("add-flow", "br0", "priority=7,in_port=1,actions=drop")
    restored = ovs.module("ovs_flow_snapshot", path="/srv/snapshot", state="restored")
    assert restored["not_restored"] == []
    assert known() == before


def test_flows_get_the_lifetime_that_was_left(ovs: t.Any) -> None:
    add_bridge(ovs)
    ovs.ofctl("add-flow", "br0", "priority=1,hard_timeout=1000,actions=output:1")
    ovs.ofctl("add-flow", "br0", "priority=2,hard_timeout=2,actions=output:1")
    ovs.module("ovs_flow_snapshot", path="/srv/snapshot")
    ovs.ofctl("del-flows", "br0")
    # The short-lived flow's time ends while the switch is away.
    time.sleep(2.1)
    restored = ovs.module("ovs_flow_snapshot", path="/srv/snapshot", state="restored", lifetime="remaining")
    assert restored["changed"]
    flows = ovs.ofctl("dump-flows", "br0")
    assert "priority=2" not in flows
    assert 900 < int(flows.split("hard_timeout=")[1].split(",")[0]) < 999


def test_vlan_actions_of_openflow_10_are_listed_as_not_carried(ovs: t.Any, tmp_path: Path) -> None:
    add_bridge(ovs)
    ovs.ofctl(
        "add-flow", "br0", "priority=1,in_port=1,actions=push_vlan:0x8100,set_field:4101->vlan_vid,output:2"
    )
    ovs.ofctl("add-flow", "br0", "priority=2,dl_vlan=7,actions=mod_vlan_vid:5,output:2", version="OpenFlow10")
    assert engine.take(connection(ovs), str(tmp_path / "snapshot")).bridges[0].not_carried == []
    ovs.ofctl("add-flow", "br0", "priority=3,in_port=1,actions=mod_vlan_vid:5,output:2", version="OpenFlow10")
    (sentence,) = engine.take(connection(ovs), str(tmp_path / "snapshot")).bridges[0].not_carried
    assert sentence.startswith("1 flows set a VLAN with mod_vlan_vid")


def test_errors_are_sentences(ovs: t.Any) -> None:
    add_bridge(ovs)
    missing = ovs.module("ovs_flow_snapshot", path="/srv/snapshot", bridges=["nowhere"])
    assert (
        missing["msg"]
        == "there is no bridge 'nowhere' on this host: there is 'br0'. Correct the option bridges"
    )
    foreign = ovs.module("ovs_flow_snapshot", path="/etc")
    assert "/etc is no snapshot" in foreign["msg"]
    ovs.vsctl("set", "bridge", "br0", "protocols=OpenFlow12")
    with pytest.raises(HotUpgradeError, match="no common OpenFlow version"):
        open_switch(ovs, "br0")


def test_no_more_snapshots_than_are_to_be_kept(shared_ovs: t.Any) -> None:
    shared_ovs.run("mkdir", "-p", "-m", "700", "/srv/kept")
    for number in range(3):
        found = shared_ovs.module("ovs_flow_snapshot", path=f"/srv/kept/{number}", keep=2)
        assert "failed" not in found, found["msg"]
    assert found["removed"] == ["/srv/kept/0"]
    assert shared_ovs.run("ls", "/srv/kept").split() == ["1", "2"]
