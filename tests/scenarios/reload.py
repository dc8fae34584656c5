# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel module is replaced by a really different one: what was on internal ports is there again, and traffic goes on."""

from __future__ import annotations

import json
import typing as t

from tests.lab import modules
from tests.scenarios.kernel import PACKAGED, facts
from tests.scenarios.scene import SETTLED, Broken, Scene, measured

# Internal ports with all that can be on them, in two network namespaces; one is renamed there.
FURNISH = """
ovs-vsctl --may-exist add-br br2
for n in 1 2 3 4 5; do ovs-vsctl --may-exist add-port br2 in$n -- set interface in$n type=internal; done
ip link add vrf1 type vrf table 100
ip link set vrf1 up
ip link add bond9 type bond mode active-backup
ip link set in1 address 02:aa:00:00:00:01 mtu 1400 txqueuelen 77 alias uplink group 5
ip link property add dev in1 altname another1
ip link set in1 up
ip address add 192.168.50.1/24 dev in1
ip address add 192.168.50.2/24 dev in1
ip -6 address add fd00:50::1/64 dev in1
ip route add 172.20.0.0/16 via 192.168.50.254 dev in1
ip route add 172.21.0.0/16 via 192.168.50.254 dev in1 table 200 proto static metric 7
ip -6 route add fd01::/48 via fd00:50::fe dev in1
ip rule add iif in1 lookup 200
ip neighbour add 192.168.50.77 lladdr 02:00:00:00:00:77 dev in1 nud permanent
ip neighbour add proxy 192.168.50.88 dev in1
echo 1 >/proc/sys/net/ipv4/conf/in1/forwarding
echo 2 >/proc/sys/net/ipv4/conf/in1/rp_filter
echo 0 >/proc/sys/net/ipv6/conf/in1/accept_ra
ethtool -K in1 tx off >/dev/null
ip link add link in1 name in1.30 type vlan id 30
ip link set in1.30 up
ip address add 10.30.0.1/24 dev in1.30
ip route add 10.31.0.0/16 via 10.30.0.9
ip link add link in1 name mv1 type macvlan mode bridge
ip link set mv1 address 02:bb:00:00:00:01 up
ip address add 10.40.0.1/24 dev mv1
ip link set in2 master vrf1
ip link set in2 up
ip address add 10.50.0.1/24 dev in2
ip route add 10.51.0.0/16 via 10.50.0.2 vrf vrf1
ip link set in3 master bond9
ip link set bond9 up
ip address add 10.60.0.1/24 dev bond9
ip netns add n4
ip link set in4 netns n4
ip -n n4 link set in4 name eth0
ip -n n4 link set eth0 up
ip -n n4 address add 10.70.0.1/24 dev eth0
ip -n n4 route add default via 10.70.0.254
ip -n n4 link add link eth0 name eth0.7 type vlan id 7
ip -n n4 link set eth0.7 up
ip link add link in1 name mv9 type macvlan mode bridge
ip link set mv9 netns n4
ip -n n4 link set mv9 up
ip -n n4 address add 10.41.0.1/24 dev mv9
ip link set in5 up
ip address add 10.80.0.1/24 dev in5
tc qdisc add dev in5 root handle 1: htb default 10
tc class add dev in5 parent 1: classid 1:1 htb rate 100mbit
tc class add dev in5 parent 1:1 classid 1:10 htb rate 50mbit ceil 100mbit
tc qdisc add dev in5 parent 1:10 handle 10: sfq perturb 10
tc filter add dev in5 parent 1: protocol ip prio 1 u32 match ip dst 10.0.0.0/8 flowid 1:10
tc qdisc add dev in5 clsact
tc filter add dev in5 ingress protocol ip prio 5 flower dst_ip 10.3.3.3 action drop
ip route add 10.90.0.0/16 nexthop via 10.80.0.5 dev in5 nexthop via 192.168.50.5 dev in1
"""
# What ip(8) and tc(8) tell of all that, one line for each device, address, route …; an operational state comes later.
PORTRAIT = r"""
import json, re, subprocess

WORDS = ("ip -d link", "ip address", "ip route show table all", "ip -6 route show table all", "ip rule",
         "ip neighbour show nud permanent", "ip neighbour show proxy", "tc qdisc")
told = []
for space in (None, "n4"):
    for words in WORDS:
        argv = (["ip", "netns", "exec", space] if space else []) + words.split()
        text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        told += [f"{space} {line}" for line in text.replace("\n ", " ").splitlines()]
for device in ("in5",):
    for words in (f"tc class show dev {device}", f"tc filter show dev {device}", f"tc filter show dev {device} ingress"):
        told += subprocess.run(words.split(), check=True, capture_output=True, text=True).stdout.splitlines()
for path in ("ipv4/conf/in1/forwarding", "ipv4/conf/in1/rp_filter", "ipv6/conf/in1/accept_ra"):
    told.append(f"{path} {open('/proc/sys/net/' + path).read()}")
print(json.dumps([re.sub(r" state [A-Z]+", "", line) for line in told]))
"""


