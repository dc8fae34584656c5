# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an upgrade does to traffic: our strategies beside what users have today, on the same lab hosts.

For each size, method and repetition a fresh host is started on the old version and loaded with flows; the probe
sends one established flow and a stream of new flows while the method upgrades the host to the new version; the probe
goes on for a while afterwards. Writes build/bench/interruption.json and, with matplotlib, a picture per method.

Without --methods it measures all of CASES: about three hours. Cases of earlier runs with the same versions on the same
machine stay in the file, so that it can be done in parts.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import platform
import re
import typing as t

from tests.bench.rows import Row, merged, row
from tests.harness import probe, runs
from tests.lab import hosts, images
from tests.lab import lab as laboratory
from tests.lab.images import REPOSITORY, LabError, say
from tests.scenarios import networks, protocols, tracked
from tests.scenarios import ovn as ovn_scenarios
from tests.scenarios.scene import Scene

OUTPUT = REPOSITORY / "build/bench"
# How long the traffic goes on after an upgrade, in seconds: longer than any of the restarts after it takes.
AFTERWARDS = 8.0
STREAMS = ("established", "new_flows")
METRICS: dict[str, tuple[str, t.Callable[[dict[str, t.Any]], float]]] = {
    "lost_established": ("packets", lambda r: r["established"]["lost"]),
    "lost_new": ("packets", lambda r: r["new_flows"]["lost"]),
    "duplicates": ("packets", lambda r: r["established"]["duplicated"] + r["new_flows"]["duplicated"]),
    "sent_established": ("packets", lambda r: r["established"]["sent"]),
    "sent_new": ("packets", lambda r: r["new_flows"]["sent"]),
    "longest_gap_ms": ("ms", lambda r: max(r[stream]["longest_gap_ms"] for stream in STREAMS)),
    "outage_established_ms": ("ms", lambda r: r["established"]["longest_outage_ms"]),
    "outage_new_ms": ("ms", lambda r: r["new_flows"]["longest_outage_ms"]),
    # For how long the tables of a bridge with a controller were empty (ovs_handover's own measurement).
    "refill_ms": ("ms", lambda r: r["refill_ms"] or 0.0),
    # Of those that the size tells, with conntrack.
    "connections": ("connections", lambda r: r.get("connections", 0)),
    "broken_connections": ("connections", lambda r: r.get("broken", 0)),
    # What a second host tells of the first one that is not as before.
    "neighbour_changes": ("lines", lambda r: r.get("neighbour_changes", 0)),
}


class Case(t.NamedTuple):
    """One measurement to be made."""

    method: str
    backend: str
    flows: int
    repetition: int


def parts_of(name: str) -> tuple[str, Kind, int]:
    """The method of METHODS, the kind of hosts and the rate that a name tells."""
    for ending, rate in reversed(RATES.items()):
        for suffix, kind in reversed(KINDS.items()):
            method = name.removesuffix(ending).removesuffix(suffix)
            if f"{method}{suffix}{ending}" == name and method in METHODS:
                return method, kind, rate
    raise LabError(f"there is no method {name}")


def package_upgrade(lab: hosts.Lab, version: str) -> None:
    """What apt does on its own: the package's script restarts the daemons."""
    hosts.ssh(lab, lab.hosts[0], *runs.install(version))


def ovs_ctl_restart(lab: hosts.Lab, version: str) -> None:
    """Upstream's documented way: new packages without a restart, then what ovs-ctl restart does.

    On a systemd host that is ovs-systemd-reload (``systemctl reload openvswitch-switch``): the same code of
    ovs-lib, with the units kept in step. Plain ``ovs-ctl restart`` fights with the units, and ends with 1 on 4.0.
    """
    host = lab.hosts[0]
    hosts.ssh(lab, host, runs.NO_RESTART)
    hosts.ssh(lab, host, *runs.install(version))
    script = "ovs-systemd-reload" if lab.backend == "uml" else "ovs-ctl --system-id=random restart"
    hosts.ssh(lab, host, f"/usr/share/openvswitch/scripts/{script}")


def ours(strategy: str) -> t.Callable[[hosts.Lab, str], None]:
    """The collection's playbook with one strategy, for the first host."""

    def run(lab: hosts.Lab, version: str) -> None:
        done = runs.playbook(lab, version, limit=lab.hosts[0].name, strategy=strategy)
        if done.returncode:
            raise LabError(f"the playbook failed:\n{done.stdout[-3000:]}")

    return run


Result = dict[str, t.Any]
Meanwhile = t.Callable[[Scene, int], t.ContextManager[Result]]


