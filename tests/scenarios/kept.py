# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has beside flows: meters at their limit, mirrors, queues, policers, patch ports, managers, a controller."""

from __future__ import annotations

import collections
import functools
import re

from tests.scenarios import broken
from tests.scenarios.scene import (
    SPANNING_TREE,
    Broken,
    Scene,
    measured,
    require_same,
    require_sound,
    until,
    upgrade,
)

RATE, BURST = 100, 20
# How many packets more or less come in seconds by the clock where nothing happens.
UNEVEN = 5
# The meters are made and deleted so that their order is not that of the kernel's numbers.
METERED = f"""
m() {{ ovs-ofctl -O OpenFlow15 "$@"; }}
m del-meters br1
m del-meters br0
for n in 1 2 3; do m add-meter br1 meter=$n,pktps,bands=type=drop,rate=$((n * 7)); done
m del-meter br1 meter=2
m add-meter br0 meter=9,pktps,burst,stats,bands=type=drop,rate={RATE},burst_size={BURST}
m add-meter br0 meter=4,kbps,burst,bands=type=drop,rate=1000000,burst_size=100000
ovs-ofctl -O OpenFlow15 --bundle replace-flows br0 - <<'END'
in_port=1,udp,actions=meter:9,output:2
END
"""


def metered(strategy: str, options: tuple[str, ...], scene: Scene) -> str:
    """More traffic than a meter lets through: what arrives in each second must be its rate, before and after."""
    scene.populate(*options)
    scene.sh(METERED)
    result, __ = upgrade(scene, "4.0.0", no_loss=False, rate=400, strategy=strategy)
    seconds = collections.Counter(int(when) for when in scene.arrivals())
    # Without the first and the last one, which are not whole.
    counts = [seconds[second] for second in range(min(seconds) + 1, max(seconds))]
    more = sum(max(0, count - RATE) for count in counts)
    if strategy == "make_before_break":
        # A full bucket each time that somebody tells the kernel: the new process, the old one once more, and the new one again.
        kept = more <= 3 * BURST + UNEVEN and min(counts) >= 0.8 * RATE
    else:
        kept = max(counts) <= RATE + BURST + RATE
    if not kept:
        raise Broken(f"the meter allows {RATE} packets/s, each second there came {counts}")
    shown = f"{min(counts)} to {max(counts)} packets in each of {len(counts)} s, {more} more than its rate"
    return f"{result['plan']['strategy']}, {shown}"


# More than a starting ovs-vswitchd bears before 3.3.7, 3.4.5, 3.5.3 and 3.6.1; the one that carries traffic is in its way.
MANY = """
cat > /srv/meters.txt <<'END'
{meters}
END
while read meter; do ovs-ofctl -O OpenFlow15 add-meter br0 $meter; done < /srv/meters.txt
ovs-ofctl -O OpenFlow15 --bundle replace-flows br0 - <<'END'
priority=65535,in_port=1,udp,actions=meter:1019,multipath(symmetric_l3l4+udp,0,modulo_n,1024,0,NXM_NX_REG5[]),output:2
END
""".format(
    meters="\n".join(
        f"meter={number},kbps,bands=type=drop,rate={1000000 + number}" for number in range(2, 1102)
    )
)


def many(strategy: str, scene: Scene) -> str:
    """Each meter is there afterwards, there and back, and nothing is lost on the way there."""
    scene.populate("--no-meter")
    scene.sh(MANY)
    before = scene.look()
    scene.install("3.5.0")
    with scene.traffic() as traffic:
        result = scene.hand_over(strategy=strategy, confirm="manual", expect="applied")
    require_same(before, scene.look())
    if result["plan"]["strategy"] != strategy:
        raise Broken(f"the plan chose {result['plan']['strategy']}: {result['plan']['reasons']}")
    with scene.traffic() as again:
        scene.hand_over(state="rolled_back", expect="rolled_back")
    require_sound(scene, "3.1.0", server=False)
    require_same(before, scene.look())
    if strategy == "make_before_break":
        measured(traffic).none()
        measured(again).none()
    return f"{measured(traffic)}; back: {measured(again)}"


