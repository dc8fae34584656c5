# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's cluster is a real one: nodes, the DaemonSet's pods, traffic through them, an upgrade by deletion.

Comes before the tests that leave newer pods.
"""

from __future__ import annotations

from tests.harness.waiting import wait_until
from tests.kube.cluster import Cluster
from tests.kube.conftest import FROM, TO
from tests.lab import hosts, kubernetes
from tests.lab.kube import manifests

PING = ("ip", "netns", "exec", "h1", "ping", "-q", "-c", "5", "-i", "0.1", "-W", "2", "10.0.0.2")


def test_nodes_and_pods_are_ready_and_forward(cluster: Cluster) -> None:
    lab = cluster.lab
    assert kubernetes.ready_nodes(lab) == {host.name for host in lab.hosts}
    uid = cluster.daemonset()["metadata"]["uid"]
    for host in lab.hosts:
        pod = cluster.only_pod(host)
        assert (pod.ready, pod.owner) == (True, uid)
        assert cluster.daemon_owner(host) == pod.container
        assert "0% packet loss" in hosts.ssh(lab, host, *PING)


def test_a_deleted_pod_is_replaced_by_one_with_the_new_image(cluster: Cluster) -> None:
    lab, host = cluster.lab, cluster.lab.hosts[0]
    other = cluster.only_pod(lab.hosts[1])
    revision = cluster.retemplate(TO)
    cluster.import_image(host, TO)
    old = cluster.only_pod(host)
    assert old.image == manifests.image(FROM)
    cluster.delete(old)
    wait_until(lambda: [pod.ready for pod in cluster.pods(host) if pod.name != old.name] == [True], 90)
    new = cluster.only_pod(host)
    assert (new.image, new.labels["controller-revision-hash"]) == (manifests.image(TO), revision)
    assert hosts.ssh(lab, host, "ovs-vsctl get open_vswitch . ovs_version").strip() == f'"{TO}"'
    assert cluster.only_pod(lab.hosts[1]) == other, "the strategy is OnDelete"
