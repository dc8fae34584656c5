#!/usr/bin/python

# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ovs_policy_guard
short_description: Have the host put policy-rc.d back when an installation is cut short
version_added: 1.0.0
description:
  - M(ansible.builtin.apt) with O(ansible.builtin.apt#module:policy_rc_d) replaces C(/usr/sbin/policy-rc.d) while it installs.
    When it is killed meanwhile, or the power is lost, it stays so, and no package can start a service on this host any more.
  - This module keeps a copy of what was there and starts a program on the host that waits for the end of the installation,
    however that comes about, and puts the copy back. Under systemd a unit does the same at the next boot.
  - It recognizes an installation by C(OVSOPS_INSTALLS=1) in the environment of its processes, so the task that installs must
    set that.
author:
  - ovsops contributors (@ovsops)
extends_documentation_fragment:
  - ovsops.hot_upgrade.attributes
  - ovsops.hot_upgrade.attributes.actiongroup_hot_upgrade
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - V(present) starts it anew when it is there, because what is to be kept may be another policy now.
options:
  state:
    description:
      - V(present) keeps a copy and watches.
      - V(absent) waits up to an hour for an installation that is under way, puts the policy back if need be, and watches no
        longer.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: ansible.builtin.apt
  - module: ovsops.hot_upgrade.ovs_handover
"""

EXAMPLES = r"""
- name: Have the host put policy-rc.d back, whatever happens
  ovsops.hot_upgrade.ovs_policy_guard:

- name: Install without restarting anything, to the end even if the connection is lost
  ansible.builtin.apt:
    name: openvswitch-switch
    state: latest
    policy_rc_d: 101
  environment:
    OVSOPS_INSTALLS: "1"
  async: 3600
  poll: 0
  register: apt

- name: Wait until it is done, and watch no longer
  ovsops.hot_upgrade.ovs_policy_guard:
    state: absent

- name: See how it went
  ansible.builtin.async_status:
    jid: "{{ apt.ansible_job_id }}"
"""

RETURN = r"""
restored:
  description: Whether an installation had been cut short, and the policy was put back. In check mode, whether it would be.
  returned: success
  type: bool
  sample: false
"""

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ansible import Options, run_module
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Call, Outcome
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._policy_guard.guard import PolicyGuard

OPTIONS: Options = {"state": {"type": "str", "choices": ["present", "absent"], "default": "present"}}


def behave(call: Call) -> Outcome:
    """Start or end the guard."""
    guard = PolicyGuard()
    starts = call.params["state"] == "present"
    before = guard.present
    restored = guard.due
    if not call.check_mode:
        if starts:
            guard.start()
        else:
            restored = guard.end() or restored
    return Outcome(changed=starts or before, values={"restored": restored})


def main() -> None:
    """Entry point for Ansible."""
    run_module(OPTIONS, behave)


if __name__ == "__main__":
    main()
