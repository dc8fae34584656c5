# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The proof before the switch-over: both processes translate the live megaflows to the same datapath actions.

``ofproto/trace`` (ovs-vswitchd(8)) is asked on both control sockets for each megaflow of the old one; it has no side
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


_IN_PORT = re.compile(r"in_port\((\d+)\)")
_PORT = re.compile(r"^  port (\d+): (\S+)", re.MULTILINE)
_METER = re.compile(r"meter\(\d+\)")
# A number by itself among datapath actions: a port, or the same on both sides.
_NUMBER = re.compile(r"(?<![^,(])\d+(?![^,)])")


@dataclasses.dataclass(frozen=True)
class Datapath:
    """``dump`` and ``name`` are what ``dpctl/dump-flows`` and ``ofproto/trace`` call it; ``shared`` by both processes."""

    dump: str
    name: str
    shared: bool


KERNEL = Datapath("ovs-system", "ovs-system", shared=True)
USERSPACE = Datapath("netdev@ovs-netdev", "ovs-netdev", shared=False)


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


def prove(old: Trace, new: Trace, datapath: Datapath, most: int) -> Proof:
    """Compare at most ``most`` megaflows of the old process's ``datapath``, sampled evenly."""
    flows = megaflows(old("dpctl/dump-flows", "--no-names", datapath.dump))
    before, after = (_Side(trace, datapath, _ports(trace, datapath)) for trace in (old, new))
    traced = skipped = different = 0
    differences: list[str] = []
    for flow in sample(flows, most):
        was = None if recirculated(flow) else before.actions(flow)
        same = None if was is None else after.translated(flow, was, before)
        if was is None or same is None:
            skipped += 1
            continue
        traced += 1
        now = after.actions(same)
        if was != now:
            different += 1
            if len(differences) < MOST_DIFFERENCES:
                differences.append(f"{flow}: the old version does {was}, the new one {now}")
    return Proof(len(flows), traced, skipped, different, tuple(differences))


@dataclasses.dataclass(frozen=True)
class _Side:
    """One of the two processes; ``ports``: number -> name, of a datapath that is its own."""

    trace: Trace
    datapath: Datapath
    ports: t.Mapping[str, str]

    def actions(self, flow: str) -> str | None:
        """The datapath actions for ``flow``, with the names of ports that only this process numbers so."""
        try:
            found = actions(self.trace("ofproto/trace", self.datapath.name, flow))
        except Unreachable:
            raise
        except HotUpgradeError:
            return None
        if found is None or self.datapath.shared:
            return found
        return _NUMBER.sub(lambda number: self.ports.get(number[0], number[0]), _METER.sub("meter(*)", found))

    def translated(self, flow: str, does: str, other: _Side) -> str | None:
        """The flow of the ``other`` process in this one's numbers; None if it has a port that this one does not have."""
        if self.datapath.shared:
            return flow
        numbers = {name: number for number, name in self.ports.items()}
        absent = set(other.ports.values()) - numbers.keys()
        source = _IN_PORT.search(flow)
        port = numbers.get(other.ports.get(source[1], "")) if source else None
        if port is None or absent & set(re.split(r"[,() ]", does)):
            return None
        return _IN_PORT.sub(f"in_port({port})", flow)


def _ports(trace: Trace, datapath: Datapath) -> dict[str, str]:
    if datapath.shared:
        return {}
    return dict(_PORT.findall(trace("dpctl/show", datapath.dump)))


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


def _without_id(line: str) -> str:
    return line.partition(", ")[2] if line.startswith("ufid:") else line