@contextlib.contextmanager
def nothing(_scene: Scene, _size: int) -> t.Iterator[Result]:
    """Nobody else is at work on the host."""
    yield {}


class Kind(t.NamedTuple):
    """So many hosts, of which the first one is upgraded; ``options`` of populate.py; ``prepare`` has the traffic take its way.

    ``build`` makes a host of its own with about so many flows instead of populate.py, in ``bridge``. What goes on ``meanwhile``
    adds to the result.
    """

    hosts: int = 1
    options: tuple[str, ...] = ()
    prepare: t.Callable[[Scene], None] = lambda _scene: None
    build: t.Callable[[Scene, int], None] | None = None
    bridge: str = "br0"
    meanwhile: Meanwhile = nothing


def chassis(scene: Scene, size: int) -> None:
    """A chassis of OVN: its logical network itself takes some 1,500 flows."""
    ovn_scenarios.chassis(scene, "25.03.0", max(0, size - 1500))


@contextlib.contextmanager
def changing(scene: Scene, _size: int) -> t.Iterator[Result]:
    """Somebody changes an ACL each second."""
    with ovn_scenarios.changing(scene):
        yield {}


@contextlib.contextmanager
def peers(scene: Scene, size: int) -> t.Iterator[Result]:
    """So many TCP connections through a stateful firewall, of which some speak, and others come and go."""
    result: Result = {}
    with tracked.peers(scene, size) as log:
        yield result
    result |= {"connections": log["connections"], "broken": sum(log["broken"].values())}


@contextlib.contextmanager
def watching(scene: Scene, _size: int) -> t.Iterator[Result]:
    """The second host's log and states are compared with those of before."""
    before = scene.sh(protocols.NEIGHBOUR, 2)
    result: Result = {}
    yield result
    result["neighbour_changes"] = len(protocols.changes(before, scene.sh(protocols.NEIGHBOUR, 2)))


def firewall(scene: Scene) -> None:
    scene.sh(tracked.FIREWALL)


def watched_tunnel(scene: Scene) -> None:
    """The traffic comes back by a tunnel that BFD and CFM watch."""
    networks.join(scene)
    protocols.watch(scene, "gn0")


def bond(mode: str, rate: str, partner: str) -> Kind:
    """The traffic goes out and comes back by a bond with LACP."""
    prepare = functools.partial(protocols.bond, protocols.Bonded(mode, rate, partner))
    return Kind(2, prepare=prepare, meanwhile=watching)


# A method's name may end so, and then with a rate: packets of the established flow in a second.
CONTROLLER, LACP, BFD = " with controller", " with LACP", " with BFD and CFM"
OVN, CONNTRACK, USERSPACE = " with OVN", " with conntrack", ", userspace"
NETDEV = ("--datapath-type", "netdev")
KINDS = {
    "": Kind(),
    # A host with one CPU and kernel of its own, unlike those of the backend `native`.
    USERSPACE: Kind(options=NETDEV),
    CONTROLLER: Kind(options=("--controller",)),
    LACP: bond("balance-tcp", "fast", "Linux"),
    f"{LACP}, slow": bond("balance-slb", "slow", "Linux"),
    f"{LACP}, Open vSwitch": bond("balance-tcp", "fast", "Open vSwitch"),
    f"{LACP}{USERSPACE}": bond("balance-tcp", "fast", "Linux")._replace(options=NETDEV),
    BFD: Kind(2, prepare=watched_tunnel, meanwhile=watching),
    OVN: Kind(build=chassis, bridge="br-int", meanwhile=changing),
    CONNTRACK: Kind(prepare=firewall, meanwhile=peers),
}
USUAL_RATE = 200
RATES = {"": USUAL_RATE, ", 1000/s": 1000}

