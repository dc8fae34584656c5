# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What a switch tells of its own accord about changes that others make: pure functions on bytes.

Flows by a flow monitor: OFPMP_FLOW_MONITOR of OpenFlow 1.4 and newer, ONF extension 187 for 1.3, NXST_FLOW_MONITOR
for 1.0 (openflow-1.4.h and nicira-ext.h of Open vSwitch); what is monitored by the former two needs Open vSwitch 3.0.
Groups and meters by OFPT_REQUESTFORWARD (OpenFlow 1.4, 7.4.8), ports by OFPT_PORT_STATUS.  None tells a flow's flags
or importance.
"""

from __future__ import annotations

import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import ProtocolError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire

ADDED, REMOVED, MODIFIED = "added", "removed", "modified"
# Of no flow: our own change on this connection; the switch tells nothing until it has told what it had to; it goes on.
OWN, PAUSED, RESUMED = "own", "paused", "resumed"

# Reasons for a removal (OFPRR_*).
EXPIRED = frozenset({0, 1})
DELETED = 2

_PORT_STATUS = 12
_REQUEST_FORWARD = 32
_SET_ASYNC, _NX_SET_ASYNC = 28, 27
_NX_CONTROLLER_ID, _NO_CONTROLLER = 20, 0xFFFF
_MONITOR = 16
_ONF_MONITOR, _NX_MONITOR = (wire.ONF, 1870), (wire.NICIRA, 2)
_KINDS: t.Mapping[int, wire.Kind] = {
    wire.OF10: _NX_MONITOR,
    wire.OF13: _ONF_MONITOR,
    wire.OF14: _MONITOR,
    wire.OF15: _MONITOR,
}
# (experimenter, subtype) of messages of their own, where the monitor's replies do not say it.
_STANDSTILLS: t.Mapping[tuple[int, int], str] = {
    (wire.NICIRA, 22): PAUSED,
    (wire.NICIRA, 23): RESUMED,
    (wire.ONF, 1871): PAUSED,
    (wire.ONF, 1872): RESUMED,
}
_FORWARDS = ((wire.NICIRA, 132), (wire.ONF, 2350))
_EVENTS = {1: ADDED, 2: REMOVED, 3: MODIFIED, 4: OWN, 5: PAUSED, 6: RESUMED}
_OLD_EVENTS = {0: ADDED, 1: REMOVED, 2: MODIFIED, 3: OWN}

# Two monitors: additions and modifications, with instructions; and removals, without.  Our own ones are abbreviated.  An
# ovs-vswitchd up to 4.0 at least ends when it tells of several flows at once, and one before the last takes more than 64 KB in
# the version in which it is told (ofpmp_postappend in lib/ofp-msgs.c): nobody deletes large flows one by one.
_MONITORS = ((1, 0x1A), (2, 0x04))
_INTERNAL_TABLE = 254  # TBL_INTERNAL (ofproto/ofproto-dpif.h)
_NOTHING10 = 0xFFFF
_FULL = struct.Struct("!HHBBHHH4xQ")
_OLD_FULL = struct.Struct("!HHHHHHHBxQ")
_EXPERIMENTER = struct.Struct("!II")

Key = tuple[int, int, bytes]


class Event(t.NamedTuple):
    """One change of a flow; ``match`` is padded, ``match_length`` is not; ``rest``: instructions (OpenFlow 1.0: actions), of
    one that is not removed.

    ``xid`` is that of our own message, if it is about ``OWN``.
    """

    kind: str
    reason: int
    table: int
    priority: int
    cookie: int
    idle: int
    hard: int
    match: bytes
    match_length: int
    rest: bytes
    xid: int = 0

    @property
    def key(self) -> Key:
        """What tells a flow from all others."""
        return self.table, self.priority, self.match

    def removed(self) -> Event:
        """That the same flow was deleted."""
        return self._replace(kind=REMOVED, reason=DELETED)

    @property
    def expired(self) -> bool:
        """Whether a timeout has removed the flow."""
        return self.kind == REMOVED and self.reason in EXPIRED


def monitor_request(version: int, xid: int) -> bytes:
    """A request to be told every change of every flow from now on; it is answered by an empty reply."""
    body = b"".join(_monitor(version, *monitor) for monitor in _MONITORS)
    return wire.multipart_request(version, _KINDS[version], xid, body)


def _monitor(version: int, number: int, flags: int) -> bytes:
    if version == wire.OF10:
        return struct.pack("!IHHHB5x", number, flags, _NOTHING10, 0, wire.ALL_TABLES)
    if version == wire.OF13:
        return struct.pack("!IHHIBxxx", number, flags, 4, wire.ANY, wire.ALL_TABLES) + _NO_MATCH
    return struct.pack("!IIIHBB", number, wire.ANY, wire.ANY, flags, wire.ALL_TABLES, 0) + _NO_MATCH


_NO_MATCH = struct.pack("!HH4x", 1, 4)


def forward_request(version: int, xid: int) -> bytes:
    """Ask to be sent what others change in groups and meters; nobody answers, only an error would come."""
    # OFPACPT_REQUESTFORWARD_SLAVE and _MASTER, with the bits of group-mods and meter-mods.
    body = b"".join(struct.pack("!HHI", kind, 8, 3) for kind in (10, 11))
    if version >= wire.OF14:
        return wire.message(version, _SET_ASYNC, xid, body)
    return wire.nicira(version, _NX_SET_ASYNC, xid, body)


def stand_aside(version: int, xid: int) -> bytes:
    """Have a connection get no packets that match no flow; below OpenFlow 1.3 it would (connmgr_wants_packet_in_on_miss)."""
    return wire.nicira(version, _NX_CONTROLLER_ID, xid, struct.pack("!6xH", _NO_CONTROLLER))


def is_told(message: bytes) -> bool:
    """Whether the switch says this of its own accord, about something that this file can read."""
    found = wire.header(message)
    if found.type == _PORT_STATUS:
        return True
    if found.type == _REQUEST_FORWARD and found.version != wire.OF10:
        return found.version >= wire.OF14
    if found.xid:
        return False
    if wire.is_multipart_reply(found):
        return _kind(message) == _KINDS.get(found.version)
    return found.type == wire.EXPERIMENTER and _experimenter(message) in (*_STANDSTILLS, *_FORWARDS)


def events(message: bytes) -> t.Iterator[Event]:
    """The events of a flow monitor's message; none of any other.  Raises ``ProtocolError``.

    Left out are flows that ovs-vswitchd makes for itself, as for a bond of balance-tcp: no dump shows them, nobody may add them.
    """
    found = wire.header(message)
    if found.type == wire.EXPERIMENTER and _experimenter(message) in _STANDSTILLS:
        yield _bare(_STANDSTILLS[_experimenter(message)])
        return
    if not wire.is_multipart_reply(found) or _kind(message) != _KINDS.get(found.version):
        return
    __, __, body = wire.multipart_reply(message)
    read = _event if found.version >= wire.OF14 else _old_event
    for start, end in wire.items(message, body, "flow update"):
        event = read(message[start:end], found.version)
        if event.table != _INTERNAL_TABLE:
            yield event


def forwarded(message: bytes) -> bytes | None:
    """The group-mod or meter-mod that somebody else has sent, None if this is no forwarded request."""
    found = wire.header(message)
    if found.type == _REQUEST_FORWARD and found.version >= wire.OF14:
        return message[wire.HEADER.size :]
    if found.type == wire.EXPERIMENTER and _experimenter(message) in _FORWARDS:
        return message[wire.HEADER.size + _EXPERIMENTER.size :]
    return None


def changed_port(message: bytes) -> wire.Port | None:
    """The port that a port-status is about, None if this is none."""
    return wire.port_status_of(message) if wire.is_port_status(message) else None


def addition(event: Event, version: int, xid: int, flags: int, importance: int) -> bytes:
    """The flow-mod that gives a switch the flow of ``event``, whether it has it already or not."""
    rest = event.match + event.rest
    if version == wire.OF10:
        times = event.idle, event.hard
        return wire.nx_flow_mod(xid, *event.key[:2], event.cookie, *times, event.match_length, rest, flags)
    fixed = event.table, event.priority, event.cookie, event.idle, event.hard, flags, importance
    return wire.flow_mod(version, xid, *fixed, rest)


def deletion(key: Key, version: int, xid: int, match_length: int) -> bytes:
    """The flow-mod that deletes just the flow ``key``; one that is not there is fine."""
    table, priority, match = key
    return wire.strict_deletion(version, xid, table, priority, match, match_length)


def _event(entry: bytes, version: int) -> Event:
    kind = _EVENTS.get(wire.u16(entry, 2, "flow update"))
    if kind in (OWN, PAUSED, RESUMED):
        return _bare(kind, entry)
    if kind is None:
        raise ProtocolError("a flow update is of no known kind", entry[:16].hex())
    __, __, table, reason, idle, hard, priority, cookie = wire.unpack(_FULL, entry, 0, "flow update")
    length = wire.u16(entry, _FULL.size + 2, "flow update")
    match, rest = _parts(entry, _FULL.size, length)
    return Event(kind, reason, table, priority, cookie, idle, hard, match, length, rest)


def _old_event(entry: bytes, version: int) -> Event:
    kind = _OLD_EVENTS.get(wire.u16(entry, 2, "flow update"))
    if kind == OWN:
        return _bare(kind, entry)
    if kind is None:
        raise ProtocolError("a flow update is of no known kind", entry[:16].hex())
    fields = wire.unpack(_OLD_FULL, entry, 0, "flow update")
    __, __, reason, priority, idle, hard, length, table, cookie = fields
    match, rest = _parts(entry, _OLD_FULL.size, length)
    return Event(kind, reason, table, priority, cookie, idle, hard, match, length, rest)


def _parts(entry: bytes, start: int, length: int) -> tuple[bytes, bytes]:
    """The padded match of ``length`` bytes that begins at ``start``, and what is behind it."""
    end = start + ((length + 7) & ~7)
    if end > len(entry):
        raise ProtocolError("a flow update is cut off", f"its match claims {length} bytes")
    return entry[start:end], entry[end:]


def _bare(kind: str, entry: bytes = bytes(8)) -> Event:
    (xid,) = wire.unpack(struct.Struct("!I"), entry, 4, "flow update")
    return Event(kind, 0, 0, 0, 0, 0, 0, b"", 0, b"", int(xid))


def _kind(message: bytes) -> wire.Kind:
    return wire.multipart_reply(message)[0]


def _experimenter(message: bytes) -> tuple[int, int]:
    experimenter, subtype = wire.unpack(_EXPERIMENTER, message, wire.HEADER.size, "experimenter message")
    return int(experimenter), int(subtype)
