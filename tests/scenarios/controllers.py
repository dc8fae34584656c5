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

from tests.harness.waiting import until, wait_until
from tests.lab import hosts, images
from tests.lab.images import REPOSITORY
from tests.scenarios.living import CONNECTED
from tests.scenarios.scene import Broken, Json, Scene, measured, require_sound

AGENT = REPOSITORY / "tests/lab/agent.py"
ADDRESS, PORT = "10.111.0.1", "6653"
COOKIE = "0xa9e27"
FLOWS = 1000
DATAPATHS = (("kernel", "system", "uml"), ("userspace", "netdev", "native"))
HELD = f"ovs-ofctl -O OpenFlow13 dump-flows br0 cookie={COOKIE}/-1 | grep -c cookie="


@contextlib.contextmanager
def agent(scene: Scene, kind: str) -> t.Iterator[Json]:
    """Have a controller work on br0 meanwhile; its log is in what this yields, afterwards."""
    path = scene.lab.folder / "agent.json"
    argv = [
        "ip",
        "netns",
        "exec",
        scene.lab.netns,
        sys.executable,
        str(AGENT),
        kind,
        ADDRESS,
        PORT,
        str(path),
    ]
    log: Json = {}
    with subprocess.Popen(argv) as process:
        try:
            scene.sh(
                f"ovs-vsctl set-controller br0 tcp:{ADDRESS}:{PORT} -- set controller br0 max_backoff=1000"
            )
            scene.sh(until(f"[ $({HELD}) -ge {FLOWS} ]", otherwise="ovs-vsctl list controller >&2"))
            yield log
        finally:
            process.terminate()
    wait_until(path.exists)
    log.update(json.loads(path.read_text()))


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
    wanted = {"connections": 2, "missing": 0, "errors": [], "fillings": 2 if kind == "cold" else 1}
    wrong = {name: log[name] for name, value in wanted.items() if log[name] != value}
    if wrong or len(set(log["roles"])) != 1:
        raise Broken(f"the controller saw more than one reconnect: {wrong}, {log}")
    losses = measured(traffic)
    if kind != "cold" and datapath == "system":
        losses.none()
    own = ", of which its own deletion is the cause" if kind == "cold" else ""
    return f"{losses}{own}; it connected twice, looked {log['looks']} times, filled the switch {log['fillings']} times"


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
    (f"os-ken: {kind}, {where}", "3.5.0", functools.partial(kept, kind, datapath), backend)
    for kind in ("neutron", "learning", "cold")
    for where, datapath, backend in DATAPATHS
] + [
    (f"ovs-testcontroller: {where}", "3.5.0", functools.partial(kept_for_upstreams, datapath), backend)
    for where, datapath, backend in DATAPATHS
]
