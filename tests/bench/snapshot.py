# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a snapshot, a restore and a comparison cost: our engine beside upstream's ovs-save, in one run.

Each works inside the same host (tests/lab/nativehost.py: a Debian root file system in namespaces, the userspace
datapath, no traffic); the two take turns.  ovs-save is timed as the process that it is; our engine, which always
runs inside a process that is there already (the module, the hand-over), as a call, and once more as a Python process
of its own.  The floor is what ovs-vswitchd alone needs: for a snapshot, to answer requests whose answers are dropped;
for a restore, to take the very bytes that we send, encoded before the clock starts, over one connection.
Writes build/bench/snapshot.json and, with matplotlib, build/bench/snapshot.png.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
import time
import typing as t
from pathlib import Path

from tests.lab import images
from tests.lab.images import REPOSITORY, say
from tests.lab.nativehost import NativeHost

OUTPUT = REPOSITORY / "build/bench"
WORKER = Path(__file__).resolve().parent / "snapshot_worker.py"
OURS, UPSTREAM, FLOOR = "ovsops", "ovs-save", "floor"
MANY_BRIDGES = "100x100"
FLOWS_A_FILE = 100_000
# ovs-vswitchd is idle when it takes no more than so many ticks (10 ms) in so many seconds.
IDLE_TICKS, IDLE_FOR = 1, 0.3
MAC = "02:00:00:00:00:01"

# metric -> unit
METRICS = {
    "snapshot": "s",
    "snapshot_engine": "s",
    "snapshot_memory": "MB",
    "restore": "s",
    "restore_engine": "s",
    "stage": "s",
    "commit": "s",
    "verify_engine": "s",
}

# What the table shows: words, tool, metric, what it is compared with (tool, metric), and its floor, a metric too.
FIGURES = (
    ("snapshot", OURS, "snapshot_engine", (UPSTREAM, "snapshot"), "snapshot_engine"),
    ("  as a process of its own", OURS, "snapshot", (UPSTREAM, "snapshot"), "snapshot_engine"),
    ("  floor: ovs-vswitchd alone", FLOOR, "snapshot_engine", (UPSTREAM, "snapshot"), None),
    ("peak memory of the snapshot", OURS, "snapshot_memory", (UPSTREAM, "snapshot_memory"), None),
    ("restore into an empty bridge", OURS, "restore_engine", (UPSTREAM, "restore"), "restore_engine"),
    ("  as a process of its own", OURS, "restore", (UPSTREAM, "restore"), "restore_engine"),
    ("  floor: one connection, encoded before", FLOOR, "restore_engine", (UPSTREAM, "restore"), None),
    ("staging", OURS, "stage", None, "restore_engine"),
    ("commit of what was staged", OURS, "commit", None, "restore_engine"),
    ("verify", OURS, "verify_engine", None, "snapshot_engine"),
)
# (size, tool, metric) -> what must be reached: so many times the floor, unless it has a unit.
TARGETS = {
    ("100000", OURS, "snapshot_engine"): "1.15",
    ("100000", OURS, "restore_engine"): "1.05",
    ("100000", OURS, "commit"): "0.50",
    ("100000", OURS, "verify_engine"): "1.50",
    ("1000000", OURS, "snapshot_memory"): "250 MB",
}


