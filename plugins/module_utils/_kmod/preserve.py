# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What goes with the internal ports of the datapath, in every network namespace: captured and given back.

That is the ports themselves, the devices on them (VLAN, macvlan …), and all that names one of these by its ifindex.
"""

from __future__ import annotations

import dataclasses
import errno
import itertools
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
    settings,
    shaping,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.captured import Batch, Captured, Move
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import (
    Request,
    Stage,
    elsewhere,
    is_so_already,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import INTERNAL, Vport
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.netlink import (
    Netlink,
    Refusal,
    batches,
)

# The ifindex that a port of another namespace has in ours before it is moved: nobody counts so far.
HIGH = 1 << 28

# By namespace: each ifindex that is another one than before, by that.
Now = t.Mapping[int, t.Mapping[int, int]]
T = t.TypeVar("T")
# Of a namespace, by its identity: the devices that go with their generations, and their settings.
Known = dict[tuple[int, int, int], tuple[dict[int, int], list[Batch]]]


class OnItsWay(HotUpgradeError):
    """The device of the port ``number``, or its namespace, cannot be found: for good, or because somebody moves or deletes it."""

    def __init__(self, what: str, why: str, hint: str, number: int) -> None:
        super().__init__(what, why, hint)
        self.number = number


def capture(ports: t.Sequence[Vport], known: Known | None = None) -> Captured:
    """Look at the internal ones of ``ports``, which have the names of the database, and at all that goes with them.

    Settings are files, a hundred for each device: those in ``known`` from an earlier call are not read again.
    Raises ``OnItsWay`` when a port cannot be found.
    """
    known = {} if known is None else known
    spaces = namespaces.spaces()
    try:
        return _captured(spaces, ports, known)
    except BaseException:
        for space in spaces:
            space.close()
        raise


def _captured(spaces: t.Sequence[namespaces.Space], ports: t.Sequence[Vport], known: Known) -> Captured:
    devices = [links.dump(space.route) for space in spaces]
    present = {(place, link.index) for place, some in enumerate(devices) for link in some}
    internal = {(_place(spaces, port), port.index): port for port in ports if port.kind == INTERNAL}
    for key, port in internal.items():
        if key not in present:
            raise OnItsWay(
                f"the device of the port {port.name} cannot be found",
                "it is not in the namespace that the datapath tells",
                "Try again",
                port.number,
            )
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


def going(
    ports: t.Sequence[Vport], beside: t.Callable[[namespaces.Space, t.Container[int]], T]
) -> list[Going[T]]:
    """What goes with ``ports``, by namespace; ``beside`` is asked in each about the devices with these ifindexes.

    Raises ``HotUpgradeError`` as ``capture`` does.
    """
    spaces = namespaces.spaces()
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
    space: namespaces.Space,
    found: tuple[links.Link, ...],
    lost: tuple[links.Link, ...],
    beside: t.Callable[[namespaces.Space, t.Container[int]], T],
) -> Going[T]:
    with namespaces.within(space.namespace):
        return Going(found, lost, beside(space, {link.index for link in found}))


def _place(spaces: t.Sequence[namespaces.Space], port: Vport) -> int:
    for place, space in enumerate(spaces):
        if space.number == port.netns != namespaces.NONE:
            return place
    raise OnItsWay(
        f"the network namespace of the port {port.name} cannot be found",
        "neither a process nor a mount has it",
        "Give it a name (ip netns attach), or move the port to a namespace that has one",
        port.number,
    )


def _lower(
    spaces: t.Sequence[namespaces.Space], devices: t.Sequence[t.Sequence[links.Link]]
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


def _below(spaces: t.Sequence[namespaces.Space], place: int, link: links.Link) -> tuple[int, int]:
    """The device that ``link`` is on: its namespace, which that of ``link`` has a number for, and its ifindex."""
    if link.below_netns is None:
        return place, link.below
    for other, candidate in enumerate(spaces):
        if namespaces.number(spaces[place].route, candidate.namespace) == link.below_netns:
            return other, link.below
    return -1, 0


def _batches(
    place: int,
    space: namespaces.Space,
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
    space: namespaces.Space,
    gone: dict[int, int],
    names: t.Mapping[tuple[int, int], str],
    known: Known,
) -> list[Batch]:
    if known.get(space.identity, ({}, []))[0] != gone:
        known[space.identity] = (gone, list(_settings(place, space, gone, names)))
    return [dataclasses.replace(batch, space=place) for batch in known[space.identity][1]]


def _settings(
    place: int, space: namespaces.Space, gone: t.Mapping[int, int], names: t.Mapping[tuple[int, int], str]
) -> t.Iterator[Batch]:
    """What is set on the devices that go; ``names`` are those that they will have when this is given back."""
    called = {link.index: link.name for link in links.dump(space.route) if link.index in gone}
    both = [(now, names[place, index]) for index, now in called.items()]
    found = dict(zip(called, settings.changed(space.namespace, both, place == 0)))
    for generation in set(gone.values()):
        some = [each for index, values in found.items() if gone[index] == generation for each in values]
        yield Batch(
            place, generation, Stage.SYSCTL, settings=tuple(each for each in some if not each.when_up)
        )
        when_up = tuple(each for each in some if each.when_up)
        if when_up:
            yield Batch(place, generation, Stage.UP, settings=when_up)


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
    down = captured.with_those_above({(moved.space, moved.wanted)})
    return [
        dataclasses.replace(
            batch,
            requests=tuple(each for each in batch.requests if (batch.space, each.device) in down),
            settings=(),
        )
        for batch in captured.batches
        if Stage.ADDRESS <= batch.stage <= Stage.NEIGHBOUR
    ]


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
                failed += [text for each in batch.settings for text in settings.write(each)]
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
