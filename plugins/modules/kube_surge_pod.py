#!/usr/bin/python

# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_surge_pod
short_description: Start a second pod of a DaemonSet on a node, and have it adopted in the place of the first
version_added: 1.0.0
description:
  - A surge pod is made from the template of a DaemonSet whose strategy is C(OnDelete), on one node, beside the pod that is
    there. It has labels of its own, so that the DaemonSet's controller leaves it alone. Its program waits at each
    start until it is told that the daemons are in it (M(ovsops.hot_upgrade.ovs_container)), and does what the template wants
    at every later one.
  - When the daemons run in it (M(ovsops.hot_upgrade.ovs_handover)), the old pod is deleted, and the surge pod gets the
    DaemonSet's labels while that one ends. So the controller finds a pod there, and makes no other.
  - It runs on the controller, or wherever the API server is in reach, and needs no root.
author:
  - ovsops contributors (@ovsops)
extends_documentation_fragment:
  - ovsops.hot_upgrade.attributes
  - ovsops.hot_upgrade.attributes.actiongroup_hot_upgrade
  - ovsops.hot_upgrade.kubernetes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  state:
    description:
      - V(present) has a surge pod of the newest revision there, ready. Where it does not become ready in time the task fails
        and the pod stays, since the module cannot know whether daemons are in it. The old pod is not touched.
      - V(adopted) deletes the old pod, labels the surge pod directly after that, and returns when it is the DaemonSet's and
        the only one of the node. What an earlier run has begun of that is gone on with. There is no way back from here.
      - V(absent) deletes a surge pod that was not adopted, with all that runs in it. See first that no daemon of the node does.
    type: str
    choices: [present, adopted, absent]
    default: present
  node:
    description: The node, as the cluster calls it.
    type: str
    required: true
  grace:
    description:
      - With O(state=adopted), how many seconds the old pod has to end, at least 10.
      - Until it has ended the labels have time to come. Stop the first process of its container before, so that it needs all
        of it, and so that its program can do nothing to the daemons.
    type: int
    default: 30
  timeout:
    description:
      - How many seconds to wait for the pod to be ready, adopted (in addition to O(grace)), or gone.
    type: int
    default: 180
  image:
    description:
      - With O(state=present), another image than the template names, for a rehearsal of it (M(ovsops.hot_upgrade.ovs_rehearsal)).
      - Such a pod is of none of the DaemonSet's revisions. It cannot be adopted, and is taken away with O(state=absent).
    type: str
    default: ""
  entrypoint:
    description:
      - The entry point of the image, where the DaemonSet's template names no command.
    type: list
    elements: str
    default: []
  replace_third:
    description:
      - What to do with a pod that the controller has made beside the surge pod, because the old one was gone too early.
        V(false) refuses, since the daemons may be in it.
      - V(true) says that they are in the surge pod. The controller deletes the other one then.
    type: bool
    default: false
seealso:
  - module: ovsops.hot_upgrade.kube_rollout
  - module: ovsops.hot_upgrade.ovs_handover
  - module: ovsops.hot_upgrade.ovs_container
"""

EXAMPLES = r"""
- name: Start a second pod on the node
  ovsops.hot_upgrade.kube_surge_pod:
    node: worker1
  register: surge
  delegate_to: localhost

- name: Have it start the daemons by itself from now on, if its container ends
  ovsops.hot_upgrade.ovs_container:
    id: "{{ surge.pod.container }}"
    state: taken_over

- name: Have it adopted when the daemons run in it
  ovsops.hot_upgrade.kube_surge_pod:
    node: worker1
    state: adopted
    grace: 30
  delegate_to: localhost

- name: Take it away when they do not
  ovsops.hot_upgrade.kube_surge_pod:
    node: worker1
    state: absent
  delegate_to: localhost
"""

RETURN = r"""
pod:
  description: The surge pod; V(null) where there is none, or none yet in check mode.
  returned: success
  type: dict
  sample: {"name": "ovs-ovn-7xk2p", "container": "5f0c…", "ready": true}
  contains: &pod
    name:
      description: Its name.
      type: str
      sample: ovs-ovn-7xk2p
    uid:
      description: Its uid.
      type: str
      sample: 0c1a3a0e-9f0b-4b5e-8d9e-0f3a8f0f6a52
    node:
      description: The node that it is on.
      type: str
      sample: worker1
    ready:
      description: Whether it is ready.
      type: bool
      sample: true
    ending:
      description: Whether it is being deleted.
      type: bool
      sample: false
    restarts:
      description: How often its container was started again.
      type: int
      sample: 0
    image:
      description: The image of its container.
      type: str
      sample: docker.io/kubeovn/kube-ovn:v1.14.5
    container:
      description: The id of its container, empty while there is none.
      type: str
      sample: 5f0c7a1d5c8e4b0e8d2c
    revision:
      description: The hash of the DaemonSet's revision that it is of, or was made from.
      type: str
      sample: 6d8f9c5b7
    trouble:
      description: Why it is not ready, in the words of Kubernetes. Empty where nothing is told.
      type: str
      sample: ""
old:
  description: The names of the DaemonSet's pods that were on the node before.
  returned: success
  type: list
  elements: str
  sample: [ovs-ovn-5wd9z]
third:
  description:
    - The names of pods that the controller made meanwhile. It should be empty. Where it is not, the program of such a pod
      may have restarted the daemons, so see whether they run.
  returned: success
  type: list
  elements: str
  sample: []
"""

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ansible import (
    KUBERNETES,
    Options,
    run_module,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.client import connect
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.surge import Done, Surge
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Call, Outcome

OPTIONS: Options = {
    **KUBERNETES,
    "state": {"type": "str", "choices": ["present", "adopted", "absent"], "default": "present"},
    "node": {"type": "str", "required": True},
    "grace": {"type": "int", "default": 30},
    "timeout": {"type": "int", "default": 180},
    "image": {"type": "str", "default": ""},
    "entrypoint": {"type": "list", "elements": "str", "default": []},
    "replace_third": {"type": "bool", "default": False},
}


def behave(call: Call) -> Outcome:
    """Have the surge pod as it is wanted."""
    asked = call.params
    cluster = connect(asked["kubeconfig"], asked["context"], asked["namespace"], asked["daemonset"])
    done = act(Surge(cluster, asked["node"], asked["container"]), call)
    pod = done.surge.told() if done.surge else None
    return Outcome(done.changed, {"pod": pod, "old": list(done.old), "third": list(done.third)})


def act(surge: Surge, call: Call) -> Done:
    asked = call.params
    if asked["state"] == "present":
        return surge.present(asked["timeout"], asked["entrypoint"], asked["image"], call.check_mode)
    if asked["state"] == "adopted":
        return surge.adopted(asked["grace"], asked["timeout"], asked["replace_third"], call.check_mode)
    return surge.absent(asked["timeout"], call.check_mode)


def main() -> None:
    """Entry point for Ansible."""
    run_module(OPTIONS, behave, privileged=False)


if __name__ == "__main__":
    main()
