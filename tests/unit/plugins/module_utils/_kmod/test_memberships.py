# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What programs have joined is told from what the kernel is in by itself."""

from __future__ import annotations

import socket
import struct

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import memberships


def test_groups_that_programs_have_joined() -> None:
    def group(address: str) -> str:
        (number,) = struct.unpack("=I", socket.inet_aton(address))
        return f"\t\t\t\t{number:08X}     1 0:00000000\t\t0\n"

    igmp = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n"
    igmp += "5\tbr0       :     2      V3\n" + group("224.0.0.1") + group("224.0.0.18") + group("224.0.0.251")
    igmp += "7\tin1       :     1      V3\n" + group("239.1.2.3")
    six = (
        (5, "ff02::1"),
        (5, "ff02::2"),
        (5, "ff02::1:ff00:1"),
        (5, "ff02::1:3"),
        (7, "ff02::5"),
        (9, "ff01::1"),
    )
    igmp6 = "".join(
        f"{index:<4} name {socket.inet_pton(socket.AF_INET6, address).hex()}     1 0000000C 0\n"
        for index, address in six
    )
    assert memberships.joined(igmp, igmp6) == {5: ["224.0.0.18"], 7: ["239.1.2.3", "ff02::5"]}
    assert memberships.joined("", "") == {}  # a kernel without multicast
