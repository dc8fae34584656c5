# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Qdiscs of others: which ones they are, what is read of the kernel's dump, what is set and taken away again."""

from __future__ import annotations

import types
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import shaping
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.report import Report
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.shaping import Shaper
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import netlink

ROOT, INGRESS = 0xFFFFFFFF, 0xFFFFFFF1
Json = dict[str, t.Any]


def message(kind: str, handle: int, parent: int, index: int = 7) -> bytes:
    attributes = netlink.attribute(9, b"") + netlink.attribute(1, kind.encode() + b"\0")
    return shaping._TCMSG.pack(0, index, handle, parent, 2) + attributes


def device(index: int) -> str | None:
    return "p1" if index == 7 else None


def test_what_others_have_set_is_read_of_a_dump() -> None:
    bodies = [
        message("htb", 0x10000, ROOT),
        message("pfifo_fast", 0, ROOT),  # the kernel's own
        message("netem", 0x20000, 0x10001),  # below a class
        message("ingress", 0xFFFF0000, INGRESS),
        message("clsact", 0xFFFF0000, INGRESS),
        message("tbf", 0x10000, ROOT, index=8),  # gone meanwhile
    ]
    found = list(shaping.parse(bodies, device))
    assert found == [Shaper("p1", "htb", 0x10000, False), Shaper("p1", "ingress", 0xFFFF0000, True)]
    assert str(found[0]) == "htb 1: on p1"


def test_this_kernels_qdiscs_can_be_read() -> None:
    assert all(each.device for each in shaping.shapers())


class Database:
    """Ports p1 (plain), p2 (with QoS), a bond of p3 and p4; p5 polices what comes in."""

    def __init__(self, offload: bool = False) -> None:
        self.tables: dict[str, list[Json]] = {
            "Open_vSwitch": [{"other_config": {"hw-offload": "true"} if offload else {}}],
            "Port": [
                {"_uuid": "P1", "qos": None, "interfaces": ["i1"]},
                {"_uuid": "P2", "qos": "q", "interfaces": ["i2"]},
                {"_uuid": "P3", "qos": None, "interfaces": ["i3", "i4"]},
                {"_uuid": "P5", "qos": None, "interfaces": ["i5"]},
            ],
            "Interface": [
                {"_uuid": f"i{n}", "name": f"p{n}", "ingress_policing_rate": 9 if n == 5 else 0}
                for n in range(1, 6)
            ],
            "QoS": [
                {"_uuid": "q", "external_ids": {}},
                {"_uuid": "ours", "external_ids": {shaping.MARK: "t"}},
            ],
        }
        self.operations: list[Json] = []

    def __call__(self, *_words: t.Any) -> Database:
        return self

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_words: t.Any) -> None: ...

    def has_column(self, _table: str, column: str) -> bool:
        return column != "ingress_policing_kpkts_rate"

    def select_many(self, *queries: t.Any) -> list[list[Json]]:
        return [
            [{name: row[name] for name in names} for row in self.tables[table]]
            for table, names, __ in queries
        ]

    def select(self, table: str, names: t.Sequence[str]) -> list[Json]:
        return self.select_many((table, names, ()))[0]

    def transact(self, *operations: Json) -> None:
        self.operations += operations


def root(name: str) -> Shaper:
    return Shaper(name, "tbf", 0x10000, False)


def ingress(name: str) -> Shaper:
    return Shaper(name, "ingress", 0xFFFF0000, True)


def test_what_open_vswitch_has_set_itself_is_nobody_elses() -> None:
    every = [make(f"p{n}") for n in range(1, 6) for make in (root, ingress)]
    found = shaping.foreign(t.cast(t.Any, Database()), [*every, root("eth9")])
    assert [each.device for each in found if not each.ingress] == ["p1", "p3", "p4", "p5"]
    assert [each.device for each in found if each.ingress] == ["p1", "p2", "p3", "p4"]
    offloading = shaping.foreign(t.cast(t.Any, Database(offload=True)), every)
    assert not any(each.ingress for each in offloading)


@pytest.fixture(name="host")
def _host() -> t.Any:
    written: Json = {}
    database = Database()
    return types.SimpleNamespace(
        report=Report(),
        database=types.SimpleNamespace(open=lambda: database, operations=database.operations),
        transaction=types.SimpleNamespace(id="t", write=written.__setitem__, read=written.get),
    )


def test_ports_with_a_qdisc_of_others_get_the_qos_that_leaves_it_alone(
    host: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shaping, "shapers", lambda: (root("p1"), root("p2"), root("p4"), ingress("p5")))
    shaping.leave_alone(host)
    inserted, *updated = host.database.operations
    assert (inserted["op"], inserted["row"]["type"]) == ("insert", "linux-noop")
    assert [each["where"][0][2][1] for each in updated] == ["P1", "P3"]
    assert {each["row"]["qos"][1] for each in updated} == {inserted["uuid-name"]}


def test_a_host_without_them_is_not_touched(host: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shaping, "shapers", lambda: (root("p2"),))
    shaping.leave_alone(host)
    assert host.database.operations == []


def test_on_the_way_back_it_is_done_again_and_the_qdiscs_of_the_beginning_count(
    host: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shaping, "shapers", lambda: (root("p1"), root("p4")))
    shaping.leave_alone(host)
    monkeypatch.setattr(shaping, "shapers", lambda: (root("p4"),))
    shaping.leave_alone(host)
    assert [each["op"] for each in host.database.operations].count("insert") == 2
    shaping.give_back(host)
    assert len(host.report.not_carried) == 1


def test_what_is_given_back_is_ours_alone_and_what_is_gone_is_told(
    host: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shaping, "shapers", lambda: (root("p1"), root("p4")))
    shaping.leave_alone(host)
    host.database.operations.clear()
    monkeypatch.setattr(shaping, "shapers", lambda: (root("p4"),))
    shaping.give_back(host)
    assert [(each["op"], each["where"][0][2][1]) for each in host.database.operations] == [
        ("update", "ours"),
        ("delete", "ours"),
    ]
    assert host.report.not_carried == ["the qdisc tbf 1: on p1, which Open vSwitch had not set, is gone"]
