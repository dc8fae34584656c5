# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # What is judged before the confirmation; _ansible.JUDGEMENT is the same in code.
    DOCUMENTATION = r"""
options:
  max_lost_established:
    description:
      - Take it back if the probe O(probe) has lost more packets of its established flow.
      - This and all other limits are judged right before the confirmation, with O(confirm=reconnected) and with
        O(state=confirmed). By default there is none.
    type: int
  max_lost_new:
    description: Take it back if the probe O(probe) has lost more packets of new flows.
    type: int
  max_gap_ms:
    description:
      - Take it back if nothing was forwarded for longer, in milliseconds.
      - That is the longest outage of the established flow of the probe O(probe), without one what the host has measured of
        itself.
    type: float
  probe:
    description: The name of a measurement of M(ovsops.hot_upgrade.ovs_traffic_probe) that runs on the host. It is ended for that.
    type: str
  health:
    description:
      - Take it back if something is worse than before, see M(ovsops.hot_upgrade.ovs_health_info). What is down gets half a minute
        to be up again.
      - With O(state=confirmed) the health of before is O(health_before).
    type: bool
    default: false
  health_before:
    description:
      - The field C(health_before) of the result of the task that began the transaction, for O(state=confirmed).
      - The task that begins it finds it out by itself with O(health).
    type: dict
  soak:
    description:
      - How many seconds to watch the host before it is confirmed. It can be taken back hot until then.
      - With O(health) it is judged every 10 seconds, the limits at the end.
    type: float
    default: 0
  max_failed:
    description:
      - Do not begin if more hosts of the play have failed this task in this run of Ansible.
      - By default it begins whatever has happened to others.
    type: int
"""
