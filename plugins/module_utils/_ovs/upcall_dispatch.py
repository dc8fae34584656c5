# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""To whom the kernel datapath sends upcalls: to a socket per port, or, as Open vSwitch asks since 2.16, per CPU.

An older ovs-vswitchd leaves that as it finds it (dpif_netlink_open sets the features that it has read), and gets no
upcall at all in the newer mode.  Formats: include/uapi/linux/openvswitch.h.
"""

from __future__ import annotations

import struct

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import (
    DATAPATH,
    DATAPATH_VERSION,
    DP_NAME,
    GET,
    HEADER,
    USER_FEATURES,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    ACK,
    GENERIC,
    GENERIC_HEADER,
    Netlink,
    attributes,
    generic,
    joined,
)

_SET = 4
_DISPATCH_UPCALL_PER_CPU = 1 << 3
_WHAT = "the kernel cannot be told to whom it is to send upcalls"
_NAMED = {DP_NAME: DATAPATH}


def send_upcalls_per_port() -> None:
    """Have the kernel datapath send its upcalls per port.  Raises ``HotUpgradeError`` when the kernel refuses it."""
    with Netlink(GENERIC) as netlink:
        family = netlink.family("ovs_datapath")
        body = HEADER.pack(0) + joined(_NAMED)
        answer = netlink.ask(generic(family, GET, DATAPATH_VERSION, body), _WHAT)
        found = attributes(answer, GENERIC_HEADER.size + HEADER.size)
        (features,) = struct.unpack("=I", found[USER_FEATURES])
        if not features & _DISPATCH_UPCALL_PER_CPU:
            return
        wanted = struct.pack("=I", features & ~_DISPATCH_UPCALL_PER_CPU)
        body = HEADER.pack(0) + joined({**_NAMED, USER_FEATURES: wanted})
        netlink.ask(generic(family, _SET, DATAPATH_VERSION, body, ACK), _WHAT)
