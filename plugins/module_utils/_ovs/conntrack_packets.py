# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The packets that make a connection be tracked as it is tracked elsewhere, one after the other (lib/conntrack*.c)."""

from __future__ import annotations

import collections
import functools
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.checksum import checksum, crc32c
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.conntrack import (
    BE_LIBERAL,
    ICMP,
    ICMPV6,
    SCTP,
    TCP,
    UDP,
    WINDOW_SCALE,
    Entry,
    TcpState,
    Tuple,
    number,
)

# In the order of lib/ct-dpif.h; the userspace datapath does not use all of them.
_STATES = (
    *("CLOSED", "LISTEN", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT_1", "CLOSING"),
    *("LAST_ACK", "FIN_WAIT_2", "TIME_WAIT"),
)
_CLOSED, _SYN_SENT, _ESTABLISHED, _CLOSING, _FIN_WAIT_2, _TIME_WAIT = map(
    _STATES.index, ("CLOSED", "SYN_SENT", "ESTABLISHED", "CLOSING", "FIN_WAIT_2", "TIME_WAIT")
)

FIN, SYN, RST, ACK = 1, 2, 4, 16
# How long one in one direction lives at least, and an answered one at most, in seconds (timeout_policy_dp_bind, ct_timeouts).
ANSWERED_TIMEOUT = 30

_ETHERNET = {
    4: bytes.fromhex("0200000000020200000000010800"),
    16: bytes.fromhex("02000000000202000000000186dd"),
}
_HOP_LIMIT = 64
# No end of a connection has these numbers: they are never compared (``conntrack.check_no_sequence_numbers``).
_NUMBER, _WINDOW = 1, 0xFFFF
_NO_OPERATION, _SCALE_OPTION, _SCALE_LENGTH = 1, 3, 3


class Packet(t.NamedTuple):
    """``reply`` tells its direction; ``flags`` are those of TCP."""

    reply: bool
    flags: int


_FURTHER = tuple(Packet(reply, flags) for reply in (False, True) for flags in (ACK, FIN | ACK, RST))


def uncarriable(entry: Entry) -> str | None:
    """Why no packets make such a connection, None where they do."""
    if entry.protocol == SCTP and not entry.orig.source:
        return "the old ovs-vswitchd does not know their ports"
    if entry.tcp is not None and not _packets(entry.tcp):
        return "no packets lead to their state"
    source, target = translated(entry)
    if source and target:
        return "both their source and their target are translated"
    return None


def translated(entry: Entry) -> tuple[bool, bool]:
    """Whether the source of what ``entry`` begins with is translated, and its target."""
    orig, reply = entry.orig, entry.reply
    if entry.protocol in (ICMP, ICMPV6):  # which has no ports; its identifier is the source's (4.0)
        target = reply.src != orig.dst
        return reply.dst != orig.src or (reply.source != orig.source and not target), target
    return (
        (reply.dst, reply.target) != (orig.src, orig.source),
        (reply.src, reply.source) != (orig.dst, orig.target),
    )


def frames(entry: Entry) -> list[bytes]:
    """The Ethernet frames that the two ends would send, in their order; the first one is to be committed."""
    if entry.tcp is None:
        answered = entry.timeout <= ANSWERED_TIMEOUT
        return [_frame(entry, reply) for reply in ((False, True) if answered else (False,))]
    return [_frame(entry, *packet) for packet in _packets(entry.tcp)]


def over(entry: Entry) -> bool:
    """Whether both ends of a TCP connection have closed it: no packet but a SYN changes it any more."""
    return entry.tcp is not None and {entry.tcp.orig, entry.tcp.reply} <= {"FIN_WAIT_2", "TIME_WAIT"}


def farewell(entry: Entry) -> list[bytes]:
    """What ends a connection: one of TCP would live for a day, others live for less than a minute.

    A SYN on one that was reset is a new connection, for which the old one goes away; nobody commits the new one (CT_UPDATE_NEW).
    """
    return [_frame(entry, False, flags) for flags in (RST, SYN)] if entry.tcp else []


def _packets(state: TcpState) -> tuple[Packet, ...]:
    """Those that make a connection have this state; none where it cannot have it."""
    if state.orig not in _STATES or state.reply not in _STATES:
        return ()
    first: tuple[Packet, ...] = (Packet(False, SYN),)
    if BE_LIBERAL in state.flags_orig:  # it was not seen to begin
        first = (Packet(False, ACK),)
    elif state.reply != "CLOSED" and (WINDOW_SCALE in state.flags_orig) == (
        WINDOW_SCALE in state.flags_reply
    ):
        # One without a scale would take away that of the other end: it was reset before.
        first = (*first, Packet(True, SYN | ACK))
    return _way(_STATES.index(state.orig), _STATES.index(state.reply), first)


@functools.cache
def _way(orig: int, reply: int, first: tuple[Packet, ...]) -> tuple[Packet, ...]:
    """The fewest packets to these states that begin with ``first``; none where nothing leads there."""
    begin = functools.reduce(_after, first[1:], (_SYN_SENT, _CLOSED))
    queue = collections.deque([(begin, first)])
    seen = {begin}
    while queue:
        states, way = queue.popleft()
        if states == (orig, reply):
            return way
        for packet in _FURTHER:
            after = _after(states, packet)
            if after not in seen:
                seen.add(after)
                queue.append((after, (*way, packet)))
    return ()


def _after(states: tuple[int, int], packet: Packet) -> tuple[int, int]:
    """The states of both ends after a packet (tcp_conn_update; where numbers do not count)."""
    source, target = (states[1], states[0]) if packet.reply else states
    source = max(source, _SYN_SENT)
    if packet.flags & FIN:
        source = max(source, _CLOSING)
    if packet.flags & ACK:
        target = {_SYN_SENT: _ESTABLISHED, _CLOSING: _FIN_WAIT_2}.get(target, target)
    if packet.flags & RST:
        source = target = _TIME_WAIT
    return (target, source) if packet.reply else (source, target)


def _frame(entry: Entry, reply: bool, flags: int = 0) -> bytes:
    ends = entry.reply if reply else entry.orig
    protocol = number(entry.protocol)
    segment = _segment(entry, ends, reply, flags)
    pseudo = ends.src + ends.dst + struct.pack("!II", len(segment), protocol)
    packet = _checked(entry.protocol, segment, pseudo)
    return _ETHERNET[len(ends.src)] + _header(ends, protocol, len(packet)) + packet


def _checked(protocol: str, segment: bytes, pseudo: bytes) -> bytes:
    """A segment with its checksum, where its protocol has one; ``pseudo`` is what comes before it in the sum (RFC 8200, 8.1)."""
    if protocol == SCTP:
        return segment[:8] + struct.pack("<I", crc32c(segment)) + segment[12:]
    place = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2}.get(protocol)
    if place is None:
        return segment
    summed = checksum((b"" if protocol == ICMP else pseudo) + segment)
    return segment[:place] + struct.pack("!H", summed) + segment[place + 2 :]


