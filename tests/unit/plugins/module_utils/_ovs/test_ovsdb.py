# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    ProtocolError,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import (
    Connection,
    Ovsdb,
    is_true,
    plain,
)

SET = {"key": "string", "min": 0, "max": "unlimited"}
OPTIONAL = {"key": "integer", "min": 0, "max": 1}
MAP = {"key": "string", "value": "string", "min": 0, "max": "unlimited"}
UUID_MAP = {"key": "integer", "value": {"type": "uuid"}, "min": 0, "max": "unlimited"}


@pytest.mark.parametrize(
    ("wire", "column_type", "expected"),
    [
        ("br0", "string", "br0"),
        (False, "boolean", False),
        (["uuid", "u1"], "uuid", "u1"),
        (["set", []], OPTIONAL, None),
        (7, OPTIONAL, 7),
        (["set", [7]], OPTIONAL, 7),
        (0, OPTIONAL, 0),
        (["set", []], SET, []),
        ("one", SET, ["one"]),
        (["set", ["one", "two"]], SET, ["one", "two"]),
        (["uuid", "u1"], {"key": {"type": "uuid"}, "min": 1, "max": "unlimited"}, ["u1"]),
        (["set", [["uuid", "u1"], ["uuid", "u2"]]], {"key": "uuid", "max": "unlimited"}, ["u1", "u2"]),
        (["set", ["a", "b"]], {"key": "string", "max": 2}, ["a", "b"]),
        (["map", []], MAP, {}),
        (["map", [["a b", "$(x)"]]], MAP, {"a b": "$(x)"}),
        (["map", [[1, ["uuid", "u1"]]]], UUID_MAP, {1: "u1"}),
    ],
)
def test_values_become_what_their_type_says(wire: t.Any, column_type: t.Any, expected: t.Any) -> None:
    assert plain(wire, column_type) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("true", True), ("TRUE", True), ("1", False), ("", False), ("false", False), (None, False)],
)
def test_booleans_in_maps_are_read_as_vswitchd_reads_them(value: str | None, expected: bool) -> None:
    assert is_true(value) is expected


def bond(database: t.Any) -> None:
    """A bridge with a bond of two and a port with names that a shell would mind."""
    name = 'a "b" $(touch x)'
    database.add("Controller", "c1", target="tcp:127.0.0.1:6653")
    database.add("Interface", "i0", name=name, type="internal", ofport=65534, mac_in_use="02:00:00:00:00:01")
    database.add("Interface", "i1", name="p23456789012345", ofport=1, ofport_request=1)
    database.add(
        "Interface", "i2", name="eth1", ofport=-1, error="no such device", ingress_policing_rate=1000
    )
    database.add("Port", "p0", name=name, interfaces=["uuid", "i0"])
    database.add(
        "Port",
        "p1",
        name="bond0",
        interfaces=["set", [["uuid", "i1"], ["uuid", "i2"]]],
        lacp="active",
        bond_mode="balance-tcp",
        qos=["uuid", "q"],
    )
    database.add(
        "Bridge",
        "b1",
        name=name,
        ports=["set", [["uuid", "p1"], ["uuid", "p0"]]],
        controller=["uuid", "c1"],
        protocols=["set", ["OpenFlow13", "OpenFlow10"]],
        fail_mode="secure",
        datapath_id="0000000000000001",
        mirrors=["uuid", "m"],
        sflow=["uuid", "s"],
        stp_enable=True,
        other_config=["map", [["hwaddr", "02:00:00:00:00:01"]]],
    )
    database.add("Bridge", "b0", name="_first", datapath_type="netdev")
    database.add("Bridge", "b2", name="../ignored")
    database.add("Bridge", "b3", name="ignored\\")


def test_bridges_with_all_they_have(serve: t.Any, database: t.Any) -> None:
    bond(database)
    with Ovsdb(serve(database).remote) as db:
        first, bridge = db.bridges()
    assert (first.name, first.datapath_type, first.ports, first.fail_mode) == ("_first", "netdev", (), None)
    assert bridge.name == 'a "b" $(touch x)'
    assert bridge.datapath_type == "system"
    assert bridge.datapath_id == "0000000000000001"
    assert bridge.fail_mode == "secure"
    assert bridge.protocols == ("OpenFlow10", "OpenFlow13")
    assert (bridge.controllers, bridge.alone, first.alone) == (("tcp:127.0.0.1:6653",), True, False)
    assert (bridge.stp, bridge.rstp, bridge.mirrors) == (True, False, 1)
    assert (bridge.sflow, bridge.netflow, bridge.ipfix) == (True, False, False)
    assert bridge.other_config == {"hwaddr": "02:00:00:00:00:01"}
    local, bond0 = bridge.ports
    assert (local.name, local.interfaces, local.lacp, local.qos) == (bridge.name, (bridge.name,), None, False)
    assert (bond0.name, bond0.interfaces) == ("bond0", ("eth1", "p23456789012345"))
    assert (bond0.lacp, bond0.bond_mode, bond0.qos) == ("active", "balance-tcp", True)
    assert [(i.name, i.port, i.ofport) for i in bridge.interfaces] == [
        ('a "b" $(touch x)', 'a "b" $(touch x)', 65534),
        ("eth1", "bond0", -1),
        ("p23456789012345", "bond0", 1),
    ]
    eth1 = bridge.interfaces[1]
    assert (eth1.error, eth1.policing_rate, eth1.ofport_request) == ("no such device", 1000, None)


def test_tables_are_read_in_one_transaction(serve: t.Any, database: t.Any) -> None:
    server = serve(database)
    with Ovsdb(server.remote) as db:
        db.bridges()
    transactions = [message for message in server.received if message["method"] == "transact"]
    assert [operation["table"] for operation in transactions[0]["params"][1:]] == [
        "Bridge",
        "Port",
        "Interface",
        "Controller",
    ]
    assert len(transactions) == 1


