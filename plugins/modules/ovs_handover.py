#!/usr/bin/python

# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ovs_handover
short_description: Replace the running Open vSwitch daemons by those on disk, under traffic
version_added: 1.0.0
description:
  - Replaces ovs-vswitchd and ovsdb-server, which still run an older version, by the programs that are on disk now.
    Install the packages before, without letting their scripts restart anything.
  - The work is one journaled transaction on the host. It does not depend on the connection, which may cross the bridge that is
    being replaced. Whatever fails is undone, and a guard on the host undoes it when nobody else can. When the connection is lost,
    the task asks the host over a new one how it went.
  - Only one transaction is possible on a host at a time. A second one is refused with the first one's id.
author:
  - ovsops contributors (@ovsops)
extends_documentation_fragment:
  - ovsops.hot_upgrade.attributes
  - ovsops.hot_upgrade.attributes.actiongroup_hot_upgrade
  - ovsops.hot_upgrade.connection
  - ovsops.hot_upgrade.containers
  - ovsops.hot_upgrade.judgement
attributes:
  check_mode:
    support: full
    details:
      - Returns the plan and touches nothing.
  diff_mode:
    support: full
    details:
      - Shows versions and schema.
  idempotent:
    support: full
options:
  state:
    description:
      - V(handed_over) replaces the daemons, if what runs is not what is on disk.
      - V(confirmed) makes O(transaction) final, which waits for that.
      - V(rolled_back) takes O(transaction) back to the version before.
      - V(verified) accounts for every difference between what the switch held before the hand-over and what it holds now,
        while O(transaction) waits for its confirmation, see RV(changes). Only what nobody was seen to change is a failure.
      - V(settled) waits until O(transaction) waits for its confirmation or is finished, and tells how it stands. What an engine
        that died has left is undone, what could not be undone is tried once more, and O(confirm_timeout) begins anew. In
        check mode it tells, and does nothing of this. M(ovsops.hot_upgrade.ovs_handover_info) only tells, too, of all hand-overs.
    type: str
    choices: [handed_over, confirmed, rolled_back, verified, settled]
    default: handed_over
  strategy:
    description:
      - How ovs-vswitchd is replaced. RV(plan.reasons) tells why a strategy is not possible on this host.
      - V(make_before_break) starts the new one beside the old one, fills and proves it, and switches over. On the kernel datapath
        that costs no packet, in userspace what arrives in about a millisecond. With LACP, BFD, CFM, STP and RSTP the new one goes
        on where the old one ends, so that neighbours see no change.
      - V(prefilled) starts and fills it in the same way, but only one of the two forwards at any time. LACP, BFD and CFM are
        silent in the new one until the old one has ended, and begin anew then.
      - V(standby) has the new one wait until the old one ends, and restores the flows then. Works on every datapath.
      - V(restart) ends the old one, starts the new one and restores the flows.
      - V(auto) takes the first of these that is possible.
    type: str
    choices: [auto, make_before_break, prefilled, standby, restart]
    default: auto
  snapshot:
    description:
      - Directory of a snapshot taken by M(ovsops.hot_upgrade.ovs_flow_snapshot) before.
      - What has changed since it was taken is in RV(changed_since_snapshot). It is information only. What is handed over is
        what the switch holds at that moment, of which the transaction takes a snapshot of its own.
    type: path
  confirm:
    description:
      - What makes the new version final.
      - V(automatic) confirms as soon as the result is verified on the host.
      - V(reconnected) has this task reach the host over a new connection, then do what O(state=verified) and O(state=confirmed)
        do. The host rolls back when that does not happen within O(confirm_timeout). Prefer it to tasks of their own where
        many hosts are handed over at a time. Between two tasks a host waits for all others, and may roll back meanwhile.
      - V(manual) waits for a task with O(state=confirmed), over a new connection, and rolls back when none comes
        within O(confirm_timeout).
      - V(none) makes it final at once, and a rollback is not possible.
    type: str
    choices: [automatic, reconnected, manual, none]
    default: automatic
  reconnect_timeout:
    description:
      - How long to wait for the host over a new connection, in seconds, with O(confirm=reconnected), and when the
        connection was lost in the hand-over.
    type: int
    default: 100
  confirm_timeout:
    description:
      - How long to wait for the confirmation, in seconds since the last task with this module that worked on the transaction.
    type: float
    default: 120
  prove:
    description:
      - For how many live megaflows packets must leave at the same places, with the same headers and tunnel keys, in the new
        version as in the old one before anything is switched over. V(0) proves nothing.
      - Whole pipelines are traced. What comes after C(ct()) or a hash is traced with the connection states that are live.
      - Of more than these, those with the most packets are taken, and as many spread evenly over the rest.
      - Only a new version that is filled beside the old one and configured alike can be compared, see RV(plan).
    type: int
    default: 10000
  accept:
    description:
      - Names of differences that are meant to be, as a refused hand-over shows them. They are reported and do not
        stand in the way.
      - Each is C(IN>OUT:what), C(p1>p2:gone) for example, and may have the wildcards of fnmatch(3), as in V(*>p2:*).
    type: list
    elements: str
    default: []
  target_version:
    description:
      - In check mode, plan for this version of Open vSwitch, V(4.0.0) for example, and not for the one on disk. Without check
        mode it has no effect.
      - It is for a look ahead, before the packages are installed. Of the new database schema nothing is known then.
    type: str
  force:
    description: Replace the daemons although what runs is what is on disk.
    type: bool
    default: false
  transaction:
    description:
      - Which transaction to confirm, to roll back, to verify or to wait for, see RV(transaction).
      - When it is not set, the one of this host that is not finished. With O(state=settled) the last one if all are finished.
    type: str
