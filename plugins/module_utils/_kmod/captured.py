# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What goes with the internal ports of a datapath, as plain data, in memory and on the disk."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import dumps, namespaces
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import Request, Stage
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.settings import Setting

_LAST = 99

Json = dict[str, t.Any]


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

    spaces: tuple[namespaces.Space, ...]
    first: t.Mapping[int, int]
    names: t.Mapping[tuple[int, int], str]
    idle: tuple[int, ...]
    moves: tuple[Move, ...]
    batches: tuple[Batch, ...]
    told: t.Mapping[int, dumps.Dumps] = dataclasses.field(default_factory=dict)
    below: t.Mapping[tuple[int, int], tuple[int, int]] = dataclasses.field(default_factory=dict)
    vlans: t.Mapping[int, t.Collection[tuple[int, int]]] = dataclasses.field(default_factory=dict)

    def close(self) -> None:
        """Let go of the namespaces; ours stands in for those that are gone, and is one."""
        for space in dict.fromkeys(self.spaces):
            space.close()

    def with_those_above(self, devices: t.Collection[tuple[int, int]]) -> set[tuple[int, int]]:
        """``devices``, by namespace and ifindex, and all that are on them."""
        found = set(devices)
        while more := {device for device, lower in self.below.items() if lower in found} - found:
            found |= more
        return found

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

    def as_json(self) -> Json:
        """For the disk: whoever goes on after a crash gives back from there."""
        return {
            "spaces": [list(space.identity) for space in self.spaces],
            "first": list(self.first.items()),
            "names": [[*key, name] for key, name in self.names.items()],
            "idle": list(self.idle),
            "below": [[*key, *lower] for key, lower in self.below.items() if key in self.names],
            "moves": [dataclasses.astuple(move) for move in self.moves],
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
                for batch in self.batches
            ],
        }

    @classmethod
    def from_json(cls, record: Json) -> Captured:
        """Undo ``as_json``; a namespace that is gone has nothing to be given back, and its batches are left out."""
        present = namespaces.spaces()
        by_identity = {space.identity: space for space in present}
        kept = [by_identity.get((device, inode, cookie)) for device, inode, cookie in record["spaces"]]
        gone = {place for place, space in enumerate(kept) if space is None}
        for space in present:
            if space not in kept:
                with contextlib.suppress(OSError):
                    space.close()
        return cls(
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
