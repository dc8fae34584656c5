#!/usr/bin/python
# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ovs_flow_snapshot
short_description: Take, restore and compare the OpenFlow state of a host's bridges
version_added: 1.0.0
description:
  - Writes down everything that OpenFlow keeps in a bridge, restores each bridge as a whole or not at all, and
    proves by comparison that nothing is missing.
  - The state is the TLV map, meters with all bands, groups with buckets, selection methods and properties,
    flows with match, instructions, cookie, priority, timeouts, importance and flags, the OpenFlow config of
    ports and tables, and the fragment handling; in addition static MAC entries and tunnel neighbours.
  - It is moved as OpenFlow bytes, as the switch sends them. Nothing is translated into text and back, so nothing
    gets lost on the way, and a million flows need little time and memory.
  - Flows that C(ovs-vswitchd) keeps for itself (hidden flows, for example of in-band control) are left alone.
extends_documentation_fragment:
  - ovsops.hot_upgrade.attributes
  - ovsops.hot_upgrade.attributes.actiongroup_hot_upgrade
  - ovsops.hot_upgrade.connection
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Shows the OpenFlow objects that differ, as text, for O(state=restored), O(state=compared) and O(state=verified); the
        numbers of objects for O(state=present) and O(state=absent).
  idempotent:
    support: full
options:
  path:
    description:
      - Directory of the snapshot on the host. Its parent must exist, and only root may have access to it.
      - Anything else that is found there is refused, never replaced.
    type: path
    required: true
  state:
    description:
      - V(present) takes a snapshot, unless the one at O(path) already is exactly what the bridges hold. It appears
        at O(path) complete or not at all.
      - V(restored) makes the bridges hold exactly what the snapshot holds, unless they do already, and compares
        afterwards. Every bridge is staged in its switch before the first is changed. If a switch refuses
        something, the error names it in OpenFlow text, and that bridge is as it was.
      - V(compared) tells in RV(matches) and RV(differences) what differs. That an interface has another ofport is a difference,
        since flows name ports by number.
      - V(verified) compares, too, and fails if there is a difference.
      - V(absent) deletes the snapshot.
    type: str
    choices: [present, restored, compared, verified, absent]
    default: present
  keep:
    description:
      - With O(state=present), how many snapshots to leave in the folder of O(path). The oldest ones are removed.
      - What is no snapshot is left alone. By default all are left.
    type: int
  keep_days:
    description:
      - With O(state=present), how old the other snapshots in the folder of O(path) may be, in days. Older ones are removed.
      - By default they may be of any age.
    type: int
  bridges:
    description:
      - Work on these bridges only. The default is every bridge of the host for O(state=present), else every
        bridge of the snapshot.
    type: list
    elements: str
  ofports:
    description:
      - What O(state=restored) does when an interface of the snapshot is gone or has another ofport now. Flows name
        ports by number, so they would send packets out of the wrong port.
      - V(refuse) changes nothing and names the interfaces.
      - V(pin) gives them their old numbers first, with C(ofport_request) in the database. It fails if one is gone.
      - V(ignore) restores nevertheless, for when you know that no flow uses these ports.
    type: str
    choices: [refuse, pin, ignore]
    default: refuse
  lifetime:
    description:
      - What O(state=restored) does with flows that have a timeout.
      - V(full) lets their time begin again.
      - V(remaining) gives them the time that was left. A hard timeout is shortened by the age of the flow and by
        the time since the snapshot, and flows that would be gone are left out. An idle timeout is shortened by
        the time without a packet before the snapshot. The shortened values stay in the flows.
    type: str
    choices: [full, remaining]
    default: full
  ignore:
    description:
      - What may differ without being a difference, for O(state=restored), O(state=compared) and O(state=verified). For bridges
        whose flows move by themselves or by a controller.
    type: dict
    suboptions:
      cookies:
        description: Cookies may differ, for a controller that numbers its flows anew.
        type: bool
        default: false
      timeouts:
        description: The values of timeouts may differ, for example after O(lifetime=remaining).
        type: bool
        default: false
      expiring:
        description: Flows with a timeout may come and go.
        type: bool
        default: false
      learned:
        description: Flows that a C(learn) action of the bridge adds may come and go.
        type: bool
        default: false
      tables:
        description: All flows of these tables may come and go.
        type: list
        elements: int
        default: []
  against:
    description:
      - Another snapshot on the host to compare with instead of the bridges, for O(state=compared) and O(state=verified). Open
        vSwitch need not run for that.
    type: path
  return_text:
    description:
      - Return the whole snapshot as OpenFlow text in RV(text), for people. Not for a million flows.
      - Needs C(ovs-ofctl) on the host. By hand, C(ovs-ofctl ofp-parse) prints the files of a snapshot too.
    type: bool
    default: false
  backup_database:
    description:
      - Also keep a backup of the whole database in the snapshot (file C(conf.db), as C(ovsdb-client backup) writes it), for
        people. A restore never uses it.
    type: bool
    default: false