seealso:
  - module: ovsops.hot_upgrade.ovs_handover_info
  - module: ovsops.hot_upgrade.ovs_info
  - module: ovsops.hot_upgrade.ovs_flow_snapshot
"""

EXAMPLES = r"""
- name: See what would be done on this host, and why no better strategy is possible
  ovsops.hot_upgrade.ovs_handover:
  check_mode: true
  register: handover

- name: Hand over to the version on disk in the best way that this host allows
  ovsops.hot_upgrade.ovs_handover:

- name: Hand over, and roll back unless a new connection verifies and confirms it within two minutes
  ovsops.hot_upgrade.ovs_handover:
    confirm: reconnected
    confirm_timeout: 120

- name: The same, with tasks of your own in between
  ovsops.hot_upgrade.ovs_handover:
    confirm: manual
    confirm_timeout: 120
  register: handover

- name: Prove that the host can be reached
  ansible.builtin.meta: reset_connection

- name: Account for every difference that is there now
  ovsops.hot_upgrade.ovs_handover:
    state: verified
    transaction: "{{ handover.transaction }}"

- name: Confirm
  ovsops.hot_upgrade.ovs_handover:
    state: confirmed
    transaction: "{{ handover.transaction }}"

- name: See whether an earlier run has left a hand-over that is not finished
  ovsops.hot_upgrade.ovs_handover:
    state: settled
  register: left

- name: Have the daemons move from one pod to another one
  ovsops.hot_upgrade.ovs_handover:
    container: "{{ surge.container }}"
    container_before: "{{ old.container }}"

- name: Take back what nobody has confirmed
  ovsops.hot_upgrade.ovs_handover:
    state: rolled_back
    transaction: "{{ left.transaction }}"
  when: left.state | default('') == 'applied'
"""

RETURN = r"""
plan:
  description: What is done, and why no other strategy is possible.
  returned: success
  type: dict
  contains:
    strategy:
      description: The strategy, V(null) when nothing is needed or nothing is possible.
      type: str
      sample: make_before_break
    needed:
      description: Whether what runs is not what is on disk.
      type: bool
    reasons:
      description: For each strategy that is not possible on this host, all reasons.
      type: dict
      sample:
        make_before_break:
          - "some bridges use the kernel datapath and some the one in userspace: they switch over differently"
    window:
      description: What traffic is expected to see of the switch-over. Empty where nothing is replaced.
      type: str
      sample: established and new flows are forwarded all the time
    warnings:
      description: What this hand-over cannot avoid.
      type: list
      elements: str
    before:
      description: Running versions of the daemons and of the schema.
      type: dict
      sample: {"ovs-vswitchd": "3.5.0", "ovsdb-server": "3.5.0", "schema": "8.8.0"}
    after:
      description: The versions that will run.
      type: dict
      sample: {"ovs-vswitchd": "4.0.0", "ovsdb-server": "4.0.0", "schema": "8.8.0"}
    proof:
      description: What the proof before the switch-over can cover of the live traffic, or why nothing is proved.
      type: str
      sample: 410 of 416 live megaflows, with 99.2 % of their packets, can be traced through both versions
    steps:
      description: Names of the steps, in order.
      type: list
      elements: str
    summary:
      description: The plan for people, one sentence each.
      type: list
      elements: str
      sample:
        - ovs-vswitchd is upgraded from 3.5.0 to 4.0.0, by make_before_break
        - "warning: the policers of p1 are set up again and start with a full bucket"
