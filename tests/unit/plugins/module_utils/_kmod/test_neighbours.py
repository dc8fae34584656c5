# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which questions of neighbours get a megaflow: those whose answer depends on nothing but what it matches."""

from __future__ import annotations

import dataclasses
import struct

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import neighbours
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.translation import Filter, translate
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import KernelFlow, Vport
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    attribute,
    attributes,
    joined,
)

PORTS = [Vport(2, 1, "p1", 6), Vport(3, 1, "p2", 7), Vport(4, 2, "i1", 9)]
BY_NUMBER = {port.number: port for port in PORTS}
ONE, TWO, ALL = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2", b"\xff" * 6
PAIR = "recirc_id(0),in_port(2),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02)"
LEARNED = (
    "recirc_id=0,eth,arp,in_port=1,vlan_tci=0x0000/0x1fff,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02"
)


def output(port: int) -> bytes:
    return attribute(1, struct.pack("=I", port))


def live(
    tag: int | None = None,
    destination: bytes = TWO,
    whole: bytes = ALL * 2,
    protocol: int = 0,
    kind: int = 0x0800,
) -> KernelFlow:
    """A megaflow of IPv4 or IPv6 from port 2 to port 3."""
    size, place = (12, 8) if kind == 0x0800 else (40, 36)
    network = bytes(place) + bytes([protocol]) + bytes(size - place - 1)
    network_mask = bytes(place) + (b"\xff" if protocol else b"\0") + bytes(size - place - 2) + b"\xff"
    inner = {6: struct.pack("!H", kind), 7 if size == 12 else 8: network}
    inner_mask = {6: b"\xff\xff", 7 if size == 12 else 8: network_mask}
    key = {3: struct.pack("=I", 2), 4: bytes(a & b for a, b in zip(ONE + destination, whole))}
    mask = {3: b"\xff" * 4, 4: whole}
    if tag is None:
        return KernelFlow(joined({**key, **inner}), joined({**mask, **inner_mask}), output(3))
    key |= {6: b"\x81\0", 5: struct.pack("!H", 0x1000 | tag), 1: joined(inner)}
    mask |= {6: b"\xff\xff", 5: b"\x1f\xff", 1: joined(inner_mask)}
    return KernelFlow(joined(key), joined(mask), output(3))


class Switch:
    """Says the same to everything, and remembers the questions."""

    def __init__(self, examined: str, actions: str, more: str = "") -> None:
        self.text = (
            f'Flow: in_port=1\n\nbridge("br0")\n 0. NORMAL\n\nFinal flow: unchanged\nMegaflow: {examined}\n'
        )
        self.text += f"Datapath actions: {actions}\n{more}"
        self.asked: list[str] = []

    def __call__(self, question: str) -> str:
        self.asked.append(question)
        return self.text


def found(switch: Switch, *flows: KernelFlow) -> list[KernelFlow]:
    return neighbours.megaflows(switch, PORTS, flows, ends=True)


def test_a_pair_gets_megaflows_for_question_and_answer() -> None:
    switch = Switch(LEARNED, "3")
    made = found(switch, live(), live(protocol=17))
    assert [question.partition("op=")[2][0] for question in switch.asked] == ["1", "2"]
    assert all(question.startswith(f"{PAIR},eth_type(0x0806),arp(") for question in switch.asked)
    assert [attributes(flow.key)[13][8:10] for flow in made] == [b"\0\1", b"\0\2"]
    assert [attributes(flow.mask)[13] for flow in made] == [bytes(9) + b"\xff" + bytes(14)] * 2
    assert {flow.actions for flow in made} == {output(3)}
    for flow in made:
        assert attributes(flow.key)[4] == ONE + TWO
        assert isinstance(translate(flow, BY_NUMBER), Filter)


