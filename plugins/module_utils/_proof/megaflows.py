# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Live megaflows as ``dpctl/dump-flows`` shows them, and how they lead to each other; pure.

A packet that goes through ``ct()`` or a group's hash comes back to the datapath with a recirculation number: its way is a
chain of megaflows, the first of them with ``recirc_id(0)``.  The numbers are those of one process.
"""

from __future__ import annotations

import collections
import dataclasses
import re
import typing as t

# A proof that covers a smaller part of the packets says so; percent.
ENOUGH = 95.0

_PACKETS = re.compile(r", packets:(\d+)")
_FURTHER = re.compile(r"\brecirc\((0x[0-9a-f]+|\d+)\)")
_NUMBER = re.compile(r"\brecirc_id\((0x[0-9a-f]+|\d+)\)")
_IN_PORT = re.compile(r"\bin_port\(([^)]*)\)")
_HASH = re.compile(r"\bdp_hash\([^)]*\)")
_TRACKED = re.compile(r"\bct[(,]")
_ETHERNET = "packet_type(ns=0,id=0)"


@dataclasses.dataclass(frozen=True, eq=False)
class Megaflow:
    """``key`` is the match in the syntax that ``ofproto/trace`` reads, ``actions`` what the datapath does now.

    Each is itself only: threads of the userspace datapath have equal ones.
    """

    key: str
    actions: str
    packets: int

    @property
    def number(self) -> int:
        """The recirculation that brings packets here; 0 for packets as they come in."""
        found = _NUMBER.search(self.key)
        return int(found[1], 0) if found else 0

    @property
    def further(self) -> tuple[int, ...]:
        """The recirculations that packets go on to."""
        return tuple(int(number, 0) for number in _FURTHER.findall(self.actions))

    @property
    def in_port(self) -> str:
        """The number of the datapath port by which packets come in."""
        found = _IN_PORT.search(self.key)
        return found[1] if found else ""

    @property
    def ends_tunnel(self) -> bool:
        """Whether packets come out of a tunnel in userspace: by way of a bridge's own port, which has the address."""
        return "tnl_pop(" in self.actions


@dataclasses.dataclass(frozen=True)
class Amount:
    """So many megaflows, with so many packets."""

    megaflows: int = 0
    packets: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.megaflows + other.megaflows, self.packets + other.packets)

    @classmethod
    def of(cls, flows: t.Iterable[Megaflow]) -> Amount:
        """Of these ``flows``."""
        return sum((cls(1, flow.packets) for flow in flows), cls())

    def share(self, whole: Amount) -> float:
        """How many percent of the packets of the ``whole``, or of its megaflows where no packet was counted."""
        part, all_of = (self.packets, whole.packets) if whole.packets else (self.megaflows, whole.megaflows)
        # Rounded down: 100.0 are all of them.
        return part * 1000 // all_of / 10 if all_of else 0.0


@dataclasses.dataclass(frozen=True)
class Survey:
    """Of the ``whole`` live traffic so much is ``traceable`` through a new process beside the old one."""

    whole: Amount
    traceable: Amount

    @property
    def share(self) -> float:
        """Percent of the packets."""
        return self.traceable.share(self.whole)

    @property
    def text(self) -> str:
        """In words."""
        if not self.whole.megaflows:
            return "there is no live megaflow, so nothing can be proved: start again under traffic"
        return (
            f"{self.traceable.megaflows} of {self.whole.megaflows} live megaflows, with {self.share:g} % of their packets, "
            "can be traced through both versions"
        )


def survey(dump: str, closed: t.Container[str]) -> Survey:
    """What a proof could cover now; ports with the numbers ``closed`` are not in the new process before the switch-over."""
    flows = parse(dump)
    traceable = (flow for flow in connected(flows) if flow.in_port not in closed and not flow.ends_tunnel)
    return Survey(Amount.of(flows), Amount.of(traceable))


def parse(dump: str) -> list[Megaflow]:
    """The megaflows in the output of ``dpctl/dump-flows --no-names``."""
    return [_parsed(line.strip()) for line in dump.splitlines() if "in_port(" in line]


