# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controllers as they are in use, in the database: what they see of a hand-over, and what they do then.

Those on os-ken keep a log of their own; upstream's ovs-testcontroller runs on the host and logs its connections.
"""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
import sys
import typing as t
from pathlib import Path

from tests.harness.waiting import until, wait_until
from tests.lab import hosts, images
from tests.lab.images import REPOSITORY
from tests.scenarios.living import CONNECTED
from tests.scenarios.scene import BACK, THERE, Broken, Json, Scene, measured, require_sound

AGENT = REPOSITORY / "tests/lab/agent.py"
ADDRESS, PORT = "10.111.0.1", 6653
COOKIE = "0xa9e27"
FLOWS = 1000
DATAPATHS = (("kernel", "system", "uml"), ("userspace", "netdev", "native"))
# Each is tried again soon, and asked whether it is there as often as that is done: 5 s at least (ofconn_reconfigure, connmgr.c).
EAGER = """
for each in $(ovs-vsctl --bare --columns=_uuid list controller); do
    ovs-vsctl set controller $each max_backoff=1000 inactivity_probe=1000
done
"""
ARE_CONNECTED = "ovs-vsctl --bare --columns=is_connected list controller | grep -c true"
ROLES = "ovs-vsctl --bare --columns=role list controller | grep . | sort | xargs"
# As the switch tells them (OpenFlow 1.3, 7.3.9).
EQUAL, PRIMARY, SECONDARY = 1, 2, 3
HELD = f"ovs-ofctl -O OpenFlow13 dump-flows br0 cookie={COOKIE}/-1 | grep -c cookie="


class Watched(t.NamedTuple):
    """A controller, see agent.py, and its log when it has ended."""

    kind: str
    role: str
    log: Json


@contextlib.contextmanager
def agents(scene: Scene, *wanted: Watched) -> t.Iterator[None]:
    """Have controllers work on br0 meanwhile; all listen before the bridge gets them, and the first one fills it."""
    places = [(scene.lab.folder / f"agent{number}.json", str(PORT + number)) for number in range(len(wanted))]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(_argv(scene, each, port, path)))
            for each, (path, port) in zip(wanted, places)
        ]
        try:
            targets = " ".join(f"tcp:{ADDRESS}:{port}" for __, port in places)
            scene.sh(f"ovs-vsctl set-controller br0 {targets}\n{EAGER}")
            scene.sh(until(f"[ $({HELD}) -ge {FLOWS} ]", otherwise="ovs-vsctl list controller >&2"))
            scene.sh(until(f"[ $({ARE_CONNECTED}) = {len(wanted)} ]"))
            yield
        finally:
            for process in processes:
                process.terminate()
    for each, (path, __) in zip(wanted, places):
        wait_until(path.exists)
        each.log.update(json.loads(path.read_text()))


def _argv(scene: Scene, each: Watched, port: str, path: Path) -> list[str]:
    program = [sys.executable, str(AGENT), each.kind, ADDRESS, port, str(path), each.role]
    return ["ip", "netns", "exec", scene.lab.netns, *program]


@contextlib.contextmanager
def agent(scene: Scene, kind: str) -> t.Iterator[Json]:
    """The same with one; its log is in what this yields, afterwards."""
    only = Watched(kind, "", {})
    with agents(scene, only):
        yield only.log


def kept(kind: str, datapath: str, scene: Scene) -> str:
    """What was its own stays; it sees one reconnect, and fills nothing anew of which it would have to."""
    scene.populate("--datapath-type", datapath)
    scene.install("4.0.0")
    with agent(scene, kind) as log:
        if kind == "learning":
            scene.sh(until("ip netns exec h2 ping -c 1 -W 1 10.0.0.1"))
        before = scene.sh(HELD)
        with scene.traffic() as traffic:
            scene.hand_over(confirm="manual", expect="applied")
            scene.sh(CONNECTED)
        if kind != "cold" and scene.sh(HELD) != before:
            raise Broken(f"the controller had {before.strip()} flows, and has {scene.sh(HELD).strip()}")
        scene.hand_over(state="confirmed")
    require_sound(scene, "4.0.0")
    wanted = {
        "connections": 2,
        "disconnects": 1,
        "missing": 0,
        "errors": [],
        "fillings": 2 if kind == "cold" else 1,
    }
    wrong = {name: log[name] for name, value in wanted.items() if log[name] != value}
    if wrong or len(set(log["roles"])) != 1:
        raise Broken(f"the controller saw more than one reconnect: {wrong}, {log}")
    losses = measured(traffic)
    if kind != "cold" and datapath == "system":
        losses.none()
    own = ", of which its own deletion is the cause" if kind == "cold" else ""
    return f"{losses}{own}; it connected twice, looked {log['looks']} times, filled the switch {log['fillings']} times"


def ranked(datapath: str, scene: Scene) -> str:
    """A primary and a secondary, there and back: each connects once more each time, is nothing special, and asks for its role."""
    first, second = Watched("neutron", "primary", {}), Watched("watching", "secondary", {})
    losses = _there_and_back(scene, datapath, first, second)
    for each, role in ((first, PRIMARY), (second, SECONDARY)):
        _require_log(each, {"roles": [EQUAL] * 3, "got": [role] * 3})
    return f"{losses}; each connected three times, and was told its role when it asked for it"


def contended(datapath: str, scene: Scene) -> str:
    """Two that take the role of the primary from each other each second, there and back."""
    first, second = Watched("neutron", "turns", {}), Watched("watching", "turns", {})
    losses = _there_and_back(scene, datapath, first, second)
    for each in (first, second):
        _require_log(each, {"roles": [EQUAL] * 3, "got": [PRIMARY] * len(each.log["got"])})
    turns = len(first.log["got"]), len(second.log["got"])
    return f"{losses}; each connected three times, and took the role {turns[0]} and {turns[1]} times"


def _there_and_back(scene: Scene, datapath: str, *controllers: Watched) -> str:
    """Hand over and take it back under traffic; what was lost of it, in words."""
    scene.populate("--datapath-type", datapath)
    scene.install("4.0.0")
    said = []
    with agents(scene, *controllers):
        scene.sh(until(f'[ "$({ROLES})" = "master slave" ]'))
        for options in (THERE, BACK):
            with scene.traffic() as traffic:
                scene.hand_over(**options)
                scene.sh(until(f"[ $({ARE_CONNECTED}) = {len(controllers)} ]"))
                scene.sh(until(f'[ "$({ROLES})" = "master slave" ]', otherwise=f"{ROLES} >&2"))
            said.append(f"{options['expect']}: {measured(traffic)}")
            if datapath == "system":
                measured(traffic).none()
    require_sound(scene, "3.5.0", server=False)
    return "; ".join(said)


def _require_log(each: Watched, wanted: Json) -> None:
    """Raise ``Broken`` unless the controller has seen a reconnect each time, and that alone."""
    alike = {"connections": 3, "disconnects": 2, "missing": 0, "errors": []}
    fillings = {"fillings": 1 if each.kind == "neutron" else 0}
    expected = {**alike, **fillings, **wanted}
    wrong = {name: each.log[name] for name, value in expected.items() if each.log[name] != value}
    if wrong:
        raise Broken(
            f"the controller {each.kind}, {each.role}, saw more than a reconnect each time: {wrong}, {each.log}"
        )


# Open vSwitch has found its controller to be away for three times its patience (5 s), and has emptied the tables: a hidden flow
# forwards as an Ethernet switch does.
FAILED_OPEN = "ovs-vsctl set-fail-mode br0 standalone\n" + until(
    "ovs-appctl bridge/dump-flows br0 | grep -q priority=15790320", 60
)


def failed_open(scene: Scene) -> str:
    """A new process forwards so when it has missed its controller for as long: the proof ends it, and nobody notices."""
    scene.populate("--controller")
    scene.sh(FAILED_OPEN)
    scene.install("4.0.0")
    with scene.traffic() as traffic:
        result = scene.module("ovs_handover", {})
    if result.get("state") != "rolled_back" or "p1>p2:gone" not in str(result):
        raise Broken(f"the hand-over is {result.get('state')}: {result.get('msg')}")
    require_sound(scene, "3.5.0", server=False)
    measured(traffic).none()
    return f"{measured(traffic)}; refused by the proof"


TEST_CONTROLLER = f"""
for n in $(seq {FLOWS}); do
    echo "cookie={COOKIE},priority=5,ip,nw_dst=10.77.$((n / 250)).$((n % 250)),actions=drop"
