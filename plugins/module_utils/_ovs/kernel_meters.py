# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Meters of the kernel datapath that keep a starting ovs-vswitchd from having any.

It tries two high numbers (probe_broken_meters__ in lib/dpif-netlink.c).  Since Linux 5.10 they need the places of two low ones
(meter_hash in net/openvswitch/meter.c), and where those are taken, as with 1,018 meters, it believes that the kernel's
meters are broken.  Open vSwitch 3.3.7, 3.4.5, 3.5.3, 3.6.1 and 3.7 try others.
"""

from __future__ import annotations

import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import HEADER, Reader
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    GENERIC,
    Netlink,
    generic,
    joined,
)

_TRIED = 54545401, 54545402
# The kernel's table doubles when it is full; 200,000 meters are the most (DP_METER_NUM_MAX).
_SIZES = [1024 << doubled for doubled in range(9)]
IN_THE_WAY = sorted({number % size for number in _TRIED for size in _SIZES})

# include/uapi/linux/openvswitch.h
_DELETE, _GET, _VERSION, _ID = 3, 4, 1, 1


def clear_the_way() -> list[int]:
    """Delete those that are there, and return their numbers: their limits do not hold until somebody adds them again.

    Raises ``HotUpgradeError`` where there is no datapath, or the kernel has no meters.
    """
    with Netlink(GENERIC) as netlink:
        index, family = Reader.of(netlink).index, netlink.family("ovs_meter")

        def ask(command: int, number: int) -> bytes:
            body = HEADER.pack(index) + joined({_ID: struct.pack("=I", number)})
            return netlink.ask(generic(family, command, _VERSION, body), f"the kernel's meter {number}")

        found = [number for number in IN_THE_WAY if _answers(ask, number)]
        # One that was ended while it tried has left its own.
        left = [number for number in _TRIED if _answers(ask, number)]
        for number in found + left:
            ask(_DELETE, number)
        return found


def _answers(ask: t.Callable[[int, int], bytes], number: int) -> bool:
    try:
        ask(_GET, number)
    except HotUpgradeError:
        return False
    return True
