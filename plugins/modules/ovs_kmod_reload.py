#!/usr/bin/python

# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ovs_kmod_reload
short_description: Replace the kernel module of Open vSwitch by the one on disk, with everything put back
version_added: 1.0.0
description:
  - Loads the module C(openvswitch) that is on disk, if it is another one than the module that is loaded.
  - The datapath is away for that time. Established flows between devices go round it by tc, see O(bypass). Internal ports come
    back with their ifindex and with all that was on them, in every network namespace.
  - The work is one journaled transaction on the host, like that of M(ovsops.hot_upgrade.ovs_handover). Whatever fails is
    undone, by the old module where the new one does not load or is not confirmed.
  - ovs-vswitchd is replaced, too, by the one on disk. If that is a newer one, one interruption serves for both.
author:
  - ovsops contributors (@ovsops)
extends_documentation_fragment:
  - ovsops.hot_upgrade.attributes
  - ovsops.hot_upgrade.attributes.actiongroup_hot_upgrade
  - ovsops.hot_upgrade.connection
  - ovsops.hot_upgrade.judgement
attributes:
  check_mode:
    support: full
    details:
      - Returns the plan and touches nothing.
  diff_mode:
    support: full
    details:
      - Shows the build-ids.
  idempotent:
    support: partial
    details:
      - Not with O(state=forced).
