# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Chassis of OVN with stateful ACLs, a load balancer and a router, whose ACLs change all the time: nothing is lost.

Judges are the traffic, and OVN itself: ovn-nbctl waits until every chassis has what it should have.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import json
import re
import typing as t

from tests.harness import runs
from tests.lab import modules, ovn
from tests.scenarios.programs import background
from tests.scenarios.scene import Broken, Json, Scene, measured, require_sound, require_unhurt, until

CHURN_PID = "/run/churn.pid"
# A change each second, of one flow or some.
CHURN = """
cat > /srv/churn.sh <<'END'
number=0
while sleep 1; do
    number=$((number + 1))
    match="outport == \\"lsp12\\" && ip4.src == 198.51.100.$((number % 250 + 1)) && udp.dst == $((number + 5000))"
    ovn-nbctl acl-add sw0 to-lport 1500 "$match" drop
    echo $number > /run/churned
done
END
"""
SYNCED = "ovn-nbctl --wait=hv --timeout=60 sync"
# A port of the router that one of two chassis serves. They watch each other by BFD in their tunnel; whoever does not hear the
# other any more takes the port.
GATEWAY = """
ovn-nbctl ls-add ext -- lrp-add r0 r0-ext 02:00:00:00:02:fe 172.31.0.1/24 \\
    -- lsp-add ext ext-r0 -- lsp-set-type ext-r0 router -- lsp-set-addresses ext-r0 router \\
    -- lsp-set-options ext-r0 router-port=r0-ext \\
    -- lrp-set-gateway-chassis r0-ext host1 20 -- lrp-set-gateway-chassis r0-ext host2 10
"""
BFD = "ovs-vsctl --bare --columns=bfd_status find interface type=geneve"
SERVED_BY = "ovn-sbctl --bare --columns=chassis find port_binding logical_port=cr-r0-ext"
CLAIMS = "grep -c 'Claiming lport cr-r0-ext' /var/log/ovn/ovn-controller.log || :"
# That of the flow, not of those that it learns.
COOKIE = re.compile(r"^ cookie=(0x[0-9a-f]+)", re.MULTILINE)
PINGED = re.compile(r"(\d+) packets transmitted, (\d+) received")


def chassis(scene: Scene, version: str, flows: int, ports: int = 0) -> None:
    """Every host with OVN; on the kernel datapath with modules that have conntrack zones."""
    kernel = scene.lab.backend == "uml"
    for host in scene.lab.hosts if kernel else ():
        modules.install(scene.lab, host, modules.SHIPPED)
        modules.reload(scene.lab, host)
    ovn.install(scene.lab, version)
    datapath = "system" if kernel else "netdev"
    ovn.populate(scene.lab, "--flows", str(flows), "--ports", str(ports), "--datapath-type", datapath)


@contextlib.contextmanager
def changing(scene: Scene) -> t.Iterator[None]:
    """ACLs change meanwhile; afterwards the chassis has all of them."""
    scene.sh(CHURN + background("sh /srv/churn.sh", CHURN_PID))
    try:
        yield
    finally:
        scene.sh(f"kill $(cat {CHURN_PID})\n{SYNCED}")
    changes = int(scene.sh("cat /run/churned"))
    last = scene.sh(f"ovs-ofctl -O OpenFlow15 dump-flows br-int | grep -c 'tp_dst={changes + 5000}'")
    if not int(last):
        raise Broken(f"change {changes} of OVN is not in the switch")


def churned(version: str, to: str, flows: int, scene: Scene, ports: int = 0) -> str:
    """There under traffic and change, and back."""
    chassis(scene, version, flows, ports)
    scene.install(to)
    kernel = scene.lab.backend == "uml"
    said = []
    with changing(scene), scene.traffic(rate=200) as there:
        result = scene.hand_over(
            expect="applied", strategy="make_before_break", confirm="manual", confirm_timeout=600
        )
    if scene.look()["versions"]["ovs-vswitchd"] != to:
        raise Broken(f"ovs-vswitchd is not {to}")
    said.append(f"there: {spoken(result, measured(there).established, measured(there).new)}")
    with changing(scene), scene.traffic(rate=200) as back:
        scene.module("ovs_handover", {"state": "rolled_back"})
    require_sound(scene, scene.lab.ovs or "", server=False)
    said.append(f"back: {measured(back)}")
    require_unhurt(not kernel, there, back, most=5)  # its host in userspace is a fast one
    return f"{'; '.join(said)}; {measured(there)}"


