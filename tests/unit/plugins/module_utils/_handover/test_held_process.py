# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real process that waits, and becomes another program when it is told to."""

from __future__ import annotations

import os
import types
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import (
    held_process,
    newcomer,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.launch import spawn
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import alive
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import (
    transaction as transactions,
)


@pytest.fixture(name="host")
def _host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[t.Any]:
    rundir = tmp_path / "run"
    rundir.mkdir()
    transaction = transactions.create({}, str(tmp_path / "transactions"))
    host = types.SimpleNamespace(
        transaction=transaction,
        services=types.SimpleNamespace(process=lambda _name: None),
        scope=types.SimpleNamespace(private=f"{os.path.realpath(rundir)}-{transaction.id[-6:]}"),
        request=types.SimpleNamespace(
            rundir=str(rundir),
            remote="unix:db.sock",
            supervisors={"ovs-vswitchd": {"program": "/bin/sh"}},
            vswitchd=types.SimpleNamespace(environment={"OLDPWD": "/old"}),
        ),
    )
    became = str(tmp_path / "became")
    program = ["/bin/sh", "-c", f"echo $$ >{became}.new; mv {became}.new {became}; exec sleep 60"]
    monkeypatch.setattr(newcomer, "command_line", lambda *__: program)
    monkeypatch.setattr(
        newcomer,
        "launch",
        lambda host, argv, *__: spawn(argv, {"OLDPWD": "/old"}, host.transaction.file("second.log")),
    )
    host.became = Path(became)
    yield host
    held_process.end(t.cast("t.Any", host))


def test_it_waits_and_then_becomes_the_program_under_the_same_pid(host: t.Any) -> None:
    held_process.start(host)
    waiting = held_process.process(host)
    assert alive(waiting)
    assert not host.became.exists()
    held_process.take_pidfile(host)
    assert Path(host.request.rundir, "ovs-vswitchd.pid").read_text() == f"{waiting.pid}\n"
    held_process.release(host)
    Waiter(30.0).wait("it is the program", host.became.exists, bool)
    assert host.became.read_text() == f"{waiting.pid}\n"
    assert alive(waiting)


def test_without_a_database_the_pidfile_goes_on_naming_the_old_process(host: t.Any) -> None:
    """That one does not end either then; a rollback that did not find it there started it anew, under traffic."""

    def process(name: str) -> t.NoReturn:
        raise Unreachable(f"{name} has ended", "", "")

    held_process.start(host)
    pidfile = Path(host.request.rundir, "ovs-vswitchd.pid")
    pidfile.write_text("1\n")
    host.services = types.SimpleNamespace(process=process)
    with pytest.raises(Unreachable, match="ovsdb-server has ended"):
        held_process.take_pidfile(host)
    assert pidfile.read_text() == "1\n"


def test_one_that_was_not_let_go_never_becomes_the_program(host: t.Any) -> None:
    held_process.start(host)
    waiting = held_process.process(host)
    held_process.end(host)
    assert not alive(waiting)
    assert not host.became.exists()
    with pytest.raises(HotUpgradeError, match="waits to become ovs-vswitchd has ended"):
        held_process.release(host)


def test_there_is_nothing_to_end_where_nothing_was_started(host: t.Any) -> None:
    with pytest.raises(Unreachable):
        held_process.process(host)
    held_process.end(host)


def test_the_shell_adds_nothing_to_the_environment(host: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newcomer, "command_line", lambda *__: ["/bin/sleep", "60"])
    held_process.start(host)
    held_process.release(host)
    place = Path(f"/proc/{held_process.process(host).pid}")

    def environment_of_the_program() -> bytes:
        # A kernel names the program before it has its environment: nothing can be read in between.
        return (place / "environ").read_bytes() if os.readlink(place / "exe").endswith("/sleep") else b""

    assert Waiter(30.0).wait("it is the program", environment_of_the_program, bool) == b"OLDPWD=/old\0"