def test_schema_and_columns(serve: t.Any, database: t.Any) -> None:
    with Ovsdb(serve(database).remote) as db:
        assert db.schema_version == "8.3.1"
        assert db.has_column("Bridge", "fail_mode")
        assert not db.has_column("Bridge", "nope")
        assert not db.has_column("Nope", "name")


@pytest.mark.parametrize("present", ["false", "true", None])
def test_the_flag_replaces_whatever_was_there(serve: t.Any, database: t.Any, present: str | None) -> None:
    database.other_config.update(
        {"hw-offload": "true", **({"flow-restore-wait": present} if present else {})}
    )
    with Ovsdb(serve(database).remote) as db:
        assert db.flow_restore_wait() is (present == "true")
        db.set_flow_restore_wait(True)
        assert db.flow_restore_wait()
        assert database.other_config == {"hw-offload": "true", "flow-restore-wait": "true"}
        db.set_flow_restore_wait(False)
        assert not db.flow_restore_wait()
        assert database.other_config == {"hw-offload": "true"}


def test_keys_of_the_whole_switch_are_set_and_removed(serve: t.Any, database: t.Any) -> None:
    database.external_ids.update({"system-id": "a", "old": "1"})
    with Ovsdb(serve(database).remote) as db:
        db.set_external_ids({"old": None, "new": "2", "system-id": "b"})
        assert db.external_ids() == database.external_ids == {"system-id": "b", "new": "2"}


def test_a_database_without_its_row(serve: t.Any, database: t.Any) -> None:
    database.initialised = False
    with Ovsdb(serve(database).remote) as db:
        assert not db.flow_restore_wait()
        db.set_flow_restore_wait(False)
        with pytest.raises(HotUpgradeError, match="has no Open_vSwitch row.*ovs-vsctl --no-wait init"):
            db.set_flow_restore_wait(True)


def test_a_refused_operation_is_named_with_its_reason(serve: t.Any, database: t.Any) -> None:
    database.refuse = {"error": "constraint violation", "details": "no column nope"}
    with Ovsdb(serve(database).remote) as db, pytest.raises(HotUpgradeError) as refusal:
        db.transact({"op": "wait", "table": "Bridge"})
    assert "refused wait: constraint violation: no column nope" in str(refusal.value)


def test_a_failed_commit_is_an_error_too(serve: t.Any) -> None:
    def script(message: dict[str, t.Any]) -> list[t.Any]:
        results = [{}, {"error": "referential integrity violation"}]
        return [{"id": message["id"], "result": results, "error": None}]

    with (
        Ovsdb(serve(script).remote) as db,
        pytest.raises(HotUpgradeError, match="refused commit: referential"),
    ):
        db.transact({"op": "delete", "table": "QoS", "where": []})


def test_a_refused_method_is_named(serve: t.Any, database: t.Any) -> None:
    with (
        Ovsdb(serve(database).remote) as db,
        pytest.raises(HotUpgradeError, match="refused convert: unknown method"),
    ):
        db.call("convert", "Open_vSwitch", {})


def test_a_place_opens_its_database(serve: t.Any, database: t.Any) -> None:
    server = serve(database)
    with Connection("/nowhere", server.remote, 5.0).open() as db:
        assert (db.remote, db.flow_restore_wait()) == (server.remote, False)


SOUND = {"version": "8.3.1", "tables": {"Bridge": {"columns": {"name": {"type": "string"}}}}}


@pytest.mark.parametrize("schema", [SOUND, None, [], {"tables": 7}, {"version": 1, "tables": {}}])
@pytest.mark.parametrize(
    "answer",
    [
        None, 7, "x", {}, [], [None], [[]], [{}], [{"rows": 7}], [{"rows": [7]}], [{"rows": [{}]}],
        [{"rows": [{"name": ["map"]}]}], [{"rows": [{"name": ["set", 7]}]}], [7],
    ],
)  # fmt: skip
def test_nonsense_of_a_database_is_an_error_that_says_so(serve: t.Any, schema: t.Any, answer: t.Any) -> None:
    def script(message: dict[str, t.Any]) -> list[t.Any]:
        value = schema if message["method"] == "get_schema" else answer
        return [{"id": message["id"], "result": value, "error": None}]

    with Ovsdb(serve(script).remote) as database, contextlib.suppress(ProtocolError):
        database.select("Bridge", ("name",))
    with Ovsdb(serve(script, "2.sock").remote) as database, pytest.raises(ProtocolError, match="nonsense"):
        database.bridges()


@pytest.mark.parametrize(
    ("told", "changed"),
    [
        ({"ovs_version": "3.1.0", "db_version": "8.3.1"}, {"ovs_version": "3.5.0"}),
        ({"ovs_version": "3.1.0", "db_version": "8.3.0"}, {"ovs_version": "3.5.0", "db_version": "8.3.1"}),
        ({"ovs_version": "3.5.0", "db_version": "8.3.1"}, None),
        # Nobody has ever told it: what starts it is not ovs-ctl.
        ({"ovs_version": None, "db_version": None}, None),
    ],
)
def test_the_version_that_is_told_is_the_one_that_runs(
    serve: t.Any, database: t.Any, monkeypatch: pytest.MonkeyPatch, told: t.Any, changed: t.Any
) -> None:
    with Ovsdb(serve(database).remote) as db:
        done: list[t.Any] = []
        monkeypatch.setattr(db, "select", lambda table, columns: [{name: told[name] for name in columns}])
        monkeypatch.setattr(db, "transact", done.append)
        db.tell_versions("3.5.0")
    assert [operation["row"] for operation in done] == ([changed] if changed else [])
