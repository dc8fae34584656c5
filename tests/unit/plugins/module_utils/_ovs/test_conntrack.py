# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what ovs-vswitchd shows of tracked connections, and what an administrator has set."""

from __future__ import annotations

import contextlib
import socket
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    ProtocolError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import tracking, wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import conntrack, conntrack_packets

# As 3.5.0 shows them with -m, and with -m -s.
TRANSLATED = (
    "tcp,orig=(src=10.0.0.96,dst=11.0.202.196,sport=1120,dport=80),reply=(src=11.0.202.196,dst=192.0.2.236,sport=80,dport=1120),"
    "id=0,zone=5,status=0,mark=1,labels=0x80000000000000000000000000000005,protoinfo=(state_orig=FIN_WAIT_2,state_reply=ESTABLISHED,"
    "wscale_orig=7,wscale_reply=9,flags_orig=WINDOW_SCALE,flags_reply=WINDOW_SCALE)"
)
PING = (
    "icmpv6,orig=(src=fd00::157,dst=fd00:0:0:1::51aa,id=343,type=128,code=0),"
    "reply=(src=fd00:0:0:1::51aa,dst=fd00::157,id=343,type=129,code=0),id=0,status=0,timeout=58,mark=4294967295"
)


STATES = ("ESTABLISHED", "SYN_SENT", "TIME_WAIT", "?")
CHECKED = "TCP sequence checking: enabled\n"


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def test_a_translated_tcp_connection() -> None:
    entry = conntrack.parse(TRANSLATED)
    ends = packed("10.0.0.96"), packed("11.0.202.196")
    assert entry.orig == (*ends, 1120, 80)
    assert entry.reply == (packed("11.0.202.196"), packed("192.0.2.236"), 80, 1120)
    assert (entry.zone, entry.mark, entry.labels) == (5, 1, 1 << 127 | 5)
    assert entry.tcp == (
        *("FIN_WAIT_2", "ESTABLISHED", 7, 9),
        *[frozenset([conntrack.WINDOW_SCALE])] * 2,
    )
    assert entry.line == TRANSLATED


def test_what_changes_with_time_is_told_apart() -> None:
    entry = conntrack.parse(PING)
    assert entry.timeout == 58
    assert entry.line == PING.replace(",timeout=58", "")
    assert entry.orig == (packed("fd00::157"), packed("fd00:0:0:1::51aa"), 343, 128 << 8)
    assert entry.tcp is None


def test_gateways_are_told() -> None:
    entry = conntrack.parse(TRANSLATED + ",helper=ftp,parent=(src=1.2.3.4,dst=1.2.3.5,sport=1,dport=2)")
    assert entry.helper == "ftp"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "tcp,orig=(),reply=(),protoinfo=(state_orig=A,state_reply=B)",
        TRANSLATED.replace("10.0.0.96", "10.0.0.960"),
        TRANSLATED.replace("mark=1", "mark=x"),
        TRANSLATED.partition(",protoinfo")[0],
        TRANSLATED.replace("zone=5", "zone=65536"),
        TRANSLATED.replace("mark=1", f"mark={1 << 32}"),
        TRANSLATED.replace("sport=1120", "sport=65536"),
        TRANSLATED.replace("wscale_orig=7", "wscale_orig=300"),
        TRANSLATED.replace("labels=0x8", "labels=-0x8"),
        TRANSLATED.replace("labels=0x8", "labels=0x88"),
        TRANSLATED.replace("192.0.2.236", "fd00::1"),
    ],
)
def test_what_is_not_understood_is_refused(line: str) -> None:
    with pytest.raises(ProtocolError):
        conntrack.parse(line)


@given(st.text() | st.text(alphabet="tcpudporigrely=(),.:0123456789sdtzone").map("tcp,orig=(".__add__))
def test_whatever_it_says_nothing_else_goes_wrong(line: str) -> None:
    with contextlib.suppress(ProtocolError):
        conntrack.parse(line)