def portrait(scene: Scene) -> set[str]:
    """What PORTRAIT tells."""
    return set(t.cast("list[str]", json.loads(scene.sh(f"python3 - <<'END'\n{PORTRAIT}\nEND"))))


def start_with_shipped(scene: Scene) -> None:
    """Load the module of the lab that stands for the shipped one: the lab's own has no build-id."""
    modules.install(scene.lab, scene.host(), modules.SHIPPED)
    modules.reload(scene.lab, scene.host())


def other_module(scene: Scene) -> str:
    """Reload to a module with another build-id, and roll that back."""
    start_with_shipped(scene)
    scene.populate("--no-meter")
    scene.sh(FURNISH + SETTLED)
    before, loaded = portrait(scene), facts(scene)["loaded"]
    require(scene.module("ovs_kmod_reload", {}), changed=False)
    require(scene.module("ovs_kmod_reload", {"state": "kept"}), changed=True)
    modules.install(scene.lab, scene.host(), "rebuilt", PACKAGED)
    with scene.traffic() as traffic:
        result = scene.module("ovs_kmod_reload", {"confirm": "manual"})
        require(result, state="applied")
        same(before, portrait(scene), "after the reload")
        if facts(scene)["loaded"] == loaded:
            raise Broken("the loaded module is the old one")
        back = scene.module("ovs_kmod_reload", {"state": "rolled_back"})
        require(back, state="rolled_back")
    same(before, portrait(scene), "after the rollback")
    if facts(scene)["loaded"] != loaded:
        raise Broken("the loaded module is not the old one again")
    if "ovsops" in scene.sh("tc filter show dev p1 ingress; tc filter show dev p2 ingress"):
        raise Broken("a filter of the bypass is left")
    return f"gap {result['gap_ms']:.0f} ms, {result['bypass']}, {result['restored']}; traffic: {measured(traffic)}"


def failing_module(scene: Scene) -> str:
    """The new module does not load: the old one is there, with everything."""
    start_with_shipped(scene)
    scene.populate()
    scene.sh(FURNISH + SETTLED)
    before, loaded = portrait(scene), facts(scene)["loaded"]
    scene.module("ovs_kmod_reload", {"state": "kept"})
    modules.install(scene.lab, scene.host(), "failing", PACKAGED)
    result = scene.module("ovs_kmod_reload", {})
    require(result, state="rolled_back")
    same(before, portrait(scene), "after the attempt")
    if facts(scene)["loaded"] != loaded:
        raise Broken("the loaded module is not the old one")
    return str(result["reason"])


def foreign_module(scene: Scene) -> str:
    """A module for another kernel is refused before anything is touched."""
    start_with_shipped(scene)
    scene.populate()
    scene.module("ovs_kmod_reload", {"state": "kept"})
    modules.install(scene.lab, scene.host(), "foreign", PACKAGED)
    result = scene.module("ovs_kmod_reload", {})
    if not result.get("failed") or "is for Linux" not in result["msg"] or "transaction" in result:
        raise Broken(f"it was not refused: {result}")
    return str(result["msg"])


def require(result: dict[str, t.Any], **wanted: t.Any) -> None:
    """Raise ``Broken`` unless the result says so."""
    found = {name: result.get(name) for name in wanted}
    if found != wanted:
        raise Broken(f"{found} instead of {wanted}: {result.get('msg') or result.get('reason')}")


def same(before: set[str], after: set[str], when: str) -> None:
    """Raise ``Broken`` and name what differs."""
    if before != after:
        raise Broken(f"{when} there is not: {sorted(before - after)}; but: {sorted(after - before)}")


SCENARIOS = [
    ("module reload: another one, and back", "3.5.0", other_module),
    ("module reload: one that fails", "3.5.0", failing_module),
    ("module reload: one for another kernel", "3.5.0", foreign_module),
]