def _parsed(line: str) -> Megaflow:
    match, __, rest = line.partition(", packets:")
    if match.startswith("ufid:"):
        match = match.partition(", ")[2]
    packets = _PACKETS.search(line)
    return Megaflow(
        _readable(match.strip()), rest.partition("actions:")[2], int(packets[1]) if packets else 0
    )


def _readable(match: str) -> str:
    """A match that ``ofproto/trace`` takes for an Ethernet packet: the userspace datapath leaves a wildcarded eth() out."""
    if _ETHERNET not in match:
        return match
    without = match.replace(f"{_ETHERNET},", "").replace(f",{_ETHERNET}", "")
    return without if "eth(" in without else match.replace(_ETHERNET, "eth()")


def placed(key: str, number: int, in_port: str) -> str:
    """``key`` with the numbers of another process."""
    return _IN_PORT.sub(f"in_port({in_port})", _NUMBER.sub(f"recirc_id({number:#x})", key))


def hashed(key: str, value: int) -> str:
    """``key`` for a packet with that hash."""
    return _HASH.sub(f"dp_hash({value:#x})", key)


def sample(flows: t.Sequence[Megaflow], most: int) -> list[Megaflow]:
    """About ``most`` of ``flows``, in their order: those with the most packets, others spread evenly, and what leads there."""
    if len(flows) <= most:
        return list(flows)
    order = sorted(range(len(flows)), key=lambda place: -flows[place].packets)
    heavy, light = order[: most - most // 2], sorted(order[most - most // 2 :])
    spread = [light[index * len(light) // (most // 2)] for index in range(most // 2)]
    taken = {*heavy, *spread}
    leading: dict[int, int] = {}
    for place in reversed(order):
        leading.update(dict.fromkeys(flows[place].further, place))
    for place in [*heavy, *spread]:
        while flows[place].number and (before := leading.get(flows[place].number)) is not None:
            if before in taken:
                break
            taken.add(before)
            place = before
    return [flows[place] for place in sorted(taken)]


def connected(flows: t.Sequence[Megaflow]) -> list[Megaflow]:
    """Those to which a chain of others leads from ``recirc_id(0)``."""
    by_number: dict[int, list[Megaflow]] = collections.defaultdict(list)
    for flow in flows:
        by_number[flow.number].append(flow)
    found, waiting, seen = [], [0], {0}
    while waiting:
        for flow in by_number[waiting.pop()]:
            found.append(flow)
            fresh = {*flow.further} - seen
            waiting += fresh
            seen |= fresh
    return found


def circling(flows: t.Sequence[Megaflow]) -> set[Megaflow]:
    """Those that lead to a circle of recirculations: a trace through them has no end in old versions (``proof.traces_end``)."""
    leads: dict[int, set[int]] = collections.defaultdict(set)
    for flow in flows:
        leads[flow.number].update(flow.further)
    ends: set[int] = set()
    waiting = {number for flow in flows for number in (flow.number, *flow.further)}
    while fresh := {number for number in waiting if leads[number] <= ends}:
        ends |= fresh
        waiting -= fresh
    return {flow for flow in flows if not ends.issuperset(flow.further)}


def guessed(flows: t.Sequence[Megaflow]) -> set[Megaflow]:
    """Those behind which a trace guesses what a connection is, so that it may go elsewhere than the packets, and in a circle."""
    known = {flow.number for flow in flows}
    found: set[Megaflow] = set()
    numbers: set[int] = set()
    while fresh := {
        flow
        for flow in flows
        if flow not in found
        and flow.further
        and (_TRACKED.search(flow.actions) or not known.issuperset(flow.further) or numbers & {*flow.further})
    }:
        found |= fresh
        numbers |= {flow.number for flow in fresh}
    return found


def likeness(one: Megaflow, other: Megaflow) -> int:
    """How much two megaflows have in common: the same packet went through both more likely the more it is."""
    return len({*one.key.split(",")} & {*other.key.split(",")})
