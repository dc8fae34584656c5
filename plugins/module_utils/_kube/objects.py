# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Pods, DaemonSets and their revisions as plain data, out of what the API shows (pure)."""

from __future__ import annotations

import dataclasses
import json
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.cluster import Json

# The label by which a DaemonSet's controller knows of which revision a pod is.
HASH = "controller-revision-hash"
# A surge pod has this label, with the name of its DaemonSet, until it is adopted.
MARK = "ovsops.io/surge"
# And this volume, which nobody can give to a pod that is there already, unlike a label.
VOLUME = "ovsops-surge"
# A surge pod's annotation: the hash of the revision that it was made from.
REVISION = "ovsops.io/revision"
# The DaemonSet's annotation while it is rolled: what is put back in the end.
ROLLOUT = "ovsops.io/rollout"
ON_DELETE, ROLLING_UPDATE = "OnDelete", "RollingUpdate"


@dataclasses.dataclass(frozen=True)
class Pod:
    """What matters here of a pod; ``restarts``, ``container`` and ``image`` are of the container that was asked for."""

    name: str
    uid: str
    node: str
    owner: str | None
    labels: t.Mapping[str, str]
    annotations: t.Mapping[str, str]
    created: str
    ending: bool
    ready: bool
    phase: str
    restarts: int
    image: str
    container: str
    trouble: str
    hooks: tuple[str, ...]
    volumes: tuple[str, ...] = ()

    @classmethod
    def read(cls, found: Json, container: str = "") -> Pod:
        """A pod as the API shows it; without a name of a container, of its first one."""
        about, status = found["metadata"], found.get("status") or {}
        containers = found["spec"]["containers"]
        wanted = _named(containers, container) or containers[0]
        state = _named(status.get("containerStatuses") or [], wanted["name"]) or {}
        owners = [each["uid"] for each in about.get("ownerReferences") or [] if each.get("controller")]
        return cls(
            name=about["name"],
            uid=about["uid"],
            node=found["spec"].get("nodeName") or "",
            owner=owners[0] if owners else None,
            labels=about.get("labels") or {},
            annotations=about.get("annotations") or {},
            created=about.get("creationTimestamp") or "",
            ending=bool(about.get("deletionTimestamp")),
            ready=("Ready", "True")
            in [(each["type"], each["status"]) for each in status.get("conditions") or []],
            phase=status.get("phase") or "",
            restarts=state.get("restartCount") or 0,
            image=wanted.get("image") or "",
            container=(state.get("containerID") or "").rpartition("//")[2],
            trouble="; ".join(_troubles(status)),
            hooks=tuple(hooks(containers)),
            volumes=tuple(each["name"] for each in found["spec"].get("volumes") or []),
        )

    @property
    def revision(self) -> str:
        """The hash of the revision that it is of; of a surge pod, that it was made from."""
        return self.labels.get(HASH) or self.annotations.get(REVISION) or ""

    def surges_for(self, daemonset: str) -> bool:
        """Whether it was made as that DaemonSet's surge pod: by its label alone, any pod would be handed over to, or deleted."""
        return self.labels.get(MARK) == daemonset and VOLUME in self.volumes

    def told(self) -> Json:
        """What a module returns of it."""
        names = (
            "name",
            "uid",
            "node",
            "ready",
            "ending",
            "restarts",
            "image",
            "container",
            "revision",
            "trouble",
        )
        return {name: getattr(self, name) for name in names}


def _named(objects: t.Iterable[Json], name: str) -> Json | None:
    return next((each for each in objects if each["name"] == name), None)


def _troubles(status: Json) -> t.Iterator[str]:
    """Why a pod is not ready, in the words of kubelet and scheduler."""
    for part in (status, *(each for each in status.get("conditions") or [] if each["status"] == "False")):
        if part.get("reason") or part.get("message"):
            yield _joined(part)
    for each in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        for kind in ("waiting", "terminated"):
            found = (each.get("state") or {}).get(kind)
            # An init container that has done its work has ended, too.
            if found and found.get("exitCode") != 0:
                yield f"container {each['name']} is {kind}: {_joined(found)}"


