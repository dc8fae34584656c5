# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The connections that a userspace datapath tracks, in the second ovs-vswitchd: made by the packets that would make them.

A packet-out with the action ct() changes what the process tracks, also while it waits for its flows, and goes nowhere.
"""

from __future__ import annotations

import collections
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import ProtocolError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.heartbeat import beat
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.report import Report
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import tracking, wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import OpenFlow
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import Switch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import conntrack, conntrack_packets
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.conntrack import Entry

# Of what changes all the time, so much is left for the switch-over, and so often it is tried to have less.
FEW = 20
_MOST_ROUNDS = 10
NUMBERS_UNCHECKED = (
    "the sequence numbers of tracked TCP connections: the new ovs-vswitchd takes any (dpctl/ct-disable-tcp-seq-chk); when those "
    "of before have ended, 'ovs-appctl dpctl/ct-enable-tcp-seq-chk' has it look at them again"
)

# The port that a packet of ours comes from (OpenFlow 1.5, 7.2.1.2): it has no other one.
_CONTROLLER = 0xFFFFFFFD


class Connections:
    """Those of one hand-over."""

    def __init__(self, report: Report) -> None:
        self._report = report
        # By the line that shows it: what the second process was given, and why it cannot be given another.
        self._given: dict[str, Entry] = {}
        self._left: dict[str, str] = {}

    def carry(self, old: Appctl, new: Appctl, switch: Switch) -> dict[str, int]:
        """Give the second process what the first one tracks, and what an administrator has set there.

        Returns how many connections it has, and how many it was to have; what is not carried is reported.
        """
        self._report.missed(conntrack.settings(old, new))
        entries = list(self._understood(conntrack.dump(old, timeouts=True)))
        if any(entry.tcp for entry in entries):
            self._trust_numbers(new)
        self._give(entries, switch)
        for __ in range(_MOST_ROUNDS):
            if self.follow(old, switch) <= FEW:
                break
        return self._account(new)

    def follow(self, old: Appctl, switch: Switch) -> int:
        """Give the second process what has changed since, and end there what has ended; returns how many that are."""
        now = conntrack.dump(old)
        changed = [line for line in now if line not in self._given and line not in self._left]
        entries = {entry.key: entry for entry in self._understood(changed)}
        gone = {entry.key: entry for entry in map(self._given.pop, self._given.keys() - now)}
        self._end((entry for key, entry in gone.items() if key not in entries), switch)
        self._give(
            (entry for key, entry in entries.items() if not self._stays_over(gone.get(key), entry)), switch
        )
        return len(entries) + len(gone)

    def _understood(self, lines: t.Iterable[str]) -> t.Iterator[Entry]:
        for line in lines:
            beat()  # there may be millions
            try:
                yield conntrack.parse(line)
            except ProtocolError as error:
                self._left[conntrack.lasting(line)] = str(error)

    def _stays_over(self, before: Entry | None, now: Entry) -> bool:
        """A connection that has ended and is shown to end otherwise: it would be made again under another address."""
        if before is None or not conntrack_packets.over(before) or not conntrack_packets.over(now):
            return False
        self._given[now.line] = now
        return True

    def _trust_numbers(self, new: Appctl) -> None:
        """Nothing shows the sequence numbers of a connection, so the second process cannot know which are wrong."""
        if conntrack.checks_sequence_numbers(new):
            conntrack.check_no_sequence_numbers(new)
            self._report.missed([NUMBERS_UNCHECKED])

    def _give(self, entries: t.Iterable[Entry], switch: Switch) -> None:
        switch.main.send(self._messages(entries, switch.main))

    def _messages(self, entries: t.Iterable[Entry], of: OpenFlow) -> t.Iterator[bytes]:
        for entry in entries:
            why = conntrack_packets.uncarriable(entry)
            if why is not None:
                self._left[entry.line] = why
                continue
            self._given[entry.line] = entry
            action = _commit(of.version, entry)
            for frame in conntrack_packets.frames(entry):
                yield wire.packet_out(of.version, of.xid(), _CONTROLLER, frame, action)
                action = tracking.track(entry.zone)

    def _end(self, ended: t.Iterable[Entry], switch: Switch) -> None:
        """Not by dpctl/flush-conntrack, of which 3.1.0 dies."""
        of = switch.main
        of.send(
            wire.packet_out(of.version, of.xid(), _CONTROLLER, frame, tracking.track(entry.zone))
            for entry in ended
            for frame in conntrack_packets.farewell(entry)
        )

    def _account(self, new: Appctl) -> dict[str, int]:
        shown = set(conntrack.dump(new))
        there = {entry.content for entry in self._understood(shown - self._given.keys())}
        lacking = [
            line
            for line, entry in self._given.items()
            if line not in shown and entry.content not in there and not conntrack_packets.over(entry)
        ]
        why = collections.Counter(self._left.values())
        if lacking:
            why["the new ovs-vswitchd has not taken them"] = len(lacking)
        self._report.missed(f"{count} tracked connections: {text}" for text, count in why.most_common())
        return {"carried": len(self._given) - len(lacking), "of": len(self._given) + len(self._left)}


def _commit(version: int, entry: Entry) -> bytes:
    return tracking.commit(version, entry.zone, entry.mark, entry.labels, _translation(entry), entry.helper)


def _translation(entry: Entry) -> tracking.Translation | None:
    """To what its source or its target is translated; ICMP has no ports to translate."""
    source, target = conntrack_packets.translated(entry)
    if not source and not target:
        return None
    ported = entry.protocol in (conntrack.TCP, conntrack.UDP)
    address, port = (entry.reply.dst, entry.reply.target) if source else (entry.reply.src, entry.reply.source)
    return tracking.Translation(source, address, port if ported else None)
