#!/usr/bin/python

# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_rollout
short_description: Begin and end a rollout of a DaemonSet whose pods somebody else replaces
version_added: 1.0.0
description:
  - In the beginning the DaemonSet gets the strategy C(OnDelete), so that its controller leaves the pods alone, together with
    a template that names the new image, in one patch. An annotation remembers the strategy of before.
  - In the end that strategy is put back, if every pod is of the newest revision. The controller would replace all others at
    once, in its own order, and each with an outage.
  - Pods are not touched. M(ovsops.hot_upgrade.kube_surge_pod) replaces them.
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
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - V(begun) refuses a cluster that is not as it should be, with everything that is in the way, before anything is
        changed. It has to be known what the DaemonSet's strategy does; its controller must have seen its last change and be
        at work on no rollout; each of O(nodes) must be ready and have one pod of it, ready.
      - V(ended) puts the strategy of before back. Where pods are older nothing is changed, and RV(left) names their nodes.
    type: str
    choices: [begun, ended]
    required: true
  image:
    description:
      - With O(state=begun), the image that the container is to have. Containers of the template that have the same one as it
        get the new one, too.
    type: str
  nodes:
    description: With O(state=begun), the nodes that are going to be rolled.
    type: list
    elements: str
    default: []
  entrypoint:
    description: The entry point of the image, where the DaemonSet's template names no command.
    type: list
    elements: str
    default: []
  accept_hooks:
    description:
      - Whether lifecycle hooks of the pods (C(postStart), C(preStop)) do no harm. A C(preStop) runs when the old pod is
        deleted, and may stop daemons that are not its own any more.
    type: bool
    default: false
  timeout:
    description:
      - How many seconds the DaemonSet's controller has to see the new template.
      - With O(state=ended), how many seconds to ask an API server again that does not answer. With V(begun) it is asked once.
    type: int
    default: 60
seealso:
  - module: ovsops.hot_upgrade.kube_rollout_info
  - module: ovsops.hot_upgrade.kube_surge_pod
"""

EXAMPLES = r"""
- name: See whether the cluster allows the rollout, and begin
  ovsops.hot_upgrade.kube_rollout:
    state: begun
    image: docker.io/kubeovn/kube-ovn:v1.14.5
    nodes: [worker1, worker2]
  delegate_to: localhost

- name: Put the strategy back
  ovsops.hot_upgrade.kube_rollout:
    state: ended
  register: rollout
  delegate_to: localhost

- name: Say what is left
  ansible.builtin.debug:
    msg: "The strategy stays OnDelete: these nodes have older pods: {{ rollout.left | join(', ') }}"
  when: rollout.restored is false
"""

RETURN = r"""
left:
  description:
    - With O(state=begun), those of O(nodes) whose pods are not ready and of the newest revision.
    - With O(state=ended), all nodes of the cluster whose pods are older, or whose surge pod is not adopted. Empty where the
      strategy was put back.
  returned: success
  type: list
  elements: str
  sample: [worker2]
restored:
  description:
    - With O(state=ended), whether the strategy was put back, or would be in check mode. V(null) where no rollout has left
      anything to put back.
  returned: success
  type: bool
  sample: true
strategy:
  description: The DaemonSet's strategy, as it is now or would be.
  returned: success
  type: dict
  sample: {"type": "OnDelete"}
revision:
  description: With O(state=begun), the hash of the newest revision; empty in check mode where it would come.
  returned: success
  type: str
  sample: 6d8f9c5b7
warnings_of_cluster:
  description: What is in nobody's way and should be known, one sentence each.
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
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.problems import Wanted
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.rollout import Rollout
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Call, Outcome

OPTIONS: Options = {
    **KUBERNETES,
    "state": {"type": "str", "choices": ["begun", "ended"], "required": True},
    "image": {"type": "str"},
    "nodes": {"type": "list", "elements": "str", "default": []},
    "entrypoint": {"type": "list", "elements": "str", "default": []},
    "accept_hooks": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 60},
}


def behave(call: Call) -> Outcome:
    """Begin the rollout, or end it."""
    asked = call.params
    cluster = connect(asked["kubeconfig"], asked["context"], asked["namespace"], asked["daemonset"])
    rollout = Rollout(cluster, asked["container"], asked["timeout"])
    return begin(rollout, call) if asked["state"] == "begun" else end(rollout, call)


def begin(rollout: Rollout, call: Call) -> Outcome:
    asked = call.params
    wanted = Wanted(
        container=asked["container"],
        image=asked["image"],
        nodes=tuple(asked["nodes"]),
        entrypoint=tuple(asked["entrypoint"]),
        accept_hooks=asked["accept_hooks"],
    )
    begun = rollout.begin(wanted, call.check_mode)
    values = {
        "left": list(begun.left),
        "restored": None,
        "strategy": begun.after["strategy"],
        "revision": begun.revision,
        "warnings_of_cluster": list(begun.warnings),
    }
    return Outcome(begun.changed, values, begun.before, begun.after)


def end(rollout: Rollout, call: Call) -> Outcome:
    ended = rollout.end(call.check_mode)
    values = {
        "left": list(ended.left),
        "restored": ended.restored,
        "strategy": ended.after["strategy"],
        "revision": "",
        "warnings_of_cluster": [],
    }
    return Outcome(ended.restored is True, values, ended.before, ended.after)


def main() -> None:
    """Entry point for Ansible."""
    run_module(OPTIONS, behave, privileged=False, required_if=[("state", "begun", ("image",))])


if __name__ == "__main__":
    main()
