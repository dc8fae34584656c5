# Copyright (c) 2026, ovsops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Userspace hosts with many ports, and with many bridges."""

from __future__ import annotations

from tests.scenarios.scene import (
    Broken,
    Scene,
    lost_in_switch_over,
    measured,
)

RATE = 200
# internal ports, bridges, veth
CASE = 1000, 50, 200
# The engine has three descriptors for each bridge, which are more than select() takes.
BRIDGES = 400
MOST_OF_SELECT = 1024
PORTS = "ovs-vsctl --columns=name,ofport,error --format=csv list interface | sort"
OPEN_FILES = "for p in $(pgrep -f 'run.py engine'); do ls /proc/$p/fd | wc -l; done"

FILL = """
import subprocess, sys
internal, bridges, veth, datapath = *map(int, sys.argv[1:4]), sys.argv[4]
def run(commands, *program, together=400):
    for start in range(0, len(commands), together):
        subprocess.run([*program, *(word for command in commands[start : start + together] for word in command)], check=True)
run([["--", "add-br", f"b{n}", "--", "set", "bridge", f"b{n}", f"datapath_type={datapath}", "fail_mode=secure"]
     for n in range(bridges)], "ovs-vsctl")
links = [f"link add v{n} type veth peer name w{n}" for n in range(veth)]
links += [f"link set {end}{n} up" for n in range(veth) for end in "vw"]
subprocess.run(["ip", "-batch", "-"], input="\\n".join(links), text=True, check=True)
ports = [["--", "add-port", f"b{n % bridges}", f"in{n}", "--", "set", "interface", f"in{n}", "type=internal"]
         for n in range(internal)]
ports += [["--", "add-port", f"b{n % bridges}", f"v{n}"] for n in range(veth)]
run(ports, "ovs-vsctl")
"""


def fill(scene: Scene, internal: int, bridges: int, veth: int, datapath: str = "netdev") -> None:
    """Add so many bridges to host 1, and so many ports of two kinds to them in turns."""
    scene.sh(f"python3 - {internal} {bridges} {veth} {datapath} <<'END'\n{FILL}\nEND")


def require_ports(scene: Scene, before: str, version: str) -> None:
    """Raise ``Broken`` unless this ovs-vswitchd runs and every port has its number; look.py would take minutes."""
    runs, after = scene.sh("ovs-appctl version"), scene.sh(PORTS)
    if version not in runs or after != before:
        gone = set(before.splitlines()) - set(after.splitlines())
        raise Broken(
            f"{runs.splitlines()[0]}, and {len(gone)} ports are not what they were: {sorted(gone)[:3]}"
        )


def many_ports(scene: Scene) -> str:
    """What is lost is no more than came while nobody forwarded, and every port is back with its number."""
    scene.populate("--datapath-type", "netdev")
    fill(scene, *CASE)
    scene.install("4.0.0")
    before = scene.sh(PORTS)
    with scene.traffic(rate=RATE) as traffic:
        result = scene.hand_over(strategy="make_before_break")
    require_ports(scene, before, "4.0.0")
    losses = measured(traffic)
    lost, bound = lost_in_switch_over(scene), 2 * RATE * result["window_ms"] / 1000
    if lost > bound or losses.duplicates:
        raise Broken(
            f"{lost} packets are lost in the switch-over, with at most {bound:.0f} sent in it; {losses}"
        )
    losses.shorter_than(5)
    internal, bridges, veth = CASE
    return (
        f"{internal} internal ports, {bridges} bridges, {veth} veth: window {result['window_ms']} ms, "
        f"{lost} lost in the switch-over, {losses}"
    )


def many_bridges(scene: Scene) -> str:
    """More descriptors than select() takes: hand-over, verification, hot rollback."""
    scene.populate("--datapath-type", "netdev")
    fill(scene, 0, BRIDGES, 0)
    scene.install("4.0.0")
    before = scene.sh(PORTS)
    with scene.traffic(rate=RATE) as traffic:
        result = scene.hand_over(expect="applied", confirm="manual", confirm_timeout=600)
        open_files = max(map(int, scene.sh(OPEN_FILES).split()))
        scene.hand_over(expect="applied", state="verified")
        scene.hand_over(expect="rolled_back", state="rolled_back")
    if open_files <= MOST_OF_SELECT:
        raise Broken(f"the engine had {open_files} descriptors: too few to tell anything")
    require_ports(scene, before, "3.5.0")
    losses = measured(traffic)
    losses.shorter_than(30)
    return f"{BRIDGES} bridges, {open_files} descriptors, window {result['window_ms']} ms, {losses}"


SCENARIOS = [
    ("1,000 internal ports, 50 bridges, 200 veth", "3.5.0", many_ports, "native"),
    ("400 bridges", "3.5.0", many_bridges, "native"),
]