def flows(number: int) -> t.Iterator[str]:
    """A mixture as OVN installs it: classification, port security, ACLs with conntrack, load balancers, DHCP, answers to
    ARP and neighbour discovery, routes, lookups of MAC addresses, tunnels; and what every logical datapath has.

    A public dump of an integration bridge of OVN, 676 flows in 51 tables, has 3.2 fields and 2.2 actions a flow and 110
    characters for them; 34 % only resubmit, 10 % drop, 5 % go to ovn-controller with data.  These have 3.7, 2.2 and 120;
    29 %, 8 %, 8 %.
    """
    for i in range(number):
        a, b, c = i >> 16 & 255, i >> 8 & 255, i & 255
        mac, ip, port = f"02:00:00:{a:02x}:{b:02x}:{c:02x}", f"10.{a}.{b}.{c}", f"reg14={i:#x}"
        path, key, tcp = f"metadata={i % 4096:#x}", f"reg15={i:#x}", i % 60000 + 1
        head, datapath = f"cookie={i:#x},priority={100 + i % 50}", f"metadata={i:#x}"
        yield (
            f"table=0,{head},in_port={i % 60000 + 1},dl_vlan={i // 60000 + 1},actions=load:{c}->NXM_NX_REG13[],"
            f"load:{b}->NXM_NX_REG11[],load:{i:#x}->NXM_NX_REG12[],load:{i % 4096:#x}->OXM_OF_METADATA[],"
            f"load:{i:#x}->NXM_NX_REG14[],resubmit(,8)",
            f"table=8,{head},{port},{path},dl_src={mac},actions=resubmit(,9)",
            f"table=8,{head},{datapath},vlan_tci=0x1000/0x1000,actions=drop",
            f"table=9,{head},ip,{port},{path},dl_src={mac},nw_src={ip},actions=resubmit(,10)",
            f"table=9,{head},icmp6,{port},{path},icmp_type=136,actions=drop",
            f"table=10,{head},{datapath},actions=resubmit(,11)",
            f"table=12,{head},icmp6,{datapath},nw_ttl=255,icmp_type=135,icmp_code=0,actions=resubmit(,13)",
            f"table=13,{head},ct_state=+new-est+trk,{datapath},actions=load:0x1->NXM_NX_XXREG0[103],"
            "load:0x1->NXM_NX_XXREG0[105],resubmit(,14)",
            f"table=14,{head},ip,reg0=0x80/0x80,{port},{path},nw_src={ip},actions=load:0x1->OXM_OF_PKT_REG4[48],resubmit(,15)",
            f"table=16,{head},ip,reg0=0x4/0x4,{datapath},actions=ct(table=17,zone=NXM_NX_REG13[0..15],nat)",
            f"table=17,{head},ct_state=+new+trk,tcp,{path},nw_dst={ip},tp_dst={tcp},"
            f"actions=ct(commit,table=18,zone=NXM_NX_REG13[0..15],nat(dst={ip}:8080))",
            f"table=18,{head},tcp,{path},reg0={i:#x},tp_dst={tcp},actions=group:1",
            f"table=21,{head},ip,{path},nw_dst=10.{b}.{c}.0/24,reg7={i:#x},actions=dec_ttl,load:0->OXM_OF_PKT_REG4[32..47],"
            f"load:{i:#x}->NXM_NX_XXREG0[96..127],mod_dl_src:{MAC},load:{c}->NXM_NX_REG15[],"
            "load:0x1->NXM_NX_REG10[0],resubmit(,22)",
            f"table=22,{head},arp,{path},arp_tpa={ip},arp_op=1,actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],"
            f"mod_dl_src:{mac},load:0x2->NXM_OF_ARP_OP[],move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],"
            f"load:{i:#x}->NXM_NX_ARP_SHA[],move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[],load:{i:#x}->NXM_OF_ARP_SPA[],"
            "move:NXM_NX_REG14[]->NXM_NX_REG15[],load:0x1->NXM_NX_REG10[0],resubmit(,37)",
            f"table=24,{head},icmp6,{path},nw_ttl=255,icmp_type=135,icmp_code=0,nd_target=fd00::{a:x}:{b:x}:{c:x},"
            f"actions=controller(userdata=00.00.00.03.00.00.00.00.00.19.00.10.80.00.08.06.02.00.00.{a:02x}.{b:02x}.{c:02x}.00.00"
            f".00.19.00.18.80.00.34.10.fd.00.00.00.00.00.00.00.00.00.00.{a:02x}.00.{b:02x}.00.{c:02x}.00.1c.00.18.00.30.00.40.00"
            ".00.00.00.00.01.de.10.80.00.2e.10.00.00.00.00.ff.ff.00.10.00.00.23.20.00.0e.ff.f8.20.00.00.00,pause)",
            f"table=26,{head},udp,{port},{path},dl_src={mac},nw_src=0.0.0.0,nw_dst=255.255.255.255,tp_src=68,tp_dst=67,"
            f"actions=controller(userdata=00.00.00.02.00.00.00.00.00.01.de.10.00.00.00.63.0a.{a:02x}.{b:02x}.{c:02x}.33.04.00.00"
            ".0e.10.01.04.ff.ff.ff.00.03.04.0a.00.00.01.36.04.0a.00.00.01,pause),resubmit(,27)",
            f"table=29,{head},{path},dl_dst={mac},actions=load:{i:#x}->NXM_NX_REG15[],resubmit(,37)",
            f"table=35,{head},{key},{path},actions=resubmit(,64)",
            f"table=39,{head},{key},{path},actions=load:{i % 4096:#x}->NXM_NX_TUN_ID[0..23],output:2",
            f"table=45,{head},ct_state=+est-rel+rpl-inv+trk,ct_label=0/0x1,udp6,{key},{path},ipv6_src=fd00:{a:x}:{b:x}:{c:x}::/64,"
            "tp_dst=53,actions=ct(commit,zone=NXM_NX_REG13[0..15],exec(load:0->NXM_NX_CT_LABEL[0])),resubmit(,46)",
            f"table=46,{head},icmp6,{datapath},ipv6_src=fe80::/10,actions=resubmit(,47)",
            f"table=47,{head},ip,{key},{path},dl_dst={mac},actions=resubmit(,48)",
            f"table=64,{head},reg10=0x1/0x1,{key},{path},actions=push:NXM_OF_IN_PORT[],load:0xffff->NXM_OF_IN_PORT[],"
            "resubmit(,65),pop:NXM_OF_IN_PORT[]",
            f"table=65,{head},{key},{path},actions=output:{c + 1}",
        )[i % 24]