transaction:
  description: The transaction's id.
  returned: when there is a transaction
  type: str
  sample: 20261123T061500Z-3fa2c1
operation:
  description: Always C(handover) here. M(ovsops.hot_upgrade.ovs_handover_info) tells of others, too.
  returned: when there is a transaction
  type: str
  sample: handover
state:
  description:
    - V(confirmed) is final, V(applied) waits for the confirmation, V(rolled_back) is what was before.
    - V(failed) could not be undone completely. V(prepared), V(armed) and V(rolling_back) are being worked on.
    - V(null) where the connection was lost and the host could not be asked any more. So is RV(transaction) where not even
      its id came back.
  returned: when there is a transaction
  type: str
  sample: confirmed
verified:
  description: Whether every difference was accounted for, see O(state=verified).
  returned: with O(confirm=reconnected)
  type: bool
deadline:
  description:
    - When the host goes back by itself unless somebody confirms, in UTC. V(null) unless RV(state=applied).
    - Where the connection was lost, the time at which it does if nobody confirms, as far as is known.
  returned: when there is a transaction
  type: str
  sample: "2026-11-23T06:17:03Z"
breaches:
  description: Why it was not confirmed but taken back, one sentence each; see O(soak) and the limits.
  returned: when something was judged
  type: list
  elements: str
  sample: ["lost 12 of 4012 packets of the established flow (5 allowed)"]
health_before:
  description:
    - The health of the switch before, for O(health_before) of a task with O(state=confirmed).
    - The host keeps it until then, so another run can judge, too.
  returned: with O(health)
  type: dict
counted:
  description: What the host's own counters tell of lost packets, see RV(ovsops.hot_upgrade.ovs_health_info#module:counted).
  returned: with O(health), when it was judged
  type: dict
  sample: {lost_upcalls: 0, dropped: 0, why: ""}
timeline:
  description: Every step that was done, in microseconds of the host's monotonic clock.
  returned: when there is a transaction
  type: list
  elements: dict
  sample: [{"step": "cut over", "start_us": 81231231, "end_us": 81233510}]
refill_ms:
  description:
    - For how long the tables of a bridge with a controller in the database were empty, in milliseconds. Open vSwitch flushes
      them when the bridge gets its controller; they are refilled from a bundle that waits in the switch.
    - V(null) where no flush was seen.
  returned: when there is a transaction
  type: float
  sample: 21.7
window_ms:
  description:
    - From the end of the old ovs-vswitchd until the new one forwarded everything, in milliseconds.
    - V(null) if it never came to that.
  returned: when there is a transaction
  type: float
  sample: 3.2