def _header(ends: Tuple, protocol: int, length: int) -> bytes:
    """Of IPv4 (RFC 791) or IPv6 (RFC 8200)."""
    addresses = ends.src + ends.dst
    if len(ends.src) == 16:
        return struct.pack("!IHBB", 6 << 28, length, protocol, _HOP_LIMIT) + addresses
    fields = (0x45, 0, 20 + length, 0, 0, _HOP_LIMIT, protocol)
    summed = checksum(struct.pack("!BBHHHBBH", *fields, 0) + addresses)
    return struct.pack("!BBHHHBBH", *fields, summed) + addresses


def _segment(entry: Entry, ends: Tuple, reply: bool, flags: int) -> bytes:
    """What follows the IP header, without its checksum; nothing where only addresses are looked at."""
    if entry.protocol in (ICMP, ICMPV6):
        return struct.pack("!HHHH", ends.target, 0, ends.source, 1)
    if entry.protocol == UDP:
        return struct.pack("!HHHH", ends.source, ends.target, 8, 0)
    if entry.protocol == SCTP:  # without chunks (RFC 9260, 3.1)
        return struct.pack("!HHII", ends.source, ends.target, 1, 0)
    if entry.tcp is None:
        return b""
    options = _scale(entry.tcp, reply) if flags & SYN else b""
    acknowledged = _NUMBER if flags & ACK else 0
    length = 20 + len(options) >> 2 << 4
    fields = (ends.source, ends.target, _NUMBER, acknowledged, length, flags, _WINDOW, 0, 0)
    return struct.pack("!HHIIBBHHH", *fields) + options


def _scale(state: TcpState, reply: bool) -> bytes:
    """The window scale option (RFC 7323, 2.2) of an end that has one."""
    flags, scale = (state.flags_reply, state.scale_reply) if reply else (state.flags_orig, state.scale_orig)
    if WINDOW_SCALE not in flags:
        return b""
    return bytes((_NO_OPERATION, _SCALE_OPTION, _SCALE_LENGTH, scale))
