# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A switch that is in use while it is upgraded: controllers, learn actions, timeouts; nothing of theirs is lost.

The judge is the controller's own log, compared with what ovs-ofctl shows.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import time
import typing as t

from tests.harness import runs
from tests.scenarios.programs import Program, background
from tests.scenarios.scene import AFTERWARDS, Broken, Json, Scene, measured, require_sound, until

CHURN = Program("churn")
COOKIE = "0xc0ffee"
FLOW = re.compile(r"nw_dst=([\d.]+) actions=(\S+)")
GROUP = re.compile(r"group_id=(\d+),type=all,bucket=(?:bucket_id:0,)?actions=output:(?:p)?\"?(\d+)")
PORT = re.compile(r"^ (\d+)(?:\(\S+\))?: addr:.*\n +config: +(.*)", re.MULTILINE)
CONTROLLERS = (
    "ovs-vsctl --columns=_uuid,target,type,inactivity_probe,external_ids,max_backoff list controller"
)
METER = re.compile(r"meter=(\d+) kbps bands=\s*type=drop rate=(\d+)")

CONNECTED = until("ovs-vsctl get controller br0 is_connected | grep -q true")
# What neutron's br-tun does: every packet teaches a flow that lives for ten seconds; packets of many senders.
LEARN = """
ovs-ofctl -O OpenFlow15 add-flow br1 "priority=50,actions=learn(table=20,hard_timeout=10,priority=1,cookie=0x77,\
NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:0->NXM_OF_VLAN_TCI[])"
cat > /srv/senders.sh <<'END'
ip link add sa type veth peer name sb; ip link set sa up; ip link set sb up; ovs-vsctl --may-exist add-port br1 sb
exec python3 -c '
import os, random, socket, time
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); out.bind(("sa", 0))
while True:
    # So many that most are heard of once in the life of a flow: in any half second some flows expire.
    out.send(b"\\2" + bytes(5) + b"\\2\\0\\0\\0" + random.randrange(2000).to_bytes(2, "big") + b"\\x88\\xb5" + bytes(46))
    time.sleep(0.02)
'
END
"""
# What the first senders taught is on its way to its end.
LEARNED = until("ovs-ofctl -O OpenFlow15 dump-flows br1 table=20 | grep -q 'cookie=0x77, duration=[6-9]'")


@contextlib.contextmanager
def controller(
    scene: Scene,
    mode: str,
    rate: int = 100,
    where: str = "/run/openvswitch/br0.mgmt",
    *options: int,
    namespace: str | None = None,
) -> t.Iterator[Json]:
    """Have a controller change a bridge meanwhile (see churn.py); its log is in what this yields, afterwards."""
    within = f"ip netns exec {namespace}" if namespace else ""
    with CHURN.running(scene, mode, where, rate, CHURN.log, *options, within=within) as log:
        yield log


def require_logged(scene: Scene, log: Json, bridge: str = "br0", protocol: str = "OpenFlow14") -> None:
    """Raise ``Broken`` unless the bridge holds what the controller's log says."""
    if log["errors"]:
        raise Broken(f"the switch refused what the controller sent: {log['errors']}")
    show = f"ovs-ofctl -O {protocol} --no-names"
    text = scene.sh(f"{show} --no-stats dump-flows {bridge} cookie={COOKIE}/-1")
    found = {address: port_of(actions) for address, actions in FLOW.findall(text)}
    compare("flows", log["flows"], found)
    if log["groups"]:
        groups = dict(GROUP.findall(scene.sh(f"{show} dump-groups {bridge}")))
        ours = {name: int(port) for name, port in groups.items() if 50 <= int(name) < 60}
        compare("groups", log["groups"], ours)
        meters = dict(METER.findall(scene.sh(f"{show} dump-meters {bridge}")))
        compare(
            "meters",
            log["meters"],
            {name: int(rate) for name, rate in meters.items() if 50 <= int(name) < 60},
        )
    if log["ports"]:
        configs = PORT.findall(scene.sh(f"{show} dump-ports-desc {bridge}"))
        found = {number: "NO_PACKET_IN" in config for number, config in configs if number in log["ports"]}
        compare("ports", log["ports"], found)
    told = protocol != "OpenFlow10"  # that shows no flags
    missing = [line for line in text.splitlines() if told and COOKIE in line and "send_flow_rem" not in line]
    if missing:
        raise Broken(f"{len(missing)} flows lost a flag, as {missing[0]}")


def port_of(actions: str) -> int:
    if actions == "drop":
        return 0
    number = int(re.findall(r"\d+", actions)[-1])
    return -number if "group" in actions else number


def compare(what: str, wanted: Json, found: Json) -> None:
    wrong = {name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)}
    if wrong:
        shown = [
            f"{name}: {wanted.get(name)} in the log, {found.get(name)} in the switch"
            for name in sorted(wrong)[:5]
        ]
        raise Broken(f"{len(wrong)} of {len(wanted)} {what} of the controller are wrong: {'; '.join(shown)}")


