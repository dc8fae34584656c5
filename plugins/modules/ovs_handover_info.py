#!/usr/bin/python

# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ovs_handover_info
short_description: Tell how the hand-overs of a host went, and which one waits for its confirmation
version_added: 1.0.0
description:
  - Reads the records that M(ovsops.hot_upgrade.ovs_handover) and M(ovsops.hot_upgrade.ovs_kmod_reload) keep on the host, of the
    last ten at most.
  - Changes nothing and waits for nothing. It does not renew the time after which a host goes back by itself.
    C(ovs_handover) with O(ovsops.hot_upgrade.ovs_handover#module:state=settled) does both.
  - Open vSwitch need not run for it.
author:
  - ovsops contributors (@ovsops)
extends_documentation_fragment:
  - ovsops.hot_upgrade.attributes
  - ovsops.hot_upgrade.attributes.info_module
  - ovsops.hot_upgrade.attributes.actiongroup_hot_upgrade
options:
  transaction:
    description:
      - Tell of this hand-over alone. The task fails where there is no record of it.
      - When it is not set, all are told.
    type: str
seealso:
  - module: ovsops.hot_upgrade.ovs_handover
"""

EXAMPLES = r"""
- name: Look at the hand-overs of this host
  ovsops.hot_upgrade.ovs_handover_info:
  register: handovers

- name: Say until when the host waits for a confirmation
  ansible.builtin.debug:
    msg: "{{ item.transaction }} goes back by itself at {{ item.deadline }}"
  loop: "{{ handovers.transactions | selectattr('state', 'equalto', 'applied') }}"

- name: Wait until somebody has confirmed it, or it has gone back
  ovsops.hot_upgrade.ovs_handover_info:
    transaction: "{{ handover.transaction }}"
  register: handovers
  until: handovers.transactions[0].state in ['confirmed', 'rolled_back', 'failed']
  delay: 5
  retries: 60

- name: Show how long each step of the last hand-over took, in milliseconds
  ansible.builtin.debug:
    msg: "{{ item.step }}: {{ (item.end_us - item.start_us) / 1000 }}"
  loop: "{{ (handovers.transactions | first).timeline }}"
"""

RETURN = r"""
transactions:
  description:
    - The hand-overs and reloads, the newest first. Empty where there was none yet.
    - Only the first can be unfinished, since a host has one hand-over at a time.
  returned: success
  type: list
  elements: dict
  contains:
    transaction:
      description: The transaction's id. It begins with the time at which it was made, in UTC.
      type: str
      sample: 20261123T061500Z-3fa2c1
    operation:
      description: Which module has begun it, C(handover) or C(kmod_reload). Empty where the record is damaged.
      type: str
      sample: handover
    state:
      description:
        - V(confirmed) is final, V(applied) waits for the confirmation, V(rolled_back) is what was before.
        - V(failed) could not be undone completely. V(prepared), V(armed) and V(rolling_back) are being worked on.
      type: str
      sample: applied
    deadline:
      description:
        - When the host goes back by itself unless somebody confirms, in UTC. V(null) unless RV(transactions[].state=applied).
        - It is V(null), too, where the host has been started again since, and nobody has worked on the transaction after that.
      type: str
      sample: "2026-11-23T06:17:03Z"
    plan:
      description: What was planned, see RV(ovsops.hot_upgrade.ovs_handover#module:plan).
      type: dict
      sample: {"strategy": "make_before_break", "before": {"ovs-vswitchd": "3.5.0"}, "after": {"ovs-vswitchd": "4.0.0"}}
    timeline:
      description: Every step that was done, in microseconds of the host's monotonic clock.
      type: list
      elements: dict
      sample: [{"step": "cut over", "start_us": 81231231, "end_us": 81233510}]
    window_ms:
      description: How long nobody forwarded, in milliseconds. V(null) if it never came to that.
      type: float
      sample: 3.2
    refill_ms:
      description: How long the tables of a bridge with a controller were empty, in milliseconds. V(null) where no flush was seen.
      type: float
      sample: 21.7
    verification:
      description: What was compared, see RV(ovsops.hot_upgrade.ovs_handover#module:verification).
      type: dict
    proof:
      description: What was proved before the switch-over, or why nothing was, in words.
      type: str
    connections:
      description: How many tracked connections were carried over, see RV(ovsops.hot_upgrade.ovs_handover#module:connections).
      type: dict
      sample: {"carried": 1204, "of": 1204}
    changes:
      description: What others changed meanwhile, see RV(ovsops.hot_upgrade.ovs_handover#module:changes).
      type: dict
    changed_since_snapshot:
      description: For each bridge that was not as the named snapshot has it, the difference in a few words.
      type: dict
    not_carried:
      description: What could not be taken over to the new process, one sentence each.
      type: list
      elements: str
    reason:
      description: Why the hand-over was taken back. Empty if it was not.
      type: str
    measured:
      description: What was found on the host after the hand-over was taken back. Empty if it was not.
      type: str
    not_undone:
      description: What could not be undone. Empty unless RV(transactions[].state=failed).
      type: list
      elements: str
"""

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ansible import Options, run_module
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.record import records
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Call, Outcome

OPTIONS: Options = {"transaction": {"type": "str"}}


def tell(call: Call) -> Outcome:
    """Read the records; nothing is changed."""
    return Outcome(changed=False, values={"transactions": records(call.params["transaction"])})


def main() -> None:
    """Entry point for Ansible."""
    run_module(OPTIONS, tell)


if __name__ == "__main__":
    main()
