# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The connections that a userspace datapath tracks, in the second ovs-vswitchd: made by the packets that would make them.

A packet-out with the action ct() changes what the process tracks, also while it waits for its flows, and goes nowhere.
"""

from __future__ import annotations

import collections
import itertools
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    ProtocolError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.heartbeat import beat
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Clock
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.report import Report
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import tracking, wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import OpenFlow
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import conntrack, conntrack_packets
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.conntrack import Entry

# Of what changes all the time, so much is left for the switch-over, and so often it is tried to have less.
FEW = 20
_MOST_ROUNDS = 10
# A look is worth it that leaves no more than this part of what the one before had found.
_GAINED = 0.8
NUMBERS_UNCHECKED = (
    "the sequence windows of {0} tracked TCP connections: the new ovs-vswitchd takes any number (dpctl/ct-disable-tcp-seq-chk); "
    "when those of before have ended, 'ovs-appctl dpctl/ct-enable-tcp-seq-chk' has it look at them again"
)
TIMEOUTS_ANEW = "the remaining timeouts of {0} tracked connections: they begin anew"
GATEWAYS_FORGET = (
    "what a gateway (FTP, TFTP) knows of {0} tracked connections: which others they announced, and by how much their numbers are "
    "shifted where an address is translated in them"
)
# What is not TCP lives for 30 seconds without a packet, or less by a policy; so old it is made young again, in seconds.
_OLD = 5.0

# The port that a packet of ours comes from (OpenFlow 1.5, 7.2.1.2): it has no other one.
_CONTROLLER = 0xFFFFFFFD


class _Given(t.NamedTuple):
    """What the second process was given, and when."""

    entry: Entry
    when: float


class Connections:
    """Those of one hand-over."""

    def __init__(self, report: Report, clock: Clock = time) -> None:
        self._report, self._clock = report, clock
        self._given: dict[conntrack.Key, _Given] = {}
        # Why the second process cannot be given a line of the first.
        self._left: dict[str, str] = {}
        self._new: tuple[Appctl, OpenFlow] | None = None
        self._trusted = False
        # What is still to be told of the numbers, and whether all else was.
        self._unchecked = self._accounted = False

    def carry(self, old: Appctl, new: Appctl, channel: OpenFlow) -> dict[str, int]:
        """Give the second process what the first one tracks, and what an administrator has set there.

        ``channel`` leads to any of its bridges, and is for this alone: whoever stages something there would have to wait.
        Returns how many connections it has, and how many it was to have; what is not carried is reported.
        """
        self._new = new, channel
        self._report.missed(conntrack.settings(old, new))
        try:
            self._catch_up(old)
            return self._account(new)
        except (ProtocolError, Unreachable) as error:
            # Whatever that means for the hand-over is found out elsewhere.
            self._report.missed([f"tracked connections: {error}"])
            self._tell_what_they_lack()
            return {"carried": 0, "of": len(self._given) + len(self._left)}

    def _catch_up(self, old: Appctl) -> None:
        """Each look keeps the first process busy: it ends where there is always as much to be done."""
        left = self.follow(old)
        for __ in range(_MOST_ROUNDS):
            if left <= FEW:
                return
            before, left = left, self.follow(old)
            if left > _GAINED * before:
                return

    def follow(self, old: Appctl) -> int:
        """Give the second process what has changed since, and end there what has ended; returns how many that are.

        Nothing changes where nothing was carried.
        """
        if self._new is None:
            return 0
        try:
            return self._follow(old)
        finally:
            if self._accounted:
                self._tell_of_numbers()

    def _follow(self, old: Appctl) -> int:
        lines = {conntrack.lasting(line): line for line in conntrack.dump(old)}
        self._left = {line: why for line, why in self._left.items() if line in lines}
        given = self._lines()
        entries = {
            entry.key: entry
            for entry in self._understood(
                line for lasting, line in lines.items() if lasting not in given and lasting not in self._left
            )
        }
        gone = [key for key, each in self._given.items() if each.entry.line not in lines]
        self._end(key for key in gone if key not in entries)
        self._give(entry for key, entry in entries.items() if not self._stays_over(entry))
        self._refresh(lines)
        return len(entries.keys() | set(gone))

    def _lines(self) -> set[str]:
        return {entry.line for entry, __ in self._given.values()}

    def _understood(self, lines: t.Iterable[str]) -> t.Iterator[Entry]:
        for line in lines:
            beat()  # there may be millions
            try:
                entry = conntrack.parse(line)
            except ProtocolError as error:
                self._left[conntrack.lasting(line)] = error.what
                continue
            why = conntrack_packets.uncarriable(entry)
            if why is None:
                yield entry
            else:
                self._left[entry.line] = why

    def _stays_over(self, now: Entry) -> bool:
        """A connection that has ended and is shown to end otherwise: it would be made again under another address."""
        before = self._given.get(now.key)
        if before is None or not conntrack_packets.over(before.entry) or not conntrack_packets.over(now):
            return False
        self._given[now.key] = before._replace(entry=now)
        return True

    def _refresh(self, lines: t.Mapping[str, str]) -> None:
        """Traffic keeps alive only what the first process has."""
        young = self._clock.monotonic() - _OLD
        old = [each.entry for each in self._given.values() if each.entry.tcp is None and each.when < young]
        self._give(conntrack.parse(lines[entry.line]) for entry in old if entry.line in lines)

    def _give(self, entries: t.Iterable[Entry]) -> None:
        new, channel = self._there
        channel.send(self._messages(entries, new, channel))

    def _messages(self, entries: t.Iterable[Entry], new: Appctl, channel: OpenFlow) -> t.Iterator[bytes]:
        for entry in entries:
            if entry.tcp is not None:
                self._trust_numbers(new)
            before = self._given.get(entry.key)
            # One that has begun anew is translated differently.
            if before is not None and before.entry.reply != entry.reply:
                yield from _farewell(before.entry, channel)
            self._given[entry.key] = _Given(entry, self._clock.monotonic())
            yield from messages(entry, channel)

    def _trust_numbers(self, new: Appctl) -> None:
        """Nothing shows the sequence numbers of a connection, so the second process cannot know which are wrong."""
        if self._trusted:
            return
        self._trusted = True
        if conntrack.checks_sequence_numbers(new):
            conntrack.check_no_sequence_numbers(new)
            self._unchecked = True

    def _tell_of_numbers(self) -> None:
        """Once, and where they were looked at before."""
        if self._unchecked:
            self._unchecked = False
            count = sum(each.entry.tcp is not None for each in self._given.values())
            self._report.missed([NUMBERS_UNCHECKED.format(count)])

    def _tell_what_they_lack(self) -> None:
        """No packet makes these of what is carried."""
        self._accounted = True
        self._tell_of_numbers()
        gateways = sum(bool(each.entry.helper) for each in self._given.values())
        counts = (TIMEOUTS_ANEW, len(self._given)), (GATEWAYS_FORGET, gateways)
        self._report.missed(text.format(count) for text, count in counts if count)

    def _end(self, keys: t.Iterable[conntrack.Key]) -> None:
        """Not by dpctl/flush-conntrack, of which 3.1.0 dies."""
        __, channel = self._there
        for key in keys:
            channel.post(_farewell(self._given.pop(key).entry, channel))

    @property
    def _there(self) -> tuple[Appctl, OpenFlow]:
        return t.cast("tuple[Appctl, OpenFlow]", self._new)

    def _account(self, new: Appctl) -> dict[str, int]:
        lacking = self._lacking(new)
        if lacking:  # what used their addresses before may have ended meanwhile
            self._give(lacking)
            lacking = self._lacking(new)
        why = collections.Counter(self._left.values())
        if lacking:
            why["the new ovs-vswitchd has not taken them"] = len(lacking)
        self._report.missed(f"{count} tracked connections: {text}" for text, count in why.most_common())
        self._tell_what_they_lack()
        return {"carried": len(self._given) - len(lacking), "of": len(self._given) + len(self._left)}

    def _lacking(self, new: Appctl) -> list[Entry]:
        """What the second process was given and does not show; of what is over nothing is expected."""
        shown = set(map(conntrack.lasting, conntrack.dump(new)))
        missed = [
            entry
            for entry, __ in self._given.values()
            if entry.line not in shown and not conntrack_packets.over(entry)
        ]
        if not missed:
            return []
        there = {conntrack.parse(line).content for line in shown - self._lines()}
        return [entry for entry in missed if entry.content not in there]


def messages(entry: Entry, channel: OpenFlow) -> t.Iterator[bytes]:
    """The packets-out that have whoever is behind ``channel`` track a connection; only the first one is committed."""
    actions = itertools.chain([_commit(channel.version, entry)], itertools.repeat(tracking.track(entry.zone)))
    return _packets_out(conntrack_packets.frames(entry), actions, channel)


def _farewell(entry: Entry, channel: OpenFlow) -> t.Iterator[bytes]:
    actions = itertools.repeat(tracking.track(entry.zone))
    return _packets_out(conntrack_packets.farewell(entry), actions, channel)


def _packets_out(
    frames: t.Iterable[bytes], actions: t.Iterable[bytes], channel: OpenFlow
) -> t.Iterator[bytes]:
    for frame, action in zip(frames, actions):
        yield wire.packet_out(channel.version, channel.xid(), _CONTROLLER, frame, action)


def _commit(version: int, entry: Entry) -> bytes:
    return tracking.commit(version, entry.zone, entry.mark, entry.labels, _translation(entry), entry.helper)


def _translation(entry: Entry) -> tracking.Translation | None:
    """To what its source or its target is translated; not every protocol has ports to translate, or something like them."""
    source, target = conntrack_packets.translated(entry)
    if not source and not target:
        return None
    address, port = (entry.reply.dst, entry.reply.target) if source else (entry.reply.src, entry.reply.source)
    if entry.protocol in conntrack.PORTED:
        return tracking.Translation(source, address, port)
    # Since 4.0 a range of ports is one of identifiers for ICMP.
    named = entry.reply.source if entry.reply.source != entry.orig.source else None
    return tracking.Translation(source, address, named)