def start(version: str) -> NativeHost:
    """A host that runs Open vSwitch and nothing else."""
    host = NativeHost.start("bench", images.root(version), Path(tempfile.mkdtemp(prefix="ovsops-bench-")))
    host.run("service", "openvswitch-switch", "start")
    Path(host.path("/srv/worker.py")).write_text(WORKER.read_text())
    return host


def add_bridge(host: NativeHost, name: str, number: int) -> None:
    """A bridge without ports and with ``number`` flows."""
    settings = ["datapath_type=netdev", "fail_mode=secure"]
    host.run("ovs-vsctl", "--timeout=30", "--", "add-br", name, "--", "set", "bridge", name, *settings)
    host.run("ovs-ofctl", "-O", "OpenFlow15", "add-group", name, "group_id=1,type=select,selection_method=hash,"
             "bucket=weight:1,actions=output:1,bucket=weight:2,actions=output:2")  # fmt: skip
    lines = flows(number)
    left = number
    while left:
        size = min(left, FLOWS_A_FILE)
        with open(host.path("/srv/flows"), "w") as file:
            file.writelines(f"{next(lines)}\n" for __ in range(size))
        host.run("ovs-ofctl", "add-flows", name, "/srv/flows")
        left -= size


def empty(host: NativeHost, names: list[str]) -> None:
    """Delete all flows and groups, and wait until they are freed: ovs-vswitchd does that long after it has answered."""
    for name in names:
        host.run("ovs-ofctl", "-O", "OpenFlow15", "del-groups", name)
        host.run("ovs-ofctl", "del-flows", name)
    before, now = 0, ticks(host)
    while now > before + IDLE_TICKS:
        time.sleep(IDLE_FOR)
        before, now = now, ticks(host)


def ticks(host: NativeHost) -> int:
    """What ovs-vswitchd has taken of the CPU so far, in ticks: utime and stime of proc(5)."""
    pid = Path(host.path("/run/openvswitch/ovs-vswitchd.pid")).read_text().strip()
    return sum(map(int, Path(host.path(f"/proc/{pid}/stat")).read_text().rpartition(")")[2].split()[11:13]))


