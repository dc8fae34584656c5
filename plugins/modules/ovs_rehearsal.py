#!/usr/bin/python

# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ovs_rehearsal
short_description: Try a version of Open vSwitch with all that a host holds, beside the one that runs
version_added: 1.0.0
description:
  - Days before an upgrade it tells what the new version would make of this host. The packages are unpacked and not installed,
    their daemons are started on a copy of the database, and filled with the whole OpenFlow state.
  - Then the version that runs is tried with what the new one holds, which is the way back.
  - The daemons run in a network namespace and in directories of their own, with the dummy datapath and dummy devices that every
    build has (C(ovs-vswitchd --enable-dummy=override)). So they can touch nothing of the host. What only the kernel or hardware
    would refuse is not seen.
  - Nothing is left behind but the record RV(rehearsal) in C(/var/lib/ovsops/rehearsals). That the running switch was not changed
    is looked at, and told.
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
    details:
      - Only whether the daemons run is looked at. A rehearsal changes nothing, so it can run at any time.
  diff_mode:
    support: N/A
  idempotent:
    support: full
options:
  packages:
    description:
      - Package files on the host, C(.deb) or C(.rpm), of all that the upgrade would install, libraries included.
      - They have to be in a folder that belongs to root, and to which nobody else can write, for example one that
        C(apt-get --download-only) has filled.
      - Where Open vSwitch runs in pods, O(container) has the new version instead.
    type: list
    elements: path
  prove:
    description:
      - So many live megaflows, about, are traced through the running and the new version; see RV(rehearsal.forward.proof).
        V(0) proves nothing.
      - The running ovs-vswitchd is asked for each (C(ofproto/trace)). That changes nothing, and takes some of its CPU.
    type: int
    default: 10000
seealso:
  - module: ovsops.hot_upgrade.ovs_handover
    description: In check mode it tells the plan, with O(ovsops.hot_upgrade.ovs_handover#module:target_version) that for a
      version that is not installed.
"""

EXAMPLES = r"""
- name: Try the packages that were downloaded
  ovsops.hot_upgrade.ovs_rehearsal:
    packages: "{{ downloaded.files | map(attribute='path') }}"
  register: tried

- name: Refuse a version that does not take what this host holds
  ansible.builtin.assert:
    that: tried.rehearsal.passed
    fail_msg: "{{ tried.rehearsal.forward.failure or tried.rehearsal.forward.refused }}"

- name: Say whether there is a way back
  ansible.builtin.debug:
    msg: "{{ tried.rehearsal.backward }}"
  when: not tried.rehearsal.passed_back
"""

RETURN = r"""
rehearsal:
  description: What was found. It is kept on the host, and M(ovsops.hot_upgrade.ovs_info) tells it.
  returned: success, but not in check mode
  type: dict
  contains:
    at:
      description: When it was, in UTC.
      type: str
      sample: "2026-11-23T06:15:00+00:00"
    from:
      description: The version that runs.
      type: str
      sample: 3.5.0
    to:
      description: The version that was tried.
      type: str
      sample: 4.0.0
    passed:
      description: Whether the new version takes all that the host holds, and shows it as it was given.
      type: bool
    passed_back:
      description: Whether the version that runs would take back all that the new one holds then.
      type: bool
    forward:
      description: What became of the new version.
      type: dict
      contains:
        version:
          description: The version.
          type: str
        schema:
          description: The schema of its database.
          type: str
          sample: 8.8.0
        failure:
          description: Why it did not come to its end, for example the reason why the daemon does not start. Empty if it did.
          type: str
        dropped:
          description: What is in the database that the schema has no place for, a sentence each.
          type: list
          elements: str
        refused:
          description: The OpenFlow objects that it refuses, with the error.
          type: list
          elements: str
          sample: ["bridge br0: flow table=3, ip actions=…: OFPBAC_BAD_TYPE"]
        changed:
          description: The OpenFlow objects that it shows otherwise than they were given.
          type: list
          elements: str
        ports:
          description: The ports that are not there, or have another number.
          type: list
          elements: str
        proof:
          description:
            - What becomes of live packets in both versions, as RV(ovsops.hot_upgrade.ovs_handover#module:verification) tells
              before a switch-over. Its C(text) is all of it in words.
            - V(null) with O(prove=0). C(text) alone where nothing could be proved.
            - Links of dummy devices are always up, and they have no tunnels. So it is a foresight, and no reason not to pass.
          type: dict
        flows:
          description: How many flows it was given.
          type: int
        convert_ms:
          description: How long the conversion of the database took, in milliseconds.
          type: int
        start_ms:
          description: How long ovs-vswitchd took to start.
          type: int
        fill_ms:
          description: How long it took to be filled, and compared.
          type: int
        memory:
          description: The most memory that ovs-vswitchd had, in bytes.
          type: int
    backward:
      description: The same of the version that runs, with what the new one holds. C(failure) tells why it was
        not tried.
      type: dict
    changed_meanwhile:
      description:
        - What of the running switch is another thing than before, processes, ports of the datapath and configuration, a sentence
          each.
        - The rehearsal changes nothing, so it was somebody else. Empty on a host that nobody works on.
      type: list
      elements: str
"""

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils import _ansible as adapter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._rehearsal.rehearsal import rehearse

OPTIONS: adapter.Options = {
    **adapter.CONNECTION,
    **adapter.CONTAINERS,
    "packages": {"type": "list", "elements": "path"},
    "prove": {"type": "int", "default": 10000},
}


def main() -> None:
    """Entry point for Ansible."""
    adapter.run_module(
        OPTIONS,
        rehearse,
        required_together=adapter.TOGETHER,
        required_one_of=[("packages", "container")],
        mutually_exclusive=[("packages", "container")],
    )


if __name__ == "__main__":
    main()
