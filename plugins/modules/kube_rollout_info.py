#!/usr/bin/python

# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_rollout_info
short_description: Tell how a rollout of a DaemonSet stands, on one node or on all
version_added: 1.0.0
description:
  - Tells of the DaemonSet that runs Open vSwitch which strategy it has, and of its nodes which pod is there, whether that is
    of the newest revision, and whether a rollout has left a surge pod.
  - It runs on the controller, or wherever the API server is in reach, and needs no root.
author:
  - ovsops contributors (@ovsops)
extends_documentation_fragment:
  - ovsops.hot_upgrade.attributes
  - ovsops.hot_upgrade.attributes.info_module
  - ovsops.hot_upgrade.attributes.actiongroup_hot_upgrade
  - ovsops.hot_upgrade.kubernetes
options:
  node:
    description:
      - The node to tell of, as the cluster calls it. When it is not set, all that have a pod of the DaemonSet, or a surge
        pod.
    type: str
  timeout:
    description: How many seconds to ask an API server again that does not answer. At 0 it is asked once.
    type: int
    default: 0
seealso:
  - module: ovsops.hot_upgrade.kube_rollout
  - module: ovsops.hot_upgrade.kube_surge_pod
"""

EXAMPLES = r"""
- name: See how the rollout stands
  ovsops.hot_upgrade.kube_rollout_info:
  register: rollout
  delegate_to: localhost

- name: Say which nodes have older pods
  ansible.builtin.debug:
    msg: "{{ rollout.nodes | rejectattr('current') | map(attribute='node') }}"
"""

RETURN = r"""
strategy:
  description: The DaemonSet's strategy.
  returned: success
  type: dict
  sample: {"type": "OnDelete"}
image:
  description: The image that its template names for the container.
  returned: success
  type: str
  sample: docker.io/kubeovn/kube-ovn:v1.14.5
revision:
  description: The hash of its newest revision.
  returned: success
  type: str
  sample: 6d8f9c5b7
remembered:
  description: What a rollout that has not ended will put back; V(null) where there is none.
  returned: success
  type: dict
  sample: {"strategy": {"type": "RollingUpdate"}, "image": "docker.io/kubeovn/kube-ovn:v1.13.0"}
nodes:
  description: The nodes, sorted by name.
  returned: success
  type: list
  elements: dict
  contains:
    node:
      description: Its name.
      type: str
      sample: worker1
    address:
      description: Its address within the cluster (C(InternalIP)); empty where it does not tell.
      type: str
      sample: 192.0.2.11
    ready:
      description: Whether the node is ready.
      type: bool
      sample: true
    current:
      description: Whether its one pod is the DaemonSet's, ready and of the newest revision.
      type: bool
      sample: false
    image_present:
      description: Whether it tells that it has RV(image). Kubelet tells of its largest fifty images only.
      type: bool
      sample: true
    pod:
      description:
        - The DaemonSet's pod, which may be the adopted surge pod, see RV(ovsops.hot_upgrade.kube_surge_pod#module:pod).
          V(null) where there is none.
      type: dict
    surge:
      description: The surge pod, also when it is adopted and has the label still; V(null) where there is none.
      type: dict
    adopted:
      description: Whether the surge pod is the DaemonSet's.
      type: bool
      sample: false
    third:
      description: Pods that the DaemonSet's controller has made although there is a surge pod.
      type: list
      elements: dict
      sample: []
"""

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ansible import (
    KUBERNETES,
    Options,
    run_module,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.client import connect
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.rollout import Rollout
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Call, Outcome

OPTIONS: Options = {**KUBERNETES, "node": {"type": "str"}, "timeout": {"type": "int", "default": 0}}


def behave(call: Call) -> Outcome:
    """Tell how it stands."""
    asked = call.params
    cluster = connect(asked["kubeconfig"], asked["context"], asked["namespace"], asked["daemonset"])
    return Outcome(False, Rollout(cluster, asked["container"], asked["timeout"]).info(asked["node"]))


def main() -> None:
    """Entry point for Ansible."""
    run_module(OPTIONS, behave, privileged=False)


if __name__ == "__main__":
    main()
