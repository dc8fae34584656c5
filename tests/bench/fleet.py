# Copyright (c) 2026, ovsops contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbook costs with many hosts: seconds, CPU and memory of the controller, tasks.

For each case fresh native hosts, loaded with flows, are upgraded by the playbook as users run it, over SSH. Hosts and controller
share this machine, so its CPU is measured apart: of the controller, and of everything else, which are the hosts. Writes
build/bench/fleet.json; fleet_model.py tells what that means for a thousand hosts. Cases of earlier runs with the same versions on
the same machine stay in the file, so that it can be done in parts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import subprocess
import threading
import time
import typing as t
from pathlib import Path

from tests.bench import fleet_model
from tests.bench.rows import Row, merged, row
from tests.harness import runs
from tests.lab import hosts, images
from tests.lab import lab as laboratory
from tests.lab.images import REPOSITORY, LabError, program, say

OUTPUT = REPOSITORY / "build/bench/fleet.json"
# How often the memory of the controller is looked at, in seconds.
EVERY = 1.0
MB = 1 << 20
UNITS = {
    "elapsed": "s",
    "controller_cpu": "s",
    "main_cpu": "s",
    "hosts_cpu": "s",
    "memory": "MB",
    "results": "task results",
    "lines": "lines",
}


class Case(t.NamedTuple):
    """So many hosts, in such batches, by a controller with so many forks."""

    size: int
    forks: int
    serial: str


# One host; the canary and the rest, as by default; all in one batch; fewer forks than hosts.
CASES = [
    Case(1, 50, "1"),
    Case(5, 50, "1,100%"),
    Case(10, 50, "1,100%"),
    Case(25, 50, "1,100%"),
    Case(50, 50, "1,100%"),
    Case(50, 50, "100%"),
    Case(50, 10, "1,100%"),
    Case(50, 50, "1,5,25%"),
]


# Those that differ in nothing but their size.
USUAL = CASES[:5]
# What is asked of the model: hosts, forks, cores of a controller, slices that run side by side on a controller each.
LARGE = [
    (1_000, 50, 4, 1),
    (1_000, 50, 16, 1),
    (10_000, 50, 16, 1),
    (10_000, 50, 16, 10),
    (10_000, 100, 16, 20),
]
# How far the model may be off at what was measured.
CLOSE = 0.15


