# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packets that make a connection; tests/integration/test_connections.py has real daemons take them."""

from __future__ import annotations

import struct

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.checksum import crc32c
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import conntrack, conntrack_packets
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.conntrack import (
    BE_LIBERAL,
    WINDOW_SCALE,
    Entry,
    TcpState,
    Tuple,
)

A, B, C = b"\x0a\0\0\1", b"\x0a\0\0\2", b"\xc0\0\2\1"
SIX = bytes(15) + b"\1", bytes(15) + b"\2"
FORTH, BACK = Tuple(A, B, 1000, 80), Tuple(B, A, 80, 1000)
SCALED, LIBERAL = frozenset([WINDOW_SCALE]), frozenset([BE_LIBERAL])
FIN, SYN, RST, ACK = 1, 2, 4, 16
BEGIN = [(">", SYN), ("<", SYN | ACK)]


def tcp(
    orig: str, reply: str, flags: frozenset[str] = frozenset(), scales: tuple[int, int] = (0, 0)
) -> Entry:
    return Entry("line", "tcp", FORTH, BACK, tcp=TcpState(orig, reply, *scales, flags, flags))


def sent(entry: Entry) -> list[tuple[str, int]]:
    """Who sends each packet, and with which flags."""
    return [(">" if frame[26:30] == A else "<", frame[47]) for frame in conntrack_packets.frames(entry)]


@pytest.mark.parametrize(
    ("states", "packets"),
    [
        ("SYN_SENT CLOSED", [(">", SYN)]),
        ("ESTABLISHED SYN_SENT", BEGIN),
        ("ESTABLISHED ESTABLISHED", [*BEGIN, (">", ACK)]),
        ("CLOSING ESTABLISHED", [*BEGIN, (">", FIN | ACK)]),
        ("FIN_WAIT_2 ESTABLISHED", [*BEGIN, (">", FIN | ACK), ("<", ACK)]),
        ("TIME_WAIT TIME_WAIT", [*BEGIN, (">", RST)]),
    ],
)
def test_the_way_to_a_state_of_tcp(states: str, packets: list[tuple[str, int]]) -> None:
    orig, reply = states.split()
    assert sent(tcp(orig, reply)) == packets


def test_scales_are_told_where_they_were() -> None:
    frames = conntrack_packets.frames(tcp("ESTABLISHED", "ESTABLISHED", SCALED, (7, 9)))
    assert [(frame[47], frame[54:]) for frame in frames] == [
        (SYN, b"\1\3\3\7"),
        (SYN | ACK, b"\1\3\3\x09"),
        (ACK, b""),
    ]


def test_an_end_without_a_scale_that_would_take_away_the_others_says_nothing() -> None:
    state = TcpState("TIME_WAIT", "TIME_WAIT", 7, 0, SCALED, frozenset())
    assert sent(Entry("", "tcp", FORTH, BACK, tcp=state)) == [(">", SYN), (">", RST)]


def test_what_was_not_seen_to_begin_is_not() -> None:
    assert sent(tcp("ESTABLISHED", "ESTABLISHED", LIBERAL)) == [(">", ACK), ("<", ACK), (">", ACK)]


def total(data: bytes) -> int:
    """The ones' complement sum, which is 0xffff where a checksum is right (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    found = sum(struct.unpack(f"!{len(data) // 2}H", data))
    return found % 0xFFFF or 0xFFFF


@pytest.mark.parametrize("protocol", ["tcp", "udp", "icmp"])
@pytest.mark.parametrize("ends", [(A, B), SIX])
def test_checksums(protocol: str, ends: tuple[bytes, bytes]) -> None:
    src, dst = ends
    name = "icmpv6" if protocol == "icmp" and ends == SIX else protocol
    state = tcp("ESTABLISHED", "ESTABLISHED", SCALED, (7, 9)).tcp if protocol == "tcp" else None
    entry = Entry("", name, Tuple(src, dst, 7, 2048), Tuple(dst, src, 7, 0), tcp=state)
    for frame in conntrack_packets.frames(entry):
        packet = frame[14:]
        length = 20 if len(src) == 4 else 40
        if len(src) == 4:
            assert total(packet[:length]) == 0xFFFF
        segment = packet[length:]
        number = conntrack.number(name)
        addresses = packet[length - 2 * len(src) : length]
        pseudo = b"" if name == "icmp" else addresses + struct.pack("!II", len(segment), number)
        assert total(pseudo + segment) == 0xFFFF


def test_what_has_no_ports_has_a_header_alone() -> None:
    forth, back = conntrack_packets.frames(Entry("", "47", FORTH, BACK))
    assert (len(forth), forth[23], forth[26:]) == (34, 47, A + B)
    assert back[26:] == B + A


def test_sctp_has_the_checksum_of_its_own() -> None:
    frame = conntrack_packets.frames(Entry("", "sctp", FORTH, BACK))[0]
    segment = frame[34:]
    zeroed = segment[:8] + bytes(4)
    assert segment[:4] == struct.pack("!HH", 1000, 80)
    assert struct.unpack("<I", segment[8:]) == (crc32c(zeroed),)
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


@pytest.mark.parametrize(("left", "count"), [(0, 2), (30, 2), (31, 1)])
def test_an_answer_is_made_where_there_was_one(left: int, count: int) -> None:
    assert len(conntrack_packets.frames(Entry("", "udp", FORTH, BACK, timeout=left))) == count


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (BACK, (False, False)),
        (BACK._replace(dst=C), (True, False)),
        (BACK._replace(target=4), (True, False)),
        (BACK._replace(src=C), (False, True)),
        (BACK._replace(source=8080), (False, True)),
    ],
)
def test_what_is_translated(reply: Tuple, found: tuple[bool, bool]) -> None:
    assert conntrack_packets.translated(Entry("", "udp", FORTH, reply)) == found


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (Tuple(B, A, 7, 0), (False, False)),
        (Tuple(B, C, 8, 0), (True, False)),
        (Tuple(B, A, 8, 0), (True, False)),
        (Tuple(C, A, 7, 0), (False, True)),
        (Tuple(C, A, 8, 0), (False, True)),
    ],
)
def test_what_is_translated_of_an_echo(reply: Tuple, found: tuple[bool, bool]) -> None:
    assert conntrack_packets.translated(Entry("", "icmp", Tuple(A, B, 7, 8 << 8), reply)) == found


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (Entry("", "sctp", FORTH._replace(source=0, target=0), BACK), "ports"),
        (Entry("", "udp", FORTH, Tuple(C, C, 80, 1000)), "both"),
        (tcp("CLOSED", "CLOSED"), "state"),
        (tcp("NONE", "CLOSED"), "state"),
    ],
)
def test_what_no_packets_make(entry: Entry, why: str) -> None:
    assert why in (conntrack_packets.uncarriable(entry) or "")


def test_all_that_there_is_elsewhere_can_be_carried() -> None:
    assert conntrack_packets.uncarriable(tcp("ESTABLISHED", "ESTABLISHED")) is None
    for protocol in ("icmp", "sctp", "47"):
        assert conntrack_packets.uncarriable(Entry("", protocol, FORTH, BACK)) is None


def test_a_connection_that_has_ended_is_ended() -> None:
    frames = conntrack_packets.farewell(tcp("ESTABLISHED", "ESTABLISHED"))
    assert [frame[47] for frame in frames] == [RST, SYN]
    assert conntrack_packets.farewell(Entry("", "udp", FORTH, BACK)) == []
