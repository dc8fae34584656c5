# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""STP and RSTP as ovs-vswitchd shows them, and BPDUs that a neighbour would send (IEEE 802.1D-2004, clauses 9 and 17)."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Bridge, Interface

# The bridge group address, which all BPDUs go to (clause 7.12.3).
GROUP = bytes.fromhex("0180c2000000")

_BRIDGE = re.compile(r"^---- (.+) ----$")
_TIME = re.compile(r"^stp-(hello-time|max-age|fwd-delay) (\d+)s$")
# The most that the standard allows (table 17-1), in seconds: others are somebody's who wants us to wait.
_MOST = {"hello-time": 10, "max-age": 40, "fwd-delay": 30}
_ROOT = "This bridge is the root"

# Behind the headers of Ethernet and LLC (14 and 3 bytes): clause 9.3.
_TYPE, _FLAGS, _COST = 20, 21, slice(30, 34)
_ROOT_ID, _BRIDGE_ID, _SHORTEST = slice(22, 30), slice(34, 42), 52
_CONFIGURATION, _RAPID = 0x00, 0x02
_PROPOSAL, _AGREEMENT, _ACKNOWLEDGED = 0x02, 0x40, 0x80
_ROLE, _ROOT_ROLE, _DESIGNATED = 0x0C, 0x08, 0x0C
_LEARNS_AND_FORWARDS = 0x30
_WORST = b"\xff" * 8


class Tree(t.NamedTuple):
    """What a bridge shows of its tree.

    ``lines`` are all it shows, in an order that is not that of a process; times are in seconds, of the bridge or its root, the
    longer one.
    """

    lines: tuple[str, ...]
    is_root: bool
    hello_time: int
    max_age: int
    forward_delay: int


def parse(text: str) -> dict[str, Tree]:
    """The trees in what stp/show or rstp/show tells, by bridge; times that are not told are 0."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        head = _BRIDGE.match(line)
        if head:
            name = head[1]
            found[name] = []
        elif name and line.strip():
            found[name].append(" ".join(line.split()))
    return {name: _tree(lines) for name, lines in found.items()}


def _tree(lines: list[str]) -> Tree:
    times = dict.fromkeys(_MOST, 0)
    for match in filter(None, map(_TIME.match, lines)):
        times[match[1]] = min(max(int(match[2]), times[match[1]]), _MOST[match[1]])
    return Tree(tuple(sorted(lines)), _ROOT in lines, *times.values())


def members(bridge: Bridge) -> list[Interface]:
    """The interfaces of the ports that are to take part in the tree of ``bridge`` (port_configure_stp in vswitchd/bridge.c).

    Ports that are a mirror's output are among them unless they say stp-enable=false: Open vSwitch leaves them out by itself.
    """
    if not (bridge.stp or bridge.rstp):
        return []
    option = "rstp-enable" if bridge.rstp else "stp-enable"
    single = {
        port.interfaces[0]
        for port in bridge.ports
        if len(port.interfaces) == 1 and port.other_config.get(option, "true").lower() != "false"
    }
    return [each for each in bridge.interfaces if each.name in single and each.type != "internal"]


def with_neighbours(bridge: Bridge) -> list[Interface]:
    """Those of ``members`` that lead to other bridges than those of the same process, as a patch port does."""
    return [each for each in members(bridge) if each.type != "patch" and (each.ofport or -1) > 0]


def rapid_numbers(status: t.Mapping[str, str]) -> t.Iterator[int]:
    """The number of a port for RSTP by its rstp_status, behind the priority: 10 in "800a"; none where it has none."""
    if "rstp_port_id" in status:
        yield int(status["rstp_port_id"], 16) & 0xFFF


def acknowledged(frame: bytes) -> bytes:
    """A neighbour's BPDU that also says: your topology change is known.  Whoever has told of none does not mind."""
    if len(frame) < _SHORTEST or frame[_TYPE] not in (_CONFIGURATION, _RAPID):
        return frame
    return _with(frame, {_FLAGS: frame[_FLAGS] | _ACKNOWLEDGED})


def is_rapid(frame: bytes) -> bool:
    """Whether a BPDU is one of RSTP."""
    return len(frame) > _TYPE and frame[_TYPE] == _RAPID


def answer(own: bytes) -> bytes | None:
    """What the neighbour has answered to a BPDU of RSTP that a port sends in a settled tree; None where it is silent.

    A port that does not propose any more has an agreement, and one that speaks STP has heard a neighbour that knows no more.
    """
    if len(own) < _SHORTEST:
        return None
    kind, flags = own[_TYPE], own[_FLAGS]
    if kind == _RAPID and flags & _ROLE == _DESIGNATED and not flags & _PROPOSAL:
        return _inferior(own, {_FLAGS: _AGREEMENT | _ROOT_ROLE | _LEARNS_AND_FORWARDS})
    if kind == _CONFIGURATION:
        return _inferior(own, {_FLAGS: _ACKNOWLEDGED}, _WORST)
    return None


def _inferior(own: bytes, values: t.Mapping[int, int], root: bytes = b"") -> bytes:
    """The same from another bridge, which is no better a way to the root."""
    frame = bytearray(_with(own, values))
    frame[_ROOT_ID] = root or frame[_ROOT_ID]
    frame[_BRIDGE_ID] = _WORST
    cost = int.from_bytes(frame[_COST], "big")
    frame[_COST] = min(cost + 1, 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(frame)


def _with(frame: bytes, values: t.Mapping[int, int]) -> bytes:
    changed = bytearray(frame)
    for offset, value in values.items():
        changed[offset] = value
    return bytes(changed)
