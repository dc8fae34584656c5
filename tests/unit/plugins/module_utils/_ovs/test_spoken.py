# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LACP, BFD and CFM as ovs-vswitchd shows them, and the frames that a neighbour would send."""

from __future__ import annotations

import contextlib
import struct
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import ProtocolError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import bfd, cfm, lacp

# Of 2.15 and of 4.0 alike.
LACP = """\
---- bond a ----
  status: active negotiated
  sys_id: 6a:55:00:6c:45:45
  sys_priority: 65534
  aggregation key: 1
  lacp_time: fast

member: a1: current attached
  port_id: 1
  port_priority: 65535
  may_enable: true

  actor sys_id: 6a:55:00:6c:45:45
  actor sys_priority: 65534
  actor port_id: 1
  actor port_priority: 65535
  actor key: 3
  actor state: activity timeout aggregation synchronized collecting distributing

  partner sys_id: 86:7c:71:8f:e5:49
  partner sys_priority: 32768
  partner port_id: 2
  partner port_priority: 255
  partner key: 9
  partner state: activity aggregation synchronized collecting distributing

member: a: 2: defaulted detached
  port_id: 2
  port_priority: 65535
  may_enable: false

  actor sys_id: 6a:55:00:6c:45:45
  actor sys_priority: 65534
  actor port_id: 2
  actor port_priority: 65535
  actor key: 3
  actor state: activity timeout aggregation defaulted

  partner sys_id: 00:00:00:00:00:00
  partner sys_priority: 0
  partner port_id: 0
  partner port_priority: 0
  partner key: 0
  partner state:
---- bond b ----
  status: active
"""
BFD = """\
---- a3 ----
  Forwarding: true
  Detect Multiplier: 3
  Concatenated Path Down: false
  TX Interval: Approx 1000ms
  RX Interval: Approx 1000ms
  Detect Time: now +2788ms
  Next TX Time: now +256ms
  Last TX Time: now -734ms

  Local Flags: none
  Local Session State: up
  Local Diagnostic: No Diagnostic
  Local Discriminator: 0x5771abd0
  Local Minimum TX Interval: 200ms
  Local Minimum RX Interval: 1000ms

  Remote Flags: none
  Remote Session State: up
  Remote Diagnostic: No Diagnostic
  Remote Discriminator: 0x2378c075
  Remote Minimum TX Interval: 100ms
  Remote Minimum RX Interval: 1000ms
  Remote Detect Multiplier: 3
"""
CFM = """\
---- a3 ----
MPID 7:
  average health: undefined
  opstate: up
  remote_opstate: up
  interval: 1000ms
  next CCM tx: 855ms
  next fault check: 2343ms
Remote MPID 9
  recv since check: true
  opstate: up
---- vx ----
MPID 70000: extended
  fault: recv
  average health: 100
  opstate: up
  remote_opstate: up
  interval: 250ms
  next CCM tx: 8ms
  next fault check: 2ms
"""


def test_bonds_as_they_are_shown() -> None:
    found = lacp.parse(LACP)
    assert {bond: list(members) for bond, members in found.items()} == {
        "bond a": ["a1", "a: 2"],
        "bond b": [],
    }
    first, second = found["bond a"].values()
    assert (first.status, first.attached, second.status, second.attached) == (
        lacp.CURRENT,
        True,
        "defaulted",
        False,
    )
    assert first.actor == lacp.Party("6a:55:00:6c:45:45", 65534, 1, 65535, 3, 0x3F)
    assert first.partner == lacp.Party("86:7c:71:8f:e5:49", 32768, 2, 255, 9, 0x3D)
    assert (second.actor.state, second.partner.state) == (0x47, 0)


@pytest.mark.parametrize("gone", ["  partner key: 9\n", "  actor sys_id: 6a:55:00:6c:45:45\n"])
def test_a_member_that_lacks_something_is_not_guessed_at(gone: str) -> None:
    with pytest.raises(ProtocolError, match="LACP on a1 cannot be understood"):
        lacp.parse(LACP.replace(gone, "", 1))


