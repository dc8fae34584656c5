#!/usr/bin/python

# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ovs_container
short_description: Which container has the daemons of Open vSwitch; hold the first process of one, tell another that it has them
version_added: 1.0.0
description:
  - Tells which of the daemons that run are in the control groups of a container, whatever the readiness of its pod says.
  - Holds the first process of a container. A pod whose first process is held takes its whole grace period to end, so there is
    time for what has to be done meanwhile. Its other processes go on.
  - Tells a surge pod (M(ovsops.hot_upgrade.kube_surge_pod)) that the daemons have moved into it.
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
      - V(taken_over) tells the container of a surge pod that the daemons are in it. Until then its program waits at each start;
        at each later one it is the DaemonSet's own, which starts the daemons that have ended with the container. Refused where
        not all that run are in it.
      - When it is not set, the module only looks, and a container that has ended is no error.
    type: str
    choices: [held, released, taken_over]
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
  - module: ovsops.hot_upgrade.kube_surge_pod
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

- name: Have the new pod start the daemons itself if its container ends
  ovsops.hot_upgrade.ovs_container:
    id: "{{ surge.container }}"
    state: taken_over
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
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube import marker
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Call, Outcome
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import containers

TAKEN_OVER = "taken_over"
OPTIONS: Options = {
    "id": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["held", "released", TAKEN_OVER]},
    "rundir": {"type": "path", "default": "/run/openvswitch"},
    "ovn_rundir": {"type": "path", "default": "/run/ovn"},
}


def behave(call: Call) -> Outcome:
    """Hold, release, tell or look."""
    asked = call.params
    told = asked["state"] == TAKEN_OVER
    state = None if told else asked["state"]
    seen = pods.bring(asked["id"], state, asked["rundir"], asked["ovn_rundir"], call.check_mode)
    if not told:
        return seen
    changed = marker.tell(containers.find(asked["id"]), seen.values["daemons"], call.check_mode)
    return Outcome(changed, seen.values, {TAKEN_OVER: not changed}, {TAKEN_OVER: True})


def main() -> None:
    """Entry point for Ansible."""
    run_module(OPTIONS, behave)


if __name__ == "__main__":
    main()
