#!/usr/bin/python

# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ovs_restore_wait
short_description: Make ovs-vswitchd wait for its flows to be restored
version_added: 1.0.0
description:
  - Sets or clears C(other_config:flow-restore-wait) in the database of Open vSwitch, and reads it back.
  - An ovs-vswitchd that starts while the flag is set neither flushes nor expires the flows of the datapath, and does
    not handle packets that miss in it, so that flows can be restored first. A running ovs-vswitchd that has seen the
    flag cleared ignores it until it is started again.
  - A flag that stays set makes the host drop traffic, also after a reboot. With O(clear_after) the host clears it by
    itself when the time is over, whatever happens to Ansible, to the connection or to the controller.
  - Where systemd is the init, a unit that clears the flag at the next boot, before ovs-vswitchd starts, is installed
    before the flag is set and removed when it is cleared.
  - A flag that belongs to a hand-over at work (M(ovsops.hot_upgrade.ovs_handover)) is refused, with the transaction's id. A
    timer whose time comes meanwhile waits until the hand-over has ended, 15 minutes at most.
author:
  - ovsops contributors (@ovsops)
extends_documentation_fragment:
  - ovsops.hot_upgrade.attributes
  - ovsops.hot_upgrade.attributes.actiongroup_hot_upgrade
  - ovsops.hot_upgrade.connection
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
    details:
      - A timer that runs already is not started again by the same value.
options:
  state:
    description:
      - V(enabled) sets the flag, V(disabled) removes it together with the timer and the guard.
    type: str
    choices: [enabled, disabled]
    required: true
  clear_after:
    description:
      - After how many seconds the host clears the flag by itself, unless it was disabled before. From 5 to 86400.
      - The time starts when the flag is set. Another value than that of a running timer starts it anew.
      - When it is not set, no timer is started, and one that runs stays as it is.
      - Under systemd this is a transient timer, elsewhere a process that has left the session.
    type: float
seealso:
  - module: ovsops.hot_upgrade.ovs_flow_snapshot
  - module: ovsops.hot_upgrade.ovs_info
"""

EXAMPLES = r"""
- name: Let the next start of ovs-vswitchd wait for its flows, for two minutes at most
  ovsops.hot_upgrade.ovs_restore_wait:
    state: enabled
    clear_after: 120

- name: Start forwarding
  ovsops.hot_upgrade.ovs_restore_wait:
    state: disabled
"""

RETURN = r"""
flow_restore_wait:
  description: Whether the flag is set, as it was read back. In check mode, as it would be.
  returned: success
  type: bool
  sample: true
timer:
  description: The timer that will clear the flag, or V(null) when none runs.
  returned: success
  type: dict
  sample:
    seconds: 120.0
    expires: "2026-11-23T06:12:00Z"
    by: systemd
    unit: ovsops-restore-wait-1d4a5b7c.timer
  contains:
    seconds:
      description: How long it was started for, in seconds.
      type: float
      returned: success
    expires:
      description: When its time is over, in UTC.
      type: str
      returned: success
    by:
      description: V(systemd) or V(watcher) (a process of its own).
      type: str
      returned: success
    unit:
      description: The name of the timer for C(systemctl status), V(null) without systemd.
      type: str
      returned: success
boot_guard:
  description: The unit that would clear the flag at the next boot, or V(null) when there is none.
  returned: success
  type: str
  sample: /etc/systemd/system/ovsops-restore-wait-1d4a5b7c-boot.service
"""

import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ansible import (
    CONNECTION,
    Options,
    run_module,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Call, Outcome
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._restore_wait.flag import (
    FlagState,
    RestoreWait,
    Wanted,
    plan,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.detached import unit


def set_or_clear(call: Call) -> Outcome:
    wanted = Wanted(call.params["state"] == "enabled", call.params["clear_after"])
    flag = RestoreWait(call.connection)
    before = flag.state()
    after = flag.predict(before, wanted) if call.check_mode else flag.apply(before, wanted)
    return Outcome(
        changed=bool(plan(before, wanted, flag.systemd)),
        values=describe(flag, after),
        before=describe(flag, before),
        after=describe(flag, after),
    )


def describe(flag: RestoreWait, state: FlagState) -> dict[str, t.Any]:
    timer = None
    if state.deadline:
        timer = {
            "seconds": state.deadline.seconds,
            "expires": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(state.deadline.expires)),
            "by": state.deadline.by,
            "unit": f"{unit(flag.name)}.timer" if flag.systemd else None,
        }
    return {
        "flow_restore_wait": state.enabled,
        "timer": timer,
        "boot_guard": flag.guard.unit_file if state.guarded else None,
    }


def main() -> None:
    options: Options = {
        "state": {"type": "str", "choices": ["enabled", "disabled"], "required": True},
        "clear_after": {"type": "float"},
    }
    run_module({**CONNECTION, **options}, set_or_clear)


if __name__ == "__main__":
    main()
