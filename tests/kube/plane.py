# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real control plane without nodes: what a kubelet would say of pods is said by a stand-in.

API server, controllers and scheduler are Kubernetes' own, so a DaemonSet's pods are made, adopted and deleted by the real
controller. No container runs.
"""

from __future__ import annotations

import datetime
import threading
import time
import typing as t

from tests.harness.waiting import wait_until
from tests.kube.cluster import Cluster, Json, Pod
from tests.lab import hosts
from tests.lab.hosts import Lab
from tests.lab.kube import control, manifests


def start(name: str) -> Lab:
    """Start a control plane; ``hosts.down`` ends it."""
    hosts.down(name)
    lab = Lab(name, "kubernetes", "3.1.0", ())
    lab.folder.mkdir(parents=True, mode=0o700)
    lab.save()
    hosts.make_network(lab)
    control.start(lab)
    control.wait(lab, "the API server answers", lambda: bool(control.request(lab, "GET", "/version")))
    control.start_controllers(lab)
    place = f"/apis/apps/v1/namespaces/{manifests.NAMESPACE}/daemonsets"
    control.wait(lab, "there is the namespace", lambda: bool(control.request(lab, "GET", place)))
    return lab


class Kubelets:
    """What kubelets say of nodes and pods; ``slow`` is how long a pod takes to end after its deletion began.

    ``broken`` are images with which no container starts.
    """

    def __init__(self, cluster: Cluster, nodes: t.Sequence[str]) -> None:
        self.cluster, self.nodes = cluster, nodes
        self.slow, self.broken = 2.0, set[str]()
        self._ending: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Kubelets:
        for node in self.nodes:
            labels = {"kubernetes.io/os": "linux", "kubernetes.io/hostname": node}
            self.cluster.core.create_node({"metadata": {"name": node, "labels": labels}})
        self._thread.start()
        return self

    def __exit__(self, *__: object) -> None:
        self._ended.set()
        self._thread.join()
        for node in self.nodes:
            self.cluster.core.delete_node(node)

    def _work(self) -> None:
        said = 0.0
        while not self._ended.wait(0.2):
            if time.monotonic() - said > 5:
                said = time.monotonic()
                for node in self.nodes:
                    self._alive(node)
            for raw in self.cluster.json(self.cluster.core.list_namespaced_pod(manifests.NAMESPACE))["items"]:
                self._pod(Pod.read(raw))

    def _alive(self, node: str) -> None:
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": now, "reason": "KubeletReady"}
        room = {"cpu": "64", "memory": "64Gi", "pods": "110"}
        images = [{"names": [manifests.image("3.1.0")], "sizeBytes": 1}]
        places = [{"type": "InternalIP", "address": f"192.0.2.{self.nodes.index(node) + 1}"}]
        status = {
            "conditions": [ready],
            "addresses": places,
            "capacity": room,
            "allocatable": room,
            "images": images,
        }
        self.cluster.core.patch_node_status(node, {"status": status})

    def _pod(self, pod: Pod) -> None:
        if pod.node not in self.nodes:
            return
        if pod.ending:
            self._end(pod)
        elif pod.image in self.broken:
            self._say(
                pod, "Pending", False, {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
            )
        elif not pod.ready:
            self._say(pod, "Running", True, {"running": {}})

    def _end(self, pod: Pod) -> None:
        began = self._ending.setdefault(pod.uid, time.monotonic())
        if time.monotonic() - began > self.slow:
            self.cluster.core.delete_namespaced_pod(pod.name, manifests.NAMESPACE, grace_period_seconds=0)

    def _say(self, pod: Pod, phase: str, ready: bool, state: Json) -> None:
        container = {
            "name": "openvswitch", "ready": ready, "restartCount": 0, "image": pod.image, "imageID": "", "state": state,
            **({"containerID": f"containerd://c-{pod.name}"} if ready else {}),
        }  # fmt: skip
        condition = {"type": "Ready", "status": str(ready)}
        status = {"phase": phase, "conditions": [condition], "containerStatuses": [container]}
        self.cluster.core.patch_namespaced_pod_status(pod.name, manifests.NAMESPACE, {"status": status})


def fill(cluster: Cluster, nodes: int, strategy: str) -> None:
    """Create the DaemonSet; returns when its pods are ready."""
    made = manifests.daemonset("3.1.0")
    made["spec"]["updateStrategy"] = {"type": strategy}
    cluster.apps.create_namespaced_daemon_set(manifests.NAMESPACE, made)
    wait_until(lambda: cluster.daemonset()["status"].get("numberReady") == nodes, 120)