def spoken(result: Json, established: int, new: int) -> str:
    others = sum(
        sum(counts.values())
        for bridge in result["changes"]["bridges"].values()
        for counts in bridge["others"].values()
    )
    return f"{established} + {new} lost, {others} changes of others, {result['proof']}"


def crossed(version: str, to: str, scene: Scene) -> str:
    """Two chassis, each upgraded while traffic crosses the tunnel between them, both ways."""
    chassis(scene, version, 1000)
    said = []
    for number in (1, 2):
        scene.install(to, number)
        other = 3 - number
        address = f"10.0.0.{2 * other - 1}"
        scene.sh(background(f"ip netns exec h1 ping -q -i 0.005 -w 60 {address}", "/run/ping.pid"), number)
        scene.sh(until(f"grep -q 'sent' /dev/null || ip netns exec h1 ping -c 1 -W 1 {address}"), number)
        scene.hand_over(number, strategy="make_before_break")
        require_sound(scene, to, number)
        output = scene.sh(
            "kill -INT $(cat /run/ping.pid)\n"
            + until("grep -q received /run/background.log")
            + "cat /run/background.log",
            number,
        )
        sent, received = map(int, PINGED.findall(output)[-1])
        if sent != received:
            raise Broken(f"host{number}: {received} of {sent} answers came through the tunnel")
        said.append(f"host{number}: {received} of {sent}")
    scene.sh(SYNCED)
    return ", ".join(said)


def gateways(version: str, to: str, scene: Scene) -> str:
    """Two gateway chassis that watch each other by BFD: neither sees the other go, and the port stays where it is."""
    chassis(scene, version, 500)
    scene.sh(GATEWAY + SYNCED)
    for number in (1, 2):
        scene.sh(until(f"{BFD} | grep -q state=up"), number)
    before = [(scene.sh(SERVED_BY), [scene.sh(CLAIMS, number) for number in (1, 2)])]
    said = []
    for number in (1, 2):
        other = 3 - number
        flaps = bfd(scene, other)["flap_count"]
        scene.install(to, number)
        scene.hand_over(number, strategy="make_before_break")
        require_sound(scene, to, number)
        scene.sh(f"{SYNCED}", 1)
        seen = bfd(scene, other)
        if (seen["state"], seen["flap_count"]) != ("up", flaps):
            raise Broken(f"host{other} has seen host{number} go: {seen}, and flap_count was {flaps}")
        scene.sh(until(f"{BFD} | grep -q state=up"), number)
        before.append((scene.sh(SERVED_BY), [scene.sh(CLAIMS, each) for each in (1, 2)]))
        said.append(f"host{number}: up, {flaps} flaps as before")
    if len({str(each) for each in before}) != 1:
        log = scene.sh("grep -v 'INFO.*unixctl' /var/log/ovn/ovn-controller.log | tail -n 60")
        raise Broken(f"the gateway has moved: {before} {log}")
    return "; ".join(said)


def bfd(scene: Scene, number: int) -> dict[str, str]:
    """What a host tells of its session with the other one."""
    return dict(pair.split("=", 1) for pair in scene.sh(BFD, number).split() if "=" in pair)


def require_told(scene: Scene, version: str) -> None:
    """Raise ``Broken`` unless the facts are what OVN and ovs-ofctl show; nothing changes meanwhile."""
    facts = scene.module("ovs_info", {})["ovn"]
    pairs = (line.rsplit(" ", 1) for line in scene.sh("ovn-appctl ct-zone-list").splitlines())
    zones = {name: int(number) for name, number in pairs}
    cookies = COOKIE.findall(scene.sh("ovs-ofctl -O OpenFlow15 dump-flows br-int"))
    counts = collections.Counter(cookie for cookie in cookies if cookie != "0x0")
    told = facts["flows"]
    wrong = [
        name
        for name, found, wanted in (
            ("version", facts["controller"]["running_version"], version),
            ("connected", facts["connected"], True),
            ("zones", facts["zones"], len(zones)),
            ("zone_numbers", facts["zone_numbers"], zones),
            ("total", told["total"], len(cookies)),
            ("without_cookie", told["without_cookie"], cookies.count("0x0")),
            ("cookies", told["cookies"], len(counts)),
            ("largest", sorted(told["largest"].values()), sorted(n for __, n in counts.most_common(5))),
            ("cookies of the largest", told["largest"], {name: counts[name] for name in told["largest"]}),
        )
        if found != wanted
    ]
    if wrong or not zones or not counts:
        seen = len(cookies), cookies.count("0x0"), counts.most_common(5), zones
        raise Broken(f"the facts are wrong about {', '.join(wrong)}: {facts['flows']}; {seen}; {facts}")
    most = max(told["largest"], key=told["largest"].get)
    if "table=" not in scene.sh(f"ovn-sbctl lflow-list {most}"):
        raise Broken(f"OVN does not know the cookie {most}")


