# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import struct
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import text as oftext
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire

FLOW = wire.flow_mod(wire.OF15, 1, 3, 77, 0x12, 0, 0, 0, 0, wire.delete_flows(wire.OF15, 0)[48:])
METER = wire.meter_mod(wire.OF15, 2, wire.METER_ADD, 5)
PRINTED = """\
OFPST_FLOW reply (OF1.5) (xid=0x1):
 cookie=0x12, duration=0s, table=3, n_packets=?, n_bytes=?, idle_age=0, priority=77 actions=drop
OFPT_METER_MOD (OF1.5) (xid=0x2): ADD meter=5 kbps bands=
type=drop rate=9
"""


@pytest.fixture
def ofctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for ovs-ofctl; what it prints is in the file ``printed`` beside it."""
    monkeypatch.setattr(oftext, "NOBODY", {})
    program = tmp_path / "ovs-ofctl"
    program.write_text(
        f'#!/bin/sh\n[ "$*" = "ofp-parse -" ] && cat >{tmp_path}/given && cat {tmp_path}/printed\n'
    )
    program.chmod(0o700)
    return program


def test_each_message_becomes_one_line_without_what_counts(ofctl: Path) -> None:
    (ofctl.parent / "printed").write_text(PRINTED)
    assert oftext.lines([FLOW, METER], str(ofctl)) == [
        "flow cookie=0x12, table=3, priority=77 actions=drop",
        "meter meter=5 kbps bands= type=drop rate=9",
    ]
    given = ofctl.parent / "given"
    # A flow is printed as statistics, since ovs-ofctl judges the actions of a flow-mod and may refuse to print it.
    assert given.read_bytes() == wire.flow_statistics(FLOW) + METER


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_what_a_switch_has_sent_is_read_as_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, t.Any] = {}
    monkeypatch.setattr(oftext.subprocess, "run", lambda argv, **options: asked.update(options) or _Done())
    oftext.lines([FLOW])
    assert (asked["user"], asked["group"], asked["extra_groups"]) == (65534, 65534, [])


class _Done:
    stdout = b""


def test_of_a_flow_that_this_ovs_ofctl_cannot_read_the_match_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its actions are new; printed without them it can be read."""
    monkeypatch.setattr(oftext, "NOBODY", {})
    known = PRINTED.splitlines()[:2]
    program = tmp_path / "ovs-ofctl"
    program.write_text(
        "#!/bin/sh\n"
        f"cat > {tmp_path}/given\n"
        f"if cmp -s {tmp_path}/given {tmp_path}/bare; then printf '%s\\n' '{known[0]}' '{known[1]}'; else\n"
        "echo 'OFPST_FLOW reply (OF1.5) (xid=0x1): ***decode error: OFPBAC_BAD_TYPE***'; echo '0000 06'; fi\n"
    )
    program.chmod(0o700)
    flow = FLOW[:2] + struct.pack("!H", len(FLOW) + 8) + FLOW[4:] + bytes.fromhex("0004000800000000")
    (tmp_path / "bare").write_bytes(wire.flow_statistics(FLOW))
    (line,) = oftext.lines([flow], str(program))
    assert line == "flow cookie=0x12, table=3, priority=77 (this ovs-ofctl cannot read the rest)"
    assert oftext.unreadable(line)


@pytest.mark.parametrize("program", ["/nowhere/ovs-ofctl", "/bin/false"])
def test_without_ovs_ofctl_there_still_is_a_line_without_hex_for_each_message(program: str) -> None:
    group = wire.delete_groups(wire.OF15, 0)
    assert oftext.lines([FLOW, METER, group], program) == [
        "flow cookie=0x12, table=3, priority=77 (this ovs-ofctl cannot read the rest)",
        "meter (this ovs-ofctl cannot read the rest)",
        f"group group_id={wire.GROUP_ALL},type=all (this ovs-ofctl cannot read the rest)",
    ]


def test_nothing_to_print_starts_no_program() -> None:
    assert oftext.lines([], "/nowhere/ovs-ofctl") == []


def test_every_message_of_a_state_has_a_name() -> None:
    messages = {
        "tlv-map": wire.tlv_mod(wire.OF15, 0, wire.TLV_ADD, []),
        "table": wire.table_mod(wire.OF15, 0, 1),
        "fragments": wire.set_fragments(wire.OF15, 0, 1),
        "group": wire.delete_groups(wire.OF10, 0),
        "port": wire.port_status(wire.OF10, 1, "p1", 0),
        "flow": wire.delete_flows(wire.OF10, 0),
        "meter": METER,
    }
    assert {name: oftext.kind(message) for name, message in messages.items()} == {
        name: name for name in messages
    }
