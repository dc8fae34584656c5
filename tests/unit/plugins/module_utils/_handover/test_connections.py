# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tracked connections in a second process: what it is given, what is followed, what is told of the rest."""

from __future__ import annotations

import itertools
import re
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import ProtocolError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.connections import (
    GATEWAYS_FORGET,
    NUMBERS_UNCHECKED,
    TIMEOUTS_ANEW,
    Connections,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.report import Report
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import conntrack
from tests.unit.plugins.module_utils._handover.conftest import Clock

UDP = "udp,orig=(src=10.0.0.{0},dst=10.0.0.2,sport=1,dport=53),reply=(src=10.0.0.2,dst=10.0.0.{0},sport=53,dport=1),id=0"
TCP = UDP.replace("udp", "tcp") + ",protoinfo=(state_orig={1},state_reply={2})"
# As 3.1 shows them.
SCTP = re.sub("port=[^,)]*", "port=0", UDP.replace("udp", "sctp"))
OPEN = TCP.format(3, "ESTABLISHED", "ESTABLISHED")
CLOSED = TCP.format(3, "FIN_WAIT_2", "FIN_WAIT_2")
WAITS = TCP.format(3, "TIME_WAIT", "TIME_WAIT")
FLAGS = 47  # where those of TCP are in a frame


class Control:
    """A process that tracks each of ``looks`` in turn, the last for ever."""

    def __init__(self, *looks: t.Sequence[str]) -> None:
        self.looks = list(looks)
        self.checks = True

    def call(self, command: str, *arguments: str) -> str:
        if command == "dpctl/dump-conntrack":
            lines = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
            return "".join(f"{line}\n" for line in lines)
        if command == "dpctl/ct-get-tcp-seq-chk":
            return f"TCP sequence checking: {'enabled' if self.checks else 'disabled'}\n"
        if command == "dpctl/ct-disable-tcp-seq-chk":
            self.checks = False
        return ""


class Channel:
    """An OpenFlow connection that keeps the frames it is sent."""

    version = wire.OF15

    def __init__(self) -> None:
        self.xid = itertools.count().__next__
        self.frames: list[bytes] = []
        self.fails = False

    def send(self, messages: t.Iterable[bytes]) -> None:
        for message in messages:
            if self.fails:
                raise ProtocolError("the connection is gone", "", "")
            actions = int.from_bytes(message[12:14], "big")
            self.frames.append(message[8 + 24 + actions :])

    post = send

    def flags(self) -> list[int]:
        """Those of TCP of what was sent since the last time."""
        found = [frame[FLAGS] for frame in self.frames if frame[23] == conntrack.number("tcp")]
        self.frames.clear()
        return found


@pytest.fixture
def report() -> Report:
    return Report()


@pytest.fixture
def channel() -> Channel:
    return Channel()


def carry(
    report: Report, old: t.Any, new: t.Any, channel: t.Any, clock: Clock | None = None
) -> tuple[Connections, dict[str, int]]:
    connections = Connections(report, clock or Clock())
    return connections, connections.carry(old, new, channel)


def follow(connections: Connections, *lines: str) -> int:
    control: t.Any = Control(lines)
    return connections.follow(control)


def test_all_are_carried_and_counted(report: Report, channel: Channel) -> None:
    lines = [UDP.format(1), OPEN]
    new = Control(lines)
    assert carry(report, Control(lines), new, channel)[1] == {"carried": 2, "of": 2}
    assert len(channel.frames) == 2 + 3
    assert not new.checks
    assert report.not_carried == [NUMBERS_UNCHECKED.format(1), TIMEOUTS_ANEW.format(2)]


def test_numbers_that_were_not_looked_at_before_are_no_loss(report: Report, channel: Channel) -> None:
    old = Control([OPEN])
    old.checks = False
    carry(report, old, Control([OPEN]), channel)
    assert report.not_carried == [TIMEOUTS_ANEW.format(1)]


def test_what_gateways_know_is_counted(report: Report, channel: Channel) -> None:
    lines = [OPEN.replace(",id=0", ",id=0,helper=ftp"), UDP.format(1)]
    carry(report, Control(lines), Control(lines), channel)
    assert report.not_carried[1:] == [TIMEOUTS_ANEW.format(2), GATEWAYS_FORGET.format(1)]


def test_numbers_are_looked_at_until_there_is_one_that_has_some(report: Report, channel: Channel) -> None:
    new = Control([UDP.format(1)])
    connections, __ = carry(report, Control([UDP.format(1)]), new, channel)
    assert new.checks
    assert report.not_carried == [TIMEOUTS_ANEW.format(1)]
    follow(connections, UDP.format(1), OPEN)
    assert not new.checks
    assert report.not_carried[1:] == [NUMBERS_UNCHECKED.format(1)]


def test_what_cannot_be_carried_is_told_by_its_reason(report: Report, channel: Channel) -> None:
    lines = [UDP.format(1), UDP.format(2), SCTP.format(1), SCTP.format(2), "nonsense", "\x1b[31m more"]
    found = carry(report, Control(lines), Control([UDP.format(1)]), channel)[1]
    assert found == {"carried": 1, "of": 6}
    assert [text.split(" ")[0] for text in report.not_carried] == ["2", "2", "1", "the"]
    assert "know their ports" in report.not_carried[0]
    assert report.not_carried[1].endswith("cannot be understood")
    assert "has not taken" in report.not_carried[2]


def test_a_table_that_cannot_be_read_is_no_reason_to_go_back(report: Report, channel: Channel) -> None:
    class Endless(Control):
        def call(self, command: str, *arguments: str) -> str:
            if command == "dpctl/dump-conntrack":
                raise ProtocolError("an answer does not end")
            return super().call(command, *arguments)

    found = carry(report, Endless([]), Control([]), channel)[1]
    assert found == {"carried": 0, "of": 0}
    assert "an answer does not end" in report.not_carried[0]


def test_what_changes_is_followed(report: Report, channel: Channel) -> None:
    begins = TCP.format(3, "SYN_SENT", "CLOSED")
    connections, __ = carry(report, Control([begins]), Control([begins]), channel)
    channel.flags()
    assert follow(connections, OPEN, UDP.format(4)) == 2
    assert channel.flags() == [2, 18, 16]
    assert follow(connections, OPEN, UDP.format(4)) == 0
    assert channel.frames == []


def test_it_is_followed_until_hardly_anything_changes(report: Report, channel: Channel) -> None:
    many = [UDP.format(number) for number in range(100)]
    old = Control([], many, many[:50], many[:40])
    assert carry(report, old, Control(many[:40]), channel)[1] == {"carried": 0, "of": 0}
    old = Control(many, many[:50], many[:40])
    assert carry(report, old, Control(many[:40]), channel)[1] == {"carried": 40, "of": 40}


def test_it_is_not_followed_where_as_much_changes_all_the_time(report: Report, channel: Channel) -> None:
    """Each look keeps the first process from its packets."""
    looks = [[OPEN.replace("10.0.0.3", f"10.0.{turn}.{host}") for host in range(50)] for turn in range(9)]
    old = Control(*looks)
    carry(report, old, Control(looks[1]), channel)
    assert len(old.looks) == 9 - 2


def test_numbers_are_told_of_when_the_last_look_fails(report: Report, channel: Channel) -> None:
    connections, __ = carry(report, Control([UDP.format(1)]), Control([UDP.format(1)]), channel)
    channel.fails = True
    with pytest.raises(ProtocolError):
        follow(connections, UDP.format(1), OPEN)
    assert NUMBERS_UNCHECKED.format(1) in report.not_carried


def test_what_has_ended_is_ended_there(report: Report, channel: Channel) -> None:
    lines = [OPEN, UDP.format(1)]
    connections, __ = carry(report, Control(lines), Control(lines), channel)
    channel.flags()
    follow(connections)
    assert channel.flags() == [4, 2]


def test_what_is_over_is_not_made_again(report: Report, channel: Channel) -> None:
    connections, found = carry(report, Control([CLOSED]), Control([]), channel)
    assert found == {"carried": 1, "of": 1}
    channel.flags()
    follow(connections, WAITS)
    assert channel.flags() == []
    # But one that begins anew on the same ports is.
    follow(connections, OPEN)
    assert channel.flags() == [2, 18, 16]


def test_one_that_begins_anew_under_another_address_replaces_the_first(
    report: Report, channel: Channel
) -> None:
    elsewhere = OPEN.replace("dst=10.0.0.3,sport=53,dport=1", "dst=192.0.2.9,sport=53,dport=77")
    connections, __ = carry(report, Control([OPEN]), Control([OPEN]), channel)
    channel.flags()
    follow(connections, elsewhere)
    assert channel.flags() == [4, 2, 2, 18, 16]


def test_what_would_expire_meanwhile_is_made_young_again(report: Report, channel: Channel) -> None:
    clock = Clock()
    answered, alone = UDP.format(1) + ",timeout=25", UDP.format(2) + ",timeout=55"
    lines = [answered, alone, OPEN]
    plain = [UDP.format(1), UDP.format(2), OPEN]
    connections, __ = carry(report, Control(lines), Control(plain), channel, clock)
    channel.frames.clear()
    clock.sleep(20.0)
    assert follow(connections, UDP.format(1) + ",timeout=29", UDP.format(2) + ",timeout=40", OPEN) == 0
    assert len(channel.frames) == 2 + 1


def test_what_was_not_taken_is_tried_once_more(report: Report, channel: Channel) -> None:
    new = Control([], [UDP.format(1)])
    assert carry(report, Control([UDP.format(1)]), new, channel)[1] == {"carried": 1, "of": 1}
    assert len(channel.frames) == 2 * 2
