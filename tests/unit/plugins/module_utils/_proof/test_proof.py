# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two fake processes that answer as ovs-vswitchd does: with ports and recirculation numbers of their own, which they forget."""

from __future__ import annotations

import dataclasses
import itertools
import re
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof.proof import (
    CIRCLE,
    GONE,
    KERNEL,
    NO_WAY,
    NOT_SAMPLED,
    NOT_YET,
    USERSPACE,
    Difference,
    Moved,
    Proof,
    Wish,
    actions,
    metered,
    prove,
    survey,
    traces_end,
)

# A rule: what a key must contain (in any order), and the actions; NEXT is the recirculation to that stage.
Rule = tuple[str, str, str]
UDP = "in_port(3),eth(),eth_type(0x0800),ipv4(dst=10.0.0.2,proto=17,frag=no),udp(dst=10002)"
ARP = "in_port(4),eth(),eth_type(0x0806)"
TRACKED = f"ct_state(+est),{UDP}"
NEXT = re.compile(r"NEXT\((\w+)\)")
ALL = Wish(1000)


@dataclasses.dataclass
class Process:
    """``rules``: stage, a part of the key, actions; ``live``: stage and key of the megaflows; what the dump says of them."""

    rules: t.Sequence[Rule]
    live: t.Sequence[tuple[str, str, int]] = ()
    ports: t.Mapping[int, str] = dataclasses.field(default_factory=lambda: {3: "p1", 4: "p2", 5: "p3"})
    remembers: int = 1000
    mask: int = 0xFF
    version: str = "3.5.0"
    asked: list[str] = dataclasses.field(default_factory=list)
    stages: dict[int, str] = dataclasses.field(default_factory=lambda: {0: "first"})
    hashes: list[int] = dataclasses.field(default_factory=lambda: [0])
    numbers: t.Iterator[int] = dataclasses.field(default_factory=lambda: itertools.count(7))

    def __call__(self, command: str, *args: str) -> str:
        if command == "dpctl/show":
            return "".join(f"  port {number}: {name} (tap)\n" for number, name in self.ports.items())
        if command == "dpctl/dump-flows":
            return self.dump()
        if command == "version":
            return f"ovs-vswitchd (Open vSwitch) {self.version}\n"
        assert command == "ofproto/trace"
        self.asked.append(args[1])
        return self.trace(args[1])

    def dump(self) -> str:
        stages = [
            "first",
            *(each[0] for each in self.live),
            *(stage for rule in self.rules for stage in NEXT.findall(rule[2])),
        ]
        ids = {name: number for number, name in enumerate(dict.fromkeys(stages))}
        self.stages = {number: name for name, number in ids.items()}
        self.numbers = itertools.count(0x100)
        lines = []
        for stage, key, packets in self.live:
            text = NEXT.sub(lambda found: f"recirc({ids[found[1]]:#x})", self.does(stage, key))
            lines.append(
                f"recirc_id({ids[stage]:#x}),{key}, packets:{packets}, bytes:0, used:never, actions:{text}\n"
            )
        return "".join(lines)

    def does(self, stage: str, key: str) -> str:
        for where, part, text in self.rules:
            if where == stage and part in key:
                return text
        raise HotUpgradeError("refused the command ofproto/trace", "syntax error")

    def trace(self, key: str) -> str:
        found = re.search(r"recirc_id\((0x[0-9a-f]+|0)\),(.*)", key)
        assert found
        number = int(found[1], 0)
        if number not in self.stages:
            raise HotUpgradeError("refused", f"no recirculation data for recirc_id {number}")
        text = self.does(self.stages[number], found[2])
        self.hashes += [int(value, 16) for value in re.findall(r"dp_hash\(0x([0-9a-f]+)\)", key)]

        def allocated(stage: re.Match[str]) -> str:
            for old in [n for n in self.stages if n and len(self.stages) > self.remembers]:
                del self.stages[old]
            fresh = next(self.numbers)
            self.stages[fresh] = stage[1]
            return f"recirc({fresh:#x})"

        text = NEXT.sub(allocated, text)
        looked = f"dp_hash=0x1/{self.mask:#x},eth" if "dp_hash(" in key else "eth"
        flow = f"Megaflow: recirc_id=0x1,{looked}\nDatapath actions: {text}"
        return f'bridge("br0")\n 0. group:5\n\n{flow}\n\nDatapath actions: guessed\n'


