# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""BFD as ovs-vswitchd shows it, and what the peer of an interface would say (RFC 5880, RFC 5881, lib/bfd.c)."""

from __future__ import annotations

import re
import socket
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.checksum import checksum
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import ProtocolError

UP = "up"
# The flag of who wants an answer at once, and of who answers (RFC 5880, 6.5).
POLL, FINAL = 0x20, 0x10
_STATES = ("admin_down", "down", "init", UP)

# Why a session was down last: that is told for as long as it is up again (RFC 5880, 6.8.1, bfd.LocalDiag; lib/bfd.c never takes
# it back). Others come of an administrator.
EXPIRED, SIGNALED = "Control Detection Time Expired", "Neighbor Signaled Session Down"

# Multiplier of a session that has to bear a while without a word.
MOST = 255

_SESSION = re.compile(r"^---- (.+) ----$", re.MULTILINE)
_FIELD = re.compile(r"^  ([\w ]+): (.*)$", re.MULTILINE)
_MAC = re.compile("(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}")
_PORT, _SOURCE_PORT = 3784, 49152
_HEADER = struct.Struct("!BBHHHBBH4s4s")
_CONTROL = struct.Struct("!BBBBIIIII")
_VERSION = 1 << 5
# What bfd_put_packet sends from and to where nothing is configured (BFD_DEFAULT_SRC_IP, eth_addr_bfd).
SOURCE, DESTINATION = "169.254.1.1", "169.254.1.0"
DESTINATION_MAC = "00:23:20:00:00:01"
# Nobody looks at who sent it (bfd_should_process_flow).
_FROM = "02:00:00:00:00:01"


class Session(t.NamedTuple):
    """A session of an interface; discriminators are numbers, intervals milliseconds.

    ``detection`` is after how long one end takes the other one for dead, in milliseconds: the shorter one of both ends.
    ``diagnostic`` is why it was down last, in the words of Open vSwitch; ``interval`` how often it speaks: one that was down is
    slow until its neighbour has answered a poll (bfd_poll, RFC 5880, 6.8.3).
    """

    state: str
    discriminator: int
    remote_discriminator: int
    remote_min_tx: int
    remote_min_rx: int
    remote_multiplier: int
    detection: int
    diagnostic: str = ""
    interval: int = 0


class Route(t.NamedTuple):
    """Where a session wants its packets: the address that they go to (IPv4), and the MAC address (bfd_should_process_flow)."""

    address: str = SOURCE
    mac: str = DESTINATION_MAC


ANY_ROUTE = Route()


def route(configured: t.Mapping[str, str]) -> Route:
    """That of an interface with this column ``bfd``; what Open vSwitch does not understand it ignores (bfd_configure)."""
    address, mac = configured.get("bfd_src_ip", ""), configured.get("bfd_remote_dst_mac", "")
    try:
        socket.inet_pton(socket.AF_INET, address)
    except (OSError, ValueError):
        address = SOURCE
    return Route(address, mac if _MAC.fullmatch(mac) else DESTINATION_MAC)


def parse(shown: str) -> dict[str, Session]:
    """The session of each interface in what ``bfd/show`` tells.  Raises ``ProtocolError`` for one that lacks something."""
    names = _SESSION.split(shown)[1:]
    return {name: _session(name, dict(_FIELD.findall(told))) for name, told in zip(names[::2], names[1::2])}


def _session(name: str, told: t.Mapping[str, str]) -> Session:
    try:
        multiplier = int(told["Remote Detect Multiplier"])
        interval = _milliseconds(told["TX Interval"])
        theirs = int(told["Detect Multiplier"]) * interval
        ours = multiplier * _milliseconds(told["RX Interval"])
        return Session(
            told["Local Session State"],
            int(told["Local Discriminator"], 16),
            int(told["Remote Discriminator"], 16),
            _milliseconds(told["Remote Minimum TX Interval"]),
            _milliseconds(told["Remote Minimum RX Interval"]),
            multiplier,
            min(theirs, ours),
            told.get("Local Diagnostic", ""),
            interval,
        )
    except (KeyError, ValueError) as error:
        raise ProtocolError(
            f"what is shown of BFD on {name} cannot be understood", f"{type(error).__name__}: {error}"
        ) from error


def _milliseconds(text: str) -> int:
    return int(text.removeprefix("Approx ").removesuffix("ms"))


def from_peer(
    session: Session,
    to: int,
    state: str = UP,
    multiplier: int | None = None,
    flags: int = 0,
    route: Route = ANY_ROUTE,
) -> bytes:
    """The frame with the control packet that the peer of a ``session`` would send to one with the discriminator ``to``.

    ``multiplier`` is how many of the peer's intervals may pass until the next one, by default as many as it wants itself.
    """
    control = _CONTROL.pack(
        _VERSION,
        _STATES.index(state) << 6 | flags,
        session.remote_multiplier if multiplier is None else multiplier,
        _CONTROL.size,
        session.remote_discriminator,
        to,
        session.remote_min_tx * 1000,
        session.remote_min_rx * 1000,
        0,
    )
    datagram = struct.pack("!HHHH", _SOURCE_PORT, _PORT, 8 + len(control), 0) + control
    addresses = socket.inet_aton(DESTINATION), socket.inet_aton(route.address)
    fields = (0x45, 0xC0, _HEADER.size + len(datagram), 0, 0, 255, socket.IPPROTO_UDP)
    header = _HEADER.pack(*fields, checksum(_HEADER.pack(*fields, 0, *addresses)), *addresses)
    return _mac(route.mac) + _mac(_FROM) + b"\x08\x00" + header + datagram


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
