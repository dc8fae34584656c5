# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What was there before a reload, and is not after it."""

from __future__ import annotations

import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import dumps, links, offloads, witness
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.captured import Captured
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import Stage
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import INTERNAL, Vport


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


def absent(captured: Captured, ports: t.Iterable[Vport], present: t.Container[str]) -> set[tuple[int, int]]:
    """The devices of internal ``ports`` whose name is not ``present``, and what is on them: somebody has deleted them."""
    moved = {move.name: (move.space, move.wanted) for move in captured.moves}
    found = {
        moved.get(port.name, (0, port.index))
        for port in ports
        if port.kind == INTERNAL and port.number and port.name not in present
    }
    return captured.with_those_above(found)


def _names(captured: Captured, place: int) -> set[str]:
    return {name for (where, __), name in captured.names.items() if where == place}


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
