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

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils import _held, _second, _supervise
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils import _transaction as transactions
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._errors import HotUpgradeError, Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._process import alive
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._waiting import Waiter


@pytest.fixture(name="host")
def _host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[t.Any]:
    rundir = tmp_path / "run"
    rundir.mkdir()
    transaction = transactions.create({}, str(tmp_path / "transactions"))
    host = types.SimpleNamespace(
        transaction=transaction,
        rundir=str(rundir),
        remote="unix:db.sock",
        request={"supervisors": {"ovs-vswitchd": {"program": "/bin/sh"}}},
    )
    became = str(tmp_path / "became")
    program = ["/bin/sh", "-c", f"echo $$ >{became}.new; mv {became}.new {became}; exec sleep 60"]
    monkeypatch.setattr(_second, "command_line", lambda *__: program)
    monkeypatch.setattr(
        _second,
        "launch",
        lambda host, argv, *__: _supervise.spawn(argv, os.environ, host.transaction.file("second.log")),
    )
    host.became = Path(became)
    yield host
    _held.end(host)


def test_it_waits_and_then_becomes_the_program_under_the_same_pid(host: t.Any) -> None:
    _held.start(host)
    waiting = _held.process(host)
    assert alive(waiting)
    assert not host.became.exists()
    _held.take_pidfile(host)
    assert Path(host.rundir, "ovs-vswitchd.pid").read_text() == f"{waiting.pid}\n"
    _held.release(host)
    Waiter(30.0).wait("it is the program", host.became.exists, bool)
    assert host.became.read_text() == f"{waiting.pid}\n"
    assert alive(waiting)


def test_one_that_was_not_let_go_never_becomes_the_program(host: t.Any) -> None:
    _held.start(host)
    waiting = _held.process(host)
    _held.end(host)
    assert not alive(waiting)
    assert not host.became.exists()
    with pytest.raises(HotUpgradeError, match="waits to become ovs-vswitchd has ended"):
        _held.release(host)


def test_there_is_nothing_to_end_where_nothing_was_started(host: t.Any) -> None:
    with pytest.raises(Unreachable):
        _held.process(host)
    _held.end(host)
