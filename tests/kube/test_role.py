# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook kube_ovn against a real API server and the real controller of DaemonSets.

No container runs: kubelets, the hand-over and the look at control groups are stand-ins. Where the daemons of a node are is in a
file, which the stand-in of the hand-over changes.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.objects import REVISION
from tests.harness.traces import traces
from tests.harness.waiting import wait_until
from tests.kube import plane
from tests.kube.cluster import HASH, MARK, NAME, NAMESPACE, Cluster, Pod, Watched
from tests.lab import hosts
from tests.lab.images import REPOSITORY, LabError
from tests.lab.kube import control, manifests

NODES = ("n1", "n2", "n3")
OLD, NEW = manifests.image("3.1.0"), manifests.image("3.5.0")

# What the role hot_upgrade does, as far as a cluster sees it.
HAND_OVER = """
- name: Hand over
  block:
    - name: Fail where the test wants it
      ansible.builtin.fail:
        msg: the hand-over was taken back
      when: inventory_hostname in fails | default([])
    - name: Have the daemons in the new container
      ansible.builtin.copy:
        content: "{{ hot_upgrade_container }}"
        dest: "{{ kube_ovn_rundir }}/owner"
        mode: "0600"
  always:
    - name: Result
      ansible.builtin.set_fact:
        hot_upgrade_result:
          outcome: "{{ 'failed' if inventory_hostname in fails | default([]) else 'upgraded' }}"
          failure: ""
"""
REHEARSE = """
- name: Keep in which pod
  ansible.builtin.copy:
    content: "{{ hot_upgrade_container }} {{ hot_upgrade_container_before }}"
    dest: "{{ kube_ovn_rundir }}/rehearsed"
    mode: "0600"
- name: Fail where the test wants it
  ansible.builtin.fail:
    msg: the node is not ready
  when: inventory_hostname in refuses | default([])
"""
NOTHING = """
- name: Nothing
  ansible.builtin.debug:
    msg: nothing
"""
MODULE = """
import pathlib
from ansible.module_utils.basic import AnsibleModule

def main():
    words = dict(id={}, state={"default": "look"}, rundir={}, ovn_rundir={}, container={})
    module = AnsibleModule(words, supports_check_mode=True)
    folder = pathlib.Path(module.params["rundir"])
    with (folder / "log").open("a") as log:
        log.write(f"{module.params['state']} {module.params['id']}\\n")
    owner = (folder / "owner").read_text()
    inside = owner == module.params["id"]
    module.exit_json(changed=module.params["state"] != "look", running=True, pid=1,
                     daemons={"ovs-vswitchd": inside, "ovsdb-server": inside})

main()
"""

# The way back.
BACK = """
import pathlib
from ansible.module_utils.basic import AnsibleModule

def main():
    words = dict(container={}, container_before={}, rundir={})
    module = AnsibleModule(words, supports_check_mode=True)
    (pathlib.Path(module.params["rundir"]) / "owner").write_text(module.params["container"])
    module.exit_json(changed=True)

main()
"""


@pytest.fixture(scope="module")
def cluster() -> t.Iterator[Cluster]:
    """A control plane, for all tests of this file; KUBE_PLANE names one that is up already, and stays."""
    if "KUBE_PLANE" in os.environ:
        yield Cluster(hosts.require(os.environ["KUBE_PLANE"]))
        return
    name = f"plane-{os.getpid()}"
    try:
        yield Cluster(plane.start(name))
    finally:
        hosts.down(name)
    assert traces(name) == []


@pytest.fixture(scope="module")
def kubelets(cluster: Cluster) -> t.Iterator[plane.Kubelets]:
    """Three nodes."""
    with plane.Kubelets(cluster, NODES) as made:
        yield made