def work(host: NativeHost, *arguments: str) -> dict[str, float]:
    """Run the worker in the host: metric -> value."""
    # The host's file system is read-only where our modules are; compiled files go where the next call finds them.
    environment = {"PYTHONPATH": "/srv/collections", "PYTHONPYCACHEPREFIX": "/srv/pycache"}
    done = host.run("python3", "/srv/worker.py", *arguments, env=environment)
    return t.cast("dict[str, float]", json.loads(done.stdout.splitlines()[-1]))


class Results:
    """Every value that was measured: (size, tool, metric) -> values."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str, str], list[float]] = {}

    def add(self, size: str, tool: str, found: dict[str, float]) -> None:
        """Remember one repetition."""
        for metric, value in found.items():
            self.values.setdefault((size, tool, metric), []).append(value)

    def median(self, size: str, tool: str, metric: str) -> float | None:
        """The median, None if there is no value."""
        values = self.values.get((size, tool, metric))
        return statistics.median(values) if values else None

    def ratios(self, size: str, *pair: tuple[str, str] | None) -> tuple[float, ...]:
        """How many times the second of two (tool, metric) the first is: by the medians, and by the best of each."""
        found = [values for each in pair if each and (values := self.values.get((size, *each)))]
        if len(found) < 2:
            return ()
        return tuple(pick(found[0]) / pick(found[1]) for pick in (statistics.median, min))

    def rows(self) -> list[dict[str, t.Any]]:
        """One row for each case."""
        return [
            {
                "size": size,
                "tool": tool,
                "metric": metric,
                "value": statistics.median(values),
                "unit": METRICS[metric],
                "repetitions": len(values),
                "min": min(values),
                "median": statistics.median(values),
                "max": max(values),
            }
            for (size, tool, metric), values in self.values.items()
        ]


def measure(host: NativeHost, size: str, names: list[str], repetitions: int, results: Results) -> None:
    """Take turns: ovs-save, we; upstream's restore script, we, the floor; each restore into empty bridges."""
    for repetition in range(repetitions):
        say(f"{size}: repetition {repetition + 1} of {repetitions}")
        results.add(size, UPSTREAM, work(host, "ovs-save", *names))
        # In turns before and behind the other: what comes first pays for what was done before.
        for tool, operation in ((OURS, "take"), (FLOOR, "floor-snapshot"))[:: -1 if repetition % 2 else 1]:
            results.add(size, tool, work(host, operation, *names))
        results.add(size, OURS, work(host, "verify", *names))
        empty(host, names)
        results.add(size, UPSTREAM, work(host, "ovs-restore"))
        empty(host, names)
        results.add(size, OURS, work(host, "restore", *names))
        results.add(size, OURS, work(host, "verify", *names))
        empty(host, names)
        results.add(size, OURS, work(host, "stage-commit", *names))
        empty(host, names)
        results.add(size, FLOOR, work(host, "floor", *names))
        results.add(size, FLOOR, work(host, "verify", *names) and {})


def table(results: Results, sizes: list[str]) -> str:
    """The measured figures for people: beside ovs-save, and beside the floor with what must be reached."""
    lines = [
        f"{'':9}  {'':40}{'':12}{'':12}{'of ovs-save':>16}  {'of the floor':>16}",
        f"{'flows':>9}  {'what':40}{'ovs-save':>12}{'ovsops':>12}{'median':>8}{'best':>8}  {'median':>8}{'best':>8}{'must':>8}",
    ]
    for size in sizes:
        for what, tool, metric, compared, floor in FIGURES:
            value = results.median(size, tool, metric)
            if value is None:
                continue
            unit = METRICS[metric]
            other = results.median(size, *compared) if compared else None
            cells = [f"{other:.2f} {unit}" if other is not None else "", f"{value:.2f} {unit}"]
            ratios = [f"{ratio:.1f}x" for ratio in results.ratios(size, compared, (tool, metric))]
            floors = [
                f"{ratio:.2f}"
                for ratio in results.ratios(size, (tool, metric), (FLOOR, floor) if floor else None)
            ]
            lines.append(
                f"{size:>9}  {what:40}{cells[0]:>12}{cells[1]:>12}"
                f"{''.join(f'{cell:>8}' for cell in ratios or ('', ''))}  "
                f"{''.join(f'{cell:>8}' for cell in floors or ('', ''))}{TARGETS.get((size, tool, metric), ''):>8}"
            )
    return "\n".join(lines)


