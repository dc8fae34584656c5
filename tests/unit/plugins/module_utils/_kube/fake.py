# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster for tests: it keeps a DaemonSet, its revisions and pods, and its controller does what was measured.

See tests/kube/README.md: orphans with the DaemonSet's labels are adopted; of two pods that are not being deleted the younger one
goes; a node gets a new pod when the object of the old one is gone, and not before.
"""

from __future__ import annotations

import copy
import dataclasses
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.cluster import Conflict, Json, Missing
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.objects import HASH, selects

UID = "uid-of-daemonset"
OLD, NEW = "docker.io/kubeovn/kube-ovn:v1", "docker.io/kubeovn/kube-ovn:v2"
SELECTOR = {"matchLabels": {"app": "ovs"}}
LABELS = {"app": "ovs", "component": "network"}


def template(image: str = OLD) -> Json:
    """The pod of the DaemonSet."""
    container = {
        "name": "openvswitch",
        "image": image,
        "command": ["/kube-ovn/start-ovs.sh"],
        "args": ["--x"],
    }
    return {
        "metadata": {"labels": dict(LABELS), "annotations": {"site": "here"}},
        "spec": {
            "hostNetwork": True,
            "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}],
            "initContainers": [{"name": "init", "image": image}],
            "containers": [container, {"name": "other", "image": "docker.io/lab/other:1"}],
        },
    }


def daemonset(strategy: str = "OnDelete", image: str = OLD, **status: int) -> Json:
    """The DaemonSet as the API shows it."""
    kind: Json = {"type": strategy}
    if strategy == "RollingUpdate":
        kind["rollingUpdate"] = {"maxUnavailable": 1, "maxSurge": 0}
    return {
        "metadata": {
            "name": "ovs-ovn", "namespace": "kube-system", "uid": UID, "generation": 1, "resourceVersion": "1",
        },
        "spec": {"selector": SELECTOR, "updateStrategy": kind, "template": template(image)},
        "status": {
            "observedGeneration": 1, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, **status,
        },
    }  # fmt: skip


def node(name: str, ready: bool = True, images: t.Sequence[str] = ()) -> Json:
    """A node as the API shows it."""
    return {
        "metadata": {"name": name},
        "status": {
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "images": [{"names": [each]} for each in images],
        },
    }


@dataclasses.dataclass
class FakeClock:
    """Time that passes when somebody waits, and in which the cluster works."""

    now: float = 0.0
    works: t.Callable[[], None] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        self.now += seconds
        self.works()


class FakeCluster:
    """Two nodes, one pod on each; ``Cluster`` for whoever asks."""

    def __init__(self, strategy: str = "OnDelete", nodes: t.Sequence[str] = ("n1", "n2")) -> None:
        self.clock = FakeClock(works=self.work)
        self.set = daemonset(strategy)
        self.all_nodes = {name: node(name, images=[OLD]) for name in nodes}
        self.all_pods: dict[str, Json] = {}
        self.kept: list[Json] = []
        self.gone_at: dict[str, float] = {}
        self.calls: list[str] = []
        # How often the next call of that name does not get through, and before or after it took effect.
        self.away: dict[str, int] = {}
        self.lost_answers: dict[str, int] = {}
        self.conflicts = 0
        self.controller_runs = True
        self.becomes_ready = True
        # How long a pod's object outlives its grace.
        self.ends_after = 5.0
        self._serial = 0
        self._revise()
        for name in nodes:
            self._controllers_pod(name)
        self.work()

    # --- what a controller does -----------------------------------------------------------------------

    def _revise(self) -> None:
        made = {"spec": {"template": copy.deepcopy(self.set["spec"]["template"])}}
        known = [each for each in self.kept if each["data"] == made]
        number = max((each["revision"] for each in self.kept), default=0) + 1
        if known:
            known[0]["revision"] = number
            return
        self.kept.append(
            {
                "metadata": {
                    "name": f"ovs-ovn-h{number}", "labels": {**LABELS, HASH: f"h{number}"}, "ownerReferences": [{"uid": UID}],
                },
                "revision": number,
                "data": made,
            }
        )  # fmt: skip

    @property
    def hash(self) -> str:
        return str(max(self.kept, key=lambda each: each["revision"])["metadata"]["labels"][HASH])

    def _add(self, pod: Json) -> Json:
        self._serial += 1
        about = pod["metadata"]
        about["name"] = f"{about.pop('generateName')}{self._serial}"
        about["uid"] = f"uid-{self._serial}"
        about["creationTimestamp"] = f"2026-11-28T00:{self._serial:02d}:00Z"
        pod["status"] = {"phase": "Pending"}
        self.all_pods[about["name"]] = pod
        return pod

    def _controllers_pod(self, place: str) -> None:
        spec = copy.deepcopy(self.set["spec"]["template"]["spec"])
        spec["nodeName"] = place
        owner = {"uid": UID, "controller": True}
        labels = {**LABELS, HASH: self.hash}
        self._add(
            {
                "metadata": {"generateName": "ovs-ovn-", "labels": labels, "ownerReferences": [owner]},
                "spec": spec,
            }
        )

    def work(self) -> None:
        """What kubelets and, if it runs, the controller do at this moment."""
        for name, at in list(self.gone_at.items()):
            if self.clock.now >= at:
                del self.all_pods[name], self.gone_at[name]
        for pod in self.all_pods.values():
            if self.becomes_ready and pod["status"]["phase"] == "Pending":
                self.be_ready(pod)
        if self.controller_runs:
            self._reconcile()

    def _reconcile(self) -> None:
        self.set["status"]["observedGeneration"] = self.set["metadata"]["generation"]
        for pod in self.all_pods.values():
            about = pod["metadata"]
            orphan = not about.get("ownerReferences") and "deletionTimestamp" not in about
            if orphan and selects(self.set["spec"]["selector"], about["labels"]):
                about["ownerReferences"] = [{"uid": UID, "controller": True}]
        for place in self.all_nodes:
            own = [
                each
                for each in self.all_pods.values()
                if each["spec"]["nodeName"] == place and each["metadata"].get("ownerReferences")
            ]
            staying = [each for each in own if "deletionTimestamp" not in each["metadata"]]
            for pod in sorted(staying, key=lambda each: each["metadata"]["creationTimestamp"])[1:]:
                self._begin_to_delete(pod, 30)
            if not own:
                self._controllers_pod(place)

    @staticmethod
    def be_ready(pod: Json, restarts: int = 0) -> None:
        pod["status"] = {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [
                {
                    "name": "openvswitch",
                    "restartCount": restarts,
                    "containerID": f"containerd://c-{pod['metadata']['name']}",
                }
            ],
        }

    def _begin_to_delete(self, pod: Json, grace: float) -> None:
        name = pod["metadata"]["name"]
        if name not in self.gone_at:
            pod["metadata"]["deletionTimestamp"] = "now"
            self.gone_at[name] = self.clock.now + (grace + self.ends_after if grace else 0)

    # --- what is asked --------------------------------------------------------------------------------

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.away.get(name, 0) > 0:
            self.away[name] -= 1
            raise Unreachable("the API server is away")

    def _answered(self, name: str, answer: t.Any) -> t.Any:
        # The controller sees at once what has changed.
        self.work()
        if self.lost_answers.get(name, 0) > 0:
            self.lost_answers[name] -= 1
            raise Unreachable("the answer was lost")
        return copy.deepcopy(answer)

    def daemonset(self) -> Json:
        self._called("daemonset")
        return copy.deepcopy(self.set)

    def patch_daemonset(self, patch: Json) -> Json:
        self._called("patch_daemonset")
        if self.conflicts:
            self.conflicts -= 1
            self.set["metadata"]["resourceVersion"] += "0"
        wanted = patch["metadata"].get("resourceVersion", self.set["metadata"]["resourceVersion"])
        if wanted != self.set["metadata"]["resourceVersion"]:
            raise Conflict("the object has been modified")
        before = copy.deepcopy(self.set["spec"])
        merge(self.set, {**patch, "metadata": {**patch["metadata"], "resourceVersion": wanted + "1"}})
        if self.set["spec"] != before:
            self.set["metadata"]["generation"] += 1
        if self.set["spec"]["template"] != before["template"]:
            self._revise()
        return t.cast(Json, self._answered("patch_daemonset", self.set))

    def revisions(self) -> list[Json]:
        self._called("revisions")
        foreign = {"metadata": {"labels": {HASH: "z"}, "ownerReferences": [{"uid": "x"}]}, "revision": 99}
        return copy.deepcopy([foreign, *self.kept])

    def pods(self, node: str | None = None) -> list[Json]:
        self._called("pods")
        every = self.all_pods.values()
        return copy.deepcopy([each for each in every if node in (None, each["spec"]["nodeName"])])

    def nodes(self) -> list[Json]:
        return list(self.all_nodes.values())

    def node(self, name: str) -> Json:
        if name not in self.all_nodes:
            raise Missing(f"no node {name}")
        return self.all_nodes[name]

    def create_pod(self, pod: Json) -> Json:
        self._called("create_pod")
        return t.cast(Json, self._answered("create_pod", self._add(copy.deepcopy(pod))))

    def delete_pod(self, name: str, uid: str, grace: int | None) -> None:
        self._called(f"delete {name}")
        pod = self._existing(name)
        assert pod["metadata"]["uid"] == uid
        self._begin_to_delete(pod, 30 if grace is None else grace)
        self._answered(f"delete {name}", None)

    def patch_pod(self, name: str, patch: Json) -> Json:
        self._called(f"patch {name}")
        merge(self._existing(name), patch)
        return t.cast(Json, self._answered(f"patch {name}", self.all_pods[name]))

    def _existing(self, name: str) -> Json:
        if name not in self.all_pods:
            raise Missing(f"no pod {name}")
        return self.all_pods[name]


def merge(into: Json, patch: Json) -> None:
    """A strategic merge patch: lists of named objects are merged by name."""
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict):
            merge(into.setdefault(key, {}), value)
        elif isinstance(value, list) and all("name" in each for each in value):
            for each in value:
                merge(next(there for there in into[key] if there["name"] == each["name"]), each)
        else:
            into[key] = value