def test_the_partner_says_what_it_has_said_before() -> None:
    member = lacp.parse(LACP)["bond a"]["a1"]
    frame = lacp.from_partner(member)
    assert len(frame) == 14 + 110
    assert frame[:14].hex() == "0180c2000002867c718fe5498809"
    assert frame[14:18] == b"\1\1\1\x14"
    assert frame[18:33].hex() == "8000867c718fe549000900ff00023d"
    assert frame[36:38] == b"\2\x14"
    assert frame[38:53].hex() == "fffe6a55006c45450003ffff000137"  # it has not heard that we are in sync
    assert frame[56:58] == b"\3\x10"


def test_a_session_as_it_is_shown() -> None:
    assert bfd.parse(BFD) == {
        "a3": bfd.Session("up", 0x5771ABD0, 0x2378C075, 100, 1000, 3, 3000, "No Diagnostic", 1000)
    }
    with pytest.raises(ProtocolError, match="BFD on a3 cannot be understood"):
        bfd.parse(BFD.replace("100ms", "soon"))


def test_the_peer_says_that_it_is_up() -> None:
    session = bfd.parse(BFD)["a3"]
    frame = bfd.from_peer(
        session, 0xABCD, "init", bfd.MOST, bfd.POLL, bfd.Route("192.0.2.1", "02:00:00:00:00:09")
    )
    assert frame[:6].hex() == "020000000009"
    header, datagram, control = frame[14:34], frame[34:42], frame[42:]
    assert sum(struct.unpack("!10H", header)) % 0xFFFF == 0
    assert (header[8], header[9], header[16:20]) == (255, 17, bytes([192, 0, 2, 1]))
    assert struct.unpack("!HHHH", datagram) == (49152, 3784, 8 + 24, 0)
    assert control.hex() == "20a0ff182378c0750000abcd000186a0000f424000000000"
    assert bfd.from_peer(session, 1)[42:46].hex() == "20c00318"


def test_a_route_that_nobody_understands_is_the_usual_one() -> None:
    assert bfd.route({"bfd_src_ip": "192.0.2.1"}).address == "192.0.2.1"
    assert bfd.route({"bfd_remote_dst_mac": "02:00:00:00:00:09"}).mac == "02:00:00:00:00:09"
    assert bfd.route({"bfd_src_ip": "2001:db8::1", "bfd_remote_dst_mac": "any"}) == bfd.ANY_ROUTE


def test_ends_as_they_are_shown() -> None:
    assert cfm.parse(CFM) == {
        "a3": cfm.Endpoint(7, False, 1000, (9,), ""),
        "vx": cfm.Endpoint(70000, True, 250, (), "recv"),
    }
    with pytest.raises(ProtocolError, match="CFM on a3 cannot be understood"):
        cfm.parse(CFM.replace("  interval: 1000ms\n", ""))


def test_the_remote_end_says_that_it_is_there() -> None:
    (frame,) = cfm.from_remotes(cfm.parse(CFM)["a3"])
    assert frame[:6].hex() == "0180c2000030"
    assert frame[12:18].hex() == "890200010446"
    assert frame[22:24] == b"\0\x09"
    assert frame[24:34] == b"\4\3ovs\2\3ovs"
    assert len(frame) == 14 + 75
    (extended,) = cfm.from_remotes(cfm.Endpoint(1, True, 250, (70000,), ""))
    assert extended[:6].hex() == "012320000030"
    assert struct.unpack("!HQ", extended[14 + 58 : 14 + 68]) == (250, 70000)


@given(st.text(alphabet=st.sampled_from(sorted(set(LACP + BFD + CFM))), max_size=400))
def test_nothing_that_is_shown_raises_anything_else(shown: str) -> None:
    readers: tuple[t.Callable[[str], object], ...] = (lacp.parse, bfd.parse, cfm.parse)
    for reader in readers:
        for text in (shown, LACP + shown, BFD + shown, CFM + shown):
            with contextlib.suppress(ProtocolError):
                reader(text)
