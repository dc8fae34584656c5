# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Actions that have a packet's connection be tracked (ovs-actions(7), include/openvswitch/ofp-actions.h: NXAST_CT, NXAST_NAT)."""

from __future__ import annotations

import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.wire import NICIRA, OF10

_EXPERIMENTER = 0xFFFF
_REG_LOAD, _CT, _NAT = 7, 35, 36
_COMMIT = 1
_NO_TABLE = 0xFF
_SOURCE, _TARGET = 1, 2
_IPV4_MIN, _IPV6_MIN, _PORT_MIN = 1, 4, 16
# Headers of NXM_NX_CT_MARK and NXM_NX_CT_LABEL (include/openvswitch/meta-flow.h).
_MARK, _LABEL = 1 << 16 | 107 << 9 | 4, 1 << 16 | 108 << 9 | 16
_SET_FIELD = 25
_MOST_BITS = 64

GATEWAYS = {"ftp": 21, "tftp": 69}


class Translation(t.NamedTuple):
    """To what an address is translated: its bytes, and the port, None where there is none; ``source`` tells which one."""

    source: bool
    address: bytes
    port: int | None


def track(zone: int) -> bytes:
    """``ct(zone=ZONE)``: the packet changes the state of its connection, and goes nowhere."""
    return _ct(0, zone)


def commit(
    version: int,
    zone: int,
    mark: int = 0,
    labels: int = 0,
    translation: Translation | None = None,
    gateway: str = "",
) -> bytes:
    """``ct(commit,zone=ZONE,nat(…),alg=GATEWAY,exec(…))``; ``gateway`` is empty or one of ``GATEWAYS``.

    Mark and labels are set also where they are 0: the connection may be there with others.
    """
    nested = _nat(translation) if translation else b""
    nested += _set(version, _MARK, 32, mark) + _set(version, _LABEL, 128, labels)
    return _ct(_COMMIT, zone, GATEWAYS.get(gateway, 0), nested)


def _ct(flags: int, zone: int, gateway: int = 0, nested: bytes = b"") -> bytes:
    return _action(_CT, struct.pack("!HIHB3xH", flags, 0, zone, _NO_TABLE, gateway) + nested)


def _nat(translation: Translation) -> bytes:
    flags = _SOURCE if translation.source else _TARGET
    present = _IPV4_MIN if len(translation.address) == 4 else _IPV6_MIN
    place = translation.address
    if translation.port is not None:
        present |= _PORT_MIN
        place += struct.pack("!H", translation.port)
    return _action(_NAT, struct.pack("!2xHH", flags, present) + place)


def _set(version: int, field: int, bits: int, value: int) -> bytes:
    if version == OF10:  # which has no set_field; later ones do not know the other one any more
        return b"".join(
            _load(field, offset, min(bits, _MOST_BITS), value) for offset in range(0, bits, _MOST_BITS)
        )
    content = struct.pack("!I", field) + value.to_bytes(bits // 8, "big")
    length = (4 + len(content) + 7) // 8 * 8
    return (struct.pack("!HH", _SET_FIELD, length) + content).ljust(length, b"\0")


def _load(field: int, offset: int, bits: int, value: int) -> bytes:
    part = value >> offset & (1 << bits) - 1
    return _action(_REG_LOAD, struct.pack("!HIQ", offset << 6 | bits - 1, field, part))


def _action(subtype: int, body: bytes) -> bytes:
    length = (10 + len(body) + 7) // 8 * 8
    head = struct.pack("!HHIH", _EXPERIMENTER, length, NICIRA, subtype)
    return (head + body).ljust(length, b"\0")
