# Copyright (c) 2026, ovsops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the number of ports does to a hand-over, and to ``ovs-ctl restart`` beside it: two rows for each number, on fresh hosts.

Half of the ports are internal ports, half are veth, on ten bridges beside those that carry the probe's traffic.  A row has the
longest time in which the receiver heard nothing, and the packets that were lost; that of a hand-over has the time in which
nobody forwards, the time until the last port is back, and the packets that were lost in the switch-over, too.
Writes build/bench/ports.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import typing as t

from tests.bench.interruption import ovs_ctl_restart
from tests.lab.images import REPOSITORY, program, say
from tests.scenarios import crowded, scene

OUTPUT = REPOSITORY / "build/bench/ports.json"
BRIDGES = 10


class Row(t.NamedTuple):
    """One way, on a fresh host."""

    tool: str
    ports: int
    backend: str
    window_ms: float | None
    complete_ms: float | None
    gap_ms: float
    lost_in_window: int | None
    lost: int
    sent: int


def measure(tool: str, ports: int, options: argparse.Namespace) -> Row:
    """One fresh host with so many ports, upgraded under traffic."""
    name = options.name
    with scene.hosts.exclusive(name):
        try:
            stage = scene.open_lab(name, options.backend, 1, options.ovs)
            datapath = "system" if options.backend == "uml" else "netdev"
            stage.populate("--datapath-type", datapath)
            crowded.fill(stage, ports // 2, min(ports, BRIDGES), ports - ports // 2, datapath)
            with stage.traffic(rate=options.rate) as traffic:
                own = TOOLS[tool](stage, options.to)
            losses = scene.measured(traffic)
            inside = scene.lost_in_switch_over(stage) if own else None
            lost = losses.established + losses.new
            return Row(
                tool,
                ports,
                options.backend,
                own[0] if own else None,
                own[1] if own else None,
                losses.gap_ms,
                inside,
                lost,
                losses.sent,
            )
        finally:
            scene.hosts.down(name)


def hand_over(stage: scene.Scene, version: str) -> tuple[float, float]:
    """For how long nobody forwards, and until the last port is back, in ms."""
    stage.install(version)
    result = stage.hand_over(strategy="make_before_break")
    begin, end = scene.switch_over(stage)
    return result["window_ms"], (end - begin) * 1e3


def restart(stage: scene.Scene, version: str) -> None:
    """Upstream's way."""
    ovs_ctl_restart(stage.lab, version)


TOOLS: dict[str, t.Callable[[scene.Scene, str], tuple[float, float] | None]] = {
    "ovs-ctl restart": restart,
    "make_before_break": hand_over,
}


def shown(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)


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
    for ports, tool in itertools.product(map(int, options.ports.split(",")), TOOLS):
        say(f"bench: {ports} ports, {tool}, {options.backend}")
        rows.append(measure(tool, ports, options))
        OUTPUT.parent.mkdir(parents=True, exist_ok=True)
        machine = f"{platform.platform()}, {os.cpu_count()} cores"
        document = {
            "machine": machine,
            "from": options.ovs,
            "to": options.to,
            "rows": [row._asdict() for row in rows],
        }
        OUTPUT.write_text(json.dumps(document, indent=1) + "\n")
    heads = ("ports", "window, ms", "all back, ms", "longest gap, ms", "lost in window", "lost")
    print("{:>7} {:18}{:>12}{:>14}{:>17}{:>16}{:>18}".format(heads[0], "way", *heads[1:]))
    for row in rows:
        window, back, inside = map(shown, (row.window_ms, row.complete_ms, row.lost_in_window))
        lost = f"{row.lost} of {row.sent}"
        print(f"{row.ports:>7} {row.tool:18}{window:>12}{back:>14}{row.gap_ms:>17.0f}{inside:>16}{lost:>18}")
    return 0


if __name__ == "__main__":
    program(main)