def controlled(version: str, to: str, scene: Scene) -> str:
    """ovn-controller itself is replaced under traffic; restarted by its service it would have no flows for a while."""
    chassis(scene, version, 500)
    require_told(scene, version)
    with scene.traffic(rate=200) as traffic:
        scene.module("ovn_controller", {"state": "prepared"})
        ovn.install(scene.lab, to)
        result = scene.module("ovn_controller", {})
    again = scene.module("ovn_controller", {})
    if not result.get("changed") or again.get("changed") is not False:
        raise Broken(f"replaced: {result}; again: {again}")
    settings = scene.sh("ovs-vsctl get open . external_ids")
    if result["after"] != to or "wait-before-clear" in settings:
        raise Broken(f"{result}, {settings}")
    scene.sh(SYNCED)
    measured(traffic).none()
    return f"settled after {result['settled_s']} s; {measured(traffic)}"


def played(version: str, to: str, scene: Scene) -> str:
    """The playbook upgrades Open vSwitch and ovn-controller behind it, finds nothing to do the next time, and takes both back."""
    chassis(scene, version, 500)
    ovn.offer(scene.lab, version, to)
    reports = scene.lab.folder / "reports"
    reports.mkdir()
    outcomes = []
    with scene.traffic(rate=200) as traffic:
        for check in (True, False, False):
            packages = [name for name in ovn.PACKAGES if name.startswith("ovn-")]
            done = runs.playbook(
                scene.lab, "4.0.0", check=check, ovn=True, ovn_packages=packages, report_dir=str(reports)
            )
            if done.returncode:
                raise Broken(f"the playbook failed: {done.stdout[-3000:]}")
            result = json.loads((reports / "host1.json").read_text())
            outcomes.append((result["outcome"], (result["ovn"] or {}).get("to")))
        require_sound(scene, "4.0.0")
        back = runs.playbook(scene.lab, None, name="rollback", rollout="last")
        if back.returncode:
            raise Broken(f"the playbook rollback failed: {back.stdout[-3000:]}")
    require_sound(scene, scene.lab.ovs or "")
    runs_now = scene.module("ovs_info", {})["ovn"]["controller"]["running_version"]
    if runs_now != version:
        raise Broken(f"ovn-controller is {runs_now} after the rollback")
    if outcomes != [("planned", version), ("upgraded", to), ("unchanged", to)]:
        raise Broken(f"the outcomes are {outcomes}")
    scene.sh(SYNCED)
    if scene.lab.backend == "uml":
        measured(traffic).none()
    else:
        measured(traffic).shorter_than(1.0)
    return str(measured(traffic))


SCENARIOS = [
    ("OVN by the playbook, userspace", "3.5.0", functools.partial(played, "25.03.0", "26.03.1"), "native"),
    ("OVN by the playbook", "3.5.0", functools.partial(played, "25.03.0", "26.03.1")),
    ("ovn-controller, userspace", "3.5.0", functools.partial(controlled, "25.03.0", "26.03.1"), "native"),
    ("ovn-controller 25.03 to 26.03", "3.5.0", functools.partial(controlled, "25.03.0", "26.03.1")),
    ("ovn-controller 23.03 to 25.03", "3.5.0", functools.partial(controlled, "23.03.1", "25.03.0")),
    ("OVN under change, userspace", "3.5.0", functools.partial(churned, "25.03.0", "4.0.0", 500), "native"),
    ("OVN under change, 2,000 flows", "3.5.0", functools.partial(churned, "25.03.0", "4.0.0", 500)),
    ("OVN under change, 10,000 flows", "3.5.0", functools.partial(churned, "25.03.0", "4.0.0", 8500)),
    (
        "OVN under change, 100 logical ports",
        "3.5.0",
        functools.partial(churned, "25.03.0", "4.0.0", 500, ports=100),
    ),
    ("OVN 23.03 under change", "3.1.0", functools.partial(churned, "23.03.1", "3.5.0", 500)),
    ("OVN, two gateway chassis", "3.5.0", functools.partial(gateways, "25.03.0", "4.0.0"), "uml", 2),
    ("OVN, two chassis", "3.5.0", functools.partial(crossed, "25.03.0", "4.0.0"), "uml", 2),
]
