# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Spanning trees: two links to a neighbour, of which one is blocked, and traffic by the other one while the host is upgraded.

Who judges is the neighbour: what it hears from us must be what it heard before, and its tree must not change.
"""

from __future__ import annotations

import dataclasses
import functools
import typing as t

from tests.harness.waiting import until
from tests.scenarios.networks import EMPTY, SPREAD
from tests.scenarios.protocols import NEAR, links, unchanged
from tests.scenarios.scene import RENUMBERED, Scene, measured, require_same, require_sound, require_unhurt

# Lines DEVICE BPDU (hexadecimal, without its age) of what comes in by some devices, each once; at SIGTERM and with seconds
# as its first argument it ends.
EAR = """
import select, signal, socket, sys, time
seconds, *devices = sys.argv[1:]
end, heard, poll, ears = time.monotonic() + float(seconds), set(), select.poll(), {}
def tell(*_):
    print(*sorted(heard), sep="\\n", flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, tell)
for device in devices:
    ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    ear.bind((device, 3))
    ears[ear.fileno()] = ear, device
    poll.register(ear, select.POLLIN)
while time.monotonic() < end:
    for number, _ in poll.poll(200):
        ear, device = ears[number]
        frame, address = ear.recvfrom(2000)
        if frame[:6] == bytes.fromhex("0180c2000000") and address[2] != 4:
            bpdu = bytearray(frame[17:52])
            bpdu[27:29] = b""
            heard.add(device + " " + bpdu.hex())
tell()
"""

WRITE = "cat >/tmp/ear.py <<'END'\n" + EAR + "END\n"
# Nobody tells of a change of the topology any more: the first flag of what is heard.
HELD_STILL = WRITE + until("! python3 /tmp/ear.py 3 la lb | grep -qE '^l. .{9}[13579bdf]'", 20)
HEARD = "kill $(cat /tmp/ear)\n" + until("[ ! -e /proc/$(cat /tmp/ear) ]") + "cat /tmp/heard\n"

# Linux at the other end, in a namespace: a third port of its bridge leads back, to h2.
LINUX = """
ip netns add partner
ip -n partner link set lo up
ip -n partner link add tree type bridge stp_state 1 priority {priority}
for each in a b c; do
    ip link add l$each type veth peer name v$each netns partner
    ip link set l$each up
    ip -n partner link set v$each master tree up
done
ip -n partner link set tree up
ovs-vsctl add-port br0 la tag=10 -- add-port br0 lb tag=10 -- add-port br0 lc tag=30 \\
    -- set port lc other_config:stp-enable=false other_config:rstp-enable=false \\
    -- set interface lc ofport_request=30 -- set port p1 tag=10 -- set port p2 tag=20
ovs-ofctl -O OpenFlow15 --bundle replace-flows br0 - <<'END'
priority=3,in_port=2,actions=output:30
priority=3,in_port=30,actions=output:2
priority=2,udp,actions={spread},normal
priority=1,actions=normal
END
"""
# Open vSwitch on another host, which returns in VLAN 20 what comes in VLAN 10, and back.
OPEN_VSWITCH = """
ovs-vsctl add-br br0 -- set bridge br0 fail_mode=secure {protocol}_enable=true other_config:{protocol}-priority={priority}
ovs-vsctl add-port br0 la -- add-port br0 lb
for pair in "10 20" "20 10"; do
    ovs-ofctl -O OpenFlow15 add-flow br0 "dl_vlan=${{pair% *}},actions=set_field:$((4096 + ${{pair#* }}))->vlan_vid,in_port"
done
"""
ON = """
ovs-vsctl set bridge br0 fail_mode=secure {protocol}_enable=true other_config:{protocol}-priority={priority} \\
    other_config:{protocol}-system-id=02:00:00:00:00:01 other_config:{protocol}-address=02:00:00:00:00:01
{numbers}
"""
NUMBERS = "\n".join(
    f"ovs-vsctl set port {name} other_config:{{protocol}}-port-num={number}"
    for number, name in enumerate(("p1", "p2", "la", "lb"), 1)
)


def grown(protocol: str, least: int = 3) -> str:
    """The script that waits until no port of br0 is on its way any more, and at ``least`` so many forward."""
    shown = f"ovs-appctl {protocol}/show br0"
    settled = (
        f'! {shown} | grep -qiE "listening|learning" && [ $({shown} | grep -ci forwarding) -ge {least} ]'
    )
    return until(settled, 120, otherwise=f"{shown} >&2")


LINUX_SHOWN = """
bridge -n partner link | sed -E 's/@[^:]*//'
ip -d -n partner link show tree | grep -oE 'designated_root.*detected [01]'
"""
# Nobody tells of a change of the topology any more, which takes 35 s.
QUIET = until(
    "ip -d -n partner link show tree | grep -q 'topology_change 0 topology_change_detected 0'",
    120,
    otherwise="ip -d -n partner link show tree >&2",
)


@dataclasses.dataclass(frozen=True)
class Grown:
    """A tree of ``protocol`` whose root is host 1 or its neighbour; ports have ``numbers`` of their own or not."""

    protocol: str
    ours: bool
    partner: str = "Linux"
    numbers: bool = True
    userspace: bool = False
    versions: tuple[str, str] = ("3.5.0", "4.0.0")

    def __str__(self) -> str:
        root = "our root" if self.ours else "another root"
        where = ", userspace" if self.userspace else ""
        numbers = "" if self.numbers else ", ports as they come"
        return f"trees: {self.protocol} with {self.partner}, {root}{numbers}{where}, from {self.versions[0]}"


class Neighbour(t.NamedTuple):
    """Where somebody listens, at which devices, and what shows the neighbour's own view of the tree."""

    host: int
    shell: str
    devices: str
    shown: str