NUMBERS = st.integers(-1, 1 << 33)


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.sampled_from(["10.0.0.1", "fd00::1"]), st.sampled_from(STATES))
def test_whatever_its_numbers_are_packets_can_be_made_of_it_or_it_is_refused(
    port: int, zone: int, scale: int, mark: int, address: str, state: str
) -> None:
    line = (
        f"tcp,orig=(src={address},dst={address},sport={port},dport=1),reply=(src={address},dst={address},sport=1,dport={port}),"
        f"zone={zone},mark={mark},protoinfo=(state_orig={state},state_reply=SYN_SENT,wscale_orig={scale},wscale_reply=1,"
        "flags_orig=WINDOW_SCALE,flags_reply=WINDOW_SCALE)"
    )
    with contextlib.suppress(ProtocolError):
        entry = conntrack.parse(line)
        conntrack_packets.frames(entry)
        tracking.commit(wire.OF15, entry.zone, entry.mark, entry.labels)


class Control:
    """An ovs-vswitchd that shows ``shown`` and takes whatever is set, but what is in ``refuses``."""

    def __init__(self, refuses: str = "", **shown: str) -> None:
        self.shown = {f"dpctl/{name.replace('_', '-')}": text for name, text in shown.items()}
        self.refuses = refuses
        self.called: list[tuple[str, ...]] = []

    def call(self, *command: str) -> str:
        self.called.append(command)
        if command[0] not in self.shown and "get" in command[0] or command[0] == self.refuses:
            raise HotUpgradeError("refused the command", "not a valid command")
        return self.shown.get(command[0], "")


def settings(old: t.Any, new: t.Any) -> list[str]:
    return conntrack.settings(old, new)


def test_settings_that_differ_are_set() -> None:
    old = Control(
        ct_get_maxconns="5000\n",
        ct_get_limits="default limit=0\nzone=5,limit=9,count=3\nzone=6,limit=1,count=0",
        ct_get_sweep_interval="20000",
    )
    new = Control(ct_get_maxconns="3000000\n", ct_get_limits="default limit=0\n")  # as a fresh one has it
    assert settings(old, new) == []
    assert [each for each in new.called if "set" in each[0].split("-")] == [
        ("dpctl/ct-set-maxconns", conntrack.DATAPATH, "5000"),
        ("dpctl/ct-set-limits", conntrack.DATAPATH, "zone=5,limit=9"),
        ("dpctl/ct-set-limits", conntrack.DATAPATH, "zone=6,limit=1"),
    ]


def test_sequence_numbers_that_nobody_looked_at_before_are_not_looked_at() -> None:
    old, new = (
        Control(ct_get_tcp_seq_chk="TCP sequence checking: disabled\n"),
        Control(ct_get_tcp_seq_chk=CHECKED),
    )
    settings(old, new)
    assert ("dpctl/ct-disable-tcp-seq-chk", conntrack.DATAPATH) in new.called
    new.called.clear()
    settings(Control(ct_get_tcp_seq_chk=CHECKED), new)
    assert not [each for each in new.called if "disable" in each[0]]


def test_what_is_refused_is_told() -> None:
    old, new = Control(ct_get_maxconns="1"), Control("dpctl/ct-set-maxconns", ct_get_maxconns="2")
    assert settings(old, new) == ["dpctl/ct-set-maxconns 1: not a valid command"]


def test_sequence_numbers() -> None:
    on: t.Any = Control(ct_get_tcp_seq_chk="TCP sequence checking: enabled\n")
    off: t.Any = Control()
    assert conntrack.checks_sequence_numbers(on)
    assert not conntrack.checks_sequence_numbers(off)


def test_a_daemon_that_has_ended_is_not_taken_for_an_old_one() -> None:
    class Gone(Control):
        def call(self, *command: str) -> str:
            raise Unreachable("it has ended")

    with pytest.raises(Unreachable):
        settings(Gone(), Gone())
