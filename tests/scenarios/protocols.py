# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LACP, BFD and CFM with a second host, which is to see no change while the first one is upgraded, or taken back."""

from __future__ import annotations

import dataclasses
import difflib
import functools

from tests.harness.waiting import until
from tests.scenarios.networks import EMPTY, SPREAD, joined
from tests.scenarios.scene import (
    RENUMBERED,
    Broken,
    Json,
    Scene,
    measured,
    require_same,
    require_sound,
    require_unhurt,
    upgrade,
)

# What a neighbour tells of us that must not change: its log, its sessions and members.  That CFM's messages are counted anew
# it does not take for a fault, and how it shares its own load is its own affair.
NEIGHBOUR = """
sed -nE '/detected sequence numbers|shift [0-9]+kB of load/d; /[|](bfd|cfm|lacp|bond)[|(]/p' /var/log/openvswitch/ovs-vswitchd.log
ovs-vsctl --columns=name,bfd_status,cfm_fault,cfm_flap_count list interface
ovs-appctl lacp/show
ovs-appctl lacp/show-stats | sed -nE '/member|Expired|Defaulted|Carrier/p'
ovs-appctl bond/show | sed -E '/next rebalance|load$/d'
if [ -e /proc/net/bonding/bond0 ]; then sed '/Churn State/d' /proc/net/bonding/bond0; dmesg | sed -n '/bond0/p'; fi
"""


def unchanged(result: Json, before: str, after: str) -> None:
    """Raise ``Broken`` where a host was not handed over by make_before_break, or its neighbour has seen that."""
    plan = result["plan"]
    if plan["strategy"] != "make_before_break":
        raise Broken(f"the plan chose {plan['strategy']}: {plan['reasons']}")
    changed = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0))
    if changed:
        raise Broken(f"the neighbour saw it: {'; '.join(changed[2:])}")


WATCHED = "ovs-vsctl set interface gn0 bfd:enable=true cfm_mpid={}"
_STATE = "ovs-vsctl get interface gn0 bfd_status:state cfm_fault"
UP = until(f'[ "$({_STATE} | xargs)" = "up false" ]', 20, otherwise=f"{_STATE} >&2")


def watch(scene: Scene) -> None:
    """Have BFD and CFM watch the tunnel that brings the traffic back, at their defaults: 100 ms and 1 s."""
    for number in (1, 2):
        scene.sh(WATCHED.format(number), number)
    for number in (1, 2):
        scene.sh(UP, number)


def watched(scene: Scene) -> str:
    """BFD and CFM watch a tunnel."""
    joined(scene)
    watch(scene)
    before = scene.sh(NEIGHBOUR, 2)
    result, losses = upgrade(scene, "4.0.0")
    unchanged(result, before, scene.sh(NEIGHBOUR, 2))
    return f"window {result['window_ms']} ms, {losses}; the other end saw no change"


def links(own: int, peer: int, names: tuple[str, str] = ("la", "lb")) -> str:
    """Two links from host ``own`` to ``peer`` (last octets) that pass LACPDUs on, which the lab's bridges do not."""
    lines = []
    for name, vni in zip(names, (11, 12)):
        lines += [
            f"ip link add {name} type vxlan id {vni} local 10.112.0.{own} remote 10.112.0.{peer} "
            "dstport 5555 dev vec1",
            f"ip link set {name} mtu 1400 up",
        ]
    return "\n".join(lines) + "\n"


@dataclasses.dataclass(frozen=True)
class Bonded:
    """A bond of host 1; ``more`` are columns of its port, ``partner`` is what host 2 has at the other end."""

    mode: str
    rate: str
    partner: str
    lacp: str = "active"
    more: str = ""
    versions: tuple[str, str] = ("3.5.0", "4.0.0")
    userspace: bool = False

    def __str__(self) -> str:
        where = ", userspace" if self.userspace else ""
        more = f", {self.more}" if self.more else ""
        return f"LACP: {self.mode}, {self.rate}, {self.lacp}, {self.partner}{more}{where}, from {self.versions[0]}"

    @property
    def bond(self) -> str:
        """The command that makes it."""
        settings = f"bond_mode={self.mode} lacp={self.lacp} other_config:lacp-time={self.rate} {self.more}"
        return f"ovs-vsctl add-bond br0 bond0 la lb {settings}"


# h1 (VLAN 10) -> the bond -> host 2, which returns it in VLAN 20 -> the bond -> h2.
NEAR = f"""
ovs-vsctl set port p1 tag=10 -- set port p2 tag=20
ovs-ofctl -O OpenFlow15 --bundle add-flows br0 - <<'END'
priority=65535,udp,actions={SPREAD},normal
priority=65534,actions=normal
END
"""
OPEN_VSWITCH = """
ovs-vsctl add-br br0 -- set bridge br0 fail_mode=standalone
{bond}
ip link add x1 type veth peer name x2
ip link set x1 up
ip link set x2 up
ovs-vsctl add-port br0 x1 tag=10 -- add-port br0 x2 tag=20
"""


