# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What tells two states of a bridge apart."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import text, wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.content import Ignored, Part
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import (
    Settings,
    State,
    settings_messages,
)

# Of a difference, so many objects are kept; all are counted.
MOST_SHOWN = 1000


def object_name(message: bytes) -> t.Hashable:
    """What tells the flow or group of a message from all others."""
    return wire.flow_key(message) if wire.is_flow_mod(message) else wire.group_id(message)


@dataclasses.dataclass(frozen=True)
class Ignore:
    """What may differ: ``cookies``; ``timeouts`` (their values); ``expiring`` flows (those with a timeout);
    ``learned`` flows (those that a learn action of either side adds); all flows of some ``tables``; which ``ports``
    there are and what they are called (but not the config of those that both sides have); and whether their ``devices``
    are up."""

    cookies: bool = False
    timeouts: bool = False
    expiring: bool = False
    learned: bool = False
    tables: frozenset[int] = frozenset()
    ports: bool = False
    devices: bool = False


EXACT = Ignore()
_NOTHING = Ignored()
# Flows that come and go by themselves are no difference between before and after; ports are looked at by themselves.
BY_ITSELF = Ignore(expiring=True, learned=True, ports=True, devices=True)


@dataclasses.dataclass(frozen=True)
class Difference:
    """How two states differ; ``missing`` and ``extra`` are messages, at most as many as asked for."""

    missing: tuple[bytes, ...]
    extra: tuple[bytes, ...]
    missing_count: int
    extra_count: int

    def __bool__(self) -> bool:
        """Whether there is a difference."""
        return not self.same

    @property
    def same(self) -> bool:
        """Whether there is no difference."""
        return not (self.missing_count or self.extra_count)

    def without_groups(self, groups: t.Container[int]) -> Difference:
        """The same without these groups."""
        missing, extra = (
            tuple(
                message
                for message in found
                if not (wire.is_group_mod(message) and wire.group_id(message) in groups)
            )
            for found in (self.missing, self.extra)
        )
        counts = (
            self.missing_count - len(self.missing) + len(missing),
            self.extra_count - len(self.extra) + len(extra),
        )
        return Difference(missing, extra, *counts)

    @property
    def flows_alone(self) -> bool:
        """Whether nothing but flows differs, and all of them are known."""
        found = (*self.missing, *self.extra)
        return len(found) == self.missing_count + self.extra_count and all(map(wire.is_flow_mod, found))

    def __str__(self) -> str:
        """The numbers, and the first few objects as text."""
        lines = [f"missing {line}" for line in text.lines(self.missing[:3])]
        lines += [f"unexpected {line}" for line in text.lines(self.extra[:3])]
        return f"{self.missing_count} missing, {self.extra_count} unexpected ({'; '.join(lines)})"


NONE = Difference((), (), 0, 0)


def compare(saved: State, live: State, ignore: Ignore = EXACT, most: int = MOST_SHOWN) -> Difference:
    """What ``live`` lacks of ``saved`` (missing) and what it has besides (extra); an altered object is both.

    Both are streamed side by side, so that the switch never waits for us, and once more where something is missing or extra.
    Holds a number for each object that the other side has not shown yet: of 64 bits on most machines, made with a key of this
    process (PYTHONHASHSEED), so that nobody can prepare two objects with the same one.
    """
    if ignore.ports:
        numbers = saved.settings.ports.keys() & live.settings.ports.keys()
        saved, live = (_with_ports(state, numbers) for state in (saved, live))
    if ignore.devices:
        saved, live = leaving_devices(saved), leaving_devices(live)
    learned = _learned_by(saved) | _learned_by(live) if ignore.learned else frozenset[Learned]()
    ignored = Ignored(ignore.expiring, ignore.tables, learned, ignore.cookies, ignore.timeouts)
    missing: set[int] = set()
    extra: set[int] = set()
    for theirs, ours in itertools.zip_longest(_parts(live, ignored), _parts(saved, ignored)):
        _pair(theirs, extra, missing)
        _pair(ours, missing, extra)
    found = (_messages(saved, ignored, missing, most), _messages(live, ignored, extra, most))
    return Difference(*found, len(missing), len(extra))


def _pair(part: Part | None, mine: set[int], others: set[int]) -> None:
    """Take what a part has in common with ``others`` from them, and add the rest to ``mine``."""
    if part is not None:
        numbers = set(map(hash, part.contents))
        common = numbers & others
        others -= common
        mine |= numbers - common


def _messages(state: State, ignored: Ignored, wanted: set[int], most: int) -> tuple[bytes, ...]:
    """The messages of the objects with these numbers, ``most`` at most; one that is gone by now is left out."""
    found: list[bytes] = []
    for part in _parts(state, ignored) if wanted else ():
        numbers = [number for number, each in enumerate(part.contents) if hash(each) in wanted]
        found += part.some(numbers, most - len(found))
    return tuple(found)


def leaving_devices(state: State) -> State:
    """``state`` without whether the devices of ports are up, to be restored where these are not ours.

    OFPPC_PORT_DOWN is what ovs-vswitchd knows of that, sometimes late, and to set it is to set the device down.
    """
    bits = state.settings.port_bits & ~wire.PORT_DOWN
    return dataclasses.replace(state, settings=dataclasses.replace(state.settings, port_bits=bits))


def _with_ports(state: State, numbers: t.Container[int]) -> State:
    """``state`` with these ports only, and without their names."""
    ports = {number: config for number, config in state.settings.ports.items() if number in numbers}
    return dataclasses.replace(state, settings=dataclasses.replace(state.settings, ports=ports, names={}))


def renumbered(saved: Settings, live: Settings) -> list[str]:
    """One sentence for each port that both sides have, under another number: flows name ports by number.

    Ports that only one side has are left out: who adds and deletes ports means to.
    """
    before, now = _numbers(saved), _numbers(live)
    return [
        f"port {name!r} had the number {_listed(before[name])} and has {_listed(now[name])}"
        for name in sorted(before.keys() & now.keys())
        if before[name] - now[name] and now[name] - before[name]
    ]


def _numbers(settings: Settings) -> dict[str, set[int]]:
    """The numbers by name: several interfaces can begin with the same 15 bytes."""
    found: dict[str, set[int]] = collections.defaultdict(set)
    for number, name in settings.names.items():
        found[name].add(number)
    return found


def _listed(numbers: t.Iterable[int]) -> str:
    return " or ".join(map(str, sorted(numbers)))


Learned = tuple[int, int, int]


def _parts(state: State, ignored: Ignored) -> t.Iterator[Part]:
    """The objects of ``state`` without what is ignored; its settings last."""
    for part in state.parts():
        yield part if ignored == _NOTHING else ignored.leave(part)
    yield Part.of_messages(list(wire.each(settings_messages(state))))


def _learned_by(state: State) -> frozenset[Learned]:
    """(table, priority, cookie) of the flows that learn actions in ``state`` add."""
    return frozenset(target for data in state.objects() for target in wire.learn_targets(data))


def digest(message: bytes) -> bytes:
    """What is equal for two messages that differ in their transaction id at most."""
    # The transaction id is a mere number; 128 bits make two flows with one digest impossible in practice.
    return hashlib.blake2b(message[:4] + message[8:], digest_size=16).digest()