def pair(
    old: t.Sequence[Rule], new: t.Sequence[Rule], *live: tuple[str, str, int], **settings: t.Any
) -> Proof:
    return prove(Process(old, live), Process(new, **settings), KERNEL, ALL)


CT: list[Rule] = [
    ("first", UDP, "ct(zone=5),NEXT(second)"),
    ("first", ARP, "3"),
    ("second", "+est", "ct(zone=6),NEXT(third)"),
    ("second", "+new", "ct(commit,zone=5),4"),
    ("third", "+est", "set(ipv4(ttl=63)),4"),
]
NEW = f"ct_state(+new),{UDP}"
LIVE = [
    ("first", UDP, 100),
    ("first", ARP, 2),
    ("second", TRACKED, 90),
    ("second", NEW, 5),
    ("third", TRACKED, 90),
]


def test_a_whole_pipeline_is_traced_though_both_number_recirculations_by_themselves() -> None:
    proof = pair(CT, CT, *LIVE)
    assert (proof.megaflows, proof.traced, proof.covered, proof.different, proof.skipped) == (
        5,
        5,
        100.0,
        0,
        {},
    )


def test_a_difference_behind_two_recirculations_is_seen() -> None:
    changed = [*CT[:-1], ("third", "+est", "4")]
    proof = pair(CT, changed, *LIVE)
    assert proof.different == 1
    [difference] = proof.differences
    assert (difference.name, difference.megaflows, difference.packets) == ("p1>p2:ipv4.ttl", 1, 90)
    assert "in_port(p1)" in difference.example
    assert "the old version: to p2 with ipv4.ttl=63; the new one: to p2" in difference.example


def test_numbers_that_the_new_process_forgets_are_asked_for_again() -> None:
    proof = pair(CT, CT, *LIVE, remembers=1)
    assert (proof.traced, proof.different) == (5, 0)
    assert pair(CT, [*CT[:-1], ("third", "+est", "4")], *LIVE, remembers=1).different == 1


def test_every_way_to_a_stage_is_gone_once() -> None:
    """The first megaflow leads elsewhere in the new process: the live flow behind both looks right from the other one."""
    other = UDP.replace("10.0.0.2", "10.0.0.3")
    both: list[Rule] = [
        ("first", "eth", "ct(zone=5),NEXT(second)"),
        ("second", "+est", "4"),
        ("wrong", "+est", "5"),
    ]
    wrong: list[Rule] = [("first", "10.0.0.3", "ct(zone=5),NEXT(wrong)"), *both]
    live = [("first", UDP, 9), ("first", other, 9), ("second", TRACKED, 18)]
    assert pair(both, both, *live).different == 0
    assert pair(both, wrong, *live).different == 1


def test_what_nothing_leads_to_is_not_covered_and_said() -> None:
    proof = pair(CT, CT, LIVE[1], LIVE[4], ("second", TRACKED, 900))
    assert (proof.traced, proof.skipped) == (1, {NO_WAY: 2})
    assert proof.covered == 0.2
    assert "1 of 3 live megaflows, with 0.2 % of their packets" in proof.text
    assert NO_WAY in proof.text


def test_a_proof_of_nothing_says_so() -> None:
    assert "nothing is proved" in pair(CT, CT).text


def test_a_flow_that_only_the_new_version_cannot_translate_is_a_difference() -> None:
    proof = pair(CT, CT[:1], *LIVE[:2])
    assert [difference.name for difference in proof.differences] == ["p2>refused"]
    assert "syntax error" in proof.differences[0].example


def test_a_flow_that_the_old_version_cannot_read_back_proves_nothing() -> None:
    old = Process(CT, LIVE[:2])
    dumped = old.dump()
    old.rules = CT[1:]
    proof = prove(
        lambda command, *args: dumped if command == "dpctl/dump-flows" else old(command, *args),
        Process(CT),
        KERNEL,
        ALL,
    )
    assert (proof.traced, proof.skipped, proof.different) == (1, {GONE: 1}, 0)


def test_a_dead_process_is_no_difference() -> None:
    def dead(command: str, *args: str) -> str:
        if command == "ofproto/trace":
            raise Unreachable("gone")
        return ""

    with pytest.raises(Unreachable):
        prove(Process(CT, LIVE), lambda c, *a: dead(c, *a) or "  port 3: p1\n  port 4: p2\n", KERNEL, ALL)


