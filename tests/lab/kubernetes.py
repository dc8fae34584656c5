# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubernetes backend: each host is a node of a real cluster, and its Open vSwitch a pod of the DaemonSet ovs-ovn.

API server, controllers, scheduler and kubelets are Kubernetes' own, built from source; etcd and containerd are Debian's.
A host is like one of the native backend, without Open vSwitch of its own.
"""

from __future__ import annotations

import datetime
import json
import shutil
import time
import typing as t
from pathlib import Path

from tests.lab import hosts, images
from tests.lab.hosts import Host, Lab, spawn
from tests.lab.images import LabError, say
from tests.lab.kube import artefacts, control, manifests
from tests.lab.nativehost import boot_argv

POPULATE: t.Sequence[str] = ("--datapath-type", "netdev")
# Those of which a node has a container image to import.
VERSIONS = ("3.1.0", "3.5.0")


def prepare(ovs: str | None) -> None:
    """Build (or find) everything that start() needs."""
    if ovs not in VERSIONS:
        raise LabError(f"no container image of Open vSwitch {ovs}; there are {', '.join(VERSIONS)}")
    _layers()


def _layers() -> Path:
    """The root file system of a node: the lab's, and over it the container runtime, kubelet and container images."""
    layers = [*(artefacts.pod(ovs) for ovs in VERSIONS), artefacts.programs() / "node", images.root(None)]
    return Path(":".join(str(layer) for layer in layers))


def start(lab: Lab, host: Host) -> Lab:
    """Power the node on, and before the first one the control plane."""
    if not control.folder(lab).exists():
        control.start(lab)
    own = lab.folder / host.name
    (own / "containerd").mkdir(parents=True, exist_ok=True)
    _configure(lab, host, own / "upper/etc/kubernetes")
    network = (lab.netns, str(host.index), host.address, host.data_address)
    return spawn(lab, host, boot_argv(own, _layers(), host.name, network))


def _configure(lab: Lab, host: Host, into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    shutil.copy2(control.folder(lab) / "node-kubeconfig", into / "kubeconfig")
    group = f"{hosts.cgroup(lab.name)}/{host.name}"
    known = {"CGROUP": group, "NAME": host.name, "ADDRESS": host.address, "OVS": lab.ovs}
    (into / "node").write_text("".join(f"{name}={value}\n" for name, value in known.items()))
    (into / "kubelet.json").write_text(json.dumps(_kubelet(group), indent=2))
    (into / "containerd.toml").write_text(_CONTAINERD)
    # Pods have the network of their node, so that nothing of this is ever called.
    network = into.parent / "cni/net.d"
    network.mkdir(parents=True, exist_ok=True)
    plugin = {"cniVersion": "0.3.1", "name": "none", "plugins": [{"type": "loopback"}]}
    (network / "10-none.conflist").write_text(json.dumps(plugin))


# disable_apparmor, restrict_oom_score_adj: nodes are no more than root of some namespaces.
_CONTAINERD = """version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/lab/pause:1"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
"""


def _kubelet(group: str) -> dict[str, t.Any]:
    nothing = dict.fromkeys(
        ("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available"), "0%"
    )
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{group}",
        "enforceNodeAllocatable": [],
        "evictionHard": nothing,
        "imageGCHighThresholdPercent": 100,
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "resolvConf": "",
    }


def finish(lab: Lab) -> None:
    """Create the DaemonSet; returns when its pod is ready on every node."""
    assert lab.ovs is not None
    began = time.monotonic()
    control.wait(lab, "the API server answers", lambda: bool(control.request(lab, "GET", "/version")))
    _say(began, "the API server answers")
    control.start_controllers(lab)
    place = f"/apis/apps/v1/namespaces/{manifests.NAMESPACE}/daemonsets"
    control.wait(lab, "there is the namespace", lambda: bool(control.request(lab, "GET", place)))
    control.wait(lab, "the DaemonSet is created", lambda: bool(_create(lab, place)))
    control.wait(lab, "every node is ready", lambda: ready_nodes(lab) == {host.name for host in lab.hosts})
    _say(began, f"{len(lab.hosts)} nodes are ready")

    def complete() -> bool:
        status = control.request(lab, "GET", f"{place}/{manifests.NAME}")["status"]
        return bool(status.get("numberReady") == len(lab.hosts) == status.get("updatedNumberScheduled"))

    control.wait(lab, "the DaemonSet's pod is ready on every node", complete)
    _say(began, f"Open vSwitch {lab.ovs} is ready in a pod on each; kubeconfig {control.kubeconfig(lab)}")


def _create(lab: Lab, place: str) -> t.Any:
    assert lab.ovs is not None
    return control.request(lab, "POST", place, manifests.daemonset(lab.ovs))


def _say(began: float, what: str) -> None:
    say(f"{what} after {time.monotonic() - began:.0f} s")


def ready_nodes(lab: Lab) -> set[str]:
    """The names of the nodes that are ready."""
    return {
        node["metadata"]["name"]
        for node in control.request(lab, "GET", "/api/v1/nodes")["items"]
        for condition in node["status"].get("conditions", [])
        if (condition["type"], condition["status"]) == ("Ready", "True")
    }


def heartbeat(lab: Lab, host: Host) -> float:
    """When the node's kubelet last said that it is alive, in seconds since the epoch."""
    place = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{host.name}"
    said = control.request(lab, "GET", place)["spec"]["renewTime"]
    return datetime.datetime.fromisoformat(said.replace("Z", "+00:00")).timestamp()