def plot(results: Results, sizes: list[str], path: Path) -> None:
    """Cost against the number of flows, both axes logarithmic."""
    try:
        import matplotlib as mpl
    except ImportError:
        say("matplotlib is not installed: no picture")
        return
    mpl.use("Agg")
    from matplotlib import pyplot

    numbers = [size for size in sizes if size.isdigit()]
    if not numbers:
        return
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5))
    wanted = {
        "Time (s)": [
            (UPSTREAM, "snapshot"), (OURS, "snapshot_engine"), (UPSTREAM, "restore"), (OURS, "restore_engine"),
            (FLOOR, "restore_engine"), (OURS, "commit"), (OURS, "verify_engine"),
        ],
        "Peak memory (MB)": [(UPSTREAM, "snapshot_memory"), (OURS, "snapshot_memory")],
    }  # fmt: skip
    for axis, (label, lines) in zip(axes, wanted.items()):
        for tool, metric in lines:
            points = [(int(size), results.median(size, tool, metric)) for size in numbers]
            points = [point for point in points if point[1] is not None]
            style = {UPSTREAM: "--", OURS: "-", FLOOR: ":"}[tool]
            axis.loglog(*zip(*points), style, marker="o", label=f"{tool}: {metric.replace('_', ' ')}")
        axis.set_xlabel("Flows on one bridge")
        axis.set_ylabel(label)
        axis.grid(visible=True, which="both", alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", default=f"1000,10000,100000,1000000,{MANY_BRIDGES}", help="what to measure"
    )
    parser.add_argument(
        "--repetitions", type=int, default=5, help="of each; the million is measured at most twice"
    )
    parser.add_argument("--version", default="3.5.0", help="Open vSwitch: 2.15.0, 3.1.0, 3.5.0 or 4.0.0")
    arguments = parser.parse_args()
    # Ended by a signal, it still ends its host.
    signal.signal(signal.SIGTERM, lambda *__: sys.exit("ended"))
    sizes, results = arguments.sizes.split(","), Results()
    load = os.getloadavg()[0]
    for size in sizes:
        host = start(arguments.version)
        try:
            names = [f"b{number}" for number in range(100)] if size == MANY_BRIDGES else ["br0"]
            say(f"{size}: filling {len(names)} bridge(s)")
            for name in names:
                add_bridge(host, name, 100 if size == MANY_BRIDGES else int(size))
            measure(
                host,
                size,
                names,
                min(2, arguments.repetitions) if size == "1000000" else arguments.repetitions,
                results,
            )
        finally:
            host.stop()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    machine = {
        "cpus": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
        "openvswitch": arguments.version,
        "datapath": "userspace (netdev)",
        "load_before": load,
        "load_after": os.getloadavg()[0],
    }
    (OUTPUT / "snapshot.json").write_text(
        json.dumps({"machine": machine, "rows": results.rows()}, indent=1) + "\n"
    )
    plot(results, sizes, OUTPUT / "snapshot.png")
    print(table(results, sizes))
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(
        "Medians; 'best' is the ratio of the shortest times: what else the machine does only adds to a time"
    )
    print(f"Every row with its spread is in {OUTPUT / 'snapshot.json'}")


if __name__ == "__main__":
    if shutil.which("unshare") is None or os.geteuid() != 0:
        sys.exit("This benchmark needs root and unshare(1): it starts Open vSwitch in namespaces of its own")
    main()
