# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is created in a cluster: the DaemonSet ovs-ovn, as kube-ovn has it, and on wish a pod with OVN's databases."""

from __future__ import annotations

import copy
import typing as t

NAMESPACE, NAME = "kube-system", "ovs-ovn"
SELECTOR = {"app": "ovs"}
# Apart from the DaemonSet's pods.
CENTRAL_NAMESPACE, CENTRAL = "default", "ovn-central"
_HOST_PATHS = {
    "host-run-ovs": "/run/openvswitch",
    "host-run-ovn": "/run/ovn",
    "host-config-openvswitch": "/etc/openvswitch",
    "host-log-ovs": "/var/log/openvswitch",
    "host-log-ovn": "/var/log/ovn",
}


def daemonset(ovs: str) -> dict[str, t.Any]:
    """The DaemonSet whose pods run that Open vSwitch; what a userspace datapath needs besides is the tun device."""
    volumes: list[dict[str, t.Any]] = [
        {"name": name, "hostPath": {"path": path, "type": "DirectoryOrCreate"}}
        for name, path in _HOST_PATHS.items()
    ]
    volumes.append({"name": "tun", "hostPath": {"path": "/dev/net/tun"}})
    mounts = [{"name": name, "mountPath": path} for name, path in _HOST_PATHS.items()]
    mounts.append({"name": "tun", "mountPath": "/dev/net/tun"})
    probe = {
        "exec": {"command": ["bash", "/kube-ovn/ovs-healthcheck.sh"]},
        "periodSeconds": 5,
        "timeoutSeconds": 45,
    }
    container = {
        "name": "openvswitch",
        "image": image(ovs),
        "imagePullPolicy": "IfNotPresent",
        "command": ["/kube-ovn/start-ovs.sh"],
        "securityContext": {
            "runAsUser": 0,
            "privileged": False,
            "capabilities": {"add": ["NET_ADMIN", "NET_BIND_SERVICE", "SYS_NICE", "SYS_ADMIN"]},
        },
        "env": [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "KUBE_NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        "volumeMounts": mounts,
        "readinessProbe": {**probe, "initialDelaySeconds": 2},
        "livenessProbe": {**probe, "initialDelaySeconds": 60, "failureThreshold": 5},
        "resources": {
            "requests": {"cpu": "100m", "memory": "100Mi"},
            "limits": {"cpu": "2", "memory": "1000Mi"},
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": SELECTOR},
            "updateStrategy": {"type": "OnDelete"},
            "template": {
                "metadata": {"labels": {**SELECTOR, "component": "network", "type": "infra"}},
                "spec": {
                    "tolerations": [
                        {"effect": "NoSchedule", "operator": "Exists"},
                        {"effect": "NoExecute", "operator": "Exists"},
                        {"key": "CriticalAddonsOnly", "operator": "Exists"},
                    ],
                    "priorityClassName": "system-node-critical",
                    "hostNetwork": True,
                    "hostPID": True,
                    "containers": [container],
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                    "volumes": volumes,
                },
            },
        },
    }


def with_ovn(daemonset: dict[str, t.Any], address: str) -> dict[str, t.Any]:
    """The DaemonSet whose pods run ovn-controller, too, which has its southbound database at that address."""
    changed = copy.deepcopy(daemonset)
    variables = changed["spec"]["template"]["spec"]["containers"][0]["env"]
    variables.append({"name": "OVN_DB_IPS", "value": address})
    return changed


def central(ovs: str, node: str) -> dict[str, t.Any]:
    """A pod of that node with the databases of OVN and ovn-northd, as the image with that Open vSwitch has them."""
    paths = {name: path for name, path in _HOST_PATHS.items() if "ovn" in name}
    container = {
        "name": CENTRAL,
        "image": image(ovs),
        "imagePullPolicy": "IfNotPresent",
        "command": ["/kube-ovn/start-central.sh"],
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "volumeMounts": [{"name": name, "mountPath": path} for name, path in paths.items()],
        "readinessProbe": {
            "exec": {"command": ["ovn-sbctl", "--timeout=5", "get", "connection", ".", "target"]},
            "periodSeconds": 1,
            "timeoutSeconds": 10,
        },
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": CENTRAL, "namespace": CENTRAL_NAMESPACE, "labels": {"app": CENTRAL}},
        "spec": {
            "nodeName": node,
            "hostNetwork": True,
            "hostPID": True,
            "containers": [container],
            "volumes": [
                {"name": name, "hostPath": {"path": path, "type": "DirectoryOrCreate"}}
                for name, path in paths.items()
            ],
        },
    }


def image(ovs: str) -> str:
    """The name of the container image with that Open vSwitch."""
    return f"docker.io/lab/ovs:{ovs}"