done >/run/controller.flows
/srv/controller/ovs-testcontroller --detach --pidfile=/run/controller.pid --log-file=/run/controller.log -vrconn:file:dbg \\
    -O OpenFlow13 --with-flows=/run/controller.flows ptcp:{PORT}
ovs-vsctl set-controller br0 tcp:127.0.0.1:{PORT} -- set controller br0 max_backoff=1000
""" + until(f"[ $({HELD}) -ge {FLOWS} ]")


def kept_for_upstreams(datapath: str, scene: Scene) -> str:
    """ovs-testcontroller adds its flows whenever a switch connects, and finds those of before there.

    The first packet of each flow goes to it, by a flow of its own: those meet the moment in which it connects again.
    """
    scene.populate("--datapath-type", datapath)
    scene.install("4.0.0")
    hosts.put(scene.lab, scene.host(), [images.testcontroller("3.5.0")], "/srv/controller")
    scene.sh(TEST_CONTROLLER)
    with scene.traffic() as traffic:
        scene.hand_over()
        scene.sh(CONNECTED)
    held = int(scene.sh(HELD))
    log = scene.sh("cat /run/controller.log; kill $(cat /run/controller.pid)").splitlines()
    require_sound(scene, "4.0.0")
    connected = sum(line.endswith(": connected") for line in log)
    wrong = [line for line in log if "|WARN|" in line or "|ERR|" in line]
    if held != FLOWS or connected != 2 or wrong:
        raise Broken(f"it connected {connected} times, {held} of its {FLOWS} flows are there; {wrong}")
    losses = measured(traffic)
    if datapath == "system" and losses.established:
        raise Broken(f"traffic was hit: {losses}")
    return f"{losses}; it connected twice"


SCENARIOS = [
    *(
        (f"os-ken: {kind}, {where}", "3.5.0", functools.partial(kept, kind, datapath), backend)
        for kind in ("neutron", "learning", "cold")
        for where, datapath, backend in DATAPATHS
    ),
    *(
        (f"os-ken: {name}, {where}", "3.5.0", functools.partial(play, datapath), backend)
        for name, play in (("a primary and a secondary", ranked), ("two that want to be the primary", contended))
        for where, datapath, backend in DATAPATHS
    ),
    ("controllers: none, and the bridge has failed open", "3.5.0", failed_open, "uml"),
    *(
        (f"ovs-testcontroller: {where}", "3.5.0", functools.partial(kept_for_upstreams, datapath), backend)
        for where, datapath, backend in DATAPATHS
    ),
]  # fmt: skip
