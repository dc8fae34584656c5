# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Actions as Open vSwitch 2.15 to 4.0 print them; and that spelling does not count, while everything that leaves does."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof.datapath_actions import (
    Fate,
    Reader,
    split,
)

READER = Reader({"1": "p1", "2": "p2", "3": "p3", "9": "vxlan_sys_4789"})
KEY = (
    "recirc_id(0),in_port(1),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),"
    "ipv4(src=10.0.0.1,dst=10.0.0.0/255.255.255.0,proto=17,ttl=64,frag=no)"
)


def fate(actions: str, key: str = KEY) -> Fate:
    return READER.fate(actions, key)


def told(actions: str) -> str:
    return str(fate(actions))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2,clone(set(ipv4(ttl=63)),3)", "2,set(ipv4(ttl=63)),3"),
        ("set(eth(src=02:00:00:00:00:09)),set(ipv4(ttl=63)),2", "set(ipv4(ttl=63)),set(eth(src=02:00:00:00:00:09)),2"),
        ("set(eth(src=02:00:00:00:00:09,dst=02:00:00:00:00:02)),2", "set(eth(src=02:00:00:00:00:09)),2"),
        ("set(ipv4(ttl=63)),2,set(ipv4(ttl=64)),3", "3,set(ipv4(ttl=63)),2"),
        ("2,3", "3,2"),
        ("drop", ""),
        ("drop", "drop:explicit"),
        ("push_vlan(vid=5,pcp=0),pop_vlan,2", "2"),
        ("set(tunnel(tun_id=0x5,flags(df|csum|key))),9", "set(tunnel(flags(key|df|csum),tun_id=0x5)),9"),
        ("ct_clear,2", "2"),
        ("ct(commit,zone=5,mark=0x77/0xffffffff,nat(src=1.2.3.4)),2", "ct(zone=5,commit,nat(src=1.2.3.4),mark=0x77),2"),
        ("ct(zone=1,timeout=ovs_tp_0_udp4),recirc(0x5)", "ct(zone=1,timeout=ovs_tp_7_udp4),recirc(0x1f)"),
        ("userspace(pid=4294967295,slow_path(controller))", "userspace(pid=123,slow_path(controller))"),
        (
            "userspace(pid=1,controller(reason=1,dont_send=0,continuation=0,recirc_id=7,rule_cookie=0,controller_id=0,max_len=9))",
            "userspace(pid=2,controller(reason=1,dont_send=1,continuation=0,recirc_id=9,rule_cookie=0,controller_id=0,max_len=9))",
        ),
        ("sample(sample=10.0%,actions(userspace(pid=1,sFlow(vid=0,pcp=0,output=3),actions))),2", "2"),
        ("userspace(pid=1,ipfix(output_port=2)),2", "2"),
        ("lb_output(1)", "lb_output(7)"),
    ],
)  # fmt: skip
def test_spelling_is_no_difference(one: str, other: str) -> None:
    assert fate(one).alike(fate(other)), (told(one), told(other))


@pytest.mark.parametrize(
    ("one", "other", "names"),
    [
        ("2", "3", ["p2:gone", "p3:new"]),
        ("2,2", "2", ["p2:gone"]),
        ("2", "drop", ["p2:gone"]),
        ("set(ipv4(ttl=63)),2", "2", ["p2:ipv4.ttl"]),
        ("clone(set(ipv4(ttl=63)),3),2", "set(ipv4(ttl=63)),3,2", ["p2:ipv4.ttl"]),
        ("set(ipv4(dst=10.0.0.0)),2", "2", ["p2:ipv4.dst"]),
        ("set(tunnel(tun_id=0x5,dst=10.1.1.1)),9", "set(tunnel(tun_id=0x6,dst=10.1.1.1)),9",
         ["vxlan_sys_4789:tunnel.tun_id"]),
        ("set(tunnel(tun_id=0x5)),set(tunnel(dst=10.1.1.1)),9", "set(tunnel(tun_id=0x5,dst=10.1.1.1)),9",
         ["vxlan_sys_4789:tunnel.tun_id"]),
        ("meter(0),2", "meter(1),2", ["p2:through"]),
        ("push_vlan(vid=5,pcp=0),2", "push_vlan(vid=6,pcp=0),2", ["p2:push_vlan"]),
        ("trunc(100),2,3", "2,3", ["p2:length"]),
        ("ct(zone=1),recirc(1)", "ct(zone=2),recirc(1)", None),
        ("ct(zone=1),recirc(1)", "recirc(1)", None),
        ("hash(l4(0)),recirc(1)", "hash(sym_l4(0)),recirc(1)", None),
        ("ct(nat(src=1.2.3.4)),2", "2,ct(nat(src=1.2.3.4))", ["p2:through"]),
        ("check_pkt_len(size=1500,gt(drop),le(2))", "check_pkt_len(size=1400,gt(drop),le(2))", ["p2:through"]),
        ("tnl_pop(9)", "9", ["tunnel-vxlan_sys_4789:gone", "vxlan_sys_4789:new"]),
        ("userspace(pid=1,slow_path(lacp))", "userspace(pid=1,slow_path(cfm))",
         ["userspace-slow_path-cfm:new", "userspace-slow_path-lacp:gone"]),
        ("sample(sample=10.0%,actions(2))", "sample(sample=20.0%,actions(2))", None),
        ("strange(1),2", "2", None),
    ],
)  # fmt: skip
def test_what_leaves_counts(one: str, other: str, names: list[str] | None) -> None:
    found = fate(one).differences(fate(other))
    assert found
    assert not fate(one).alike(fate(other))
    if names is not None:
        assert found == names


