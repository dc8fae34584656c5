# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._info import host_info
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.counts import (
    CookieCounts,
    ObjectCounts,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import daemons, ovn
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Connection
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.schema import SCHEMA_FILES
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Completed
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process


def nothing(argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
    return Completed(1, "", "")


def daemon(name: str, running: str | None, disk: str | None, replaced: bool = False) -> daemons.Daemon:
    process = Process(1, 2) if running else None
    binary = f"/usr/sbin/{name}" if disk else None
    return daemons.Daemon(name, f"/run/{name}.pid", process, "root", running, disk, binary, replaced, None)


@pytest.mark.parametrize(
    ("vswitchd", "schema", "reasons"),
    [
        (("3.5.0", "3.5.0", False), ("8.8.0", "8.8.0"), []),
        (("3.5.0", "4.0.0", True), ("8.8.0", "8.8.0"), ["ovs-vswitchd runs 3.5.0, 4.0.0 is on disk"]),
        (
            ("3.5.0", "3.5.0", True),
            ("8.8.0", "8.8.0"),
            ["ovs-vswitchd runs from a file that was replaced since it was started"],
        ),
        (("3.5.0", "3.5.0", False), ("8.3.0", "8.8.0"), ["the database has schema 8.3.0, 8.8.0 is on disk"]),
        ((None, "4.0.0", False), (None, "8.8.0"), []),
        (("3.5.0", None, True), ("8.3.0", None), []),
    ],
)
def test_why_an_upgrade_is_due(
    vswitchd: tuple[t.Any, t.Any, bool], schema: tuple[str | None, str | None], reasons: list[str]
) -> None:
    found = [daemon("ovs-vswitchd", *vswitchd)]
    assert host_info.pending(found, dict(zip(("running", "disk"), schema))) == reasons


def bridge(ports: int, **counts: int) -> dict[str, t.Any]:
    return {"ports": [None] * ports, "counts": {"flows": 0, "groups": 0, "meters": 0, "tlvs": 0, **counts}}


def test_totals() -> None:
    assert host_info.totals([bridge(2, flows=5, groups=1), bridge(1, flows=2, meters=3, tlvs=4)]) == {
        "bridges": 2,
        "ports": 3,
        "flows": 7,
        "groups": 1,
        "meters": 3,
        "tlvs": 4,
    }
    assert host_info.totals([])["flows"] == 0


def test_a_bridge_that_did_not_answer_makes_the_sums_unknown() -> None:
    sums = host_info.totals([bridge(2, flows=5), {"ports": [None], "counts": None}])
    assert (sums["ports"], sums["flows"], sums["groups"]) == (3, None, None)


def place(tmp_path: Path) -> Connection:
    return Connection(str(tmp_path), f"unix:{tmp_path}/db.sock", 5.0)


def test_a_host_without_open_vswitch(tmp_path: Path) -> None:
    assert not host_info.present(place(tmp_path), str(tmp_path))
    found = host_info.gather(place(tmp_path), str(tmp_path), nothing)
    assert found["installed"] is False
    assert found["upgrade_pending"] is False
    assert (found["flow_restore_wait"], found["bridges"], found["database_error"]) == (None, [], "")
    assert found["module_support"]["supported"] is None
    assert set(found["daemons"]) == {"ovs-vswitchd", "ovsdb-server"}


def test_a_host_where_it_is_stopped(tmp_path: Path) -> None:
    binary = tmp_path / "usr/sbin/ovs-vswitchd"
    binary.parent.mkdir(parents=True)
    binary.touch(0o755)
    schema = tmp_path / SCHEMA_FILES[0]
    schema.parent.mkdir(parents=True)
    schema.write_text('{"name": "Open_vSwitch", "version": "8.8.0"}')
    assert host_info.present(place(tmp_path), str(tmp_path))
    found = host_info.gather(place(tmp_path), str(tmp_path), nothing)
    assert found["installed"] is True
    assert found["schema"] == {"running": None, "disk": "8.8.0"}
    assert found["flow_restore_wait"] is None
    assert "No such file or directory" in found["database_error"]


def test_the_database_is_told_but_no_key(
    serve: t.Any, database: t.Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = 'a "b" $(x)'
    database.other_config.update({"flow-restore-wait": "true", "hw-offload": "True"})
    database.add("Manager", "m", target="ptcp:6640:127.0.0.1")
    database.add(
        "Interface", "i", name="ipsec0", type="vxlan", options=["map", [["psk", "swordfish"], ["key", "7"]]]
    )
    database.add("Port", "p", name="ipsec0", interfaces=["uuid", "i"])
    database.add("Bridge", "b", name=name, ports=["uuid", "p"])
    serve(database)
    asked: list[str] = []

    def count(path: str, timeout: float) -> ObjectCounts:
        asked.append(path)
        return ObjectCounts(5, 1, 2, 3)

    monkeypatch.setattr(host_info, "count", count)
    running = daemon("ovs-vswitchd", "3.5.0", "3.5.0")
    monkeypatch.setattr(daemons, "inspect", lambda name, *rest, home: running)
    found = host_info.gather(place(tmp_path), str(tmp_path), nothing)
    assert (found["flow_restore_wait"], found["hw_offload"]) == (True, True)
    assert found["managers"] == ["ptcp:6640:127.0.0.1"]
    assert found["datapath_types"] == ["netdev", "system"]
    assert found["schema"]["running"] == "8.3.1"
    assert asked == [f"{tmp_path}/{name}.mgmt"]
    (told,) = found["bridges"]
    assert told["counts"] == {"flows": 5, "groups": 1, "meters": 2, "tlvs": 3}
    assert told["interfaces"][0]["options"] == {"key": "7"}
    assert "swordfish" not in repr(found)
    assert found["totals"]["flows"] == 5


def test_a_hanging_vswitchd_is_not_asked_bridge_by_bridge(
    serve: t.Any, database: t.Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.add("Bridge", "b", name="br0")
    serve(database)
    hanging = daemons.Daemon("ovs-vswitchd", "x", Process(1, 2), "root", None, "3.5.0", "/x", False, None)
    monkeypatch.setattr(daemons, "inspect", lambda name, *rest, home: hanging)
    monkeypatch.setattr(host_info, "count", lambda path, timeout: pytest.fail("asked"))
    (told,) = host_info.gather(place(tmp_path), str(tmp_path), nothing)["bridges"]
    assert (told["counts"], told["counts_error"]) == (None, "ovs-vswitchd does not answer")


def test_one_bad_bridge_does_not_hide_the_others(
    serve: t.Any, database: t.Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.add("Bridge", "b0", name="bad")
    database.add("Bridge", "b1", name="good")
    serve(database)

    def count(path: str, timeout: float) -> ObjectCounts:
        if path.endswith("/bad.mgmt"):
            raise Unreachable("cannot connect to bad.mgmt")
        return ObjectCounts(1, 0, 0, 0)

    monkeypatch.setattr(host_info, "count", count)
    running = daemon("ovs-vswitchd", "3.5.0", "3.5.0")
    monkeypatch.setattr(daemons, "inspect", lambda name, *rest, home: running)
    bad, good = host_info.gather(place(tmp_path), str(tmp_path), nothing)["bridges"]
    assert (bad["counts"], bad["counts_error"]) == (None, "cannot connect to bad.mgmt")
    assert good["counts"]["flows"] == 1


@pytest.mark.parametrize("count", [2, 101])
def test_a_chassis(
    serve: t.Any, database: t.Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    serve(database)
    zones = {f"lsp{number}": number for number in range(count)}
    chassis = ovn.Chassis(daemon("ovn-controller", "25.03.0", "25.03.0"), "host1", "br-ovn", {}, True, zones)
    monkeypatch.setattr(ovn, "look", lambda *_: chassis)
    running = [daemon("ovs-vswitchd", "3.5.0", "3.5.0")]
    monkeypatch.setattr(daemons, "inspect", lambda name, *rest, home: running[0])

    def count_cookies(path: str, timeout: float) -> CookieCounts:
        if not path.endswith("/br-ovn.mgmt"):
            pytest.fail(path)
        return CookieCounts(9, 1, 3, {"0x7": 6})

    monkeypatch.setattr(host_info, "count_cookies", count_cookies)
    told = host_info.gather(place(tmp_path), str(tmp_path), nothing)["ovn"]
    assert (told["zones"], told["zone_numbers"]) == (count, zones if count == 2 else None)
    assert told["flows"] == {"total": 9, "without_cookie": 1, "cookies": 3, "largest": {"0x7": 6}}
    running[0] = daemons.Daemon("ovs-vswitchd", "x", Process(1, 2), "root", None, "3.5.0", "/x", False, None)
    assert host_info.gather(place(tmp_path), str(tmp_path), nothing)["ovn"]["flows"] is None
