# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What no daemon says; tests/integration/test_follow.py has what they do say, in every version."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import ProtocolError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import monitor, wire

MATCH = struct.pack("!HH4x", 1, 4)
VERSIONS = sorted(wire.VERSION_NAMES)


def update(version: int, body: bytes, xid: int = 0) -> bytes:
    """A flow monitor's message with ``body``."""
    kind = {wire.OF10: (wire.NICIRA, 2), wire.OF13: (wire.ONF, 1870)}.get(version, 16)
    request = wire.multipart_request(version, kind, xid, body)
    return request[:1] + bytes([17 if version == wire.OF10 else 19]) + request[2:]


def full(kind: int, rest: bytes = b"", table: int = 3) -> bytes:
    entry = struct.pack("!HBBHHH4xQ", kind, table, 0, 60, 0, 10, 0x77) + MATCH + rest
    return struct.pack("!H", 2 + len(entry)) + entry


@pytest.mark.parametrize("version", [wire.OF14, wire.OF15])
def test_an_event_becomes_the_flow_mod_that_does_the_same(version: int) -> None:
    (event,) = monitor.events(update(version, full(1, b"12345678")))
    added = wire.flow_fields(monitor.addition(event, version, 7, 1, 2))
    assert added == (3, 10, 0x77, 60, 0, MATCH, b"12345678")
    deleted = monitor.deletion(event.key, version, 8, event.match_length)
    assert wire.flow_fields(deleted)[:2] == (3, 10)
    assert deleted[25] == wire.DELETE_STRICT


def test_only_what_the_switch_says_of_its_own_accord_is_told() -> None:
    assert monitor.is_told(update(wire.OF15, full(1)))
    assert not monitor.is_told(update(wire.OF15, full(1), xid=5))
    assert not monitor.is_told(wire.message(wire.OF15, wire.ECHO_REPLY, 0))


def test_what_the_switch_adds_for_a_bond_of_its_own_is_nobody_s_flow() -> None:
    body = full(1, table=254) + full(1)
    assert [event.table for event in monitor.events(update(wire.OF15, body))] == [3]


def test_our_own_changes_and_pauses_are_told_apart() -> None:
    body = b"".join(struct.pack("!HHI", 8, kind, 0) for kind in (4, 5, 6))
    kinds = [event.kind for event in monitor.events(update(wire.OF15, body))]
    assert kinds == [monitor.OWN, monitor.PAUSED, monitor.RESUMED]


@given(st.sampled_from(VERSIONS), st.binary(max_size=200))
@example(wire.OF15, struct.pack("!HHBBHHH4xQ", 28, 1, 0, 0, 0, 0, 0, 0) + struct.pack("!HH", 1, 0xFFFF))
@example(wire.OF15, struct.pack("!HH", 4, 9))
@example(wire.OF13, struct.pack("!HHHHHHHBxQ", 24, 0, 0, 0, 0, 0, 0xFFFF, 0, 0))
def test_nonsense_is_refused_and_nothing_else_happens(version: int, body: bytes) -> None:
    message = update(version, body)
    with contextlib.suppress(ProtocolError):
        for event in monitor.events(message):
            assert len(event.match) <= len(body)
    with contextlib.suppress(ProtocolError):
        monitor.is_told(message)
    with contextlib.suppress(ProtocolError):
        monitor.changed_port(wire.message(version, 12, 0, body))