def busy(mode: str, strategy: str, datapath: str, scene: Scene, rate: int = 100, **options: t.Any) -> str:
    """A controller works on the bridge by its management socket all the time."""
    scene.populate("--datapath-type", datapath)
    scene.install("4.0.0")
    with controller(scene, mode, rate) as log, scene.traffic() as traffic:
        result = scene.hand_over(strategy=strategy, **options)
    require_sound(scene, "4.0.0")
    require_logged(scene, log)
    changes = result["changes"]["bridges"]["br0"]
    if changes["unexplained"] or COOKIE not in changes["others"]:
        raise Broken(f"the result does not tell what the controller did: {changes}")
    losses = measured(traffic)
    if strategy == "make_before_break" and datapath == "system":
        losses.none()
    return (
        f"{log['changes']} changes on {log['connections']} connections, {len(log['flows'])} flows right, "
        f"told {changes['others'][COOKIE]}; {losses}"
    )


def commanded(
    strategy: str,
    datapath: str,
    scene: Scene,
    mode: str = "flows",
    fail_mode: str = "secure",
    role: int = 0,
    where: str = "listen:6653",
) -> str:
    """The same by a controller in the database, which connects again to the new process; or ``where`` beside one that is away."""
    scene.populate("--datapath-type", datapath, "--controller")
    scene.install("4.0.0")
    with controller(scene, mode, 100, where, 5, role) as log:
        scene.sh("ovs-vsctl set controller br0 max_backoff=1000")
        if where.startswith("listen"):
            scene.sh(CONNECTED)
        scene.sh(f"ovs-vsctl set-fail-mode br0 {fail_mode}")
        before = scene.sh(CONTROLLERS)
        result = scene.hand_over(strategy=strategy)
        if where.startswith("listen"):
            scene.sh(CONNECTED)
    require_sound(scene, "4.0.0")
    require_logged(scene, log)
    if scene.sh(CONTROLLERS) != before:
        raise Broken(f"the controller in the database was {before!r} and is {scene.sh(CONTROLLERS)!r}")
    if result["changes"]["bridges"]["br0"]["unexplained"]:
        raise Broken(f"not everything is explained: {result['changes']}")
    return f"{log['changes']} changes on {log['connections']} connections, {len(log['flows'])} flows right"


def learning(strategy: str, datapath: str, scene: Scene) -> str:
    """Flows that are learned and expire all the time, as in neutron's br-tun."""
    scene.populate("--datapath-type", datapath)
    scene.sh(LEARN + background("bash /srv/senders.sh", "/run/senders.pid") + LEARNED)
    try:
        scene.install("4.0.0")
        result = scene.hand_over(strategy=strategy)
        time.sleep(AFTERWARDS)  # what was not carried well has expired by then
        count = "ovs-ofctl -O OpenFlow15 dump-flows br1 table=20 | grep -c cookie=0x77"
        alive = int(scene.sh(count))
    finally:
        scene.sh("kill $(cat /run/senders.pid)")
    require_sound(scene, "4.0.0")
    changes = result["changes"]["bridges"]["br1"]
    if not changes["learned"] or not changes["expired"] or changes["unexplained"] or changes["others"]:
        raise Broken(f"what was learned and expired is told differently: {changes}")
    if alive < 50:
        raise Broken(f"only {alive} learned flows are there afterwards")
    return (
        f"{changes['learned']} learned and {changes['expired']} expired meanwhile, {alive} there afterwards"
    )


def played(datapath: str, scene: Scene) -> str:
    """The whole playbook on a switch with a controller and with learned flows; nothing of that stops it."""
    scene.populate("--datapath-type", datapath)
    scene.sh(LEARN + background("bash /srv/senders.sh", "/run/senders.pid") + LEARNED)
    try:
        with controller(scene, "flows") as log:
            done = runs.playbook(scene.lab, "4.0.0", report_dir=str(scene.lab.folder))
    finally:
        scene.sh("kill $(cat /run/senders.pid)")
    if done.returncode:
        raise Broken(f"the playbook failed: {done.stdout[-2000:]}")
    require_sound(scene, "4.0.0")
    require_logged(scene, log)
    result = json.loads((scene.lab.folder / f"{scene.host().name}.json").read_text())
    told = result["changes"]["bridges"]
    if result["outcome"] != "upgraded" or not result["verified"] or COOKIE not in told["br0"]["others"]:
        raise Broken(f"the result tells it differently: {result}")
    return f"{log['changes']} changes, {len(log['flows'])} flows right; told {told['br0']['others'][COOKIE]}, br1 {told['br1']}"


def taken_back(strategy: str, datapath: str, scene: Scene) -> str:
    """A controller changes groups, meters, and flows that use them, all the way there and back."""
    scene.populate("--datapath-type", datapath)
    scene.install("4.0.0")
    with controller(scene, "groups", 200) as log:
        scene.hand_over(strategy=strategy, confirm="manual", confirm_timeout=600, expect="applied")
        scene.hand_over(state="rolled_back", expect="rolled_back")
    require_sound(scene, "3.5.0", server=False)
    require_logged(scene, log)
    return f"{log['changes']} changes on {log['connections']} connections, {len(log['flows'])} flows right"


