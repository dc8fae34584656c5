# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two fake processes that answer as ovs-vswitchd 3.5 and 4.0 do."""

from __future__ import annotations

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._errors import HotUpgradeError, Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof import (
    KERNEL,
    USERSPACE,
    Trace,
    actions,
    megaflows,
    prove,
    sample,
)

UDP = "recirc_id(0),in_port(3),eth(),eth_type(0x0800),ipv4(dst=10.0.0.2,proto=17,frag=no),udp(dst=10002)"
ARP = "recirc_id(0),in_port(4),eth(),eth_type(0x0806)"
AFTER_CT = "recirc_id(0x2),in_port(3),ct_state(+est),eth(),eth_type(0x0800),ipv4(frag=no)"
DUMP = "".join(f"{flow}, packets:0, bytes:0, used:never, actions:4\n" for flow in (UDP, AFTER_CT, ARP))


def process(answers: dict[str, str]) -> Trace:
    def call(command: str, *args: str) -> str:
        if command == "dpctl/dump-flows":
            return DUMP
        assert (command, args[0]) == ("ofproto/trace", "ovs-system")
        if args[1] not in answers:
            raise HotUpgradeError("refused the command ofproto/trace", "syntax error")
        return f'bridge("br0")\n 0. priority 1\n\nDatapath actions: {answers[args[1]]}\n'

    return call


def test_alike() -> None:
    both = process({UDP: "meter(0),4", ARP: "drop"})
    proof = prove(both, both, KERNEL, 100)
    assert (proof.megaflows, proof.traced, proof.skipped, proof.different, proof.differences) == (
        3,
        2,
        1,
        0,
        (),
    )


def test_a_difference_is_told_as_text() -> None:
    proof = prove(process({UDP: "4", ARP: "3"}), process({UDP: "drop", ARP: "3"}), KERNEL, 100)
    assert proof.different == 1
    assert proof.differences == (f"{UDP}: the old version does 4, the new one drop",)


def test_a_flow_that_only_the_new_version_cannot_translate_is_a_difference() -> None:
    proof = prove(process({UDP: "4", ARP: "3"}), process({ARP: "3"}), KERNEL, 100)
    assert proof.different == 1


def test_a_flow_that_the_old_version_cannot_read_back_proves_nothing() -> None:
    proof = prove(process({ARP: "3"}), process({UDP: "4", ARP: "3"}), KERNEL, 100)
    assert (proof.traced, proof.skipped, proof.different) == (1, 2, 0)


def test_a_dead_process_is_no_difference() -> None:
    def dead(command: str, *args: str) -> str:
        raise Unreachable("gone")

    with pytest.raises(Unreachable):
        prove(process({UDP: "4", ARP: "3"}), dead, KERNEL, 100)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ct(commit,zone=1),recirc(0x5)", "ct(commit,zone=1),recirc(0x1f)"),
        ("userspace(pid=4294967295,slow_path(controller))", "userspace(pid=123,slow_path(controller))"),
        (
            "userspace(pid=1,controller(reason=1,dont_send=0,continuation=0,recirc_id=7,rule_cookie=0))",
            "userspace(pid=2,controller(reason=1,dont_send=0,continuation=0,recirc_id=9,rule_cookie=0))",
        ),
    ],
)
def test_numbers_of_the_process_do_not_count(one: str, other: str) -> None:
    assert actions(f"Datapath actions: {one}\n") == actions(f"Datapath actions: {other}\n")


def test_meters_count() -> None:
    assert actions("Datapath actions: meter(0),4") != actions("Datapath actions: meter(1),4")


def test_ports_of_two_datapaths_are_compared_by_name() -> None:
    def side(ports: dict[int, str], answers: dict[str, str]) -> Trace:
        def call(command: str, *args: str) -> str:
            if command == "dpctl/show":
                lines = "".join(f"  port {number}: {name} (tap)\n" for number, name in ports.items())
                return f"netdev@ovs-netdev:\n  flows: 2\n{lines}"
            if command == "dpctl/dump-flows":
                return DUMP
            assert args[0] == "ovs-netdev"
            return f"Datapath actions: {answers[args[1]]}\n"

        return call

    old = side({3: "p1", 4: "p2", 5: "br0"}, {UDP: "meter(0),set(ipv4(ttl=4)),4,clone(3)", ARP: "5,3"})
    numbered = UDP.replace("in_port(3)", "in_port(1)")
    good = side({1: "p1", 2: "p2"}, {numbered: "meter(7),set(ipv4(ttl=4)),2,clone(1)"})
    proof = prove(old, good, USERSPACE, 100)
    # The internal port br0 cannot be there beside the old process; what goes to it is not compared.
    assert (proof.traced, proof.skipped, proof.different) == (1, 2, 0)
    bad = side({1: "p1", 2: "p2"}, {numbered: "meter(7),set(ipv4(ttl=4)),1,clone(1)"})
    assert prove(old, bad, USERSPACE, 100).different == 1
    elsewhere = side({1: "other", 2: "p2"}, {})
    assert prove(old, elsewhere, USERSPACE, 100).traced == 0


def test_the_unique_id_of_a_flow_is_not_traced() -> None:
    assert megaflows("ufid:577f6fe5-112a-4ec4, recirc_id(0),in_port(3), packets:0, bytes:0") == [
        "recirc_id(0),in_port(3)"
    ]
    assert megaflows("flow-dump from the main thread:\n") == []


@pytest.mark.parametrize(("count", "most", "expected"), [(3, 10, 3), (100, 10, 10), (0, 5, 0), (7, 3, 3)])
def test_a_sample_is_spread_evenly(count: int, most: int, expected: int) -> None:
    flows = [str(number) for number in range(count)]
    taken = sample(flows, most)
    assert len(taken) == expected
    assert taken == sorted(taken, key=int)
    if count > most:
        steps = [int(b) - int(a) for a, b in zip(taken, taken[1:])]
        assert max(steps) - min(steps) <= 1