class Fleet:
    """The nodes as Ansible sees them, and the playbooks over them."""

    def __init__(self, cluster: Cluster, kubelets: plane.Kubelets, folder: Path, kubeconfig: Path) -> None:
        self.cluster, self.kubelets, self.folder = cluster, kubelets, folder
        self.kubeconfig = kubeconfig
        collection = folder / "ansible_collections/ovsops/hot_upgrade"
        for part in ("playbooks", "plugins", "roles", "meta"):
            shutil.copytree(REPOSITORY / part, collection / part)
        shutil.copy(REPOSITORY / "galaxy.yml", collection)
        shutil.rmtree(collection / "roles/hot_upgrade")
        tasks = collection / "roles/hot_upgrade/tasks"
        tasks.mkdir(parents=True)
        for name in ("unfinished", "confirmation", "ovn"):
            (tasks / f"{name}.yml").write_text(NOTHING)
        (tasks / "rehearse.yml").write_text(REHEARSE)
        (tasks / "main.yml").write_text(HAND_OVER)
        for name in ("ovs_container", "ovs_info"):
            (collection / f"plugins/modules/{name}.py").write_text(MODULE)
        for name in ("ovs_handover", "ovn_controller"):
            (collection / f"plugins/modules/{name}.py").write_text(BACK)
            (collection / f"plugins/action/{name}.py").unlink(missing_ok=True)
        for node in NODES:
            (folder / node).mkdir()
            (folder / node / "owner").write_text(self.only(node).container)
        inventory = {"ovs_hosts": {"hosts": {f"host-{node}": {"kube_ovn_node": node} for node in NODES}}}
        (folder / "inventory.json").write_text(json.dumps(inventory))

    def only(self, node: str) -> Pod:
        (pod,) = (pod for pod in self.cluster.pods() if pod.node == node)
        return pod

    def owner(self, node: str) -> str:
        return (self.folder / node / "owner").read_text()

    def run(
        self, *options: str, playbook: str = "kube_ovn", **variables: t.Any
    ) -> subprocess.CompletedProcess[str]:
        name = "{{ kube_ovn_node | default(inventory_hostname) }}"
        given = {
            "kube_ovn_image": NEW, "kube_ovn_kubeconfig": str(self.kubeconfig), "kube_ovn_grace": 10, "kube_ovn_timeout": 60,
            "kube_ovn_rundir": f"{self.folder}/{name}", "ansible_connection": "local", **variables,
        }  # fmt: skip
        return subprocess.run(
            [
                REPOSITORY / "tests/tools/in-env", "tools", "ansible-playbook", "-i", str(self.folder / "inventory.json"),
                "-e", json.dumps(given), *options, playbook if "/" in playbook else f"ovsops.hot_upgrade.{playbook}",
            ],
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(self.folder), "ANSIBLE_NOCOLOR": "1"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def rolled(self) -> list[bool]:
        """Of each node, whether its one pod is the newest, the DaemonSet's, and has the daemons."""
        uid, revision = self.cluster.daemonset()["metadata"]["uid"], self.cluster.revision()
        pods = [self.only(node) for node in NODES]
        return [
            (pod.owner, pod.labels[HASH], pod.image, MARK.keys() & pod.labels.keys())
            == (uid, revision, NEW, set())
            and self.owner(pod.node) == pod.container
            for pod in pods
        ]

    def strategy(self) -> str:
        return str(self.cluster.daemonset()["spec"]["updateStrategy"]["type"])


@pytest.fixture
def fleet(cluster: Cluster, kubelets: plane.Kubelets, tmp_path: Path) -> t.Iterator[Fleet]:
    """The DaemonSet anew, rolled by its controller, with a pod on each node."""
    plane.fill(cluster, len(NODES), "RollingUpdate")
    yield Fleet(cluster, kubelets, tmp_path, allowed(cluster, tmp_path))
    kubelets.broken.clear()
    cluster.apps.delete_namespaced_daemon_set(NAME, NAMESPACE)
    for pod in cluster.pods():
        cluster.core.delete_namespaced_pod(pod.name, NAMESPACE, grace_period_seconds=0)
    # The next DaemonSet would find a revision of its own name that is still this one's.
    wait_until(lambda: not cluster.pods() and not revisions(cluster), 60)


def revisions(cluster: Cluster) -> list[t.Any]:
    return list(cluster.apps.list_namespaced_controller_revision(NAMESPACE).items)


def allowed(cluster: Cluster, folder: Path) -> Path:
    """A kubeconfig of somebody who may do what examples/kube-ovn/rbac.yml allows, and nothing else."""
    place = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/ovsops/token"
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 7200},
    }
    token = control.request(cluster.lab, "POST", place, body)["status"]["token"]
    opened = json.loads(control.kubeconfig(cluster.lab).read_text())
    opened["users"][0]["user"] = {"token": token}
    (folder / "kubeconfig").write_text(json.dumps(opened))
    return folder / "kubeconfig"


