#!/usr/bin/python

# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ovn_controller
short_description: Have the installed ovn-controller run, without a gap in the flows
version_added: 1.0.0
description:
  - Ends the C(ovn-controller) of a chassis of OVN and has its owner (systemd, or nobody) start the one that is on the disk.
  - The flows of the one before stay in the switch until the new one knows what is to be there (C(exit --restart), and
    C(external_ids:ovn-ofctrl-wait-before-clear) for as long as it takes). A restart of the service deletes them.
  - Returns when no flow of the one before is left in the first table.
  - The package is installed in between, without its restart (C(policy_rc_d) of M(ansible.builtin.apt)). Debian's ends the running
    one when it is unpacked, so V(prepared) comes before it.
  - The role C(hot_upgrade) does all of it where C(hot_upgrade_ovn) is set.
  - The databases of OVN and C(ovn-northd) are left alone. OVN wants chassis upgraded first, and then those.
  - Where Open vSwitch runs in pods, it moves from O(container_before) to O(container), with the arguments that it has. When the
    new one does not come to its own flows, the one before is started in its own container again.
author:
  - ovsops contributors (@ovsops)
extends_documentation_fragment:
  - ovsops.hot_upgrade.attributes
  - ovsops.hot_upgrade.attributes.actiongroup_hot_upgrade
  - ovsops.hot_upgrade.connection
  - ovsops.hot_upgrade.containers
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - V(restarted) always replaces it.
options:
  state:
    description:
      - V(current) replaces it where another one is on the disk than the one that runs, and starts it where none runs.
      - V(restarted) replaces it in any case.
      - V(prepared) only has the next one, whoever starts it, leave the flows for O(wait) seconds. V(current) sets back what was
        set before.
    type: str
    choices: [prepared, current, restarted]
    default: current
  wait:
    description:
      - How many seconds the flows of before stay at least, so that the new one can compute its own.
      - Large logical networks take longer.
      - What is set in C(external_ids:ovn-ofctrl-wait-before-clear) counts where it is more.
      - OVN 25.09 and newer wait by themselves, until they have computed all.
    type: float
    default: 8.0
  settle_timeout:
    description: How many seconds the new one may take until the flows are its own.
    type: float
    default: 120.0
seealso:
  - module: ovsops.hot_upgrade.ovs_handover
  - module: ovsops.hot_upgrade.ovs_info
"""

EXAMPLES = r"""
- name: Have flows stay, whoever restarts ovn-controller
  ovsops.hot_upgrade.ovn_controller:
    state: prepared

- name: Install the new OVN without a restart
  ansible.builtin.apt:
    name: [ovn-common, ovn-host]
    state: latest
    policy_rc_d: 101

- name: Have it run
  ovsops.hot_upgrade.ovn_controller:
"""

RETURN = r"""
before:
  description: The version that ran before. V(null) where none ran.
  returned: success
  type: str
  sample: 25.03.0
after:
  description: The version that runs now; in check mode, the one that would. V(null) where the host is no chassis of OVN.
  returned: success
  type: str
  sample: 26.03.1
settled_s:
  description: After how many seconds the flows were those of the new one. V(null) where nothing was replaced.
  returned: success
  type: float
  sample: 11.4
"""

import contextlib

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ansible import (
    CONNECTION,
    CONTAINERS,
    TOGETHER,
    Options,
    run_module,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovn.controller import (
    Controller,
    alone,
    started,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Call, Outcome
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.homes import Homes
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovn import Chassis


def bring_up(call: Call) -> Outcome:
    for name in ("wait", "settle_timeout"):
        if not 0 < call.params[name] < float("inf"):
            raise Refused(
                f"{name}={call.params[name]:g} is refused", "it must be more than 0", "Leave it out"
            )
    # As long as another run may take until all is its own, or it has gone back.
    patience = 2 * call.params["settle_timeout"] + 60
    with contextlib.nullcontext() if call.check_mode else alone(patience):
        return act(call, Controller.of(call.connection, Homes.of(call.params)))


def act(call: Call, controller: Controller) -> Outcome:
    chassis = controller.look()
    if chassis is None or not controller.concerns(chassis):
        return Outcome(False, {"before": None, "after": None, "settled_s": None})
    if call.params["state"] == "prepared":
        return prepare(call, controller, chassis)
    return replace(call, controller, chassis)


def prepare(call: Call, controller: Controller, chassis: Chassis) -> Outcome:
    controller.require_free(chassis)  # now: the package ends the running one
    changed = not controller.prepared()
    if not call.check_mode:
        controller.prepare(call.params["wait"])
    version = chassis.controller.running_version
    return Outcome(changed, {"before": version, "after": version, "settled_s": None})


def replace(call: Call, controller: Controller, chassis: Chassis) -> Outcome:
    daemon = chassis.controller
    due = call.params["state"] == "restarted" or daemon.upgrade_pending or not daemon.running
    # One whose settling nobody has waited for.
    left = controller.prepared()
    before, after, seconds = daemon.running_version, daemon.running_version, None
    if call.check_mode:
        after = daemon.disk_version if due else after
    elif due:
        settled = controller.replace(chassis, call.params["wait"], call.params["settle_timeout"])
        after, seconds = settled.chassis.controller.running_version, round(settled.seconds, 1)
    elif left:
        controller.settle(chassis, started(daemon), call.params["settle_timeout"])
    return Outcome(due or left, {"before": before, "after": after, "settled_s": seconds})


def main() -> None:
    options: Options = {
        "state": {"type": "str", "choices": ["prepared", "current", "restarted"], "default": "current"},
        "wait": {"type": "float", "default": 8.0},
        "settle_timeout": {"type": "float", "default": 120.0},
    }
    run_module({**CONNECTION, **CONTAINERS, **options}, bring_up, required_together=TOGETHER)


if __name__ == "__main__":
    main()