def _joined(part: Json) -> str:
    return (
        ": ".join(text for text in (part.get("reason"), part.get("message")) if text) or "no reason is given"
    )


def hooks(containers: t.Iterable[Json]) -> t.Iterator[str]:
    """The lifecycle hooks of containers, as "preStop of openvswitch"."""
    for container in containers:
        for hook in sorted(container.get("lifecycle") or {}):
            if hook in ("postStart", "preStop"):
                yield f"{hook} of {container['name']}"


@dataclasses.dataclass(frozen=True)
class Revision:
    """A revision of a DaemonSet: its hash, its number, the labels of its pods."""

    hash: str
    number: int
    labels: t.Mapping[str, str]

    @classmethod
    def read(cls, found: Json) -> Revision:
        """A ControllerRevision as the API shows it."""
        template = ((found.get("data") or {}).get("spec") or {}).get("template") or {}
        return cls(
            found["metadata"]["labels"][HASH],
            found["revision"],
            (template.get("metadata") or {}).get("labels") or {},
        )


@dataclasses.dataclass(frozen=True)
class Memory:
    """What a DaemonSet's annotation remembers while it is rolled: strategy and image of before."""

    strategy: Json
    image: str

    def written(self) -> str:
        """The annotation."""
        return json.dumps({"strategy": self.strategy, "image": self.image}, sort_keys=True)

    @classmethod
    def read(cls, text: str) -> Memory | None:
        """The memory in an annotation; None where somebody else has written it."""
        try:
            found = json.loads(text)
            return cls(dict(found["strategy"]), str(found["image"]))
        except (ValueError, TypeError, KeyError):
            return None


@dataclasses.dataclass(frozen=True)
class DaemonSet:
    """What matters here of a DaemonSet; ``raw`` is all that the API shows."""

    name: str
    namespace: str
    uid: str
    version: str
    selector: Json
    strategy: Json
    containers: tuple[Json, ...]
    generation: int
    observed: int
    desired: int
    updated: int
    labels: t.Mapping[str, str]
    annotations: t.Mapping[str, str]
    raw: Json

    @classmethod
    def read(cls, found: Json) -> DaemonSet:
        """A DaemonSet as the API shows it."""
        about, spec, status = found["metadata"], found["spec"], found.get("status") or {}
        pod = spec["template"]["spec"]
        return cls(
            name=about["name"],
            namespace=about["namespace"],
            uid=about["uid"],
            version=about.get("resourceVersion") or "",
            selector=spec["selector"],
            strategy=spec.get("updateStrategy") or {},
            containers=tuple(pod["containers"]),
            generation=about.get("generation") or 0,
            observed=status.get("observedGeneration") or 0,
            desired=status.get("desiredNumberScheduled") or 0,
            updated=status.get("updatedNumberScheduled") or 0,
            labels=about.get("labels") or {},
            annotations=about.get("annotations") or {},
            raw=found,
        )

    def __str__(self) -> str:
        return f"DaemonSet {self.namespace}/{self.name}"

    @property
    def memory(self) -> Memory | None:
        """What a rollout has written down that has not ended yet."""
        return Memory.read(self.annotations[ROLLOUT]) if ROLLOUT in self.annotations else None

    @property
    def followed(self) -> bool:
        """Whether its controller has seen its last change."""
        return self.observed >= self.generation

    def container(self, name: str) -> Json | None:
        """That container of its template."""
        return _named(self.containers, name)


def newest(revisions: t.Iterable[Json], uid: str) -> Revision | None:
    """The newest revision of the DaemonSet with that uid; None where its controller has made none yet."""
    own = [
        each
        for each in revisions
        if uid in [owner["uid"] for owner in each["metadata"].get("ownerReferences") or []]
    ]
    return max(map(Revision.read, own), key=lambda each: each.number, default=None)


