# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Something fails while the playbook kube_ovn works on a node of a real cluster: the node forwards, and the next run goes on.

Each run stands still before a task while the harm is done. The version goes back and forth: each case begins where the one
before has ended.
"""

from __future__ import annotations

import contextlib
import typing as t

import pytest

from tests.harness import probe, runs
from tests.harness.plays import Play
from tests.harness.waiting import wait_until
from tests.kube.cluster import HASH, MARK, NAMESPACE, Cluster, Pod
from tests.kube.conftest import FROM, TO
from tests.lab import hosts, kubernetes
from tests.lab import lab as laboratory
from tests.lab.hosts import Host
from tests.lab.images import LabError
from tests.lab.kube import control, manifests

OTHER = {FROM: TO, TO: FROM}
SLOW = 400.0
# What Kubernetes itself may interrupt: until it has started a container, and somebody has loaded the flows again.
OUTAGE = 180.0
# The surge pod is ready, and nothing of the hand-over has begun.
BEFORE = "Hand over to the new version"
# The daemons are in the surge pod, and the old pod is as it was.
MOVED = "Hold the first process of the old pod"
# So, and nobody has confirmed it.
WAITS = "Wait for the confirmation by a person"
# So, and the first process of the old pod is stopped.
HELD = "Delete the old pod, and have the surge pod adopted in its place"
# Of 240 packets a second, each time that the daemons move; the longest silence of the stock way is a second and more.
MOST_LOST, LONGEST_GAP_MS = 60, 600


class Node:
    """The node on which all of it happens."""

    def __init__(self, cluster: Cluster, host: Host) -> None:
        self.cluster, self.host, self.lab = cluster, host, cluster.lab
        self.plays: list[Play] = []

    def shell(self, *command: str) -> str:
        return hosts.ssh(self.lab, self.host, *command)

    # --- who is there ---------------------------------------------------------------------------------

    @property
    def pods(self) -> list[Pod]:
        return self.cluster.pods(self.host)

    @property
    def surge(self) -> Pod:
        (pod,) = (pod for pod in self.pods if pod.labels.keys() & MARK.keys())
        return pod

    @property
    def old(self) -> Pod:
        """The DaemonSet's own pod."""
        (pod,) = (pod for pod in self.pods if not pod.labels.keys() & MARK.keys())
        return pod

    def has_daemons(self, pod: Pod) -> bool:
        """Whether the pod is there, and both daemons are in its container, which may be a new one."""
        there = self.cluster.pod(pod.name)
        owners = {self.cluster.daemon_owner(self.host, name) for name in ("ovs-vswitchd", "ovsdb-server")}
        return there is not None and owners == {there.container}

    @property
    def version(self) -> str:
        return self.cluster.only_pod(self.host).image.rpartition(":")[2]

    @property
    def strategy(self) -> str:
        return str(self.cluster.daemonset()["spec"]["updateStrategy"]["type"])

    def flows(self) -> list[str]:
        """Of the bridge that traffic goes through, without what counts."""
        told = self.shell("ovs-ofctl --no-stats dump-flows br0")
        return sorted(line.strip() for line in told.splitlines() if "actions" in line)

    def populate(self) -> None:
        """Anew: ``ovs-ctl restart`` puts groups back, and no flows where there are meters."""
        self.shell(
            "for bridge in br0 br1; do for what in flows groups meters; do"
            " ovs-ofctl -O OpenFlow15 del-$what $bridge; done; done"
        )
        self.cluster.populate(self.host, "--flows", "20", "--spare-flows", "10")

    def is_ready(self) -> bool:
        return self.host.name in kubernetes.ready_nodes(self.lab)

    def has_pressure(self) -> bool:
        conditions = self.cluster.json(self.cluster.core.read_node(self.host.name))["status"]["conditions"]
        return ("DiskPressure", "True") in [(each["type"], each["status"]) for each in conditions]

    # --- the playbook ---------------------------------------------------------------------------------

    def play(self, version: str, *hold: str, **variables: t.Any) -> Play:
        given = {
            "kube_ovn_image": manifests.image(version), "kube_ovn_kubeconfig": str(control.kubeconfig(self.lab)),
            "kube_ovn_grace": 10, "kube_ovn_timeout": 240, **variables,
        }  # fmt: skip
        argv = runs.playbook_argv(
            [self.lab.inventory],
            given,
            *("--limit", self.host.name),
            playbook="ovsops.hot_upgrade.kube_ovn",
        )
        self.plays.append(Play(argv, hold))
        return self.plays[-1]

    def held(self, version: str, *hold: str, **variables: t.Any) -> Play:
        """A run that stands before the first of these tasks."""
        play = self.play(version, *hold, **variables)
        play.held(hold[0])
        return play

    def rolls(self, version: str) -> None:
        """A run that nobody disturbs ends well."""
        play = self.play(version)
        assert play.wait() == 0, play.text

    def require(self, version: str, strategy: str = "RollingUpdate") -> None:
        """Nothing of a rollout is left: one pod of the DaemonSet, the newest, with the daemons; the strategy of before."""
        daemonset = self.cluster.daemonset()
        pod = self.cluster.only_pod(self.host)
        assert (pod.owner, pod.image) == (daemonset["metadata"]["uid"], manifests.image(version))
        assert pod.labels[HASH] == self.cluster.revision()
        assert (pod.ending, MARK.keys() & pod.labels.keys()) == (False, set())
        assert self.has_daemons(pod)
        wait_until(lambda: self.cluster.only_pod(self.host).ready, SLOW)
        assert self.shell("ovs-vsctl get open_vswitch . ovs_version").strip() == f'"{version}"'
        assert self.strategy == strategy
        assert "ovsops.io/rollout" not in daemonset["metadata"]["annotations"]

    # --- what is done to it ---------------------------------------------------------------------------

    def evict(self, pod: Pod) -> None:
        """What 'kubectl drain' does to a pod; does not wait."""
        place = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod.name}"
        body = {
            "apiVersion": "policy/v1beta1",
            "kind": "Eviction",
            "metadata": {"name": pod.name, "namespace": NAMESPACE},
        }
        control.request(self.lab, "POST", f"{place}/eviction", body)

    def end_first_process(self, pod: Pod) -> None:
        """So kubelet starts its container again; returns when it is ready."""
        self.shell("kill", "-KILL", str(self.cluster.processes(self.host, pod)[0]))

        def again() -> bool:
            there = self.cluster.pod(pod.name)
            return there is not None and there.restarts > pod.restarts and there.ready

        wait_until(again, SLOW)

    def lose_power(self) -> None:
        """Somebody pulls its plug, and puts it in again; returns when its pods are ready."""
        hosts.power_off(self.lab, self.host)
        self.lab = self.cluster.lab = laboratory.power_on(self.lab, self.host)
        self.host = next(each for each in self.lab.hosts if each.name == self.host.name)
        restarts = {pod.uid: pod.restarts for pod in self.pods}

        def again() -> bool:
            return all(pod.ready and pod.restarts > restarts.get(pod.uid, 0) for pod in self.pods)

        wait_until(again, SLOW)

    def gone(self, pod: Pod) -> bool:
        return self.cluster.pod(pod.name) is None

    def third(self, *others: Pod) -> Pod:
        """The pod that the controller makes besides, when its program has started the daemons."""
        known = {pod.name for pod in others}

        def found() -> list[Pod]:
            return [pod for pod in self.pods if pod.name not in known and pod.ready]

        wait_until(lambda: any(self.has_daemons(pod) for pod in found()), SLOW)
        return found()[0]

    def repair(self) -> None:
        """Whatever the case before has left: the cluster works, and the node has one pod of the DaemonSet."""
        with contextlib.suppress(LabError):
            self.shell("kube-node", "stop-kubelet")
        self.shell("kube-node", "pressure", "0")
        self.shell("kube-node", "start-kubelet")
        control.bring_back_api_server(self.lab)
        wait_until(self.is_ready, SLOW)
        self.renew()

    def renew(self) -> None:
        """Have the pod of the controller's own making, and nothing of a rollout."""
        forget = {"metadata": {"annotations": {"ovsops.io/rollout": None}}}
        self.cluster.patch(
            {**forget, "spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}}}
        )
        self.cluster.renew(self.host, FROM, SLOW)
        self.populate()


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> t.Iterator[Node]:
    """The first node, which is the only one that the DaemonSet is for: a run on it is the whole rollout."""
    node, label = Node(cluster, cluster.lab.hosts[0]), "kubernetes.io/hostname"
    strategy = {"type": "OnDelete", "rollingUpdate": None}
    selector = {"spec": {"nodeSelector": {label: node.host.name}}}
    cluster.patch({"spec": {"updateStrategy": strategy, "template": selector}})
    for version in OTHER:
        cluster.import_image(node.host, version)
    if not sound(node):
        node.renew()
    yield node
    cluster.retemplate(FROM)  # which every node has
    cluster.patch(
        {"spec": {"updateStrategy": strategy, "template": {"spec": {"nodeSelector": {label: None}}}}}
    )
    every = [True] * len(cluster.lab.hosts)
    wait_until(lambda: [pod.ready for pod in cluster.pods()] == every, SLOW)


def sound(node: Node) -> bool:
    """Whether the node has one pod of the DaemonSet, the newest, ready, with the daemons."""
    with contextlib.suppress(Exception):
        pod = node.cluster.only_pod(node.host)
        return (
            node.is_ready()
            and not node.has_pressure()
            and (pod.ready, pod.ending, MARK.keys() & pod.labels.keys()) == (True, False, set())
            and pod.labels[HASH] == node.cluster.revision()
            and node.has_daemons(pod)
        )
    return False


class Case:
    """What a case is to come to: a version, and the flows of before."""

    def __init__(self, node: Node) -> None:
        self.wanted, self.flows = OTHER[node.version], node.flows()


@pytest.fixture
def begun(node: Node) -> t.Iterator[None]:
    """The node is in order, and its DaemonSet is one that its controller rolls; whatever a test started ends with it."""
    if not sound(node):
        node.repair()
    if not node.flows():
        node.populate()
    node.cluster.patch({"spec": {"updateStrategy": {"type": "RollingUpdate"}}})
    yield
    for play in node.plays:
        if play.process.poll() is None:
            play.kill()
    node.plays.clear()


@contextlib.contextmanager
def case(node: Node, outage_s: float = 0.0, strategy: str = "RollingUpdate") -> t.Iterator[Case]:
    """Traffic goes through it, and in the end the node has the wanted version, the flows of before, and nothing is left.

    ``outage_s``: how long Kubernetes itself may interrupt it, in which the flows go, too.
    """
    found = Case(node)
    with probe.probing(node.lab, node.host, 2, max_duration=3600) as probing:
        yield found
    losses = probe.Losses.of(probing.result)
    print(losses)
    if outage_s:
        assert losses.gap_ms <= outage_s * 1000, losses
    else:
        assert losses.established + losses.new <= MOST_LOST, losses
        assert losses.gap_ms <= LONGEST_GAP_MS, losses
    node.require(found.wanted, strategy)
    assert node.flows() == found.flows


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("begun")]