def test_what_goes_round_in_a_circle_is_not_traced() -> None:
    """Before 3.4 the trace would not end."""
    circle: list[Rule] = [
        ("first", UDP, "ct,NEXT(first2)"),
        ("first2", UDP, "ct,NEXT(first2)"),
        ("first", ARP, "3"),
    ]
    old = Process(circle, [("first", UDP, 5), ("first2", UDP, 5), ("first", ARP, 1)])
    proof = prove(old, Process(circle), KERNEL, ALL)
    assert (proof.traced, proof.skipped) == (1, {CIRCLE: 2})


def test_a_circle_is_seen_when_a_part_of_it_is_not_to_be_traced() -> None:
    circle: list[Rule] = [("first", "eth", "ct,NEXT(round)"), ("round", "eth", "ct,NEXT(round)")]
    old = Process(circle, [("first", UDP, 9), ("first", ARP, 8), ("round", UDP, 1)])
    proof = prove(old, Process(circle), KERNEL, Wish(2))
    assert (proof.traced, proof.skipped, old.asked) == (0, {CIRCLE: 2, NOT_SAMPLED: 1}, [])


@pytest.mark.parametrize(("old", "new"), [("3.1.0", "3.5.0"), ("2.15.0", "3.1.0"), ("3.5.0", "3.1.0")])
def test_nobody_without_an_end_of_traces_is_asked_what_the_other_one_has_found_to_be_a_circle(
    old: str, new: str
) -> None:
    """Translated addresses end it for the packets; the trace goes on with a connection that has none (3.1.0 never answers)."""
    rules: list[Rule] = [("first", UDP, "ct(nat),NEXT(first)"), ("first", ARP, "3")]
    one, other = Process(rules, LIVE[:2], version=old), Process(rules, version=new)
    ending, endless = (one, other) if old == "3.5.0" else (other, one)

    def goes_round(command: str, *args: str) -> str:
        limit = "\nTrace reached the recirculation limit.  Sopping the trace here."
        return ending(command, *args) + limit * (command == "ofproto/trace" and UDP in args[1])

    sides = [goes_round if each is ending else each for each in (one, other)]
    proof = prove(sides[0], sides[1], KERNEL, ALL)
    assert (proof.traced, proof.skipped) == (1, {CIRCLE: 1})
    assert [UDP in key for key in endless.asked] == [False]


def test_what_the_new_process_does_not_tell_is_no_question_for_one_that_may_never_answer() -> None:
    """That it refuses is said all the same; what the old one does is seen in the megaflow."""
    rules: list[Rule] = [("first", UDP, "ct(nat),NEXT(second)"), ("first", ARP, "3"), ("second", UDP, "4")]
    old, new = Process(rules, LIVE[:2], version="3.1.0"), Process(rules[1:], version="3.5.0")
    proof = prove(old, new, KERNEL, ALL)
    assert [UDP in key for key in old.asked] == [False]
    assert [difference for difference in proof.differences if "cannot translate" in str(difference)]


@pytest.mark.parametrize(("version", "ends"), [
    ("2.15.0", False), ("2.17.9", False), ("2.17.10", True), ("3.1.4", False), ("3.1.10", True), ("3.3.0", False),
    ("3.3.1", True), ("3.4.0", True), ("4.0.0", True), ("", False),
])  # fmt: skip
def test_which_versions_end_a_trace(version: str, ends: bool) -> None:
    assert traces_end(f"ovs-vswitchd (Open vSwitch) {version}") is ends


def test_only_what_was_asked_for_is_traced() -> None:
    proof = prove(Process(CT, LIVE), Process(CT), KERNEL, Wish(2))
    assert 2 <= proof.traced < 5
    assert proof.skipped[NOT_SAMPLED] == 5 - proof.traced


