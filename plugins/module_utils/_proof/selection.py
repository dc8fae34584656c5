# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Which bucket of a select group a hash leads to, as each version of Open vSwitch has it; pure.

A group that selects by ``dp_hash``, or names no method, spreads a table of slots over its buckets
(``group_setup_dp_hash_table`` in ofproto/ofproto-dpif.c).  Since 3.1.6, 3.2.4, 3.3.3, 3.4.1 and 3.5.0 ("Improve load
balancing in dp_hash select groups") the table has four slots or more for each bucket, and with the table the bucket
changes that a connection gets.
"""

from __future__ import annotations

import dataclasses
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire

_SELECT = 1
_WEIGHT = 0
_EXPERIMENTER = 0xFFFF
# NTR_VENDOR_ID and NTRT_SELECTION_METHOD (include/openflow/netronome-ext.h).
_SELECTION_METHOD = struct.pack("!II", 0x0000154D, 1)

# What MAX_SELECT_GROUP_HASH_VALUES allows, and all hashes that a table can tell apart.
MOST_SLOTS = 256
FEWEST_SLOTS = 16
SLOTS_PER_BUCKET = 4

# The first release of each series with the larger tables; series from 3.5 on have them, older ones do not.
LARGER_SINCE = {(3, 1): 6, (3, 2): 4, (3, 3): 3, (3, 4): 1}

Version = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Group:
    """A select group; ``method`` is empty when it names none, ``weights`` are those of its buckets, in order."""

    bridge: str
    number: int
    method: str
    weights: tuple[int, ...]

    def __str__(self) -> str:
        return f"group {self.number} of bridge {self.bridge} ({len(self.weights)} buckets)"


def groups(bridge: str, reply: bytes) -> list[Group]:
    """The select groups in a reply that describes groups.  Raises ``ProtocolError``."""
    version = wire.header(reply).version
    read = _read_11 if wire.OF10 < version < wire.OF15 else _read_15
    __, __, body = wire.multipart_reply(reply)
    found = []
    for start, end in wire.items(reply, body, "group"):
        kind, number = wire.unpack(struct.Struct("!xxBxI"), reply, start, "group")
        if kind == _SELECT:
            method, weights = read(reply[start:end])
            found.append(Group(bridge, number, method, tuple(weights)))
    return found


def _read_11(group: bytes) -> tuple[str, list[int]]:
    """OpenFlow 1.1 to 1.4: ``struct ofp11_group_desc_stats``, whose buckets are ``struct ofp11_bucket``."""
    return "", [wire.u16(group, start + 2, "bucket") for start, __ in wire.items(group, 8, "bucket")]


def _read_15(group: bytes) -> tuple[str, list[int]]:
    """``struct ofp15_group_desc_stats``, also Nicira's for OpenFlow 1.0."""
    properties = 16 + wire.u16(group, 8, "group")
    weights = [_weight(group[start:end]) for start, end in wire.items(group[:properties], 16, "bucket")]
    for start, end in _properties(group, properties):
        if group[start + 4 : start + 12] == _SELECTION_METHOD:
            return group[start + 16 : min(start + 32, end)].rstrip(b"\0").decode("ascii", "replace"), weights
    return "", weights


def _weight(bucket: bytes) -> int:
    for start, __ in _properties(bucket, 8 + wire.u16(bucket, 2, "bucket")):
        if wire.u16(bucket, start, "property") == _WEIGHT:
            return wire.u16(bucket, start + 4, "property")
    return 1


def _properties(data: bytes, start: int) -> t.Iterator[tuple[int, int]]:
    """Properties are padded to 8 bytes, which their length does not count."""
    while start + 4 <= len(data):
        length = max(4, wire.u16(data, start + 2, "property"))
        yield start, start + length
        start += (length + 7) // 8 * 8


def larger(version: Version) -> bool:
    """Whether this version has the larger tables."""
    if version[:2] in LARGER_SINCE:
        return version >= (*version[:2], LARGER_SINCE[t.cast("tuple[int, int]", version[:2])])
    return version >= (3, 5)


def table(weights: t.Sequence[int], version: Version) -> tuple[int, ...]:
    """The bucket of each slot; empty when the group falls back to a hash of its own, which all versions have alike."""
    total = sum(weights)
    if not total:
        return ()
    slots = -(-total // min(weight for weight in weights if weight))
    if larger(version):
        slots = max(slots, min(len(weights) * SLOTS_PER_BUCKET, MOST_SLOTS))
    slots = max(FEWEST_SLOTS, 1 << (slots - 1).bit_length())
    if slots > MOST_SLOTS:
        return ()
    divisors = [1] * len(weights)
    values = [float(weight) for weight in weights]
    found = []
    for __ in range(slots):
        winner = max(range(len(values)), key=values.__getitem__)
        divisors[winner] += 2
        values[winner] = weights[winner] / divisors[winner]
        found.append(winner)
    return tuple(found)


def moved(group: Group, old: Version, new: Version) -> int:
    """How many of 256 hash values lead to another bucket in the new version."""
    if group.method not in ("", "dp_hash"):
        return 0
    before, after = table(group.weights, old), table(group.weights, new)
    if not before or not after:
        return 0
    return sum(before[value % len(before)] != after[value % len(after)] for value in range(MOST_SLOTS))


def announce(found: t.Sequence[Group], old: Version, new: Version, shown: int = 3) -> t.Iterator[str]:
    """What the change from ``old`` to ``new`` does to connections through these groups, why, and what avoids it."""
    counts = {group: moved(group, old, new) for group in found}
    moving = sorted((group for group in found if counts[group]), key=lambda group: -counts[group])
    if not moving:
        return
    texts = [
        f"about {counts[group] * 100 // MOST_SLOTS} of 100 through {group}, {counts[group]} of {MOST_SLOTS} hash values"
        for group in moving[:shown]
    ]
    more = f", and some through {len(moving) - shown} more groups" if len(moving) > shown else ""
    yield (
        f"connections may move to another bucket: {'; '.join(texts)}{more}. The two versions spread select groups (dp_hash) over "
        "tables of different size, whatever the strategy; the larger ones came with 3.1.6, 3.2.4, 3.3.3, 3.4.1 and 3.5.0. To "
        "avoid it, take a version from the same side of that change, or have ct() remember the bucket of a connection"
    )
