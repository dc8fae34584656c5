# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stp/show and rstp/show tell, and the BPDUs of neighbours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import spanning_tree
from tests.unit.plugins.module_utils._handover.test_plan import bridge, interface, port

# Of Open vSwitch 3.5.0.
SHOWN = """---- br0 ----
Root ID:
  stp-priority  4096
  stp-system-id   22:c5:e8:bc:5a:c9
  stp-hello-time  2s
  stp-max-age     20s
  stp-fwd-delay   15s
  root-port       d11
  root-path-cost  2

Bridge ID:
  stp-priority  32768
  stp-system-id   02:00:00:00:00:01
  stp-hello-time  2s
  stp-max-age     40s
  stp-fwd-delay   4s

  Interface  Role       State      Cost  Pri.Nbr
  ---------- ---------- ---------- ----- -------
  d11        root       forwarding 2     128.1
  d12        alternate  blocking   2     128.2

---- br1 ----
Root ID:
unknown root port
"""

HEADERS = spanning_tree.GROUP + bytes.fromhex("020000000001 0026 424203")
ROOT, US, WORST = bytes.fromhex("1000020000000001"), bytes.fromhex("8000020000000002"), b"\xff" * 8
CONFIGURATION, RAPID, CHANGE = (0, 0), (2, 2), (0, 0x80)
DESIGNATED = 0x0C | 0x30


def bpdu(kind: tuple[int, int], flags: int, root: bytes = ROOT, cost: int = 2, own: bytes = US) -> bytes:
    body = bytes([0, 0, *kind, flags]) + root + cost.to_bytes(4, "big") + own
    return HEADERS + body + bytes.fromhex("8001 0100 1400 0200 0f00") + (b"\0" if kind == RAPID else b"")


def test_what_is_shown() -> None:
    found = spanning_tree.parse(SHOWN)
    assert found.keys() == {"br0", "br1"}
    tree = found["br0"]
    assert (tree.is_root, tree.hello_time, tree.max_age, tree.forward_delay) == (False, 2, 40, 15)
    assert {"d12 alternate blocking 2 128.2", "root-port d11"} <= set(tree.lines)
    assert found["br1"].forward_delay == 0
    assert spanning_tree.parse("---- br0 ----\nstp-max-age 255s\n")["br0"].max_age == 40
    assert spanning_tree.parse("---- br0 ----\n  This bridge is the root\n")["br0"].is_root


def test_the_order_of_ports_is_that_of_a_process() -> None:
    lines = SHOWN.splitlines()
    first, second = (lines.index(line) for line in lines if line.startswith("  d1"))
    lines[first], lines[second] = lines[second], lines[first]
    assert spanning_tree.parse("\n".join(lines)) == spanning_tree.parse(SHOWN)


@pytest.mark.parametrize(
    ("protocol", "names"),
    [("stp", ["p", "t"]), ("rstp", ["p", "q", "t"]), ("none", [])],
)
def test_which_ports_are_in_a_tree(protocol: str, names: list[str]) -> None:
    ports = (
        *(port(name) for name in ("br0", "p", "t")),
        port("q", other_config={"stp-enable": "False"}),
        port("bond", interfaces=("a", "b")),
    )
    inside = interface("br0", type="internal"), interface("t", type="patch", ofport=3)
    interfaces = (*inside, *(interface(name, ofport=1) for name in "abpq"))
    found = bridge(ports=ports, interfaces=interfaces, stp=protocol == "stp", rstp=protocol == "rstp")
    assert sorted(each.name for each in spanning_tree.members(found)) == names
    neighbours = [each.name for each in spanning_tree.with_neighbours(found)]
    assert neighbours == [name for name in names if name != "t"]


def test_numbers_for_rstp() -> None:
    assert list(spanning_tree.rapid_numbers({"rstp_port_id": "800a"})) == [10]
    assert list(spanning_tree.rapid_numbers({"rstp_port_id": "8100"})) == [256]
    assert list(spanning_tree.rapid_numbers({})) == []


def test_a_topology_change_is_acknowledged() -> None:
    for kind in (CONFIGURATION, RAPID):
        assert spanning_tree.acknowledged(bpdu(kind, 0x01)) == bpdu(kind, 0x81)
    assert spanning_tree.acknowledged(bpdu(CHANGE, 0)) == bpdu(CHANGE, 0)


@pytest.mark.parametrize(
    ("own", "answer"),
    [
        # Agreed: the root port at the other end forwards, and is no better than we are.
        (bpdu(RAPID, DESIGNATED), bpdu(RAPID, 0x40 | 0x08 | 0x30, cost=3, own=WORST)),
        (bpdu(RAPID, DESIGNATED | 0x02), None),  # proposes: nobody has agreed
        (bpdu(RAPID, 0x08 | 0x70), None),  # a root port
        # STP on a bridge with RSTP: the neighbour knows no more.
        (bpdu(CONFIGURATION, 0x01), bpdu(CONFIGURATION, 0x80, WORST, 3, WORST)),
        (bpdu(CHANGE, 0), None),
        (bpdu(RAPID, DESIGNATED, cost=0xFFFFFFFF), bpdu(RAPID, 0x78, cost=0xFFFFFFFF, own=WORST)),
    ],
)
def test_what_a_neighbour_has_answered(own: bytes, answer: bytes | None) -> None:
    assert spanning_tree.answer(own) == answer


@given(st.binary(max_size=80))
def test_any_bytes_may_come(body: bytes) -> None:
    frame = HEADERS[:12] + body
    spanning_tree.answer(frame)
    assert len(spanning_tree.acknowledged(frame)) == len(frame)
