# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reload of the kernel module does to traffic and to internal ports: ours beside upstream's, in turns.

For each case and repetition a fresh host (User Mode Linux) has 10,000 flows, internal ports with all that can be on them
(tests/harness/furnished.py), and another module on the disk than the one that is loaded. One probe sends from device to
device, another one to an internal port, at the same rate. Upstream's way is ``ovs-systemd-reload force-reload-kmod``; what it
did not do within LIMIT seconds is ended. ``--tools "ovsops;ovsops without bypass"`` shows what the bypass is for.
Writes build/bench/kmod.json.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import statistics
import typing as t

from tests.bench.rows import Row, merged, row
from tests.harness import furnished, probe, runs
from tests.harness.waiting import SETTLED
from tests.lab import hosts, images, modules
from tests.lab import lab as laboratory
from tests.lab.images import REPOSITORY, LabError, say

OUTPUT = REPOSITORY / "build/bench"
FLOWS, VERSION = 10_000, "3.5.0"
OURS, WITHOUT, UPSTREAM = "ovsops", "ovsops without bypass", "ovs-systemd-reload"
# How long the traffic goes on afterwards, and how long upstream's script may take, in seconds.
AFTERWARDS, LIMIT = 8.0, 120
# Where the second probe sends to.
INTERNAL = "10.0.0.9"
TARGET = f"""
ovs-vsctl --may-exist add-port br0 t0 -- set interface t0 type=internal ofport_request=9
ip link set t0 up
ip address add {INTERNAL}/24 dev t0
ovs-ofctl -O OpenFlow15 add-flow br0 table=0,priority=20,in_port=1,ip,nw_dst={INTERNAL},actions=output:9
ip -n h1 neighbour replace {INTERNAL} lladdr $(cat /sys/class/net/t0/address) dev e0
"""
METRICS: dict[str, tuple[str, t.Callable[[Row], float]]] = {
    "lost_port_to_port": ("packets", lambda found: found["through"]["established"]["lost"]),
    "sent_port_to_port": ("packets", lambda found: found["through"]["established"]["sent"]),
    "lost_internal": ("packets", lambda found: found["internal"]["established"]["lost"]),
    "sent_internal": ("packets", lambda found: found["internal"]["established"]["sent"]),
    "lost_new": ("packets", lambda found: found["through"]["new_flows"]["lost"]),
    "sent_new": ("packets", lambda found: found["through"]["new_flows"]["sent"]),
    "duplicates": ("packets", lambda found: sum(
        found[probe][stream]["duplicated"] for probe in ("through", "internal") for stream in ("established", "new_flows")
    )),
    "outage_port_to_port_ms": ("ms", lambda found: found["through"]["established"]["longest_outage_ms"]),
    "outage_internal_ms": ("ms", lambda found: found["internal"]["established"]["longest_outage_ms"]),
    "outage_new_ms": ("ms", lambda found: found["through"]["new_flows"]["longest_outage_ms"]),
    "restored": ("lines", lambda found: found["restored"]),
    "restored_of": ("lines", lambda found: found["of"]),
}  # fmt: skip


class Case(t.NamedTuple):
    """What is measured: internal ports, and packets a second of each established flow."""

    ports: int
    rate: int


def reload_ours(lab: hosts.Lab, host: hosts.Host, **options: str) -> None:
    """The module of the collection, as it is by default but for ``options``."""
    result = runs.module(lab, host, "ovs_kmod_reload", options)
    if result.get("state") != "confirmed":
        raise LabError(f"the module was not reloaded: {result}")


def reload_upstream(lab: hosts.Lab, host: hosts.Host) -> None:
    """Upstream's script for hosts with systemd."""
    script = "/usr/share/openvswitch/scripts/ovs-systemd-reload"
    hosts.script(lab, host, f"timeout {LIMIT} {script} force-reload-kmod || echo it ended with $?")


TOOLS: dict[str, t.Callable[[hosts.Lab, hosts.Host], None]] = {
    OURS: reload_ours,
    WITHOUT: functools.partial(reload_ours, bypass="no"),
    UPSTREAM: reload_upstream,
}


