# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import ProtocolError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import legacy, wire

IN_PORT = bytes.fromhex("80000004 00000001")


def flow(actions: str, instruction: int = 4) -> bytes:
    """An OpenFlow 1.5 flow-mod: in_port=1, with ``actions`` in hexadecimal."""
    body = bytes.fromhex(actions)
    match = struct.pack("!HH", 1, 12) + IN_PORT + bytes(4)
    rest = match + struct.pack("!HH4x", instruction, 8 + len(body)) + body
    return wire.flow_mod(wire.OF15, 9, 3, 77, 0x1234, 5, 6, 0, 0, rest)


# OpenFlow 1.5 on the left, what Open vSwitch encodes for the same action in OpenFlow 1.0 on the right.
ACTIONS = {
    "output:1": ("0000001000000001ffff000000000000", "000000080001ffff"),
    "LOCAL": ("00000010fffffffe0000000000000000", "00000008fffe0000"),
    "group:5": ("0016000800000005", "ffff001000002320002800000000 0005"),
    "set_queue:5": ("0015000800000005", "ffff0010000023200004 0000 00000005"),
    "pop_vlan": ("0012000800000000", "0003000800000000"),
    "push_mpls:0x8847": ("0013000888470000", "ffff0010000023200017 8847 00000000"),
    "pop_mpls:0x0800": ("0014000808000000", "ffff0010000023200018 0800 00000000"),
    "set_mpls_ttl(7)": ("000f000807000000", "ffff0010000023200019 0700 00000000"),
    "dec_mpls_ttl": ("0010000800000000", "ffff001000002320001a 000000000000"),
    "dec_ttl": ("0018000800000000", "ffff0010000023200012 000000000000"),
    "mod_tp_dst:443": ("000a000801bb0000", "000a000801bb0000"),
    "mod_nw_dst:10.0.0.1": ("00190010 80001804 0a000001 00000000", "000700080a000001"),
    "mod_nw_tos:48": ("00190010 80001001 0c 00000000000000", "0008000830000000"),
    "mod_dl_src": ("00190010 80000806 020000000009 0000", "0004001002000000000900000000 0000"),
    "mod_vlan_vid:5": ("0011000881000000 00190010 80000c02 1005 000000000000", "0001000800050000"),
    "mod_vlan_pcp:3": ("0011000881000000 00190010 80000e01 03 00000000000000", "0002000803000000"),
    "set_field:4->reg3": ("00190010 00010604 00000004 00000000", "ffff0018000023200021 00010604 00000004 000000000000"),
    "load:3->reg0[4..7]": (
        "00190018 00010108 00000030 000000f0 0000000000000000",
        "ffff0018000023200007 0103 00010004 0000000000000003",
    ),
    "set_field with holes in the mask": (
        "00190018 00010108 00000030 000000f1 0000000000000000",
        "ffff0018000023200021 00010108 00000030 000000f1 0000",
    ),
    "move": (
        "001c0018 0030 0000 0010 0000 00000806 00000606 00000000",
        "ffff0018000023200006 0030 0000 0010 00000806 00000606",
    ),
    "resubmit(,5)": ("ffff001000002320000efff805000000", "ffff001000002320000efff805000000"),
    "clone(dec_ttl)": (
        "ffff001800002320002a000000000000 0018000800000000",
        "ffff002000002320002a000000000000 ffff0010000023200012000000000000",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_is_the_same_in_openflow_10(name: str) -> None:
    new, old = ACTIONS[name]
    mod = legacy.flow_mod10(flow(new))
    fields = wire.flow_fields(mod)
    assert wire.header(mod) == (wire.OF10, wire.EXPERIMENTER, len(mod), 9)
    assert fields == (3, 77, 0x1234, 5, 6, IN_PORT, bytes.fromhex(old))


@pytest.mark.parametrize(
    ("actions", "instruction", "problem"),
    [
        ("0000001000000001ffff000000000000", 3, "instruction of type 3"),
        ("001d000800000001", 4, "action of type 29"),
        ("0011000881000000", 4, "push_vlan without a VLAN"),
        ("0011000881000000 0018000800000000", 4, "push_vlan without a VLAN"),
        ("ffff00104f4e46000c80000000000000", 4, "action of vendor 0x4f4e4600"),
    ],
)
def test_what_openflow_10_has_no_words_for_is_an_error(actions: str, instruction: int, problem: str) -> None:
    with pytest.raises(ProtocolError, match=problem):
        legacy.flow_mod10(flow(actions, instruction))


def test_a_load_of_a_part_of_the_vlan_id_is_a_load_in_openflow_14() -> None:
    output = "0000001000000001ffff000000000000"
    mod = legacy.flow_mod14(flow("0011000881000000 00190010 80000d04 00630fff 00000000" + output))
    assert wire.header(mod) == (wire.OF14, wire.FLOW_MOD, len(mod), 9)
    load = "ffff0018000023200007 000b 80000c02 0000000000000063"
    assert wire.flow_fields(mod).rest[8:] == bytes.fromhex("0011000881000000" + load + output)
    assert wire.flow_fields(mod)[:5] == wire.flow_fields(flow(output))[:5]


@given(data=st.binary(max_size=80))
def test_damaged_actions_never_do_worse_than_a_protocol_error(data: bytes) -> None:
    for reword in (legacy.flow_mod10, legacy.flow_mod14):
        try:
            reword(flow(data.hex()))
        except ProtocolError as error:
            assert str(error)
