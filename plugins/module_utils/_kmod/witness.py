# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What a network namespace tells of itself, made comparable: whoever compares two looks finds what is gone.

It does not depend on what anybody knows to give back. Left out is what comes and goes by itself: counters, ages, what was
learned, what the kernel or a router makes anew. A device is called by its name, since it may have another ifindex.
"""

from __future__ import annotations

import dataclasses
import socket
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import (
    belongings,
    bridging,
    routes,
    shaping,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.dumps import (
    ADDRESS,
    NEIGHBOUR,
    NEXTHOP,
    ROUTE,
    RULE_SIZE,
    TRAFFIC,
    Dumps,
    actions,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.links import Link
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import Told

# IFLA_*: counters, what follows from other things, what the driver cannot have otherwise.
_LINK_IGNORED = frozenset((
    3, 6, 7, 14, 15, 16, 23, 30, 33, 35, 36, 42, 44, 45, 46, 47, 48, 49, 50, 51, 53, 54, 59, 60, 61, 62, 65,
    68, 69,
))  # fmt: skip
_IFLA_LINK, _IFLA_MASTER, _IFLA_INFO, _IFLA_FAMILIES = 5, 10, 18, 26
_LINK_WORDS = {
    1: "address", 4: "MTU", 5: "lower device", 10: "master", 13: "queue length", 20: "alias", 27: "group",
    37: "namespace of the lower device", 39: "protodown", 40: "gso_max_segs", 41: "gso_max_size",
    43: "XDP program", 52: "other names", 58: "gro_max_size", 63: "gso_ipv4_max_size", 64: "gro_ipv4_max_size",
}  # fmt: skip
_FLAGS = {0x1: "up", 0x80: "noarp", 0x100: "promisc", 0x200: "allmulticast", 0x1000: "multicast"}
_INFO_KIND, _INFO_DATA, _SLAVE_KIND, _SLAVE_DATA = 1, 2, 4, 5
# By kind: timers and elections of a bridge (IFLA_BR_*), of a bond, how long a macvlan's queue is.
_DATA_IGNORED = {"bridge": (*range(10, 20), 46, 47, 48), "bond": (2, 23), "macvlan": (8,), "macvtap": (8,)}
_DATA_DEVICES = {"vxlan": (3,), "bond": (11,)}
_SLAVE_IGNORED = {"bridge": (1, *range(13, 25), 26, 35, 36, 38, 41), "bond": (1, 2, 3, 6, 7, 8)}
_SLAVE_DEVICES = {"bridge": (34,)}
_INET6, _TOKEN = 10, 7

_REDIRECT = 1  # RTPROT_REDIRECT
_IPV6_NODE_GROUP = b"\x33\x33\xff"  # one for each address
_NHA_IGNORED, _UNBALANCED = (12, 14, 15, 16), 4
_RULE_FLAGS = 0xFFFFFFFF & ~(0x4 | 0x8 | 0x10)  # FIB_RULE_{UNRESOLVED,IIF_DETACHED,OIF_DETACHED}
_TC_KEPT = (1, 8, 11, 13, 14)
_HTB_DIRECT = 16  # where struct tc_htb_glob counts packets
_TIMES = {
    "csum": 2,
    "ct": 2,
    "ife": 2,
    "police": 6,
    "ctinfo": 2,
    "connmark": 2,
}  # by action, where not 1: its times
_POLICE_TOLD = (5, 6)
_GENERIC = struct.Struct("=IIiii")  # tc_gen: number, capabilities, verdict, references

Names = t.Mapping[int, str]
Key = tuple[t.Any, ...]


@dataclasses.dataclass(frozen=True)
class Thing:
    """Something that is there: ``text`` for people, ``devices`` what it names, ``key`` all that it must be."""

    text: str
    devices: tuple[str, ...]
    key: Key


def things(dumps: Dumps) -> t.Iterator[Thing]:
    """All that is in a namespace."""
    names = {link.index: link.name for link in dumps.links}
    for link in dumps.links:
        yield from _link(link, names)
    yield from _addresses(dumps.addresses, names)
    yield from _routes(dumps, names)
    yield from _rules(dumps.rules)
    yield from _nexthops(dumps.nexthops, names)
    yield from _neighbours(dumps.neighbours, names)
    yield from _vlans(dumps.vlans, names)
    yield from _groups(dumps.groups, names)
    yield from _traffic(dumps, names)


def _plain(
    told: Told, ignored: t.Container[int] = (), devices: t.Container[int] = (), names: Names | None = None
) -> Key:
    """Attributes in the order of their numbers, devices by name."""
    found: list[Key] = []
    for kind in sorted(told.kinds()):
        if kind not in ignored:
            value: t.Any = told.value(kind)
            if kind in devices and len(value) == 4:
                value = _name(names or {}, told.number(kind) or 0)
            found.append((kind, value))
    return tuple(found)


def _name(names: Names, index: int) -> str:
    return names.get(index, f"device {index}") if index else ""


def _link(link: Link, names: Names) -> t.Iterator[Thing]:
    def thing(what: str, *key: t.Any) -> Thing:
        text = f"{what} of {link.name}" if what else f"the device {link.name}"
        return Thing(text, (link.name,), ("device", link.name, *key))

    yield thing("", link.kind)
    for flag, word in _FLAGS.items():
        yield thing(f"the flag {word}", flag, bool(link.flags & flag))
    # An ifindex in another namespace has no name here, and may be another one when its device has been made again.
    elsewhere = () if link.below_netns is None else (_IFLA_LINK,)
    ignored = _LINK_IGNORED.union((_IFLA_INFO, _IFLA_FAMILIES), elsewhere)
    for kind, value in _plain(link.told, ignored, (_IFLA_LINK, _IFLA_MASTER), names):
        yield thing(f"the {_LINK_WORDS.get(kind, f'attribute {kind}')}", kind, value)
    info = link.told.inside(_IFLA_INFO)
    for kind, value in _plain(
        link.data, _DATA_IGNORED.get(link.kind, ()), _DATA_DEVICES.get(link.kind, ()), names
    ):
        yield thing(f"the option {kind} of a {link.kind}", "data", kind, value)
    master = info.text(_SLAVE_KIND)
    place = info.inside(_SLAVE_DATA)
    for kind, value in _plain(place, _SLAVE_IGNORED.get(master, ()), _SLAVE_DEVICES.get(master, ()), names):
        yield thing(f"the option {kind} in its {master}", "place", kind, value)
    token = link.told.inside(_IFLA_FAMILIES).inside(_INET6).value(_TOKEN)
    if any(token):
        yield thing("the token", "token", token)


def _addresses(bodies: t.Iterable[bytes], names: Names) -> t.Iterator[Thing]:
    ignored = (belongings.IFA_LIFETIMES, belongings.IFA_FLAGS)
    for body in bodies:
        family, length, flags, scope, index = ADDRESS.unpack_from(body)
        told = Told(body, ADDRESS.size)
        every = told.number(belongings.IFA_FLAGS) or flags
        if family == socket.AF_INET6 and every & belongings.TEMPORARY:
            continue
        name = _name(names, index)
        text = f"the address {routes.shown(family, routes.own_address(body))}/{length} of {name}"
        kept = (family, length, scope, name, every & ~belongings.PASSING, _plain(told, ignored))
        yield Thing(text, (name,), ("address", *kept))


def _routes(dumps: Dumps, names: Names) -> t.Iterator[Thing]:
    through = routes.devices_of_nexthops(dumps.nexthops)
    order: dict[Key, list[Key]] = {}
    about: dict[Key, Thing] = {}
    for body in dumps.routes:
        family, length, source, tos, table, protocol, scope, kind, flags = ROUTE.unpack_from(body)
        if family not in (routes.INET, routes.INET6, routes.MPLS):
            continue
        if flags & routes.CLONED or protocol in (_REDIRECT, routes.OF_A_ROUTER):
            continue
        told = Told(body, ROUTE.size)
        number = told.number(routes.NEXTHOP_ID)
        indexes = routes.devices(told) if number is None else through.get(number, ())
        devices = tuple(dict.fromkeys(_name(names, index) for index in indexes))
        # What a number stands for is told with it, and compared as a nexthop.
        ignored = (routes.CACHE, routes.HOPS, *((4, 5, 18, 21, 22) if number is not None else ()))
        ways = () if number is not None else tuple(_ways(told.value(routes.HOPS), names))
        head = (family, length, source, tos, table, protocol, scope, kind, flags & routes.ON_LINK)
        key = ("route", *head, _plain(told, ignored, (routes.DEVICE,), names), ways)
        text = routes.shown_route(body, told) + (f" by {', '.join(devices)}" if devices else "")
        found = Thing(text, devices, key)
        yield found
        if family == routes.INET:
            same = (length, tos, *(told.value(each) for each in (15, 1, 6)))
            order.setdefault(same, []).append(key)
            about.setdefault(same, found)
    for same, keys in order.items():
        if len(keys) > 1:
            first = about[same]
            yield Thing(f"the order of the routes like {first.text}", first.devices, ("order", same, *keys))


def _ways(value: bytes, names: Names) -> t.Iterator[Key]:
    for index, (flags, weight), told in routes.hops(value):
        yield _name(names, index), flags & routes.ON_LINK, weight, _plain(told)


def _rules(bodies: t.Iterable[bytes]) -> t.Iterator[Thing]:
    for body in bodies:
        (flags,) = struct.unpack_from("=I", body, RULE_SIZE - 4)
        told = Told(body, RULE_SIZE)
        devices = tuple(filter(None, (told.text(3), told.text(17))))  # FRA_IIFNAME, FRA_OIFNAME
        text = f"the rule of priority {told.number(6) or 0}"
        yield Thing(text, devices, ("rule", body[: RULE_SIZE - 4], flags & _RULE_FLAGS, _plain(told)))


def _nexthops(bodies: t.Sequence[bytes], names: Names) -> t.Iterator[Thing]:
    through = routes.devices_of_nexthops(bodies)
    for body in bodies:
        family, scope, protocol, __, flags = NEXTHOP.unpack_from(body)
        told = Told(body, NEXTHOP.size)
        number = told.number(routes.NH_ID) or 0
        devices = tuple(_name(names, index) for index in through[number])
        kept = _plain(told, _NHA_IGNORED, (routes.NH_DEVICE,), names)
        buckets = _plain(told.inside(routes.NH_RESILIENT), (_UNBALANCED,))
        head = (family, scope, protocol, flags & routes.ON_LINK)
        yield Thing(f"the nexthop {number}", devices, ("nexthop", *head, kept, buckets))


def _neighbours(bodies: t.Iterable[bytes], names: Names) -> t.Iterator[Thing]:
    for body in bodies:
        family, index, state, flags, __ = NEIGHBOUR.unpack_from(body)
        told = Told(body, NEIGHBOUR.size)
        bridged = family == socket.AF_BRIDGE
        lasting = state & belongings.PERMANENT or bridged and state & belongings.STATIC
        kept_by = flags & (belongings.PROXY | belongings.EXTERNAL) or belongings.managed(told)
        if not lasting and not kept_by:
            continue
        if bridged and told.value(belongings.NDA_ADDRESS)[:3] == _IPV6_NODE_GROUP:
            continue
        name = _name(names, index)
        ignored = set(told.kinds()) - {9, *belongings.NDA_KEPT}
        kept = _plain(told, ignored, (8, 9), names)
        what = f"{belongings.shown_neighbour(family, told)} of {name}"
        fixed = flags & (belongings.SELF | belongings.MASTER | belongings.PROXY | belongings.EXTERNAL)
        yield Thing(what, (name,), ("neighbour", family, name, bool(lasting), fixed, kept))


def _vlans(bodies: t.Iterable[bytes], names: Names) -> t.Iterator[Thing]:
    for body in bodies:
        index, kept = bridging.port_vlans(body)
        name = _name(names, index)
        if kept:
            yield Thing(f"the VLANs in its bridge of {name}", (name,), ("VLANs", name, *kept))


def _groups(bodies: t.Iterable[bytes], names: Names) -> t.Iterator[Thing]:
    for bridge, entry, told in bridging.permanent_groups(bodies):
        index, __, __, vlan, address, protocol = bridging.ENTRY.unpack(entry)
        name = _name(names, index)
        text = f"the group {bridging.shown_group(address, protocol)} of VLAN {vlan} of {name}"
        key = ("group", _name(names, bridge), name, vlan, address, protocol, told.value(4))
        yield Thing(text, (name,), key)


def _traffic(dumps: Dumps, names: Names) -> t.Iterator[Thing]:
    kinds = (("discipline", dumps.qdiscs), ("class", dumps.classes), ("filter", dumps.filters))
    for kind, bodies in kinds:
        for body in dict.fromkeys(bodies):
            __, index, handle, parent, info = TRAFFIC.unpack_from(body)
            if kind == "filter" and shaping.comes_by_itself(body) or kind == "discipline" and not handle:
                continue
            told = Told(body, TRAFFIC.size)
            name = "a block" if index == shaping.OF_A_BLOCK else _name(names, index)
            options = _filter(told, names) if kind == "filter" else _options(told)
            key = (kind, name, handle, parent, info if kind == "filter" else 0, options)
            text = f"{shaping.shown(told, handle, parent)} of {name}"
            yield Thing(text, (name,), (*key, *(told.value(each) for each in _TC_KEPT)))
    yield from _mirrored(dumps.mirrored, names)


def _options(told: Told) -> Key:
    """All of them, but for what htb counts; of many kinds they are no attributes."""
    if told.text(shaping.KIND) == "htb" and len(told.inside(shaping.OPTIONS).value(2)) > _HTB_DIRECT:
        options = told.inside(shaping.OPTIONS)
        return (options.value(2)[:_HTB_DIRECT], _plain(options, (2,)))
    return (told.value(shaping.OPTIONS),)


def _filter(told: Told, names: Names) -> Key:
    """Of a kind whose layout is known all of it, of any other no more than that it is there."""
    kind = told.text(shaping.KIND)
    place = shaping.ACTIONS.get(kind)
    if place is None:
        return ()
    options = told.inside(shaping.OPTIONS)
    ignored = (place, shaping.FLAGS.get(kind, 0), *_COUNTED.get(kind, ()))
    return (_plain(options, ignored), *(_action(each, names) for each in shaping.actions_of(told)))


# Counters of filters (TCA_U32_PCNT, TCA_MATCHALL_PCNT, TCA_BASIC_PCNT), numbers that a kernel gives, and whether in hardware.
_COUNTED = {"u32": (9,), "matchall": (4,), "basic": (5,), "bpf": (6, 11), "flower": (86,)}


def _action(action: Told, names: Names) -> Key:
    kind, options = action.text(shaping.ACT_KIND), action.inside(shaping.ACT_OPTIONS)
    if kind == "police":
        whole = options.value(1)
        # Behind the number and before the references; the first byte of a rate is not told as it was set.
        return kind, whole[4:20], whole[21:32], whole[33:44], _plain(options, (1, 2, 3, *_POLICE_TOLD))
    times = _TIMES.get(kind, 1)
    found: list[t.Any] = [kind]
    for number, value in _plain(options, (times,)):
        parameters = number == 3 - times and len(value) >= _GENERIC.size
        if kind == shaping.MIRRED and parameters:
            found.append(_name(names, struct.unpack_from("=I", value, shaping.MIRRED_DEVICE)[0]))
            value = value[: shaping.MIRRED_DEVICE]
        if parameters:
            value = (_GENERIC.unpack_from(value)[2], value[_GENERIC.size :])
        found.append((number, value))
    return tuple(found)


def _mirrored(bodies: t.Iterable[bytes], names: Names) -> t.Iterator[Thing]:
    for action in (each for body in bodies for each in actions(body)):
        value = action.inside(shaping.ACT_OPTIONS).value(shaping.MIRRED_PARMS)
        if len(value) >= shaping.MIRRED_DEVICE + 4:
            (number,), (index,) = (struct.unpack_from("=I", value, at) for at in (0, shaping.MIRRED_DEVICE))
            name = _name(names, index)
            yield Thing(f"the action mirred {number} to {name}", (name,), ("mirred", number, name))


def missing(before: t.Iterable[Thing], after: t.Iterable[Thing]) -> list[Thing]:
    """What of ``before`` is not found ``after``: another value of the same thing counts as missing.

    Of a device that is gone, it alone is named and not each of its attributes.
    """
    found = {thing.key for thing in after}
    lost = [thing for thing in before if thing.key not in found]
    devices = {thing.key[:2] for thing in lost if len(thing.key) == 3 and thing.key[0] == "device"}
    return [each for each in lost if each.key[:2] not in devices or len(each.key) == 3]
