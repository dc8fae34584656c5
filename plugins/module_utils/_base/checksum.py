# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The Internet checksum (RFC 1071), and CRC32c."""

from __future__ import annotations

import struct

# Castagnoli's polynomial, its bits in reverse.
_POLYNOMIAL = 0x82F63B78


def checksum(data: bytes) -> int:
    """The ones' complement of the ones' complement sum of ``data``, taken as 16-bit numbers; a last odd byte is padded with 0."""
    padded = data + b"\0" if len(data) % 2 else data
    total = int(sum(struct.unpack(f"!{len(padded) // 2}H", padded)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def crc32c(data: bytes) -> int:
    """The checksum of SCTP (RFC 9260, appendix A), which has its lowest byte first on the wire."""
    found = 0xFFFFFFFF
    for byte in data:
        found ^= byte
        for __ in range(8):
            found = found >> 1 ^ (_POLYNOMIAL if found & 1 else 0)
    return found ^ 0xFFFFFFFF
