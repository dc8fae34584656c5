# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Counters of datapaths and their ports as ``dpctl/show --statistics`` prints them (lib/dpctl.c, show_dpif); pure."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import ProtocolError

_DATAPATH = re.compile(r"(\S+):")
_LOOKUPS = re.compile(r"  lookups: hit:(\d+) missed:(\d+) lost:(\d+)")
_PORT = re.compile(r"  port \d+: (.+?)(?: \(.*\))?")
# A port that does not count something tells "?".
_PACKETS = re.compile(r"    [RT]X packets:(\d+|\?) errors:(\d+|\?) (?:dropped|aborted):(\d+|\?)\b.*")


@dataclasses.dataclass
class PortCounters:
    """``packets`` that a port received or sent, those with ``errors``, and those that it ``dropped``."""

    packets: int = 0
    errors: int = 0
    dropped: int = 0


@dataclasses.dataclass
class DatapathCounters:
    """``lost`` packets were on their way to ovs-vswitchd; ``lookups`` counts all that the datapath has looked up."""

    lookups: int = 0
    lost: int = 0
    ports: dict[str, PortCounters] = dataclasses.field(default_factory=dict)


def parse(text: str) -> dict[str, DatapathCounters]:
    """Each datapath by its name (``system@ovs-system``).

    Raises ``ProtocolError`` where a datapath does not tell what it has lost.
    """
    found: dict[str, DatapathCounters] = {}
    told: set[str] = set()
    datapath, port, name = DatapathCounters(), PortCounters(), ""
    for line in text.splitlines():
        if match := _DATAPATH.fullmatch(line):
            name, datapath = match[1], found.setdefault(match[1], DatapathCounters())
        elif (match := _LOOKUPS.fullmatch(line)) and name not in told:
            told.add(name)
            hit, missed, datapath.lost = map(int, match.groups())
            datapath.lookups = hit + missed
        elif match := _PORT.fullmatch(line):
            port = datapath.ports.setdefault(match[1], PortCounters())
        elif match := _PACKETS.fullmatch(line):
            port.packets += _number(match[1])
            port.errors += _number(match[2])
            port.dropped += _number(match[3])
    if told != set(found):
        silent = ", ".join(sorted(set(found) - told))
        raise ProtocolError("dpctl/show is not understood", f"it tells no lookups of {silent}")
    return found


def _number(text: str) -> int:
    return 0 if text == "?" else int(text)


def as_plain(found: t.Mapping[str, DatapathCounters]) -> dict[str, t.Any]:
    """For JSON."""
    return {name: dataclasses.asdict(each) for name, each in found.items()}
