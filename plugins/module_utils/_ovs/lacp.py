# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""LACP as ovs-vswitchd shows it, and what the partner of a bond's member would say (IEEE 802.1AX, lib/lacp.c)."""

from __future__ import annotations

import re
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import ProtocolError

CURRENT = "current"
SYNCHRONIZED = 0x08
_FLAGS = {
    "activity": 0x01,
    "timeout": 0x02,
    "aggregation": 0x04,
    "synchronized": SYNCHRONIZED,
    "collecting": 0x10,
    "distributing": 0x20,
    "defaulted": 0x40,
    "expired": 0x80,
}

_BOND = re.compile(r"^---- (.+) ----$")
_MEMBER = re.compile(r"^(?:member|slave): (.+): (\w+) (attached|detached)$")
_FIELD = re.compile(r"^  (actor|partner) (\w+): ?(.*)$")
_MAC = re.compile("(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")

_SLOW_PROTOCOLS = bytes.fromhex("0180c2000002"), bytes.fromhex("8809")
_PARTY = struct.Struct("!H6sHHHB3x")
_ACTOR, _PARTNER, _COLLECTOR = (1, 20), (2, 20), (3, 16)
_SUBTYPE, _VERSION, _LENGTH = 1, 1, 110


class Party(t.NamedTuple):
    """One end of a link as an LACPDU tells it; ``state`` has the bits of IEEE 802.1AX, 6.4.2.3."""

    system: str
    system_priority: int
    port: int
    port_priority: int
    key: int
    state: int

    @property
    def identity(self) -> tuple[str, int, int, int, int]:
        """What a partner tells two ends apart by."""
        return self[:5]


class Member(t.NamedTuple):
    """A member of a bond: what it has heard last is ``current``, ``expired`` or ``defaulted``."""

    status: str
    attached: bool
    actor: Party
    partner: Party


def parse(shown: str) -> dict[str, dict[str, Member]]:
    """The members of each bond in what ``lacp/show`` tells.  Raises ``ProtocolError`` for one that lacks something."""
    found: dict[str, dict[str, Member]] = {}
    bond = ""
    for block in re.split(r"^(?=----|member: |slave: )", shown, flags=re.MULTILINE):
        head, *lines = block.splitlines() or [""]
        if named := _BOND.match(head):
            bond = named.group(1)
            found[bond] = {}
        elif (member := _MEMBER.match(head)) and bond:
            name, status, attached = member.groups()
            parties = _parties(name, lines)
            found[bond][name] = Member(status, attached == "attached", *parties)
    return found


def _parties(member: str, lines: t.Iterable[str]) -> tuple[Party, Party]:
    told: dict[str, dict[str, str]] = {"actor": {}, "partner": {}}
    for line in lines:
        if field := _FIELD.match(line):
            who, name, value = field.groups()
            told[who][name] = value
    try:
        return _party(told["actor"]), _party(told["partner"])
    except (KeyError, ValueError) as error:
        raise ProtocolError(
            f"what is shown of LACP on {member} cannot be understood", f"{type(error).__name__}: {error}"
        ) from error


def _party(told: t.Mapping[str, str]) -> Party:
    if not _MAC.fullmatch(told["sys_id"]):
        raise ValueError(told["sys_id"])
    priority, port, port_priority, key = (
        int(told[name]) for name in ("sys_priority", "port_id", "port_priority", "key")
    )
    state = sum(_FLAGS[name] for name in told["state"].split())
    return Party(told["sys_id"], priority, port, port_priority, key, state)


def from_partner(member: Member) -> bytes:
    """The frame with the LACPDU that the partner of a ``member`` would send when it does not know yet that we are in sync.

    ovs-vswitchd answers that at once, and counts the time to its next LACPDU from there, as often as this partner wants them
    (info_tx_equal, lacp_run).
    """
    known = member.actor._replace(state=member.actor.state & ~SYNCHRONIZED)
    unit = bytes((_SUBTYPE, _VERSION, *_ACTOR)) + _packed(member.partner)
    unit += bytes(_PARTNER) + _packed(known) + bytes(_COLLECTOR)
    to, kind = _SLOW_PROTOCOLS
    return to + _address(member.partner.system) + kind + unit.ljust(_LENGTH, b"\0")


def _packed(party: Party) -> bytes:
    return _PARTY.pack(
        party.system_priority,
        _address(party.system),
        party.key,
        party.port_priority,
        party.port,
        party.state,
    )


def _address(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