METHODS: dict[str, t.Callable[[hosts.Lab, str], None]] = {
    "package upgrade": package_upgrade,
    "ovs-ctl restart": ovs_ctl_restart,
    "restart": ours("restart"),
    "standby": ours("standby"),
    "prefilled": ours("prefilled"),
    "make_before_break": ours("make_before_break"),
}
# What users have today, and ours.
COMPARED = (
    ("ovs-ctl restart", ""),
    ("make_before_break", ""),
    ("make_before_break", ", 1000/s"),
)
# What is measured by default: method, kind of host, flows.
CASES = [
    *(
        (method, "uml", flows)
        for flows in (1_000, 10_000, 100_000)
        for method in ("package upgrade", "ovs-ctl restart", "prefilled", "make_before_break")
    ),
    *(
        (f"{method}{kind}{rate}", "uml", 10_000)
        for kind in (CONTROLLER, LACP, f"{LACP}, slow", f"{LACP}, Open vSwitch", BFD)
        for method, rate in COMPARED
    ),
    *((f"make_before_break{CONTROLLER}{rate}", "uml", 100_000) for rate in RATES),
    *((f"make_before_break{kind}", "uml", 10_000) for kind in (USERSPACE, f"{LACP}{USERSPACE}")),
    *(
        (f"{method}{OVN}{rate}", "uml", flows)
        for flows in (2_000, 10_000)
        for method, rate in (("package upgrade", ""), *COMPARED)
    ),
    *(
        (f"{method}{CONNTRACK}{rate}", "native", connections)
        for connections in (1_000, 10_000, 100_000)
        for method, rate in COMPARED
    ),
    *((f"{method}{CONTROLLER}", "native", 10_000) for method in ("ovs-ctl restart", "make_before_break")),
    ("restart", "uml", 10_000),
    *(
        (method, "native", 10_000)
        for method in ("ovs-ctl restart", "restart", "standby", "prefilled", "make_before_break")
    ),
]


def measure(case: Case, options: argparse.Namespace) -> dict[str, t.Any]:
    """Fresh hosts, one upgrade under traffic; the probe's result."""
    name = options.name
    with hosts.exclusive(name):
        try:
            method, kind, rate = parts_of(case.method)
            lab = laboratory.up(name, case.backend, kind.hosts, options.ovs)
            scene = Scene(lab)
            if kind.build:
                kind.build(scene, case.flows)
            else:
                populate(lab, case, kind)
            kind.prepare(scene)
            count = f"ovs-ofctl -O OpenFlow15 dump-aggregate {kind.bridge} | grep -oP 'flow_count=\\K.*'"
            before = int(scene.sh(count))
            with (
                kind.meanwhile(scene, case.flows) as more,
                probe.probing(lab, lab.hosts[0], AFTERWARDS, rate=rate) as measured,
            ):
                METHODS[method](lab, options.to)
            result = {**measured.result, **more}
            # Whoever changes something meanwhile adds to them.
            result["flows_kept"] = int(scene.sh(count)) >= before
            result["refill_ms"] = refill(lab)
            if case.repetition == 0:
                picture(case, probe.events(lab, lab.hosts[0]))
            return result
        finally:
            hosts.down(name)


def populate(lab: hosts.Lab, case: Case, kind: Kind) -> None:
    """The usual host; with conntrack the size is that of the connections."""
    flows = 2_000 if kind.meanwhile is peers else case.flows
    datapath = "system" if case.backend == "uml" else "netdev"
    laboratory.populate(
        lab, ["--flows", str(flows), "--datapath-type", datapath, "--no-meter", *kind.options]
    )


def refill(lab: hosts.Lab) -> float | None:
    """How long a bridge was empty in the host's last hand-over, in milliseconds; None if no flush was seen."""
    script = "cat $(ls -d /var/lib/ovsops/transactions/*/ | tail -n 1)result.json || echo {}"
    marks = json.loads(hosts.ssh(lab, lab.hosts[0], script)).get("marks", {})
    return (marks["refilled"] - marks["flushed"]) / 1000 if "refilled" in marks else None