def speaking(version: int, mode: str, scene: Scene) -> str:
    """A bridge that allows one OpenFlow version only, and a controller that is its primary where there are roles."""
    protocol = {1: "OpenFlow10", 4: "OpenFlow13", 6: "OpenFlow15"}[version]
    scene.populate("--datapath-type", "netdev")
    scene.sh(
        f"ovs-vsctl add-br brv -- set bridge brv datapath_type=netdev fail_mode=secure protocols={protocol}"
        " -- add-port brv q1 -- set interface q1 type=internal ofport_request=1"
        " -- add-port brv q2 -- set interface q2 type=internal ofport_request=2"
    )
    scene.install("4.0.0")
    with controller(scene, mode, 100, "/run/openvswitch/brv.mgmt", version, 2 if version > 1 else 0) as log:
        scene.hand_over(strategy="make_before_break")
    require_logged(scene, log, "brv", protocol)  # look.py speaks OpenFlow 1.5, which the bridge does not
    return f"{log['changes']} changes on {log['connections']} connections are as logged"


def configuring(scene: Scene) -> str:
    """A controller changes the config of ports all the time."""
    scene.populate("--datapath-type", "netdev")
    scene.install("4.0.0")
    with controller(scene, "ports", 100) as log:
        scene.hand_over(strategy="make_before_break")
    require_sound(scene, "4.0.0")
    require_logged(scene, log)
    return f"{log['changes']} changes on {log['connections']} connections, the last ones are there"


def backwards(scene: Scene) -> str:
    """To a version that tells changes of flows in OpenFlow 1.0 only."""
    scene.populate("--datapath-type", "system")
    scene.install("2.15.0")
    with controller(scene, "flows") as log:
        result = scene.hand_over(strategy="standby", confirm="manual", confirm_timeout=600, expect="applied")
        scene.hand_over(state="verified", expect="applied")
        scene.hand_over(state="confirmed")
    require_sound(scene, "2.15.0")
    require_logged(scene, log)
    return f"{log['changes']} changes, {len(log['flows'])} flows right; {result['changes']['bridges']['br0']['others']}"


WAYS = (
    ("make_before_break", "system", "uml"),
    ("prefilled", "system", "uml"),
    ("make_before_break", "netdev", "native"),
    ("prefilled", "netdev", "native"),
    ("standby", "netdev", "native"),
    ("restart", "netdev", "native"),
    ("restart", "system", "uml"),
)
COMMANDERS: tuple[tuple[str, Json, t.Sequence[tuple[str, str, str]]], ...] = (
    ("groups", {}, WAYS),
    ("groups, fail_mode standalone", {"fail_mode": "standalone"}, WAYS[::2]),
    ("groups, primary", {"role": 2}, WAYS[1::2]),
    ("away, and groups by the management socket", {"where": "/run/openvswitch/br0.mgmt"}, WAYS[::2]),
)
SCENARIOS = [
    ("living: the whole playbook, native", "3.5.0", functools.partial(played, "netdev"), "native"),
    ("living: the whole playbook, uml", "3.5.0", functools.partial(played, "system"), "uml"),
    *(
        (f"living: {mode}, {strategy}, {backend}", "3.5.0", functools.partial(busy, mode, strategy, datapath), backend)
        for mode in ("flows", "resync", "groups")
        for strategy, datapath, backend in WAYS
    ),
    *(
        (f"living: taken back, {strategy}, {backend}", "3.5.0", functools.partial(taken_back, strategy, datapath), backend)
        for strategy, datapath, backend in WAYS
    ),
    *(
        (f"living: {name} alone, native", "3.5.0", functools.partial(speaking, version, mode), "native")
        for name, version, mode in (("OpenFlow10", 1, "flows"), ("OpenFlow13", 4, "groups"), ("OpenFlow15", 6, "groups"))
    ),
    ("living: config of ports, native", "3.5.0", configuring, "native"),
    ("living: to a version before 3.0, uml", "3.5.0", backwards, "uml"),
    *(
        (f"living: controller in the database, {strategy}, {backend}", "3.5.0",
         functools.partial(commanded, strategy, datapath), backend)
        for strategy, datapath, backend in WAYS[::2]
    ),
    *(
        (f"living: controller in the database, {name}, {strategy}, {backend}", "3.5.0",
         functools.partial(commanded, strategy, datapath, mode="groups", **options), backend)
        for name, options, ways in COMMANDERS
        for strategy, datapath, backend in ways
    ),
    *(
        (f"living: learned flows, {strategy}, {backend}", "3.5.0", functools.partial(learning, strategy, datapath), backend)
        for strategy, datapath, backend in WAYS[::2]
    ),
]  # fmt: skip
