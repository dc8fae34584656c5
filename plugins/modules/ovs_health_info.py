#!/usr/bin/python

# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ovs_health_info
short_description: Tell how well a switch is, and what is worse than before
version_added: 1.0.0
description:
  - Looks at what shows that a switch does not do its work. Those are links, BFD, CFM and LACP, the connections to controllers,
    managers and the southbound database of OVN, packets that were lost on their way to ovs-vswitchd, and errors of ports.
  - Run it before a change, and again after it with the first result in O(before). Only what is worse than before is in
    RV(worse). What was down already is not, nor are counters that grow as they did before, as far as chance tells.
  - The link of a veth or tap device that Open vSwitch has not made is what its other end does, a container or a virtual machine.
    It is left out.
  - Changes nothing.
author:
  - ovsops contributors (@ovsops)
extends_documentation_fragment:
  - ovsops.hot_upgrade.attributes
  - ovsops.hot_upgrade.attributes.info_module
  - ovsops.hot_upgrade.attributes.actiongroup_hot_upgrade
  - ovsops.hot_upgrade.connection
options:
  before:
    description:
      - The field RV(health) of an earlier result, to compare with.
      - Without it the counters are watched for a second, to see whether they grow by themselves.
    type: dict
  wait:
    description: How many seconds to wait until what was up before is up again. Only with O(before).
    type: float
    default: 0
seealso:
  - module: ovsops.hot_upgrade.ovs_info
  - module: ovsops.hot_upgrade.ovs_handover
"""

EXAMPLES = r"""
- name: Look at the switch before the change
  ovsops.hot_upgrade.ovs_health_info:
  register: first

- name: Change something
  ansible.builtin.command: ovs-appctl bond/set-active-member bond0 p2
  changed_when: true

- name: See what is worse than before, and give BFD and controllers half a minute
  ovsops.hot_upgrade.ovs_health_info:
    before: "{{ first.health }}"
    wait: 30
  register: second
  failed_when: second.worse | length > 0
"""

RETURN = r"""
health:
  description: How well the switch is, for O(before) of a later task.
  returned: success
  type: dict
  contains:
    datapaths:
      description: By name, how many packets were looked up and lost on their way to ovs-vswitchd, and errors and drops by port.
      type: dict
      returned: success
    growing:
      description: What counted losses or errors within the second without O(before).
      type: list
      elements: str
      returned: success
    well:
      description: By name, whether what can be up or down is up.
      type: dict
      returned: success
    process:
      description: Which ovs-vswitchd that was.
      type: str
      returned: success
  sample:
    datapaths: {system@ovs-system: {lookups: 20512, lost: 0, ports: {p1: {errors: 0, dropped: 0}}}}
    growing: []
    well: {the link of p1: true, "the connection of br0 to the controller tcp:192.0.2.1:6653": true}
    process: 812-1834
worse:
  description: What is worse than before, one sentence each.
  returned: with O(before)
  type: list
  elements: str
  sample: ["BFD of p1 is down, and was up before"]
down:
  description: Those of RV(worse) that may come up again by themselves.
  returned: with O(before)
  type: list
  elements: str
lost:
  description: Those of RV(worse) that are packets lost on their way to ovs-vswitchd.
  returned: with O(before)
  type: list
  elements: str
errors:
  description: Those of RV(worse) that are errors of ports.
  returned: with O(before)
  type: list
  elements: str
counted:
  description:
    - What the host's own counters tell of packets that were lost since O(before).
    - C(lost_upcalls) were lost on their way to ovs-vswitchd, C(dropped) by ports, for whatever reason. A process that ends takes
      with it what it has not read, which no counter tells. So it is a lower bound.
    - Both are V(null) where the counters began anew with another process or kernel module, as C(why) tells.
  returned: with O(before)
  type: dict
  sample: {lost_upcalls: 0, dropped: 0, why: ""}
"""

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ansible import CONNECTION, run_module
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._health import health
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Call, Outcome

OPTIONS = {"before": {"type": "dict"}, "wait": {"type": "float", "default": 0}, **CONNECTION}


def tell(call: Call) -> Outcome:
    """Look, and compare if there is something to compare with."""
    values = health.tell(call.connection, call.params["before"], call.params["wait"])
    return Outcome(changed=False, values=values)


def main() -> None:
    """Entry point for Ansible."""
    run_module(OPTIONS, tell)


if __name__ == "__main__":
    main()
