# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How late a surge pod may get the DaemonSet's labels after the old pod's deletion began, and what comes of it.

One line for each trial. Wants a cluster of the lab ('tests/tools/lab up --backend kubernetes'); changes its first node.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
import typing as t

from tests.harness.waiting import wait_until
from tests.kube.cluster import MARK, Cluster, Pod, Watched
from tests.lab import hosts
from tests.lab.hosts import Host


@dataclasses.dataclass(frozen=True)
class Trial:
    """What is done: seconds from deletion to labels (None: labels first), or from the moment at which the old pod is gone;
    the period of grace; whether its first process is frozen; whether it is an adopted surge pod itself."""

    name: str
    delay: float | None
    grace: int | None = None
    frozen: bool = False
    old_is_surge: bool = False
    from_gone: bool = False


TRIALS = (
    Trial("at once", 0),
    Trial("0.5 s", 0.5),
    Trial("1 s", 1),
    Trial("2 s", 2),
    Trial("4 s", 4),
    Trial("at once, frozen", 0, frozen=True),
    Trial("10 s, frozen", 10, frozen=True),
    Trial("25 s, frozen", 25, frozen=True),
    Trial("40 s, frozen, grace 60 s", 40, grace=60, frozen=True),
    Trial("once it is gone", 0, from_gone=True),
    Trial("1 s after it is gone", 1, from_gone=True),
    Trial("at once, grace 0 s", 0, grace=0),
    Trial("at once, grace 1 s", 0, grace=1),
    Trial("at once, the old one an adopted surge", 0, old_is_surge=True),
    Trial("1 s, the old one an adopted surge", 1, old_is_surge=True),
    Trial("4 s, the old one an adopted surge", 4, old_is_surge=True),
    Trial("labels before the deletion", None),
)


def attempt(cluster: Cluster, host: Host, trial: Trial, number: int) -> dict[str, t.Any]:
    """One trial, from a node with one pod to a node with one pod."""
    daemonset = cluster.daemonset()["metadata"]["uid"]
    if trial.old_is_surge:
        replace(cluster, host, f"{number} before")
    revision = cluster.retemplate("3.5.0", f"{time.time()}")
    old, surge = cluster.only_pod(host), cluster.surge(host)
    cluster.take_over(surge)
    if trial.frozen:
        hosts.ssh(cluster.lab, host, "kill", "-STOP", str(cluster.processes(host, old)[0]))
    with Watched(cluster) as seen:
        if trial.delay is None:
            cluster.label(surge, revision)
            time.sleep(3)
        began = time.monotonic()
        if trial.delay is None:
            labelled = 0.0
        else:
            cluster.delete(old, trial.grace)
            if trial.from_gone:
                wait_until(lambda: seen.first("DELETED", lambda pod: pod.name == old.name) is not None, 200)
            since_then = time.monotonic() if trial.from_gone else began
            time.sleep(max(0.0, since_then + trial.delay - time.monotonic()))
            try:
                cluster.label(surge, revision)
            except Exception as error:  # what the API says is the result
                print(error)
            labelled = time.monotonic() - began
        settled = settle(cluster, host, old if trial.delay is not None else surge)

    def since(kind: str, condition: t.Callable[[Pod], bool]) -> float | None:
        at = seen.first(kind, condition)
        return None if at is None else round(at - began, 2)

    after = cluster.pods(host)
    others = seen.names(host) - {old.name, surge.name}
    return {
        "trial": trial.name,
        "labelled": round(labelled, 2),
        "adopted": since("MODIFIED", lambda pod: pod.name == surge.name and pod.owner == daemonset),
        "old gone": since("DELETED", lambda pod: pod.name == old.name),
        "third made": since("ADDED", lambda pod: pod.name in others),
        "third gone": since("DELETED", lambda pod: pod.name in others),
        "surge gone": since("DELETED", lambda pod: pod.name == surge.name),
        "left": [
            "surge" if pod.name == surge.name else "old" if pod.name == old.name else "third" for pod in after
        ],
        "settled": settled,
        "owner": {old.container: "old", surge.container: "surge", "": "nobody"}.get(
            cluster.daemon_owner(host), "third"
        ),
        "updated": cluster.daemonset()["status"].get("updatedNumberScheduled"),
    }


def settle(cluster: Cluster, host: Host, going: Pod) -> bool:
    """Until that pod is gone and one is left, ready, for 5 s."""

    def one() -> bool:
        pods = cluster.pods(host)
        return len(pods) == 1 and pods[0].ready and pods[0].name != going.name and not pods[0].ending

    try:
        wait_until(one, 100)
        time.sleep(5)
        return one()
    except AssertionError:
        return False


def replace(cluster: Cluster, host: Host, note: str) -> None:
    """Have an adopted surge pod on the node."""
    revision = cluster.retemplate("3.5.0", f"{note} {time.time()}")
    old, surge = cluster.only_pod(host), cluster.surge(host)
    cluster.take_over(surge)
    cluster.delete(old)
    cluster.label(surge, revision)
    settle(cluster, host, old)


def reset(cluster: Cluster, host: Host) -> None:
    """One pod of the controller's own on the node, as after an upgrade by deletion."""
    for pod in cluster.pods(host):
        if not pod.ending and (not pod.ready or pod.labels.items() >= MARK.items()):
            cluster.delete(pod)
    wait_until(lambda: [(pod.ready, pod.ending) for pod in cluster.pods(host)] == [(True, False)], 120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="main", help="name of the lab")
    parser.add_argument("--only", nargs="*", default=[], help="trials with one of these in their names")
    options = parser.parse_args()
    cluster = Cluster(hosts.require(options.name))
    host = cluster.lab.hosts[0]
    cluster.import_image(host, "3.5.0")
    for number, trial in enumerate(TRIALS):
        if options.only and not any(part in trial.name for part in options.only):
            continue
        reset(cluster, host)
        print(json.dumps(attempt(cluster, host, trial, number)), flush=True)
    reset(cluster, host)


if __name__ == "__main__":
    main()
