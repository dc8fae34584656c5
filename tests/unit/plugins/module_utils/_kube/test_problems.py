# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that is in the way of a rollout, one after the other."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.cluster import Json
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.objects import MARK, ROLLOUT, VOLUME
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.problems import (
    Seen,
    Wanted,
    problems,
    together,
    warnings,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.rollout import Rollout
from tests.unit.plugins.module_utils._kube.fake import NEW, FakeCluster, node

WANTED = Wanted("openvswitch", NEW, ("n1", "n2"))


def seen(cluster: FakeCluster) -> Seen:
    return Rollout(cluster, "openvswitch", clock=cluster.clock).look()


def said(cluster: FakeCluster, **wanted: t.Any) -> list[str]:
    return [str(each) for each in problems(seen(cluster), dataclasses.replace(WANTED, **wanted))]


def first_pod(cluster: FakeCluster) -> Json:
    return next(iter(cluster.all_pods.values()))


def container(cluster: FakeCluster) -> Json:
    return t.cast(Json, cluster.set["spec"]["template"]["spec"]["containers"][0])


def test_a_cluster_as_it_should_be() -> None:
    for strategy in ("OnDelete", "RollingUpdate"):
        assert said(FakeCluster(strategy)) == []


def never_ready(cluster: FakeCluster) -> None:
    first_pod(cluster)["status"] = {"phase": "Pending"}


def ending(cluster: FakeCluster) -> None:
    first_pod(cluster)["metadata"]["deletionTimestamp"] = "now"


def no_command(cluster: FakeCluster) -> None:
    del container(cluster)["command"]


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (
            lambda c: c.set["spec"].update(updateStrategy={"type": "Later"}),
            "strategy Later of DaemonSet kube-system/ovs-ovn",
        ),
        (lambda c: c.set["metadata"].update(generation=2), "has not seen its last change"),
        (lambda c: c.all_nodes.pop("n1"), "the cluster has no node n1: it has 1: n2"),
        (lambda c: c.all_nodes.update(n1=node("n1", False)), "node n1 is not ready"),
        (lambda c: c.all_pods.pop("ovs-ovn-1"), "node n1 does not have exactly one pod"),
        (lambda c: c._controllers_pod("n1"), "it has ovs-ovn-1, ovs-ovn-3"),
        (never_ready, "pod ovs-ovn-1 on node n1 is not ready: its phase is Pending"),
        (ending, "is being deleted"),
        (no_command, "names no command"),
        (lambda c: c.set["metadata"].update(annotations={ROLLOUT: "mine"}), "cannot be read: it is 'mine'"),
        (
            lambda c: c.set["spec"].update(selector={"matchExpressions": []}),
            "would select a surge pod at once",
        ),
        (lambda c: container(c).update(lifecycle={"preStop": {}}), "has preStop of openvswitch"),
    ],
)
def test_what_is_in_the_way(broken: t.Callable[[FakeCluster], object], why: str) -> None:
    cluster = FakeCluster()
    broken(cluster)
    (text,) = said(cluster)
    assert why in text


def test_a_rollout_of_the_controllers_own_is_let_end() -> None:
    cluster = FakeCluster("RollingUpdate")
    cluster.set["status"]["updatedNumberScheduled"] = 1
    assert "1 of 2 pods have the newest template" in said(cluster)[0]
    cluster.set["spec"]["updateStrategy"] = {"type": "OnDelete"}
    assert said(cluster) == []


def test_hooks_and_entry_points_can_be_answered_for() -> None:
    cluster = FakeCluster()
    container(cluster)["lifecycle"] = {"postStart": {}}
    no_command(cluster)
    assert len(said(cluster)) == 2
    assert said(cluster, accept_hooks=True, entrypoint=("/start",)) == []


def test_the_hook_of_a_pod_that_is_replaced_counts_too() -> None:
    cluster = FakeCluster()
    first_pod(cluster)["spec"]["containers"][0]["lifecycle"] = {"preStop": {}}
    assert said(cluster) == [], "nobody replaces it"
    cluster.set["spec"]["template"]["metadata"]["annotations"]["note"] = "1"
    cluster._revise()
    assert "pod ovs-ovn-1 on node n1 has preStop of openvswitch" in said(cluster)[0]
    assert said(cluster, accept_hooks=True) == []


def test_another_container_is_not_there() -> None:
    assert "its template has openvswitch, other" in said(FakeCluster(), container="ovs")[0]


def test_nodes_that_are_not_rolled_are_not_in_the_way() -> None:
    cluster = FakeCluster()
    never_ready(cluster)
    assert said(cluster, nodes=("n2",)) == []
    told = list(warnings(seen(cluster), dataclasses.replace(WANTED, nodes=("n2",))))
    assert told == ["pods of DaemonSet kube-system/ovs-ovn on nodes that are not rolled are not ready: n1"]
    assert list(warnings(seen(cluster), WANTED)) == []


def test_a_node_where_an_earlier_run_has_left_a_surge_pod_is_gone_on_with() -> None:
    cluster = FakeCluster()
    cluster._controllers_pod("n1")
    surge = list(cluster.all_pods.values())[-1]
    surge["metadata"].update(labels={MARK: "ovs-ovn"}, ownerReferences=[])
    surge["spec"]["volumes"] = [{"name": VOLUME}]
    ending(cluster)
    assert said(cluster) == []


def test_whoever_would_put_the_strategy_back_is_named() -> None:
    cluster = FakeCluster()
    cluster.set["metadata"]["annotations"] = {"argocd.argoproj.io/tracking-id": "x"}
    (text,) = warnings(seen(cluster), WANTED)
    assert text.startswith("Argo CD manages DaemonSet kube-system/ovs-ovn")


def test_several_refusals_make_one() -> None:
    cluster = FakeCluster()
    never_ready(cluster)
    cluster.all_nodes["n2"] = node("n2", False)
    found = list(problems(seen(cluster), WANTED))
    assert together(found[:1]) is found[0]
    text = str(together(found))
    assert text.startswith("2 things are in the way: (1) pod ovs-ovn-1 on node n1 is not ready")
    assert "(2) node n2 is not ready" in text
    assert ".." not in text
