# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The pod that is to become a DaemonSet's: made from its template, with labels that are not its own yet (pure)."""

from __future__ import annotations

import copy
import itertools
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.cluster import Json
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.objects import (
    HASH,
    MARK,
    REVISION,
    VOLUME,
    Revision,
    with_image,
)

MOUNT = "/run/ovsops-surge"
# Made from the node when the daemons have moved (marker.py), in a volume, which outlives the container and not the pod.
MARKER = f"{MOUNT}/moved"
# Before that the container waits at each start, and restarts nobody's daemons; after that it does what the template wants.
WAIT = f'if [ -e {MARKER} ]; then exec "$@"; fi; trap "exit 0" TERM; while :; do sleep 86400 & wait $!; done'
# The controller of DaemonSets adds these to every pod.
TAINTS = {
    "not-ready": "NoExecute", "unreachable": "NoExecute", "disk-pressure": "NoSchedule", "memory-pressure": "NoSchedule",
    "pid-pressure": "NoSchedule", "unschedulable": "NoSchedule",
}  # fmt: skip
# And this one where the pod has the node's network.
NETWORK_TAINT = {"network-unavailable": "NoSchedule"}


def tolerations(spec: Json) -> list[Json]:
    """The tolerations of a template's pod, and those that the controller adds."""
    taints = {**TAINTS, **(NETWORK_TAINT if spec.get("hostNetwork") else {})}
    added = [
        {"key": f"node.kubernetes.io/{taint}", "operator": "Exists", "effect": effect}
        for taint, effect in taints.items()
    ]
    own = spec.get("tolerations") or []
    return [*own, *(each for each in added if each not in own)]


def program(container: Json, entrypoint: t.Sequence[str] = ()) -> list[str]:
    """What a container of the template executes; ``entrypoint`` is that of its image, which the API does not tell.

    Empty where it cannot be known.
    """
    command = list(container.get("command") or entrypoint)
    return [*command, *(container.get("args") or [])] if command else []


def surge_pod(
    daemonset: Json,
    node: str,
    container: str,
    revision: str,
    entrypoint: t.Sequence[str] = (),
    image: str = "",
) -> Json:
    """The pod that is to become the DaemonSet's one of that node; one with an ``image`` of its own is of no ``revision``.

    Raises ``Refused`` where nobody can know what the container's program is.
    """
    template = copy.deepcopy(daemonset["spec"]["template"])
    about, spec = template.get("metadata") or {}, template["spec"]
    name = daemonset["metadata"]["name"]
    wrapped = next(each for each in spec["containers"] if each["name"] == container)
    argv = program(wrapped, entrypoint)
    if not argv:
        raise Refused(
            f"container {container} of DaemonSet {name} cannot be held back",
            "its template names no command, and the API does not tell the entry point of an image",
            "Name it with the option entrypoint (kube_ovn_entrypoint)",
        )
    for each in itertools.chain.from_iterable(with_image(spec, wrapped["image"]).values()):
        each["image"] = image or each["image"]
    wrapped["command"], wrapped["args"] = ["/bin/sh", "-c", WAIT, "surge"], argv
    wrapped.setdefault("volumeMounts", []).append({"name": VOLUME, "mountPath": MOUNT})
    spec.setdefault("volumes", []).append({"name": VOLUME, "emptyDir": {}})
    spec["nodeName"] = node
    spec["tolerations"] = tolerations(spec)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{name}-",
            "namespace": daemonset["metadata"]["namespace"],
            "labels": {MARK: name},
            "annotations": {**(about.get("annotations") or {}), REVISION: revision},
        },
        "spec": spec,
    }


def adoption(revision: Revision) -> Json:
    """The patch that gives a surge pod what the DaemonSet's pods of that revision have."""
    return {"metadata": {"labels": {**revision.labels, HASH: revision.hash}}}
