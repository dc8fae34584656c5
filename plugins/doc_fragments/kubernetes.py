# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # Which DaemonSet of which cluster; _ansible.KUBERNETES is the same in code.
    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - The file that opens the cluster, on the machine where the module runs.
      - When it is not set, what E(KUBECONFIG) names, else C(~/.kube/config), else the service account of the pod that this
        runs in.
    type: path
  context:
    description: Which context of it, unless the present one is meant.
    type: str
  namespace:
    description: The namespace of the DaemonSet.
    type: str
    default: kube-system
  daemonset:
    description: The DaemonSet whose pods run Open vSwitch.
    type: str
    default: ovs-ovn
  container:
    description: The container of its pods that runs the daemons.
    type: str
    default: openvswitch
requirements:
  - The Python package C(kubernetes), where the module runs
  - Python 3.9 or newer
"""
