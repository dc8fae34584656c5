# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tunnels between two hosts, and many internal ports."""

from __future__ import annotations

import functools

from tests.scenarios.scene import (
    RENUMBERED,
    Broken,
    Scene,
    measured,
    require_same,
    require_sound,
    upgrade,
)

# h1 -> vxlan (the flow says where to) -> host 2 -> geneve (static) -> h2, so that both hosts' tunnels carry all traffic.
# multipath() keeps the megaflows exact: each new connection costs an upcall on both hosts.
SPREAD = "multipath(symmetric_l3l4+udp,0,modulo_n,1024,0,NXM_NX_REG5[])"
NEAR = f"""
ovs-vsctl add-port br0 vx0 -- set interface vx0 type=vxlan options:remote_ip=flow options:key=flow ofport_request=10
ovs-vsctl add-port br0 gn0 -- set interface gn0 type=geneve options:remote_ip=10.112.0.12 options:key=77 ofport_request=11
ovs-ofctl -O OpenFlow15 --bundle add-flows br0 - <<'END'
priority=65535,in_port=1,udp,actions={SPREAD},set_field:10.112.0.12->tun_dst,set_field:42->tun_id,output:10
priority=65535,in_port=11,actions=output:2
END
"""
FAR = f"""
ovs-vsctl add-br br0 -- set bridge br0 fail_mode=secure
ovs-vsctl add-port br0 vx0 -- set interface vx0 type=vxlan options:remote_ip=flow options:key=flow ofport_request=10
ovs-vsctl add-port br0 gn0 -- set interface gn0 type=geneve options:remote_ip=10.112.0.11 options:key=77 ofport_request=11
ovs-ofctl -O OpenFlow15 --bundle replace-flows br0 - <<'END'
in_port=10,tun_id=42,udp,actions={SPREAD},output:11
END
"""


# What the lab has made of host 2 goes.
EMPTY = "ovs-vsctl --if-exists del-br br0 -- --if-exists del-br br1; ip netns delete h1; ip netns delete h2"


def joined(scene: Scene) -> None:
    """Two hosts with two tunnels between them."""
    scene.populate()
    join(scene)


def join(scene: Scene) -> None:
    """Have all traffic go out and come back by two tunnels."""
    scene.sh(EMPTY, 2)
    scene.sh(NEAR)
    scene.sh(FAR, 2)


def tunnels(scene: Scene) -> str:
    """Both ends are upgraded one after the other while both tunnels carry the traffic."""
    joined(scene)
    before = {}
    for number in (1, 2):
        scene.install("4.0.0", number)
        before[number] = scene.look(number)
    with scene.traffic() as traffic:
        results = [scene.hand_over(number) for number in (2, 1)]
    for number in (1, 2):
        require_sound(scene, "4.0.0", number)
        require_same(before[number], scene.look(number))
    for result in results:
        if result["plan"]["strategy"] != "make_before_break":
            raise Broken(f"the plan chose {result['plan']['strategy']}: {result['plan']['reasons']}")
    measured(traffic).none()
    return f"{measured(traffic)}, both ends"


def back_to_old(scene: Scene) -> str:
    """Open vSwitch 3.1.0 makes the devices of tunnels anew: a rollback does not start it beside the one that forwards."""
    joined(scene)
    scene.install("3.5.0")
    before = scene.look()
    with scene.traffic() as traffic:
        scene.hand_over(confirm="manual", expect="applied")
    measured(traffic).none()
    with scene.traffic() as back:
        scene.hand_over(state="rolled_back", expect="rolled_back")
    require_sound(scene, "3.1.0", server=False)
    require_same(before, scene.look(), ("links", "datapath ports"))  # the devices of tunnels are others
    measured(back).shorter_than(2)
    return f"{measured(traffic)}; back: {measured(back)}"


def internal_ports(count: int, scene: Scene) -> str:
    """Many internal ports with addresses, every fourth in a network namespace of its own."""
    scene.populate()
    ports = []
    for number in range(count):
        ports.append(f"-- add-port br1 in{number} -- set interface in{number} type=internal")
    moved = range(0, min(count, 100), 4)
    for start in range(0, count, 100):
        scene.sh(f"ovs-vsctl {' '.join(ports[start : start + 100])}")
    scene.sh("\n".join(f"ip netns add n{n}; ip link set in{n} netns n{n}" for n in moved))
    lines = []
    for number in range(min(count, 100)):
        inside = f"-n n{number}" if number in moved else ""
        lines += [
            f"ip {inside} address add 172.16.{number}.1/24 dev in{number}",
            f"ip {inside} link set in{number} mtu {1400 + number % 50} up",
            f"ip {inside} route add 172.17.{number}.0/24 via 172.16.{number}.2",
        ]
    scene.sh("\n".join(lines))
    result, losses = upgrade(scene, "4.0.0")
    return f"{result['plan']['strategy']}, {losses}"


INTERNAL = """
ovs-vsctl add-port br0 in0 -- set interface in0 type=internal ofport_request=30
ovs-vsctl add-port br0 in1 -- set interface in1 type=internal
ip link set br0 up
ip address add 10.20.0.1/24 dev br0
ip link set in0 up mtu 1400
ip address add 10.21.0.1/24 dev in0
ip route add 10.22.0.0/16 via 10.21.0.2
ovs-ofctl -O OpenFlow15 add-flow br0 priority=6,in_port=LOCAL,actions=output:2
ovs-ofctl -O OpenFlow15 add-flow br0 priority=6,in_port=2,icmp,actions=LOCAL
ovs-ofctl -O OpenFlow15 add-flow br0 priority=6,in_port=2,arp,actions=LOCAL
ovs-ofctl mod-port br0 br0 no-flood
ovs-ofctl mod-port br0 in0 no-receive
ip -n h2 address add 10.20.0.2/24 dev e0
"""
REACHED = "ip netns exec h2 ping -c 2 -W 2 10.20.0.1"


def alone(strategy: str, scene: Scene) -> str:
    """The userspace datapath: internal ports keep numbers, addresses, routes and OpenFlow settings."""
    scene.populate("--datapath-type", "netdev")
    scene.sh(INTERNAL)
    scene.sh(REACHED)
    result, losses = upgrade(scene, "4.0.0", no_loss=False, but=RENUMBERED, strategy=strategy)
    scene.sh(REACHED)
    losses.shorter_than(5)
    return f"{result['plan']['strategy']}, window {result['window_ms']} ms, {losses}"


SCENARIOS = [
    ("tunnels between two hosts", "3.5.0", tunnels, "uml", 2),
    ("tunnels, and back to 3.1.0", "3.1.0", back_to_old, "uml", 2),
    ("100 internal ports", "3.5.0", functools.partial(internal_ports, 100)),
    ("500 internal ports", "3.5.0", functools.partial(internal_ports, 500)),
    *(
        (f"{name}: userspace, internal ports", "3.5.0", functools.partial(alone, name), "native")
        for name in ("make_before_break", "prefilled", "standby")
    ),
]
