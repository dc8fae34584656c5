# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bypass: what tc forwards is what Open vSwitch would have forwarded, to the byte; what it does not know, nobody gets."""

from __future__ import annotations

import json
import types
import typing as t
from pathlib import Path

from tests.lab import hosts
from tests.scenarios import frames, lasting
from tests.scenarios.scene import Broken, Json, Scene

PLACE = "/run/bypassed"
PACKAGE = f"{PLACE}/ansible_collections/ovsops/hot_upgrade/plugins"
ENGINE = Path(__file__).parents[2] / "plugins" / "module_utils"

# Three endpoints on br0, and an internal port, which goes away with the module.
ENDPOINTS = """
ovs-vsctl --may-exist add-br br0 -- set bridge br0 protocols=OpenFlow10,OpenFlow13,OpenFlow15
ip link set br0 up
for n in 1 2 3; do
    ip netns add h$n
    ip link add p$n type veth peer name e0 netns h$n
    ip -n h$n link set e0 address 02:00:00:00:00:0$n up
    ip link set p$n up
    ovs-vsctl add-port br0 p$n
done
"""
# The stations are learned, in each VLAN.
LEARN = "".join(
    f"ovs-appctl fdb/add br0 p{port} {vlan} 02:00:00:00:00:0{port}\n"
    for port in (1, 2, 3)
    for vlan in (0, 6, 7)
)
PIPELINE = """
ovs-ofctl -O OpenFlow13 --names replace-flows br0 - <<'END'
priority=9,in_port=p1,ip,nw_dst=10.9.0.50,actions=mod_dl_src:02:aa:00:00:00:01,mod_dl_dst:02:00:00:00:00:02,dec_ttl,output:p2
priority=9,in_port=p1,ipv6,ipv6_dst=fd00::50,actions=mod_dl_dst:02:00:00:00:00:02,dec_ttl,output:p2
priority=8,in_port=p1,udp,tp_dst=77,actions=push_vlan:0x8100,mod_vlan_vid:9,mod_vlan_pcp:3,output:p3,pop_vlan,set_field:8->ip_dscp,output:p2
priority=8,in_port=p1,dl_vlan=8,actions=strip_vlan,output:p2,output:p3
priority=8,in_port=p1,tcp,dl_vlan=6,dl_vlan_pcp=2,tp_dst=80,actions=mod_vlan_vid:5,output:p2
priority=7,in_port=p1,tcp,tp_dst=0x1000/0xf000,nw_src=10.9.0.0/24,actions=output:p3
priority=7,in_port=p1,icmp,icmp_type=8,nw_dst=10.9.0.60,actions=output:p3
priority=7,in_port=p1,sctp,tp_dst=5,actions=output:p3
priority=0,actions=NORMAL
END
"""
# They have learned each other, and ask again within seconds instead of half a minute.
FORGETFUL = "".join(
    f"""
ip -n h{number} address add 10.9.0.{number}/24 dev e0
for setting in base_reachable_time_ms=1000 delay_first_probe_time=1; do
    ip netns exec h{number} sysctl -qw net.ipv4.neigh.e0.$setting
done
"""
    for number in (1, 2)
)
NORMAL = "ovs-ofctl replace-flows br0 - <<< priority=0,actions=NORMAL"
# What is dropped: in a pipeline that looks at more than addresses, also packets that carry others.
NEVER = {"two tags", "llc"}
BY_ADDRESSES_ALONE = NEVER | {
    "gre", "tagged gre", "ipip", "ipip with a fragment", "6in4", "ah", "hop by hop", "first fragment",
}  # fmt: skip


def every_kind(scene: Scene) -> str:
    """Send every kind of frame through two pipelines."""
    scene.sh(ENDPOINTS)
    hosts.put(scene.lab, scene.host(), [ENGINE], PACKAGE)
    told = []
    for pipeline, dropped in ((NORMAL, NEVER), (PIPELINE, BY_ADDRESSES_ALONE)):
        scene.sh(pipeline + "\n" + LEARN)
        found = sent(scene)
        judge(found, dropped)
        told.append(found["coverage"])
    left = scene.sh("tc qdisc show | grep -c clsact || true").strip()
    if left != "0":
        raise Broken(f"{left} clsact qdiscs are left")
    return "; ".join(told)


def for_long(scene: Scene) -> str:
    """Two endpoints that ask for each other meanwhile lose nothing; without an answer they would fall silent."""
    scene.sh(ENDPOINTS + FORGETFUL + NORMAL)
    hosts.put(scene.lab, scene.host(), [ENGINE], PACKAGE)
    found = printed(scene, lasting)
    for asked, counts in found.items():
        lost = 2 * counts["sent"] - counts["there"] - counts["back"]
        if (lost > 0) != (asked == "not asked"):
            raise Broken(f"{asked}: {lost} lost, {counts}")
    return str(found)


def sent(scene: Scene) -> Json:
    """What the frames became."""
    return printed(scene, frames)


def printed(scene: Scene, module: types.ModuleType) -> Json:
    """What a program prints that runs on the host."""
    program = Path(str(module.__file__)).read_text()
    command = ("env", f"PYTHONPATH={PLACE}", "python3", "-")
    return t.cast("Json", json.loads(hosts.ssh(scene.lab, scene.host(), *command, feed=program)))


def judge(found: Json, dropped: t.Collection[str]) -> None:
    """Raise ``Broken`` unless the bypass has done what Open vSwitch did, but to those that are ``dropped``."""
    if found["refused"]:
        raise Broken(f"the kernel refused {found['refused']} filters")
    if found["lacking"]:
        raise Broken(f"the kernel is said to lack {found['lacking']}")
    for name, expected in found["switch"].items():
        got = found["bypass"][name]
        if not expected:
            raise Broken(f"Open vSwitch has not forwarded {name}")
        if got != ([] if name in dropped else expected):
            raise Broken(f"{name}: the bypass sent {got}, Open vSwitch {expected}")


SCENARIOS = [
    ("bypass: every kind of frame", "3.5.0", every_kind),
    ("bypass: neighbours that ask", "3.5.0", for_long),
]
