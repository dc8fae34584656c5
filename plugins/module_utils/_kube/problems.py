# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What of a cluster is in the way of a rollout, before anything of it is changed (pure)."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.cluster import Json
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.objects import (
    MARK,
    ON_DELETE,
    ROLLING_UPDATE,
    ROLLOUT,
    DaemonSet,
    Pod,
    crew,
    hooks,
    is_ready,
    selects,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.surge_pod import program

AGAIN = "Nothing was changed"
# Who sets objects back to what is in a repository, by a label or an annotation of what it manages.
MANAGERS = {
    "argocd.argoproj.io/": "Argo CD",
    "kustomize.toolkit.fluxcd.io/": "Flux",
    "helm.toolkit.fluxcd.io/": "Flux",
    "addonmanager.kubernetes.io/": "the addon manager",
}


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a rollout is to do: which container gets which image on which nodes.

    ``entrypoint`` is that of the image, where the template names no command. ``accept_hooks``: lifecycle hooks of the pods do
    no harm.
    """

    container: str
    image: str
    nodes: tuple[str, ...]
    entrypoint: tuple[str, ...] = ()
    accept_hooks: bool = False


@dataclasses.dataclass(frozen=True)
class Seen:
    """A cluster as it was seen: ``hash`` is that of the newest revision."""

    daemonset: DaemonSet
    hash: str
    pods: tuple[Pod, ...]
    nodes: t.Mapping[str, Json]


def problems(seen: Seen, wanted: Wanted) -> t.Iterator[Refused]:
    """Everything that is in the way of the rollout."""
    yield from of_template(seen.daemonset, wanted)
    yield from of_strategy(seen.daemonset)
    for node in wanted.nodes:
        yield from of_node(seen, node, wanted)


def of_template(daemonset: DaemonSet, wanted: Wanted) -> t.Iterator[Refused]:
    """Why no surge pod can be made from the DaemonSet's template."""
    container = daemonset.container(wanted.container)
    if container is None:
        there = ", ".join(each["name"] for each in daemonset.containers)
        yield Refused(
            f"{daemonset} has no container {wanted.container}",
            f"its template has {there}",
            "Name the one that runs Open vSwitch (kube_ovn_container)",
        )
        return
    if not program(container, wanted.entrypoint):
        yield Refused(
            f"what container {wanted.container} of {daemonset} executes cannot be known",
            "its template names no command, and the API does not tell the entry point of an image",
            "Name the entry point of the image (kube_ovn_entrypoint)",
        )
    found = sorted(hooks(daemonset.containers))
    if found and not wanted.accept_hooks:
        yield Refused(
            f"the template of {daemonset} has {', '.join(found)}",
            "a postStart would run while the surge pod still waits, and a preStop beside the stopped program of the old pod: "
            "either may restart or stop the daemons",
            "See what they do. If they leave the daemons alone, say so (kube_ovn_accept_hooks)",
        )
    if selects(daemonset.selector, {MARK: daemonset.name}):
        yield Refused(
            f"the selector of {daemonset} would select a surge pod at once",
            f"it selects a pod that has the label {MARK} alone; the controller would delete it, with the daemons in it",
            "Give the DaemonSet a selector by labels of its own",
        )
    if ROLLOUT in daemonset.annotations and daemonset.memory is None:
        yield Refused(
            f"the annotation {ROLLOUT} of {daemonset} cannot be read",
            f"it is {daemonset.annotations[ROLLOUT]!r}, which no rollout of this collection has written",
            "See which update strategy the DaemonSet is to have, and remove the annotation",
        )


def of_strategy(daemonset: DaemonSet) -> t.Iterator[Refused]:
    """Why its controller would not leave the pods to whoever rolls them."""
    kind = daemonset.strategy.get("type", "")
    if kind not in (ON_DELETE, ROLLING_UPDATE):
        yield Refused(
            f"the update strategy {kind or 'of no type'} of {daemonset} is not known",
            f"it should be {ON_DELETE} or {ROLLING_UPDATE}",
            "Look for a newer version of this collection",
        )
    if not daemonset.followed:
        yield Refused(
            f"the controller of {daemonset} has not seen its last change",
            f"it is of generation {daemonset.generation}, and the controller has seen {daemonset.observed}",
            "See whether kube-controller-manager runs. " + AGAIN,
        )
    elif kind == ROLLING_UPDATE and daemonset.updated < daemonset.desired:
        yield Refused(
            f"{daemonset} is being rolled out by its own controller",
            f"{daemonset.updated} of {daemonset.desired} pods have the newest template, and the strategy is {kind}",
            "Let that end, or set the strategy to OnDelete. " + AGAIN,
        )


def of_node(seen: Seen, name: str, wanted: Wanted) -> t.Iterator[Refused]:
    """Why a node cannot be rolled; one on which an earlier run has left a surge pod is looked at when its turn comes."""
    node, here = seen.nodes.get(name), crew(seen.pods, name, seen.daemonset)
    if node is None:
        yield Refused(
            f"the cluster has no node {name}",
            f"it has {len(seen.nodes)}: {', '.join(sorted(seen.nodes)[:5])}{' …' if len(seen.nodes) > 5 else ''}",
            "Say in the inventory what the node is called in the cluster (kube_ovn_node)",
        )
        return
    if not is_ready(node):
        yield Refused(
            f"node {name} is not ready",
            "its kubelet would start no surge pod",
            "Repair it, or leave it out (--limit). " + AGAIN,
        )
    if here.surge is not None:
        return
    if len(here.own) != 1:
        pods = ", ".join(each.name for each in here.own) or "none"
        yield Refused(
            f"node {name} does not have exactly one pod of {seen.daemonset}",
            f"it has {pods}",
            "See why (taints, node selector, a pod that does not end), or leave the node out (--limit). "
            + AGAIN,
        )
        return
    pod = here.own[0]
    if pod.ending or not pod.ready:
        yield Refused(
            f"pod {pod.name} on node {name} is {'being deleted' if pod.ending else 'not ready'}",
            pod.trouble or f"its phase is {pod.phase or 'not known'}",
            "There is nothing to take over from before it is ready. " + AGAIN,
        )
    elif pod.hooks and not wanted.accept_hooks and pod.revision != seen.hash:
        yield Refused(
            f"pod {pod.name} on node {name} has {', '.join(pod.hooks)}",
            "a preStop runs beside the stopped program of the pod, and may stop the daemons when it is deleted",
            "See what it does. If it leaves the daemons alone, say so (kube_ovn_accept_hooks)",
        )


def warnings(seen: Seen, wanted: Wanted) -> t.Iterator[str]:
    """What an operator should know, and is in nobody's way."""
    daemonset = seen.daemonset
    for name in (*daemonset.labels, *daemonset.annotations):
        for prefix, manager in MANAGERS.items():
            if name.startswith(prefix):
                yield (
                    f"{manager} manages {daemonset} ({name}): if it puts the strategy back meanwhile, the controller replaces "
                    "the other pods by itself, with an outage on each node. Suspend it for the rollout"
                )
    elsewhere = [each for each in seen.pods if each.owner == daemonset.uid and each.node not in wanted.nodes]
    unready = sorted(each.node for each in elsewhere if not each.ready)
    if unready:
        yield f"pods of {daemonset} on nodes that are not rolled are not ready: {', '.join(unready)}"


def together(found: t.Sequence[Refused]) -> Refused:
    """One refusal out of several."""
    if len(found) == 1:
        return found[0]
    return Refused(
        f"{len(found)} things are in the way",
        " ".join(f"({number}) {each}." for number, each in enumerate(found, 1)).rstrip("."),
        "Nothing was changed",
    )
