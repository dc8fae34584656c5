# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the bypass leaves in the kernel at each moment, what it leaves alone, and how much it says that it covers."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import struct
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import bypass, namespaces
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import traffic_control as tc
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.bypass import Coverage
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.translation import (
    ORDINARY,
    Filter,
    Left,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import KernelFlow, Vport
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import netlink
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    Refusal,
    attribute,
    joined,
)

GET_LINK = 18
PORTS = [Vport(0, 2, "ovs-system", 4), Vport(1, 2, "br0", 5), Vport(2, 1, "p1", 6), Vport(3, 1, "p2", 7)]
Json = dict[str, t.Any]


@dataclasses.dataclass(order=True)
class Entry:
    """A filter: where it is, its kind, and its whole message."""

    chain: int
    order: int
    kind: bytes
    body: bytes


EGRESS = 0xFFFFFFF3


def parent_of(entry: Entry) -> int:
    return int(tc.TCMSG.unpack_from(entry.body)[3])


class Kernel:
    """Devices 6 and 7 with their qdiscs and filters; refuses what is in ``refuses`` (device, kind of message or of filter)."""

    def __init__(self) -> None:
        self.qdiscs: dict[int, bytes] = {}
        self.filters: dict[int, list[Entry]] = {6: [], 7: []}
        self.promiscuous = {5: False, 6: False, 7: False}
        self.refuses: set[tuple[int, t.Any]] = set()
        self.refusal = errno.ENOTSUP

    def transact(self, batches: t.Sequence[bytes]) -> list[Refusal]:
        refused = []
        for kind, flags, number, body in (part for batch in batches for part in netlink.parts(batch)):
            code = self._change(kind, flags, body)
            if code:
                refused.append(Refusal(number - 1, code, ""))
        return refused

    def _change(self, kind: int, flags: int, body: bytes) -> int:
        if kind == tc.NEW_LINK:
            __, __, device, value, change = tc.IFINFO.unpack_from(body)
            assert change == tc.PROMISCUOUS
            self.promiscuous[device] = bool(value)
            return 0
        __, device, __, parent, info = tc.TCMSG.unpack_from(body)
        found = netlink.attributes(body, tc.TCMSG.size)
        name = found.get(1, b"").rstrip(b"\0")
        if {(device, kind), (device, name)} & self.refuses:
            return self.refusal
        if kind in (tc.NEW_QDISC, tc.DELETE_QDISC):
            return self._qdisc(kind, device, name)
        if device not in self.qdiscs:
            return errno.EINVAL
        chain, order = struct.unpack("=I", found[11])[0], info >> 16
        if kind == tc.NEW_FILTER:
            assert flags & netlink.EXCLUSIVE
            if body in [each.body for each in self.filters[device]]:
                return errno.EEXIST
            self.filters[device].append(Entry(chain, order, name, body))
            return 0
        kept = [each for each in self.filters[device] if each.chain != chain or order not in (0, each.order)]
        gone = len(kept) < len(self.filters[device])
        self.filters[device] = kept
        return 0 if gone else errno.ENOENT

    def _qdisc(self, kind: int, device: int, name: bytes) -> int:
        if (kind == tc.NEW_QDISC) == (device in self.qdiscs):
            return errno.EEXIST
        if kind == tc.NEW_QDISC:
            self.qdiscs[device] = name
        else:
            del self.qdiscs[device]
            self.filters[device] = []
        return 0

    def dump(self, request: bytes, _what: str) -> list[tuple[int, bytes]]:
        (kind,) = struct.unpack_from("=H", request, 4)
        if kind == GET_LINK:
            return [(16, self._link(device, on)) for device, on in self.promiscuous.items()]
        if kind == tc.GET_QDISC:
            return [
                (36, tc.TCMSG.pack(0, device, 0xFFFF0000, tc.INGRESS, 1) + attribute(1, name + b"\0"))
                for device, name in self.qdiscs.items()
            ]
        __, device, __, parent, info = tc.TCMSG.unpack_from(request, 16)
        return [
            (44, each.body)
            for each in self.filters[device]
            if info >> 16 in (0, each.order) and (parent == EGRESS) == (parent_of(each) == EGRESS)
        ]

    def _link(self, device: int, promiscuous: bool) -> bytes:
        return tc.IFINFO.pack(0, 0, device, tc.PROMISCUOUS if promiscuous else 0, 0)

    @property
    def untouched(self) -> bool:
        return not self.qdiscs and not any(self.filters.values()) and not any(self.promiscuous.values())

    def placed(self, device: int) -> set[tuple[int, int]]:
        return {(each.chain, each.order) for each in self.filters[device]}


