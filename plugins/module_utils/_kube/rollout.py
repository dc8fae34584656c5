# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""A DaemonSet that is rolled node by node: its strategy and its template in the beginning, and its strategy in the end."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Clock, Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.cluster import Cluster, Conflict, Json
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.objects import (
    ON_DELETE,
    ROLLOUT,
    DaemonSet,
    Memory,
    Pod,
    address,
    crew,
    has_image,
    is_ready,
    newest,
    with_image,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.problems import (
    Seen,
    Wanted,
    problems,
    together,
    warnings,
)

T = t.TypeVar("T")
CONTROLLER = "See whether kube-controller-manager runs"
# How often something is changed that somebody else changes at the same time.
TRIES = 5


@dataclasses.dataclass(frozen=True)
class Begun:
    """What the beginning of a rollout has found and done: ``left`` are the nodes of it whose pods are older."""

    changed: bool
    before: Json
    after: Json
    revision: str
    left: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Finished:
    """What the end of a rollout has found and done.

    ``restored`` is None where no rollout has left anything to put back; ``left`` are the nodes whose pods are older, or whose
    surge pod is not adopted.
    """

    restored: bool | None
    before: Json
    after: Json
    left: tuple[str, ...]


class Rollout:
    """The rollout of one DaemonSet."""

    def __init__(self, cluster: Cluster, container: str, timeout: float = 60.0, clock: Clock = time) -> None:
        self._cluster, self._container = cluster, container
        self._waiter = Waiter(timeout, 0.5, clock)

    def look(self, node: str | None = None) -> Seen:
        """The cluster as it is; of its pods and nodes only those of one node if it is named."""
        daemonset = DaemonSet.read(self._cluster.daemonset())
        revision = newest(self._cluster.revisions(), daemonset.uid)
        return Seen(
            daemonset,
            revision.hash if revision else "",
            tuple(Pod.read(each, self._container) for each in self._cluster.pods(node)),
            {node: self._cluster.node(node)}
            if node
            else {each["metadata"]["name"]: each for each in self._cluster.nodes()},
        )

    def info(self, node: str | None = None) -> Json:
        """What a module tells of the rollout, and of one node or all that have a pod of it.

        Where there is time to wait, an API server that is away is asked again.
        """
        seen = self._answer(node) if self._waiter.timeout else self.look(node)
        wanted, memory = image(seen.daemonset, self._container), seen.daemonset.memory
        of_it = (
            each.node
            for each in seen.pods
            if each.owner == seen.daemonset.uid or each.surges_for(seen.daemonset.name)
        )
        nodes = {node} if node else set(of_it)
        return {
            "strategy": dict(seen.daemonset.strategy),
            "image": wanted,
            "revision": seen.hash,
            "remembered": dataclasses.asdict(memory) if memory else None,
            "nodes": [node_state(seen, each, wanted) for each in sorted(nodes)],
        }

    def _answer(self, node: str | None) -> Seen:
        return self._waiter.wait(
            "the API server of the cluster answers",
            lambda: self.look(node),
            lambda __: True,
            hint="See whether it runs, and whether kubeconfig and context name the right one",
        )

    # --- the beginning --------------------------------------------------------------------------------

    def begin(self, wanted: Wanted, check_mode: bool = False) -> Begun:
        """Have the controller leave the pods alone, and the template name the new image; in check mode tell what would be.

        Raises ``Refused`` with everything that is in the way, before anything is changed.
        """
        return self._retried(lambda: self._begin(wanted, check_mode))

    def _begin(self, wanted: Wanted, check_mode: bool) -> Begun:
        seen = self.look()
        found = list(problems(seen, wanted))
        if found:
            raise together(found)
        change = beginning(seen, wanted)
        if not change or check_mode:
            return self._begun(seen, wanted, change, seen)
        self._cluster.patch_daemonset(change)
        return self._begun(seen, wanted, change, self._followed())

    @staticmethod
    def _retried(action: t.Callable[[], T]) -> T:
        """What an action returns that looks first, and then changes what it has seen."""
        for __ in range(TRIES - 1):
            try:
                return action()
            except Conflict:
                continue
        return action()

    def _followed(self) -> Seen:
        """The cluster when the controller has made a revision of the new template."""
        return self._waiter.wait(
            "the controller of the DaemonSet has seen its new template",
            self.look,
            lambda seen: seen.daemonset.followed,
            lambda seen: (
                f"it is of generation {seen.daemonset.generation}, and the controller has seen {seen.daemonset.observed}"
            ),
            CONTROLLER,
        )

    def _begun(self, before: Seen, wanted: Wanted, change: Json, after: Seen) -> Begun:
        # In check mode nobody knows yet what the new revision is called.
        coming = bool(change) and after is before and image(before.daemonset, self._container) != wanted.image
        left = [node for node in wanted.nodes if coming or not current(after, node)]
        was = state(before.daemonset, self._container)
        will = {"strategy": {"type": ON_DELETE}, "image": wanted.image} if change else was
        told = tuple(warnings(before, wanted))
        return Begun(bool(change), was, will, "" if coming else after.hash, tuple(left), told)

    # --- the end --------------------------------------------------------------------------------------

    def end(self, check_mode: bool = False) -> Finished:
        """Put the strategy of before back if every pod is of the newest revision: the controller would replace the others.

        An API server that is away is asked again.
        """
        tried: list[Finished] = []
        return self._waiter.wait(
            "the API server takes the strategy of before",
            lambda: self._end(check_mode, tried),
            lambda __: True,
            hint="The strategy may be OnDelete still: see whether the API server runs, and run this again",
        )

    def _end(self, check_mode: bool, tried: list[Finished]) -> Finished:
        """``tried``: the last try, whose answer may have been lost."""
        seen = self.look()
        was, memory = state(seen.daemonset, self._container), seen.daemonset.memory
        if memory is None:
            return tried[-1] if tried else Finished(None, was, was, ())
        left = tuple(unfinished(seen))
        if left or not seen.daemonset.followed:
            return Finished(False, was, was, left)
        done = Finished(True, was, {**was, "strategy": memory.strategy}, ())
        if not check_mode:
            tried.append(done)
            self._cluster.patch_daemonset(ending(seen.daemonset, memory))
        return done


def image(daemonset: DaemonSet, container: str) -> str:
    """The image that the template names for a container."""
    found = daemonset.container(container)
    return str(found["image"]) if found else ""


def state(daemonset: DaemonSet, container: str) -> Json:
    """What a rollout changes of a DaemonSet."""
    return {"strategy": dict(daemonset.strategy), "image": image(daemonset, container)}


def current(seen: Seen, node: str) -> bool:
    """Whether the one pod of a node is ready and of the newest revision."""
    pod = crew(seen.pods, node, seen.daemonset).only
    return (
        pod is not None and pod.owner == seen.daemonset.uid and (pod.revision, pod.ready) == (seen.hash, True)
    )


def unfinished(seen: Seen) -> list[str]:
    """The nodes that the controller would touch if the strategy were that of before."""
    uid = seen.daemonset.uid
    older = {pod.node for pod in seen.pods if pod.owner == uid and (pod.revision != seen.hash or pod.ending)}
    surges = {
        pod.node
        for pod in seen.pods
        if (found := crew([pod], pod.node, seen.daemonset)).surge and not found.adopted
    }
    return sorted(older | surges)


def beginning(seen: Seen, wanted: Wanted) -> Json:
    """The patch with which a rollout begins; empty where there is nothing to roll, or another run has begun it."""
    daemonset = seen.daemonset
    was = image(daemonset, wanted.container)
    if was == wanted.image and all(current(seen, node) for node in wanted.nodes):
        return {}
    memory = daemonset.memory
    if was == wanted.image and daemonset.strategy.get("type") == ON_DELETE and memory:
        return {}
    spec: Json = {"updateStrategy": {"type": ON_DELETE, "rollingUpdate": None}}
    if was != wanted.image:
        spec["template"] = {
            "spec": {
                part: [{"name": each["name"], "image": wanted.image} for each in containers]
                for part, containers in with_image(daemonset.raw["spec"]["template"]["spec"], was).items()
            }
        }
    # Of several runs for one rollout the first one knows what was before.
    keep = memory or Memory(dict(daemonset.strategy), was)
    about = {"annotations": {ROLLOUT: keep.written()}, "resourceVersion": daemonset.version}
    return {"metadata": about, "spec": spec}


def ending(daemonset: DaemonSet, memory: Memory) -> Json:
    """The patch that puts the strategy of before back, and forgets it."""
    strategy = {"rollingUpdate": None, **memory.strategy}
    about = {"annotations": {ROLLOUT: None}, "resourceVersion": daemonset.version}
    return {"metadata": about, "spec": {"updateStrategy": strategy}}


def node_state(seen: Seen, node: str, wanted_image: str) -> Json:
    """What stands on a node, as a module tells it; ``pod`` is the DaemonSet's, which may be the adopted surge pod."""
    found = crew(seen.pods, node, seen.daemonset)
    raw = seen.nodes.get(node) or {}
    pod = found.surge if found.adopted else next(iter(found.old), None)
    return {
        "node": node,
        "address": address(raw),
        "ready": is_ready(raw),
        "current": current(seen, node),
        "image_present": has_image(raw, wanted_image),
        "pod": pod.told() if pod else None,
        "surge": found.surge.told() if found.surge else None,
        "adopted": found.adopted,
        "third": [each.told() for each in found.third],
    }
