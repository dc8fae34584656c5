# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the API shows, read."""

from __future__ import annotations

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube import objects
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.cluster import Json
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.objects import (
    HASH,
    MARK,
    VOLUME,
    Crew,
    DaemonSet,
    Memory,
    Pod,
    crew,
    full_image,
    has_image,
    newest,
    revision_of,
    selects,
)
from tests.unit.plugins.module_utils._kube.fake import UID, FakeCluster, daemonset, node


def pod(name: str, created: str = "1", owner: str | None = UID, marked: bool = False, **about: object) -> Pod:
    labels = {MARK: "ovs-ovn"} if marked else {HASH: "h1"}
    owners = [{"uid": owner, "controller": True}, {"uid": "another"}] if owner else []
    metadata = {
        "name": name,
        "uid": name,
        "creationTimestamp": created,
        "labels": labels,
        "ownerReferences": owners,
        **about,
    }
    volumes = [{"name": VOLUME}] if marked else []
    spec = {"nodeName": "n1", "containers": [{"name": "x", "image": "i"}], "volumes": volumes}
    return Pod.read({"metadata": metadata, "spec": spec})


def test_a_pod_is_read_with_the_container_that_was_asked_for() -> None:
    cluster = FakeCluster()
    raw = next(iter(cluster.all_pods.values()))
    raw["status"]["containerStatuses"].insert(
        0, {"name": "other", "restartCount": 9, "containerID": "docker://9"}
    )
    found = Pod.read(raw, "openvswitch")
    assert (found.container, found.restarts, found.ready, found.owner) == ("c-ovs-ovn-1", 0, True, UID)
    assert (found.node, found.revision, found.ending, found.trouble) == ("n1", "h1", False, "")
    assert Pod.read(raw, "other").restarts == 9
    assert Pod.read({"metadata": raw["metadata"], "spec": raw["spec"]}).container == ""


def test_why_a_pod_is_not_ready_is_told_in_the_words_of_kubernetes() -> None:
    raw = next(iter(FakeCluster().all_pods.values()))
    raw["status"] = {
        "phase": "Pending",
        "reason": "OutOfcpu",
        "message": "Node didn't have enough resource: cpu",
        "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
        "initContainerStatuses": [
            {"name": "init", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
        ],
        "containerStatuses": [
            {
                "name": "openvswitch",
                "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
            },
            {"name": "other", "state": {"terminated": {"exitCode": 1}}},
        ],
    }
    assert Pod.read(raw).trouble == (
        "OutOfcpu: Node didn't have enough resource: cpu; ContainersNotReady; "
        "container openvswitch is waiting: ImagePullBackOff: no such image; container other is terminated: no reason is given"
    )


def test_hooks_are_named() -> None:
    containers: list[Json] = [
        {"name": "a", "lifecycle": {"preStop": {}, "postStart": {}, "stopSignal": "TERM"}},
        {"name": "b"},
    ]
    assert list(objects.hooks(containers)) == ["postStart of a", "preStop of a"]


def test_the_newest_revision_is_the_one_with_the_highest_number() -> None:
    cluster = FakeCluster()
    assert newest([], UID) is None
    cluster.set["spec"]["template"]["metadata"]["labels"]["more"] = "1"
    cluster._revise()
    found = newest(cluster.revisions(), UID)
    assert found is not None
    assert (found.hash, found.labels["more"]) == ("h2", "1")
    first = revision_of(cluster.revisions(), UID, "h1")
    assert first is not None
    assert (first.number, "more" in first.labels) == (1, False)
    assert revision_of(cluster.revisions(), UID, "z") is None, "of another DaemonSet"


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ({"matchLabels": {"app": "ovs"}}, True),
        ({"matchLabels": {"app": "ovn"}}, False),
        ({}, True),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["ovs", "x"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["ovs"]}]}, False),
        ({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["y"]}]}, True),
        ({"matchExpressions": [{"key": "x", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}, True),
        ({"matchLabels": {"app": "ovs"}, "matchExpressions": [{"key": "x", "operator": "Later"}]}, True),
    ],
)
def test_selectors(selector: Json, selected: bool) -> None:
    assert selects(selector, {"app": "ovs", "z": "1"}) is selected


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("kubeovn/kube-ovn:v1", "docker.io/kubeovn/kube-ovn:v1"),
        ("registry:5000/a", "registry:5000/a:latest"),
        ("localhost/a:1", "localhost/a:1"),
        ("quay.io/a/b@sha256:12", "quay.io/a/b@sha256:12"),
    ],
)
def test_images_have_one_name(name: str, full: str) -> None:
    assert full_image(name) == full


def test_a_node_tells_of_its_images() -> None:
    found = node("n", images=["docker.io/kubeovn/kube-ovn:v1"])
    assert has_image(found, "kubeovn/kube-ovn:v1")
    assert not has_image(found, "kubeovn/kube-ovn:v2")
    assert not has_image({}, "kubeovn/kube-ovn:v2")


def test_a_node_tells_where_it_is() -> None:
    told = [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "192.0.2.1"}]
    assert objects.address({"status": {"addresses": told}}) == "192.0.2.1"
    assert objects.address({}) == ""


def test_what_others_have_written_is_no_memory() -> None:
    memory = Memory({"type": "RollingUpdate"}, "i")
    assert Memory.read(memory.written()) == memory
    for text in ("", "[]", "{}", '{"strategy": 1, "image": "i"}'):
        assert Memory.read(text) is None, text


def who(*pods: Pod) -> Crew:
    return crew(pods, "n1", DaemonSet.read(daemonset()))


def test_who_is_on_a_node() -> None:
    old, surge, third = pod("old", "2"), pod("surge", "5", None, True), pod("third", "7")
    assert who(old).only == old
    assert who(old).surge is None
    assert who(pod("stranger", owner="somebody")).own == ()
    found = who(old, surge, third)
    assert (found.old, found.surge, found.third, found.adopted) == ((old,), surge, (third,), False)
    assert found.only is None
    taken = who(pod("surge", "5", UID, True))
    assert taken.adopted
    assert taken.only == taken.surge
    assert taken.own == ()
    assert crew([old], "n2", DaemonSet.read(daemonset())).own == ()


def test_a_label_alone_makes_no_surge_pod() -> None:
    """Whoever may change labels would have a pod of others deleted, or the daemons handed over to it."""
    daemons, victim = DaemonSet.read(daemonset()), pod("dns", owner=None, labels={MARK: "ovs-ovn"})
    assert crew([victim], "n1", daemons).surge is None
    assert crew([pod("surge", owner=None, marked=True)], "n1", daemons).surge is not None
