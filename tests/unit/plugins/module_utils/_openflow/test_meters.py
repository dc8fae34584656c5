# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Meters told again; tests/scenarios/kept.py looks at what a kernel has of it."""

from __future__ import annotations

import collections
import itertools
import struct
import types
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import meters, wire

SLOW, FAST, OTHER = (struct.pack("!HHHIII", 1, 1, 16, rate, 0, 0) for rate in (1, 2, 3))


class Switch:
    """A switch with meters; ``others`` is what others do right before each time that we modify some."""

    def __init__(self, known: dict[int, bytes], others: t.Sequence[bytes] = (), error: str = "") -> None:
        self.version, self.name, self.listens = wire.OF15, "br0", False
        self.xid = itertools.count(1).__next__
        self.told: collections.deque[bytes] = collections.deque()
        self.known, self.others, self.error = known, list(others), error
        self.modified: list[tuple[int, bytes]] = []

    def exchange(self, requests: t.Sequence[bytes]) -> None:
        assert self.listens

    def ask(self, request: bytes) -> list[bytes]:
        body = b"".join(
            struct.pack("!HHI", 8 + len(c) - 2, *struct.unpack("!H", c[:2]), m) + c[2:]
            for m, c in self.known.items()
        )
        return [wire.message(wire.OF15, 19, 1, struct.pack("!HH4x", wire.METER_CONFIG, 0) + body)]

    def refusals(self, messages: t.Sequence[bytes]) -> list[tuple[bytes, t.Any]]:
        self.modified += map(wire.meter_of, messages)
        if self.others:
            self.told.append(wire.message(wire.OF15, 32, 0, self.others.pop(0)))
        return [(message, types.SimpleNamespace(name=self.error)) for message in messages if self.error]


def others_mod(meter: int, config: bytes, command: int = wire.METER_MODIFY) -> bytes:
    return wire.meter_mod(wire.OF15, 9, command, meter, config)


def test_each_is_modified_to_what_it_is() -> None:
    switch = Switch({1: SLOW, 7: FAST})
    assert meters.tell_again(t.cast(t.Any, switch)) == []
    assert switch.modified == [(1, SLOW), (7, FAST)]


def test_what_others_say_meanwhile_stays() -> None:
    switch = Switch({1: SLOW, 7: FAST}, [others_mod(7, OTHER), others_mod(7, SLOW)])
    assert meters.tell_again_beside_others(t.cast(t.Any, switch)) == []
    assert switch.modified == [(1, SLOW), (7, FAST), (7, OTHER), (7, SLOW)]


def test_one_that_others_delete_meanwhile_stays_deleted() -> None:
    switch = Switch({1: SLOW}, [others_mod(1, b"\0\0", wire.METER_DELETE)], "OFPMMFC_UNKNOWN_METER")
    assert meters.tell_again_beside_others(t.cast(t.Any, switch)) == []
    assert switch.modified == [(1, SLOW)]


def test_others_that_never_stop_are_left_alone_in_the_end() -> None:
    switch = Switch({1: SLOW}, [others_mod(1, OTHER)] * 99)
    meters.tell_again_beside_others(t.cast(t.Any, switch))
    assert len(switch.modified) < 20


@pytest.mark.parametrize("version", [wire.OF10, wire.OF13])
def test_a_version_without_meters_has_none(version: int) -> None:
    switch = Switch({1: SLOW}, error="OFPMMFC_OUT_OF_METERS")
    switch.version = version
    found = meters.tell_again(t.cast(t.Any, switch))
    assert found == ([] if version == wire.OF10 else ["br0: meter 1: OFPMMFC_OUT_OF_METERS"])