def lan(device: str) -> str:
    """What returns in VLAN 20 of a device what comes in VLAN 10, and back."""
    return f"""
ip link add lan type bridge
ip link set lan up
for vlan in 10 20; do
    ip link add link {device} name {device}.$vlan type vlan id $vlan
    ip link set {device}.$vlan master lan up
done
"""


# Members of its bonds need a speed, which veth pairs tell and tunnels do not.
LINUX = """
modprobe bonding
ip link add bond0 type bond mode 802.3ad lacp_rate {rate} miimon 100 xmit_hash_policy layer3+4
for each in a b; do
    ip link add v$each type veth peer name w$each
    ip link set w$each up
    for way in "w$each x$each" "x$each w$each"; do
        tc qdisc add dev ${{way% *}} clsact
        tc filter add dev ${{way% *}} ingress matchall action mirred egress redirect dev ${{way#* }}
    done
    ip link set v$each master bond0
done
ip link set bond0 up
""" + lan("bond0")
# The one that knows no LACP is at the member that the bond falls back to.
ENABLED = "[ \"$(ovs-appctl bond/show bond0 | grep -c ': enabled$')\" = {} ]"
NEGOTIATED = until(
    ENABLED.format(2), 40, otherwise="ovs-appctl bond/show bond0 >&2; ovs-appctl lacp/show bond0 >&2"
)
# Each member of Linux's is in the aggregator that is active.
AGGREGATED = until(
    "grep -q 'Number of ports: 2' /proc/net/bonding/bond0",
    40,
    otherwise="cat /proc/net/bonding/bond0 >&2; ip -s -d link >&2; dmesg | tail -n 40 >&2",
)
PARTNERS = {"Open vSwitch": OPEN_VSWITCH, "Linux": LINUX, "nobody": lan("la")}


def bonded(case: Bonded, scene: Scene) -> str:
    """The bond is upgraded, and taken back, under traffic through it."""
    scene.populate(*(("--datapath-type", "netdev") if case.userspace else ()))
    bond(case, scene)
    scene.install(case.versions[1])
    before, partner = scene.look(), scene.sh(NEIGHBOUR, 2)
    with scene.traffic() as traffic:
        result = scene.hand_over(confirm="manual", expect="applied")
    unchanged(result, partner, scene.sh(NEIGHBOUR, 2))
    require_same(before, scene.look(), RENUMBERED if case.userspace else ())
    with scene.traffic() as again:
        scene.hand_over(state="rolled_back", expect="rolled_back")
    unchanged(result, partner, scene.sh(NEIGHBOUR, 2))
    require_sound(scene, case.versions[0], server=False)
    require_unhurt(case.userspace, traffic, again)
    return f"{measured(traffic)}; back: {measured(again)}; the partner saw no change"


def bond(case: Bonded, scene: Scene) -> None:
    """Have all traffic go through a bond with host 2."""
    scene.sh(EMPTY, 2)
    scene.sh(links(11, 12) + case.bond + NEAR)
    own = ("xa", "xb") if case.partner == "Linux" else ("la", "lb")
    scene.sh(links(12, 11, own) + PARTNERS[case.partner].format(bond=case.bond, rate=case.rate), 2)
    if case.partner == "Linux":
        scene.sh(AGGREGATED, 2)
    if case.partner != "nobody":
        scene.sh(NEGOTIATED)
    # The answers of h2 teach the bridges where it is.
    scene.sh("ip netns exec h2 ping -c 3 -W 1 10.0.0.1 || true")


CASES = (
    Bonded("balance-slb", "fast", "Open vSwitch"),
    Bonded("balance-tcp", "slow", "Open vSwitch", "active"),
    Bonded("balance-tcp", "fast", "Linux", versions=("3.1.0", "3.5.0")),
    Bonded("active-backup", "slow", "Linux", "passive"),
    Bonded("balance-slb", "slow", "Linux", more="bond_updelay=3000 bond_downdelay=500"),
    Bonded("balance-tcp", "fast", "Linux", "passive"),
    Bonded(
        "balance-tcp",
        "fast",
        "nobody",
        more="other_config:lacp-fallback-ab=true other_config:bond-primary=la",
    ),
    Bonded("balance-tcp", "fast", "Open vSwitch", userspace=True),
    Bonded("active-backup", "fast", "Linux", userspace=True),
)
SCENARIOS = [
    ("BFD and CFM on a tunnel between two hosts", "3.5.0", watched, "uml", 2),
    *((str(case), case.versions[0], functools.partial(bonded, case), "uml", 2) for case in CASES),
]
