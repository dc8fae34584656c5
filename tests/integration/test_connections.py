# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections that one userspace datapath tracks, made in that of another version: the same is shown of them afterwards."""

from __future__ import annotations

import functools
import random
import re
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.connections import (
    Connections,
    messages,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.report import Report
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import Switch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import conntrack
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl, daemon_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.conntrack import (
    BE_LIBERAL,
    WINDOW_SCALE,
    Entry,
    TcpState,
    Tuple,
)

if t.TYPE_CHECKING:
    from tests.integration.conftest import Ovs

COUNT = 600
OVER = re.compile("state_orig=(TIME_WAIT|FIN_WAIT_2),state_reply=(TIME_WAIT|FIN_WAIT_2)")
PAIRS = [("3.5.0", "4.0.0"), ("4.0.0", "3.5.0"), ("3.1.0", "3.5.0"), ("3.5.0", "3.1.0"), ("2.15.0", "3.1.0")]
STATES = (
    *("SYN_SENT CLOSED", "ESTABLISHED SYN_SENT", "ESTABLISHED ESTABLISHED", "CLOSING ESTABLISHED"),
    *("ESTABLISHED FIN_WAIT_2", "FIN_WAIT_2 CLOSING", "FIN_WAIT_2 FIN_WAIT_2", "TIME_WAIT TIME_WAIT"),
)
# 3.1 and older know no ports of SCTP; GRE (47) has none, nor ESP (50).
PROTOCOLS = ("tcp", "tcp", "udp", "icmp", "47", "50")
WITH_SCTP = (*PROTOCOLS, "sctp")
MARKS, LABELS, ZONES = (0, 1, 0xFFFFFFFF), (0, 0x1234, 1 << 127 | 5), (0, 1, 65535)


def some(number: int, protocols: t.Sequence[str] = PROTOCOLS) -> Entry:
    """A connection of any kind, translated or not; no two of them have the same ends."""
    of = random.Random(number)
    six = of.random() < 0.3
    src, dst, other = (address(six, place) for place in (number + 1, 1 << 16, (1 << 17) + of.randrange(200)))
    protocol = of.choice(protocols)
    orig = Tuple(src, dst, 1024 + number, of.choice([80, 443]))
    reply = Tuple(dst, src, orig.target, orig.source)
    if protocol == "icmp":
        protocol, request, answer = ("icmpv6", 128, 129) if six else ("icmp", 8, 0)
        orig, reply = orig._replace(target=request << 8), Tuple(dst, src, orig.source, answer << 8)
        reply = of.choice([reply, reply._replace(dst=other)])
    elif protocol.isdecimal():
        orig, reply = Tuple(src, dst, 0, 0), Tuple(dst, src, 0, 0)
        reply = of.choice([reply, reply._replace(dst=address(six, (1 << 18) + number))])
    else:
        to_source = reply._replace(dst=other, target=20000 + number)
        reply = of.choice([reply, to_source, reply._replace(src=other, source=8080)])
    tcp = state(of) if protocol == "tcp" else None
    numbers = of.choice(ZONES), of.choice(MARKS), of.choice(LABELS)
    return Entry("", protocol, orig, reply, *numbers, tcp, timeout=of.choice([10, 59]))


def address(six: bool, place: int) -> bytes:
    return ((0xFD << 120) + place).to_bytes(16, "big") if six else (0x0A000000 + place).to_bytes(4, "big")


def state(of: random.Random) -> TcpState:
    orig, reply = of.choice(STATES).split()
    flags = of.choice([frozenset[str](), frozenset([WINDOW_SCALE]), frozenset([BE_LIBERAL])])
    answered = reply != "CLOSED" or BE_LIBERAL in flags
    scales = (7, 9 if answered else 0) if WINDOW_SCALE in flags else (0, 0)
    return TcpState(orig, reply, *scales, flags, flags if answered else frozenset())


def control(ovs: Ovs) -> Appctl:
    return Appctl(daemon_socket(ovs.rundir, "ovs-vswitchd"), 30)


def tracked(ovs: Ovs) -> set[str]:
    """What ovs-appctl shows, without what is the same for all, and of nothing that there is nothing."""
    shown = ovs.appctl("dpctl/dump-conntrack", "-m", conntrack.DATAPATH).replace(",id=0", "")
    return set(re.sub(r"=0?(?=[,)]|$)", "=", shown, flags=re.MULTILINE).splitlines())


def make(ovs: Ovs, switch: Switch, entries: t.Iterable[Entry]) -> None:
    """Have a process track ``entries``, in whatever order they came."""
    ovs.appctl("dpctl/ct-disable-tcp-seq-chk", conntrack.DATAPATH)
    switch.main.send(message for entry in entries for message in messages(entry, switch.main))


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_every_kind_of_connection_is_the_same_afterwards(
    start_ovs: t.Callable[..., Ovs], old: str, new: str
) -> None:
    first, second = start_ovs(old), start_ovs(new)
    for ovs in (first, second):
        ovs.bridge("br0")
    second.vsctl("set", "open", ".", "other_config:flow-restore-wait=true")
    second.service("restart")
    before, after = (Switch(f"{ovs.rundir}/br0.mgmt") for ovs in (first, second))
    of_all = functools.partial(some, protocols=PROTOCOLS if min(old, new) < "3.2" else WITH_SCTP)
    make(first, before, map(of_all, range(COUNT)))
    first.appctl("dpctl/ct-set-maxconns", conntrack.DATAPATH, "77777")
    first.appctl("dpctl/ct-set-limits", conntrack.DATAPATH, "zone=7,limit=33")
    assert len(tracked(first)) == COUNT
    connections = Connections(Report())
    assert connections.carry(control(first), control(second), after.main) == {"carried": COUNT, "of": COUNT}
    assert tracked(first) == tracked(second)
    assert second.appctl("dpctl/ct-get-maxconns", conntrack.DATAPATH) == "77777\n"
    assert "zone=7,limit=33" in second.appctl("dpctl/ct-get-limits", conntrack.DATAPATH)
    # All that was there ends, and others begin.
    first.appctl("dpctl/flush-conntrack")
    make(first, before, map(of_all, range(COUNT, COUNT + 50)))
    connections.follow(control(first))
    lasting = {line for line in tracked(second) if not OVER.search(line) and line.startswith("tcp")}
    assert lasting == {line for line in tracked(first) if not OVER.search(line) and line.startswith("tcp")}


@pytest.mark.parametrize("language", ["OpenFlow10", "OpenFlow13", "OpenFlow14"])
def test_in_every_language_that_a_bridge_may_allow(ovs: Ovs, language: str) -> None:
    ovs.bridge("br0", f"protocols={language}")
    versions = {name: version for version, name in wire.VERSION_NAMES.items()}
    switch = Switch(f"{ovs.rundir}/br0.mgmt", (versions[language],))
    make(ovs, switch, map(some, range(COUNT)))
    before = tracked(ovs)
    lines = conntrack.dump(control(ovs))
    ovs.appctl("dpctl/flush-conntrack")
    make(ovs, switch, map(conntrack.parse, lines))
    assert len(before) == COUNT
    assert tracked(ovs) == before


def test_an_identifier_that_is_translated_is_the_same_afterwards(start_ovs: t.Callable[..., Ovs]) -> None:
    """4.0 takes identifiers of ICMP from a range of ports."""
    ovs = start_ovs("4.0.0")
    ovs.bridge("br0")
    echo = Tuple(address(False, 1), address(False, 2), 7, 8 << 8)
    back = Tuple(echo.dst, address(False, 9), 20007, 0)
    make(ovs, Switch(f"{ovs.rundir}/br0.mgmt"), [Entry("", "icmp", echo, back)])
    (found,) = map(conntrack.parse, conntrack.dump(control(ovs)))
    assert (found.orig, found.reply) == (echo, back)
