# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Who talks to each other can still ask whether the other one is there, while nobody answers upcalls.

A host asks every half minute or so, and sends nothing more to a neighbour that has not answered for about four seconds (RFC
4861, 7.3; Linux does the same for ARP).  A megaflow for such packets lives for ten seconds, so mostly there is none.  What
would be done with them is asked beforehand, by ``ofproto/trace`` of an ovs-vswitchd that still works, for all pairs that
have a megaflow.  An answer counts if it depends on nothing but what such a megaflow matches, and does nothing but send.
"""

from __future__ import annotations

import dataclasses
import re
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.translation import (
    ARP,
    IPV4,
    IPV6,
    Filter,
    translate,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.words import Action, Key
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import KernelFlow, Vport
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ofproto_text import (
    SLOW,
    datapath_actions,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    NESTED,
    Attributes,
    attribute,
    attributes,
    joined,
)

# Of so many pairs, the busiest, it is asked: two questions for each.
MOST = 500

_EXAMINED = re.compile(r"^Megaflow: (.*)$", re.MULTILINE)
_SEND = re.compile(r"[0-9]{1,9}")
_PUSH = re.compile(r"push_vlan\(vid=([0-9]{1,4}),pcp=([0-7])\)")
_NUMBER, _PRIORITY, _PRESENT, _TAG = 0x0FFF, 0xE000, 0x1000, 0x8100
_WHOLE = b"\xff" * 6
_ZEROS = "00:00:00:00:00:00"

# A question: an Ethernet frame of the pair in the words of ovs-appctl(8), and its answer.
Trace = t.Callable[[str], str]


@dataclasses.dataclass(frozen=True)
class _Probe:
    """A kind of packet: how ``ofproto/trace`` is told of it, and its attributes behind those of Ethernet."""

    text: str
    key: Attributes
    mask: Attributes
    examined: frozenset[str]


def _arp(operation: int) -> _Probe:
    text = f"eth_type(0x0806),arp(sip=0.0.0.0,tip=0.0.0.0,op={operation},sha={_ZEROS},tha={_ZEROS})"
    key = {Key.TYPE: struct.pack("!H", ARP), Key.ARP: bytes(9) + bytes([operation]) + bytes(14)}
    mask = {Key.TYPE: b"\xff\xff", Key.ARP: bytes(9) + b"\xff" + bytes(14)}
    return _Probe(text, key, mask, frozenset({"arp", "arp_op"}))


def _discovery(kind: int) -> _Probe:
    text = "eth_type(0x86dd),ipv6(src=::,dst=::,label=0,proto=58,tclass=0,hlimit=255,frag=no)"
    text += f",icmpv6(type={kind},code=0),nd(target=::,sll={_ZEROS},tll={_ZEROS})"
    key = {Key.TYPE: struct.pack("!H", IPV6), Key.IPV6: bytes(36) + b"\x3a" + bytes(3)}
    mask = {Key.TYPE: b"\xff\xff", Key.IPV6: bytes(36) + b"\xff\0\0\xff"}
    key |= {Key.ICMPV6: bytes([kind, 0]), Key.ND: bytes(28)}
    mask |= {Key.ICMPV6: b"\xff\xff", Key.ND: bytes(28)}
    return _Probe(text, key, mask, frozenset({"ipv6", "icmp6", "icmp_type", "icmp_code", "nw_frag"}))


_PROBES = {IPV4: (_arp(1), _arp(2)), IPV6: (_discovery(135), _discovery(136))}


@dataclasses.dataclass(frozen=True)
class _Pair:
    """Who sends to whom: a port, addresses (source and destination) with their mask, and a tag (type, TCI, mask of TCI)."""

    port: int
    addresses: bytes
    mask: bytes
    tag: tuple[int, int, int] | None
    kind: int

    def text(self, probe: _Probe) -> str:
        """The packet, as ``ofproto/trace`` reads it."""
        source, destination = (self.addresses[half : half + 6].hex(":") for half in (0, 6))
        head = f"recirc_id(0),in_port({self.port}),eth(src={source},dst={destination})"
        if self.tag is None:
            return f"{head},{probe.text}"
        kind, tci, __ = self.tag
        vlan = f"vlan(vid={tci & _NUMBER},pcp={(tci & _PRIORITY) >> 13})"
        return f"{head},eth_type({kind:#06x}),{vlan},encap({probe.text})"

    def matches(self, examined: set[str]) -> bool:
        """Whether a megaflow of this pair has all of ``examined`` in its mask."""
        may = {"recirc_id", "eth", "in_port"}
        may |= {"dl_src"} if self.mask[:6] == _WHOLE else set()
        may |= {"dl_dst"} if self.mask[6:] == _WHOLE else set()
        if self.tag is None:
            may |= {"vlan_tci", "dl_vlan"}
        else:
            bits = self.tag[2]
            may |= {"dl_vlan"} if bits & _NUMBER == _NUMBER else set()
            may |= {"dl_vlan_pcp"} if bits & _PRIORITY == _PRIORITY else set()
        return examined <= may

    def megaflow(self, probe: _Probe, actions: bytes) -> KernelFlow:
        """A megaflow for such packets of the pair, as the kernel has it."""
        key = {
            Key.RECIRCULATION: bytes(4),
            Key.IN_PORT: struct.pack("=I", self.port),
            Key.ETHERNET: self.addresses,
        }
        mask = {Key.RECIRCULATION: b"\xff" * 4, Key.IN_PORT: b"\xff" * 4, Key.ETHERNET: self.mask}
        if self.tag is None:
            return KernelFlow(joined({**key, **probe.key}), joined({**mask, **probe.mask}), actions)
        kind, tci, bits = self.tag
        key |= {Key.TYPE: struct.pack("!H", kind), Key.VLAN: struct.pack("!H", tci)}
        mask |= {Key.TYPE: b"\xff\xff", Key.VLAN: struct.pack("!H", bits)}
        key[Key.ENCAP | NESTED] = joined(probe.key)
        mask[Key.ENCAP | NESTED] = joined(probe.mask)
        return KernelFlow(joined(key), joined(mask), actions)


def megaflows(
    trace: Trace, ports: t.Sequence[Vport], live: t.Sequence[KernelFlow], ends: bool
) -> list[KernelFlow]:
    """Megaflows for the questions and answers of all pairs that have one of ``live``, busiest first; to be added to them.

    ``trace`` returns what ``ofproto/trace`` of the datapath says to a packet.  Pairs for which it says nothing that counts
    have none.  Where a trace may have no end (``proof.traces_end``), nothing is asked about IPv6: its questions may go through
    ``ct()``, those of ARP may not.
    """
    by_number = {port.number: port for port in ports}
    pairs: dict[_Pair, None] = {}
    for flow in live:
        if len(pairs) == MOST:
            break
        if isinstance(translate(flow, by_number), Filter) and (pair := _pair(flow)):
            pairs[pair] = None
    found = []
    for pair in pairs:
        for probe in _PROBES[pair.kind] if ends or pair.kind == IPV4 else ():
            actions = _answer(trace, pair, probe)
            if actions:
                found.append(pair.megaflow(probe, actions))
    return found


def _pair(flow: KernelFlow) -> _Pair | None:
    """Whose megaflow it is; None if no such question can come up, or if it is for the question itself already."""
    key, mask = attributes(flow.key), attributes(flow.mask)
    inner, inner_mask, tag = key, mask, None
    if Key.VLAN in key:
        inner, inner_mask = attributes(key[Key.ENCAP]), attributes(mask[Key.ENCAP])
        numbers = (struct.unpack("!H", each)[0] for each in (key[Key.TYPE], key[Key.VLAN], mask[Key.VLAN]))
        kind, tci, bits = numbers
        tag = (kind, tci & bits, bits)
    (inner_type,) = struct.unpack("!H", inner[Key.TYPE])
    if inner_type not in _PROBES or inner_type == IPV6 and not inner_mask[Key.IPV6][36]:
        return None
    addresses = bytes(value & bit for value, bit in zip(key[Key.ETHERNET], mask[Key.ETHERNET]))
    if addresses[6] & 1:  # for many
        return None
    (port,) = struct.unpack("=I", key[Key.IN_PORT])
    return _Pair(port, addresses, mask[Key.ETHERNET], tag, inner_type)


def _answer(trace: Trace, pair: _Pair, probe: _Probe) -> bytes:
    """The actions for a packet; none if the answer does not count."""
    try:
        text = trace(pair.text(probe))
    except HotUpgradeError:
        return b""
    examined, done = _EXAMINED.search(text), datapath_actions(text)
    if not examined or not done or SLOW in text:
        return b""
    names = {each.partition("=")[0] for each in examined[1].strip().split(",")}
    return _read(done.strip()) if pair.matches(names - probe.examined) else b""


def _read(text: str) -> bytes:
    """Actions that send and change no more than a tag; none for any other."""
    found = b""
    for word in re.split(r",(?![^(]*\))", text):
        if _SEND.fullmatch(word):
            found += attribute(Action.OUTPUT, struct.pack("=I", int(word)))
        elif word == "pop_vlan":
            found += attribute(Action.POP_VLAN, b"")
        elif push := _PUSH.fullmatch(word):
            tci = int(push[2]) << 13 | _PRESENT | int(push[1]) & _NUMBER
            found += attribute(Action.PUSH_VLAN, struct.pack("!HH", _TAG, tci))
        else:
            return b""
    return found