def beside_linux(case: Grown, scene: Scene) -> Neighbour:
    """The neighbour is in a namespace of host 1."""
    scene.sh(LINUX.format(priority=0x8000 if case.ours else 0x1000, spread=SPREAD))
    turn_on(case, scene)
    scene.sh(QUIET)
    return Neighbour(1, "ip netns exec partner ", "va vb", LINUX_SHOWN)


def beside_open_vswitch(case: Grown, scene: Scene) -> Neighbour:
    """The neighbour is host 2."""
    scene.sh(EMPTY, 2)
    scene.sh(
        links(12, 11) + OPEN_VSWITCH.format(protocol=case.protocol, priority=0x8000 if case.ours else 0x1000),
        2,
    )
    scene.sh(links(11, 12) + "ovs-vsctl add-port br0 la -- add-port br0 lb\n" + NEAR)
    turn_on(case, scene)
    scene.sh(grown(case.protocol, 1) + HELD_STILL, 2)
    shown = f"ovs-appctl {case.protocol}/show br0; grep -c 'topology change' /var/log/openvswitch/ovs-vswitchd.log || true"
    return Neighbour(2, "", "la lb", shown)


def turn_on(case: Grown, scene: Scene) -> None:
    """Have br0 of host 1 grow its tree, and wait for that."""
    numbers = NUMBERS.format(protocol=case.protocol) if case.numbers else ""
    scene.sh(ON.format(protocol=case.protocol, priority=0x1000 if case.ours else 0x9000, numbers=numbers))
    scene.sh(grown(case.protocol) + until("ip netns exec h2 ping -c 1 -W 1 10.0.0.1", 60))


def play(case: Grown, scene: Scene) -> str:
    """The host is upgraded and taken back while its neighbour listens."""
    scene.populate(*(("--datapath-type", "netdev") if case.userspace else ()))
    neighbour = (beside_linux if case.partner == "Linux" else beside_open_vswitch)(case, scene)
    scene.install(case.versions[1])
    listen = f"{neighbour.shell}python3 /tmp/ear.py"
    scene.sh(WRITE, neighbour.host)
    before = scene.look()
    seen = scene.sh(f"{listen} 10 {neighbour.devices}\n{neighbour.shown}", neighbour.host)
    scene.sh(
        f"(setsid {listen} 1000 {neighbour.devices} </dev/null >/tmp/heard 2>&1 & echo $! >/tmp/ear)",
        neighbour.host,
    )
    with scene.traffic() as traffic:
        result = scene.hand_over(confirm="manual", expect="applied")
    require_same(before, scene.look(), RENUMBERED if case.userspace else ())
    with scene.traffic() as again:
        scene.hand_over(state="rolled_back", expect="rolled_back")
    unchanged(result, seen, scene.sh(HEARD + neighbour.shown, neighbour.host))
    require_sound(scene, case.versions[0], server=False)
    require_unhurt(case.userspace, traffic, again)
    return f"{measured(traffic)}; back: {measured(again)}; the neighbour heard and saw no change"


CASES = (
    Grown("stp", ours=True),
    Grown("stp", ours=False, numbers=False),
    Grown("rstp", ours=True, numbers=False),
    Grown("rstp", ours=False, versions=("3.1.0", "3.5.0")),
)
HOSTS = tuple(
    Grown(protocol, ours, "Open vSwitch", numbers=protocol == "stp")
    for protocol in ("stp", "rstp")
    for ours in (True, False)
)
USERSPACE = tuple(
    Grown(protocol, ours, userspace=True) for protocol in ("stp", "rstp") for ours in (True, False)
)
SCENARIOS = [
    *((str(case), case.versions[0], functools.partial(play, case)) for case in CASES),
    *((str(case), case.versions[0], functools.partial(play, case), "uml", 2) for case in HOSTS),
    *((str(case), case.versions[0], functools.partial(play, case), "native") for case in USERSPACE),
]
