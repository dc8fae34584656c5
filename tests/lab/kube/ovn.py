# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OVN in a cluster that is up, as kube-ovn has it: its databases in a pod of the first node, ovn-controller in the DaemonSet's.

The logical network is that of the other backends (ovnhost.py).
"""

from __future__ import annotations

import typing as t

from tests.lab import ovn
from tests.lab.hosts import Host, Lab
from tests.lab.kube import control, manifests

# Open vSwitch of a container image -> the OVN that its suite has.
VERSIONS = {"3.1.0": "23.03.1", "3.5.0": "25.03.0"}
# A node has no other network for tunnels: the userspace datapath sends them through its own ports alone.
_OPTIONS = ("--in-pods", "--datapath-type", "netdev", "--tunnels-through", "data")
_DAEMONSET = f"/apis/apps/v1/namespaces/{manifests.NAMESPACE}/daemonsets/{manifests.NAME}"
_PODS = f"/api/v1/namespaces/{manifests.NAMESPACE}/pods"
_CENTRAL = f"/api/v1/namespaces/{manifests.CENTRAL_NAMESPACE}/pods"


def start(lab: Lab, *options: str) -> None:
    """Start OVN and give it a logical network (options: see ovnhost.py); every pod of the DaemonSet is replaced."""
    assert lab.ovs is not None
    first = lab.hosts[0]
    control.request(lab, "POST", _CENTRAL, manifests.central(lab.ovs, first.name))
    pods = f"{_CENTRAL}/{manifests.CENTRAL}"
    control.wait(lab, "the databases of OVN are there", lambda: _ready(control.request(lab, "GET", pods)))
    old = {pod["metadata"]["name"] for pod in _pods(lab)}
    changed = manifests.with_ovn(control.request(lab, "GET", _DAEMONSET), first.address)
    control.request(lab, "PUT", _DAEMONSET, changed)
    for name in old:
        control.request(lab, "DELETE", f"{_PODS}/{name}")

    def renewed() -> bool:
        found = _pods(lab)
        return len(found) == len(lab.hosts) and all(
            pod["metadata"]["name"] not in old and _ready(pod) for pod in found
        )

    control.wait(lab, "a pod with ovn-controller is ready on every node", renewed)
    for host in reversed(lab.hosts):
        populate(lab, host, *options)


def populate(lab: Lab, host: Host, *options: str) -> None:
    """Have what the host itself has of the logical network; the first host comes last, which waits for all."""
    ovn.populate_host(lab, host, *_OPTIONS, *options)


def _pods(lab: Lab) -> list[dict[str, t.Any]]:
    return t.cast("list[dict[str, t.Any]]", control.request(lab, "GET", _PODS)["items"])


def _ready(pod: dict[str, t.Any]) -> bool:
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True"