def descendants(pid: int) -> list[int]:
    """``pid`` and all below it, as far as they are there."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                parent = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1]
                children.setdefault(int(parent), []).append(int(name))
    found = [pid]
    for each in found:  # grows meanwhile
        found += children.get(each, [])
    return found


def memory(pid: int) -> float:
    """What ``pid`` and all below it have to themselves and share, in bytes (Pss of proc_pid_smaps_rollup(5))."""
    total = 0
    for each in descendants(pid):
        with contextlib.suppress(OSError):
            rollup = Path(f"/proc/{each}/smaps_rollup").read_text()
            total += sum(int(size) << 10 for size in re.findall(r"^Pss: +(\d+) kB", rollup, re.MULTILINE))
    return total


def own_cpu(pid: int) -> float:
    """CPU of ``pid`` alone, in seconds (fields 14 and 15 of proc_pid_stat(5)); 0 when it is gone."""
    with contextlib.suppress(OSError):
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return 0.0


def machine_cpu() -> float:
    """CPU that this machine has used since its start, in seconds: but for idling and waiting (proc_stat(5))."""
    ticks = list(map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:8]))
    idle, waiting = 3, 4
    return (sum(ticks) - ticks[idle] - ticks[waiting]) / os.sysconf("SC_CLK_TCK")


def controlled(argv: t.Sequence[str], output: Path) -> dict[str, float]:
    """Run ansible-playbook to its end and say what it took; LabError if it fails."""
    peak, main = 0.0, 0.0
    before, began = machine_cpu(), time.monotonic()
    with output.open("w") as file:
        process = subprocess.Popen(
            argv, env=runs.environment(), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        )
    over = threading.Event()

    def watch() -> None:
        nonlocal peak, main
        while not over.wait(EVERY):
            peak, main = max(peak, memory(process.pid)), max(main, own_cpu(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    __, status, usage = os.wait4(process.pid, 0)
    elapsed = time.monotonic() - began
    over.set()
    watcher.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    said = output.read_text()
    if process.returncode:
        raise LabError(f"the playbook failed:\n{said[-3000:]}")
    own = usage.ru_utime + usage.ru_stime
    return {
        "elapsed": elapsed,
        "controller_cpu": own,
        "main_cpu": main,
        "hosts_cpu": machine_cpu() - before - own,
        "memory": peak / MB,
        "results": float(sum(map(int, re.findall(r"(?:ok|skipped|failed|rescued|ignored)=(\d+)", said)))),
        "lines": float(said.count("\n")),
    }


def measure(case: Case, options: argparse.Namespace) -> dict[str, float]:
    """Fresh hosts, one rollout."""
    name = "fleet"
    with hosts.exclusive(name):
        try:
            lab = laboratory.up(name, "native", case.size, options.ovs)
            laboratory.populate(lab, ["--flows", str(options.flows), "--datapath-type", "netdev"])
            argv = runs.playbook_argv(
                [lab.inventory], runs.prefixed(options.to, {"serial": case.serial}), f"--forks={case.forks}"
            )
            return controlled(argv, lab.folder / "playbook.log")
        finally:
            hosts.down(name)


def rows(case: Case, repeated: t.Sequence[t.Mapping[str, float]]) -> list[Row]:
    """One row for each metric."""
    named = {"tool": "ovsops", "size": case.size, "forks": case.forks, "serial": case.serial}
    return [row(named, metric, unit, [each[metric] for each in repeated]) for metric, unit in UNITS.items()]


def _case(each: Row) -> tuple[t.Any, ...]:
    return each["size"], each["forks"], each["serial"]


def costs_of(found: list[Row]) -> dict[Case, dict[str, float]]:
    """The median of each metric, by case."""
    cases: dict[Case, dict[str, float]] = {}
    for each in found:
        cases.setdefault(Case(*_case(each)), {})[each["metric"]] = each["value"]
    return cases


def table(cases: t.Mapping[Case, t.Mapping[str, float]]) -> str:
    """What was measured, as a person reads it."""
    columns = ("seconds", "controller CPU", "of these main", "hosts' CPU", "MB", "results", "lines")
    lines = [f"{'hosts':>5}{'forks':>7}  {'batches':12}" + "".join(f"{name:>16}" for name in columns)]
    for (size, forks, serial), cost in cases.items():
        values = (cost[name] for name in ("elapsed", "controller_cpu", "main_cpu", "hosts_cpu", "memory"))
        counts = (cost["results"] / size, cost["lines"])
        lines.append(
            f"{size:>5}{forks:>7}  {serial:12}" + "".join(f"{value:>16.1f}" for value in (*values, *counts))
        )
    return "\n".join(lines)


def foreseen(cases: t.Mapping[Case, t.Mapping[str, float]]) -> tuple[str, float]:
    """How far the model is off at each case, and what it says of large fleets; and the largest deviation, as a share."""
    usual = [case for case in cases if case in USUAL]
    names = ("elapsed", "controller_cpu", "main_cpu", "hosts_cpu")
    costs = fleet_model.fit(
        [fleet_model.Point(case.size, *(cases[case][name] for name in names)) for case in usual]
    )
    lines = [
        f"a host costs the controller {costs.controller:.1f} s of CPU, {costs.main:.2f} of these of its one main process, "
        f"and itself {costs.host:.1f} s"
    ]
    worst = 0.0
    for case, measured in cases.items():
        seconds = fleet_model.seconds(
            costs, case.size, case.serial, case.forks, os.cpu_count() or 1, shared=True
        )
        off = seconds / measured["elapsed"] - 1
        worst = max(worst, abs(off))
        took = f"{measured['elapsed']:.0f} s, model {seconds:.0f} s ({off:+.0%})"
        lines.append(f"{case.size:>6} hosts, {case.forks} forks, batches {case.serial}: {took}")
    for size, forks, cores, slices in LARGE:
        seconds = fleet_model.seconds(costs, size // slices, "1,25%,100%", forks, cores)
        how = f"{slices} controllers with {cores} cores and {forks} forks each"
        lines.append(f"{size:>6} hosts on machines of their own, {how}: {seconds / 60:.0f} minutes")
    return "\n".join(lines), worst


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="ovs", default="3.5.0", choices=images.OVS_SUITES)
    parser.add_argument("--to", default="4.0.0", choices=images.OVS_SUITES)
    parser.add_argument("--sizes", help="those of the usual cases that have so many hosts, as in 1,5")
    parser.add_argument("--flows", type=int, default=200)
    parser.add_argument("--repetitions", type=int, default=1)
    options = parser.parse_args()
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    wanted = (
        [int(size) for size in options.sizes.split(",")] if options.sizes else [case.size for case in CASES]
    )
    document: dict[str, t.Any] = {}
    for case in CASES:
        if case.size in wanted:
            say(f"bench: {case.size} hosts, {case.forks} forks, batches {case.serial}")
            repeated = [measure(case, options) for __ in range(options.repetitions)]
            document = merged(OUTPUT, {
                "machine": f"{platform.platform()}, {os.cpu_count()} cores", "flows": options.flows,
                "from": options.ovs, "to": options.to, "rows": rows(case, repeated),
            }, _case, _case)  # fmt: skip
            OUTPUT.write_text(json.dumps(document, indent=1) + "\n")
    cases = costs_of(document["rows"])
    print(table(cases))
    if len(set(cases) & set(USUAL)) < 2 or USUAL[0] not in cases:
        return 0
    words, worst = foreseen(cases)
    print(words)
    return int(worst > CLOSE)


if __name__ == "__main__":
    program(main)
