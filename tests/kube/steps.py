# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps from the old pod of a node to a surge pod that is the DaemonSet's, by modules of the collection."""

from __future__ import annotations

import typing as t

from tests.harness import probe, runs
from tests.kube.cluster import Cluster, Pod
from tests.lab.hosts import Host

SLOW = 120.0
# Of 1,000 packets a second; the longest silence of the stock way is a second and more.
MOST_LOST, LONGEST_GAP_MS = 100, 300
BOTH = {"ovs-vswitchd": True, "ovsdb-server": True}


def module(cluster: Cluster, host: Host, name: str, **arguments: t.Any) -> dict[str, t.Any]:
    """A module of the collection that goes well."""
    result = runs.module(cluster.lab, host, name, arguments)
    assert not result["failed"], result["msg"]
    return result


def hand_over(cluster: Cluster, host: Host, old: Pod, surge: Pod, **options: t.Any) -> dict[str, t.Any]:
    """Have Open vSwitch in the surge pod; nobody has confirmed that."""
    homes = {"container": surge.container, "container_before": old.container}
    return module(cluster, host, "ovs_handover", **homes, confirm="manual", **options)


def confirm(cluster: Cluster, host: Host) -> None:
    """There is no way back any more."""
    module(cluster, host, "ovs_handover", state="verified")
    module(cluster, host, "ovs_handover", state="confirmed")


def adopt(cluster: Cluster, host: Host, old: Pod, surge: Pod) -> None:
    """Have the surge pod be the only one of the node, the DaemonSet's."""
    module(cluster, host, "ovs_container", id=old.container, state="held")
    cluster.adopt(host, old, surge, SLOW)


def owners(cluster: Cluster, host: Host, pod: Pod) -> dict[str, bool]:
    """Of each daemon whether it is in the container of the pod."""
    return t.cast("dict[str, bool]", module(cluster, host, "ovs_container", id=pod.container)["daemons"])


def require_milliseconds(probing: probe.Probe, longest_gap_ms: float = LONGEST_GAP_MS) -> None:
    """Of a probe with 1,000 packets a second at most."""
    losses = probe.Losses.of(probing.result)
    print(losses)
    assert losses.established + losses.new <= MOST_LOST, losses
    assert losses.gap_ms <= longest_gap_ms, losses
