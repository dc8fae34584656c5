# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole story once: lab hosts on an old version, traffic, the playbook over SSH, a table, a RESULT line."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import typing as t

from tests.harness import probe, runs
from tests.lab import hosts, images
from tests.lab import lab as laboratory
from tests.lab.images import say

COUNTED = ("flows", "groups", "meters")


def upgrade(lab: hosts.Lab, to: str, strategy: str) -> int:
    """Run the playbook against the lab; every host leaves its result in the lab's report folder."""
    report = lab.folder / "report"
    report.mkdir()
    variables = {"strategy": strategy, "probe": probe.ENDPOINTS, "report_dir": str(report)}
    argv = runs.playbook_argv([lab.inventory], runs.prefixed(to, variables))
    colour = runs.environment(ANSIBLE_FORCE_COLOR="1" if sys.stdout.isatty() else "0")
    return subprocess.call(argv, stdin=subprocess.DEVNULL, env=colour)


def results(lab: hosts.Lab) -> list[dict[str, t.Any]]:
    """What the hosts reported, in the lab's order; a host that reported nothing has failed."""
    found = []
    for host in lab.hosts:
        path = lab.folder / "report" / f"{host.name}.json"
        nothing = {"host": host.name, "outcome": "failed", "failure": "no result came back"}
        found.append(json.loads(path.read_text()) if path.exists() else nothing)
    return found


def kept(result: dict[str, t.Any]) -> bool:
    """Whether a host was upgraded with everything it had."""
    return (
        result["outcome"] == "upgraded"
        and result["verified"] is True
        and bool(result["before"] == result["after"])
    )


def row(result: dict[str, t.Any]) -> dict[str, t.Any]:
    """One host's line of the table and of RESULT."""
    traffic = result.get("traffic") or {}
    established, new = (traffic.get(kind) or {} for kind in ("established", "new_flows"))
    line: dict[str, t.Any] = {
        name: result.get(name) for name in ("host", "outcome", "from", "to", "strategy")
    }
    for kind in COUNTED:
        for when in ("before", "after"):
            line[f"{kind}_{when}"] = (result.get(when) or {}).get(kind)
    line |= {
        "sent_established": established.get("sent"),
        "lost_established": established.get("lost"),
        "sent_new": new.get("sent"),
        "lost_new": new.get("lost"),
        "duplicated": sum(stream.get("duplicated", 0) for stream in (established, new)) if traffic else None,
        "longest_gap_ms": max((s.get("longest_gap_ms") or 0 for s in (established, new)), default=None)
        if traffic
        else None,
        "verified": result.get("verified", False),
        "not_carried": result.get("not_carried", []),
        "failure": result.get("failure", ""),
    }
    return line


def table(rows: list[dict[str, t.Any]]) -> str:
    """What a person reads."""
    head = (
        "host",
        "version",
        "strategy",
        "flows",
        "groups",
        "meters",
        "lost established",
        "lost new",
        "longest gap",
    )
    body = [
        (
            line["host"],
            f"{line['from']} → {line['to']}",
            line["strategy"] or "-",
            *(f"{line[f'{kind}_before']} → {line[f'{kind}_after']}" for kind in COUNTED),
            f"{line['lost_established']} of {line['sent_established']}",
            f"{line['lost_new']} of {line['sent_new']}",
            f"{line['longest_gap_ms']} ms",
        )
        for line in rows
    ]
    widths = [max(len(cells[n]) for cells in [head, *body]) for n in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths)) for cells in [head, *body]]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def summary(rows: list[dict[str, t.Any]], options: argparse.Namespace, good: bool) -> dict[str, t.Any]:
    """RESULT: sums over the hosts, and the hosts themselves."""

    def total(name: str) -> int | None:
        values = [line[name] for line in rows]
        return None if None in values else sum(values)

    summed = [f"{kind}_{when}" for kind in COUNTED for when in ("before", "after")]
    gaps = [line["longest_gap_ms"] for line in rows]
    return {
        "hosts": len(rows),
        "from": options.ovs,
        "to": options.to,
        "strategy": "+".join(sorted({line["strategy"] or "none" for line in rows})),
        **{
            name: total(name)
            for name in (
                *summed,
                "sent_established",
                "lost_established",
                "sent_new",
                "lost_new",
                "duplicated",
            )
        },
        "longest_gap_ms": None if None in gaps else max(gaps),
        "all_kept": good,
        "per_host": rows,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--from", dest="ovs", default="3.5.0", choices=images.OVS_SUITES)
    parser.add_argument("--to", default="4.0.0", choices=images.OVS_SUITES)
    parser.add_argument("--flows", type=int, default=2000, help="flows on br0 of each host")
    parser.add_argument("--strategy", default="auto")
    parser.add_argument("--backend", default="uml", choices=laboratory.BACKENDS)
    parser.add_argument("--keep", action="store_true", help="leave the hosts running, to look around")
    options = parser.parse_args()
    name = "demo"
    with hosts.exclusive(name):
        try:
            lab = laboratory.up(name, options.backend, options.hosts, options.ovs)
            laboratory.populate(lab, ["--flows", str(options.flows)])
            code = upgrade(lab, options.to, options.strategy)
            found = results(lab)
        finally:
            if options.keep:
                say("the hosts go on running: 'tests/tools/lab --name demo ssh host1', and 'down' ends them")
            else:
                hosts.down(name)
    rows = [row(result) for result in found]
    good = code == 0 and all(kept(result) for result in found)
    print("\n" + table(rows))
    for line in rows:
        if line["failure"]:
            print(f"{line['host']}: {line['failure']}")
    print(("Everything was kept." if good else "NOT everything was kept.") + f" Ansible ended with {code}.")
    print("RESULT " + json.dumps(summary(rows, options, good)))
    return 0 if good else 1


if __name__ == "__main__":
    images.program(main)
