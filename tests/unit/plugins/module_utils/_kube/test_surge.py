# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A surge pod on a cluster whose controller does what the real one was seen to do."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import TimedOut
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.cluster import Json
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.objects import HASH, MARK
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.problems import Wanted
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.rollout import Rollout
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.surge import Done, Surge, ThirdPod
from tests.unit.plugins.module_utils._kube.fake import LABELS, NEW, OLD, UID, FakeCluster


@pytest.fixture
def cluster() -> FakeCluster:
    """A rollout has begun, and the pods are of the template before."""
    made = FakeCluster()
    Rollout(made, "openvswitch", clock=made.clock).begin(Wanted("openvswitch", NEW, ("n1", "n2")))
    made.calls.clear()
    return made


def surge(cluster: FakeCluster, node: str = "n1") -> Surge:
    return Surge(cluster, node, "openvswitch", cluster.clock)


def here(cluster: FakeCluster, node: str = "n1") -> list[str]:
    return [name for name, pod in cluster.all_pods.items() if pod["spec"]["nodeName"] == node]


def metadata(cluster: FakeCluster, name: str) -> Json:
    return t.cast(Json, cluster.all_pods[name]["metadata"])


# --- present --------------------------------------------------------------------------------------------


def test_a_surge_pod_stands_beside_the_old_one(cluster: FakeCluster) -> None:
    done = surge(cluster).present(60)
    assert done.surge is not None
    assert (done.changed, done.surge.name, done.old) == (True, "ovs-ovn-3", ("ovs-ovn-1",))
    assert (done.surge.container, done.surge.image, done.surge.revision) == ("c-ovs-ovn-3", NEW, "h2")
    cluster.clock.sleep(600)
    assert here(cluster) == ["ovs-ovn-1", "ovs-ovn-3"], "the controller leaves it alone"
    again = surge(cluster).present(60)
    assert (again.changed, again.surge) == (False, done.surge)


def test_check_mode_makes_none(cluster: FakeCluster) -> None:
    assert surge(cluster).present(60, check_mode=True) == Done(True, None, ("ovs-ovn-1",))
    assert here(cluster) == ["ovs-ovn-1"]
    surge(cluster).present(60)
    assert not surge(cluster).present(60, check_mode=True).changed


def test_one_for_a_rehearsal_is_never_adopted_and_nobody_elses(cluster: FakeCluster) -> None:
    done = surge(cluster).present(60, image="other:1")
    assert done.surge is not None
    assert (done.surge.image, done.surge.revision) == ("other:1", "")
    assert surge(cluster).present(60, image="other:1") == dataclasses.replace(done, changed=False)
    for image, wanted in (("other:2", "for a rehearsal of other:2"), ("", "of revision h2")):
        with pytest.raises(Refused, match=f"it is for a rehearsal of other:1, and wanted is one {wanted}"):
            surge(cluster).present(60, image=image)
    cluster.calls.clear()
    with pytest.raises(Refused, match="is of no revision that"):
        surge(cluster).adopted(30, 60)
    assert not [call for call in cluster.calls if "delete" in call or "patch" in call]
    assert surge(cluster).absent(60).changed
    assert here(cluster) == ["ovs-ovn-1"]


def test_one_that_does_not_become_ready_stays_for_whoever_knows_the_daemons(cluster: FakeCluster) -> None:
    cluster.becomes_ready = False
    with pytest.raises(TimedOut, match="ovs-ovn-3: Pending"):
        surge(cluster).present(60)
    assert here(cluster) == ["ovs-ovn-1", "ovs-ovn-3"]
    assert cluster.clock.now == 60