options:
  state:
    description:
      - V(current) reloads the module if the one on disk is another. They are told apart by the build-id, else by C(srcversion).
        Where neither is there on both sides, nothing is done.
      - V(forced) reloads it anyway.
      - V(kept) keeps the file of the loaded module. Use it before the package of the new one is installed, which replaces that
        file. The old module is what a reload goes back to.
      - V(coming) is for check mode alone, before packages are installed that may bring another module. It tells what would stand
        in the way of a reload to that one, as far as that can be told without its file.
      - V(confirmed), V(rolled_back), V(verified) and V(settled) are those of
        O(ovsops.hot_upgrade.ovs_handover#module:state). Either module brings the other one's transactions to their end.
    type: str
    choices: [current, forced, coming, kept, confirmed, rolled_back, verified, settled]
    default: current
  bypass:
    description:
      - Whether tc forwards established flows between devices while the module is away.
      - V(auto) has it forward what it fully understands. The rest waits, see RV(bypass).
      - V(require) refuses a reload in which a live megaflow between devices would have to wait.
      - V(no) uses none.
    type: str
    choices: [auto, require, 'no']
    default: auto
  held:
    description:
      - What to do where a process, in any network namespace, holds an internal port, or what is on one, by a packet socket, as
        DHCP clients and C(tcpdump) do, or has the file of a macvtap on it open, as virtual machines do. They do not find its
        successor.
      - V(report) names it in RV(plan.warnings).
      - V(refuse) does nothing then.
    type: str
    choices: [report, refuse]
    default: report
  snapshot:
    description:
      - Directory of a snapshot that M(ovsops.hot_upgrade.ovs_flow_snapshot) took before, see
        O(ovsops.hot_upgrade.ovs_handover#module:snapshot).
    type: path
  target_version:
    description:
      - In check mode, plan for this version of Open vSwitch, see O(ovsops.hot_upgrade.ovs_handover#module:target_version).
    type: str
  confirm:
    description: What makes the new module final, see O(ovsops.hot_upgrade.ovs_handover#module:confirm).
    type: str
    choices: [automatic, reconnected, manual, none]
    default: automatic
  confirm_timeout:
    description: How long to wait for the confirmation, in seconds.
    type: float
    default: 120
  reconnect_timeout:
    description: How long to wait for the host over a new connection, in seconds.
    type: int
    default: 100
  transaction:
    description: Which transaction to confirm, to roll back, to verify or to wait for. By default the one that is not finished.
    type: str
seealso:
  - module: ovsops.hot_upgrade.ovs_handover
  - module: ovsops.hot_upgrade.ovs_handover_info
  - module: ovsops.hot_upgrade.ovs_info
"""

EXAMPLES = r"""
- name: Keep the file of the loaded module before its package is upgraded
  ovsops.hot_upgrade.ovs_kmod_reload:
    state: kept

- name: See whether the module has to be reloaded, and what stands in the way
  ovsops.hot_upgrade.ovs_kmod_reload:
  check_mode: true
  register: reload

- name: See what would stand in its way if the packages of Open vSwitch 4.0.0 bring another module
  ovsops.hot_upgrade.ovs_kmod_reload:
    state: coming
    target_version: 4.0.0
  check_mode: true

- name: Reload it if it is another one, and go back unless a new connection confirms it
  ovsops.hot_upgrade.ovs_kmod_reload:
    confirm: reconnected
"""

RETURN = r"""
plan:
  description: What is done, and what stands in the way.
  returned: with O(state=current), O(state=forced) and O(state=coming)
  type: dict
  contains:
    needed:
      description: Whether there is something to do.
      type: bool
    why:
      description: The same in a sentence.
      type: str
      sample: the loaded module openvswitch is 2f6f3a1b, that on the disk 9b02c77e
    reasons:
      description: What stands in the way.
      type: list
      elements: str
    warnings:
      description: What this reload cannot avoid.
      type: list
      elements: str
    summary:
      description: The plan for people, one sentence each.
      type: list
      elements: str
    steps:
      description: Names of the steps, in order.
      type: list
      elements: str
    strategy:
      description: V(reload), where there is something to do.
      type: str
    before:
      description: Versions of the daemons and of the database schema that are running.
      type: dict
    after:
      description: The same, as they will be.
      type: dict
bypass:
  description: How much of the live traffic between devices the bypass forwards, in words.
  returned: when there is a transaction
  type: str
  sample: the bypass forwards 410 of 416 live megaflows between devices, with 99.2 % of their packets
new_flows:
  description: What became of packets of new flows while no C(ovs-vswitchd) served, in words.
  returned: when there is a transaction
  type: str
  sample: 131 packets were forwarded meanwhile, 4 were dropped as the flows say, 0 had to wait
restored:
  description: C(of) says how many addresses, routes, settings and so on there were, C(missing) names those that are not back, and
    those that are gone from other devices.
  returned: when there is a transaction
  type: dict
  sample: {"of": 412, "missing": []}
gap_ms:
  description: From the deletion of the datapath until it forwarded its busiest flows again, in milliseconds.
  returned: when there is a transaction
  type: float
kept:
  description: Where the file of the loaded module is.
  returned: with O(state=kept)
  type: str
transaction:
  description: The transaction's id.
  returned: when there is a transaction
  type: str
state:
  description: As with M(ovsops.hot_upgrade.ovs_handover).
  returned: when there is a transaction
  type: str
breaches:
  description: As with M(ovsops.hot_upgrade.ovs_handover), and so are C(health_before) and C(counted).
  returned: when something was judged
  type: list
  elements: str
not_carried:
  description: What could not be taken over, one sentence each.
  returned: when there is a transaction
  type: list
  elements: str
reason:
  description: Why the reload was taken back; empty if it was not.
  returned: when there is a transaction
  type: str
"""

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils import _ansible as adapter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import handover, reload
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Call, Outcome

OPTIONS: adapter.Options = {
    "state": {
        "type": "str",
        "choices": ["current", "forced", "coming", "kept", "confirmed", "rolled_back", "verified", "settled"],
        "default": "current",
    },
    "bypass": {"type": "str", "choices": ["auto", "require", "no"], "default": "auto"},
    "held": {"type": "str", "choices": ["report", "refuse"], "default": "report"},
    "confirm": {
        "type": "str",
        "choices": ["automatic", "reconnected", "manual", "none"],
        "default": "automatic",
    },
    "confirm_timeout": {"type": "float", "default": 120},
    "snapshot": {"type": "path"},
    "target_version": {"type": "str"},
    "reconnect_timeout": {"type": "int", "default": 100},
    "transaction": {"type": "str"},
    **adapter.JUDGEMENT,
    **adapter.CONNECTION,
}
WISH = (
    "state",
    "bypass",
    "held",
    "confirm",
    "confirm_timeout",
    "snapshot",
    "target_version",
    "health_before",
)


def behave(call: Call) -> Outcome:
    """Begin, judge, wait for or end a transaction."""
    state, identifier = call.params["state"], call.params["transaction"]
    if state in ("current", "forced", "coming"):
        if call.params["confirm"] == "reconnected" and not call.check_mode:
            raise Refused(
                "confirm=reconnected is refused on the host",
                "it is the controller that reconnects (the action plugin of this module), and it was not asked",
                "Run the module as a task, or use confirm=manual",
            )
        wish = reload.ReloadWish(**{name: call.params[name] for name in WISH})
        return reload.reload(call.connection, wish, call.check_mode)
    if state == "kept":
        return reload.keep(call.check_mode)
    if state == "verified":
        return handover.verify(identifier)
    if state == "settled":
        return handover.settle(identifier, call.check_mode)
    return handover.end(identifier, state, call.check_mode)


def main() -> None:
    """Entry point for Ansible."""
    adapter.run_module(OPTIONS, behave)


if __name__ == "__main__":
    main()
