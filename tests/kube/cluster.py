# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of the lab through the official client: its pods of Open vSwitch, and a surge pod that becomes one of them.

A surge pod is made from the DaemonSet's own template, before the old pod of its node goes. It waits. When the old pod is
being deleted it gets the labels of the DaemonSet, whose controller then finds the node's new pod there already.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
import typing as t

from kubernetes import client, config, watch
from kubernetes.stream import stream
from urllib3.exceptions import HTTPError

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube import objects
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.objects import HASH
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.surge_pod import MARKER, surge_pod
from tests.harness.waiting import wait_until
from tests.lab import hosts
from tests.lab import lab as laboratory
from tests.lab.hosts import Host, Lab
from tests.lab.kube import control, manifests

Json = dict[str, t.Any]
NAMESPACE, NAME = manifests.NAMESPACE, manifests.NAME
MARK = {objects.MARK: NAME}
TAKE_OVER = """set -e
ctl=/usr/share/openvswitch/scripts/ovs-ctl
$ctl restart --no-ovs-vswitchd --system-id=random
$ctl restart --no-ovsdb-server --system-id=random
[ -z "${OVN_DB_IPS:-}" ] || /usr/share/ovn/scripts/ovn-ctl restart_controller
: > "$0"
"""


@dataclasses.dataclass(frozen=True)
class Pod:
    """What matters here of a pod."""

    name: str
    uid: str
    node: str
    owner: str | None
    labels: Json
    ending: bool
    ready: bool
    restarts: int
    image: str
    container: str

    @classmethod
    def read(cls, found: Json) -> Pod:
        """A pod as the API shows it."""
        about, status = found["metadata"], found.get("status", {})
        statuses = status.get("containerStatuses") or [{}]
        conditions = {each["type"]: each["status"] for each in status.get("conditions", [])}
        owners = [each["uid"] for each in about.get("ownerReferences", []) if each.get("controller")]
        return cls(
            name=about["name"],
            uid=about["uid"],
            node=found["spec"].get("nodeName", ""),
            owner=owners[0] if owners else None,
            labels=about.get("labels", {}),
            ending="deletionTimestamp" in about,
            ready=conditions.get("Ready") == "True",
            restarts=statuses[0].get("restartCount", 0),
            image=found["spec"]["containers"][0]["image"],
            container=statuses[0].get("containerID", "").rpartition("//")[2],
        )


