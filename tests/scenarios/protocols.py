# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LACP, BFD and CFM with a second host, which is to see no change while the first one is upgraded, or taken back."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import time

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

# What a neighbour tells of us that must not change: its log, its sessions and members. Linux logs nothing of its bonds, but
# tells who listens. That CFM's messages are counted anew it does not take for a fault; how it shares its own load, and that
# it is late itself, is its own affair.
NEIGHBOUR = """
own='detected sequence numbers|shift [0-9]+kB of load|long delay of .* sending'
sed -nE "/$own/d; /[|](bfd|cfm|lacp|bond)[|(]/p" /var/log/openvswitch/ovs-vswitchd.log
ovs-vsctl --columns=name,bfd_status,cfm_fault,cfm_flap_count list interface
ovs-appctl lacp/show
ovs-appctl lacp/show-stats | sed -nE '/member|Expired|Defaulted|Carrier/p'
ovs-appctl bond/show | sed -E '/next rebalance|load$/d'
if [ -e /proc/net/bonding/bond0 ]; then
    sed '/Churn State/d' /proc/net/bonding/bond0
    dmesg | sed -n '/bond0/p'
    grep -E '^[0-9]+: (bond0|v[ab])[@:]' /run/bond0.log || :
fi
"""


def changes(before: str, after: str) -> list[str]:
    """The lines of a diff between what a neighbour told at two times."""
    return list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0))[2:]


def unchanged(result: Json, before: str, after: str) -> None:
    """Raise ``Broken`` where a host was not handed over by make_before_break, or its neighbour has seen that."""
    plan = result["plan"]
    if plan["strategy"] != "make_before_break":
        raise Broken(f"the plan chose {plan['strategy']}: {plan['reasons']}")
    if seen := changes(before, after):
        raise Broken(f"the neighbour saw it: {'; '.join(seen)}")


SLB = "balance-slb"
WATCHED = "ovs-vsctl set interface {0} bfd:enable=true bfd:min_tx={2} bfd:min_rx={2} cfm_mpid={1} other_config:cfm_interval=100"
_STATE = "ovs-vsctl get interface {0} bfd_status:state cfm_fault"


def is_up(interface: str) -> str:
    """The script that waits until neither BFD nor CFM misses its neighbour."""
    state = _STATE.format(interface)
    return until(f'[ "$({state} | xargs)" = "up false" ]', 20, otherwise=f"{state} >&2")


def watch(scene: Scene, *interfaces: str, interval: int = 100) -> None:
    """Have BFD and CFM watch links between two hosts: at 100 ms a neighbour is missed after 300 and 350 ms."""
    for place, interface in enumerate(interfaces):
        for number in (1, 2):
            scene.sh(WATCHED.format(interface, 2 * place + number, interval), number)
    for interface in interfaces:
        for number in (1, 2):
            scene.sh(is_up(interface), number)


def watched(scene: Scene) -> str:
    """BFD and CFM watch the tunnel that brings the traffic back."""
    joined(scene)
    watch(scene, "gn0")
    return there_and_back(scene, ("3.5.0", "4.0.0"))


def fallen(scene: Scene) -> str:
    """A session that was down once says so for as long as it is up: host 1 had not heard of host 2, and host 2 was told that."""
    joined(scene)
    watch(scene, "gn0")
    silent = "ovs-ofctl mod-port $(ovs-vsctl iface-to-br gn0) gn0 {}\n"
    scene.sh(silent.format("no-forward") + "sleep 1\n" + silent.format("forward"), 2)
    for number in (1, 2):
        scene.sh(is_up("gn0"), number)
    diagnostics = [
        scene.sh("ovs-vsctl get interface gn0 bfd_status:diagnostic", number).strip() for number in (1, 2)
    ]
    if len({*diagnostics, '"No Diagnostic"'}) < 3:
        raise Broken(f"the session was not down in two ways: {diagnostics}")
    ways = [there_and_back(scene, ("3.5.0", "4.0.0"), host=host) for host in (1, 2)]
    return f"{' and '.join(diagnostics)}; {'; '.join(ways)}"