gap_ms:
  description: How long the datapath was away, see RV(ovsops.hot_upgrade.ovs_kmod_reload#module:gap_ms).
  returned: when the transaction is a reload of the kernel module
  type: float
verification:
  description:
    - What was compared with the snapshot, and in C(proof) what was found out about the live megaflows.
    - There C(traced) and C(covered) tell how many were traced and how many percent of the packets that is, C(skipped) which
      were not and why, C(different) and C(accepted) how many would be forwarded differently, C(differences) in what, by
      name, and C(moved) which groups lead connections to another bucket.
  returned: when there is a transaction
  type: dict
proof:
  description: What was proved before the switch-over, or why nothing was, in words.
  returned: when there is a transaction
  type: str
  sample: >-
    410 of 416 live megaflows, with 99.2 % of their packets, were traced through both versions; none would be forwarded
    differently
connections:
  description:
    - How many connections that the userspace datapath tracks the new process was given (C(carried)), and of how many (C(of)).
    - What was not carried is told in RV(not_carried).
    - V(null) where nobody has carried any, as on the kernel datapath, whose connections are the kernel's.
  returned: when there is a transaction
  type: dict
  sample: {"carried": 1204, "of": 1204}
changes:
  description:
    - What others changed in the switch from the snapshot on, and what cannot be explained by that. Changes of the old process
      up to its end are made in the new one.
    - The bridges are followed by flow monitors and forwarded requests of OpenFlow.
  returned: when there is a transaction
  type: dict
  contains:
    bridges:
      description:
        - By bridge. How many flows expired and were learned, C(others) by cookie, C(settings) that were changed.
        - C(unexplained) is empty, or the fault as text.
      type: dict
      sample:
        br0:
          expired: 3
          learned: 12
          others: {"0xc0ffee": {"added": 40, "modified": 7, "removed": 39}}
          settings: ["group 5"]
          unexplained: ""
    unfollowed:
      description: For each bridge that does not tell what is changed in it, why. It is only compared.
      type: dict
changed_since_snapshot:
  description: For each bridge that is not as O(snapshot) has it, the difference in a few words.
  returned: when there is a transaction
  type: dict
not_carried:
  description: What could not be taken over to the new process, one sentence each.
  returned: when there is a transaction
  type: list
  elements: str
reason:
  description: Why the hand-over was taken back; empty if it was not.
  returned: when there is a transaction
  type: str
measured:
  description: What was found on the host after the hand-over was taken back; empty if it was not.
  returned: when there is a transaction
  type: str
  sample: ovs-vswitchd 3.5.0 forwards, 2 of 2 bridges answer, with 2504 flows (2504 in the snapshot)
not_undone:
  description: What could not be undone; empty unless RV(state=failed).
  returned: when there is a transaction
  type: list
  elements: str
"""

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils import _ansible as adapter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import handover
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Call, Outcome
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.homes import Homes

OPTIONS: adapter.Options = {
    "state": {
        "type": "str",
        "choices": ["handed_over", "confirmed", "rolled_back", "verified", "settled"],
        "default": "handed_over",
    },
    "strategy": {
        "type": "str",
        "choices": ["auto", "make_before_break", "prefilled", "standby", "restart"],
        "default": "auto",
    },
    "snapshot": {"type": "path"},
    "confirm": {
        "type": "str",
        "choices": ["automatic", "reconnected", "manual", "none"],
        "default": "automatic",
    },
    "reconnect_timeout": {"type": "int", "default": 100},
    "confirm_timeout": {"type": "float", "default": 120},
    "prove": {"type": "int", "default": 10000},
    "accept": {"type": "list", "elements": "str", "default": []},
    "target_version": {"type": "str"},
    "force": {"type": "bool", "default": False},
    "transaction": {"type": "str"},
    **adapter.JUDGEMENT,
    **adapter.CONTAINERS,
    **adapter.CONNECTION,
}
WISH = (
    "strategy",
    "force",
    "snapshot",
    "confirm",
    "confirm_timeout",
    "prove",
    "accept",
    "target_version",
    "health_before",
)


def behave(call: Call) -> Outcome:
    """Begin, judge, wait for or end a transaction."""
    if call.params["state"] == "handed_over":
        if call.params["confirm"] == "reconnected" and not call.check_mode:
            raise Refused(
                "confirm=reconnected is refused on the host",
                "it is the controller that reconnects (the action plugin of this module), and it was not asked",
                "Run the module as a task, or use confirm=manual",
            )
        asked = {name: call.params[name] for name in WISH}
        wish = handover.Wish(**asked, homes=Homes.of(call.params))
        return handover.hand_over(call.connection, wish, call.check_mode)
    if call.params["state"] == "verified":
        return handover.verify(call.params["transaction"])
    if call.params["state"] == "settled":
        return handover.settle(call.params["transaction"], call.check_mode)
    return handover.end(call.params["transaction"], call.params["state"], call.check_mode)


def main() -> None:
    """Entry point for Ansible."""
    adapter.run_module(OPTIONS, behave, required_together=adapter.TOGETHER)


if __name__ == "__main__":
    main()
