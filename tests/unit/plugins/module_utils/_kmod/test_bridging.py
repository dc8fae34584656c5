# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VLANs and groups of a bridge's ports come back; what the bridge has learned does not."""

from __future__ import annotations

import socket
import struct

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import bridging, links
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import Stage, numbered
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    MESSAGE,
    NESTED,
    attribute,
)

OURS, OTHERS, BRIDGE = 5, 6, 9
DEVICE = struct.Struct("=BxHiII")
PVID, UNTAGGED, BEGIN, END = 0x2, 0x4, 0x8, 0x10


def device(index: int, *more: bytes) -> links.Link:
    return links.parse(DEVICE.pack(0, 1, index, 0, 0) + b"".join(more))


LINKS = [
    device(OURS, numbered(10, BRIDGE)),
    device(OTHERS, numbered(10, BRIDGE)),
    device(
        BRIDGE, attribute(18, attribute(1, b"bridge\0") + attribute(2, attribute(39, struct.pack("=H", 1))))
    ),
]


def vlan(number: int, flags: int = 0) -> bytes:
    return attribute(2, struct.pack("=HH", flags, number))


def port(*vlans: bytes, index: int = OURS) -> bytes:
    head = DEVICE.pack(socket.AF_BRIDGE, 1, index, 0, 0)
    return head + numbered(10, BRIDGE) + attribute(26, b"".join(vlans))


def test_vlans_are_said_again_as_they_are_told() -> None:
    listed = vlan(1, UNTAGGED), vlan(10, PVID | UNTAGGED), vlan(20, BEGIN), vlan(25, END)
    itself = DEVICE.pack(socket.AF_BRIDGE, 1, BRIDGE, 0, 0) + attribute(26, vlan(1))
    (found,) = bridging.vlans([port(*listed), port(vlan(7), index=OTHERS), itself], LINKS, {OURS})
    assert (found.device, found.stage, found.what) == (OURS, Stage.PLACE, "the VLANs in its bridge")
    assert MESSAGE.unpack_from(found.data)[1] == 19  # RTM_SETLINK
    assert found.data[16:] == DEVICE.pack(socket.AF_BRIDGE, 0, OURS, 0, 0) + attribute(
        26 | NESTED, b"".join(listed)
    )


def test_the_first_vlan_goes_where_it_was_taken_away() -> None:
    gone, __ = bridging.vlans([port(vlan(10))], LINKS, {OURS})
    assert MESSAGE.unpack_from(gone.data)[1] == 17  # RTM_DELLINK
    assert gone.data[32:] == attribute(26 | NESTED, vlan(1))
    assert len(list(bridging.vlans([port(vlan(1, BEGIN), vlan(4, END))], LINKS, {OURS}))) == 1
    (alone,) = bridging.vlans([port()], LINKS, {OURS})
    assert alone.what == "the absence of the first VLAN in its bridge"


def entry(state: int, index: int = OURS, group: bytes = b"\xef\1\1\1") -> bytes:
    return struct.pack("=IBBH16s2sxx", index, state, 0, 20, group, b"\x08\0")


def test_groups_that_somebody_has_set() -> None:
    source = attribute(4, b"\1\2\3\4")
    told = [
        attribute(1, entry(1) + attribute(1, bytes(4)) + source),
        attribute(1, entry(0)),  # learned
        attribute(1, entry(1, OTHERS)),
    ]
    body = struct.pack("=BxxxI", socket.AF_BRIDGE, BRIDGE) + attribute(1, attribute(1, b"".join(told)))
    (found,) = bridging.groups([body], {OURS})
    assert found.what == "the group 239.1.1.1 of VLAN 20"
    wanted = attribute(1, entry(1)) + attribute(2 | NESTED, attribute(1, b"\1\2\3\4"))
    assert found.data[16:] == struct.pack("=BxxxI", socket.AF_BRIDGE, BRIDGE) + wanted
    assert struct.unpack_from("=I", found.data, found.places[0]) == (OURS,)


def test_groups_for_people() -> None:
    assert bridging.shown_group(bytes([255, 2]) + bytes(13) + b"\5", b"\x86\xdd") == "ff02::5"
    assert bridging.shown_group(b"\1\0\x5e\0\0\7" + bytes(10), bytes(2)) == "01:00:5e:00:00:07"