@pytest.fixture(name="kernel")
def _kernel() -> t.Any:
    return Kernel()


def megaflow(
    in_port: int, out_port: int, packets: int = 1, kind: int = 0x0800, extra: t.Any = None
) -> KernelFlow:
    values = {3: struct.pack("=I", in_port), 4: bytes(12), 6: struct.pack("!H", kind)}
    bits = {3: b"\xff" * 4, 4: b"\xff" * 12, 6: b"\xff\xff"}
    if kind == 0x0800:
        values[7], bits[7] = bytes(12), bytes(11) + b"\xff"
    if extra:
        values[extra], bits[extra] = b"\1\0\0\0", b"\1\0\0\0"
    return KernelFlow(joined(values), joined(bits), attribute(1, struct.pack("=I", out_port)), packets)


FLOWS = [megaflow(2, 3, 90), megaflow(3, 2, 7, 0x88B5), megaflow(2, 3, 3, extra=22), megaflow(2, 1, 50)]
LAST = 0xFFFF
FIRST = 0x6F00
GUARDS = {(0, FIRST + each) for each in (3, 4, 5)}
EVERY_CHAIN = {(chain, LAST) for chain in (0, *bypass.CHAINS.values(), bypass.OTHERS)}


def test_it_forwards_then_drops_the_rest_then_lets_it_pass_and_then_is_gone(kernel: t.Any) -> None:
    made = bypass.prepare(kernel, PORTS, FLOWS)
    assert kernel.untouched
    assert made.install(kernel) == []
    assert kernel.placed(6) == GUARDS | {(0, FIRST + 6), (bypass.CHAINS[0x0800], 0x0800)}
    assert kernel.placed(7) == GUARDS | {(bypass.OTHERS, 0x88B5)}
    assert kernel.promiscuous == {5: False, 6: True, 7: True}
    before = kernel.placed(6)
    made.seal(kernel)
    made.seal(kernel)
    assert kernel.placed(6) == before | EVERY_CHAIN
    made.unseal(kernel)
    assert kernel.placed(6) == before
    made.remove(kernel)
    assert kernel.untouched
    made.remove(kernel)
    assert kernel.untouched


def numbers_of(entry: Entry) -> t.Iterator[int]:
    """Those of its actions: TCA_FLOWER_ACT or TCA_BPF_ACT, in each of which the parameters begin with the number."""
    options = netlink.attributes(netlink.attributes(entry.body, tc.TCMSG.size)[2])
    for action in netlink.attributes(options[{b"flower": 3, b"bpf": 1}[entry.kind]]).values():
        parameters = netlink.attributes(netlink.attributes(action)[2])
        yield struct.unpack_from("=I", min(parameters.items())[1])[0]


def test_no_action_has_a_number_that_the_kernel_gives_to_those_of_others(kernel: t.Any) -> None:
    """A filter that came back to its port met our last one under the number of its own action, and was refused."""
    known: bypass.Known = {}
    bypass.prepare(kernel, PORTS, FLOWS[1:], known=known)
    made = bypass.prepare(kernel, PORTS, FLOWS, known=known, vlans={6: [(0x8100, 5)]})
    made.install(kernel)
    made.seal(kernel)
    found = [number for entry in (*kernel.filters[6], *kernel.filters[7]) for number in numbers_of(entry)]
    assert len(found) == len(set(found)) == 18
    assert min(found) > 1 << 30


