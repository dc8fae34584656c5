# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemons move from the old pod to a surge pod, and the surge pod becomes the DaemonSet's: real pods, real traffic.

The pods have the userspace datapath: what arrives in some milliseconds is lost there, and no more.
"""

from __future__ import annotations

import pytest

from tests.harness import probe, runs
from tests.harness.waiting import wait_until
from tests.kube.cluster import Cluster
from tests.kube.conftest import FROM, TO
from tests.kube.steps import BOTH, SLOW, adopt, confirm, hand_over, module, owners, require_milliseconds
from tests.lab import hosts
from tests.lab.hosts import Host
from tests.lab.kube import control, manifests

FLOWS = 200
PIDS = "cat /run/openvswitch/ovs-vswitchd.pid /run/openvswitch/ovsdb-server.pid"


@pytest.fixture
def host(cluster: Cluster) -> Host:
    """A node whose daemons are in a pod of the DaemonSet with the old version, beside a surge pod with the new one."""
    host = cluster.lab.hosts[0]
    cluster.renew(host, FROM, SLOW)
    cluster.populate(host, "--flows", str(FLOWS))
    cluster.import_image(host, TO)
    cluster.retemplate(TO)
    return host


def flows(cluster: Cluster, host: Host) -> list[str]:
    """Of the bridge that traffic goes through, without what counts."""
    told = hosts.ssh(cluster.lab, host, "ovs-ofctl --no-stats dump-flows br0")
    return sorted(line.strip() for line in told.splitlines() if "actions" in line)


def test_the_whole_way_costs_milliseconds(cluster: Cluster, host: Host) -> None:
    old, surge = cluster.only_pod(host), cluster.surge(host)
    before = flows(cluster, host)
    with probe.probing(cluster.lab, host, 2, rate=1000) as probing:
        done = hand_over(cluster, host, old, surge)
        confirm(cluster, host)
        adopt(cluster, host, old, surge)
    assert done["plan"]["strategy"] == "make_before_break"
    require_milliseconds(probing)
    adopted = cluster.only_pod(host)
    assert (adopted.uid, adopted.owner) == (surge.uid, cluster.daemonset()["metadata"]["uid"])
    assert (owners(cluster, host, adopted), adopted.restarts) == (BOTH, 0)
    assert hosts.ssh(cluster.lab, host, "ovs-vsctl get open_vswitch . ovs_version").strip() == f'"{TO}"'
    assert flows(cluster, host) == before


def test_taken_back_it_is_in_the_old_pod_again(cluster: Cluster, host: Host) -> None:
    """The surge pod may go then, and nothing ends with it."""
    old, surge = cluster.only_pod(host), cluster.surge(host)
    before = flows(cluster, host)
    with probe.probing(cluster.lab, host, 2, rate=1000) as probing:
        hand_over(cluster, host, old, surge)
        assert owners(cluster, host, surge) == BOTH
        module(cluster, host, "ovs_handover", state="rolled_back")
        assert owners(cluster, host, old) == BOTH
        cluster.delete(surge)
        wait_until(lambda: [pod.name for pod in cluster.pods(host)] == [old.name], SLOW)
    require_milliseconds(probing)
    assert (owners(cluster, host, old), flows(cluster, host)) == (BOTH, before)
    assert hosts.ssh(cluster.lab, host, "ovs-vsctl get open_vswitch . ovs_version").strip() == f'"{FROM}"'


def test_a_rehearsal_leaves_the_node_as_it_was(cluster: Cluster, host: Host) -> None:
    """Its pod has another image than the template, and is gone afterwards; the daemons have not heard of it."""
    cluster.retemplate(FROM)
    before, template = flows(cluster, host), cluster.daemonset()["spec"]
    pods, daemons = cluster.pods(), hosts.script(cluster.lab, host, PIDS)
    variables = {
        "kube_ovn_image": manifests.image(TO),
        "kube_ovn_kubeconfig": str(control.kubeconfig(cluster.lab)),
    }
    argv = runs.playbook_argv(
        [cluster.lab.inventory],
        variables,
        *("--limit", host.name),
        playbook="ovsops.hot_upgrade.kube_ovn_rehearse",
    )
    with probe.probing(cluster.lab, host, 2, rate=1000) as probing:
        done = runs.play(argv)
    assert done.returncode == 0, done.stdout
    assert f"{TO} takes all" in done.stdout
    losses = probe.Losses.of(probing.result)
    assert (losses.established, losses.new) == (0, 0), losses
    assert (cluster.pods(), cluster.daemonset()["spec"], flows(cluster, host)) == (pods, template, before)
    assert hosts.script(cluster.lab, host, PIDS) == daemons


def test_what_is_no_container_of_this_node_is_refused(cluster: Cluster, host: Host) -> None:
    """Nothing was touched."""
    old, elsewhere = cluster.only_pod(host), cluster.pods(cluster.lab.hosts[1])[0]
    given = {"container": elsewhere.container, "container_before": old.container}
    refused = runs.module(cluster.lab, host, "ovs_handover", given)
    assert f"container {elsewhere.container[:12]} does not run on this host" in refused["msg"]
    swapped = runs.module(
        cluster.lab, host, "ovs_handover", {"container": old.container, "container_before": "x"}
    )
    assert "'x' is no container" in swapped["msg"]
    assert owners(cluster, host, old) == BOTH