# --- the API server -------------------------------------------------------------------------------------


def test_an_api_server_that_comes_back_in_time(node: Node) -> None:
    """It is away from before the hand-over on, and comes back when the run asks for the deletion."""
    with case(node) as found:
        play = node.held(found.wanted, BEFORE)
        control.stop_api_server(node.lab)
        play.go_on()
        play.until(f"{HELD}] *")
        control.bring_back_api_server(node.lab)
        assert play.wait() == 0, play.text


def test_an_api_server_that_stays_away_after_the_hand_over(node: Node) -> None:
    """Nothing was deleted, so the daemons go back to the old pod."""
    with case(node) as found:
        play = node.held(found.wanted, HELD, kube_ovn_timeout=60)
        old = node.old
        control.stop_api_server(node.lab)
        play.go_on()
        play.until("Keep the reason")
        control.bring_back_api_server(node.lab)
        assert play.wait() != 0, play.text
        assert "does not answer" in play.text
        assert "The surge pod was taken away. The old pod has the daemons." in play.text
        assert (node.old.uid, node.old.ending) == (old.uid, False)
        assert node.strategy == "OnDelete"
        node.rolls(found.wanted)


# --- kubelet --------------------------------------------------------------------------------------------


def test_a_node_that_is_not_ready_after_the_hand_over(node: Node) -> None:
    with case(node) as found:
        play = node.held(found.wanted, HELD, kube_ovn_timeout=60)
        surge = node.surge
        node.shell("kube-node", "stop-kubelet")
        wait_until(lambda: not node.is_ready(), SLOW)
        play.go_on()
        assert play.wait() != 0, play.text
        assert "See whether kube-controller-manager and kubelet run" in play.text
        assert (node.old.ending, node.surge.owner) == (True, node.old.owner)
        assert node.has_daemons(surge)
        node.shell("kube-node", "start-kubelet")
        wait_until(node.is_ready, SLOW)
        node.rolls(found.wanted)
        assert node.old.uid == surge.uid