notes:
  - What the snapshot cannot carry is listed in RV(bridges[].not_carried). A bridge whose C(protocols) end below
    OpenFlow 1.5 loses what its version has no words for.
  - A bridge that allows OpenFlow 1.0 only has no bundles. It is deleted and filled, and filled with its old state
    again if the switch refuses something.
seealso:
  - module: ovsops.hot_upgrade.ovs_handover
  - module: ovsops.hot_upgrade.ovs_restore_wait
author:
  - ovsops contributors (@ovsops)
"""

EXAMPLES = r"""
- name: Take a snapshot of every bridge
  ovsops.hot_upgrade.ovs_flow_snapshot:
    path: /var/lib/openvswitch/before-upgrade

- name: Prove that the bridges hold what the snapshot holds; --diff shows what does not
  ovsops.hot_upgrade.ovs_flow_snapshot:
    path: /var/lib/openvswitch/before-upgrade
    state: verified
    ignore:
      learned: true

- name: Restore one bridge, giving its interfaces their old OpenFlow port numbers first
  ovsops.hot_upgrade.ovs_flow_snapshot:
    path: /var/lib/openvswitch/before-upgrade
    state: restored
    bridges: [br-int]
    ofports: pin

- name: Show what changed between two snapshots
  ovsops.hot_upgrade.ovs_flow_snapshot:
    path: /var/lib/openvswitch/monday
    against: /var/lib/openvswitch/tuesday
    state: compared
  register: change

- name: Delete the snapshot
  ovsops.hot_upgrade.ovs_flow_snapshot:
    path: /var/lib/openvswitch/before-upgrade
    state: absent
"""

RETURN = r"""
removed:
  description: The directories of snapshots that were removed.
  returned: with O(keep) or O(keep_days)
  type: list
  elements: str
  sample: [/var/lib/openvswitch/before-upgrade-1]
snapshot:
  description: The directory of the snapshot.
  returned: success
  type: str
  sample: /var/lib/openvswitch/before-upgrade
taken_at:
  description: When the snapshot was taken (UTC, ISO 8601).
  returned: when there is a snapshot
  type: str
  sample: "2026-11-23T05:37:02.123+00:00"
host:
  description: Name of the host on which it was taken.
  returned: when there is a snapshot
  type: str
  sample: hv17
versions:
  description: What ran on the host when it was taken.
  returned: when there is a snapshot
  type: dict
  contains:
    ovs_vswitchd:
      description: Version of the running C(ovs-vswitchd).
      type: str
      sample: 3.5.0
    schema:
      description: Version of the database schema.
      type: str
      sample: 8.8.0
    kernel:
      description: Kernel release.
      type: str
      sample: 6.12.48+deb13-amd64
    module:
      description: C(srcversion) of the loaded module openvswitch, null if it is not loaded.
      type: str
      sample: 2F4A5C1E4C7B9D1A0E3F6A7
