# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tracked connections in a second process: what it is given, what is followed, what is told of the rest."""

from __future__ import annotations

import itertools
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.connections import (
    NUMBERS_UNCHECKED,
    Connections,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.report import Report
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire

UDP = "udp,orig=(src=10.0.0.{0},dst=10.0.0.2,sport=1,dport=53),reply=(src=10.0.0.2,dst=10.0.0.{0},sport=53,dport=1),id=0"
TCP = UDP.replace("udp", "tcp") + ",protoinfo=(state_orig={1},state_reply={2})"
SCTP = UDP.replace("udp", "sctp")
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

    def send(self, messages: t.Iterable[bytes]) -> None:
        for message in messages:
            (actions,) = [int.from_bytes(message[12:14], "big")]
            self.frames.append(message[8 + 24 + actions :])


class Switch:
    """A bridge of the second process."""

    def __init__(self) -> None:
        self.main = Channel()


@pytest.fixture
def report() -> Report:
    return Report()


def carry(report: Report, old: Control, new: Control, switch: Switch) -> tuple[Connections, dict[str, int]]:
    connections = Connections(report)
    return connections, connections.carry(old, new, switch)  # type: ignore[arg-type]


def test_all_are_carried_and_counted(report: Report) -> None:
    lines, switch = [UDP.format(1), OPEN], Switch()
    new = Control(lines)
    assert carry(report, Control(lines), new, switch)[1] == {"carried": 2, "of": 2}
    assert len(switch.main.frames) == 2 + 3
    assert not new.checks
    assert report.not_carried == [NUMBERS_UNCHECKED]


def test_numbers_are_looked_at_where_nothing_of_before_has_any(report: Report) -> None:
    new = Control([UDP.format(1)])
    carry(report, Control([UDP.format(1)]), new, Switch())
    assert new.checks
    assert report.not_carried == []


def test_what_cannot_be_carried_is_told_by_its_reason(report: Report) -> None:
    lines = [UDP.format(1), UDP.format(2), SCTP.format(1), SCTP.format(2), "nonsense"]
    found = carry(report, Control(lines), Control([UDP.format(1)]), Switch())[1]
    assert found == {"carried": 1, "of": 5}
    assert [text.split(" ")[0] for text in report.not_carried] == ["2", "1", "1"]
    assert "protocol sctp" in report.not_carried[0]
    assert "understood" in report.not_carried[1]
    assert "has not taken" in report.not_carried[2]


def test_what_changes_is_followed(report: Report) -> None:
    begins, switch = TCP.format(3, "SYN_SENT", "CLOSED"), Switch()
    connections, __ = carry(report, Control([begins]), Control([begins]), switch)
    switch.main.frames.clear()
    assert connections.follow(Control([OPEN, UDP.format(4)]), switch) == 3  # type: ignore[arg-type]
    assert [frame[FLAGS] for frame in switch.main.frames[:3]] == [2, 18, 16]
    switch.main.frames.clear()
    assert connections.follow(Control([OPEN, UDP.format(4)]), switch) == 0  # type: ignore[arg-type]
    assert switch.main.frames == []


def test_it_is_followed_until_hardly_anything_changes(report: Report) -> None:
    many = [UDP.format(number) for number in range(100)]
    old = Control([], many, many[:90], many[:90])
    assert carry(report, old, Control(many[:90]), Switch())[1] == {"carried": 90, "of": 90}
    assert old.looks == [many[:90]]


def test_what_has_ended_is_reset_there(report: Report) -> None:
    switch = Switch()
    connections, __ = carry(report, Control([OPEN, UDP.format(1)]), Control([OPEN, UDP.format(1)]), switch)
    switch.main.frames.clear()
    connections.follow(Control([]), switch)  # type: ignore[arg-type]
    assert [frame[FLAGS] for frame in switch.main.frames] == [4]


def test_what_is_over_is_not_made_again(report: Report) -> None:
    switch = Switch()
    connections, found = carry(report, Control([CLOSED]), Control([]), switch)
    assert found == {"carried": 1, "of": 1}
    switch.main.frames.clear()
    connections.follow(Control([WAITS]), switch)  # type: ignore[arg-type]
    assert switch.main.frames == []
    # But one that begins anew on the same ports is.
    connections.follow(Control([OPEN]), switch)  # type: ignore[arg-type]
    assert len(switch.main.frames) == 3