def picture(case: Case, events: t.Sequence[tuple[int, int, int, int]]) -> None:
    """Each packet at the time it was sent: below, its latency; lost ones as red marks."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sent: list[dict[int, int]] = [{}, {}]
    arrived: list[dict[int, int]] = [{}, {}]
    for kind, stream, number, stamp in events:
        if kind == probe.SENT:
            sent[stream][number] = stamp
        elif kind == probe.ARRIVED:
            arrived[stream].setdefault(number, stamp)
    origin = min(sent[0].values())
    figure, axes = pyplot.subplots(2, 1, sharex=True, figsize=(9, 4.5))
    for stream, axis in enumerate(axes):
        good = [(stamp, arrived[stream][n]) for n, stamp in sent[stream].items() if n in arrived[stream]]
        lost = [(stamp - origin) / 1e9 for n, stamp in sent[stream].items() if n not in arrived[stream]]
        axis.plot(
            [(a - origin) / 1e9 for a, __ in good],
            [(b - a) / 1e6 for a, b in good],
            ".",
            ms=2,
            label="arrived",
        )
        axis.plot(lost, [0.1] * len(lost), "r|", ms=9, label=f"lost: {len(lost)} of {len(sent[stream])}")
        axis.set_yscale("log")
        axis.set_ylabel("latency, ms")
        axis.set_title(("established flow", "new flows")[stream], fontsize=9)
        axis.legend(loc="upper right", fontsize=8)
    axes[1].set_xlabel(f"time, s — {case.method}, {case.flows} flows, {case.backend}")
    figure.tight_layout()
    name = re.sub("[^a-z_0-9-]+", "-", case.method, flags=re.IGNORECASE)
    figure.savefig(OUTPUT / f"interruption-{name}-{case.backend}-{case.flows}.png", dpi=110)
    pyplot.close(figure)


def rows(results: dict[tuple[str, str, int], list[dict[str, t.Any]]]) -> list[Row]:
    """One row per size, method and metric; ``values`` has each repetition."""
    return [
        row(
            {"size": flows, "tool": method, "backend": backend},
            metric,
            unit,
            [pick(result) for result in repeated],
            flows_kept=all(result["flows_kept"] for result in repeated),
        )
        for (method, backend, flows), repeated in results.items()
        for metric, (unit, pick) in METRICS.items()
    ]


def _case(each: Row) -> tuple[t.Any, ...]:
    return each["tool"], each["backend"], each["size"]


def _order(each: Row) -> tuple[t.Any, ...]:
    return each["backend"] != "uml", each["size"], list(METHODS).index(parts_of(each["tool"])[0])


def table(found: list[dict[str, t.Any]]) -> str:
    """The rows as a person reads them: median (min–max) of the repetitions."""
    cases: dict[tuple[str, str, int], dict[str, dict[str, t.Any]]] = {}
    for each in found:
        cases.setdefault((each["backend"], each["tool"], each["size"]), {})[each["metric"]] = each
    lines = [
        f"{'host':7}{'method':34}{'flows':>8}{'kept':>6}{'lost established':>20}{'lost new':>20}{'dup':>5}{'longest gap, ms':>26}"
    ]
    for (backend, method, size), metric in cases.items():

        def lost(kind: str, metric: dict[str, dict[str, t.Any]] = metric) -> str:
            return f"{metric[f'lost_{kind}']['max']:g} of {metric[f'sent_{kind}']['median']:g}"

        gap = metric["longest_gap_ms"]
        broken = metric.get("broken_connections", {}).get("max", 0)
        seen = metric.get("neighbour_changes", {}).get("max", 0)
        lines.append(
            f"{backend:7}{method:34}{size:>8}{'yes' if gap['flows_kept'] else 'NO':>6}{lost('established'):>20}{lost('new'):>20}"
            f"{metric['duplicates']['max']:>5g}{gap['median']:>11.1f} ({gap['min']:.1f}–{gap['max']:.1f})"
            + (f"  {broken:g} of {size} connections broken" if CONNTRACK in method else "")
            + (f"  {seen:g} changes seen by the neighbour" if LACP in method or BFD in method else "")
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="ovs", default="3.5.0", choices=images.OVS_SUITES)
    parser.add_argument("--to", default="4.0.0", choices=images.OVS_SUITES)
    parser.add_argument("--backend", default="uml", choices=laboratory.BACKENDS, help="with --methods")
    parser.add_argument("--sizes", default="1000,10000,100000", help="with --methods")
    parser.add_argument(
        "--methods",
        help=f"{'; '.join(METHODS)}; each may end in {' or '.join(map(repr, filter(None, KINDS)))}, and then in ', 1000/s'",
    )
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--name", default="bench", help="of the lab")
    options = parser.parse_args()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    cases = [
        (method, options.backend, int(flows))
        for flows in options.sizes.split(",")
        for method in (options.methods or "").split(";")
        if method
    ] or CASES
    path = OUTPUT / "interruption.json"
    document: dict[str, t.Any] = {}
    for method, backend, flows in cases:
        repeated = []
        for repetition in range(options.repetitions):
            say(
                f"bench: {method}, {flows} flows, {backend}, repetition {repetition + 1} of {options.repetitions}"
            )
            repeated.append(measure(Case(method, backend, flows, repetition), options))
        document = merged(path, {
            "machine": f"{platform.platform()}, {os.cpu_count()} cores", "kernel": images.kernel().name,
            "from": options.ovs, "to": options.to, "rows": rows({(method, backend, flows): repeated}),
        }, _case, _order)  # fmt: skip
        path.write_text(json.dumps(document, indent=1) + "\n")
    print(
        f"{options.ovs} -> {options.to} on {document['machine']}; lost: worst repetition, gap: median (min–max)"
    )
    print(table(document["rows"]))
    return 0


if __name__ == "__main__":
    images.program(main)
