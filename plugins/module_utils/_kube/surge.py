# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The surge pod of one node: started beside the old pod, adopted in its place, or taken away.

The controller of a DaemonSet adopts a pod that has the DaemonSet's labels, and makes no pod of its own, as long as the node's old
pod is being deleted and still there. Labels before the deletion have the controller delete the surge pod as one too many;
labels after the old pod's object is gone find a third pod there, whose program has restarted the daemons (tests/kube/README.md).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Clock, Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.cluster import Cluster, Json, Missing
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.objects import (
    HASH,
    MARK,
    REVISION,
    Crew,
    DaemonSet,
    Pod,
    Revision,
    crew,
    newest,
    revision_of,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.surge_pod import adoption, surge_pod

# The shortest period of grace: without one the old pod's object is gone at once, and the labels come too late.
SHORTEST = 10
# The phases of a pod whose containers do not run any more, and are not started again.
ENDED = ("Failed", "Succeeded")
T = t.TypeVar("T")


class ThirdPod(HotUpgradeError):
    """The controller has made a pod of its own beside the surge pod: who has the daemons has to be looked at first."""


@dataclasses.dataclass(frozen=True)
class Done:
    """What became of the surge pod: who it is, whose place it took, and who came besides."""

    changed: bool
    surge: Pod | None
    old: tuple[str, ...] = ()
    third: tuple[str, ...] = ()


class Surge:
    """The surge pod of one node of a DaemonSet."""

    def __init__(
        self, cluster: Cluster, node: str, container: str, clock: Clock = time, interval: float = 0.5
    ) -> None:
        self._cluster, self._node, self._container = cluster, node, container
        self._clock, self._interval = clock, interval

    def look(self) -> tuple[DaemonSet, Crew]:
        """Who is on the node; raises ``Refused`` where two surge pods are."""
        daemonset = DaemonSet.read(self._cluster.daemonset())
        pods = [Pod.read(each, self._container) for each in self._cluster.pods(self._node)]
        found = crew(pods, self._node, daemonset)
        if len(found.surges) > 1:
            raise Refused(
                f"node {self._node} has {len(found.surges)} surge pods of {daemonset}",
                ", ".join(each.name for each in found.surges),
                "See in whose control group the daemons are (/proc/PID/cgroup), and delete the others",
            )
        return daemonset, found

    def _wait(self, timeout: float) -> Waiter:
        return Waiter(timeout, self._interval, self._clock)

    def _answer(self, timeout: float, ask: t.Callable[[], T]) -> T:
        """What the API server answers before anything is changed; one that is away is asked again."""
        return self._wait(timeout).wait(
            f"the API server answers about node {self._node}",
            ask,
            lambda __: True,
            hint="Nothing was changed. See whether it runs, and run it again",
        )

    # --- present --------------------------------------------------------------------------------------

    def present(
        self, timeout: float, entrypoint: t.Sequence[str] = (), image: str = "", check_mode: bool = False
    ) -> Done:
        """Have a surge pod of the newest revision, ready; one that is there already is waited for.

        One with an ``image`` of its own is for a rehearsal: it is of no revision, so that nobody adopts it.
        Raises ``Refused`` where another one is in the way, and ``HotUpgradeError`` where it does not become ready: it stays,
        since nobody knows here whether the daemons are in it. The old pod is not touched.
        """
        daemonset, found = self._answer(timeout, self.look)
        revision = (
            "" if image else self._newest(daemonset, self._answer(timeout, self._cluster.revisions)).hash
        )
        if found.surge is not None:
            self._require_usable(found.surge, revision, image)
        elif check_mode:
            return Done(True, None, tuple(each.name for each in found.old))
        else:
            body = surge_pod(daemonset.raw, self._node, self._container, revision, entrypoint, image)
            self._wait(timeout).wait(
                f"the API server takes a surge pod for node {self._node}",
                functools.partial(self._create, body),
                bool,
                hint="The old pod was not touched. See whether the API server runs, and whether there is a surge pod by now",
            )
        changed = found.surge is None
        ready = self._ready(timeout) if not check_mode else found.surge
        return Done(changed, ready, tuple(each.name for each in found.old))

    def _create(self, body: Json) -> bool:
        """Create it; of one whose answer was lost the next look tells."""
        if self.look()[1].surge is None:
            self._cluster.create_pod(body)
        return True

    def _newest(self, daemonset: DaemonSet, revisions: t.Sequence[Json]) -> Revision:
        revision = newest(revisions, daemonset.uid)
        if revision is None or not daemonset.followed:
            raise Refused(
                f"the controller has made no revision of the present template of {daemonset}",
                f"it is of generation {daemonset.generation}, and the controller has seen {daemonset.observed}",
                "See whether kube-controller-manager runs. No pod was touched",
            )
        return revision

    def _require_usable(self, surge: Pod, revision: str, image: str) -> None:
        if surge.ending:
            raise Refused(
                f"surge pod {surge.name} of an earlier run on node {self._node} is being deleted",
                "",
                "Run it again when it is gone",
            )
        if surge.revision != revision or image not in ("", surge.image):
            raise Refused(
                f"surge pod {surge.name} of an earlier run on node {self._node} is of another template",
                f"it is {_of(surge.revision, surge.image)}, and wanted is one {_of(revision, image)}",
                "Have it adopted if the daemons are in it, else take it away with state=absent",
            )

    def _ready(self, timeout: float) -> Pod:
        def look() -> Pod:
            __, found = self.look()
            pod = found.surge
            if pod is None:
                raise HotUpgradeError(
                    f"the surge pod on node {self._node} went away before it was ready",
                    "somebody has deleted or evicted it",
                    "The old pod was not touched. See the events of the node, and run it again",
                )
            self._require_waiting(pod)
            return pod

        return self._wait(timeout).wait(
            f"the surge pod on node {self._node} is ready",
            look,
            lambda pod: pod.ready,
            lambda pod: f"{pod.name}: {pod.trouble or pod.phase or 'nothing is told of it'}",
            "The old pod was not touched. See whether the node has the image and room for a second pod",
        )

    def _require_waiting(self, pod: Pod) -> None:
        if pod.phase in ENDED or pod.ending:
            raise HotUpgradeError(
                f"surge pod {pod.name} on node {self._node} ended",
                pod.trouble or pod.phase,
                "The old pod was not touched. See whether the node has room for a second pod of this kind",
            )
        if pod.restarts:
            raise HotUpgradeError(
                f"the container of surge pod {pod.name} on node {self._node} was started again ({pod.restarts} times)",
                pod.trouble or "nothing is told of the reason",
                "The old pod was not touched. See why it ends: whether the image has /bin/sh, and its limits of memory",
            )

    # --- adopted --------------------------------------------------------------------------------------

    def adopted(
        self, grace: int, timeout: float, replace_third: bool = False, check_mode: bool = False
    ) -> Done:
        """Delete the old pod and have the controller adopt the surge pod in its place; returns when it is the node's only one.

        Whatever an earlier run has left of that is gone on with. Raises ``Refused`` before anything is touched; ``ThirdPod``
        where the controller has made a pod of its own, unless ``replace_third`` says that the daemons are in the surge pod;
        ``TimedOut`` or ``HotUpgradeError`` where it did not come to its end.
        """
        if grace < SHORTEST:
            raise Refused(
                f"a period of grace of {grace} s is refused",
                "the old pod would be gone before the surge pod has its labels, and the controller would make another pod",
                f"Take {SHORTEST} s at least; 30 is enough",
            )
        daemonset, found = self._answer(timeout, self.look)
        if done := adopted_before(found):
            return done
        surge = self._require_surge(daemonset, found)
        if found.adopted and found.only:
            return self._unmarked(surge, (), (), check_mode)
        self._require_no_third(found, replace_third)
        revision = self._revision(daemonset, surge, self._answer(timeout, self._cluster.revisions))
        # Those that this run deletes itself are what the surge pod replaces.
        names = tuple(each.name for each in found.old)
        if check_mode:
            return Done(True, surge, names, tuple(each.name for each in found.third))
        if not found.adopted:
            self._replace(found.old, surge, revision, grace, timeout)
        third = self._settled(surge, names, grace + timeout)
        return self._unmarked(surge, names, third, check_mode)

    def _require_surge(self, daemonset: DaemonSet, found: Crew) -> Pod:
        surge = found.surge
        if surge is None:
            raise Refused(
                f"node {self._node} has no surge pod of {daemonset}",
                f"there is {', '.join(each.name for each in found.own) or 'no pod of it'}",
                "Nothing was touched. Make one with state=present",
            )
        if surge.ending and not found.adopted:
            raise Refused(
                f"surge pod {surge.name} on node {self._node} is being deleted",
                "so nothing may take its place over from the old pod",
                "Nothing was touched. See in whose control group the daemons are, and run it again when the pod is gone",
            )
        if surge.phase in ENDED and not found.adopted:
            raise Refused(
                f"surge pod {surge.name} on node {self._node} has ended",
                surge.trouble or surge.phase,
                "Nothing was touched. No daemon is in it any more: see whether ovs-vswitchd runs, take the pod away with "
                "state=absent, and begin anew",
            )
        return surge

    def _require_no_third(self, found: Crew, replace: bool) -> None:
        if found.third and not replace:
            names = ", ".join(each.name for each in found.third)
            raise ThirdPod(
                f"the controller has made pod {names} on node {self._node} beside the surge pod",
                "the old pod was gone before the surge pod had its labels, and the program of the new one restarts the daemons",
                "See in whose control group the daemons are. If they are in the surge pod, go on with replace_third; if not, "
                "take the surge pod away with state=absent",
            )

    def _revision(self, daemonset: DaemonSet, surge: Pod, revisions: t.Sequence[Json]) -> Revision:
        """That of which the surge pod was made: its labels must not say that it is of another one."""
        revision = revision_of(revisions, daemonset.uid, surge.revision)
        if revision is None:
            raise Refused(
                f"surge pod {surge.name} on node {self._node} is of no revision that {daemonset} has",
                f"it is of {surge.revision or 'none'}",
                "Nothing was touched. Take it away with state=absent if no daemon is in it, and begin anew",
            )
        return revision

    def _replace(
        self, old: t.Sequence[Pod], surge: Pod, revision: Revision, grace: int, timeout: float
    ) -> None:
        """Delete the old pod, and label the surge pod directly after that: the time for it ends when the old pod is gone."""
        waiter = Waiter(timeout, 0.1, self._clock)
        for pod in old:
            if not pod.ending:
                waiter.wait(
                    f"the API server takes the deletion of pod {pod.name}",
                    functools.partial(self._delete, pod, grace),
                    bool,
                    hint="See whether the pod is being deleted. If it is not, nothing was touched",
                )
        late: list[bool] = []
        waiter.wait(
            f"surge pod {surge.name} has the labels of the DaemonSet",
            lambda: self._label(surge, revision, late),
            bool,
            hint="The old pod is being deleted. Run it again at once: the labels come too late when that pod is gone",
        )

    def _delete(self, pod: Pod, grace: int | None) -> bool:
        with contextlib.suppress(Missing):
            self._cluster.delete_pod(pod.name, pod.uid, grace)
        return True

    def _label(self, surge: Pod, revision: Revision, late: list[bool]) -> bool:
        """Label it; at a second try somebody else may have come meanwhile."""
        if late:
            self._require_no_third(self.look()[1], False)
        late.append(True)
        self._patch(surge, adoption(revision))
        return True

    def _patch(self, surge: Pod, patch: Json) -> None:
        try:
            self._cluster.patch_pod(surge.name, patch)
        except Missing as error:
            raise self._lost(surge) from error

    def _lost(self, surge: Pod) -> HotUpgradeError:
        return HotUpgradeError(
            f"surge pod {surge.name} on node {self._node} went away in the place of the old pod",
            "somebody, or the controller, has deleted it",
            "The controller makes another pod. See whether ovs-vswitchd runs on the node, and whether that pod becomes ready",
        )

    def _settled(self, surge: Pod, old: t.Collection[str], timeout: float) -> tuple[str, ...]:
        """Wait until the adopted surge pod is the only one; returns the names of others that were seen meanwhile."""
        seen: dict[str, None] = {}

        def look() -> Crew:
            __, found = self.look()
            if found.surge is None or found.surge.uid != surge.uid or found.surge.ending:
                raise self._lost(surge)
            seen.update(dict.fromkeys(each.name for each in found.own if each.name not in old))
            return found

        self._wait(timeout).wait(
            f"surge pod {surge.name} is adopted, and the only one on node {self._node}",
            look,
            lambda found: found.adopted and found.only is not None,
            lambda found: (
                f"it is {'adopted' if found.adopted else 'not adopted'}, and beside it are "
                + (", ".join(each.name for each in found.own) or "no others")
            ),
            "There is no way back to the old pod. See whether kube-controller-manager and kubelet run, and run it again",
        )
        return tuple(seen)

    def _unmarked(self, surge: Pod, old: tuple[str, ...], third: tuple[str, ...], check_mode: bool) -> Done:
        """It is one of the DaemonSet's pods from now on, and no surge pod."""
        if not check_mode:
            self._wait(30).wait(
                f"pod {surge.name} has the label {MARK} no more", lambda: self._unmark(surge), bool
            )
            pods = [Pod.read(each, self._container) for each in self._cluster.pods(self._node)]
            surge = next((each for each in pods if each.uid == surge.uid), surge)
        return Done(True, surge, old, third)

    def _unmark(self, surge: Pod) -> bool:
        self._patch(surge, {"metadata": {"labels": {MARK: None}}})
        return True

    # --- absent ---------------------------------------------------------------------------------------

    def absent(self, timeout: float, check_mode: bool = False) -> Done:
        """Take away a surge pod that was not adopted, with whatever runs in it; returns when it is gone.

        Raises ``Refused`` where it is the DaemonSet's pod by now.
        """
        __, found = self._answer(timeout, self.look)
        surge = found.surge
        names = tuple(each.name for each in found.own)
        if surge is None:
            return Done(False, None, names)
        if found.adopted:
            raise Refused(
                f"pod {surge.name} on node {self._node} is no surge pod any more",
                "the controller has adopted it, so the node would be without a pod",
                "Go on with state=adopted",
            )
        if not check_mode:
            self._wait(timeout).wait(
                f"surge pod {surge.name} is gone",
                lambda: self._gone(surge),
                bool,
                lambda __: "it is still there",
                "See whether the node's kubelet runs",
            )
        return Done(True, surge, names)

    def _gone(self, surge: Pod) -> bool:
        __, found = self.look()
        there = found.surge
        if there is not None and there.uid == surge.uid and not there.ending:
            self._delete(there, None)
        return there is None


def _of(revision: str, image: str) -> str:
    return f"of revision {revision}" if revision else f"for a rehearsal of {image}"


def adopted_before(found: Crew) -> Done | None:
    """What an earlier run has come to its end with: the only pod was a surge pod once."""
    pod = found.only
    was_surge = (
        pod is not None
        and pod.owner == found.uid
        and pod.annotations.get(REVISION, "-") == pod.labels.get(HASH)
    )
    return Done(False, pod) if was_surge and found.surge is None else None