def test_who_comes_later_finds_all_of_it(kernel: t.Any) -> None:
    kernel.promiscuous[7] = True
    made = bypass.prepare(kernel, PORTS, FLOWS)
    made.install(kernel)
    made.seal(kernel)
    assert sorted(bypass.remove_left_over(kernel)) == [6, 7]
    assert kernel.promiscuous == {5: False, 6: False, 7: True}
    kernel.promiscuous[7] = False
    assert kernel.untouched
    assert bypass.remove_left_over(kernel) == []


@pytest.mark.parametrize("kind", [b"ingress", b"clsact"])
def test_a_port_with_a_qdisc_of_somebody_else_is_left_alone(kernel: t.Any, kind: bytes) -> None:
    kernel.qdiscs[6] = kind
    theirs = Entry(0, 1, b"bpf", tc.TCMSG.pack(0, 6, 0, 0, 0) + attribute(1, b"bpf\0"))
    kernel.filters[6] = [theirs]
    made = bypass.prepare(kernel, PORTS, FLOWS)
    made.install(kernel)
    made.seal(kernel)
    assert (set(made.openings), made.left_out) == ({7}, ("p1",))
    assert made.coverage.reasons == {bypass.FOREIGN_QDISC: 1, "connection tracking": 1}
    made.remove(kernel)
    assert bypass.remove_left_over(kernel) == []
    assert (kernel.qdiscs, kernel.filters[6], kernel.promiscuous[6]) == ({6: kind}, [theirs], False)


def test_what_somebody_else_has_added_meanwhile_stays_with_its_qdisc(kernel: t.Any) -> None:
    made = bypass.prepare(kernel, PORTS, FLOWS)
    made.install(kernel)
    # With the lowest orders, as people count, and the one that the kernel gives.
    theirs = [
        Entry(0, order, b"flower", tc.TCMSG.pack(0, 6, 0, 0, order << 16))
        for order in (*range(1, 60), 0xC000)
    ]
    kernel.filters[6] += theirs
    made.remove(kernel)
    assert (kernel.qdiscs, kernel.filters) == ({6: b"clsact"}, {6: theirs, 7: []})


@pytest.mark.parametrize("parent", [0, EGRESS])
def test_an_empty_qdisc_is_ours_where_a_bypass_was_begun(kernel: t.Any, parent: int) -> None:
    """Whoever is ended between it and its filters has left it; it made the port somebody else's for ever."""
    kernel.qdiscs = {6: b"clsact", 7: b"clsact"}
    assert bypass.remove_left_over(kernel) == []
    kernel.filters[6] = [Entry(0, 1, b"bpf", tc.TCMSG.pack(0, 6, 0, parent, 0) + attribute(1, b"bpf\0"))]
    assert bypass.remove_left_over(kernel, [6, 7]) == [7]
    assert kernel.qdiscs == {6: b"clsact"}


def test_what_somebody_else_has_at_the_egress_stays(kernel: t.Any) -> None:
    made = bypass.prepare(kernel, PORTS, FLOWS)
    made.install(kernel)
    theirs = Entry(0, 50, b"flower", tc.TCMSG.pack(0, 6, 0, EGRESS, 50 << 16))
    kernel.filters[6].append(theirs)
    made.remove(kernel)
    assert (kernel.qdiscs, kernel.filters) == ({6: b"clsact"}, {6: [theirs], 7: []})


@pytest.mark.parametrize("refused", [tc.NEW_QDISC, b"bpf"])
@pytest.mark.parametrize("device", [6, 7])
def test_a_device_that_cannot_have_it_leaves_nothing_behind(
    kernel: t.Any, device: int, refused: t.Any
) -> None:
    kernel.refuses.add((device, refused))
    with pytest.raises(HotUpgradeError, match=f"the port p{device - 5} .*ENOTSUP.*go on without it"):
        bypass.prepare(kernel, PORTS, FLOWS).install(kernel)
    assert kernel.untouched


def test_filters_that_the_kernel_refuses_are_told_and_without_the_last_ones_it_is_not_sealed(
    kernel: t.Any,
) -> None:
    made = bypass.prepare(kernel, PORTS, FLOWS)
    kernel.refuses.add((6, b"flower"))
    assert len(made.install(kernel)) == 2
    with pytest.raises(HotUpgradeError, match="the host's own stack: ENOTSUP"):
        made.seal(kernel)
    assert not kernel.placed(7) & EVERY_CHAIN
    made.remove(kernel)
    assert kernel.untouched


