# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Internal ports with all that can be on them, and what ip(8), tc(8) and sysfs tell of that.

Six kinds take turns: addresses, routes, rules and children; a member of a VRF; a member of a bond that has an address of its
own; in a network namespace and renamed there; with queueing disciplines and filters; a port of a bridge with VLANs.
"""

from __future__ import annotations

import json
import typing as t

from tests.lab import hosts

BRIDGE, SPACE = "br2", "n4"

_ADDRESSED = """
link set in{n} address 02:aa:00:00:00:{n:02x} mtu 1400 txqueuelen 77 alias uplink{n} group 5
link property add dev in{n} altname another{n}
link set in{n} up
address add 192.168.{n}.1/24 dev in{n}
address add 192.168.{n}.2/24 dev in{n}
address add fd00:{n}::1/64 dev in{n} nodad
address add fd00:{n}::2/64 dev in{n} nodad
route change 192.168.{n}.0/24 dev in{n} proto kernel scope link src 192.168.{n}.2
route add 172.20.{n}.0/24 via 192.168.{n}.254 dev in{n}
route add 172.21.{n}.0/24 via 192.168.{n}.254 dev in{n} table {table} proto static metric 7
route add fd01:{n}::/48 via fd00:{n}::fe dev in{n}
rule add iif in{n} lookup {table} priority {table}
neighbour add 192.168.{n}.77 lladdr 02:00:00:00:00:77 dev in{n} nud permanent
neighbour add proxy 192.168.{n}.88 dev in{n}
neighbour add 192.168.{n}.79 lladdr 02:00:00:00:00:79 dev in{n} nud noarp extern_learn
address add 10.43.{n}.1/24 dev in{n} noprefixroute
route add 10.43.{n}.0/24 dev in{n} proto kernel scope link src 10.43.{n}.1 metric 425
nexthop add id {n} via 192.168.{n}.253 dev in{n}
nexthop add id {table} group {n}
route add 10.44.{n}.0/24 nhid {n}
route add 10.45.{n}.0/24 nhid {table}
link add vx{n} type vxlan id {n} local 192.168.{n}.1 remote 192.168.{n}.9 dev in{n} dstport 4790
link set vx{n} up
address add 10.42.{n}.1/24 dev vx{n}
link add link in{n} name in{n}.30 type vlan id 30
link set in{n}.30 up
link add link in{n} name in{n}.31 numtxqueues 4 type vlan id 31
link add link in{n} name ms{n} type macvlan mode source
link set link in{n} name ms{n} type macvlan macaddr add 02:bc:00:00:00:{n:02x}
address add 10.30.{n}.1/24 dev in{n}.30
route add 10.31.{n}.0/24 via 10.30.{n}.9
link add link in{n} name mv{n} type macvlan mode bridge
link set mv{n} address 02:bb:00:00:00:{n:02x} up
address add 10.40.{n}.1/24 dev mv{n}
link add link in{n} name far{n} type macvlan mode bridge
link set far{n} netns n4
"""
_IN_VRF = """
link set in{n} master vrf1
link set in{n} up
address add 10.50.{n}.1/24 dev in{n}
route add 10.51.{n}.0/24 via 10.50.{n}.2 vrf vrf1
"""
_IN_BOND = "link set in{n} master bond9\n"
_ELSEWHERE = "link set in{n} netns n4\n"
_SHAPED = """
link set in{n} up
address add 10.80.{n}.1/24 dev in{n}
link add link in{n} name iv{n} type ipvlan mode l2
link set iv{n} up
address add 10.46.{n}.1/24 dev iv{n}
route add 10.90.{n}.0/24 nexthop via 10.80.{n}.5 dev in{n} nexthop via 192.168.1.5 dev in1
"""
_BRIDGED = """
link add lbr{n} type bridge vlan_filtering 1
link set in{n} mtu 9000
link set in{n} master lbr{n}
link set in{n} up
link set lbr{n} up
link add link lbr{n} name lbr{n}.5 type vlan id 5
link set lbr{n}.5 up
neighbour add 192.168.{n}.70 lladdr 02:00:00:00:00:70 dev lbr{n}.5 nud permanent
"""
_KINDS = (_ADDRESSED, _IN_VRF, _IN_BOND, _ELSEWHERE, _SHAPED, _BRIDGED)
# One port of each kind.
ALL = len(_KINDS)
# Of the first kind, in the namespace: the macvlan that has moved there. Of the fourth: the port itself, under another name.
_FAR = """
link set far{n} up
address add 10.41.{n}.1/24 dev far{n}
"""
_RENAMED = """
link set in{n} name eth{n}
link set eth{n} up
address add 10.70.{n}.1/24 dev eth{n}
route add 10.71.{n}.0/24 via 10.70.{n}.254
link add link eth{n} name eth{n}.7 type vlan id 7
link set eth{n}.7 up
"""
_IN_SPACE = {_ADDRESSED: _FAR, _ELSEWHERE: _RENAMED}
_IN_BRIDGE = """
vlan del vid 1 dev in{n}
vlan add vid 10 dev in{n} pvid untagged
vlan add vid 20-25 dev in{n}
link set dev in{n} isolated on learning off cost 77
fdb add 02:11:00:00:00:{n:02x} dev in{n} master static vlan 20
mdb add dev lbr{n} port in{n} grp 239.1.1.{n} permanent vid 20
"""
_DISCIPLINES = """
qdisc add dev in{n} root handle 1: htb default 10
class add dev in{n} parent 1: classid 1:1 htb rate 100mbit
class add dev in{n} parent 1:1 classid 1:10 htb rate 50mbit ceil 100mbit
qdisc add dev in{n} parent 1:10 handle 10: sfq perturb 10
filter add dev in{n} parent 1: protocol ip prio 1 u32 match ip dst 10.0.0.0/8 flowid 1:10
qdisc add dev in{n} clsact
filter add dev in{n} ingress protocol ip prio 5 flower dst_ip 10.3.3.3 action drop
filter add dev in{n} egress protocol ip prio 6 flower dst_ip 10.3.3.4 action police rate 1mbit burst 10k conform-exceed drop
"""
_SETTINGS = """
echo 1 >/proc/sys/net/ipv4/conf/in{n}/forwarding
echo 2 >/proc/sys/net/ipv4/conf/in{n}/rp_filter
echo 0 >/proc/sys/net/ipv6/conf/in{n}/accept_ra
ethtool -K in{n} tx off >/dev/null
"""
_PORTRAIT = r"""
import glob, json, re, subprocess

