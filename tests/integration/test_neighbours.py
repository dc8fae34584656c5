# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real ovs-vswitchd is asked what it would do with the questions of neighbours: its words are understood."""

from __future__ import annotations

import re
import struct
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import neighbours
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import KernelFlow, Vport
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    attribute,
    attributes,
    joined,
)

if t.TYPE_CHECKING:
    from tests.integration.conftest import Ovs

ONE, TWO = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"
GUARDED = """
priority=2,in_port=p-h1,arp,arp_spa=10.0.0.1,actions=output:p-h2
priority=2,in_port=p-h1,arp,actions=drop
priority=2,in_port=p-h1,icmp6,icmp_type=135,nd_target=fd00::2,actions=output:p-h2
priority=1,in_port=p-h1,udp6,actions=output:p-h2
priority=3,in_port=p-h1,dl_vlan=7,actions=strip_vlan,output:p-h2
priority=0,actions=drop
"""


def live(
    port: int, to: int, inner: dict[int, bytes], mask: dict[int, bytes], tag: bool = False
) -> KernelFlow:
    key = {3: struct.pack("=I", port), 4: ONE + TWO}
    bits = {3: b"\xff" * 4, 4: b"\xff" * 12}
    if tag:
        inner = {6: b"\x81\0", 5: b"\x10\7", 1: joined(inner)}
        mask = {6: b"\xff\xff", 5: b"\xff\xff", 1: joined(mask)}
    return KernelFlow(joined({**key, **inner}), joined({**bits, **mask}), attribute(1, struct.pack("=I", to)))


def output(port: int) -> bytes:
    return attribute(1, struct.pack("=I", port))


@pytest.fixture(name="ports")
def _ports(shared_ovs: Ovs) -> dict[str, int]:
    shared_ovs.bridge("br0")
    shared_ovs.endpoints("br0")
    shown = shared_ovs.appctl("dpctl/show", "netdev@ovs-netdev")
    return {name: int(number) for number, name in re.findall(r"port (\d+): (p-h\d)", shown)}


def test_what_a_switch_says_is_understood(shared_ovs: Ovs, ports: dict[str, int]) -> None:
    one, two = ports["p-h1"], ports["p-h2"]
    vports = [Vport(one, 1, "p-h1", 6), Vport(two, 1, "p-h2", 7)]
    ipv4 = {6: b"\x08\0", 7: bytes(12)}, {6: b"\xff\xff", 7: bytes(11) + b"\xff"}
    udp6 = (
        {6: b"\x86\xdd", 8: bytes(36) + b"\x11" + bytes(3)},
        {6: b"\xff\xff", 8: bytes(36) + b"\xff\0\0\xff"},
    )
    flows = [live(one, two, *ipv4), live(one, two, *udp6), live(one, two, *ipv4, tag=True)]

    def asked() -> list[tuple[int, bytes]]:
        """Of each megaflow what it is for (ARP's operation, the type of ICMPv6), and its actions."""
        made = neighbours.megaflows(
            lambda text: shared_ovs.appctl("ofproto/trace", "ovs-netdev", text), vports, flows, ends=True
        )
        keys = [attributes(flow.key) for flow in made]
        inner = [attributes(key[1]) if 1 in key else key for key in keys]
        kinds = [key[13][9] if 13 in key else key[12][0] for key in inner]
        return [(kind, flow.actions) for kind, flow in zip(kinds, made)]

    shared_ovs.appctl("fdb/add", "br0", "p-h2", "0", "02:00:00:00:00:02")
    shared_ovs.appctl("fdb/add", "br0", "p-h2", "7", "02:00:00:00:00:02")
    both = [(kind, output(two)) for kind in (1, 2, 135, 136, 1, 2)]
    assert asked() == both
    shared_ovs.ofctl("--names", "replace-flows", "br0", "-", feed=GUARDED)
    # The answers to ARP and to discovery depend on addresses in them; behind the tag on nothing.
    untagged = attribute(5, b"") + output(two)
    assert asked() == [(1, untagged), (2, untagged)]
