# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What two flows or groups have in common when they are equal, as bytes: their content.

A flow's content is its table, priority, timeouts, flags, importance and cookie (``_HEAD``), its padded match, and its
instructions (OpenFlow 1.0: actions). It has neither a transaction id nor statistics. It is read straight from what a switch
answers: to write a message for each flow first costs three times as much, and a comparison needs only those that differ.
"""

from __future__ import annotations

import dataclasses
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import ProtocolError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire

# Table, priority, idle and hard timeout, flags, importance, cookie: as in a flow-statistics entry of OpenFlow 1.5 (7.3.5.2).
_HEAD = struct.Struct("!BxHHHHHQ")
# Of such an entry: its length, and that of its match.
_LENGTHS = struct.Struct("!H24xH")
_U16 = struct.Struct("!H")
# No flow is in this table (OFPTT_ALL): what is no flow begins with it.
_NO_FLOW = b"\xff"


@dataclasses.dataclass(frozen=True)
class Part:
    """Some objects: the content of each, and how to make their messages, in the same order."""

    contents: t.Sequence[bytes]
    messages: t.Callable[[], t.Sequence[bytes]]

    @classmethod
    def of_messages(cls, messages: t.Sequence[bytes]) -> Part:
        """Objects that are there as messages."""
        return cls(list(map(content, messages)), lambda: messages)

    @classmethod
    def of_reply(cls, reply: bytes) -> Part:
        """What a switch answers when asked for its flows or groups. Raises ``ProtocolError`` if it is malformed."""
        if wire.is_group_reply(reply):
            return cls.of_messages(list(wire.each(wire.group_mods(reply, 1)[0])))
        return cls(_contents(reply), lambda: list(wire.each(wire.flow_mods(reply, 1)[0])))

    def some(self, numbers: t.Sequence[int], most: int) -> list[bytes]:
        """The messages of these objects, ``most`` at most."""
        if not numbers or most <= 0:
            return []
        messages = self.messages()
        return [messages[number] for number in numbers[:most]]


def content(message: bytes) -> bytes:
    """The content of a flow-mod, or of another message: all but its transaction id."""
    if not wire.is_flow_mod(message):
        return _NO_FLOW + message[:4] + message[8:]
    flow = wire.flow_fields(message)
    flags, importance = wire.flags_of(message) if wire.has_flags(message) else (0, 0)
    head = _HEAD.pack(flow.table, flow.priority, flow.idle, flow.hard, flags, importance, flow.cookie)
    return head + flow.match + flow.rest


def _contents(reply: bytes) -> list[bytes]:
    """The content of each flow of a flow-statistics reply."""
    if reply[0] < wire.OF15:
        return list(map(content, wire.each(wire.flow_mods(reply, 1)[0])))
    # There may be a million flows: hence the local names.
    found: list[bytes] = []
    add, lengths, u16_at = found.append, _LENGTHS.unpack_from, _U16.unpack_from
    __, __, offset = wire.multipart_reply(reply)
    whole = len(reply)
    try:
        while offset < whole:
            length, match = lengths(reply, offset)
            end, stats = offset + length, offset + 24 + ((match + 7) & ~7)
            instructions = stats + ((u16_at(reply, stats + 2)[0] + 7) & ~7)
            if not offset + 28 <= stats < instructions <= end <= whole:
                raise wire.malformed_flow(reply, offset)
            add(reply[offset + 4 : stats] + reply[instructions:end])
            offset = end
    except struct.error as error:
        raise ProtocolError("a statistics reply is cut off", str(error)) from error
    return found


@dataclasses.dataclass(frozen=True)
class Ignored:
    """Flows that are left out, and what is left out of the others.

    ``expiring``: flows with a timeout; ``tables``; ``makers``: flows with one of these (table, priority, cookie);
    ``cookies`` and ``timeouts``: those values.
    """

    expiring: bool = False
    tables: frozenset[int] = frozenset()
    makers: frozenset[tuple[int, int, int]] = frozenset()
    cookies: bool = False
    timeouts: bool = False

    def leave(self, part: Part) -> Part:
        """``part`` without what is ignored; its messages are whole."""
        kept = [
            (number, found)
            for number, each in enumerate(part.contents)
            if (found := self._rest(each)) is not None
        ]

        def messages() -> list[bytes]:
            every = part.messages()
            return [every[number] for number, __ in kept]

        return Part([found for __, found in kept], messages)

    def _rest(self, found: bytes) -> bytes | None:
        if found.startswith(_NO_FLOW):
            return found
        table, priority, idle, hard, flags, importance, cookie = _HEAD.unpack_from(found)
        if (
            table in self.tables
            or (self.expiring and (idle or hard))
            or (table, priority, cookie) in self.makers
        ):
            return None
        if self.timeouts:
            idle = hard = 0
        head = _HEAD.pack(table, priority, idle, hard, flags, importance, 0 if self.cookies else cookie)
        return head + found[_HEAD.size :]