@pytest.fixture(scope="module", autouse=True)
def rights(cluster: Cluster) -> None:
    """What examples/kube-ovn/rbac.yml gives."""
    for made in rbac():
        group = "/api/v1" if made["apiVersion"] == "v1" else f"/apis/{made['apiVersion']}"
        kind = {"ClusterRole": "clusterroles", "Role": "roles", "ServiceAccount": "serviceaccounts",
                "ClusterRoleBinding": "clusterrolebindings", "RoleBinding": "rolebindings"}[made["kind"]]  # fmt: skip
        namespace = made["metadata"].get("namespace")
        place = f"{group}/namespaces/{namespace}/{kind}" if namespace else f"{group}/{kind}"
        # Its namespace comes some moments after the API server.
        wait_until(functools.partial(is_there, cluster, place, made), 60)


def is_there(cluster: Cluster, place: str, made: dict[str, t.Any]) -> bool:
    try:
        control.request(cluster.lab, "POST", place, made)
    except LabError as error:
        return "AlreadyExists" in str(error)
    return True


def rbac() -> list[dict[str, t.Any]]:
    whole = yaml.safe_load((REPOSITORY / "examples/kube-ovn/rbac.yml").read_text())
    return t.cast("list[dict[str, t.Any]]", whole["items"])


