# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What is on a network device and goes with it: addresses and neighbours.

Formats: include/uapi/linux/{if_addr,neighbour}.h.
"""

from __future__ import annotations

import dataclasses
import socket
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.dumps import ADDRESS, NEIGHBOUR
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.links import Link, above
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.routes import own_address, shown
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import (
    APPEND,
    REPLACE,
    Request,
    Stage,
    Told,
    numbered,
    place_of,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import CREATE, message

_NEWADDR, _NEWNEIGH = 20, 28

IFA_LIFETIMES, IFA_FLAGS = 6, 8
# IFA_F_DADFAILED, IFA_F_TENTATIVE: somebody else has it, or nobody knows yet.
_DOES_NOT_SERVE = 0x08 | 0x40
TEMPORARY, _NO_DUPLICATE_CHECK, PASSING = 0x01, 0x02, 0x01 | 0x08 | 0x20 | 0x40 | 0x80

# NDA_*: destination, address, VLAN, port, VNI, interface, source VNI, protocol, nexthop, more flags
NDA_KEPT = (1, 2, 5, 6, 7, 8, 11, 12, 13, 15)
NDA_DESTINATION, NDA_ADDRESS, NDA_VLAN, NDA_DEVICE, _NDA_MORE_FLAGS = 1, 2, 5, 8, 15
PERMANENT, STATIC, _REACHABLE, _STALE, _DELAY, _PROBE = 0x80, 0x40, 0x02, 0x04, 0x08, 0x10
_KNOWN = PERMANENT | _REACHABLE | _STALE | _DELAY | _PROBE
# NTF_*; EXTERNAL: a program has learned it, and keeps it.
SELF, MASTER, PROXY, EXTERNAL = 0x02, 0x04, 0x08, 0x10
_MANAGED = 0x1  # NTF_EXT_MANAGED: the kernel asks for it again and again


def addresses(bodies: t.Iterable[bytes], gone: t.Container[int]) -> t.Iterator[Request]:
    """The addresses of the devices ``gone``.

    Those of IPv6 that serve do so at once, without asking whether somebody else has them. Temporary ones are the kernel's own.
    """
    for body in _oldest_first(list(bodies)):
        family, length, flags, scope, index = ADDRESS.unpack_from(body)
        if index not in gone:
            continue
        told = Told(body, ADDRESS.size)
        what = f"the address {shown(family, own_address(body))}/{length}"
        every = told.number(IFA_FLAGS) or flags
        if family == socket.AF_INET6 and every & TEMPORARY:
            continue
        if family != socket.AF_INET6 or every & _DOES_NOT_SERVE:
            yield Request(Stage.ADDRESS, index, what, message(_NEWADDR, body, CREATE | REPLACE))
            continue
        header = ADDRESS.pack(family, length, flags | _NO_DUPLICATE_CHECK, scope, index)
        at_once = header + told.without(IFA_FLAGS) + numbered(IFA_FLAGS, every | _NO_DUPLICATE_CHECK)
        yield Request(Stage.ADDRESS, index, what, message(_NEWADDR, at_once, CREATE | REPLACE))
        if not every & _NO_DUPLICATE_CHECK:
            yield Request(Stage.SETTLE, index, what, message(_NEWADDR, body, REPLACE))


def _oldest_first(bodies: t.Sequence[bytes]) -> list[bytes]:
    """Of IPv6 the newest is told first, and a host speaks as the first one (ipv6_link_dev_addr in net/ipv6/addrconf.c)."""
    newer = [body for body in bodies if body[0] == socket.AF_INET6]
    return [*(body for body in bodies if body[0] != socket.AF_INET6), *reversed(newer)]


def neighbours(
    bodies: t.Iterable[bytes], links: t.Iterable[Link], gone: t.Container[int]
) -> t.Iterator[Request]:
    """The neighbours and FDB entries of the devices ``gone``: permanent ones, and those that are known now.

    Of one address that stands for several destinations, as the broadcasts of a vxlan do, each is added.
    """
    addresses = {link.index: link.address for link in links}
    for body in bodies:
        family, index, state, flags, kind = NEIGHBOUR.unpack_from(body)
        told = Told(body, NEIGHBOUR.size)
        if index not in gone or not _worth(body, told, addresses.get(index, b"")):
            continue
        bridged = family == socket.AF_BRIDGE
        if bridged and not flags & SELF:
            flags |= MASTER  # what is told without it is taken for it only where no other flag is told
        if not bridged:
            state = _asked_again(state)
        kept = NEIGHBOUR.pack(family, index, state, flags, kind) + told.only(*NDA_KEPT)
        several = bridged and NDA_DESTINATION in told and is_for_many(told.value(NDA_ADDRESS))
        data = message(_NEWNEIGH, kept, CREATE | (APPEND if several else REPLACE))
        place = place_of(data, 16 + NEIGHBOUR.size, NDA_DEVICE)
        yield Request(Stage.NEIGHBOUR, index, shown_neighbour(family, told), data, (place,) if place else ())


def neighbours_of_masters(
    bodies: t.Iterable[bytes], links: t.Sequence[Link], gone: t.Container[int]
) -> t.Iterator[Request]:
    """Those of bridges and bonds that ports ``gone`` are in, and of what is on these.

    They may have another address meanwhile, and lose all neighbours with the old one (neigh_changeaddr in net/core/neighbour.c).
    """
    plain = [body for body in bodies if body[0] != socket.AF_BRIDGE]
    for request in neighbours(plain, links, above(links, gone)):
        yield dataclasses.replace(request, stage=Stage.PROPERTY)  # when the last port is in its place


def _asked_again(state: int) -> int:
    """The state of a neighbour as it is taken: one that is asked for, or does not answer, is asked for when it is needed."""
    if state & (_DELAY | _PROBE):
        return _STALE
    return state if state & (_KNOWN | STATIC) else 0


def managed(told: Told) -> bool:
    """Whether the kernel is to keep a neighbour known (``ip neighbour add … managed``)."""
    return bool((told.number(_NDA_MORE_FLAGS) or 0) & _MANAGED)


def is_for_many(address: bytes) -> bool:
    """Whether it is a multicast address, or the one of no device, by which a vxlan means all."""
    return bool(address) and (bool(address[0] & 1) or not any(address))


def shown_neighbour(family: int, told: Told) -> str:
    """A neighbour or an FDB entry for people."""
    if family != socket.AF_BRIDGE:
        return f"the neighbour {shown(family, told.value(NDA_DESTINATION))}"
    vlan = f" of VLAN {int.from_bytes(told.value(NDA_VLAN), 'little')}" if NDA_VLAN in told else ""
    return f"the neighbour {told.value(NDA_ADDRESS).hex(':')}{vlan}"


def _worth(body: bytes, told: Told, own: bytes) -> bool:
    """Whether somebody has set or learned it.

    A device gets the multicast addresses that it listens to by itself, and a bridge enters the addresses of its ports.
    """
    family, __, state, flags, __ = NEIGHBOUR.unpack_from(body)
    address = told.value(NDA_ADDRESS, b"\1")
    if family != socket.AF_BRIDGE:
        set_to_one = state & STATIC and not is_for_many(address)
        return bool(state & _KNOWN or flags & (PROXY | EXTERNAL) or set_to_one or managed(told))
    by_itself = flags & SELF and address[0] & 1 and NDA_DESTINATION not in told
    by_bridge = not flags & SELF and state & PERMANENT and address == own
    lasting = state & (PERMANENT | STATIC) or flags & EXTERNAL
    return bool(lasting) and not by_itself and not by_bridge