# 2, 3 and 4 are behind the kernel's number of 1; a second process would number them from there.
LIMITED = """
ovs-ofctl -O OpenFlow15 del-meters br0
for n in 1 2 3 4; do
    ovs-ofctl -O OpenFlow15 add-meter br0 meter=$n,pktps,burst,stats,bands=type=drop,rate=$((n * n * 8)),burst_size=$((n * 4))
done
ovs-ofctl -O OpenFlow15 del-meter br0 meter=1
ovs-ofctl -O OpenFlow15 --bundle replace-flows br0 - <<'END'
in_port=1,udp,tp_dst=47002,actions=meter:2,output:2
in_port=1,udp,tp_dst=47003,actions=meter:3,output:2
in_port=1,udp,tp_dst=47004,actions=meter:4,output:2
priority=1,in_port=1,actions=output:2
priority=1,in_port=2,actions=output:1
END
"""
SECONDS = 2
SEND = f"""
ip netns exec h1 python3 - <<'END'
import socket, time
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end = time.monotonic() + {SECONDS}
while time.monotonic() < end:
    for meter in (2, 3, 4):
        sender.sendto(b"x", ("10.0.0.2", 47000 + meter))
    time.sleep(0.002)
END
"""


def let_through(scene: Scene) -> dict[int, int]:
    """How many packets each meter lets through while more come than it allows."""
    counts = []
    for script in ("", SEND):
        scene.sh(script)
        text = scene.sh("ovs-ofctl -O OpenFlow15 meter-stats br0")
        found = re.findall(r"meter:(\d+).*packet_in_count:(\d+).*\n0: packet_count:(\d+)", text)
        counts.append({int(meter): int(came) - int(dropped) for meter, came, dropped in found})
    return {meter: count - counts[0][meter] for meter, count in counts[1].items()}


def limited(strategy: str, scene: Scene) -> str:
    """A hand-over is undone when the new process has its meters in the kernel: those of the old one hold again."""
    scene.populate("--no-meter")
    scene.sh(LIMITED + broken.UNKNOWN)
    before = let_through(scene)
    scene.install("3.1.0")
    broken.attempt(scene, strategy)
    undone = let_through(scene)
    scene.sh(
        "ovs-ofctl -O OpenFlow15 del-flows br1 tcp,tp_dst=7; ovs-ofctl -O OpenFlow15 del-flows br1 tcp,tp_dst=8"
    )
    scene.hand_over(strategy=strategy)
    after = let_through(scene)
    for counts in (before, undone, after):
        wrong = {n: count for n, count in counts.items() if not 0.6 <= count / (SECONDS * n * n * 8) <= 1.6}
        if wrong:
            raise Broken(f"meters let through {before} before, {undone} when it was undone, {after} after it")
    return f"let through {before}, {undone}, {after}"