bridges:
  description: The bridges of the snapshot. Empty if there is none.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the bridge.
      type: str
      sample: br-int
    datapath_id:
      description: Its OpenFlow datapath id, 16 hexadecimal digits.
      type: str
      sample: 0000ca8ded617c4e
    datapath_type:
      description: Its datapath type, as in the database.
      type: str
      sample: system
    openflow_version:
      description: The OpenFlow version that the snapshot is written in, the newest that the bridge allowed.
      type: str
      sample: OpenFlow15
    ofports:
      description: The ofport of each interface.
      type: dict
      sample: {"br-int": 65534, "vnet0": 1}
    counts:
      description: How many objects there are. Ports are those with a config, LOCAL included.
      type: dict
      sample: {"flows": 5003, "groups": 12, "meters": 4, "ports": 7, "tables": 0, "tlvs": 1}
    not_carried:
      description: What the snapshot could not carry, one sentence each.
      type: list
      elements: str
      sample: ["OpenFlow14 cannot carry the selection method and fields of the 2 select groups"]
    file:
      description: File in the snapshot that holds the OpenFlow messages.
      type: str
      sample: bridge-0001.of
matches:
  description: Whether there was no difference, before anything was restored.
  returned: when O(state=restored), O(state=compared) or O(state=verified), also if it failed because of differences
  type: bool
  sample: true
differences:
  description: For each bridge that differs (or differed, before it was restored), what is different.
  returned: like RV(matches)
  type: dict
  sample:
    br-int:
      ports: []
      missing: ["flow table=1 priority=5,tcp,tp_dst=80 actions=output:1"]
      missing_count: 1
      extra: []
      extra_count: 0
  contains:
    ports:
      description: Interfaces of the snapshot that have another ofport or are gone, one sentence each.
      type: list
      elements: str
    missing:
      description: Objects of the snapshot that the bridge does not have, as OpenFlow text, the first 1,000.
      type: list
      elements: str
    missing_count:
      description: How many there are.
      type: int
    extra:
      description: Objects of the bridge that the snapshot does not have, as OpenFlow text, the first 1,000.
      type: list
      elements: str
    extra_count:
      description: How many there are.
      type: int
not_restored:
  description: MAC entries and tunnel neighbours that this version of Open vSwitch could not set, one sentence each.
  returned: like RV(matches)
  type: list
  elements: str
  sample: []
text:
  description: For each bridge, every object of the snapshot as OpenFlow text.
  returned: when O(return_text=true) and there is a snapshot
  type: dict
  sample: {"br-int": ["group group_id=1,type=all,bucket=actions=output:1", "flow priority=0 actions=NORMAL"]}
"""

import dataclasses

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ansible import CONNECTION, run_module
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Call, Outcome
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._prune.old_snapshots import prune
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot.module import behave

OPTIONS = {
    **CONNECTION,
    "path": {"type": "path", "required": True},
    "state": {
        "type": "str",
        "choices": ["present", "restored", "compared", "verified", "absent"],
        "default": "present",
    },
    "keep": {"type": "int"},
    "keep_days": {"type": "int"},
    "bridges": {"type": "list", "elements": "str"},
    "ofports": {"type": "str", "choices": ["refuse", "pin", "ignore"], "default": "refuse"},
    "lifetime": {"type": "str", "choices": ["full", "remaining"], "default": "full"},
    "ignore": {
        "type": "dict",
        "options": {
            "cookies": {"type": "bool", "default": False},
            "timeouts": {"type": "bool", "default": False},
            "expiring": {"type": "bool", "default": False},
            "learned": {"type": "bool", "default": False},
            "tables": {"type": "list", "elements": "int", "default": []},
        },
    },
    "against": {"type": "path"},
    "return_text": {"type": "bool", "default": False},
    "backup_database": {"type": "bool", "default": False},
}


def snapshot(call: Call) -> Outcome:
    """Behave, and then leave no more than is to be kept."""
    outcome = behave(call)
    keep, days = call.params["keep"], call.params["keep_days"]
    if (keep is None and days is None) or call.params["state"] != "present":
        return outcome
    removed = prune(call.params["path"], keep, days, call.check_mode)
    changed = outcome.changed or bool(removed)
    return dataclasses.replace(outcome, changed=changed, values={**outcome.values, "removed": removed})


def main() -> None:
    run_module(OPTIONS, snapshot)


if __name__ == "__main__":
    main()
