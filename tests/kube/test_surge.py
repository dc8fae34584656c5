# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A surge pod becomes the DaemonSet's pod, and then is one: with the real controller and a real kubelet.

The daemons are restarted in the surge pod, which stands for the hand-over: whose pod they are in is what is tested.
"""

from __future__ import annotations

import time
import typing as t

import pytest

from tests.harness.waiting import wait_until
from tests.kube.cluster import HASH, Cluster, Pod, Watched
from tests.kube.conftest import TO
from tests.lab import hosts, kubernetes
from tests.lab.hosts import Host

SLOW = 120.0


@pytest.fixture(scope="module")
def host(cluster: Cluster) -> Host:
    """The node whose pod is replaced."""
    return cluster.lab.hosts[1]


@pytest.fixture(scope="module")
def adopted(cluster: Cluster, host: Host) -> Pod:
    """The surge pod, adopted in the place of the old one.

    Other nodes have pods of older revisions: whoever changes the strategy has them replaced.
    """
    for each in cluster.lab.hosts:
        cluster.import_image(each, TO)
    revision = cluster.retemplate(TO, "adoption")
    old, surge = cluster.only_pod(host), cluster.surge(host)
    assert surge.owner is None
    cluster.take_over(surge)
    # What the old pod does at its end cannot shorten the time for the labels.
    hosts.ssh(cluster.lab, host, "kill", "-STOP", str(cluster.processes(host, old)[0]))
    with Watched(cluster) as seen:
        cluster.delete(old)
        cluster.label(surge, revision)
        wait_until(lambda: cluster.pod(old.name) is None, SLOW)
        wait_until(lambda: cluster.only_pod(host).ready)
        settled(cluster)
        assert seen.names(host) == {old.name, surge.name}, "no third pod"
    return cluster.only_pod(host)


def settled(cluster: Cluster) -> None:
    """Until the controller has counted every pod once more."""
    note = {"metadata": {"annotations": {"ovsops.io/seen": str(time.time())}}}
    cluster.patch(note)
    wanted = len(cluster.lab.hosts)
    wait_until(lambda: cluster.daemonset()["status"].get("numberReady") == wanted, SLOW)


def daemon(cluster: Cluster, host: Host) -> str:
    return hosts.ssh(cluster.lab, host, "cat /run/openvswitch/ovs-vswitchd.pid")


def first_words(cluster: Cluster, host: Host, pod: Pod) -> str:
    """The command line of a container's first process."""
    return hosts.ssh(cluster.lab, host, f"tr '\\0' ' ' </proc/{cluster.processes(host, pod)[0]}/cmdline")


def test_a_restart_of_its_container_before_the_hand_over_restarts_nothing(
    cluster: Cluster, host: Host
) -> None:
    cluster.import_image(host, TO)
    cluster.retemplate(TO, "waiting")
    pid, (old,), surge = daemon(cluster, host), cluster.pods(host), cluster.surge(host)
    hosts.ssh(cluster.lab, host, "kill", "-KILL", str(cluster.processes(host, surge)[0]))

    def again() -> bool:
        there = cluster.pod(surge.name)
        return there is not None and there.restarts == 1 and there.ready

    wait_until(again, SLOW)
    waiting = next(pod for pod in cluster.pods(host) if pod.name == surge.name)
    assert "sleep" in first_words(cluster, host, waiting)
    assert (daemon(cluster, host), cluster.daemon_owner(host)) == (pid, old.container)
    cluster.delete(surge)
    wait_until(lambda: cluster.pods(host) == [old], SLOW)
    assert daemon(cluster, host) == pid


def test_it_is_the_daemonsets_pod(cluster: Cluster, host: Host, adopted: Pod) -> None:
    daemonset = cluster.daemonset()
    assert adopted.owner == daemonset["metadata"]["uid"]
    assert adopted.labels[HASH] == cluster.revision()
    assert daemonset["status"]["updatedNumberScheduled"] >= 1
    assert cluster.daemon_owner(host) == adopted.container
    assert adopted.restarts == 0


def test_it_outlives_a_restart_of_kubelet(cluster: Cluster, host: Host, adopted: Pod) -> None:
    pid = daemon(cluster, host)
    began = time.time()
    hosts.ssh(cluster.lab, host, "kube-node", "restart-kubelet")
    wait_until(lambda: kubernetes.heartbeat(cluster.lab, host) > began, SLOW)
    settled(cluster)
    assert cluster.only_pod(host) == adopted
    assert daemon(cluster, host) == pid


def test_a_restart_of_its_container_runs_the_daemonsets_program(
    cluster: Cluster, host: Host, adopted: Pod
) -> None:
    assert "sleep" in first_words(cluster, host, adopted)
    hosts.ssh(cluster.lab, host, "kill", "-KILL", str(cluster.processes(host, adopted)[0]))
    wait_until(lambda: cluster.only_pod(host).restarts == 1 and cluster.only_pod(host).ready, SLOW)
    again = cluster.only_pod(host)
    assert (again.name, again.uid) == (adopted.name, adopted.uid)
    assert "start-ovs.sh" in first_words(cluster, host, again)
    assert cluster.daemon_owner(host) == again.container


def test_the_strategy_can_be_what_it_was(cluster: Cluster, host: Host, adopted: Pod) -> None:
    cluster.patch({"spec": {"updateStrategy": {"type": "RollingUpdate"}}})
    settled(cluster)
    assert cluster.only_pod(host).uid == adopted.uid


def test_a_restarted_rollout_replaces_it_as_any_other(cluster: Cluster, host: Host, adopted: Pod) -> None:
    restart(cluster)
    wait_until(lambda: done(cluster), SLOW)
    pod = cluster.only_pod(host)
    assert pod.uid != adopted.uid
    assert cluster.daemon_owner(host) == pod.container


def restart(cluster: Cluster) -> None:
    """What 'kubectl rollout restart' does."""
    annotations = {"kubectl.kubernetes.io/restartedAt": str(time.time())}
    cluster.patch({"spec": {"template": {"metadata": {"annotations": annotations}}}})


def done(cluster: Cluster) -> bool:
    """What 'kubectl rollout status' waits for."""
    found: dict[str, t.Any] = cluster.daemonset()["status"]
    wanted = len(cluster.lab.hosts)
    return bool(
        found.get("updatedNumberScheduled") == found.get("numberReady") == wanted == len(cluster.pods())
    )