def test_kubelet_is_restarted_at_each_step(node: Node) -> None:
    with case(node) as found:
        play = node.held(found.wanted, BEFORE, HELD)
        node.shell("kube-node", "restart-kubelet")
        play.go_on()
        play.held(HELD)
        node.shell("kube-node", "restart-kubelet")
        play.go_on()
        wait_until(lambda: any(pod.ending for pod in node.pods), SLOW)
        node.shell("kube-node", "restart-kubelet")
        assert play.wait() == 0, play.text


def test_disk_pressure(node: Node) -> None:
    """Pods of that priority are not evicted, and the images of those that run stay."""
    with case(node) as found:
        play = node.held(found.wanted, BEFORE)
        node.shell("kube-node", "pressure", "99")
        node.shell("kube-node", "restart-kubelet")
        wait_until(node.has_pressure, SLOW)
        play.go_on()
        assert play.wait() == 0, play.text
        assert node.has_pressure()
        node.shell("kube-node", "pressure", "0")
        node.shell("kube-node", "restart-kubelet")
        wait_until(lambda: not node.has_pressure(), 2 * SLOW)
    for version in OTHER:
        node.cluster.import_image(node.host, version)


# --- a surge pod that does not come about ---------------------------------------------------------------


def image_is_missing(node: Node, __: str) -> Play:
    play = node.play("none", kube_ovn_timeout=75)
    assert play.wait() != 0, play.text
    assert "ErrImagePull" in play.text or "ImagePullBackOff" in play.text, play.text
    return play