def test_all_nodes_one_after_the_other(fleet: Fleet) -> None:
    before = {pod.name for pod in fleet.cluster.pods()}
    checked = fleet.run("--check")
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.count("would be replaced") == len(NODES)
    assert {pod.name for pod in fleet.cluster.pods()} == before
    assert fleet.strategy() == "RollingUpdate"
    with Watched(fleet.cluster) as seen:
        done = fleet.run()
        assert done.returncode == 0, done.stdout
        assert len({event[2].name for event in seen.events} - before) == len(NODES), "no third pod"
    assert all(fleet.rolled())
    assert fleet.cluster.daemonset()["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] == 1
    assert fleet.strategy() == "RollingUpdate"
    # Held before the deletion.
    assert "held" in (fleet.folder / "n1/log").read_text()
    pods = fleet.cluster.pods()
    again = fleet.run()
    assert again.returncode == 0, again.stdout
    assert "changed=0" in again.stdout.partition("PLAY RECAP")[2].splitlines()[1]
    assert fleet.cluster.pods() == pods


def test_a_rehearsal_leaves_the_cluster_as_it_was(fleet: Fleet) -> None:
    """A node that is not ready fails alone, and so does one with a surge pod of an upgrade; what a rehearsal has left goes."""
    cluster = fleet.cluster
    before, daemonset = cluster.pods(), cluster.daemonset()["spec"]
    upgrade, rehearsal = (cluster.surge(hosts.Host(node, 0)) for node in ("n2", "n3"))
    cluster.core.patch_namespaced_pod(
        rehearsal.name, NAMESPACE, {"metadata": {"annotations": {REVISION: ""}}}
    )
    with Watched(cluster) as seen:
        done = fleet.run(playbook="kube_ovn_rehearse", refuses=["host-n1"])
    assert done.returncode != 0
    assert "the node is not ready" in done.stdout
    assert f"there is the surge pod {upgrade.name}, of an upgrade that is at work" in done.stdout
    assert done.stdout.count("failed=1") == 2
    made = {event[2].node: event[2] for event in seen.events if event[2].image == NEW}
    assert set(made) == {"n1", "n3"}
    for node, pod in made.items():
        rehearsed = (fleet.folder / node / "rehearsed").read_text()
        assert rehearsed == f"{pod.container} {fleet.owner(node)}"
    assert cluster.daemonset()["spec"] == daemonset
    assert {pod.name for pod in cluster.pods()} == {pod.name for pod in [*before, upgrade]}
    checked = fleet.run("--check", "--limit", "host-n1", playbook="kube_ovn_rehearse")
    assert checked.returncode == 0, checked.stdout
    assert {pod.name for pod in cluster.pods()} == {pod.name for pod in [*before, upgrade]}


def test_a_rehearsal_of_what_cannot_run_says_so(fleet: Fleet) -> None:
    before = fleet.cluster.pods()
    done = fleet.run(playbook="kube_ovn_rehearse", kube_ovn_image="")
    assert "kube_ovn_image is not set" in done.stdout
    fleet.kubelets.broken.add(NEW)
    done = fleet.run("--limit", "host-n1", playbook="kube_ovn_rehearse", kube_ovn_timeout=8)
    assert "ImagePullBackOff: no such image" in done.stdout
    assert fleet.cluster.pods() == before
    (fleet.folder / "n1/owner").write_text("nobody")
    done = fleet.run("--limit", "host-n1", playbook="kube_ovn_rehearse")
    assert "ovs-vswitchd is not in the control group of pod" in done.stdout
    assert fleet.cluster.pods() == before


def test_a_canary_that_fails_stops_it_and_the_next_run_goes_on(fleet: Fleet) -> None:
    old = {pod.name for pod in fleet.cluster.pods()}
    done = fleet.run(fails=["host-n1"])
    assert done.returncode != 0
    assert "The rollout stops here, host-n1 failed" in done.stdout
    assert "stays OnDelete: the pods of n1, n2, n3 are older" in done.stdout
    assert {pod.name for pod in fleet.cluster.pods()} == old, "the surge pod was taken away"
    assert fleet.strategy() == "OnDelete"
    done = fleet.run()
    assert done.returncode == 0, done.stdout
    assert all(fleet.rolled())
    assert fleet.strategy() == "RollingUpdate"


def test_an_image_that_is_not_there_leaves_the_node_alone(fleet: Fleet) -> None:
    fleet.kubelets.broken.add(NEW)
    old = {pod.name for pod in fleet.cluster.pods()}
    done = fleet.run(kube_ovn_timeout=8)
    assert done.returncode != 0
    assert "ImagePullBackOff: no such image" in done.stdout
    assert "does not tell that it has" in done.stdout
    assert {pod.name for pod in fleet.cluster.pods()} == old


def test_some_nodes_and_then_the_rest(fleet: Fleet) -> None:
    done = fleet.run("--limit", "host-n2")
    assert done.returncode == 0, done.stdout
    assert fleet.rolled() == [False, True, False]
    assert "stays OnDelete: the pods of n1, n3 are older" in done.stdout
    put = fleet.run(playbook="kube_ovn_strategy")
    assert put.returncode == 0, put.stdout
    assert fleet.strategy() == "OnDelete"
    assert fleet.run().returncode == 0
    assert all(fleet.rolled())
    assert fleet.strategy() == "RollingUpdate"


def test_a_run_that_was_ended_after_the_hand_over_is_gone_on_with(fleet: Fleet) -> None:
    """Whoever ended it left a surge pod with the daemons in it, on one node; without them on another."""
    cluster = fleet.cluster
    cluster.patch({"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}}})
    cluster.retemplate("3.5.0")
    first, second = (cluster.surge(hosts.Host(node, 0)) for node in ("n1", "n2"))
    (fleet.folder / "n1/owner").write_text(first.container)
    done = fleet.run()
    assert done.returncode == 0, done.stdout
    assert all(fleet.rolled())
    assert fleet.only("n1").name == first.name
    assert fleet.only("n2").name != second.name


def test_a_third_pod_goes_where_the_daemons_are_in_the_surge_pod(fleet: Fleet) -> None:
    cluster = fleet.cluster
    surge, third = with_a_third_pod(cluster)
    (fleet.folder / "n1/owner").write_text(surge.container)
    done = fleet.run("--limit", "host-n1")
    assert done.returncode == 0, done.stdout
    assert f"the controller had made {third.name} meanwhile" in done.stdout
    assert fleet.rolled()[0]
    assert fleet.only("n1").name == surge.name


def test_a_pod_that_went_before_the_hand_over_is_said(fleet: Fleet) -> None:
    surge, third = with_a_third_pod(fleet.cluster)
    done = fleet.run("--limit", "host-n1")
    assert done.returncode != 0
    assert "somebody deleted the old pod" in done.stdout
    assert fleet.only("n1").name == third.name
    # Its own program has started the daemons there.
    (fleet.folder / "n1/owner").write_text(third.container)
    assert fleet.run().returncode == 0
    assert all(fleet.rolled())


def with_a_third_pod(cluster: Cluster) -> tuple[Pod, Pod]:
    """The first node with a surge pod, and a pod that the controller made when somebody deleted the old one."""
    cluster.patch({"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}}})
    cluster.retemplate("3.5.0")
    surge = cluster.surge(hosts.Host("n1", 0))
    (old,) = (pod for pod in cluster.pods() if pod.node == "n1" and pod.name != surge.name)
    cluster.delete(old)

    def others() -> list[Pod]:
        return [pod for pod in cluster.pods() if pod.node == "n1" and pod.name not in (old.name, surge.name)]

    wait_until(lambda: cluster.pod(old.name) is None and [pod.ready for pod in others()] == [True], 60)
    return surge, others()[0]


def test_the_nodes_can_be_had_from_the_cluster(fleet: Fleet) -> None:
    example = str(REPOSITORY / "examples/kube-ovn/fleet.yml")
    done = fleet.run("--check", playbook=example, hot_upgrade_hosts="n1,n3")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("would be replaced") == 2
    assert "n1: pod" in done.stdout