def test_a_device_that_has_gone_costs_the_others_nothing(kernel: t.Any) -> None:
    """The tap of a machine that ends, the veth that a tenant deletes."""
    made = bypass.prepare(kernel, PORTS, FLOWS)
    kernel.refusal = errno.ENODEV
    kernel.refuses |= {(6, tc.NEW_QDISC), (6, b"flower"), (6, tc.DELETE_FILTER)}
    assert made.install(kernel) == []
    made.seal(kernel)
    assert kernel.placed(7) >= EVERY_CHAIN
    kernel.refusal = errno.EINVAL
    kernel.refuses.add((7, b"flower"))
    with pytest.raises(HotUpgradeError, match="the host's own stack: EINVAL"):
        made.seal(kernel)
    made.remove(kernel)
    assert kernel.untouched


def test_what_is_for_a_vlan_device_of_the_host_goes_its_way(kernel: t.Any) -> None:
    """Linux hands it over before Open vSwitch sees it."""
    made = bypass.prepare(kernel, PORTS, FLOWS, vlans={6: [(0x88A8, 20), (0x8100, 10)], 5: [(0x8100, 9)]})
    assert made.install(kernel) == []
    assert not {(0, FIRST + 1), (0, FIRST + 2)} & kernel.placed(7)
    own = [each for each in kernel.filters[6] if FIRST <= each.order < FIRST + 3]
    assert [(each.order - FIRST, *vlan_of(each)) for each in own] == [
        (1, 0x8100, 0x8100, 10),
        (2, 0x88A8, 0x88A8, 20),
    ]
    made.remove(kernel)
    assert kernel.untouched


def vlan_of(entry: Entry) -> tuple[int, int, int]:
    """The protocol of a filter, and what it looks for: flower looks at no number of a VLAN without the type."""
    __, __, __, __, info = tc.TCMSG.unpack_from(entry.body)
    keys = netlink.attributes(netlink.attributes(entry.body, tc.TCMSG.size)[2])
    protocol = struct.unpack("!H", struct.pack("=H", info & 0xFFFF))[0]
    return protocol, struct.unpack("!H", keys[8])[0], struct.unpack("=H", keys[23])[0]


def test_a_qdisc_that_came_in_between_is_not_taken_away(kernel: t.Any) -> None:
    made = bypass.prepare(kernel, PORTS, FLOWS)
    kernel.qdiscs[7] = b"clsact"
    with pytest.raises(bypass.Taken, match="EEXIST"):
        made.install(kernel)
    assert kernel.qdiscs == {7: b"clsact"}
    again = bypass.prepare(kernel, PORTS, FLOWS)
    assert (again.left_out, again.install(kernel)) == (("p2",), [])


@pytest.fixture(name="loopback")
def _loopback(kernel: t.Any, monkeypatch: pytest.MonkeyPatch) -> t.Any:
    """The kernel with a loopback device alone, in a namespace that is entered once."""
    kernel.filters = {1: []}
    entered = contextlib.nullcontext()
    monkeypatch.setattr(namespaces, "private", lambda: entered)
    monkeypatch.setattr(bypass, "Netlink", lambda _protocol: contextlib.nullcontext(kernel))
    return kernel


@pytest.mark.parametrize(
    ("refused", "lacking"),
    [
        (None, []),
        (b"bpf", ["cls_bpf"]),
        (b"flower", ["cls_flower", *(f"act_{a}" for a in ("gact", "mirred", "vlan", "pedit", "csum"))]),
    ],
)
def test_what_the_kernel_lacks_is_found_before(
    loopback: t.Any, refused: bytes | None, lacking: list[str]
) -> None:
    if refused:
        loopback.refuses.add((1, refused))
    assert [text.partition(":")[0] for text in bypass.try_out()] == lacking
    kinds = [each.kind for each in loopback.filters[1]]
    assert kinds == [kind for kind in [b"bpf", *[b"flower"] * 6] if kind != refused]
    assert loopback.qdiscs == {1: b"clsact"}


