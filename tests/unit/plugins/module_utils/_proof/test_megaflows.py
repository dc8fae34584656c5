# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps as ovs-vswitchd 3.1 and 3.5 print them."""

from __future__ import annotations

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof.megaflows import (
    Amount,
    Megaflow,
    circling,
    connected,
    hashed,
    parse,
    placed,
    sample,
)

USERSPACE = """flow-dump from the main thread:
recirc_id(0),in_port(2),packet_type(ns=0,id=0),eth_type(0x0800),ipv4(frag=no), packets:119, actions:ct(zone=5),recirc(0x1)
recirc_id(0x2),dp_hash(0xe4843bae/0xf),in_port(2),packet_type(ns=0,id=0),eth(src=02:00:00:00:00:01), packets:7, actions:3
ct_state(+new+trk),recirc_id(0x1),in_port(2),packet_type(ns=0,id=0), packets:100, actions:hash(sym_l4(0)),recirc(0x2)
recirc_id(0x77),in_port(2),packet_type(ns=0,id=0),eth_type(0x0806), packets:1, bytes:42, used:never, actions:drop
"""  # fmt: skip


def flow(number: int, packets: int, *further: int) -> Megaflow:
    actions = ",".join([*(f"recirc({each:#x})" for each in further), "1"])
    return Megaflow(f"recirc_id({number:#x}),in_port(1),eth()", actions, packets)


def test_what_is_read_from_a_dump() -> None:
    first, hash_stage, second, orphan = parse(USERSPACE)
    assert (first.number, first.further, first.packets, first.in_port) == (0, (1,), 119, "2")
    assert (second.number, second.further) == (1, (2,))
    assert hash_stage.number == 2
    assert orphan.actions == "drop"


def test_a_wildcarded_ethernet_header_is_named_or_the_packet_would_be_traced_without_one() -> None:
    first, hash_stage, *__ = parse(USERSPACE)
    assert first.key == "recirc_id(0),in_port(2),eth(),eth_type(0x0800),ipv4(frag=no)"
    assert "packet_type" not in hash_stage.key
    assert hash_stage.key.count("eth(") == 1


def test_the_unique_id_of_a_flow_is_not_traced() -> None:
    line = "ufid:577f6fe5-112a-4ec4, recirc_id(0),in_port(3), packets:0, bytes:0, used:never, actions:4"
    assert [each.key for each in parse(line)] == ["recirc_id(0),in_port(3)"]


def test_a_key_in_the_numbers_of_another_process() -> None:
    assert placed("recirc_id(0x1),in_port(2),eth()", 31, "7") == "recirc_id(0x1f),in_port(7),eth()"
    assert hashed("recirc_id(0x1),dp_hash(0xe/0xf),in_port(2)", 3) == "recirc_id(0x1),dp_hash(0x3),in_port(2)"


def test_what_a_chain_leads_to() -> None:
    flows = parse(USERSPACE)
    assert {each.number for each in connected(flows)} == {0, 1, 2}
    looped = [flow(0, 1, 1), flow(1, 1, 1, 1), flow(5, 1, 5)]
    assert connected(looped) == looped[:2]


def test_what_leads_to_a_circle() -> None:
    good = [flow(0, 1, 1), flow(1, 1, 2, 3), flow(2, 1), flow(3, 1, 2)]
    assert circling(good) == set()
    itself = flow(1, 1, 1)
    assert circling([good[0], itself]) == {good[0], itself}
    long = [flow(0, 1, 5), flow(5, 1, 6), flow(6, 1, 7), flow(7, 1, 5)]
    assert circling([*good, *long]) == {*long}


def test_shares_are_of_packets_and_never_rounded_up() -> None:
    assert Amount(1, 999).share(Amount(2, 1001)) == 99.8
    assert Amount(1, 99999).share(Amount(2, 100000)) == 99.9
    assert Amount(1, 0).share(Amount(4, 0)) == 25.0
    assert Amount().share(Amount()) == 0.0


@pytest.mark.parametrize(("count", "most"), [(3, 10), (10, 10), (0, 5)])
def test_few_are_all_taken(count: int, most: int) -> None:
    flows = [flow(0, 1) for __ in range(count)]
    assert sample(flows, most) == flows


def test_a_sample_has_those_with_the_most_packets_and_some_of_the_others_everywhere() -> None:
    flows = [flow(0, 1000 if place in (17, 60) else 1) for place in range(100)]
    taken = sample(flows, 10)
    assert len(taken) == 10
    assert {flows[17], flows[60]} <= {*taken}
    places = [flows.index(each) for each in taken]
    assert places == sorted(places)
    assert max(places) > 80


def test_a_sample_holds_what_leads_to_those_in_it() -> None:
    flows = [
        *(flow(0, 0, number) for number in range(1, 51)),
        *(flow(n, 1000, 100) for n in range(1, 51)),
        flow(100, 9999),
    ]
    taken = sample(flows, 4)
    assert flows[100] in taken
    assert {each.number for each in connected(taken)} >= {0, 100}
    assert len(connected(taken)) == len(taken)