def test_one_that_kubelet_rejects_is_not_waited_for(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.becomes_ready = False
    create = cluster.create_pod

    def rejected(pod: Json) -> Json:
        made = create(pod)
        cluster.all_pods[made["metadata"]["name"]]["status"] = {"phase": "Failed", "reason": "OutOfcpu"}
        return made

    monkeypatch.setattr(cluster, "create_pod", rejected)
    with pytest.raises(HotUpgradeError, match="ended: OutOfcpu"):
        surge(cluster).present(60)
    assert cluster.clock.now == 0


@pytest.mark.parametrize("call", ["daemonset", "revisions", "create_pod"])
def test_an_api_server_that_is_away_before_a_surge_pod_is_asked_again(
    cluster: FakeCluster, call: str
) -> None:
    cluster.away[call] = 3
    assert surge(cluster).present(60).changed
    assert here(cluster) == ["ovs-ovn-1", "ovs-ovn-3"]


def test_a_surge_pod_whose_answer_was_lost_is_made_once(cluster: FakeCluster) -> None:
    cluster.lost_answers["create_pod"] = 1
    assert surge(cluster).present(60).changed
    assert here(cluster) == ["ovs-ovn-1", "ovs-ovn-3"]


def test_an_api_server_that_stays_away_is_said_before_anything_is_deleted(cluster: FakeCluster) -> None:
    surge(cluster).present(60)
    cluster.away["daemonset"] = 99999
    said = "until the API server answers about node n1.*Nothing was changed"
    with pytest.raises(TimedOut, match=said):
        surge(cluster).adopted(30, 20)
    with pytest.raises(TimedOut, match=said):
        surge(cluster).absent(20)
    cluster.away.clear()
    assert here(cluster) == ["ovs-ovn-1", "ovs-ovn-3"]
    cluster.away["daemonset"] = 5
    assert surge(cluster).adopted(30, 60).changed


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_one_that_kubelet_has_ended_takes_nobodys_place(cluster: FakeCluster, phase: str) -> None:
    surge(cluster).present(60)
    cluster.all_pods["ovs-ovn-3"]["status"] = {"phase": phase, "reason": "Evicted"}
    with pytest.raises(Refused, match="ovs-ovn-3 on node n1 has ended: Evicted"):
        surge(cluster).adopted(30, 60)
    assert "deletionTimestamp" not in metadata(cluster, "ovs-ovn-1")
    assert surge(cluster).absent(60).changed


def test_one_whose_container_was_started_again_is_not_trusted(cluster: FakeCluster) -> None:
    surge(cluster).present(60)
    cluster.be_ready(cluster.all_pods["ovs-ovn-3"], restarts=2)
    with pytest.raises(HotUpgradeError, match=r"started again \(2 times\)"):
        surge(cluster).present(60)


def test_one_that_goes_away_meanwhile(cluster: FakeCluster) -> None:
    cluster.becomes_ready = False

    def evicted() -> None:
        cluster.all_pods.pop("ovs-ovn-3", None)

    cluster.clock.works = evicted
    with pytest.raises(HotUpgradeError, match="went away before it was ready"):
        surge(cluster).present(60)


def test_one_of_an_older_template_is_in_the_way(cluster: FakeCluster) -> None:
    surge(cluster).present(60)
    Rollout(cluster, "openvswitch", clock=cluster.clock).begin(Wanted("openvswitch", OLD, ("n2",)))
    with pytest.raises(
        Refused, match="of another template: it is of revision h2, and wanted is one of revision h1"
    ):
        surge(cluster).present(60)
    metadata(cluster, "ovs-ovn-3")["deletionTimestamp"] = "now"
    with pytest.raises(Refused, match="is being deleted"):
        surge(cluster).present(60)


def test_two_are_one_too_many(cluster: FakeCluster) -> None:
    surge(cluster).present(60)
    cluster._add(
        {
            "metadata": {**metadata(cluster, "ovs-ovn-3"), "generateName": "x-"},
            "spec": cluster.all_pods["ovs-ovn-3"]["spec"],
        }
    )
    for ask in (surge(cluster).look, lambda: surge(cluster).absent(60)):
        with pytest.raises(Refused, match="has 2 surge pods"):
            ask()


def test_a_template_that_the_controller_has_not_seen_is_not_taken(cluster: FakeCluster) -> None:
    cluster.controller_runs = False
    cluster.set["metadata"]["generation"] = 9
    with pytest.raises(Refused, match="has made no revision of the present template"):
        surge(cluster).present(60)
    assert here(cluster) == ["ovs-ovn-1"]


# --- adopted --------------------------------------------------------------------------------------------


def test_it_takes_the_place_of_the_old_pod(cluster: FakeCluster) -> None:
    surge(cluster).present(60)
    cluster.calls.clear()
    done = surge(cluster).adopted(30, 60)
    assert done.surge is not None
    assert (done.changed, done.old, done.third) == (True, ("ovs-ovn-1",), ())
    assert (done.surge.owner, done.surge.labels) == (UID, {**LABELS, HASH: "h2"})
    assert here(cluster) == ["ovs-ovn-3"]
    begun = cluster.calls.index("delete ovs-ovn-1")
    assert cluster.calls[begun + 1] == "patch ovs-ovn-3", "nothing comes in between"
    assert 35 <= cluster.clock.now < 40
    assert here(cluster, "n2") == ["ovs-ovn-2"]
    cluster.clock.sleep(600)
    assert here(cluster) == ["ovs-ovn-3"]
    again = surge(cluster).adopted(30, 60)
    assert (again.changed, again.surge) == (False, done.surge)


def test_the_next_surge_pod_takes_the_place_of_an_adopted_one(cluster: FakeCluster) -> None:
    surge(cluster).present(60)
    surge(cluster).adopted(30, 60)
    Rollout(cluster, "openvswitch", clock=cluster.clock).begin(Wanted("openvswitch", OLD, ("n1",)))
    surge(cluster).present(60)
    assert surge(cluster).adopted(30, 60).old == ("ovs-ovn-3",)
    assert [metadata(cluster, name)["labels"][HASH] for name in here(cluster)] == ["h1"]


def test_check_mode_touches_nothing(cluster: FakeCluster) -> None:
    surge(cluster).present(60)
    done = surge(cluster).adopted(30, 60, check_mode=True)
    assert (done.changed, done.old) == (True, ("ovs-ovn-1",))
    cluster.clock.sleep(600)
    assert here(cluster) == ["ovs-ovn-1", "ovs-ovn-3"]


def test_a_short_grace_is_refused_and_so_is_a_node_without_a_surge_pod(cluster: FakeCluster) -> None:
    with pytest.raises(Refused, match="has no surge pod"):
        surge(cluster).adopted(30, 60)
    surge(cluster).present(60)
    with pytest.raises(Refused, match="grace of 9 s is refused"):
        surge(cluster).adopted(9, 60)
    metadata(cluster, "ovs-ovn-3")["deletionTimestamp"] = "now"
    with pytest.raises(Refused, match="is being deleted"):
        surge(cluster).adopted(30, 60)
    assert "deletionTimestamp" not in metadata(cluster, "ovs-ovn-1")


@pytest.mark.parametrize(
    "kept",
    [
        (("away", "delete ovs-ovn-1"),),
        (("lost_answers", "delete ovs-ovn-1"),),
        (("away", "patch ovs-ovn-3"),),
    ],
)
def test_an_api_server_that_is_away_for_a_moment(
    cluster: FakeCluster, kept: tuple[tuple[str, str], ...]
) -> None:
    surge(cluster).present(60)
    for how, call in kept:
        getattr(cluster, how)[call] = 3
    done = surge(cluster).adopted(30, 60)
    assert (done.changed, done.third, here(cluster)) == (True, (), ["ovs-ovn-3"])


def test_labels_that_never_come_are_said(cluster: FakeCluster) -> None:
    surge(cluster).present(60)
    cluster.away["patch ovs-ovn-3"] = 99999
    with pytest.raises(TimedOut, match="labels come too late"):
        surge(cluster).adopted(30, 20)
    cluster.away.clear()
    done = surge(cluster).adopted(30, 60)
    assert (done.third, here(cluster)) == ((), ["ovs-ovn-3"]), "the next run comes in time"


def test_an_api_server_that_comes_back_too_late_finds_a_third_pod(cluster: FakeCluster) -> None:
    surge(cluster).present(60)
    cluster.away["patch ovs-ovn-3"] = 450
    with pytest.raises(ThirdPod, match="has made pod ovs-ovn-4 on node n1"):
        surge(cluster).adopted(30, 60)
    assert "ownerReferences" not in metadata(cluster, "ovs-ovn-3"), (
        "it has no labels that would have the other one deleted"
    )


def test_a_third_pod_is_replaced_by_whoever_knows_that_the_daemons_are_not_in_it(
    cluster: FakeCluster,
) -> None:
    surge(cluster).present(60)
    cluster.delete_pod("ovs-ovn-1", "uid-1", 0)
    cluster.clock.sleep(1)
    assert here(cluster) == ["ovs-ovn-3", "ovs-ovn-4"]
    with pytest.raises(ThirdPod):
        surge(cluster).adopted(30, 60)
    done = surge(cluster).adopted(30, 60, replace_third=True)
    assert done.third == ("ovs-ovn-4",)
    assert here(cluster) == ["ovs-ovn-3"]
    assert "delete ovs-ovn-4" not in cluster.calls, "that is the controller's"


def test_an_earlier_run_ended_after_the_deletion(cluster: FakeCluster) -> None:
    surge(cluster).present(60)
    cluster.delete_pod("ovs-ovn-1", "uid-1", 30)
    cluster.clock.sleep(10)
    assert surge(cluster).adopted(30, 60).old == ("ovs-ovn-1",)
    assert here(cluster) == ["ovs-ovn-3"]
    assert cluster.calls.count("delete ovs-ovn-1") == 1


def test_an_earlier_run_ended_after_the_labels(cluster: FakeCluster) -> None:
    surge(cluster).present(60)
    cluster.delete_pod("ovs-ovn-1", "uid-1", 30)
    cluster.patch_pod("ovs-ovn-3", {"metadata": {"labels": {**LABELS, HASH: "h2"}}})
    assert surge(cluster).adopted(30, 60).changed
    assert MARK not in metadata(cluster, "ovs-ovn-3")["labels"]
    assert here(cluster) == ["ovs-ovn-3"]


def test_an_earlier_run_ended_with_the_label_of_a_surge_pod_left(cluster: FakeCluster) -> None:
    surge(cluster).present(60)
    surge(cluster).adopted(30, 60)
    metadata(cluster, "ovs-ovn-3")["labels"][MARK] = "ovs-ovn"
    assert surge(cluster).adopted(30, 60, check_mode=True).changed
    assert MARK in metadata(cluster, "ovs-ovn-3")["labels"]
    assert surge(cluster).adopted(30, 60).changed
    assert MARK not in metadata(cluster, "ovs-ovn-3")["labels"]


def test_it_gets_the_labels_of_the_revision_that_it_was_made_from(cluster: FakeCluster) -> None:
    surge(cluster).present(60)
    Rollout(cluster, "openvswitch", clock=cluster.clock).begin(
        Wanted("openvswitch", "docker.io/x:3", ("n2",))
    )
    surge(cluster).adopted(30, 60)
    assert metadata(cluster, "ovs-ovn-3")["labels"][HASH] == "h2"
    cluster.kept[:] = [each for each in cluster.kept if each["metadata"]["labels"][HASH] != "h1"]
    surge(cluster, "n2").present(60)
    metadata(cluster, "ovs-ovn-4")["annotations"] = {}
    with pytest.raises(Refused, match="is of no revision"):
        surge(cluster, "n2").adopted(30, 60)


def test_a_surge_pod_that_goes_in_the_end_is_said(cluster: FakeCluster) -> None:
    surge(cluster).present(60)
    works = cluster.work

    def evicted() -> None:
        works()
        if cluster.clock.now > 5:
            cluster.all_pods.pop("ovs-ovn-3", None)

    cluster.clock.works = evicted
    with pytest.raises(HotUpgradeError, match="went away in the place of the old pod"):
        surge(cluster).adopted(30, 60)


def test_a_controller_that_does_not_run_is_said(cluster: FakeCluster) -> None:
    surge(cluster).present(60)
    cluster.controller_runs = False
    with pytest.raises(TimedOut, match="it is not adopted, and beside it are no others"):
        surge(cluster).adopted(30, 60)
    cluster.controller_runs = True
    cluster.work()
    assert surge(cluster).adopted(30, 60).changed
    assert here(cluster) == ["ovs-ovn-3"]


# --- absent ---------------------------------------------------------------------------------------------


def test_it_is_taken_away(cluster: FakeCluster) -> None:
    surge(cluster).present(60)
    assert surge(cluster).absent(60, check_mode=True).changed
    assert here(cluster) == ["ovs-ovn-1", "ovs-ovn-3"]
    assert surge(cluster).absent(60).changed
    assert here(cluster) == ["ovs-ovn-1"]
    assert not surge(cluster).absent(60).changed


def test_one_that_stays_is_said(cluster: FakeCluster) -> None:
    surge(cluster).present(60)
    with pytest.raises(TimedOut, match="it is still there"):
        surge(cluster).absent(20)


def test_an_adopted_one_is_not_taken_away(cluster: FakeCluster) -> None:
    surge(cluster).present(60)
    cluster.delete_pod("ovs-ovn-1", "uid-1", 30)
    cluster.patch_pod("ovs-ovn-3", {"metadata": {"labels": {**LABELS, HASH: "h2"}}})
    with pytest.raises(Refused, match="the controller has adopted it"):
        surge(cluster).absent(60)