class Cluster:
    """A cluster of the lab that is up."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.api = config.new_client_from_config(str(control.kubeconfig(lab)))
        self.core, self.apps = client.CoreV1Api(self.api), client.AppsV1Api(self.api)

    def json(self, answered: t.Any) -> Json:
        return t.cast(Json, self.api.sanitize_for_serialization(answered))

    def daemonset(self) -> Json:
        return self.json(self.apps.read_namespaced_daemon_set(NAME, NAMESPACE))

    def has_ovn(self) -> bool:
        """Whether its pods have an ovn-controller (tests/lab/kube/ovn.py)."""
        variables = self.daemonset()["spec"]["template"]["spec"]["containers"][0]["env"]
        return any(each["name"] == "OVN_DB_IPS" for each in variables)

    def patch(self, change: Json) -> None:
        """Change the DaemonSet; returns when its controller has seen that."""
        wanted = self.json(self.apps.patch_namespaced_daemon_set(NAME, NAMESPACE, change))["metadata"][
            "generation"
        ]
        wait_until(lambda: self.daemonset()["status"].get("observedGeneration", 0) >= wanted)

    def retemplate(self, ovs: str, note: str = "") -> str:
        """Have the template name that version, and that note; returns the hash of the revision that it then is."""
        container = {"name": "openvswitch", "image": manifests.image(ovs)}
        template: Json = {"spec": {"containers": [container]}}
        if note:
            template["metadata"] = {"annotations": {"ovsops.io/note": note}}
        self.patch({"spec": {"template": template}})
        return self.revision()

    def revision(self) -> str:
        """The hash of the DaemonSet's newest revision."""
        uid = self.daemonset()["metadata"]["uid"]
        every = self.json(self.apps.list_namespaced_controller_revision(NAMESPACE))["items"]
        own = [
            each
            for each in every
            if any(owner["uid"] == uid for owner in each["metadata"]["ownerReferences"])
        ]
        return str(max(own, key=lambda each: each["revision"])["metadata"]["labels"][HASH])

    def pods(self, host: Host | None = None) -> list[Pod]:
        """Every pod there is of the DaemonSet's kind, surge pods too; those of one node alone if it is named."""
        every = self.json(self.core.list_namespaced_pod(NAMESPACE))["items"]
        return [pod for pod in map(Pod.read, every) if host is None or pod.node == host.name]

    def only_pod(self, host: Host) -> Pod:
        (pod,) = self.pods(host)
        return pod

    def pod(self, name: str) -> Pod | None:
        return next((pod for pod in self.pods() if pod.name == name), None)

    def delete(self, pod: Pod, grace: int | None = None) -> None:
        """Begin to delete a pod; does not wait."""
        self.core.delete_namespaced_pod(pod.name, NAMESPACE, grace_period_seconds=grace)

    def has_only(self, host: Host, ovs: str, other_than: t.Container[str]) -> bool:
        """Whether the node has one pod, of that version, none of those names, ready, and with ovs-vswitchd in it."""
        pods = self.pods(host)
        return (
            [(pod.ready, pod.ending, pod.image) for pod in pods] == [(True, False, manifests.image(ovs))]
            and pods[0].name not in other_than
            and self.daemon_owner(host) == pods[0].container
        )

    def renew(self, host: Host, ovs: str, timeout: float) -> None:
        """Have a node with one pod of the controller's own making, of that version."""
        self.retemplate(ovs)
        before = self.pods(host)
        for pod in before:
            self.delete(pod)
        names = {pod.name for pod in before}
        wait_until(lambda: self.has_only(host, ovs, names), timeout)

    def populate(self, host: Host, *options: str) -> None:
        """See tests/lab/populate.py, for that node alone: what the others hold stays."""
        laboratory.populate(dataclasses.replace(self.lab, hosts=(host,)), options)

    def import_image(self, host: Host, ovs: str) -> None:
        """Have the container image with that version on the node."""
        hosts.ssh(self.lab, host, "kube-node", "import", ovs)

    # --- the surge pod --------------------------------------------------------------------------------

    def surge(self, host: Host) -> Pod:
        """Start a surge pod on a node; returns when it is ready."""
        body = surge_pod(self.daemonset(), host.name, "openvswitch", self.revision())
        made = Pod.read(self.json(self.core.create_namespaced_pod(NAMESPACE, body)))
        wait_until(lambda: (pod := self.pod(made.name)) is not None and pod.ready, 180)
        return self.pod(made.name) or made

    def label(self, pod: Pod, revision: str) -> None:
        """Give a surge pod what the DaemonSet's pods have."""
        labels = {**self.daemonset()["spec"]["template"]["metadata"]["labels"], HASH: revision}
        self.core.patch_namespaced_pod(pod.name, NAMESPACE, {"metadata": {"labels": labels}})

    def adopt(self, host: Host, old: Pod, surge: Pod, timeout: float) -> None:
        """Delete the old pod, and have the surge pod be the only one of the node: newest, ready, with the daemons."""
        self.delete(old)
        self.label(surge, self.revision())
        wanted = [(surge.name, True, False)]
        wait_until(
            lambda: (
                [(pod.name, pod.ready, pod.ending) for pod in self.pods(host)] == wanted
                and self.daemon_owner(host) == surge.container
            ),
            timeout,
        )

    def take_over(self, pod: Pod) -> None:
        """Restart the daemons in a surge pod, by exec: a stand-in for the hand-over, which costs packets."""
        self.execute(pod, "bash", "-c", TAKE_OVER, MARKER)

    def execute(self, pod: Pod, *argv: str) -> str:
        """Run a command in a pod's container and return what it printed; AssertionError if it fails."""
        opened = stream(
            self.core.connect_get_namespaced_pod_exec, pod.name, NAMESPACE, command=list(argv),
            stdout=True, stderr=True, stdin=False, tty=False, _preload_content=False,
        )  # fmt: skip
        opened.run_forever(timeout=120)
        status = opened.returncode  # read_all() forgets it
        said = str(opened.read_all())
        assert status == 0, said
        return said

    # --- on the node ----------------------------------------------------------------------------------

    def processes(self, host: Host, pod: Pod) -> list[int]:
        """The processes of a pod's container, by the pids of its node, the first one first."""
        found = hosts.script(
            self.lab, host, f"cat $(find /sys/fs/cgroup/pids -path '*{pod.container}/cgroup.procs')"
        )
        return sorted(map(int, found.split()))

    def daemon_owner(self, host: Host, daemon: str = "ovs-vswitchd") -> str:
        """The container that a daemon of a node is in; empty if there is none."""
        look = f"cat /proc/$(cat /run/*/{daemon}.pid)/cgroup 2>/dev/null || :"
        groups = dict(line.split(":", 2)[1:] for line in hosts.script(self.lab, host, look).splitlines())
        return groups.get("pids", "").rpartition("/")[2]


class Watched:
    """Every pod of the cluster as it comes, changes and goes, with moments (time.monotonic)."""

    def __init__(self, cluster: Cluster) -> None:
        self.events: list[tuple[float, str, Pod]] = []
        self._cluster, self._watch = cluster, watch.Watch()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Watched:
        self._thread.start()
        wait_until(lambda: len(self.events) >= len(self._cluster.pods()))
        return self

    def __exit__(self, *__: object) -> None:
        self._watch.stop()

    def _follow(self) -> None:
        # A connection that is closed while it is read is how the watch ends.
        with contextlib.suppress(HTTPError):
            for event in self._watch.stream(
                self._cluster.core.list_namespaced_pod, NAMESPACE, timeout_seconds=600
            ):
                self.events.append((time.monotonic(), event["type"], Pod.read(event["raw_object"])))

    def first(self, kind: str, condition: t.Callable[[Pod], bool]) -> float | None:
        """When such an event came first."""
        return next((at for at, seen, pod in list(self.events) if seen == kind and condition(pod)), None)

    def names(self, host: Host) -> set[str]:
        """Every pod that was seen on a node."""
        return {event[2].name for event in list(self.events) if event[2].node == host.name}
