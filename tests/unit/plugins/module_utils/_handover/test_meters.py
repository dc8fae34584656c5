# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.meters import order, used

# As ovs-vswitchd 3.5 prints it; the second bridge is behind a patch port.
TRACE = """\
Flow: udp,in_port=1,nw_dst=10.0.0.2,tp_dst=10002

bridge("br0")
-------------
 0. udp,in_port=1, priority 10
    meter:7
    output:9

    bridge("br 1")
    --------------
         0. priority 1
            meter:3
            output:2
    meter:8
    output:2

Final flow: unchanged
Datapath actions: meter(2),meter(0),4,meter(1),5
"""


def test_a_trace_tells_which_kernel_meter_a_meter_is() -> None:
    assert used(TRACE) == {("br0", 7): 2, ("br 1", 3): 0, ("br0", 8): 1}


def test_a_trace_that_leaves_a_meter_out_tells_nothing() -> None:
    assert used(TRACE.replace("meter(1),", "")) == {}
    assert used("Datapath actions: 4") == {}


def test_live_meters_keep_their_numbers_and_the_others_fill_the_gaps() -> None:
    meters = [("br0", 1), ("br0", 2), ("br1", 1), ("br1", 2)]
    assert order(meters, {("br1", 1): 0, ("br0", 1): 2}) == [("br1", 1), ("br0", 2), ("br0", 1), ("br1", 2)]
    assert order(meters, {}) == meters


def test_numbers_that_have_gone_up_are_reached_by_meters_that_pass() -> None:
    assert order([("br0", 1), ("br0", 2)], {("br0", 2): 3}) == [("br0", 1), None, None, ("br0", 2)]
