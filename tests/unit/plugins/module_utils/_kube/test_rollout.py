# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The beginning and the end of a rollout, on a cluster whose controller does its work."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused, Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import TimedOut
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.cluster import Conflict
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.objects import (
    HASH,
    MARK,
    ROLLOUT,
    VOLUME,
    Memory,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.problems import Wanted
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.rollout import Rollout
from tests.unit.plugins.module_utils._kube.fake import NEW, OLD, FakeCluster

WANTED = Wanted("openvswitch", NEW, ("n1", "n2"))
ROLLING = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}


def rollout(cluster: FakeCluster) -> Rollout:
    return Rollout(cluster, "openvswitch", 60, cluster.clock)


def renew(cluster: FakeCluster) -> None:
    """Every pod is of the newest revision."""
    for pod in cluster.all_pods.values():
        pod["metadata"]["labels"][HASH] = cluster.hash


def test_one_patch_takes_the_pods_from_the_controller_and_names_the_image() -> None:
    cluster = FakeCluster("RollingUpdate")
    begun = rollout(cluster).begin(WANTED)
    assert begun.changed
    assert (begun.before, begun.revision, begun.left) == (
        {"strategy": ROLLING, "image": OLD},
        "h2",
        ("n1", "n2"),
    )
    assert begun.after == {"strategy": {"type": "OnDelete"}, "image": NEW}
    assert cluster.calls.count("patch_daemonset") == 1
    spec = cluster.set["spec"]
    assert spec["updateStrategy"] == {"type": "OnDelete"}
    pod = spec["template"]["spec"]
    assert [each["image"] for each in pod["containers"]] == [NEW, "docker.io/lab/other:1"]
    assert pod["initContainers"][0]["image"] == NEW, "it had the same one"
    assert Memory.read(cluster.set["metadata"]["annotations"][ROLLOUT]) == Memory(ROLLING, OLD)


def test_check_mode_changes_nothing() -> None:
    cluster = FakeCluster("RollingUpdate")
    begun = rollout(cluster).begin(WANTED, check_mode=True)
    assert (begun.changed, begun.revision, begun.left) == (True, "", ("n1", "n2"))
    assert "patch_daemonset" not in cluster.calls


def test_nothing_is_changed_where_something_is_in_the_way() -> None:
    cluster = FakeCluster("RollingUpdate")
    cluster.all_pods.clear()
    with pytest.raises(Refused, match="2 things are in the way"):
        rollout(cluster).begin(WANTED)
    assert "patch_daemonset" not in cluster.calls


def test_nothing_is_changed_where_all_is_as_it_should_be() -> None:
    cluster = FakeCluster("RollingUpdate")
    begun = rollout(cluster).begin(dataclasses.replace(WANTED, image=OLD))
    assert (begun.changed, begun.left) == (False, ())
    assert cluster.set["spec"]["updateStrategy"] == ROLLING


def test_a_template_that_somebody_has_changed_before_is_rolled() -> None:
    """Helm has named the new image, and the strategy is OnDelete: as kube-ovn is upgraded there."""
    cluster = FakeCluster()
    cluster.set["spec"]["template"]["metadata"]["annotations"]["note"] = "1"
    cluster._revise()
    begun = rollout(cluster).begin(dataclasses.replace(WANTED, image=OLD))
    assert (begun.changed, begun.left) == (True, ("n1", "n2"))
    assert Memory.read(cluster.set["metadata"]["annotations"][ROLLOUT]) == Memory({"type": "OnDelete"}, OLD)


def test_of_several_runs_the_first_one_knows_what_was_before() -> None:
    cluster = FakeCluster("RollingUpdate")
    assert rollout(cluster).begin(WANTED).changed
    assert not rollout(cluster).begin(WANTED).changed
    back = rollout(cluster).begin(dataclasses.replace(WANTED, image=OLD))
    assert (back.changed, back.revision, back.left) == (True, "h1", ())
    assert Memory.read(cluster.set["metadata"]["annotations"][ROLLOUT]) == Memory(ROLLING, OLD)


def test_somebody_elses_change_is_looked_at_before_it_is_tried_again() -> None:
    cluster = FakeCluster()
    cluster.conflicts = 2
    assert rollout(cluster).begin(WANTED).changed
    assert cluster.calls.count("patch_daemonset") == 3
    cluster.conflicts = 99
    with pytest.raises(Conflict):
        rollout(cluster).begin(dataclasses.replace(WANTED, image=OLD))