def container_does_not_start(node: Node, __: str) -> Play:
    """Its image has no shell."""
    play = node.play("", kube_ovn_image="docker.io/lab/pause:1")
    assert play.wait() != 0, play.text
    assert "was started again" in play.text, play.text
    return play


def is_never_ready(node: Node, wanted: str) -> Play:
    def ready_by(*command: str) -> None:
        container = {"name": "openvswitch", "readinessProbe": {"exec": {"command": list(command)}}}
        node.cluster.patch({"spec": {"template": {"spec": {"containers": [container]}}}})

    container = node.cluster.daemonset()["spec"]["template"]["spec"]["containers"][0]
    ready_by("false")
    try:
        play = node.play(wanted, kube_ovn_timeout=75)
        assert play.wait() != 0, play.text
        assert "until the surge pod on node" in play.text, play.text
    finally:
        ready_by(*container["readinessProbe"]["exec"]["command"])
    return play


def container_is_started_again(node: Node, wanted: str) -> Play:
    """It waits again, and restarts nobody's daemons."""
    play = node.held(wanted, BEFORE)
    old = node.old
    node.end_first_process(node.surge)
    assert node.has_daemons(old)
    play.go_on()
    assert play.wait() != 0, play.text
    return play


def is_evicted(node: Node, wanted: str) -> Play:
    play = node.held(wanted, BEFORE)
    surge = node.surge
    node.evict(surge)
    wait_until(lambda: node.gone(surge), SLOW)
    play.go_on()
    assert play.wait() != 0, play.text
    return play


WAYS = [image_is_missing, container_does_not_start, is_never_ready, container_is_started_again, is_evicted]


def test_a_surge_pod_that_never_has_the_daemons(node: Node) -> None:
    """In whichever way: nothing of the old pod is touched, and the first run without that ends well."""
    # Its template is changed in between.
    strategy = {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}}
    node.cluster.patch({"spec": strategy})
    with case(node, strategy="OnDelete") as found:
        old = node.old
        for fails in WAYS:
            print(fails.__name__)
            play = fails(node, found.wanted)
            assert "The old pod has the daemons." in play.text, play.text
            assert [(pod.uid, pod.restarts, pod.ready) for pod in node.pods] == [
                (old.uid, old.restarts, True)
            ]
            assert node.has_daemons(old)
        node.rolls(found.wanted)


