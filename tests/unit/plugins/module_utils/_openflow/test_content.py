# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import ProtocolError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.content import (
    Ignored,
    Part,
    content,
)

u16, u64 = st.integers(0, 0xFFFF), st.integers(0, (1 << 64) - 1)
octets = st.binary(max_size=40)
MATCH_ALL = wire.delete_flows(wire.OF15, 0)[48:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def entry(head: bytes, fields: bytes, oxs: bytes, instructions: bytes) -> bytes:
    """A flow in an OpenFlow 1.5 flow description (7.3.5.2); ``head`` is its table up to its cookie."""
    match = padded(struct.pack("!HH", 1, 4 + len(fields)) + fields)
    stats = padded(struct.pack("!HH", 0, 4 + len(oxs)) + oxs)
    body = head + match + stats + padded(instructions)
    return struct.pack("!HH", 4 + len(body), 0) + body


heads = st.builds(struct.Struct("!BxHHHHHQ").pack, st.integers(0, 253), u16, u16, u16, u16, u16, u64)
entries = st.builds(entry, heads, octets, octets, octets)


def reply(body: bytes) -> bytes:
    request = wire.multipart_request(wire.OF15, wire.FLOWS, 9, body)
    return request[:1] + bytes([19]) + request[2:]


@given(some=st.lists(entries, max_size=5))
def test_what_is_read_from_a_reply_is_what_its_messages_say(some: list[bytes]) -> None:
    part = Part.of_reply(reply(b"".join(some)))
    assert len(part.contents) == len(some)
    assert list(part.contents) == [content(message) for message in part.messages()]


@given(head=heads, fields=octets, instructions=octets, counters=st.tuples(octets, octets))
def test_statistics_are_no_content(
    head: bytes, fields: bytes, instructions: bytes, counters: tuple[bytes, bytes]
) -> None:
    one, other = (Part.of_reply(reply(entry(head, fields, oxs, instructions))).contents for oxs in counters)
    assert one == other


@given(some=st.lists(entries, min_size=1, max_size=3), data=st.data())
def test_a_damaged_reply_is_a_protocol_error_or_nothing(some: list[bytes], data: st.DataObject) -> None:
    body = bytearray(b"".join(some))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolError):
        part = Part.of_reply(reply(bytes(body)))
        assert len(part.contents) == len(part.messages())


@pytest.mark.parametrize("version", wire.VERSIONS)
def test_every_field_of_a_flow_counts_in_every_version(version: int) -> None:
    match = b"" if version == wire.OF10 else MATCH_ALL
    flags = (0, 0) if version == wire.OF10 else (5, 6)
    values = (1, 2, 3, 4, *flags)

    def made(*changed: int) -> bytes:
        table, priority, idle, hard, *rest = changed
        if version == wire.OF10:
            return wire.nx_flow_mod(7, table, priority, 9, idle, hard, 0, match)
        return wire.flow_mod(version, 7, table, priority, 9, idle, hard, rest[0], rest[1], match)

    found = {content(made(*values))}
    for place in range(4 if version == wire.OF10 else 6):
        found.add(content(made(*(value + (number == place) for number, value in enumerate(values)))))
    assert len(found) == (5 if version == wire.OF10 else 7)
    assert content(wire.with_xid(made(*values), 99)) in found


def test_what_is_left_keeps_its_own_message() -> None:
    flows = [wire.flow_mod(wire.OF15, 0, table, 1, 5, 0, 0, 0, 0, MATCH_ALL) for table in (1, 2, 3)]
    left = Ignored(tables=frozenset({1}), cookies=True).leave(Part.of_messages(flows))
    assert left.some([1], 9) == [flows[2]]
    assert left.contents[1] == content(wire.with_cookie(flows[2], 0))
