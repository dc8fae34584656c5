# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What traffic through a node sees when its pod of Open vSwitch is replaced: by deletion, by a surge pod that restarts, by us.

Wants a cluster of the lab ('tests/tools/lab up --backend kubernetes'); changes its first node, whose pods have the userspace
datapath. The methods take turns. Each is measured from before its first step until one pod is left, ready. By deletion the tables
are empty afterwards; they are loaded again at once when the new pod is ready, which stands for what ovn-controller does. On a
cluster with OVN ('--ovn') that does it itself, and is replaced, too; sizes are those of its logical network there. Writes
build/bench/kube.json; cases of earlier runs stay in it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import typing as t

from tests.bench.rows import Row, merged, row
from tests.harness import probe
from tests.harness.waiting import wait_until
from tests.kube import chassis, steps
from tests.kube.cluster import Cluster, Pod
from tests.lab import hosts
from tests.lab.hosts import Host
from tests.lab.images import REPOSITORY, LabError, say
from tests.lab.kube import ovn

OUTPUT = REPOSITORY / "build/bench/kube.json"
FROM, TO = "3.1.0", "3.5.0"
SLOW = 180.0
# What ACLs make of the logical network, if nothing else was asked for (ovnhost.py).
OVN_SIZE = 2000
METRICS = {"lost": "packets", "sent": "packets", "longest_gap_ms": "ms"}


def load(cluster: Cluster, host: Host, size: int) -> None:
    """Without meters on the way of the traffic: ovs-ctl would restore no flow of such a bridge (ovs-save leaves meters out)."""
    if cluster.has_ovn():
        ovn.populate(cluster.lab, host)
        chassis.synchronise(cluster)
        return
    cluster.populate(host, "--flows", str(size), "--no-meter")


def reset(cluster: Cluster, host: Host, size: int) -> Pod:
    """A node with one pod of the controller's own, with the old version and full tables; the template names the new one."""
    cluster.renew(host, FROM, SLOW)
    load(cluster, host, size)
    cluster.retemplate(TO)
    return cluster.only_pod(host)


def on_delete(cluster: Cluster, host: Host, old: Pod, size: int) -> None:
    cluster.delete(old)
    wait_until(lambda: cluster.has_only(host, TO, {old.name}), SLOW)
    load(cluster, host, size)


def restarted(cluster: Cluster, host: Host, old: Pod, _size: int) -> None:
    surge = cluster.surge(host)
    cluster.take_over(surge)
    cluster.adopt(host, old, surge, SLOW)


def handed_over(cluster: Cluster, host: Host, old: Pod, _size: int) -> None:
    surge = cluster.surge(host)
    steps.hand_over(cluster, host, old, surge)
    steps.confirm(cluster, host)
    if cluster.has_ovn():
        steps.module(
            cluster, host, "ovn_controller", container=surge.container, container_before=old.container
        )
    steps.adopt(cluster, host, old, surge)


METHODS: dict[str, t.Callable[[Cluster, Host, Pod, int], None]] = {
    "OnDelete": on_delete,
    "surge with ovs-ctl restart": restarted,
    "ovsops": handed_over,
}


def measure(cluster: Cluster, host: Host, method: str, size: int) -> dict[str, float]:
    """One replacement of the pod under traffic."""
    old = reset(cluster, host, size)
    with probe.probing(cluster.lab, host, 3) as probing:
        METHODS[method](cluster, host, old, size)
    losses = probe.Losses.of(probing.result)
    say(f"{size} flows, {method}: {losses}")
    if losses.duplicates:
        raise LabError(f"{method}: {losses.duplicates} packets came twice")
    return {
        "lost": losses.established + losses.new,
        "sent": losses.sent,
        "longest_gap_ms": losses.gap_ms,
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="kube", help="the lab")
    parser.add_argument("--sizes", default="200,10000", help="flows of br0")
    parser.add_argument("--methods", default=";".join(METHODS))
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    cluster = Cluster(hosts.require(options.name))
    host = cluster.lab.hosts[0]
    cluster.import_image(host, TO)
    rows: list[Row] = []
    with_ovn = cluster.has_ovn()
    for size in [OVN_SIZE] if with_ovn else map(int, options.sizes.split(",")):
        found: dict[str, list[dict[str, float]]] = {method: [] for method in options.methods.split(";")}
        for __ in range(options.repetitions):
            for method, results in found.items():
                results.append(measure(cluster, host, method, size))
        for method, results in found.items():
            case = {
                "tool": f"{method} with OVN" if with_ovn else method,
                "size": size,
                "datapath": "userspace",
            }
            rows += [
                row(case, name, unit, [each[name] for each in results]) for name, unit in METRICS.items()
            ]
    document = {
        "machine": {"cpus": os.cpu_count(), "kernel": platform.release()},
        "versions": [FROM, TO],
        "rows": rows,
    }
    order = [*METHODS, *(f"{method} with OVN" for method in METHODS)]
    whole = merged(
        OUTPUT,
        document,
        lambda each: (each["tool"], each["size"]),
        lambda each: (each["size"], order.index(each["tool"]), each["metric"]),
    )
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(whole, indent=2) + "\n")
    for each in whole["rows"]:
        print(f"{each['size']:>7} {each['tool']:<28} {each['metric']:<16} {each['values']}")


if __name__ == "__main__":
    main()