def test_ports_of_two_datapaths_are_compared_by_name() -> None:
    """The internal port br0 cannot be there beside the old process: what goes to it as well is compared without it."""
    old: list[Rule] = [
        ("first", UDP, "meter(0),set(ipv4(ttl=4)),4,clone(3)"),
        ("first", ARP, "5,3"),
        ("first", "in_port(5)", "3"),
    ]
    live = [("first", UDP, 8), ("first", ARP, 1), ("first", UDP.replace("in_port(3)", "in_port(5)"), 1)]
    ports = {3: "p1", 4: "p2", 5: "br0"}

    def against(new: list[Rule]) -> Proof:
        return prove(Process(old, live, ports), Process(new, ports={1: "p1", 2: "p2"}), USERSPACE, ALL)

    arp: Rule = ("first", ARP.replace("in_port(4)", "in_port(2)"), "1")
    good = against([("first", "in_port(1)", "meter(7),set(ipv4(ttl=4)),2,clone(1)"), arp])
    assert (good.traced, good.skipped, good.different) == (2, {NOT_YET: 1}, 0)
    bad = against([("first", "in_port(1)", "meter(7),set(ipv4(ttl=4)),1,clone(1)"), arp])
    assert [difference.name for difference in bad.differences] == ["p1>p1:new", "p1>p2:gone"]


def test_the_end_of_a_tunnel_in_userspace_comes_with_the_bridges_own_port() -> None:
    """Which has the address; what came out of the tunnel is compared."""
    inner = f"tunnel(tun_id=0x1),{ARP}"
    live = [("first", UDP, 8), ("first", inner, 8)]
    old = Process(
        [("first", UDP, "tnl_pop(4)"), ("first", ARP, "3")], live, {3: "p1", 4: "genev_sys_6081", 5: "br0"}
    )

    def against(answer: str, *late: str) -> Proof:
        ports = {1: "p1", 2: "genev_sys_6081", **dict(enumerate(late, 3))}
        new = Process([("first", "in_port(1)", "drop"), ("first", "in_port(2)", answer)], ports=ports)
        return prove(old, new, USERSPACE, ALL)

    good = against("1")
    assert (good.traced, good.skipped, good.different) == (1, {NOT_YET: 1}, 0)
    assert [each.name for each in against("2").differences] == [
        "genev_sys_6081>genev_sys_6081:new",
        "genev_sys_6081>p1:gone",
    ]
    assert [each.name for each in against("1", "br0").differences] == ["p1>tunnel-genev_sys_6081:gone"]
    assert survey(old, USERSPACE, {"br0"}).traceable.megaflows == 1


def hashing(slots: int) -> list[Rule]:
    """A group with two buckets, over so many slots; the fake looks at the last digits of the hash."""
    rules: list[Rule] = [("first", UDP, "hash(l4(0)),NEXT(bucket)")]
    return [*rules, *(("bucket", f"dp_hash({value:#x})", str(3 + value % slots % 2)) for value in range(1, 257)),
            ("bucket", "dp_hash(0x3/0x1)", "4")]  # fmt: skip


def test_a_group_that_spreads_differently_moves_connections_but_is_no_difference() -> None:
    live = [("first", UDP, 10), ("bucket", f"dp_hash(0x3/0x1),{UDP}", 10)]
    same = pair(hashing(2), hashing(2), *live)
    assert (same.different, same.moved) == (0, ())
    moved = pair(hashing(2), hashing(3), *live)
    assert moved.different == 0
    [group] = moved.moved
    assert (group.group, group.hashes) == ("group 5 of bridge br0", 256)
    assert group.moved == sum(h % 2 != h % 3 % 2 for h in range(1, 257))
    # Only the values that either of them tells apart are traced.
    old, new = Process(hashing(2), live, mask=0x1), Process(hashing(4), mask=0x3)
    assert prove(old, new, KERNEL, ALL).moved == ()
    assert max(old.hashes) == 4
    other = [("bucket", "dp_hash", "5") if rule[0] == "bucket" else rule for rule in hashing(2)]
    assert pair(hashing(2), other, *live).different == 1


def test_members_of_a_bond_are_one_place() -> None:
    old, new = [("first", ARP, "3")], [("first", ARP, "5")]
    assert pair(old, new, LIVE[1]).different == 1
    wish = Wish(1000, bonds={"p1": "bond0", "p3": "bond0"})
    assert prove(Process(old, LIVE[1:2]), Process(new), KERNEL, wish).different == 0


