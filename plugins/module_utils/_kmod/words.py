# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The words of a megaflow that are understood: numbers of include/uapi/linux/openvswitch.h."""

from __future__ import annotations


class Key:
    """OVS_KEY_ATTR_*: of a key and of a mask."""

    ENCAP = 1
    IN_PORT = 3
    ETHERNET = 4
    VLAN = 5
    TYPE = 6
    IPV4 = 7
    IPV6 = 8
    TCP = 9
    UDP = 10
    ICMP = 11
    ICMPV6 = 12
    ARP = 13
    ND = 14
    TUNNEL = 16
    SCTP = 17
    RECIRCULATION = 20


class Action:
    """OVS_ACTION_ATTR_*."""

    OUTPUT = 1
    SET = 3
    PUSH_VLAN = 4
    POP_VLAN = 5
    SET_MASKED = 11
