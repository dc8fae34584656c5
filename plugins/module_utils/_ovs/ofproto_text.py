# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What ovs-vswitchd tells as text of its datapath: ``dpif/show`` and ``ofproto/trace`` (ofproto/ofproto-dpif{,-trace}.c)."""

from __future__ import annotations

import re
import typing as t

_SECTION = re.compile(r"^system@ovs-system:.*\n((?:\s.*\n?)*)", re.MULTILINE)
_BRIDGE = re.compile(r"^  (\S.*):$")
_PORT = re.compile(r"^    (\S+) (\d+)/(\d+): \(([\w-]+)")
# What a line of a trace begins with, and what it says of packets that no megaflow forwards.
ACTIONS = "Datapath actions: "
SLOW = "slow path"
# A group chose a bucket, perhaps by which links are up.
CHOICE = re.compile("-> (?:using|no live) bucket")
_ACTIONS = re.compile(f"^{ACTIONS}(.*)$", re.MULTILINE)


class ShownPort(t.NamedTuple):
    """A port: its bridge, its name in the database, its OpenFlow number there, and its type."""

    bridge: str
    name: str
    ofport: int
    kind: str


def shown_ports(shown: str) -> dict[int, ShownPort]:
    """The ports of the kernel's datapath in what ``dpif/show`` tells, by their numbers in it; patch ports have none."""
    section = _SECTION.search(shown)
    found: dict[int, ShownPort] = {}
    bridge = ""
    for line in section.group(1).splitlines() if section else ():
        if named := _BRIDGE.match(line):
            bridge = named.group(1)
        elif port := _PORT.match(line):
            name, ofport, number, kind = port.groups()
            found[int(number)] = ShownPort(bridge, name, int(ofport), kind)
    return found


def datapath_actions(trace: str) -> str | None:
    """The first datapath actions of a trace; it may go on with what is guessed.  None where it has no end."""
    found = _ACTIONS.search(trace)
    return found.group(1) if found else None
