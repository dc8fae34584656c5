# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The actions that have connections be tracked, as bytes (include/openvswitch/ofp-actions.h, lib/ofp-actions.c)."""

from __future__ import annotations

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import tracking, wire

ADDRESS = b"\xc0\0\2\1"


def test_a_packet_that_is_only_tracked() -> None:
    assert (
        tracking.track(5).hex()
        == "ffff001800002320" + "0023" + "0000" + "00000000" + "0005" + "ff" + "000000" + "0000"
    )


def test_a_connection_that_is_translated_and_marked() -> None:
    action = tracking.commit(wire.OF15, 5, 0x77, 0x1234, tracking.Translation(True, ADDRESS, 40000), "ftp")
    head, nat, mark, labels = action[:24], action[24:48], action[48:64], action[64:]
    assert head.hex() == "ffff005800002320" + "0023" + "0001" + "00000000" + "0005" + "ff" + "000000" + "0015"
    assert nat.hex() == "ffff001800002320" + "0024" + "0000" + "0001" + "0011" + "c0000201" + "9c40" + "0000"
    assert mark.hex() == "00190010" + "0001d604" + "00000077" + "00000000"
    assert labels.hex() == "00190018" + "0001d810" + f"{0x1234:032x}"


def test_an_older_language_has_other_words() -> None:
    action = tracking.commit(wire.OF10, 5, 0x77, 1 << 64 | 2)
    mark, low, high = action[24:48], action[48:72], action[72:]
    assert mark.hex() == "ffff001800002320" + "0007" + "001f" + "0001d604" + f"{0x77:016x}"
    assert low.hex() == "ffff001800002320" + "0007" + "003f" + "0001d810" + f"{2:016x}"
    assert high.hex() == "ffff001800002320" + "0007" + "103f" + "0001d810" + f"{1:016x}"
