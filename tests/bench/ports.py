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
import typing as t

from tests.lab.images import REPOSITORY, program, say
from tests.scenarios import crowded, scene

OUTPUT = REPOSITORY / "build/bench/ports.json"
BRIDGES = 10


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
            crowded.fill(stage, ports // 2, min(ports, BRIDGES), ports - ports // 2, datapath)
            stage.install(options.to)
            with stage.traffic(rate=options.rate) as traffic:
                result = stage.hand_over(strategy="make_before_break")
            losses = scene.measured(traffic)
            begin, end = scene.switch_over(stage)
            return Row(
                ports,
                options.backend,
                result["window_ms"],
                (end - begin) * 1e3,
                losses.gap_ms,
                scene.lost_in_switch_over(stage),
                losses.established + losses.new,
                losses.sent,
            )
        finally:
            scene.hosts.down(name)


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