@pytest.mark.parametrize(("accept", "different", "accepted"), [
    ((), 1, 0), (("p2>p1:gone",), 1, 0), (("p2>p1:gone", "p2>p3:new"), 0, 1), (("*>p?:*",), 0, 1),
])  # fmt: skip
def test_what_is_accepted_by_name_does_not_count(
    accept: tuple[str, ...], different: int, accepted: int
) -> None:
    proof = prove(
        Process([("first", ARP, "3")], LIVE[1:2]), Process([("first", ARP, "5")]), KERNEL, Wish(9, accept)
    )
    assert (proof.different, proof.accepted) == (different, accepted)
    told = "1 would be forwarded differently" + (", 1 of them as accepted" if accepted else "")
    assert proof.text.endswith(told)
    assert len(proof.differences) == 2


def test_a_refusal_names_the_differences_the_log_and_the_ways_to_go_on() -> None:
    proof = prove(Process([("first", ARP, "3")], LIVE[1:2]), Process([("first", ARP, "5")]), KERNEL, ALL)
    with pytest.raises(HotUpgradeError) as caught:
        proof.require("no such table")
    text = str(caught.value)
    for part in (
        "1 of 1 live megaflows",
        "p2>p1:gone",
        "to p1",
        "no such table",
        "hot_upgrade_accept",
        "hot_upgrade_prove",
    ):
        assert part in text
    prove(Process(CT, LIVE), Process(CT), KERNEL, ALL).require("")


def test_a_report_is_json_with_the_text() -> None:
    report = pair(CT, [*CT[:-1], ("third", "+est", "4")], *LIVE).report()
    assert report["differences"][0]["name"] == "p1>p2:ipv4.ttl"
    assert report["text"].startswith("5 of 5 live megaflows")
    assert dataclasses.asdict(Moved("group 5", 256, 3)) == {"group": "group 5", "hashes": 256, "moved": 3}
    assert Difference("a", 1, 2, "x").packets == 2


def test_only_the_first_stage_of_a_trace_counts() -> None:
    assert actions("Datapath actions: ct,recirc(0x1)\n\nDatapath actions: drop\n") == "ct,recirc(0x1)"
    with pytest.raises(HotUpgradeError):
        actions("nothing")


def test_what_a_plan_can_know_beforehand() -> None:
    old = Process(CT, [*LIVE, ("first", "in_port(6),eth()", 803)], {3: "p1", 4: "a b", 6: "in side"})
    shown = "  port 3: p1\n  port 4: a b (vxlan: packet_type=ptap)\n  port 6: in side (tap)\n"

    def call(command: str, *args: str) -> str:
        return shown if command == "dpctl/show" else old.dump()

    old.rules = [*CT, ("first", "in_port(6)", "3")]
    found = survey(call, USERSPACE, {"in side"})
    assert (found.whole.megaflows, found.traceable.megaflows, found.share) == (6, 5, 26.3)
    assert survey(call, KERNEL, {"in side"}).share == 100.0
    assert survey(call, USERSPACE, {"a b"}).traceable.megaflows == 5


def test_meters_are_looked_for_in_the_first_stage_first() -> None:
    dump = Process(
        [("ct", UDP, "meter(1),4"), ("first", UDP, "meter(0),4"), ("first", ARP, "3")],
        [("ct", UDP, 1), *LIVE[:2]],
    ).dump()
    assert [flow.actions for flow in metered(dump, ends=False)] == ["meter(0),4", "meter(1),4"]


@pytest.mark.parametrize(("rules", "asked"), [
    ([("first", UDP, "meter(0),ct,NEXT(second)"), ("second", UDP, "4")], 0),
    ([("first", UDP, "meter(0),hash(l4(0)),NEXT(second)"), ("second", UDP, "4")], 1),
    ([("first", UDP, "meter(0),hash(l4(0)),NEXT(second)"), ("second", UDP, "ct(commit),NEXT(third)"), ("third", UDP, "4")], 0),
    ([("first", UDP, "meter(0),hash(l4(0)),NEXT(second)"), ("second", UDP, "ct(commit),4")], 1),
    ([("first", UDP, "meter(0),hash(l4(0)),NEXT(gone)")], 0),
])  # fmt: skip
def test_a_meter_before_connections_are_tracked_is_asked_for_only_where_each_trace_ends(
    rules: list[Rule], asked: int
) -> None:
    dump = Process(rules, [(stage, UDP, 1) for stage, __, __ in rules]).dump()
    assert [len(metered(dump, ends)) for ends in (True, False)] == [1, asked]
