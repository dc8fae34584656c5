# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What goes with the internal ports of the datapath, in every network namespace: captured, given back, compared.

That is the ports themselves, the devices on them (VLAN, macvlan …), and all that names one of these by its ifindex.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.heartbeat import beat
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import (
    belongings,
    bridging,
    dumps,
    links,
    namespaces,
    offloads,
    routes,
    shaping,
    witness,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import (
    Request,
    Stage,
    elsewhere,
    is_so_already,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import INTERNAL, Vport
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    GENERIC,
    ROUTE,
    Netlink,
    Refusal,
    batches,
)

# The ifindex that a port of another namespace has in ours before it is moved: nobody counts so far.
HIGH = 1 << 28

_SETTINGS = ("ipv4/conf", "ipv4/neigh", "ipv6/conf", "ipv6/neigh", "mpls/conf")
_OF_MPLS = {("mpls/conf", "input"): b"0\n"}
# Settings below /sys, where a mount of it shows the devices of one namespace alone: by whoever has mounted it, ours.
_FOLDER = "/sys/class/net"
_OF_SYSFS = ("gro_flush_timeout", "napi_defer_hard_irqs", "queues/rx-0/rps_cpus", "queues/rx-0/rps_flow_cnt")
# Names that mean other settings than a device's: one of that name has none.
_ALL = ("all", "default")
# The kernel keeps these itself.
_TOLD_ONLY = ("mc_forwarding",)
# Has the kernel make other addresses, whatever addr_gen_mode says (addrconf_sysctl_stable_secret in net/ipv6/addrconf.c).
_FIRST = "stable_secret"
# A device that comes up gets that of the link (addrconf_notify).
_WHEN_UP = ("ipv6/conf", "mtu")
_LAST = 99

Json = dict[str, t.Any]
# By namespace: each ifindex that is another one than before, by that.
Now = t.Mapping[int, t.Mapping[int, int]]
T = t.TypeVar("T")
# Of a namespace, by its identity: the devices that go with their generations, and their settings.
Known = dict[tuple[int, int, int], tuple[dict[int, int], list["Batch"]]]


@dataclasses.dataclass(frozen=True)
class Space:
    """A network namespace with sockets of rtnetlink and ethtool in it; ``number`` is what ours calls it, None for ours.

    The next one gets the inode of one that is gone, but not its ``cookie``.
    """

    namespace: namespaces.Namespace
    number: int | None
    route: Netlink
    generic: Netlink
    cookie: int = 0

    @property
    def identity(self) -> tuple[int, int, int]:
        """By what a namespace is known."""
        return self.namespace.device, self.namespace.inode, self.cookie

    def close(self) -> None:
        """Let go of it."""
        self.route.close()
        self.generic.close()
        os.close(self.namespace.descriptor)


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting of the kernel that is not what a new device gets; ``path`` below /proc/sys/net, or from the root on."""

    path: str
    value: bytes


@dataclasses.dataclass(frozen=True)
class Batch:
    """Requests of one stage for one namespace, in order; the ports are ``generation`` 0, and 1 is what is on them."""

    space: int
    generation: int
    stage: Stage
    requests: tuple[Request, ...] = ()
    settings: tuple[Setting, ...] = ()

    @property
    def soon(self) -> bool:
        """Whether packets of the ports themselves wait for it."""
        return self.generation == 0 and self.stage < Stage.PROPERTY

    @property
    def turn(self) -> tuple[int, int, int, int]:
        """By what batches are put in order."""
        first = self.generation if self.stage < Stage.PROPERTY else _LAST
        return first, self.stage, self.generation, self.space


@dataclasses.dataclass(frozen=True)
class Move:
    """A port whose device is in another namespace: made in ours as ``name`` with the ifindex ``first``, it goes there, where it
    has the ifindex ``wanted`` and is called ``final`` in the end.
    """

    space: int
    first: int
    wanted: int
    name: str
    final: str


@dataclasses.dataclass(frozen=True)
class Captured:
    """All that is to be given back; ``first`` is the ifindex by which each internal port is made, by the port's number.

    ``names`` are those of the devices that go, by namespace and ifindex; ``idle`` the numbers of internal ports, those with
    the fewest packets first. ``below`` tells on which device another one is. ``told`` is all that the namespaces have told, by
    their place, ``vlans`` those of VLAN devices on a device of our namespace, by its ifindex, as Ethernet type and number: for
    whoever looked himself, these are not written down.
    """

    spaces: tuple[Space, ...]
    first: t.Mapping[int, int]
    names: t.Mapping[tuple[int, int], str]
    idle: tuple[int, ...]
    moves: tuple[Move, ...]
    batches: tuple[Batch, ...]
    told: t.Mapping[int, dumps.Dumps] = dataclasses.field(default_factory=dict)
    below: t.Mapping[tuple[int, int], tuple[int, int]] = dataclasses.field(default_factory=dict)
    vlans: t.Mapping[int, t.Collection[tuple[int, int]]] = dataclasses.field(default_factory=dict)

    def close(self) -> None:
        """Let go of the namespaces."""
        for space in self.spaces:
            space.close()

    @property
    def size(self) -> int:
        """How many things the namespaces have told."""
        return sum(
            len(each)
            for told in self.told.values()
            for field in dataclasses.fields(told)
            if not isinstance(each := getattr(told, field.name), bool)
        )

    def shown(self, batch: Batch, request: Request) -> str:
        """A request for people."""
        name = self.names.get((batch.space, request.device))
        return f"{request.what} of {name}" if name else request.what


def capture(ports: t.Sequence[Vport], known: Known | None = None) -> Captured:
    """Look at the internal ones of ``ports``, which have the names of the database, and at all that goes with them.

    Settings are files, a hundred for each device: those in ``known`` from an earlier call are not read again.
    Raises ``HotUpgradeError`` when the namespace of a port cannot be found.
    """
    known = {} if known is None else known
    spaces = every_space()
    devices = [links.dump(space.route) for space in spaces]
    internal = {(_place(spaces, port), port.index): port for port in ports if port.kind == INTERNAL}
    below = _lower(spaces, devices)
    generations = _generations(below, internal)
    called = {
        (place, link.index): link.name
        for place, some in enumerate(devices)
        for link in some
        if (place, link.index) in generations
    }
    moves = _moves(internal, called)
    for_now = {**called, **{(move.space, move.wanted): move.name for move in moves}}
    found: list[Batch] = []
    told: dict[int, dumps.Dumps] = {}
    for place, (space, some) in enumerate(zip(spaces, devices)):
        gone = {index: generation for (where, index), generation in generations.items() if where == place}
        if gone:
            told[place] = dumps.dump(space.route, some)
            found += _batches(place, space, told[place], gone, below)
            found += _known_settings(place, space, gone, for_now, known)
    return Captured(
        tuple(spaces),
        {port.number: HIGH + port.number if place else index for (place, index), port in internal.items()},
        called,
        _idle(internal, devices),
        moves,
        tuple(sorted(found, key=lambda batch: batch.turn)),
        told,
        below,
        _vlans(below, devices),
    )


def _vlans(
    below: t.Mapping[tuple[int, int], tuple[int, int]], devices: t.Sequence[t.Sequence[links.Link]]
) -> dict[int, set[tuple[int, int]]]:
    found: dict[int, set[tuple[int, int]]] = {}
    for place, some in enumerate(devices):
        for link in some:
            where, index = below.get((place, link.index), (-1, 0))
            if where == 0 and link.vlan is not None:
                found.setdefault(index, set()).add(link.vlan)
    return found


def _idle(
    internal: t.Mapping[tuple[int, int], Vport], devices: t.Sequence[t.Sequence[links.Link]]
) -> tuple[int, ...]:
    packets = {(place, link.index): link.packets for place, some in enumerate(devices) for link in some}
    in_turn = sorted(internal.items(), key=lambda item: packets.get(item[0], 0))
    return tuple(port.number for __, port in in_turn if port.number)


def _moves(
    internal: t.Mapping[tuple[int, int], Vport], called: t.Mapping[tuple[int, int], str]
) -> tuple[Move, ...]:
    return tuple(
        Move(place, HIGH + port.number, index, port.name, called[place, index])
        for (place, index), port in internal.items()
        if place
    )


@dataclasses.dataclass(frozen=True)
class Going(t.Generic[T]):
    """What of one namespace goes with ports: ``devices``, those ``lost`` that nobody makes again, and what is ``beside`` them."""

    devices: tuple[links.Link, ...]
    lost: tuple[links.Link, ...]
    beside: T


def going(ports: t.Sequence[Vport], beside: t.Callable[[Space, t.Container[int]], T]) -> list[Going[T]]:
    """What goes with ``ports``, by namespace; ``beside`` is asked in each about the devices with these ifindexes.

    Raises ``HotUpgradeError`` as ``capture`` does.
    """
    spaces = every_space()
    try:
        devices = [links.dump(space.route) for space in spaces]
        internal = [(_place(spaces, port), port.index) for port in ports if port.kind == INTERNAL]
        gone = _generations(_lower(spaces, devices), internal)
        every = [(place, link) for place, some in enumerate(devices) for link in some]
        masters = {(place, link.master) for place, link in every if (place, link.index) in gone}
        lost = [
            (place, link)
            for place, link in every
            if link.kind in links.LOST
            and (_below(spaces, place, link) in gone or (place, link.index) in masters)
        ]
        found = [(place, link) for place, link in every if (place, link.index) in gone]
        return [
            _going(spaces[place], _at(place, found), _at(place, lost), beside)
            for place in sorted({place for place, __ in (*found, *lost)})
        ]
    finally:
        for space in spaces:
            space.close()


def _at(place: int, found: t.Iterable[tuple[int, links.Link]]) -> tuple[links.Link, ...]:
    return tuple(link for where, link in found if where == place)


def _going(
    space: Space,
    found: tuple[links.Link, ...],
    lost: tuple[links.Link, ...],
    beside: t.Callable[[Space, t.Container[int]], T],
) -> Going[T]:
    with namespaces.within(space.namespace):
        return Going(found, lost, beside(space, {link.index for link in found}))


def every_space() -> list[Space]:
    """Every network namespace, ours first.  Raises ``HotUpgradeError`` when there are too many."""
    found: list[Space] = []
    every = namespaces.every()
    for namespace in every:
        try:
            with namespaces.within(namespace):
                route, generic = Netlink(ROUTE), Netlink(GENERIC)
        except OSError as error:
            for space in found:
                space.close()
            for left in every[len(found) :]:
                os.close(left.descriptor)
            raise namespaces.too_many(error) from error
        number = namespaces.number(found[0].route, namespace) if found else None
        if found and number is None:
            number = -1  # none that the kernel knows from here
        found.append(Space(namespace, number, route, generic, route.namespace))
    return found


def _place(spaces: t.Sequence[Space], port: Vport) -> int:
    for place, space in enumerate(spaces):
        if space.number == port.netns:
            return place
    raise HotUpgradeError(
        f"the network namespace of the port {port.name} cannot be found",
        "neither a process nor a mount has it",
        "Give it a name (ip netns attach), or move the port to a namespace that has one",
    )


def _lower(
    spaces: t.Sequence[Space], devices: t.Sequence[t.Sequence[links.Link]]
) -> dict[tuple[int, int], tuple[int, int]]:
    """On which device each other one is that the kernel deletes with it."""
    return {
        (place, link.index): _below(spaces, place, link)
        for place, some in enumerate(devices)
        for link in some
        if link.kind in links.ON_OTHERS and link.below
    }


def _generations(
    below: t.Mapping[tuple[int, int], tuple[int, int]], ports: t.Iterable[tuple[int, int]]
) -> dict[tuple[int, int], int]:
    """The devices that go, by namespace and ifindex, and how many others each is on."""
    found = dict.fromkeys(ports, 0)
    for generation in itertools.count(1):
        new = [device for device, lower in below.items() if found.get(lower) == generation - 1]
        found.update(dict.fromkeys(new, generation))
        if not new:
            break
    return found


def _below(spaces: t.Sequence[Space], place: int, link: links.Link) -> tuple[int, int]:
    """The device that ``link`` is on: its namespace, which that of ``link`` has a number for, and its ifindex."""
    if link.below_netns is None:
        return place, link.below
    for other, candidate in enumerate(spaces):
        if namespaces.number(spaces[place].route, candidate.namespace) == link.below_netns:
            return other, link.below
    return -1, 0


def _batches(
    place: int,
    space: Space,
    told: dumps.Dumps,
    gone: t.Mapping[int, int],
    below: t.Mapping[tuple[int, int], tuple[int, int]],
) -> t.Iterator[Batch]:
    found = [link for link in told.links if link.index in gone]
    requests = [_made(place, link, below) for link in found if gone[link.index]]
    requests += [request for link in found for request in links.settings(link)]
    requests += links.bonds(told.links, gone)
    requests += links.sizes_on_masters(told.links, gone)
    requests += bridging.vlans(told.vlans, told.links, gone)
    requests += belongings.addresses(told.addresses, gone)
    requests += routes.nexthops(told.nexthops, gone)
    requests += routes.routes(told, gone)
    requests += belongings.neighbours(told.neighbours, told.links, gone)
    requests += belongings.neighbours_of_masters(told.neighbours, told.links, gone)
    requests += bridging.groups(told.groups, gone)
    requests += shaping.shaping(told, gone)
    requests += offloads.dump(space.generic, gone)

    def when(request: Request) -> tuple[int, Stage]:
        return gone.get(request.device, 0), request.stage

    for (generation, stage), some in itertools.groupby(sorted(requests, key=when), when):
        yield Batch(place, generation, stage, requests=tuple(some))


def _made(place: int, link: links.Link, below: t.Mapping[tuple[int, int], tuple[int, int]]) -> Request:
    """Its own device may be in one namespace and the one that it is on in another one, with an ifindex of there."""
    (where, __) = below[place, link.index]
    return dataclasses.replace(links.made(link), below=None if where == place else where)


def _known_settings(
    place: int,
    space: Space,
    gone: dict[int, int],
    names: t.Mapping[tuple[int, int], str],
    known: Known,
) -> list[Batch]:
    if known.get(space.identity, ({}, []))[0] != gone:
        known[space.identity] = (gone, list(_settings(place, space, gone, names)))
    return [dataclasses.replace(batch, space=place) for batch in known[space.identity][1]]


def _settings(
    place: int, space: Space, gone: t.Mapping[int, int], names: t.Mapping[tuple[int, int], str]
) -> t.Iterator[Batch]:
    """What is set other than a new device has it; ``names`` are those that the devices will have when this is given back.

    The defaults of neighbours are in the first namespace alone; where they are not to be seen, all is given back.
    """
    usual = _usual()
    with namespaces.within(space.namespace):
        usual = {**usual, **_usual()}
        now = {
            link.index: link.name
            for link in links.dump(space.route)
            if link.index in gone and not {link.name, names[place, link.index]} & set(_ALL)
        }
        for generation in set(gone.values()):
            found = tuple(
                Setting(f"{folder}/{names[place, index]}/{key}", value)
                for index, name in now.items()
                if gone[index] == generation
                for folder, key, value in _of(name)
                if value != usual.get((folder, key))
            )
            if place == 0:
                found += tuple(
                    Setting(f"{_FOLDER}/{names[place, index]}/{key}", value)
                    for index, name in now.items()
                    if gone[index] == generation
                    for key in _OF_SYSFS
                    if (value := _read(f"{_FOLDER}/{name}/{key}") or b"").strip(b"0,\n")
                )
            when_up = tuple(each for each in found if _is_for_later(each))
            yield Batch(
                place,
                generation,
                Stage.SYSCTL,
                settings=tuple(each for each in found if each not in when_up),
            )
            if when_up:
                yield Batch(place, generation, Stage.UP, settings=when_up)


def _is_for_later(setting: Setting) -> bool:
    return (os.path.dirname(os.path.dirname(setting.path)), os.path.basename(setting.path)) == _WHEN_UP


def _usual() -> dict[tuple[str, str], bytes]:
    """The settings that a new device gets here, by folder and name; those of MPLS have no default to be read."""
    return {**_OF_MPLS, **{(folder, key): value for folder, key, value in _of("default")}}


def _of(device: str) -> t.Iterator[tuple[str, str, bytes]]:
    beat()
    for folder in _SETTINGS:
        place = f"/proc/sys/net/{folder}/{device}"
        for key in _listed(place):
            value = None if key in _TOLD_ONLY else _read(f"{place}/{key}")
            if value is not None:
                yield folder, key, value


def _listed(place: str) -> list[str]:
    try:
        return sorted(os.listdir(place), key=_FIRST.__ne__)
    except OSError:  # no device has such settings, or this one has just gone with its container
        return []


def _read(path: str) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return os.read(descriptor, 4096)
        finally:
            os.close(descriptor)
    except OSError:  # not every setting can be read
        return None


def move(captured: Captured, now: t.Mapping[int, int]) -> list[str]:
    """Take ports to their namespaces; ``now`` is the ifindex of each by the one it was to be made with.

    Returns what was refused, in words.
    """
    wanted = [
        links.moved(
            now.get(each.first, each.first), captured.spaces[each.space].namespace.descriptor, each.wanted
        )
        for each in captured.moves
    ]
    refused = captured.spaces[0].route.transact(batches(wanted)) if wanted else []
    return [f"{captured.moves[each.place].name} into its namespace: {each}" for each in refused]


def arrived(captured: Captured) -> Now:
    """The ifindex of ports in their namespaces where that is not the one of before: Linux before 5.13 cannot be asked for one."""
    dumped: dict[int, dict[str, int]] = {}
    found: dict[int, dict[int, int]] = {}
    for each in captured.moves:
        if each.space not in dumped:
            route = captured.spaces[each.space].route
            dumped[each.space] = {link.name: link.index for link in links.dump(route)}
        there = dumped[each.space]
        if each.wanted in there.values():
            if not found:
                return {}  # it was asked, and what holds for one holds for all: they are many, and this is in the gap
            continue
        index = there.get(each.name, there.get(each.final))
        if index is not None:
            found.setdefault(each.space, {})[each.wanted] = index
    return found


def rename(captured: Captured) -> list[str]:
    """Give ports in other namespaces the names that they had there; returns what was refused.

    ovs-vswitchd knows them by the names of the database, so it has to have opened them before.  Whoever does that hours later
    may find another namespace of the same identity, and another device with the same ifindex in it: that keeps its name.
    """
    failed = []
    moves = [each for each in captured.moves if each.final != each.name]
    now = arrived(captured) if moves else {}
    called = {
        (space, link.index): link.name
        for space in {each.space for each in moves}
        for link in links.dump(captured.spaces[space].route)
    }
    for each in moves:
        route = captured.spaces[each.space].route
        index = now.get(each.space, {}).get(each.wanted, each.wanted)
        if called.get((each.space, index), each.name) != each.name:
            continue
        wanted = [links.renamed(index, each.final)]
        refused = route.transact(batches(wanted))
        if any(found.number == errno.EBUSY for found in refused):  # it is up, and Linux older than 6.2
            refused = route.transact(batches([links.down(index), *wanted]))
            restore(captured, _of_device(captured, each), now)
        failed += [f"the name {each.final} of {each.name}: {found}" for found in refused]
    return failed


def _of_device(captured: Captured, moved: Move) -> list[Batch]:
    """What a device loses when it is taken down: VLANs on it go down with it, and lose the same."""
    down = _with_those_above(captured, {(moved.space, moved.wanted)})
    return [
        dataclasses.replace(
            batch,
            requests=tuple(each for each in batch.requests if (batch.space, each.device) in down),
            settings=(),
        )
        for batch in captured.batches
        if Stage.ADDRESS <= batch.stage <= Stage.NEIGHBOUR
    ]


def _with_those_above(captured: Captured, devices: set[tuple[int, int]]) -> set[tuple[int, int]]:
    found = set(devices)
    while more := {device for device, lower in captured.below.items() if lower in found} - found:
        found |= more
    return found


def restore(captured: Captured, wanted: t.Iterable[Batch], now: Now | None = None) -> list[str]:
    """Give back what ``wanted`` holds; what is there already stays. Returns what was refused, in words."""
    failed = []
    for batch in wanted:
        requests = batch.requests
        if now and any(now.values()):
            requests = tuple(_elsewhere(each, batch.space, now) for each in requests)
        if requests:
            space = captured.spaces[batch.space]
            socket = space.generic if batch.stage == Stage.OFFLOAD else space.route
            refused = _sent(socket, batches([each.data for each in requests]))
            failed += [
                _words(captured, batch, each)
                for each in refused
                if not is_so_already(requests[each.place], each.number)
            ]
        if batch.settings:
            with namespaces.within(captured.spaces[batch.space].namespace):
                failed += [text for each in batch.settings for text in _set(each)]
    return failed


def _sent(socket: Netlink, prepared: t.Sequence[bytes]) -> list[Refusal]:
    """What is refused of it, with a heartbeat: of routes there may be a million."""
    refused = []
    for each in prepared:
        beat()
        refused += socket.transact([each])
    return refused


def _elsewhere(request: Request, space: int, now: Now) -> Request:
    to = now.get(space, {})
    if request.stage == Stage.OFFLOAD:
        return dataclasses.replace(request, data=offloads.elsewhere(request.data, to))
    return elsewhere(request, to, now.get(space if request.below is None else request.below, {}))


def _words(captured: Captured, batch: Batch, refused: Refusal) -> str:
    return f"{captured.shown(batch, batch.requests[refused.place])}: {refused}"


def _set(setting: Setting) -> list[str]:
    try:
        descriptor = os.open(os.path.join("/proc/sys/net", setting.path), os.O_WRONLY)
        try:
            os.write(descriptor, setting.value)
        finally:
            os.close(descriptor)
    except OSError as error:
        return [f"{setting.path}: {error.strerror}"]
    return []


def missing(
    before: Captured, after: Captured, absent: t.Container[tuple[int, int]] = ()
) -> list[tuple[witness.Thing, bool]]:
    """What was there ``before`` and is not ``after``, and whether it is of a device that went; nothing of those ``absent``.

    A namespace that is gone has taken with it what was in it.
    """
    lost: list[tuple[witness.Thing, bool]] = []
    places = {space.identity: place for place, space in enumerate(after.spaces)}
    for place, told in before.told.items():
        other = places.get(before.spaces[place].identity)
        if other is None:
            continue
        route = after.spaces[other].route
        now = after.told[other] if other in after.told else dumps.dump(route, links.dump(route))
        left_out = {
            name
            for (where, index), name in before.names.items()
            if (where, index) in absent and where == place
        }
        gone = _names(before, place)
        for thing in witness.missing(_things(before, place, told), _things(after, other, now)):
            if not left_out & set(thing.devices):
                lost.append((thing, bool(gone & set(thing.devices))))
    return lost


def at_risk(captured: Captured) -> int:
    """How much there is that names a device which goes."""
    return sum(
        1
        for place, told in captured.told.items()
        for thing in _things(captured, place, told)
        if _names(captured, place) & set(thing.devices)
    )


def _names(captured: Captured, place: int) -> set[str]:
    return {name for (where, __), name in captured.names.items() if where == place}


def absent(captured: Captured, ports: t.Iterable[Vport], present: t.Container[str]) -> set[tuple[int, int]]:
    """The devices of internal ``ports`` whose name is not ``present``, and what is on them: somebody has deleted them."""
    moved = {move.name: (move.space, move.wanted) for move in captured.moves}
    found = {
        moved.get(port.name, (0, port.index))
        for port in ports
        if port.kind == INTERNAL and port.number and port.name not in present
    }
    return _with_those_above(captured, found)


def _things(captured: Captured, place: int, told: dumps.Dumps) -> t.Iterator[witness.Thing]:
    """All that a namespace tells, and what is read in other ways of the devices that go."""
    yield from witness.things(told)
    for batch in captured.batches:
        if batch.space == place:
            for setting in batch.settings:
                devices = tuple(_names(captured, place) & set(setting.path.split("/")))
                yield witness.Thing(
                    f"the setting {setting.path}", devices, ("setting", setting.path, setting.value)
                )
            for request in batch.requests if batch.stage == Stage.OFFLOAD else ():
                name = captured.names.get((place, request.device), "")
                same = offloads.elsewhere(request.data, {request.device: 0})
                yield witness.Thing(captured.shown(batch, request), (name,), ("offloads", name, same))


def as_json(captured: Captured) -> Json:
    """For the disk: whoever goes on after a crash gives back from there."""
    return {
        "spaces": [list(space.identity) for space in captured.spaces],
        "first": list(captured.first.items()),
        "names": [[*key, name] for key, name in captured.names.items()],
        "idle": list(captured.idle),
        "below": [[*key, *lower] for key, lower in captured.below.items() if key in captured.names],
        "moves": [dataclasses.astuple(move) for move in captured.moves],
        "batches": [
            {
                "space": batch.space,
                "generation": batch.generation,
                "stage": int(batch.stage),
                "requests": [
                    [each.device, each.what, each.data.hex(), list(each.places), each.below]
                    for each in batch.requests
                ],
                "settings": [[each.path, each.value.hex()] for each in batch.settings],
            }
            for batch in captured.batches
        ],
    }


def from_json(record: Json) -> Captured:
    """Undo ``as_json``; a namespace that is gone has nothing to be given back, and its batches are left out."""
    present = every_space()
    by_identity = {space.identity: space for space in present}
    kept = [by_identity.get((device, inode, cookie)) for device, inode, cookie in record["spaces"]]
    gone = {place for place, space in enumerate(kept) if space is None}
    for space in present:
        if space not in kept:
            with contextlib.suppress(OSError):
                space.close()
    return Captured(
        tuple(space or present[0] for space in kept),
        dict(record["first"]),
        {(place, index): name for place, index, name in record["names"]},
        tuple(record["idle"]),
        tuple(Move(*fields) for fields in record["moves"] if fields[0] not in gone),
        tuple(_batch(each) for each in record["batches"] if each["space"] not in gone),
        below={(place, index): (where, lower) for place, index, where, lower in record["below"]},
    )


def _batch(record: Json) -> Batch:
    stage = Stage(record["stage"])
    requests = tuple(
        Request(stage, device, what, bytes.fromhex(data), tuple(places), below)
        for device, what, data, places, below in record["requests"]
    )
    settings = tuple(Setting(path, bytes.fromhex(value)) for path, value in record["settings"])
    return Batch(record["space"], record["generation"], stage, requests, settings)
