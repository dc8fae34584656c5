# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The same kernel meters for two processes on one datapath.

A kernel datapath has one set of meters with numbers from 0; each ovs-vswitchd gives them out in the order in which
its OpenFlow meters were added.  A second process must number those that carry traffic like the first does, or it
would set the rate of another meter under live traffic.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ofproto_text import ACTIONS

# A meter of OpenFlow: bridge and meter id.
Meter = tuple[str, int]

_BRIDGE = re.compile(r'^( *)bridge\("(.*)"\)$')
_METER = re.compile(r"^( *)meter:(\d+)$")
_KERNEL_METER = re.compile(r"\bmeter\((\d+)\)")


def used(trace: str) -> dict[Meter, int]:
    """Which kernel meter each OpenFlow meter in the output of ``ofproto/trace`` is."""
    bridges: list[tuple[int, str]] = []
    meters: list[Meter] = []
    kernel: list[int] = []
    for line in trace.splitlines():
        indent = len(line) - len(line.lstrip(" "))
        found = _BRIDGE.match(line)
        if found:
            bridges = [entry for entry in bridges if entry[0] < indent] + [(indent, found.group(2))]
        elif _METER.match(line):
            bridges = [entry for entry in bridges if entry[0] < indent]
            meters += [(name, int(line.partition(":")[2])) for __, name in bridges[-1:]]
        elif line.startswith(ACTIONS):
            kernel = numbers(line)
    return dict(zip(meters, kernel)) if len(meters) == len(kernel) else {}


def numbers(actions: str) -> list[int]:
    """The kernel meters among datapath actions."""
    return [int(number) for number in _KERNEL_METER.findall(actions)]


def order(meters: t.Sequence[Meter], known: t.Mapping[Meter, int]) -> list[Meter | None]:
    """``meters`` in the order in which a new process must add them, so that it numbers the ``known`` ones alike.

    None is the place of one that the old process has had for a while: its numbers go up where meters are deleted and added
    again (id_pool_alloc_id in lib/id-pool.c), as in a bridge that is flushed for its controller.
    """
    last = max(known.values(), default=-1)
    places: list[Meter | None] = [None] * max(len(meters), last + 1)
    for meter, number in known.items():
        places[number] = meter
    others = iter([meter for meter in meters if meter not in known])
    return [place if place is not None else next(others, None) for place in places]