def test_where_no_namespace_can_be_made_nothing_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> t.Any:
        raise HotUpgradeError("cannot enter a network namespace", "Operation not permitted")

    monkeypatch.setattr(namespaces, "private", refuse)
    assert bypass.try_out() == ["cannot enter a network namespace: Operation not permitted"]


def test_a_number_that_another_port_has_by_now_is_that_port(kernel: t.Any) -> None:
    """A tap that ends while the reload is prepared leaves its number to the next one, and perhaps the same megaflow."""
    known: bypass.Known = {}
    bypass.prepare(kernel, PORTS, FLOWS, known=known)
    kernel.promiscuous[8] = False
    ports = [port if port.index != 7 else Vport(3, 1, "p3", 8) for port in PORTS]
    found = b"".join(bypass.prepare(kernel, ports, FLOWS, known=known).filters)
    to_old, to_new = (struct.pack("=iI", 1, device) for device in (7, 8))  # of struct tc_mirred
    assert to_new in found
    assert to_old not in found


def test_what_is_known_is_not_translated_again(kernel: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    known: bypass.Known = {}
    first = bypass.prepare(kernel, PORTS, FLOWS, known=known)
    monkeypatch.setattr(bypass, "translate", lambda *__: pytest.fail("translated again"))
    assert bypass.prepare(kernel, PORTS, FLOWS, known=known).filters == first.filters


def test_what_is_beside_is_forwarded_and_not_counted(kernel: t.Any) -> None:
    beside = [megaflow(3, 2), FLOWS[0]]
    made = bypass.prepare(kernel, PORTS, FLOWS, beside)
    assert made.coverage == bypass.prepare(kernel, PORTS, FLOWS).coverage
    assert made.install(kernel) == []
    assert (0, FIRST + 6) in kernel.placed(7)


def test_how_much_is_covered(kernel: t.Any) -> None:
    found = bypass.prepare(kernel, PORTS, FLOWS).coverage
    assert found == Coverage(3, 100, 2, 97, 1, {"connection tracking": 1})
    assert found.text == (
        "the bypass forwards 2 of 3 live megaflows between devices, with 97 % of their packets; not: connection tracking (1)"
    )
    assert bypass.prepare(kernel, PORTS, FLOWS[3:]).coverage.text.startswith("there is no live megaflow")
    assert (
        bypass.coverage([(FLOWS[0], Left("x")), (megaflow(2, 3, 0), Filter(6, 1, 1, {}, None, ()))]).share
        == 0.0
    )


def test_only_the_packets_of_the_last_seconds_weigh() -> None:
    later = [dataclasses.replace(FLOWS[0], packets=95), FLOWS[1], megaflow(3, 2, 4)]
    assert [flow.packets for flow in bypass.recent(FLOWS[:1], later)] == [5, 7, 4]
    assert [flow.packets for flow in bypass.recent(later, FLOWS[:1])] == [0]


def run(program: list[tuple[int, int, int, int]], kind: int, frame: bytes) -> int:
    """A program of classic BPF: what it returns."""
    place, value = 0, 0
    while True:
        code, yes, no, number = program[place]
        place += 1
        if code == 0x28:
            assert number == 0xFFFFF000
            value = kind
        elif code == 0x30:
            value = frame[number]
        elif code == 0x15:
            place += yes if value == number else no
        else:
            assert code == 0x06
            return number


@given(st.sampled_from([0x0800, 0x86DD, 0x0806, 0x8864, 0x8100]), st.integers(0, 255))
def test_a_guard_matches_what_may_carry_other_packets(kind: int, protocol: int) -> None:
    frame = bytearray(60)
    frame[{0x0800: 23, 0x86DD: 20}.get(kind, 59)] = protocol
    matched = {each: run(bypass.guard(each), kind, bytes(frame)) for each in (0x0800, 0x86DD, None)}
    strange = protocol not in ORDINARY
    expected = {
        0x0800: kind == 0x0800 and strange,
        0x86DD: kind == 0x86DD and strange,
        None: kind in (0x8864, 0x8100),
    }
    assert matched == {each: 0xFFFFFFFF if yes else 0 for each, yes in expected.items()}
