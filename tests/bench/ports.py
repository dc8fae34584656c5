# Copyright (c) 2026, ovsops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the number of ports does to the switch-over: one row for each number, on fresh hosts.

Half of the ports are internal ports, half are veth, on ten bridges beside those that carry the probe's traffic.  A row has the
time in which nobody forwards, the time until the last port is back, the longest time in which the receiver heard nothing,
and the packets that were lost: in the switch-over, and in the whole hand-over.  Writes build/bench/ports.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import typing as t
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scenarios"))

import scene
from images import program, say

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._probe_agent import ARRIVED, EVENT, SENT

OUTPUT = scene.REPOSITORY / "build/bench/ports.json"
BRIDGES = 10
# What is lost this long before the old process is stopped, in seconds, was on its way then.
MARGIN = 0.05
FILL = """
import subprocess, sys
count, datapath = int(sys.argv[1]), sys.argv[2]
def run(commands, *program, together=400):
    for start in range(0, len(commands), together):
        subprocess.run([*program, *(word for command in commands[start : start + together] for word in command)], check=True)
bridges = range(min(count, {bridges}))
run([["--", "add-br", f"b{{n}}", "--", "set", "bridge", f"b{{n}}", f"datapath_type={{datapath}}", "fail_mode=secure"]
     for n in bridges], "ovs-vsctl")
half = count // 2
links = [f"link add v{{n}} type veth peer name w{{n}}" for n in range(count - half)]
links += [f"link set {{end}}{{n}} up" for n in range(count - half) for end in "vw"]
subprocess.run(["ip", "-batch", "-"], input="\\n".join(links), text=True, check=True)
ports = [["--", "add-port", f"b{{n % len(bridges)}}", f"in{{n}}", "--", "set", "interface", f"in{{n}}", "type=internal"]
         for n in range(half)]
ports += [["--", "add-port", f"b{{n % len(bridges)}}", f"v{{n}}"] for n in range(count - half)]
run(ports, "ovs-vsctl")
"""


class Row(t.NamedTuple):
    """One hand-over."""

    ports: int
    backend: str
    window_ms: float | None
    complete_ms: float
    gap_ms: float
    lost_in_window: int
    lost: int
    sent: int


def measure(ports: int, options: argparse.Namespace) -> Row:
    """One fresh host with so many ports, handed over under traffic."""
    name = options.name
    with scene.hosts.exclusive(name):
        try:
            stage = scene.open_lab(name, options.backend, 1, options.ovs)
            datapath = "system" if options.backend == "uml" else "netdev"
            stage.populate("--datapath-type", datapath)
            stage.sh(f"python3 - {ports} {datapath} <<'END'\n{FILL.format(bridges=BRIDGES)}\nEND")
            stage.install(options.to)
            with stage.traffic(rate=options.rate) as traffic:
                result = stage.hand_over(strategy="make_before_break")
            losses = scene.measured(traffic)
            marks = json.loads(
                stage.sh("cat $(ls -d /var/lib/ovsops/transactions/*/ | tail -n 1)result.json")
            )["marks"]
            begin, end = (when / 1e6 for when in (min(marks.values()), max(marks.values())))
            lost = lost_between(stage, begin - MARGIN, end + MARGIN)
            return Row(
                ports,
                options.backend,
                result["window_ms"],
                (end - begin) * 1e3,
                losses.gap_ms,
                lost,
                losses.established + losses.new,
                losses.sent,
            )
        finally:
            scene.hosts.down(name)


def lost_between(stage: scene.Scene, begin: float, end: float) -> int:
    """How many packets of the last probe that were sent then did not arrive; in seconds of the host's monotonic clock."""
    data = stage.events()
    whole = list(EVENT.iter_unpack(data[: len(data) // EVENT.size * EVENT.size]))
    arrived = {(stream, number) for kind, stream, number, __ in whole if kind == ARRIVED}
    return sum(
        kind == SENT and begin <= when / 1e9 <= end and (stream, number) not in arrived
        for kind, stream, number, when in whole
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ports", default="10,100,1000,5000")
    parser.add_argument("--backend", default="native", choices=scene.laboratory.BACKENDS)
    parser.add_argument("--from", dest="ovs", default="3.5.0")
    parser.add_argument("--to", default="4.0.0")
    parser.add_argument(
        "--rate", type=int, default=200, help="packets a second, of each of the probe's two streams"
    )
    parser.add_argument("--name", default="ports", help="name of the lab")
    options = parser.parse_args()
    rows = []
    for ports in map(int, options.ports.split(",")):
        say(f"bench: {ports} ports, {options.backend}")
        rows.append(measure(ports, options))
        OUTPUT.parent.mkdir(parents=True, exist_ok=True)
        machine = f"{platform.platform()}, {os.cpu_count()} cores"
        document = {
            "machine": machine,
            "from": options.ovs,
            "to": options.to,
            "rows": [row._asdict() for row in rows],
        }
        OUTPUT.write_text(json.dumps(document, indent=1) + "\n")
    print(
        f"{'ports':>7}{'window, ms':>12}{'all back, ms':>14}{'longest gap, ms':>17}{'lost in window':>16}{'lost':>18}"
    )
    for row in rows:
        window = "none" if row.window_ms is None else f"{row.window_ms:.1f}"
        lost = f"{row.lost} of {row.sent}"
        print(
            f"{row.ports:>7}{window:>12}{row.complete_ms:>14.0f}{row.gap_ms:>17.0f}{row.lost_in_window:>16}{lost:>18}"
        )
    return 0


if __name__ == "__main__":
    program(main)
