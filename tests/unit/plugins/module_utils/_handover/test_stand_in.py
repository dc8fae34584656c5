# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an ovs-vswitchd without devices is asked, and what is taken of what it says."""

from __future__ import annotations

import contextlib
import types
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import stand_in
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Bridge
from tests.unit.plugins.module_utils._handover.test_reloader import SHOWN

DUMMIES = """\
system@ovs-system: hit:0 missed:0
  br0:
    br0 65534/100: (dummy-internal)
    in4 4/1: (dummy-internal)
    p1 1/2: (system)
    patch0 6/none: (patch: peer=patch1)
"""


@pytest.mark.parametrize(
    ("said", "ports"),
    [
        ("Datapath actions: 2,1", [2, 1]),
        ("Datapath actions: drop", []),
        ("Datapath actions: push_vlan(vid=4,pcp=0),2", None),
        ("Datapath actions: ct(commit),2", None),
        ("Datapath actions: 2\nThis flow is handled by the userspace slow path because it:\n", None),
        (
            "    group:1\n    bucket 0\n            output:2\nDatapath actions: 2",
            [2],
        ),  # to all of its buckets
        (
            "    group:2\n     -> using bucket 0\n    bucket 0\n            output:2\nDatapath actions: 2",
            None,
        ),
        ("    group:2\n     -> no live bucket\nDatapath actions: drop", None),
        ("Datapath actions: \u00b2", None),
        ("no such bridge", None),
    ],
)
def test_only_ports_are_an_answer(said: str, ports: list[int] | None) -> None:
    assert stand_in.outputs(f"Flow: udp\n\n{said}\n") == ports


def test_a_packet_goes_to_the_kernels_ports_of_the_same_names() -> None:
    asked: list[tuple[str, ...]] = []
    answers = {"in_port=1": "1,100", "in_port=4": "2", "in_port=65534": "7"}

    def call(*words: str) -> str:
        if words != ("ofproto/trace", *words[1:]):
            return {"dpif/show": DUMMIES, "version": "ovs-vswitchd (Open vSwitch) 3.5.0"}[words[0]]
        asked.append(words)
        return f"Datapath actions: {answers[words[2]]}\n"

    host: t.Any = types.SimpleNamespace(
        services=types.SimpleNamespace(control=lambda _name: types.SimpleNamespace(call=lambda _words: SHOWN))
    )
    found = stand_in.StandIn(host)
    assert found.answer(2, b"\1\2") is None  # it has not started
    found._know_ports(t.cast(t.Any, types.SimpleNamespace(call=call)))
    assert found.answer(2, b"\1\2") == [9, 1]
    assert asked == [("ofproto/trace", "br0", "in_port=1", "0102")]
    assert found.answer(9, b"") == [2]
    assert found.answer(1, b"") is None  # to a port that the kernel does not have
    assert found.answer(44, b"") is None
    found._doubtful = ["Datapath actions: 1"]
    assert found.answer(2, b"") is None
    assert found.answer(9, b"") == [2]


@pytest.mark.parametrize(("version", "asked_again"), [("3.1.0", False), ("3.5.0", True)])
def test_one_that_hangs_over_a_packet_is_not_asked_about_the_next(version: str, asked_again: bool) -> None:
    asked: list[str] = []

    def call(*words: str) -> str:
        if words[0] != "ofproto/trace":
            return {"dpif/show": DUMMIES, "version": f"ovs-vswitchd (Open vSwitch) {version}"}[words[0]]
        asked.append(words[-1])
        raise Unreachable("no answer to ofproto/trace in 2 s")

    host: t.Any = types.SimpleNamespace(
        services=types.SimpleNamespace(control=lambda _name: types.SimpleNamespace(call=lambda _words: SHOWN))
    )
    found = stand_in.StandIn(host)
    found._know_ports(t.cast(t.Any, types.SimpleNamespace(call=call)))
    for packet in (b"\1", b"\2"):
        with contextlib.suppress(Unreachable):
            assert found.answer(2, packet) is None
    assert asked == ["01", "02"][: 1 + asked_again]