def measure(tool: str, case: Case) -> Row:
    """One fresh host and one reload under traffic."""
    name = "bench"
    with hosts.exclusive(name):
        try:
            lab = laboratory.up(name, "uml", 1, VERSION)
            (host,) = lab.hosts
            modules.install(lab, host, modules.SHIPPED)
            modules.reload(lab, host)
            laboratory.populate(lab, ["--flows", str(FLOWS), "--no-meter"])
            hosts.script(lab, host, TARGET + furnished.script(case.ports) + SETTLED)
            before = furnished.portrait(lab, host)
            runs.module(lab, host, "ovs_kmod_reload", {"state": "kept"})
            modules.install(lab, host, "rebuilt")
            there: dict[str, t.Any] = {"address": INTERNAL, "receiver_namespace": "", "rate": case.rate}
            with (
                probe.probing(lab, host, AFTERWARDS, rate=case.rate) as through,
                probe.probing(lab, host, 0, "internal", **there) as internal,
            ):
                TOOLS[tool](lab, host)
            lost = before - furnished.portrait(lab, host)
            return {
                "through": through.result, "internal": internal.result,
                "restored": len(before) - len(lost), "of": len(before), "not restored": sorted(lost),
            }  # fmt: skip
        finally:
            hosts.down(name)


def rows(tool: str, case: Case, repeated: list[Row]) -> list[Row]:
    """A row for each metric of a case."""
    about = {"size": FLOWS, "tool": tool, "ports": case.ports, "rate": case.rate}
    return [
        row(about, metric, unit, [pick(found) for found in repeated])
        for metric, (unit, pick) in METRICS.items()
    ]


def _case(each: Row) -> tuple[t.Any, ...]:
    return each["ports"], each["rate"], each["tool"]


def table(found: list[Row]) -> str:
    """The rows as a person reads them: the worst repetition of what was lost and restored, the median of the outages."""
    cases: dict[tuple[t.Any, ...], dict[str, Row]] = {}
    for each in found:
        cases.setdefault(_case(each), {})[each["metric"]] = each
    lines = [
        f"{'ports':>5}{'rate':>6} {'tool':22}{'lost: port to port':>20}{'internal':>16}{'new':>14}{'dup':>5}"
        f"{'outage, ms: ports':>19}{'internal':>10}{'new':>8}{'restored':>16}"
    ]
    for (ports, rate, tool), metric in sorted(cases.items(), key=lambda item: item[0]):

        def of(name: str, metric: dict[str, Row] = metric) -> str:
            return f"{metric[f'lost_{name}']['max']:g} of {metric[f'sent_{name}']['median']:g}"

        outages = [
            metric[f"outage_{name}_ms"]["median"] if f"outage_{name}_ms" in metric else 0
            for name in ("port_to_port", "internal", "new")
        ]
        pairs = zip(metric["restored"]["values"], metric["restored_of"]["values"])
        restored = "{:g} of {:g}".format(*min(pairs, key=lambda pair: pair[0] - pair[1]))
        lines.append(
            f"{ports:>5}{rate:>6} {tool:22}{of('port_to_port'):>20}{of('internal'):>16}{of('new'):>14}"
            f"{metric['duplicates']['max']:>5g}{outages[0]:>19.0f}{outages[1]:>10.0f}{outages[2]:>8.0f}{restored:>16}"
        )
    return "\n".join(lines)


def ratios(found: list[Row]) -> str:
    """Our outages as a part of upstream's, by the medians, case by case."""
    values = {(*_case(each), each["metric"]): statistics.median(each["values"]) for each in found}
    said = []
    for (ports, rate, tool, metric), value in sorted(values.items()):
        theirs = values.get((ports, rate, UPSTREAM, metric))
        if tool == OURS and theirs and metric in ("outage_internal_ms", "outage_new_ms"):
            said.append(f"{ports} ports, {rate}/s, {metric}: {value / theirs:.3f} of upstream's")
    return "\n".join(said)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ports", default="1,50,200")
    parser.add_argument("--rates", default="200,1000")
    parser.add_argument("--tools", default=f"{OURS};{UPSTREAM}")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    path = OUTPUT / "kmod.json"
    document: Row = {}
    for ports in map(int, options.ports.split(",")):
        for rate in map(int, options.rates.split(",")):
            case, results = Case(ports, rate), {tool: list[Row]() for tool in options.tools.split(";")}
            for repetition in range(options.repetitions):
                for tool, repeated in results.items():
                    say(
                        f"bench: {tool}, {ports} ports, {rate}/s, repetition {repetition + 1} of {options.repetitions}"
                    )
                    repeated.append(measure(tool, case))
                    say(f"bench: not restored: {repeated[-1]['not restored'][:5]}")
            document = merged(path, {
                "machine": f"{platform.platform()}, {os.cpu_count()} cores", "kernel": images.kernel().name,
                "openvswitch": VERSION,
                "rows": [each for tool, repeated in results.items() for each in rows(tool, case, repeated)],
            }, _case, _case)  # fmt: skip
            path.write_text(json.dumps(document, indent=1) + "\n")
    print(table(document["rows"]))
    print(ratios(document["rows"]))
    return 0


if __name__ == "__main__":
    images.program(main)