def test_a_surge_pod_that_is_started_again_after_the_hand_over_starts_the_daemons(node: Node) -> None:
    """They have ended with its container."""
    with case(node, outage_s=OUTAGE) as found:
        play = node.held(found.wanted, HELD)
        surge = node.surge
        node.end_first_process(surge)
        wait_until(lambda: node.has_daemons(surge), SLOW)
        node.populate()
        play.go_on()
        assert play.wait() == 0, play.text
        assert node.old.uid == surge.uid


# --- evictions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", [BEFORE, MOVED], ids=["before the hand-over", "after it"])
def test_the_old_pod_is_evicted_and_another_one_comes(node: Node, moment: str) -> None:
    """Before it the daemons end with it; after it the other one's program restarts them, and they are its own then."""
    with case(node, outage_s=OUTAGE) as found:
        play = node.held(found.wanted, moment)
        old, surge = node.old, node.surge
        node.evict(old)
        third = node.third(old, surge)
        node.populate()
        play.go_on()
        assert play.wait() != 0, play.text
        assert "The surge pod was taken away." in play.text
        assert [pod.uid for pod in node.pods] == [third.uid]
        node.rolls(found.wanted)
        assert node.old.uid == third.uid


def test_the_old_pod_is_evicted_when_it_is_held(node: Node) -> None:
    with case(node) as found:
        play = node.held(found.wanted, HELD)
        surge = node.surge
        node.evict(node.old)
        play.go_on()
        assert play.wait() == 0, play.text
        assert node.old.uid == surge.uid


def test_the_surge_pod_is_evicted_after_the_hand_over(node: Node) -> None:
    """The daemons end with it; the old pod's liveness probe has its program start them again."""
    with case(node, outage_s=OUTAGE) as found:
        play = node.held(found.wanted, HELD)
        old, surge = node.old, node.surge
        node.evict(surge)
        wait_until(lambda: node.gone(surge), SLOW)
        play.go_on()
        assert play.wait() != 0, play.text
        wait_until(lambda: node.has_daemons(old) and node.cluster.only_pod(node.host).ready, SLOW)
        node.populate()
        node.rolls(found.wanted)


# --- the node itself ------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", [WAITS, HELD], ids=["before the confirmation", "after it"])
def test_the_node_loses_power(node: Node, moment: str) -> None:
    """Both pods are there again. The daemons are in one of them, and the next run has them in the new one."""
    wanted = OTHER[node.version]
    play = node.held(wanted, moment, hot_upgrade_confirm="manual" if moment == WAITS else "automatic")
    old, surge = node.old, node.surge
    play.kill()
    node.lose_power()
    wait_until(lambda: node.has_daemons(old) or node.has_daemons(surge), SLOW)
    node.populate()
    node.rolls(wanted)
    node.require(wanted)


def test_the_node_of_an_adopted_pod_loses_power(node: Node) -> None:
    """It is the DaemonSet's as any other: its program starts the daemons, and the next rollout replaces it."""
    wanted = OTHER[node.version]
    node.rolls(wanted)
    pod = node.old
    node.lose_power()
    wait_until(lambda: node.has_daemons(pod), SLOW)
    node.populate()
    node.require(wanted)
    with case(node) as found:
        node.rolls(found.wanted)


# --- the run itself -------------------------------------------------------------------------------------


def transactions(node: Node) -> str:
    return node.shell("ls /var/lib/ovsops/transactions 2>/dev/null || :")


def test_killed_while_the_node_hands_over(node: Node) -> None:
    with case(node) as found:
        play = node.held(found.wanted, BEFORE)
        known = transactions(node)
        play.go_on()
        wait_until(lambda: transactions(node) != known, SLOW)
        play.kill()
        node.rolls(found.wanted)


def test_killed_after_the_hand_over(node: Node) -> None:
    with case(node) as found:
        play = node.held(found.wanted, HELD)
        surge = node.surge
        play.kill()
        assert node.has_daemons(surge)
        node.rolls(found.wanted)
        assert node.old.uid == surge.uid


def test_killed_when_the_deletion_has_begun(node: Node) -> None:
    with case(node) as found:
        play = node.held(found.wanted, HELD)
        old, surge = node.old, node.surge
        play.go_on()
        wait_until(lambda: (node.cluster.pod(old.name) or old).ending, SLOW)
        play.kill()
        node.rolls(found.wanted)
        assert node.old.uid == surge.uid