def revision_of(revisions: t.Iterable[Json], uid: str, hashed: str) -> Revision | None:
    """That revision of the DaemonSet."""
    own = [
        each
        for each in revisions
        if uid in [owner["uid"] for owner in each["metadata"].get("ownerReferences") or []]
    ]
    return next((each for each in map(Revision.read, own) if each.hash == hashed), None)


def selects(selector: Json, labels: t.Mapping[str, str]) -> bool:
    """Whether a selector of labels selects those; True where it says something that is not known here."""
    for label, value in (selector.get("matchLabels") or {}).items():
        if labels.get(label) != value:
            return False
    for each in selector.get("matchExpressions") or []:
        label, operator, values = each["key"], each["operator"], each.get("values") or []
        holds = {
            "In": labels.get(label) in values,
            "NotIn": labels.get(label) not in values,
            "Exists": label in labels,
            "DoesNotExist": label not in labels,
        }
        if not holds.get(operator, True):
            return False
    return True


def full_image(name: str) -> str:
    """The name of an image as a container runtime writes it: with registry, and with a tag or a digest."""
    first, slash, _rest = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif "." not in first and ":" not in first and first != "localhost":
        name = f"docker.io/{name}"
    tagged = "@" in name or ":" in name.rpartition("/")[2]
    return name if tagged else f"{name}:latest"


def with_image(spec: Json, image: str) -> dict[str, list[Json]]:
    """The containers of a pod's ``spec`` with ``image``, by the part of it that has them; kube-ovn's has an initial one, too."""
    found = {
        part: [each for each in spec.get(part) or [] if each["image"] == image]
        for part in ("containers", "initContainers")
    }
    return {part: containers for part, containers in found.items() if containers}


def has_image(node: Json, image: str) -> bool:
    """Whether a node says that it has the image; kubelet tells of its largest fifty only."""
    told = [
        name for each in (node.get("status") or {}).get("images") or [] for name in each.get("names") or []
    ]
    return full_image(image) in map(full_image, told)


def address(node: Json) -> str:
    """Where a node is reached by others of the cluster; empty where it does not tell."""
    every = (node.get("status") or {}).get("addresses") or []
    return next((str(each["address"]) for each in every if each["type"] == "InternalIP"), "")


def is_ready(node: Json) -> bool:
    """Whether a node is ready."""
    conditions = (node.get("status") or {}).get("conditions") or []
    return ("Ready", "True") in [(each["type"], each["status"]) for each in conditions]


@dataclasses.dataclass(frozen=True)
class Crew:
    """Who is on a node: the DaemonSet's pod, a surge pod, and a third one that should not be there.

    An adopted surge pod is ``old`` no more than any other: it is ``surge`` as long as it has the mark.
    """

    node: str
    uid: str
    own: tuple[Pod, ...]
    surges: tuple[Pod, ...]

    @property
    def surge(self) -> Pod | None:
        """The surge pod."""
        return self.surges[0] if self.surges else None

    @property
    def adopted(self) -> bool:
        """Whether the surge pod is the DaemonSet's."""
        return self.surge is not None and self.surge.owner == self.uid

    @property
    def old(self) -> tuple[Pod, ...]:
        """The DaemonSet's pods that were there before the surge pod; all if there is none."""
        return tuple(each for each in self.own if each not in self.third)

    @property
    def third(self) -> tuple[Pod, ...]:
        """Pods that the controller has made although there is a surge pod."""
        surge = self.surge
        return tuple(each for each in self.own if surge is not None and each.created > surge.created)

    @property
    def only(self) -> Pod | None:
        """The one pod of the node; None where there are others, or none."""
        everybody = (*self.own, *self.surges)
        return everybody[0] if len(everybody) == 1 else None


def crew(pods: t.Iterable[Pod], node: str, daemonset: DaemonSet) -> Crew:
    """Who of these is on that node, and matters."""
    here = [each for each in pods if each.node == node]
    surges = [each for each in here if each.surges_for(daemonset.name)]
    own = [each for each in here if each.owner == daemonset.uid and each not in surges]
    return Crew(node, daemonset.uid, tuple(own), tuple(sorted(surges, key=lambda each: each.created)))
