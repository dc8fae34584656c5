# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Flows that send UDP from one port to another, each source port as a flow of its own, and nothing else anywhere.

``forward`` is ``in_port=PORT,udp,actions=move:NXM_OF_UDP_SRC[]->NXM_NX_REG0[0..15],output:OTHER``, see ovs-actions(7). By reading
the source port the action has the datapath tell flows apart by it.
"""

from __future__ import annotations

import struct

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire

_UDP, _IPV4 = 17, 0x0800
# Fields: in_port, eth_type, ip_proto as OpenFlow 1.2 has them, and as NXM (include/openvswitch/meta-flow.h).
_OXM = 0x80000004, 0x80000A02, 0x80001401
_NXM = 0x00000002, 0x00000602, 0x00000C01
_UDP_SRC, _REG0, _BITS = 0x00001602, 0x00010004, 16
_COOKIE = 0x00013C08
_OUTPUT, _APPLY, _COPY_FIELD, _REG_MOVE = 0, 4, 28, 6
_EVERY_BIT = (1 << 64) - 1


def forward(version: int, xid: int, cookie: int, priority: int, port: int, other: int) -> bytes:
    """A flow-mod that adds that flow; packets of ``port`` go to ``other``."""
    return _added(
        version,
        xid,
        cookie,
        priority,
        _match(version, port, udp=True),
        _move(version) + _output(version, other),
    )


def drop(version: int, xid: int, cookie: int, priority: int, port: int) -> bytes:
    """A flow-mod that adds ``in_port=PORT,actions=drop``."""
    return _added(version, xid, cookie, priority, _match(version, port, udp=False), b"")


def deletion(version: int, xid: int, cookie: int) -> bytes:
    """A flow-mod that deletes every flow with that cookie."""
    if version == wire.OF10:  # the cookie is a part of the match there
        match = struct.pack("!IQ", _COOKIE, cookie)
        fixed = (0, wire.DELETE, 0, 0, 0, wire.NO_BUFFER, 0xFFFF, 0, len(match))
        body = struct.pack("!QHHHHIHHHxxxxxx", *fixed) + wire.padded(match)
        return wire.nicira(version, wire.NX_FLOW_MOD, xid, body)
    limits = (wire.NO_BUFFER, wire.ANY, wire.ANY, 0, 0)
    body = struct.pack("!QQBBHHHIIIHH", cookie, _EVERY_BIT, wire.ALL_TABLES, wire.DELETE, 0, 0, 0, *limits)
    return wire.message(version, wire.FLOW_MOD, xid, body + struct.pack("!HH4x", 1, 4))


def _added(version: int, xid: int, cookie: int, priority: int, match: bytes, actions: bytes) -> bytes:
    if version == wire.OF10:
        rest = wire.padded(match) + actions
        return wire.nx_flow_mod(xid, 0, priority, cookie, 0, 0, len(match), rest)
    instructions = struct.pack("!HH4x", _APPLY, 8 + len(actions)) + actions if actions else b""
    return wire.flow_mod(version, xid, 0, priority, cookie, 0, 0, 0, 0, wire.padded(match) + instructions)


def _match(version: int, port: int, udp: bool) -> bytes:
    """Without its padding."""
    in_port, eth_type, ip_proto = _NXM if version == wire.OF10 else _OXM
    fields = struct.pack("!IH" if version == wire.OF10 else "!II", in_port, port)
    if udp:
        fields += struct.pack("!IHIB", eth_type, _IPV4, ip_proto, _UDP)
    return fields if version == wire.OF10 else struct.pack("!HH", 1, 4 + len(fields)) + fields


def _move(version: int) -> bytes:
    if version == wire.OF15:
        return wire.padded(struct.pack("!HHHHHxxII", _COPY_FIELD, 24, _BITS, 0, 0, _UDP_SRC, _REG0))
    return struct.pack("!HHIHHHHII", 0xFFFF, 24, wire.NICIRA, _REG_MOVE, _BITS, 0, 0, _UDP_SRC, _REG0)


def _output(version: int, port: int) -> bytes:
    if version == wire.OF10:
        return struct.pack("!HHHH", _OUTPUT, 8, port, 0)
    return struct.pack("!HHIH6x", _OUTPUT, 16, port, 0)