def told(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

WORDS = ("ip -d link", "ip address", "ip route show table all", "ip -6 route show table all", "ip rule",
         "ip neighbour show nud permanent", "ip neighbour show nud noarp", "ip neighbour show proxy", "tc qdisc",
         "ip nexthop", "bridge vlan",
         "bridge fdb", "bridge mdb")
# The bridge learns the others, and enters its own.
KEPT = {"bridge fdb": " static", "bridge mdb": " permanent", "ip neighbour show nud noarp": " extern_learn"}
lines = []
for space in (None, "n4"):
    for words in WORDS:
        text = told(*(["ip", "netns", "exec", space] if space else []), *words.split())
        some = text.replace("\n ", " ").splitlines()
        lines += [f"{space} {line}" for line in some if KEPT.get(words, "") in line]
for device in sorted(set(re.findall(r"qdisc htb 1: dev (\S+)", told("tc", "qdisc")))):
    for words in ("class show", "filter show", "filter show ingress", "filter show egress"):
        first, *rest = words.split()
        lines += [f"{device} {line}" for line in told("tc", first, rest[0], "dev", device, *rest[1:]).splitlines()]
for path in sorted(glob.glob("/proc/sys/net/ipv[46]/conf/in*/*")):
    if path.rpartition("/")[2] in ("forwarding", "rp_filter", "accept_ra"):
        lines.append(f"{path} {open(path).read()}")
# An operational state comes later, a bridge has timers, and htb counts.
PASSING = r" state [A-Z]+|_timer +[0-9.]+|fdb_n_learned [0-9]+|direct_packets_stat [0-9]+"
print(json.dumps([re.sub(PASSING, "", line) for line in lines]))
"""


def script(ports: int) -> str:
    """Shell text that adds ``ports`` internal ports to a bridge of their own, and furnishes them."""
    numbered = [(number, _KINDS[(number - 1) % len(_KINDS)]) for number in range(1, ports + 1)]

    def texts(which: t.Callable[[str], str]) -> str:
        return "".join(which(kind).format(n=n, table=1000 + n) for n, kind in numbered)

    ports_added = "".join(
        f"-- add-port {BRIDGE} in{n} -- set interface in{n} type=internal " for n, __ in numbered
    )
    return f"""
ovs-vsctl --may-exist add-br {BRIDGE} {ports_added}
ip netns add {SPACE}
ip -n {SPACE} link set lo up
ip -batch - <<'END'
link add vrf1 type vrf table 100
link set vrf1 up
link add bond9 address 02:be:ef:00:00:09 type bond mode active-backup
{texts(lambda kind: kind)}
link set bond9 up
address add 10.60.0.1/24 dev bond9
END
ip -n {SPACE} -batch - <<'END'
{texts(lambda kind: _IN_SPACE.get(kind, ""))}
END
tc -batch - <<'END'
{texts(lambda kind: _DISCIPLINES if kind == _SHAPED else "")}
END
bridge -batch - <<'END'
{texts(lambda kind: _IN_BRIDGE if kind == _BRIDGED else "")}
END
{texts(lambda kind: _SETTINGS if kind == _ADDRESSED else "")}
"""


def portrait(lab: hosts.Lab, host: hosts.Host) -> set[str]:
    """One line for each device, address, route, rule, neighbour, discipline, filter and setting of the host."""
    told = hosts.script(lab, host, f"python3 - <<'END'\n{_PORTRAIT}\nEND")
    return set(t.cast("list[str]", json.loads(told)))