def test_a_port_whose_number_is_another_ones_now_is_not_known() -> None:
    """A machine has ended, and the tap of the next one has got its number."""

    def call(*words: str) -> str:
        if words[0] == "ofproto/trace":
            return "Datapath actions: 2,1\n"
        return {"dpif/show": DUMMIES, "version": "ovs-vswitchd (Open vSwitch) 3.5.0"}[words[0]]

    host: t.Any = types.SimpleNamespace(
        services=types.SimpleNamespace(control=lambda _name: types.SimpleNamespace(call=lambda _words: SHOWN))
    )
    found = stand_in.StandIn(host)
    found._know_ports(t.cast(t.Any, types.SimpleNamespace(call=call)))
    names = {1: "br0", 2: "p1", 9: "in4"}
    found._numbers[2], found._numbers[1] = 2, 9
    found.keep(names)
    assert found.answer(2, b"") == [2, 9]
    found.keep({**names, 9: "in5"})
    assert found.answer(9, b"") is None
    assert found.answer(2, b"") is None  # it would go there
    found.keep({**names, 2: "p2"})
    assert found.answer(2, b"") is None


def test_bridges_that_are_configured_anew_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy of the database has the VLANs of before."""
    rows: dict[str, list[t.Any]] = {"Port": [{"name": "p1", "tag": 1}, {"name": "p2", "tag": 2}]}

    def transact(*queries: dict[str, t.Any]) -> list[t.Any]:
        assert not {"statistics", "external_ids", "_version"} & {
            column for each in queries for column in each["columns"]
        }
        return [{"rows": rows.get(query["table"], [])} for query in queries]

    live = types.SimpleNamespace(transact=transact)
    monkeypatch.setattr(stand_in, "Ovsdb", lambda _remote, _timeout: contextlib.nullcontext(live))
    host: t.Any = types.SimpleNamespace(
        living=types.SimpleNamespace(carry=lambda _switches, _changed: None),
        request=types.SimpleNamespace(remote="unix:db", timeout=10.0),
    )
    found = stand_in.StandIn(host)
    found._configured = stand_in.configured(t.cast(t.Any, live))
    rows["Port"].reverse()
    found.catch_up()
    rows["Port"][0]["tag"] = 3
    with pytest.raises(HotUpgradeError, match="a bridge was configured anew meanwhile"):
        found.catch_up()


def test_where_links_and_neighbours_decide_dummies_do_not_know() -> None:
    found = {
        "plain": a_bridge("plain", ("p1",), ("p2",)),
        "bond": a_bridge("bond", ("p1", "p2")),
        "lacp": a_bridge("lacp", ("p1",), lacp="active"),
        "tree": a_bridge("tree", ("p1",)),
    }
    t.cast(t.Any, found["tree"]).rstp = True
    assert list(stand_in.doubtful(list(found.values()))) == [
        'bridge("bond")',
        'bridge("lacp")',
        'bridge("tree")',
    ]


def a_bridge(name: str, *ports: tuple[str, ...], lacp: str | None = None) -> Bridge:
    found: t.Any = types.SimpleNamespace(
        name=name,
        stp=False,
        rstp=False,
        interfaces=(),
        ports=[types.SimpleNamespace(name=each[0], interfaces=each, lacp=lacp) for each in ports],
    )
    return t.cast(Bridge, found)


class Copy:
    """A database."""

    def select(self, _table: str, _columns: t.Any) -> list[t.Any]:
        kinds = {"1": "", "2": "netdev", "3": "system"}
        return [{"_uuid": row, "datapath_type": kind} for row, kind in kinds.items()]


def test_it_opens_no_device() -> None:
    taps, leave = stand_in._harmless(t.cast(t.Any, Copy()))
    assert (taps["where"], taps["row"]) == ([["type", "==", "tap"]], {"type": ""})
    assert leave["mutations"] == [["bridges", "delete", ["set", [["uuid", "2"]]]]]
