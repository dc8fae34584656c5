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
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import (
    belongings,
    links,
    namespaces,
    offloads,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import (
    Request,
    Stage,
    elsewhere,
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

_SETTINGS = ("ipv4/conf", "ipv4/neigh", "ipv6/conf", "ipv6/neigh")
# Names that mean other settings than a device's: one of that name has none.
_ALL = ("all", "default")
# The kernel keeps these itself.
_TOLD_ONLY = ("mc_forwarding",)
_LAST = 99

Json = dict[str, t.Any]
# Of a namespace, by its identity: the devices that go with their generations, and their settings.
Known = dict[tuple[int, int], tuple[dict[int, int], list["Batch"]]]


@dataclasses.dataclass(frozen=True)
class Space:
    """A network namespace with sockets of rtnetlink and ethtool in it; ``number`` is what ours calls it, None for ours."""

    namespace: namespaces.Namespace
    number: int | None
    route: Netlink
    generic: Netlink

    def close(self) -> None:
        """Let go of it."""
        self.route.close()
        self.generic.close()
        os.close(self.namespace.descriptor)


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting of the kernel that is not what a new device gets; ``path`` below /proc/sys/net."""

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
    the fewest packets first.
    """

    spaces: tuple[Space, ...]
    first: t.Mapping[int, int]
    names: t.Mapping[tuple[int, int], str]
    idle: tuple[int, ...]
    moves: tuple[Move, ...]
    batches: tuple[Batch, ...]

    def close(self) -> None:
        """Let go of the namespaces."""
        for space in self.spaces:
            space.close()

    def shown(self, batch: Batch, request: Request) -> str:
        """A request for people."""
        name = self.names.get((batch.space, request.device))
        return f"{request.what} of {name}" if name else request.what


def capture(ports: t.Sequence[Vport], names: t.Mapping[int, str], known: Known | None = None) -> Captured:
    """Look at the internal ones of ``ports`` and all that goes with them; ``names`` are those of the database, by number.

    Settings are files, a hundred for each device: those in ``known`` from an earlier call are not read again.
    Raises ``HotUpgradeError`` when the namespace of a port cannot be found.
    """
    known = {} if known is None else known
    spaces = every_space()
    devices = [links.dump(space.route) for space in spaces]
    internal = {(_place(spaces, port), port.index): port for port in ports if port.kind == INTERNAL}
    generations = _generations(spaces, devices, internal)
    called = {
        (place, link.index): link.name
        for place, some in enumerate(devices)
        for link in some
        if (place, link.index) in generations
    }
    packets = {(place, link.index): link.packets for place, some in enumerate(devices) for link in some}
    moves = tuple(
        Move(place, HIGH + port.number, index, names.get(port.number, port.name), called[place, index])
        for (place, index), port in internal.items()
        if place
    )
    for_now = {**called, **{(move.space, move.wanted): move.name for move in moves}}
    found: list[Batch] = []
    for place, (space, some) in enumerate(zip(spaces, devices)):
        gone = {index: generation for (where, index), generation in generations.items() if where == place}
        if gone:
            found += _batches(place, space, some, gone)
            found += _known_settings(place, space, gone, for_now, known)
    return Captured(
        tuple(spaces),
        {port.number: HIGH + port.number if place else index for (place, index), port in internal.items()},
        called,
        tuple(
            port.number
            for __, port in sorted(internal.items(), key=lambda item: packets.get(item[0], 0))
            if port.number
        ),
        moves,
        tuple(sorted(found, key=lambda batch: batch.turn)),
    )


def every_space() -> list[Space]:
    """Every network namespace, ours first."""
    found: list[Space] = []
    for namespace in namespaces.every():
        with namespaces.within(namespace):
            route, generic = Netlink(ROUTE), Netlink(GENERIC)
        number = namespaces.number(found[0].route, namespace) if found else None
        if found and number is None:
            number = -1  # none that the kernel knows from here
        found.append(Space(namespace, number, route, generic))
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


def _generations(
    spaces: t.Sequence[Space], devices: t.Sequence[t.Sequence[links.Link]], ports: t.Iterable[tuple[int, int]]
) -> dict[tuple[int, int], int]:
    """The devices that go, by namespace and ifindex, and how many others each is on."""
    found = dict.fromkeys(ports, 0)
    others = [
        (place, link.index, _below(spaces, place, link))
        for place, some in enumerate(devices)
        for link in some
        if link.kind in links.ON_OTHERS and link.below
    ]
    for generation in itertools.count(1):
        new = [(place, index) for place, index, below in others if found.get(below) == generation - 1]
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
    place: int, space: Space, devices: t.Sequence[links.Link], gone: t.Mapping[int, int]
) -> t.Iterator[Batch]:
    found = [link for link in devices if link.index in gone]
    requests = [links.made(link) for link in found if gone[link.index]]
    requests += [request for link in found for request in links.settings(link)]
    dumps = belongings.dump(space.route)
    own = {
        belongings.own_address(body) for body in dumps.addresses if belongings.device_of_address(body) in gone
    }
    requests += belongings.addresses(dumps.addresses, gone)
    requests += belongings.routes(dumps.routes, gone, own)
    requests += belongings.neighbours(dumps.neighbours, gone)
    requests += belongings.shaping(space.route, dumps.qdiscs, gone)
    requests += offloads.dump(space.generic, gone)

    def when(request: Request) -> tuple[int, Stage]:
        return gone.get(request.device, 0), request.stage

    for (generation, stage), some in itertools.groupby(sorted(requests, key=when), when):
        yield Batch(place, generation, stage, requests=tuple(some))


def _known_settings(
    place: int,
    space: Space,
    gone: dict[int, int],
    names: t.Mapping[tuple[int, int], str],
    known: Known,
) -> list[Batch]:
    identity = (space.namespace.device, space.namespace.inode)
    if known.get(identity, ({}, []))[0] != gone:
        known[identity] = (gone, list(_settings(place, space, gone, names)))
    return [dataclasses.replace(batch, space=place) for batch in known[identity][1]]


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
            yield Batch(place, generation, Stage.SYSCTL, settings=found)


def _usual() -> dict[tuple[str, str], bytes]:
    """The settings that a new device gets here, by folder and name."""
    return {(folder, key): value for folder, key, value in _of("default")}


def _of(device: str) -> t.Iterator[tuple[str, str, bytes]]:
    for folder in _SETTINGS:
        place = f"/proc/sys/net/{folder}/{device}"
        for key in os.listdir(place) if os.path.isdir(place) else ():
            value = None if key in _TOLD_ONLY else _read(f"{place}/{key}")
            if value is not None:
                yield folder, key, value


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


def rename(captured: Captured) -> list[str]:
    """Give ports in other namespaces the names that they had there; returns what was refused.

    ovs-vswitchd knows them by the names of the database, so it has to have opened them before.
    """
    failed = []
    for each in captured.moves:
        if each.final == each.name:
            continue
        route = captured.spaces[each.space].route
        wanted = [links.renamed(each.wanted, each.final)]
        refused = route.transact(batches(wanted))
        if any(found.number == errno.EBUSY for found in refused):  # it is up, and Linux older than 6.2
            refused = route.transact(batches([links.down(each.wanted), *wanted]))
            restore(captured, _of_device(captured, each))
        failed += [f"the name {each.final} of {each.name}: {found}" for found in refused]
    return failed


def _of_device(captured: Captured, moved: Move) -> list[Batch]:
    """What a device loses when it is taken down."""
    return [
        dataclasses.replace(
            batch, requests=tuple(each for each in batch.requests if each.device == moved.wanted), settings=()
        )
        for batch in captured.batches
        if batch.space == moved.space and Stage.ADDRESS <= batch.stage <= Stage.NEIGHBOUR
    ]


def restore(
    captured: Captured, wanted: t.Iterable[Batch], now: t.Mapping[int, int] | None = None
) -> list[str]:
    """Give back what ``wanted`` holds; what is there already stays. Returns what was refused, in words.

    ``now`` holds each ifindex in our namespace that is not the one of before.
    """
    failed = []
    for batch in wanted:
        requests = batch.requests
        if now and batch.space == 0:
            requests = tuple(_elsewhere(each, now) for each in requests)
        if requests:
            space = captured.spaces[batch.space]
            socket = space.generic if batch.stage == Stage.OFFLOAD else space.route
            refused = socket.transact(batches([each.data for each in requests]))
            failed += [_words(captured, batch, each) for each in refused if each.number != errno.EEXIST]
        if batch.settings:
            with namespaces.within(captured.spaces[batch.space].namespace):
                failed += [text for each in batch.settings for text in _set(each)]
    return failed


def _elsewhere(request: Request, now: t.Mapping[int, int]) -> Request:
    if request.stage == Stage.OFFLOAD:
        return dataclasses.replace(request, data=offloads.elsewhere(request.data, now))
    return elsewhere(request, now)


def _words(captured: Captured, batch: Batch, refused: Refusal) -> str:
    return f"{captured.shown(batch, batch.requests[refused.place])}: {refused}"


def _set(setting: Setting) -> list[str]:
    try:
        descriptor = os.open(f"/proc/sys/net/{setting.path}", os.O_WRONLY)
        try:
            os.write(descriptor, setting.value)
        finally:
            os.close(descriptor)
    except OSError as error:
        return [f"{setting.path}: {error.strerror}"]
    return []


def missing(before: Captured, after: Captured) -> list[str]:
    """What of ``before`` is not found ``after``, in words: other values of the same thing count as missing."""
    found = set(contents(after))
    lost = [text for key, text in contents(before).items() if key not in found]
    return list(dict.fromkeys(lost))


def contents(captured: Captured) -> dict[tuple[t.Any, ...], str]:
    """All that is looked for again, in words, by what it must be."""
    found: dict[tuple[t.Any, ...], str] = {}
    for batch in captured.batches:
        where = captured.spaces[batch.space].namespace
        place = (where.device, where.inode)
        for request in batch.requests:
            if request.same is not None:
                key = (*place, request.stage, request.device, request.what, request.same)
                found[key] = captured.shown(batch, request)
        for setting in batch.settings:
            found[(*place, setting.path, setting.value)] = f"the setting {setting.path}"
    return found


def as_json(captured: Captured) -> Json:
    """For the disk: whoever goes on after a crash gives back from there."""
    return {
        "spaces": [[space.namespace.device, space.namespace.inode] for space in captured.spaces],
        "first": list(captured.first.items()),
        "names": [[*key, name] for key, name in captured.names.items()],
        "idle": list(captured.idle),
        "moves": [dataclasses.astuple(move) for move in captured.moves],
        "batches": [
            {
                "space": batch.space,
                "generation": batch.generation,
                "stage": int(batch.stage),
                "requests": [
                    [each.device, each.what, each.data.hex(), each.same and each.same.hex()]
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
    by_identity = {(space.namespace.device, space.namespace.inode): space for space in present}
    kept = [by_identity.get((device, inode)) for device, inode in record["spaces"]]
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
    )


def _batch(record: Json) -> Batch:
    stage = Stage(record["stage"])
    requests = tuple(
        Request(stage, device, what, bytes.fromhex(data), None if same is None else bytes.fromhex(same))
        for device, what, data, same in record["requests"]
    )
    settings = tuple(Setting(path, bytes.fromhex(value)) for path, value in record["settings"])
    return Batch(record["space"], record["generation"], stage, requests, settings)
