# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ovs-vswitchd tells as text of its datapath."""

from __future__ import annotations

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import ofproto_text
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ofproto_text import ShownPort
from tests.unit.plugins.module_utils._handover.test_reloader import SHOWN


def test_ports_of_the_kernels_datapath() -> None:
    assert ofproto_text.shown_ports(SHOWN) == {
        1: ShownPort("br0", "br0", 65534, "internal"),
        9: ShownPort("br0", "in4", 4, "internal"),
        2: ShownPort("br0", "p1", 1, "system"),
        3: ShownPort("br0", "vx0", 5, "vxlan"),
    }
    assert ofproto_text.shown_ports("netdev@ovs-netdev: hit:0 missed:0\n") == {}


def test_the_first_actions_of_a_trace_count() -> None:
    trace = "Flow: udp\nDatapath actions: 2,1\n\nDatapath actions: 3\n"
    assert ofproto_text.datapath_actions(trace) == "2,1"
    assert ofproto_text.datapath_actions("Flow: udp\n") is None
