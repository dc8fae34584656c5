# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods with ovn-controller, as kube-ovn has them: it moves to the surge pod behind Open vSwitch, and its flows stay.

Two nodes are chassis with a logical network over both; the first one has OVN's databases in a pod, too. Judges are the traffic
within a node and between them, the southbound database, control groups, and ovn-nbctl, which waits for both chassis.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

import pytest

from tests.harness import probe, runs
from tests.harness.traces import traces
from tests.harness.waiting import wait_until
from tests.kube import chassis
from tests.kube.chassis import CONTROLLER
from tests.kube.cluster import Cluster, Pod
from tests.kube.conftest import FROM, TO
from tests.kube.steps import (
    BOTH,
    SLOW,
    adopt,
    confirm,
    hand_over,
    module,
    owners,
    require_milliseconds,
)
from tests.lab import hosts
from tests.lab import lab as laboratory
from tests.lab.hosts import Host
from tests.lab.kube import control, manifests, ovn

OLD, NEW = ovn.VERSIONS[FROM], ovn.VERSIONS[TO]
ALL = {**BOTH, "ovn-controller": True}
# The hand-over of Open vSwitch in userspace costs milliseconds, on a machine that has time for it.
LONGEST_GAP_MS = 500
MOST_PINGS = LONGEST_GAP_MS // 10
# Programs in the place of the new ovn-controller.
_ASTRAY = '#!/bin/sh\nshift\nexec {program} unix:/run/nowhere.sock "$@"\n'
USELESS = {
    "it ends at once": "#!/bin/sh\nexit 1\n",
    "it finds no database": _ASTRAY.format(program="/opt/ovn-controller"),
    "it is called otherwise": _ASTRAY.format(program="/opt/other"),
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> t.Iterator[Cluster]:
    """A cluster of its own, whose other tests have bridges without OVN; KUBE_LAB names one that is up with it, and stays."""
    if "KUBE_LAB" in os.environ:
        named = Cluster(hosts.require(os.environ["KUBE_LAB"]))
        if not named.has_ovn():
            pytest.skip(f"lab {named.lab.name} was not started with --ovn {OLD}")
        yield named
        return
    name = f"kube-ovn-{os.getpid()}"
    try:
        lab = laboratory.up(name, "kubernetes", 2, FROM)
        laboratory.add_ovn(lab, OLD)
        yield Cluster(lab)
    finally:
        hosts.down(name)
    assert traces(name) == []


@pytest.fixture(params=[0, 1], ids=["beside the databases", "alone"])
def host(request: pytest.FixtureRequest, cluster: Cluster) -> Host:
    """A node whose daemons are in a pod of the DaemonSet with the old version; the template names the new one."""
    return renewed(cluster, cluster.lab.hosts[request.param])


@pytest.fixture
def one(cluster: Cluster) -> Host:
    """The same, where it does not matter which one."""
    return renewed(cluster, cluster.lab.hosts[1])


def renewed(cluster: Cluster, host: Host) -> Host:
    if not cluster.has_only(host, FROM, ()):
        cluster.renew(host, FROM, SLOW)
    # A restart of the userspace datapath loses the address of its bridge.
    ovn.populate(cluster.lab, host)
    chassis.synchronise(cluster)
    cluster.import_image(host, TO)
    cluster.retemplate(TO)
    return host


def move(cluster: Cluster, host: Host, old: Pod, surge: Pod, **options: t.Any) -> dict[str, t.Any]:
    """Have ovn-controller in the surge pod; the result may be that of a failure."""
    homes = {"container": surge.container, "container_before": old.container}
    return runs.module(cluster.lab, host, "ovn_controller", {**homes, **options})


def require_nothing_lost(probing: probe.Probe) -> None:
    losses = probe.Losses.of(probing.result)
    print(losses)
    assert (losses.established, losses.new) == (0, 0), losses


def test_the_whole_way_costs_milliseconds(cluster: Cluster, host: Host) -> None:
    old, surge = cluster.only_pod(host), cluster.surge(host)
    rows, before = chassis.rows(cluster), chassis.settings(cluster, host)
    assert cluster.daemon_owner(host, CONTROLLER) == old.container
    assert len(rows) == len(cluster.lab.hosts)
    with chassis.pinging(cluster) as pings:
        with chassis.probing(cluster, host) as probing:
            hand_over(cluster, host, old, surge)
            confirm(cluster, host)
        require_milliseconds(probing, LONGEST_GAP_MS)
        assert cluster.daemon_owner(host, CONTROLLER) == old.container
        with chassis.probing(cluster, host) as probing:
            moved = move(cluster, host, old, surge)
            assert not moved["failed"], moved["msg"]
            assert (moved["changed"], moved["before"], moved["after"]) == (True, OLD, NEW)
            assert cluster.daemon_owner(host, CONTROLLER) == surge.container
            again = move(cluster, host, old, surge)
            assert (again["failed"], again.get("changed"), again.get("after")) == (False, False, NEW), again
            adopt(cluster, host, old, surge)
        require_nothing_lost(probing)
    print("pings lost:", [f"{each.lost} of {each.sent}" for each in pings])
    assert max(each.lost for each in pings) <= MOST_PINGS, pings
    adopted = cluster.only_pod(host)
    assert (adopted.uid, owners(cluster, host, adopted)) == (surge.uid, ALL)
    assert cluster.daemon_owner(host, CONTROLLER) == adopted.container
    chassis.synchronise(cluster)
    assert chassis.version(cluster, host) == NEW
    assert (chassis.rows(cluster), chassis.settings(cluster, host)) == (rows, before)


@pytest.mark.parametrize("program", USELESS.values(), ids=USELESS.keys())
def test_one_that_cannot_work_goes_back_to_the_old_pod(cluster: Cluster, one: Host, program: str) -> None:
    chassis.restart(cluster, one)
    old, surge = cluster.only_pod(one), cluster.surge(one)
    rows, before = chassis.rows(cluster), chassis.settings(cluster, one)
    flows = chassis.flows(cluster, one)
    cluster.execute(surge, "cp", "/usr/bin/ovn-controller", "/opt/other")
    cluster.execute(surge, "mv", "/usr/bin/ovn-controller", "/opt")
    cluster.execute(
        surge, "bash", "-c", f"echo '{program}' > /usr/bin/ovn-controller; chmod 755 /usr/bin/ovn-controller"
    )
    hand_over(cluster, one, old, surge, confirm_timeout=900)
    with chassis.probing(cluster, one) as probing:
        moved = move(cluster, one, old, surge, settle_timeout=30)
    assert moved["failed"], moved
    print(moved["msg"])
    assert cluster.daemon_owner(one, CONTROLLER) == old.container
    require_nothing_lost(probing)
    with chassis.probing(cluster, one) as probing:
        module(cluster, one, "ovs_handover", state="rolled_back")
        cluster.delete(surge)
        wait_until(lambda: [pod.name for pod in cluster.pods(one)] == [old.name], SLOW)
    require_milliseconds(probing, LONGEST_GAP_MS)
    assert owners(cluster, one, old) == ALL
    chassis.synchronise(cluster)
    assert chassis.version(cluster, one) == OLD
    assert set(chassis.flows(cluster, one)) ^ set(flows) == set()
    assert (chassis.rows(cluster), chassis.settings(cluster, one)) == (rows, before)


def test_the_playbook_replaces_the_pods_of_both_nodes(cluster: Cluster) -> None:
    for host in cluster.lab.hosts:
        renewed(cluster, host)
    cluster.retemplate(FROM)
    rows, before = chassis.rows(cluster), [chassis.settings(cluster, host) for host in cluster.lab.hosts]
    with contextlib.ExitStack() as stack:
        pings = stack.enter_context(chassis.pinging(cluster))
        probes = [stack.enter_context(chassis.probing(cluster, host)) for host in cluster.lab.hosts]
        play(cluster)
    for probing in probes:
        require_milliseconds(probing, LONGEST_GAP_MS)
    print("pings lost:", [f"{each.lost} of {each.sent}" for each in pings])
    assert max(each.lost for each in pings) <= 2 * MOST_PINGS, "each node is upgraded once"
    chassis.synchronise(cluster)
    uid, pods = cluster.daemonset()["metadata"]["uid"], cluster.pods()
    for host in cluster.lab.hosts:
        pod = cluster.only_pod(host)
        assert (pod.owner, pod.image, owners(cluster, host, pod)) == (uid, manifests.image(TO), ALL)
        assert chassis.version(cluster, host) == NEW
    assert chassis.rows(cluster) == rows
    assert [chassis.settings(cluster, host) for host in cluster.lab.hosts] == before
    again = play(cluster)
    assert all(
        "changed=0" in line
        for line in again.partition("PLAY RECAP")[2].splitlines()
        if line.startswith("host")
    )
    assert cluster.pods() == pods


def play(cluster: Cluster) -> str:
    """Run the playbook kube_ovn on all nodes; returns what it said."""
    variables = {
        "kube_ovn_image": manifests.image(TO),
        "kube_ovn_kubeconfig": str(control.kubeconfig(cluster.lab)),
    }
    argv = runs.playbook_argv([cluster.lab.inventory], variables, playbook="ovsops.hot_upgrade.kube_ovn")
    done = runs.play(argv)
    assert done.returncode == 0, done.stdout
    return done.stdout
