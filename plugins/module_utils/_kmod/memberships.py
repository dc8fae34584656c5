# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Which multicast groups programs have joined at a device: they hear nothing of them when it is another one, and are not told.

A VRRP of which that is so takes itself for the master, and an OSPF loses its neighbours.  The kernel shows groups, not who has
joined them: /proc/net/igmp (igmp_mc_seq_show in net/ipv4/igmp.c), /proc/net/igmp6 (igmp6_mc_seq_show in net/ipv6/mcast.c).
"""

from __future__ import annotations

import ipaddress
import sys
import typing as t

# All hosts, all routers, and one for each address (RFC 4291, 2.7.1): the kernel is in these.
_BY_ITSELF = frozenset(("224.0.0.1", "ff01::1", "ff02::1", "ff01::2", "ff02::2", "ff05::2"))
_OF_ADDRESSES = ipaddress.IPv6Network("ff02::1:ff00:0/104")
# mDNS and LLMNR: who speaks them watches devices, and most hosts do.
_WATCHED = frozenset(("224.0.0.251", "ff02::fb", "224.0.0.252", "ff02::1:3"))


def joined(igmp: str, igmp6: str) -> dict[int, list[str]]:
    """The groups of each device, by its ifindex."""
    found: dict[int, list[str]] = {}
    for index, group in (*_of_ipv4(igmp), *_of_ipv6(igmp6)):
        if group not in _BY_ITSELF | _WATCHED and ipaddress.ip_address(group) not in _OF_ADDRESSES:
            found.setdefault(index, []).append(group)
    return found


def _of_ipv4(text: str) -> t.Iterator[tuple[int, str]]:
    """A line for each device, and below it one for each group, which begins with a blank."""
    index = 0
    for line in text.splitlines()[1:]:
        first = line.split()[0]
        if not line[0].isspace():
            index = int(first)
        else:
            yield index, str(ipaddress.IPv4Address(int(first, 16).to_bytes(4, sys.byteorder)))


def _of_ipv6(text: str) -> t.Iterator[tuple[int, str]]:
    for fields in map(str.split, text.splitlines()):
        yield int(fields[0]), str(ipaddress.IPv6Address(bytes.fromhex(fields[2])))