def impatient(scene: Scene) -> str:
    """BFD that misses a neighbour after 150 ms is not gone on with: the plan says so, and the session comes up again."""
    joined(scene)
    watch(scene, "gn0", interval=50)
    result, losses = upgrade(scene, "4.0.0", no_loss=False)
    plan = result["plan"]
    told = "; ".join(plan["reasons"].get("make_before_break", ()))
    if plan["strategy"] != "prefilled" or "BFD takes a neighbour for dead after 150 ms" not in told:
        raise Broken(f"the plan chose {plan['strategy']}: {plan['reasons']}")
    scene.sh(is_up("gn0"), 2)
    return f"{told}; {losses}"


def there_and_back(
    scene: Scene, versions: tuple[str, str], userspace: bool = False, bond: str = "", host: int = 1
) -> str:
    """One host is handed over, and taken back, under traffic; the other one sees nothing of that.

    ``bond`` is the mode of a bond that goes on sending by the same members.
    """
    other = 3 - host
    scene.install(versions[1], host)
    state, seen = scene.look(host), scene.sh(NEIGHBOUR, other)
    shared = functools.partial(spread, scene, host, bond) if bond else dict[str, str]
    with scene.traffic() as traffic:
        before = shared()
        result = scene.hand_over(host, confirm="manual", expect="applied")
        require_alike(before, shared())
    unchanged(result, seen, scene.sh(NEIGHBOUR, other))
    require_same(state, scene.look(host), RENUMBERED if userspace else ())
    require_unhurt(userspace, traffic)
    with scene.traffic() as again:
        scene.hand_over(host, state="rolled_back", expect="rolled_back")
        require_alike(before, shared())
    unchanged(result, seen, scene.sh(NEIGHBOUR, other))
    require_sound(scene, versions[0], host, server=False)
    require_unhurt(userspace, again)
    return f"{measured(traffic)}; back: {measured(again)}; the other end saw no change"


SHOW = "ovs-appctl bond/show bond0"
# The load of a hash shows after a while.
LOADED = until(f"{SHOW} | grep -q 'kB load'", otherwise=f"{SHOW} >&2")


def spread(scene: Scene, host: int, mode: str) -> dict[str, str]:
    """Which member of a bond is active, and which one has each hash with a load (balance-slb)."""
    found, member = {}, ""
    shown = scene.sh((LOADED if mode == SLB else "") + SHOW, host)
    for words in map(str.split, shown.splitlines()):
        if words[:1] in (["member"], ["slave"]):
            member = words[1].rstrip(":")
        elif words in (["active", "member"], ["active", "slave"]):
            found["active"] = member
        elif words[:1] == ["hash"]:
            found[f"hash {words[1].rstrip(':')}"] = member
    return found


def require_alike(before: dict[str, str], after: dict[str, str]) -> None:
    """Raise ``Broken`` where something has another member than before."""
    moved = [what for what in before if after.get(what, before[what]) != before[what]]
    if moved:
        raise Broken(f"the bond sends by other members: {before} became {after}")


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
    """A bond of host 1; ``more`` are columns of its port, ``partner`` is what host 2 has at the other end.

    That one is active, at ``far_rate`` where it is not the same; with ``watched`` BFD and CFM are on both members.
    """

    mode: str
    rate: str
    partner: str
    lacp: str = "active"
    more: str = ""
    versions: tuple[str, str] = ("3.5.0", "4.0.0")
    userspace: bool = False
    far_rate: str = ""
    watched: bool = False
    upgraded: tuple[int, ...] = (1,)

    def __str__(self) -> str:
        where = ", userspace" if self.userspace else ""
        where += f", {self.far_rate} at the other end" if self.far_rate else ""
        where += ", both ends" if len(self.upgraded) > 1 else ""
        more = f", {self.more}" if self.more else ""
        what = (
            f"LACP: {self.mode}, {self.rate}, {self.lacp}"
            if self.lacp != "off"
            else f"bond without LACP: {self.mode}"
        )
        what += ", watched by BFD and CFM" if self.watched else ""
        return f"{what}, {self.partner}{more}{where}, from {self.versions[0]}"

    @property
    def bond(self) -> str:
        """The command that makes it."""
        return self._bond(self.lacp, self.rate)

    @property
    def far_bond(self) -> str:
        """The one for Open vSwitch at the other end."""
        return self._bond("active" if self.lacp == "passive" else self.lacp, self.far_rate or self.rate)

    def _bond(self, lacp: str, rate: str) -> str:
        settings = f"bond_mode={self.mode} lacp={lacp} other_config:lacp-time={rate} {self.more}"
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
# Each member of Linux's is in the aggregator that is active; from then on each change of them is written down.
AGGREGATED = (
    until(
        "grep -q 'Number of ports: 2' /proc/net/bonding/bond0",
        40,
        otherwise="cat /proc/net/bonding/bond0 >&2; ip -s -d link >&2; dmesg | tail -n 40 >&2",
    )
    + "setsid ip -o -d monitor link >/run/bond0.log 2>&1 </dev/null &\n"
)
PARTNERS = {"Open vSwitch": OPEN_VSWITCH, "Linux": LINUX, "nobody": lan("la")}