def test_a_fate_is_told_in_words() -> None:
    assert told("set(ipv4(ttl=63)),2,3") == "to p2 with ipv4.ttl=63; to p3 with ipv4.ttl=63"
    assert (
        told("ct(zone=5),recirc(0x1)")
        == "to conntrack with ct(zone=5); to next-stage with tracked by ct(zone=5)"
    )
    assert told("drop") == "dropped"


def test_a_meter_of_another_datapath_has_another_number() -> None:
    reader = Reader({}, meters_shared=False)
    assert reader.fate("meter(1),2").alike(reader.fate("meter(5),2"))
    assert not reader.fate("meter(1),2").alike(reader.fate("2"))


def test_what_goes_on_is_found_again_whatever_its_number() -> None:
    one = fate("clone(ct(zone=1),recirc(0x5)),ct(zone=2),recirc(0x6)")
    other = fate("ct(zone=2),recirc(0x1),ct(zone=1),recirc(0x2)")
    # The second list lets one packet through both; only what is alike is the same stage.
    assert one.aligned(other) == [(5, 2), (6, 1)]
    assert one.aligned(fate("ct(zone=2),recirc(0x9)")) == [(6, 9)]


def test_ports_that_are_not_there_yet() -> None:
    assert fate("2,3").without({"p3"}).alike(fate("2"))
    tunnelled = fate(
        "tnl_push(tnl_port(9),header(size=50,type=4,eth(dst=02:00:00:00:00:09),out_port(3)),out_port(3)),3"
    )
    assert tunnelled.needs({"p3"})
    assert not tunnelled.needs({"p1"})


# Lists of actions that are not spelled alike but mean the same.

SETS = st.sampled_from(
    [
        "ipv4(ttl=63)",
        "ipv4(src=1.1.1.1)",
        "eth(dst=02:00:00:00:00:07)",
        "eth(src=02:00:00:00:00:08)",
        "udp(dst=53)",
    ]
)
PORTS = st.sampled_from(["1", "2", "3"])
SIMPLE = st.one_of(
    PORTS, SETS.map(lambda text: f"set({text})"), st.sampled_from(["meter(1)", "trunc(64)", "ct(zone=3)"])
)
LISTS = st.recursive(
    st.lists(SIMPLE, max_size=6),
    lambda inner: st.lists(
        st.one_of(SIMPLE, inner.filter(bool).map(lambda each: f"clone({','.join(each)})")), max_size=6
    ),
    max_leaves=20,
)


@given(LISTS)
def test_split_loses_nothing(actions: list[str]) -> None:
    assert split(",".join(actions)) == actions


@given(LISTS, st.integers(0, 6))
def test_a_clone_around_the_last_actions_changes_nothing(actions: list[str], place: int) -> None:
    head, tail = actions[:place], actions[place:]
    cloned = [*head, f"clone({','.join(tail)})"] if tail else head
    assert fate(",".join(cloned)).alike(fate(",".join(actions)))


@given(LISTS, LISTS)
def test_what_a_clone_does_is_not_seen_after_it(inside: list[str], after: list[str]) -> None:
    both = fate(",".join([*([f"clone({','.join(inside)})"] if inside else []), *after]))
    apart = sorted([*fate(",".join(inside)).leavings, *fate(",".join(after)).leavings])
    assert list(both.leavings) == apart


@given(
    st.permutations(
        ["eth(src=02:00:00:00:00:08)", "eth(dst=02:00:00:00:00:07)", "ipv4(ttl=3)", "udp(dst=53)"]
    ),
    LISTS,
)
def test_the_order_of_sets_does_not_count(sets: list[str], after: list[str]) -> None:
    texts = [",".join([*(f"set({each})" for each in order), *after]) for order in (sets, sorted(sets))]
    assert fate(texts[0]).alike(fate(texts[1]))


@given(LISTS, PORTS)
def test_one_more_output_is_always_seen(actions: list[str], port: str) -> None:
    assert not fate(",".join(actions)).alike(fate(",".join([*actions, port])))


@given(LISTS, LISTS)
def test_names_tell_whether_something_differs(one: list[str], other: list[str]) -> None:
    was, now = fate(",".join(one)), fate(",".join(other))
    assert bool(was.differences(now)) == (not was.alike(now))


@given(st.text(alphabet="abc(){}[],=1/|", max_size=40))
def test_no_text_makes_it_fail(text: str) -> None:
    found: t.Any = fate(text)
    assert str(found)
