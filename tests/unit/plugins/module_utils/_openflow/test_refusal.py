# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refused objects with a stand-in for ovs-ofctl, and a switch that prints them as ovs-vswitchd 3.5 does."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import refusal, wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import text as _oftext
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.refusal import (
    Log,
    Refusal,
    explaining,
)

# A daemon without a log.
SILENT = ("ovs-vswitchd", "--log-file=/not/there")
FLOW = wire.flow_mod(wire.OF15, 1, 3, 77, 0x12, 0, 0, 0, 0, wire.delete_flows(wire.OF15, 0)[48:])
UNKNOWN = " (this ovs-ofctl cannot read the rest)"
DUMP = """\
duration=0s, n_packets=0, n_bytes=0, priority=77,tcp,tp_dst=7,actions=drop
table_id=3, duration=0s, n_packets=0, n_bytes=0, priority=77,tcp,tp_dst=70,actions=drop
cookie=0x12, table_id=3, duration=9s, n_packets=5, n_bytes=10, priority=77,tcp,tp_dst=7,actions=sample(probability=1)
"""


@pytest.fixture(autouse=True)
def texts(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"flow cookie=0x12, table=3, priority=77,tcp,tp_dst=7{UNKNOWN}"
    monkeypatch.setattr(_oftext, "lines", lambda messages: [text] * len(messages))


def explained(dump: t.Callable[[str], str], *refusals: Refusal, argv: tuple[str, ...] = SILENT) -> str:
    with pytest.raises(HotUpgradeError) as caught, explaining(argv, dump) as found:
        found += refusals
    return str(caught.value)


def test_one_object_is_named_and_several_are_all_named() -> None:
    one = Refusal("br1", [(FLOW, "OFPBAC_BAD_TYPE")])
    assert one.what == f"br1: the switch refused flow cookie=0x12, table=3, priority=77,tcp,tp_dst=7{UNKNOWN}"
    assert one.why == "OFPBAC_BAD_TYPE"
    several = Refusal("br1", [(FLOW, "OFPBAC_BAD_TYPE"), (FLOW, "OFPBMC_BAD_FIELD")])
    assert several.what == "br1: the switch refused 2 objects"
    assert several.why.count("flow cookie=0x12") == 2
    assert "OFPBMC_BAD_FIELD" in several.why
    many = Refusal("br1", [(FLOW, "OFPBAC_BAD_TYPE")] * 50)
    assert "50 objects" in many.what
    assert many.why.endswith("; and 30 more")


def test_what_the_tools_cannot_print_the_old_switch_tells() -> None:
    text = explained(
        lambda bridge: DUMP if bridge == "br1" else "", Refusal("br1", [(FLOW, "OFPBAC_BAD_TYPE")])
    )
    assert "1 of the OpenFlow objects: bridge br1: flow cookie=0x12, table_id=3, priority=77,tcp," in text
    assert "tp_dst=7,actions=sample(probability=1): OFPBAC_BAD_TYPE" in text


def test_a_switch_that_has_ended_tells_nothing() -> None:
    def gone(bridge: str) -> str:
        raise Unreachable(bridge)

    assert f"tp_dst=7{UNKNOWN}: OFPBAC_BAD_TYPE" in explained(
        gone, Refusal("br1", [(FLOW, "OFPBAC_BAD_TYPE")])
    )


def test_all_bridges_and_the_log_are_in_one_message(tmp_path: Path) -> None:
    path = tmp_path / "ovs-vswitchd.log"
    path.write_text("2026-11-26T16:00:00.000Z|00001|bridge|WARN|old news\n")
    argv = ("ovs-vswitchd", f"--log-file={path}")

    def load(found: list[Refusal]) -> None:
        with path.open("a") as file:
            for number in range(2):
                file.write(f"2026-11-26T16:00:00.000Z|0000{number}|ofp_actions|WARN|unknown Nicira action\n")
            file.write("2026-11-26T16:00:00.000Z|00003|bridge|INFO|chatter\n")
        found.append(Refusal("br0", [(FLOW, "OFPBAC_BAD_TYPE")]))
        raise Refusal("br1", [(FLOW, "OFPBAC_BAD_TYPE")])

    with pytest.raises(HotUpgradeError) as caught, explaining(argv, lambda bridge: "") as found:
        load(found)
    text = str(caught.value)
    assert "refuses 2 of the OpenFlow objects" in text
    assert "bridge br0:" in text
    assert "bridge br1:" in text
    assert "into its log: unknown Nicira action." in text
    assert "old news" not in text


def test_without_a_refusal_nothing_happens() -> None:
    with explaining(SILENT, lambda bridge: ""):
        pass
    with pytest.raises(KeyError), explaining(SILENT, lambda bridge: ""):
        raise KeyError


def test_the_log_of_a_daemon(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    log = Log(["ovs-vswitchd", f"--log-file={path}"])
    assert log.complaints() == ""
    path.write_text("a|1|m|ERR|one\nb|2|m|EMER|two\n")
    assert log.complaints() == "one / two"
    assert refusal.SHOWN == 20
