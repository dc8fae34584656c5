# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The proof before the switch-over: both processes translate the live megaflows to the same datapath actions.

``ofproto/trace`` (ovs-vswitchd(8)) is asked on both control sockets for each megaflow of the kernel; it has no side
effect when it is given a flow and no packet.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._errors import HotUpgradeError, Unreachable

ACTIONS = "Datapath actions: "
MOST_DIFFERENCES = 20

# Numbers that each process gives out by itself; they mean the same under different values.
_OWN_NUMBERS = (
    (re.compile(r"recirc\(0x[0-9a-f]+\)"), "recirc(*)"),
    (re.compile(r"recirc_id=[0-9a-fx]+"), "recirc_id=*"),
    (re.compile(r"userspace\(pid=\d+"), "userspace(pid=*"),
)


class Trace(t.Protocol):
    """A control socket: ``Appctl.call``."""

    def __call__(self, command: str, *args: str) -> str:
        """The text of the answer; raises ``HotUpgradeError``."""


@dataclasses.dataclass(frozen=True)
class Proof:
    """Of ``megaflows`` live ones, ``traced`` were compared; ``differences`` are sentences, the first 20.

    ``skipped`` cannot be compared: what comes after a recirculation has a number that only one process knows, and
    a flow that the old process cannot read back says nothing about the new one.
    """

    megaflows: int
    traced: int
    skipped: int
    different: int
    differences: tuple[str, ...]


def prove(old: Trace, new: Trace, datapath: str, most: int) -> Proof:
    """Compare at most ``most`` megaflows of ``datapath`` (as ``ovs-system``), sampled evenly."""
    flows = megaflows(old("dpctl/dump-flows", "--no-names", datapath))
    traced = skipped = different = 0
    differences: list[str] = []
    for flow in sample(flows, most):
        before = None if recirculated(flow) else _actions(old, datapath, flow)
        if before is None:
            skipped += 1
            continue
        traced += 1
        after = _actions(new, datapath, flow)
        if before != after:
            different += 1
            if len(differences) < MOST_DIFFERENCES:
                differences.append(f"{flow}: the old version does {before}, the new one {after}")
    return Proof(len(flows), traced, skipped, different, tuple(differences))


def megaflows(dump: str) -> list[str]:
    """The matches in the output of ``dpctl/dump-flows``, in ODP syntax."""
    lines = (line.partition(", packets:")[0].strip() for line in dump.splitlines())
    return [_without_id(line) for line in lines if "in_port(" in line]


def metered(dump: str) -> list[str]:
    """The matches of those megaflows that have a meter among their actions and can be traced."""
    lines = [line for line in dump.splitlines() if "meter(" in line.partition(" actions:")[2]]
    return [flow for flow in megaflows("\n".join(lines)) if not recirculated(flow)]


def sample(flows: t.Sequence[str], most: int) -> list[str]:
    """At most ``most`` of ``flows``, evenly spread."""
    if len(flows) <= most:
        return list(flows)
    return [flows[index * len(flows) // most] for index in range(most)]


def recirculated(flow: str) -> bool:
    """Whether the megaflow matches packets that have been recirculated."""
    found = re.search(r"recirc_id\((?:0x)?([0-9a-f]+)\)", flow)
    return found is not None and int(found.group(1), 16) != 0


def actions(trace: str) -> str | None:
    """What a trace ends with, without numbers that each process gives out by itself; None if it has no end."""
    lines = [line for line in trace.splitlines() if line.startswith(ACTIONS)]
    if not lines:
        return None
    text = lines[-1][len(ACTIONS) :]
    for pattern, replacement in _OWN_NUMBERS:
        text = pattern.sub(replacement, text)
    return text


def _actions(trace: Trace, datapath: str, flow: str) -> str | None:
    try:
        return actions(trace("ofproto/trace", datapath, flow))
    except Unreachable:
        raise
    except HotUpgradeError:
        return None


def _without_id(line: str) -> str:
    return line.partition(", ")[2] if line.startswith("ufid:") else line