def test_a_controller_that_does_not_follow_is_said() -> None:
    cluster = FakeCluster()
    cluster.controller_runs = False
    with pytest.raises(TimedOut, match="generation 2, and the controller has seen 1"):
        rollout(cluster).begin(WANTED)


def test_the_strategy_comes_back_when_every_pod_is_of_the_newest_revision() -> None:
    cluster = FakeCluster("RollingUpdate")
    rollout(cluster).begin(WANTED)
    ended = rollout(cluster).end()
    assert (ended.restored, ended.left) == (False, ("n1", "n2"))
    assert cluster.set["spec"]["updateStrategy"] == {"type": "OnDelete"}
    assert ROLLOUT in cluster.set["metadata"]["annotations"]
    renew(cluster)
    assert rollout(cluster).end(check_mode=True).restored
    assert cluster.set["spec"]["updateStrategy"] == {"type": "OnDelete"}
    cluster.conflicts = 1
    ended = rollout(cluster).end()
    assert (ended.restored, ended.after["strategy"]) == (True, ROLLING)
    assert cluster.set["spec"]["updateStrategy"] == ROLLING
    assert ROLLOUT not in cluster.set["metadata"]["annotations"]
    assert rollout(cluster).end().restored is None


def test_the_strategy_stays_while_a_pod_ends_or_a_surge_pod_waits() -> None:
    cluster = FakeCluster("RollingUpdate")
    rollout(cluster).begin(WANTED)
    renew(cluster)
    pod = next(iter(cluster.all_pods.values()))
    pod["metadata"]["deletionTimestamp"] = "now"
    assert rollout(cluster).end().left == ("n1",)
    del pod["metadata"]["deletionTimestamp"]
    cluster._controllers_pod("n2")
    made = list(cluster.all_pods.values())[-1]
    surge, made["spec"]["volumes"] = made["metadata"], [{"name": VOLUME}]
    surge["labels"][MARK] = "ovs-ovn"
    assert rollout(cluster).end().restored, "it is the DaemonSet's"
    rollout(cluster).begin(dataclasses.replace(WANTED, image=OLD, nodes=("n1",)))
    renew(cluster)
    surge.update(ownerReferences=[], labels={MARK: "ovs-ovn"})
    assert rollout(cluster).end().left == ("n2",)


def test_how_it_stands() -> None:
    cluster = FakeCluster("RollingUpdate")
    rollout(cluster).begin(WANTED)
    told = rollout(cluster).info()
    assert (told["strategy"], told["image"], told["revision"]) == ({"type": "OnDelete"}, NEW, "h2")
    assert told["remembered"] == {"strategy": ROLLING, "image": OLD}
    assert [each["node"] for each in told["nodes"]] == ["n1", "n2"]
    renew(cluster)
    (one,) = rollout(cluster).info("n2")["nodes"]
    assert (one["node"], one["ready"], one["current"], one["image_present"]) == ("n2", True, True, False)
    assert (one["pod"]["name"], one["surge"], one["adopted"], one["third"]) == ("ovs-ovn-2", None, False, [])


@pytest.mark.parametrize("how", ["away", "lost_answers"])
def test_an_api_server_that_is_away_in_the_end_is_asked_again(how: str) -> None:
    cluster = FakeCluster("RollingUpdate")
    rollout(cluster).begin(WANTED)
    renew(cluster)
    getattr(cluster, how)["patch_daemonset"] = 3 if how == "away" else 1
    done = rollout(cluster).end()
    assert (done.restored, done.after["strategy"]) == (True, ROLLING)
    assert cluster.set["spec"]["updateStrategy"] == ROLLING


def test_one_that_stays_away_is_said() -> None:
    cluster = FakeCluster("RollingUpdate")
    cluster.away["daemonset"] = 99999
    with pytest.raises(TimedOut, match="until the API server takes the strategy of before.*is away"):
        rollout(cluster).end()
    with pytest.raises(TimedOut, match="until the API server of the cluster answers.*is away"):
        rollout(cluster).info()
    with pytest.raises(Unreachable, match="is away"):
        Rollout(cluster, "openvswitch", 0, cluster.clock).info()
    with pytest.raises(Unreachable, match="is away"):
        rollout(cluster).begin(WANTED)
