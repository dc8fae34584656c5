#!/usr/bin/python

# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ovs_container
short_description: Which container has the daemons of Open vSwitch, and hold the first process of one
version_added: 1.0.0
description:
  - Tells which of the daemons that run are in the control groups of a container, whatever the readiness of its pod says.
  - Holds the first process of a container. A pod whose first process is held takes its whole grace period to end, so there is
    time for what has to be done meanwhile. Its other processes go on.
author:
  - ovsops contributors (@ovsops)
extends_documentation_fragment:
  - ovsops.hot_upgrade.attributes
  - ovsops.hot_upgrade.attributes.actiongroup_hot_upgrade
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  id:
    description: The id of the container, what C(kubectl) shows as C(containerID) without what comes before the two slashes.
    type: str
    required: true
  state:
    description:
      - V(held) stops its first process (C(SIGSTOP)), V(released) has it go on.
      - When it is not set, the module only looks, and a container that has ended is no error.
    type: str
    choices: [held, released]
  rundir:
    description: The run directory of Open vSwitch on the host.
    type: path
    default: /run/openvswitch
  ovn_rundir:
    description: The run directory of OVN on the host.
    type: path
    default: /run/ovn
seealso:
  - module: ovsops.hot_upgrade.ovs_handover
"""

EXAMPLES = r"""
- name: See whether the daemons are in the container of the new pod
  ovsops.hot_upgrade.ovs_container:
    id: "{{ surge.container }}"
  register: owner
  failed_when: not owner.daemons['ovs-vswitchd']

- name: Have the old pod take its whole grace period to end
  ovsops.hot_upgrade.ovs_container:
    id: "{{ old.container }}"
    state: held
"""

RETURN = r"""
running:
  description: Whether the container runs on this host.
  returned: success
  type: bool
  sample: true
pid:
  description: Its first process, as the host counts.
  returned: success
  type: int
  sample: 2569
held:
  description: Whether its first process is held.
  returned: success
  type: bool
  sample: false
daemons:
  description: Of each daemon of Open vSwitch and OVN that runs on the host, whether it is in the container.
  returned: success
  type: dict
  sample: {ovs-vswitchd: true, ovsdb-server: true, ovn-controller: true}
"""

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ansible import Options, run_module
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import pods
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Call, Outcome

OPTIONS: Options = {
    "id": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["held", "released"]},
    "rundir": {"type": "path", "default": "/run/openvswitch"},
    "ovn_rundir": {"type": "path", "default": "/run/ovn"},
}


def behave(call: Call) -> Outcome:
    """Hold, release or look."""
    names = ("id", "state", "rundir", "ovn_rundir")
    return pods.bring(*(call.params[name] for name in names), check_mode=call.check_mode)


def main() -> None:
    """Entry point for Ansible."""
    run_module(OPTIONS, behave)


if __name__ == "__main__":
    main()