DRESSED = """
for n in 10 11; do
    ovs-vsctl add-port br0 a$n -- set interface a$n type=patch options:peer=b$n ofport_request=$n \\
        -- add-port br1 b$n -- set interface b$n type=patch options:peer=a$n ofport_request=$n
done
ovs-ofctl -O OpenFlow15 --bundle replace-flows br0 - <<'END'
in_port=1,udp,actions=multipath(symmetric_l3l4+udp,0,modulo_n,1024,0,NXM_NX_REG5[]),output:10
in_port=11,actions=set_queue:1,output:2
END
ovs-ofctl -O OpenFlow15 --bundle replace-flows br1 - <<'END'
in_port=10,actions=output:11
END
ip link add mirror type dummy
ip link set mirror up
ovs-vsctl add-port br0 mirror -- --id=@out get port mirror -- --id=@in get port p1 \\
    -- --id=@m create mirror name=m0 select_src_port=@in select_dst_port=@in output_port=@out -- set bridge br0 mirrors=@m
ovs-vsctl set port p2 qos=@q -- --id=@q create qos type=linux-htb other-config:max-rate=1000000000 queues:0=@q0 queues:1=@q1 \\
    -- --id=@q0 create queue other-config:max-rate=500000000 -- --id=@q1 create queue other-config:min-rate=1000000
ovs-vsctl set interface p1 ingress_policing_rate=900000 ingress_policing_burst=90000
cd /etc/openvswitch
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=lab -keyout key.pem -out cert.pem 2>/dev/null
ovs-vsctl set-ssl /etc/openvswitch/key.pem /etc/openvswitch/cert.pem /etc/openvswitch/cert.pem
ovs-vsctl set-manager ptcp:6640:127.0.0.1 pssl:6641:127.0.0.1
"""
# Both managers answer, and the mirror gets what h1 sends.
ANSWERS = """
cd /etc/openvswitch
ovs-vsctl --timeout=10 --db=tcp:127.0.0.1:6640 list-br
ovs-vsctl --timeout=10 --db=ssl:127.0.0.1:6641 -p key.pem -c cert.pem -C cert.pem list-br
before=$(cat /sys/class/net/mirror/statistics/tx_packets)
ip netns exec h1 python3 -c 'import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range(20): s.sendto(b"x", ("10.0.0.2", 9))'
""" + until("[ $(($(cat /sys/class/net/mirror/statistics/tx_packets) - before)) -ge 20 ]", 10)


def dressed(strategy: str, options: tuple[str, ...], scene: Scene) -> str:
    """Mirror, queues, policer, patch ports, managers on TCP and TLS: they work and are what they were."""
    scene.populate(*options)
    scene.sh(DRESSED)
    scene.sh(ANSWERS)
    result, losses = upgrade(scene, "4.0.0", no_loss=strategy == "make_before_break", strategy=strategy)
    scene.sh(ANSWERS)
    losses.shorter_than(10)
    return f"{losses}; warned of: {'; '.join(result['plan']['warnings']) or 'nothing'}"


# The flows come last: a bridge loses its flows with its first controller.
CONTROLLED = """
ovs-vsctl set-controller br1 tcp:127.0.0.1:6653 -- set open_vswitch . other_config:bundle-idle-timeout=3
seq 60000 | sed 's/.*\\(.\\)$/table=\\1,priority=9,udp,tp_dst=&,actions=drop/' | ovs-ofctl --bundle add-flows br1 -
"""


def controlled(strategy: str, options: tuple[str, ...], scene: Scene) -> str:
    """Bridges with a controller keep their flows, although the switch drops those of br0 while those of br1 are staged."""
    scene.populate("--controller", *options)
    scene.sh(CONTROLLED)
    __, losses = upgrade(scene, "4.0.0", no_loss=strategy == "make_before_break", strategy=strategy)
    losses.shorter_than(10)
    return str(losses)


# Name, strategy, and how the host is made.
WAYS = (
    ("make_before_break", "make_before_break", ()),
    ("prefilled", "prefilled", ()),
    ("standby", "standby", ()),
    ("restart", "restart", ()),
    ("standby with spanning tree", "standby", (SPANNING_TREE,)),
)
SCENARIOS = (
    [
        (f"{name}: {what}", "3.5.0", functools.partial(play, strategy, options))
        for what, play in (
            ("meter at its limit", metered),
            ("mirror, QoS, policer, patch, managers", dressed),
            ("controller, bundles dropped after 3 s", controlled),
        )
        for name, strategy, options in WAYS
    ]
    + [
        (f"1,100 meters: {strategy}", "3.1.0", functools.partial(many, strategy))
        for strategy in ("make_before_break", "restart")
    ]
    + [("meters of an undone hand-over", "3.5.0", functools.partial(limited, "make_before_break"))]
)
