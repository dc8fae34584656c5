# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Spanning trees: two links to a neighbour, of which one is blocked, and traffic by the other one while the host is upgraded.

Who judges is the neighbour: what it hears from us must be what it heard before, and its tree must not change.
"""

from __future__ import annotations

import dataclasses
import functools

from tests.harness.waiting import until
from tests.scenarios.networks import SPREAD
from tests.scenarios.protocols import unchanged
from tests.scenarios.scene import RENUMBERED, Scene, measured, require_same, require_sound

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

LISTEN = "ip netns exec partner python3 /tmp/ear.py"
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
ON = """
ovs-vsctl set bridge br0 fail_mode=secure {protocol}_enable=true other_config:{protocol}-priority={priority} \\
    other_config:{protocol}-system-id=02:00:00:00:00:01 other_config:{protocol}-address=02:00:00:00:00:01
{numbers}
"""
NUMBERS = "\n".join(
    f"ovs-vsctl set port {name} other_config:{{protocol}}-port-num={number}"
    for number, name in enumerate(("p1", "p2", "la", "lb"), 1)
)


def grown(protocol: str) -> str:
    """The script that waits until the ports of br0 forward, but for the blocked one, and the traffic finds its way."""
    shown = f"ovs-appctl {protocol}/show br0"
    settled = f'! {shown} | grep -qiE "listening|learning" && [ $({shown} | grep -ci forwarding) -ge 3 ]'
    return until(settled, 120, otherwise=f"{shown} >&2") + until(
        "ip netns exec h2 ping -c 1 -W 1 10.0.0.1", 60
    )


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
    numbers: bool = True
    userspace: bool = False
    versions: tuple[str, str] = ("3.5.0", "4.0.0")

    def __str__(self) -> str:
        root = "our root" if self.ours else "another root"
        where = ", userspace" if self.userspace else ""
        numbers = "" if self.numbers else ", ports as they come"
        return f"trees: {self.protocol} with Linux, {root}{numbers}{where}, from {self.versions[0]}"


def beside_linux(case: Grown, scene: Scene) -> str:
    """The host is upgraded and taken back while its neighbour listens."""
    scene.populate(*(("--datapath-type", "netdev") if case.userspace else ()))
    priorities = (0x1000, 0x8000) if case.ours else (0x9000, 0x1000)
    scene.sh(LINUX.format(priority=priorities[1], spread=SPREAD))
    numbers = NUMBERS.format(protocol=case.protocol) if case.numbers else ""
    scene.sh(ON.format(protocol=case.protocol, priority=priorities[0], numbers=numbers))
    scene.sh(grown(case.protocol) + QUIET)
    scene.install(case.versions[1])
    scene.sh("cat >/tmp/ear.py <<'END'\n" + EAR + "END\n")
    before, neighbour = scene.look(), scene.sh(f"{LISTEN} 10 va vb\n{LINUX_SHOWN}")
    scene.sh(f"(setsid {LISTEN} 1000 va vb </dev/null >/tmp/heard 2>&1 & echo $! >/tmp/ear)")
    with scene.traffic() as traffic:
        result = scene.hand_over(confirm="manual", expect="applied")
    require_same(before, scene.look(), RENUMBERED if case.userspace else ())
    with scene.traffic() as again:
        scene.hand_over(state="rolled_back", expect="rolled_back")
    unchanged(result, neighbour, scene.sh(HEARD + LINUX_SHOWN))
    require_sound(scene, case.versions[0], server=False)
    for each in (traffic, again):
        if case.userspace:
            measured(each).shorter_than(5)  # ovsdb-server is restarted, too
        else:
            measured(each).none()
    return f"{measured(traffic)}; back: {measured(again)}; the neighbour heard and saw no change"


CASES = (
    Grown("stp", ours=True),
    Grown("stp", ours=False, numbers=False),
    Grown("rstp", ours=True, numbers=False),
    Grown("rstp", ours=False, versions=("3.1.0", "3.5.0")),
)
USERSPACE = tuple(
    Grown(protocol, ours=ours, userspace=True) for protocol in ("stp", "rstp") for ours in (True, False)
)
SCENARIOS = [
    *((str(case), case.versions[0], functools.partial(beside_linux, case)) for case in CASES),
    *((str(case), case.versions[0], functools.partial(beside_linux, case), "native") for case in USERSPACE),
]
