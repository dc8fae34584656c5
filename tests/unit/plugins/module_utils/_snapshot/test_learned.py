# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import learned

FDB = """\
 port  VLAN  MAC                Age
    1     0  02:00:00:00:00:01    7
LOCAL    12  02:00:00:00:00:02  static
"""
NEIGHBOURS = """\
IP                                            MAC                 Bridge
==========================================================================
10.9.9.9                                      02:00:00:00:00:99   br0
fd00::9                                       02:00:00:00:00:98   b  r 1
10.9.9.8                                      02:00:00:00:00:97   br0 STALE
10.9.9.7                                                          br0 INCOMPLETE
"""


class FakeVswitchd:
    """Answers ``fdb/show`` and ``tnl/neigh/show``; refuses the commands of ``refuses``."""

    def __init__(self, *refuses: str) -> None:
        self.calls: list[tuple[str, ...]] = []
        self._refuses = refuses
        # Learns the first line of its table by a packet only.
        self.fresh = False

    def call(self, command: str, *args: str) -> str:
        if command in self._refuses:
            raise HotUpgradeError("refused", f'"{command}" is not a valid command')
        self.calls.append((command, *args))
        self.fresh &= command != "ofproto/trace"
        if command == "fdb/show" and self.fresh:
            return FDB.splitlines()[0]
        return {"fdb/show": FDB, "tnl/neigh/show": NEIGHBOURS}.get(command, "")


def vswitchd(*refuses: str) -> t.Any:
    return FakeVswitchd(*refuses)


def test_the_tables_are_read() -> None:
    assert learned.mac_table(vswitchd(), "br0") == [
        learned.MacEntry("1", 0, "02:00:00:00:00:01", static=False),
        learned.MacEntry("LOCAL", 12, "02:00:00:00:00:02", static=True),
    ]
    assert learned.neighbours(vswitchd()) == [
        learned.Neighbour("10.9.9.9", "02:00:00:00:00:99", "br0"),
        learned.Neighbour("fd00::9", "02:00:00:00:00:98", "b  r 1"),
    ]


def test_entries_are_set_by_the_names_of_their_ports() -> None:
    daemon = vswitchd()
    entries = learned.mac_table(daemon, "br0")
    assert learned.restore_mac_table(daemon, "br0", {"1": "eth $(x)", "LOCAL": "br0"}, entries) == []
    assert learned.restore_neighbours(daemon, learned.neighbours(daemon)[:1]) == []
    assert [call for call in daemon.calls if "show" not in call[0]] == [
        ("fdb/add", "br0", "eth $(x)", "0", "02:00:00:00:00:01"),
        ("fdb/add", "br0", "br0", "12", "02:00:00:00:00:02"),
        ("tnl/neigh/set", "br0", "10.9.9.9", "02:00:00:00:00:99"),
    ]


def test_what_an_old_version_cannot_set_is_a_sentence_each() -> None:
    old = vswitchd("fdb/add", "tnl/neigh/set")
    lost = learned.restore_mac_table(old, "br0", {"1": "p1"}, learned.mac_table(old, "br0"))
    lost += learned.restore_neighbours(old, learned.neighbours(old))
    assert len(lost) == 4
    assert lost[0].startswith("MAC 02:00:00:00:00:01 in VLAN 0 on port 1 of br0: refused")
    assert lost[3].startswith("tunnel neighbour fd00::9 of b  r 1")


def test_what_was_learned_is_learned_again_and_what_is_not_is_told() -> None:
    daemon = vswitchd()
    daemon.fresh = True
    entries = [
        learned.MacEntry("1", 0, "02:00:00:00:00:01", static=False),
        learned.MacEntry("2", 5, "02:00:00:00:00:05", static=False),
        learned.MacEntry("3", 6, "02:00:00:00:00:06", static=False),
        learned.MacEntry("LOCAL", 12, "02:00:00:00:00:02", static=True),
    ]
    (sentence,) = learned.teach(daemon, "br0", {"2": 5}, entries, {"3": "4"})
    assert sentence.startswith("2 learned MAC addresses of br0, as 02:00:00:00:00:05 on port 2")
    packets = [call[2] for call in daemon.calls if call[0] == "ofproto/trace"]
    assert packets == [
        "in_port=1,dl_src=02:00:00:00:00:01,dl_dst=ff:ff:ff:ff:ff:ff,dl_type=0x0806",
        "in_port=2,dl_src=02:00:00:00:00:05,dl_dst=ff:ff:ff:ff:ff:ff,dl_type=0x0806",
        "in_port=4,dl_src=02:00:00:00:00:06,dl_dst=ff:ff:ff:ff:ff:ff,dl_vlan=6,dl_type=0x0806",
        # What no flow has learned from that is asked for, as the hidden flows of in-band control let pass.
        "in_port=2,dl_src=02:00:00:00:00:05,dl_dst=ff:ff:ff:ff:ff:ff,dl_type=0x0806,arp_op=1",
        "in_port=4,dl_src=02:00:00:00:00:06,dl_dst=ff:ff:ff:ff:ff:ff,dl_vlan=6,dl_type=0x0806,arp_op=1",
    ]
    daemon.fresh = True
    assert learned.teach(daemon, "br0", {}, entries[:1], {}) == []
    assert learned.teach(vswitchd("fdb/show"), "br0", {}, entries[3:], {}) == []


def test_a_station_that_has_moved_stays_where_it_was_heard() -> None:
    daemon = vswitchd()
    moved = learned.MacEntry("3", 0, "02:00:00:00:00:01", static=False)
    assert learned.teach(daemon, "br0", {}, [moved], {}) == []
    assert [call[0] for call in daemon.calls if call[0] == "ofproto/trace"] == []
