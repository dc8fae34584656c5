# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    # Where the daemons of this host are; _ansible.CONNECTION is the same in code.
    DOCUMENTATION = r"""
options:
  rundir:
    description:
      - The run directory of Open vSwitch (E(OVS_RUNDIR)), where the daemons keep their pidfiles and sockets.
      - Other than the default only where Open vSwitch was built or started with another one, for example in a container.
    type: path
    default: /run/openvswitch
  database:
    description:
      - Where the C(Open_vSwitch) database is served, as C(ovs-vsctl --db) takes it, for example V(unix:/run/openvswitch/db.sock).
      - When it is not set, the socket C(db.sock) in O(rundir) is used.
    type: str
  timeout:
    description:
      - How long to wait for one answer of a daemon, in seconds.
      - A daemon that is silent for longer is reported instead of being waited for.
    type: float
    default: 10
requirements:
  - Open vSwitch 2.15 or newer
  - Python 3.9 or newer
"""
