# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Established flows between devices go on while the module openvswitch is away: tc(8) forwards them.

A device has a clsact qdisc with chains of filters.  Chain 0 begins with small programs (guards), which send every packet that
may carry another one (GRE, IPIP, PPPoE, MPLS) to a chain of its own: of such packets flower sees the innermost headers, the
datapath the outermost.  There are the megaflows that look at Ethernet addresses and a VLAN tag alone.  The rest of chain 0 are
the megaflows of ordinary packets.  What no filter matches goes on to Open vSwitch, until ``seal`` puts a last one below each
chain, which drops: the host's own stack must get nothing while no Open vSwitch takes it.  Only what is for a VLAN device on that
device, of the host or of a container, goes its way: Linux hands it over before Open vSwitch sees it.

The first guard's cookie tells that all of it is ours, and what else was changed: whoever comes later needs no file to find it.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import errno
import itertools
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import links, namespaces
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import traffic_control as tc
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.traffic_control import Place
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.translation import (
    ARP,
    IPV4,
    IPV6,
    KEY_TYPE,
    KEY_VLAN,
    ORDINARY,
    QINQ,
    VLAN,
    Filter,
    Left,
    translate,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import (
    DEVICE,
    KernelFlow,
    Vport,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    ROUTE,
    Netlink,
    Refusal,
    attributes,
    batches,
    message,
)

MARK = b"ovsops-bypass"
# Where packets go that may carry others, by the type behind their VLAN tag.
CHAINS = {IPV4: 0x6F76, IPV6: 0x6F77}
OTHERS = 0x6F78
FOREIGN_QDISC = "comes in by a port with an ingress qdisc of somebody else"

_PROMISCUOUS_WAS_ADDED = b"+"
_GONE = (errno.ENODEV, errno.ENXIO)
MODULES = (
    "sch_ingress",
    "cls_bpf",
    "cls_flower",
    "act_gact",
    "act_mirred",
    "act_vlan",
    "act_pedit",
    "act_csum",
)
_HINT = f"It takes the kernel's {', '.join(MODULES)}: or go on without it"
# The kernel gives the actions of others the lowest numbers that are free: a filter of theirs that was away with its device
# must find its number free when it is given back.
_NUMBERS = itertools.count(0x6F760000)
# People give their filters low orders, and the kernel those without one from 0xC000 down: what they add to the qdisc while it is
# there is neither in the way nor taken for ours.
_FIRST = 0x6F00
_OWN_VLANS, _GUARD, _LAST = {VLAN: _FIRST + 1, QINQ: _FIRST + 2}, _FIRST + 3, 0xFFFF
_GUARDS = {_GUARD: IPV4, _FIRST + 4: IPV6, _FIRST + 5: None}
_ORDERS = {IPV4: _FIRST + 6, IPV6: _FIRST + 7, ARP: _FIRST + 8, VLAN: _FIRST + 9, QINQ: _FIRST + 10}

# Classic BPF (linux/filter.h): load a half word, a byte; jump if equal; return.
_LOAD, _LOAD_BYTE, _JUMP_EQUAL, _RETURN = 0x28, 0x30, 0x15, 0x06
# Of what comes in, Linux has taken one VLAN tag out of the frame.
_ETHERNET_TYPE, _PROTOCOLS = 0xFFFFF000, {IPV4: 14 + 9, IPV6: 14 + 6}

# By device: Ethernet type and number.
Vlans = t.Mapping[int, t.Collection[tuple[int, int]]]
# By what a megaflow is, its translation and its messages.
Translations = dict[tuple[bytes, bytes, bytes], tuple[t.Union[Filter, Left], tuple[bytes, ...]]]
# By number, kind and ifindex of the ports: a number that is free is the next port's.
Known = dict[frozenset[tuple[int, int, int]], Translations]


class Taken(HotUpgradeError):
    """Somebody else has set an ingress qdisc since ``prepare``, which finds it when it is called again."""


@dataclasses.dataclass(frozen=True)
class Coverage:
    """Of ``megaflows`` between devices, with so many ``packets``, the bypass forwards ``covered`` and ``covered_packets``.

    ``reasons`` says why not more, ``elsewhere`` counts the megaflows of ports that go away with the module.
    """

    megaflows: int = 0
    packets: int = 0
    covered: int = 0
    covered_packets: int = 0
    elsewhere: int = 0
    reasons: t.Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def share(self) -> float:
        """Percent of the packets, or of the megaflows where no packet was counted; rounded down."""
        part, whole = (self.covered_packets, self.packets) if self.packets else (self.covered, self.megaflows)
        return part * 1000 // whole / 10 if whole else 100.0

    @property
    def text(self) -> str:
        """In words."""
        if not self.megaflows:
            return "there is no live megaflow between devices, so the bypass forwards nothing"
        text = f"the bypass forwards {self.covered} of {self.megaflows} live megaflows between devices"
        text += f", with {self.share:g} % of their packets"
        if self.reasons:
            text += f"; not: {', '.join(f'{reason} ({count})' for reason, count in self.reasons.items())}"
        return text


@dataclasses.dataclass(frozen=True)
class Opening:
    """What a device gets first: the ``qdisc``, and then the ``rest``, the guards."""

    name: str
    qdisc: list[bytes]
    rest: list[bytes]


@dataclasses.dataclass(frozen=True)
class Bypass:
    """What ``prepare`` has made: everything is bytes that only have to be sent, in the order of the methods.

    ``left_out`` names the ports that have an ingress qdisc of somebody else: nothing that comes in by them is forwarded, and
    while no Open vSwitch takes it, the host's own stack gets it.  ``gone`` are devices that were not there any more.
    """

    coverage: Coverage
    left_out: tuple[str, ...]
    openings: t.Mapping[int, Opening]
    added: frozenset[int]
    filters: tuple[bytes, ...]
    sealing: tuple[bytes, ...]
    unsealing: tuple[bytes, ...]
    gone: set[int] = dataclasses.field(default_factory=set)

    def install(self, netlink: Netlink) -> list[Refusal]:
        """Forward what is covered; the rest still goes to Open vSwitch.  Returns the filters that the kernel refused.

        ovs-vswitchd must not look after megaflows any more: it sees no packets of them, and lets them go after 10 s.
        Raises ``HotUpgradeError`` (``Taken``), and leaves nothing behind, when a device cannot have them at all (now).
        """
        for device, opening in self.openings.items():
            # One after the other: filters must not get into a qdisc that somebody else has set in between.
            refused = netlink.transact(opening.qdisc)
            if not refused and (refused := netlink.transact(opening.rest)):
                _clear(netlink, device, device in self.added)  # perhaps it has no mark
            if any(each.number in _GONE for each in refused):
                self.gone.add(device)  # the tap of a machine that has ended; nobody else pays for that
            elif refused:
                self.remove(netlink)
                kind = Taken if refused[0].number == errno.EEXIST else HotUpgradeError
                raise kind(
                    f"the port {opening.name} cannot have the tc filters of the bypass",
                    str(refused[0]),
                    _HINT,
                )
        # One that is there already is for a megaflow that was live as well as beside; one to nowhere has nothing to forward.
        excused = (errno.EEXIST, *_GONE, *([errno.EINVAL] if self.gone else []))
        return [each for each in netlink.transact(self.filters) if each.number not in excused]

    def seal(self, netlink: Netlink) -> None:
        """Drop what is not covered, right before the datapath goes away; twice is fine.

        Raises ``HotUpgradeError`` if that is refused.
        """
        places = _last_places(self.openings)
        refused = [
            each
            for each in netlink.transact(self.sealing)
            if each.number not in (errno.EEXIST, *_GONE) and places[each.place].device not in self.gone
        ]
        if refused:
            self.unseal(netlink)
            raise HotUpgradeError("packets cannot be kept from the host's own stack", str(refused[0]), _HINT)

    def unseal(self, netlink: Netlink) -> None:
        """Give Open vSwitch what is not covered, as soon as its datapath is back; no error if it was not sealed."""
        netlink.transact(self.unsealing)

    def remove(self, netlink: Netlink) -> None:
        """All of it away, when the megaflows are back; no error if it is not there."""
        self.unseal(netlink)
        for device in self.openings:
            if _is_ours(netlink, device) is not None:
                _clear(netlink, device, device in self.added)


def prepare(
    netlink: Netlink,
    ports: t.Sequence[Vport],
    megaflows: t.Sequence[KernelFlow],
    beside: t.Sequence[KernelFlow] = (),
    known: Known | None = None,
    vlans: Vlans | None = None,
) -> Bypass:
    """The bypass for the ``ports`` of a datapath; ``packets`` of the ``megaflows`` are those to weigh them by (``recent``).

    Those ``beside`` them are forwarded, too, and not counted (``neighbours``).  What is in ``known`` from an earlier call with
    the same ports is not translated again.  ``vlans`` are those that Linux hands to VLAN devices, in whatever namespace.
    """
    same_ports = frozenset((port.number, port.kind, port.index) for port in ports)
    translations = ({} if known is None else known).setdefault(same_ports, {})
    vlans = {} if vlans is None else vlans
    # Whether somebody has asked that it takes all frames; that the datapath has does not count.
    promiscuous = {link.index: bool(link.flags & tc.PROMISCUOUS) for link in links.dump(netlink)}
    borrowed = [
        port for port in ports if port.kind == DEVICE and port.netns is None and port.index in promiscuous
    ]
    taken = {device for device, __ in _ingress_qdiscs(netlink)}
    devices = {port.index: port.name for port in borrowed if port.index not in taken}
    found = []
    filters: list[bytes] = []
    by_number = {port.number: port for port in ports}
    for flow in (*megaflows, *beside):
        translated, messages = _translated(flow, by_number, devices, translations)
        found.append((flow, translated))
        filters += messages
    added = frozenset(device for device in devices if not promiscuous[device])
    last = _last_places(devices)
    return Bypass(
        coverage(found[: len(megaflows)]),
        tuple(port.name for port in borrowed if port.index in taken),
        {
            device: _opening(device, name, device in added, vlans.get(device, ()))
            for device, name in devices.items()
        },
        added,
        tuple(batches(filters)),
        tuple(batches([tc.flower(place, {}, [tc.drop()], _NUMBERS) for place in last])),
        tuple(batches([tc.delete_filters(place) for place in last])),
    )


def try_out() -> list[str]:
    """What of a bypass the kernel does not take, in words: one of each kind, at the loopback device of a namespace of our own.

    What the kernel loads for it is there when it matters.
    """
    loopback = 1
    rewritten = tc.rewrite(1, 0, bytes(12), b"\xff" * 12)
    actions = {
        "act_gact": tc.drop(),
        "act_mirred": tc.send(loopback, True),
        "act_vlan": tc.pop_vlan(),
        "act_pedit": rewritten,
        "act_csum": tc.checksum_ipv4(),
    }
    tried = {
        "sch_ingress": tc.add_clsact(loopback),
        "cls_bpf": tc.program(
            Place(loopback, 0, 1, tc.ALL_PROTOCOLS), guard(None), tc.go_to(OTHERS, MARK), _NUMBERS
        ),
        "cls_flower": tc.flower(Place(loopback, 0, 2, IPV4), {}, [tc.accept()], _NUMBERS),
    }
    for order, (name, action) in enumerate(actions.items(), 3):
        tried[name] = tc.flower(Place(loopback, 0, order, IPV4), {}, [action], _NUMBERS)
    try:
        with namespaces.private(), Netlink(ROUTE) as route:
            refused = route.transact(batches(list(tried.values())))
    except HotUpgradeError as error:
        return [str(error)]
    names = list(tried)
    return [f"{names[each.place]}: {each}" for each in refused]


def _translated(
    flow: KernelFlow, ports: t.Mapping[int, Vport], devices: t.Container[int], known: Translations
) -> tuple[Filter | Left, tuple[bytes, ...]]:
    same = (flow.key, flow.mask, flow.actions)
    if same not in known:
        known[same] = _with_messages(translate(flow, ports))
    translated, messages = known[same]
    if isinstance(translated, Filter) and translated.device not in devices:
        return Left(FOREIGN_QDISC), ()
    return translated, messages


def recent(earlier: t.Sequence[KernelFlow], later: t.Sequence[KernelFlow]) -> list[KernelFlow]:
    """The megaflows of the later look, with the packets that came since the earlier one."""
    before = {(flow.key, flow.mask): flow.packets for flow in earlier}
    return [
        dataclasses.replace(flow, packets=max(0, flow.packets - before.get((flow.key, flow.mask), 0)))
        for flow in later
    ]


def coverage(found: t.Iterable[tuple[KernelFlow, Filter | Left]]) -> Coverage:
    """How much of the megaflows between devices is translated."""
    flows = packets = covered = covered_packets = elsewhere = 0
    reasons: collections.Counter[str] = collections.Counter()
    for flow, each in found:
        if isinstance(each, Left) and not each.between:
            elsewhere += 1
            continue
        flows, packets = flows + 1, packets + flow.packets
        if isinstance(each, Left):
            reasons[each.reason] += 1
        else:
            covered, covered_packets = covered + 1, covered_packets + flow.packets
    return Coverage(flows, packets, covered, covered_packets, elsewhere, dict(reasons.most_common()))


def remove_left_over(netlink: Netlink, begun: t.Container[int] = ()) -> list[int]:
    """What a bypass has left on any device away; returns the devices.

    Whoever is ended between a qdisc and its first guard leaves one that nothing tells from others': it is ours on a device on
    which a bypass was ``begun``.
    """
    found = []
    for device, kind in _ingress_qdiscs(netlink):
        if kind != "clsact":
            continue
        cookie = _is_ours(netlink, device)
        if cookie is not None:
            _clear(netlink, device, cookie.endswith(_PROMISCUOUS_WAS_ADDED))
        elif device in begun and _is_empty(netlink, device):
            netlink.transact(batches([tc.delete_clsact(device)]))
        else:
            continue
        found.append(device)
    return found


def _own(device: int, protocol: int, number: int) -> bytes:
    """Without the type flower does not look at the number."""
    keys = {KEY_TYPE: struct.pack("!H", protocol), KEY_VLAN: struct.pack("=H", number)}
    return tc.flower(Place(device, 0, _OWN_VLANS[protocol], protocol), keys, [tc.accept()], _NUMBERS)


def _opening(device: int, name: str, promiscuous: bool, vlans: t.Collection[tuple[int, int]]) -> Opening:
    """A datapath has its devices take all frames, and without it they would not."""
    cookie = MARK + (_PROMISCUOUS_WAS_ADDED if promiscuous else b"")
    found = [_own(device, *vlan) for vlan in sorted(vlans)]
    for order, kind in _GUARDS.items():
        chain = OTHERS if kind is None else CHAINS[kind]
        found.append(
            tc.program(
                Place(device, 0, order, tc.ALL_PROTOCOLS), guard(kind), tc.go_to(chain, cookie), _NUMBERS
            )
        )
    if promiscuous:
        found.append(tc.promiscuous(device, True))
    return Opening(name, batches([tc.add_clsact(device)]), batches(found))


def guard(kind: int | None) -> list[tuple[int, int, int, int]]:
    """A program that matches packets of a type (IPv4, IPv6) that may carry others; of None, all that are neither nor ARP."""
    if kind is None:
        tests = [(_JUMP_EQUAL, 3 - place, 0, number) for place, number in enumerate((ARP, IPV4, IPV6))]
        return [(_LOAD, 0, 0, _ETHERNET_TYPE), *tests, (_RETURN, 0, 0, 0xFFFFFFFF), (_RETURN, 0, 0, 0)]
    count = len(ORDINARY)
    tests = [(_JUMP_EQUAL, count - place, 0, number) for place, number in enumerate(ORDINARY)]
    return [
        (_LOAD, 0, 0, _ETHERNET_TYPE),
        (_JUMP_EQUAL, 0, count + 2, kind),
        (_LOAD_BYTE, 0, 0, _PROTOCOLS[kind]),
        *tests,
        (_RETURN, 0, 0, 0xFFFFFFFF),
        (_RETURN, 0, 0, 0),
    ]


def _with_messages(found: Filter | Left) -> tuple[Filter | Left, tuple[bytes, ...]]:
    """In a chain of its own each protocol has its own order, since tc wants one protocol in each."""
    if isinstance(found, Left) or not found.actions:  # without actions: dropped, by the last one
        return found, ()
    messages = []
    if found.protocol in _ORDERS:
        place = Place(found.device, 0, _ORDERS[found.protocol], found.protocol)
        messages.append(tc.flower(place, found.keys, found.actions, _NUMBERS))
    if found.outer is not None:
        place = Place(found.device, CHAINS.get(found.inner, OTHERS), found.protocol, found.protocol)
        messages.append(tc.flower(place, found.outer, found.actions, _NUMBERS))
    return found, tuple(messages)


def _last_places(devices: t.Iterable[int]) -> list[Place]:
    chains = (*CHAINS.values(), OTHERS, 0)
    return [Place(device, chain, _LAST, tc.ALL_PROTOCOLS) for device in devices for chain in chains]


def _clear(netlink: Netlink, device: int, promiscuous: bool) -> None:
    """Of the qdisc of a device what is ours, the guard last; and the qdisc, unless somebody else uses it by now."""
    places = [Place(device, 0, order, 0) for order in (_LAST, *_ORDERS.values(), *_OWN_VLANS.values())]
    away = [*map(tc.delete_filters, places)]
    away += [tc.flush_chain(device, chain) for chain in (*CHAINS.values(), OTHERS)]
    away += [tc.delete_filters(Place(device, 0, order, 0)) for order in sorted(_GUARDS, reverse=True)]
    netlink.transact(batches(away))
    if _is_empty(netlink, device):
        netlink.transact(batches([tc.delete_clsact(device)]))
    if promiscuous:
        netlink.transact(batches([tc.promiscuous(device, False)]))


def _is_empty(netlink: Netlink, device: int) -> bool:
    return not any(
        netlink.dump(request, "the filters of a device cannot be listed")
        for request in (tc.filters(device), tc.filters_of_egress(device))
    )


def _is_ours(netlink: Netlink, device: int) -> bytes | None:
    """The cookie of the guard on a device; None if there is none."""
    for __, body in netlink.dump(tc.filters(device, _GUARD), "the filters of a device cannot be listed"):
        with contextlib.suppress(HotUpgradeError):
            cookie = tc.cookie_of_program(body)
            if cookie.startswith(MARK):
                return cookie
    return None


def _ingress_qdiscs(netlink: Netlink) -> t.Iterator[tuple[int, str]]:
    request = message(tc.GET_QDISC, tc.TCMSG.pack(0, 0, 0, 0, 0))
    for __, body in netlink.dump(request, "the kernel does not tell its qdiscs"):
        __, device, __, parent, __ = tc.TCMSG.unpack_from(body)
        if parent == tc.INGRESS:
            kind = attributes(body, tc.TCMSG.size).get(tc.KIND, b"")
            yield device, kind.rstrip(b"\0").decode(errors="replace")