def bonded(case: Bonded, scene: Scene) -> str:
    """The bond is upgraded, and taken back, under traffic through it."""
    scene.populate(*(("--datapath-type", "netdev") if case.userspace else ()))
    bond(case, scene)
    alike = case.mode if case.mode != "balance-tcp" else ""
    if case.mode == SLB:
        gather(scene)
    ways = [there_and_back(scene, case.versions, case.userspace, alike, host) for host in case.upgraded]
    if case.rate == "slow":
        still_heard(scene)
    return "; ".join(ways)


def still_heard(scene: Scene) -> None:
    """A partner that wants to hear every 30 s takes who is silent for dead after 90 s."""
    seen = scene.sh(NEIGHBOUR, 2)
    time.sleep(95)  # no event tells that nothing happens
    if missed := changes(seen, scene.sh(NEIGHBOUR, 2)):
        raise Broken(f"the neighbour hears nothing any more: {'; '.join(missed)}")


def gather(scene: Scene) -> None:
    """Have one member carry all: a new process would give half of it to the other one."""
    hashes = " ".join(map(str, range(256)))
    scene.sh(f"for hash in {hashes}; do ovs-appctl bond/migrate bond0 $hash lb >/dev/null; done")


def bond(case: Bonded, scene: Scene) -> None:
    """Have all traffic go through a bond with host 2."""
    scene.sh(EMPTY, 2)
    scene.sh(links(11, 12) + case.bond + NEAR)
    own = ("xa", "xb") if case.partner == "Linux" else ("la", "lb")
    partner = PARTNERS[case.partner].format(bond=case.far_bond, rate=case.far_rate or case.rate)
    scene.sh(links(12, 11, own) + partner, 2)
    if case.partner == "Linux":
        scene.sh(AGGREGATED, 2)
    if case.partner != "nobody":
        scene.sh(NEGOTIATED)
    if case.watched:
        watch(scene, "la", "lb")
    # The answers of h2 teach the bridges where it is.
    scene.sh("ip netns exec h2 ping -c 3 -W 1 10.0.0.1 || true")


# Both ends have to agree on the member.
PRIMARY = "other_config:bond-primary=lb"
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
    Bonded("balance-slb", "slow", "Open vSwitch", "passive", userspace=True),
    Bonded("balance-tcp", "slow", "Linux", versions=("4.0.0", "3.5.0")),
    Bonded("balance-slb", "fast", "Linux", far_rate="slow"),
    Bonded("active-backup", "fast", "Linux", more="bond_updelay=1000 bond_downdelay=1000"),
    Bonded("active-backup", "slow", "Open vSwitch", "passive", far_rate="fast", versions=("3.1.0", "3.5.0")),
    Bonded("balance-tcp", "fast", "Linux", more="other_config:lacp-fallback-ab=true"),
    Bonded("balance-tcp", "fast", "Open vSwitch", upgraded=(1, 2)),
    Bonded("balance-slb", "fast", "Open vSwitch", "off"),
    Bonded(
        "active-backup", "fast", "Open vSwitch", "off", PRIMARY, watched=True, versions=("3.1.0", "3.5.0")
    ),
    Bonded("active-backup", "fast", "Open vSwitch", "off", PRIMARY, watched=True, userspace=True),
    Bonded("balance-tcp", "fast", "Open vSwitch", watched=True),
)
SCENARIOS = [
    ("BFD and CFM on a tunnel between two hosts, and back", "3.5.0", watched, "uml", 2),
    ("BFD that was down once, both hosts", "3.5.0", fallen, "uml", 2),
    ("BFD that is too fast", "3.5.0", impatient, "uml", 2),
    *((str(case), case.versions[0], functools.partial(bonded, case), "uml", 2) for case in CASES),
]
