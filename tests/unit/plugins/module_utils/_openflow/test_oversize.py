# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import oversize

MATCH = "priority=5,ip,nw_dst=10.0.0.1"


def line(actions: str) -> str:
    """As ovs-vswitchd shows a flow (flow_stats_ds in ofproto/ofproto.c)."""
    return f"table_id=3, duration=5s, n_packets=1, n_bytes=9, {MATCH},actions={actions}\n"


@pytest.mark.parametrize(
    ("software", "ends"),
    [("2.15.0", True), ("2.16.9", True), ("2.17.0", False), ("3.1.0", False), ("4.0.0", False), ("", False)],
)
def test_old_versions_end_over_large_flows(software: str, ends: bool) -> None:
    assert oversize.ends_over_large_flows(software) == ends


@pytest.mark.parametrize(
    ("action", "fit", "do_not"),
    [
        ("output:1", 3000, 4090),  # 16 bytes
        ("ALL", 3000, 4090),
        ("resubmit(,39)", 3000, 4090),
        ("set_field:0x5->reg15", 2500, 2700),  # 24 in OpenFlow 1.0
        ("set_field:0x5->reg15,resubmit(,39)", 1500, 1640),
        ("set_field:::1/::1->ipv6_src", 1100, 1640),
        ("clone(output:7)", 1500, 2700),
    ],
)
def test_a_flow_is_large_that_takes_a_message_in_some_version(action: str, fit: int, do_not: int) -> None:
    text = line("drop") + line(",".join([action] * fit)) + line("output:9")
    assert list(oversize.large_flows(text)) == []
    assert list(oversize.large_flows(text + line(",".join([action] * do_not)))) == [MATCH]
