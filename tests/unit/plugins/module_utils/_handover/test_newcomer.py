# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import types
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import newcomer

COLUMNS: dict[str, dict[str, t.Any]] = {"bfd": {}, "cfm_mpid": {}, "lldp": {}}


def silenced(columns: dict[str, t.Any]) -> dict[tuple[str, str], t.Any]:
    """What the copy of a database is set to: (table, column) -> value."""
    copy = types.SimpleNamespace(bridges=list, schema={"tables": {"Interface": {"columns": columns}}})
    return {
        (operation["table"], column): value
        for operation in newcomer.silence(t.cast("t.Any", copy))
        for column, value in operation.get("row", {}).items()
    }


@pytest.mark.parametrize(
    ("table", "column"),
    [
        *(("Bridge", column) for column in ("controller", "sflow", "netflow", "ipfix")),
        ("Open_vSwitch", "manager_options"),
        ("Port", "lacp"),
        *(("Interface", column) for column in COLUMNS),
    ],
)
def test_two_processes_do_not_both_speak(table: str, column: str) -> None:
    assert silenced(COLUMNS)[table, column] in (["set", []], ["map", []])


def test_a_column_that_the_schema_does_not_have_is_left_alone() -> None:
    assert ("Interface", "lldp") not in silenced({"bfd": {}})


@pytest.fixture(name="host")
def _host(world: t.Any) -> t.Any:
    return world.host


def test_the_private_directory_is_the_daemons_user_s(host: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is not root could not make its sockets and its pidfile there."""
    given: list[t.Any] = []
    monkeypatch.setattr(os, "chown", lambda *words, **__: given.append(words))
    host.services.owner("ovs-vswitchd").heritage.like.uid = 123
    newcomer.make_directory(host)
    assert given == [(newcomer.directory(host), 123, os.getegid())]


@pytest.mark.parametrize("end", [newcomer.remove, newcomer.tidy])
def test_nothing_stays_beside_the_run_directory(
    world: t.Any, host: t.Any, end: t.Callable[[t.Any], None]
) -> None:
    for suffix in (".db", ".done"):
        os.mkdir(newcomer.directory(host) + suffix)
    end(host)
    assert [each for each in os.listdir(world.place) if each != "transactions"] == ["run"]


@pytest.mark.parametrize(
    "name", ["ovs-vswitchd", "ovs-vswitchd.real", "ovs-vswitchd.distrib", "ovs-vswitchd-dpdk"]
)
def test_whatever_a_wrapper_starts_is_ended_with_the_private_directory(
    host: t.Any, tmp_path: Path, name: str
) -> None:
    """Two that forward on one datapath take the upcalls from each other; the kernel cuts a name off after 15 bytes."""
    newcomer.make_directory(host)
    program = tmp_path / name
    shutil.copy("/bin/sleep", program)
    environment = {"OVS_RUNDIR": newcomer.directory(host)}
    with subprocess.Popen([str(program), "60"], env=environment) as left_over:
        try:
            newcomer.remove(host)
            assert left_over.wait(10) == -signal.SIGKILL
        finally:
            left_over.kill()
    assert not os.path.exists(newcomer.directory(host))