def test_behind_a_vlan_tag_it_is_the_same() -> None:
    switch = Switch(
        "recirc_id=0,eth,arp,in_port=1,dl_vlan=7,dl_dst=02:00:00:00:00:02",
        "pop_vlan,3,push_vlan(vid=9,pcp=3),3",
    )
    made = found(switch, live(tag=7))
    assert len(made) == 2
    assert "eth_type(0x8100),vlan(vid=7,pcp=0),encap(eth_type(0x0806),arp(" in switch.asked[0]
    assert isinstance(translate(made[0], BY_NUMBER), Filter)
    assert made[0].actions == attribute(5, b"") + output(3) + attribute(4, b"\x81\0\x70\x09") + output(3)
    assert found(Switch("recirc_id=0,in_port=1,dl_vlan=7,dl_vlan_pcp=0", "3"), live(tag=7)) == []


@pytest.mark.parametrize("words", ["ipv6", "icmp6", "icmp6,icmp_type=135,icmp_code=0"])
def test_neighbour_discovery_is_asked_for_only_where_a_protocol_is_matched(words: str) -> None:
    """Else the megaflow is for all packets, those of neighbour discovery too."""
    switch = Switch(f"recirc_id=0,eth,{words},in_port=1,dl_dst=02:00:00:00:00:02,nw_frag=no", "3")
    assert found(switch, live(kind=0x86DD)) == []
    made = found(switch, live(kind=0x86DD, protocol=17))
    assert ["type=135" in switch.asked[0], "type=136" in switch.asked[1]] == [True, True]
    assert [attributes(flow.key)[12] for flow in made] == [b"\x87\0", b"\x88\0"]
    assert all(isinstance(translate(flow, BY_NUMBER), Filter) for flow in made)


def test_nothing_is_asked_that_may_have_no_end() -> None:
    """Questions of IPv6 may go through ct(), behind which a trace of an old version may go round in a circle."""
    switch = Switch(LEARNED, "3")
    flows = [live(kind=0x86DD, protocol=17), live()]
    assert len(neighbours.megaflows(switch, PORTS, flows, ends=False)) == 2
    assert ["eth_type(0x0806)" in question for question in switch.asked] == [True, True]


@pytest.mark.parametrize(
    ("examined", "actions", "more"),
    [
        (f"{LEARNED},arp_spa=0.0.0.0", "3", ""),
        (LEARNED, "drop", ""),
        (LEARNED, "userspace(pid=4294967295,slow_path(action))", ""),
        (LEARNED, "ct(zone=1),recirc(0x1)", ""),
        (LEARNED, "set(eth(src=02:00:00:00:00:09,dst=02:00:00:00:00:09)),3", ""),
        (LEARNED, "3,99999999999", ""),
        (
            LEARNED,
            "3",
            "This flow is handled by the userspace slow path because it:\n  - Uses action(s) not supported\n",
        ),
        (f"{LEARNED},pkt_mark=0", "3", ""),
    ],
)
def test_an_answer_that_depends_on_more_or_does_more_does_not_count(
    examined: str, actions: str, more: str
) -> None:
    assert found(Switch(examined, actions, more), live()) == []


def test_an_address_that_the_megaflow_does_not_match_must_not_matter() -> None:
    narrow = live(whole=bytes(6) + ALL)
    assert found(Switch(LEARNED, "3"), narrow) == []
    assert len(found(Switch("recirc_id=0,eth,arp,in_port=1,dl_dst=02:00:00:00:00:02", "3"), narrow)) == 2


def test_packets_for_many_and_flows_that_the_bypass_does_not_have_are_not_asked_for() -> None:
    switch = Switch(LEARNED, "3")
    inside = dataclasses.replace(live(), actions=output(4))
    assert found(switch, live(destination=ALL), inside) == []
    assert switch.asked == []


def test_the_busiest_pairs_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "MOST", 2)
    switch = Switch(LEARNED, "3")
    assert len(found(switch, *(live(tag=tag) for tag in (1, 2, 3)))) == 0
    assert [question.partition("vid=")[2][0] for question in switch.asked] == ["1", "1", "2", "2"]


def test_a_refused_question_has_no_answer() -> None:
    def refuse(_question: str) -> str:
        raise Unreachable("nobody is there")

    assert neighbours.megaflows(refuse, PORTS, [live()], ends=True) == []
