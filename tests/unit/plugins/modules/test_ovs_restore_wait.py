# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._restore_wait.flag import RestoreWait
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.detached import WatcherLauncher
from ansible_collections.ovsops.hot_upgrade.plugins.modules import ovs_restore_wait

Json = dict[str, t.Any]


class Module:
    """The module on a host in a folder, with a real watcher process."""

    def __init__(self, serve: t.Any, database: t.Any, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.server = serve(database)
        self.rundir = str(self.server.path.parent)
        self.root = root
        self.capsys = capsys

    def __call__(self, check: bool = False, **arguments: t.Any) -> Json:
        everything = {"rundir": self.rundir, "_ansible_check_mode": check, "_ansible_diff": True, **arguments}
        with patch_module_args(everything), pytest.raises(SystemExit):
            ovs_restore_wait.main()
        return t.cast("Json", json.loads(self.capsys.readouterr().out))


@pytest.fixture
def module(
    serve: t.Any,
    database: t.Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> t.Iterator[Module]:
    root = tmp_path / "host"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        ovs_restore_wait,
        "RestoreWait",
        lambda connection: RestoreWait(connection, str(root), WatcherLauncher(str(root))),
    )
    module = Module(serve, database, root, capsys)
    yield module
    module(state="disabled")


def test_set_and_cleared(module: Module, database: t.Any) -> None:
    on = module(state="enabled", clear_after=3600)
    assert on["changed"] is True
    assert on["flow_restore_wait"] is True
    assert (on["timer"]["seconds"], on["timer"]["by"], on["timer"]["unit"]) == (
        3600.0,
        "watcher",
        None,
    )
    assert database.other_config == {"flow-restore-wait": "true"}
    assert on["diff"]["before"] == {"flow_restore_wait": False, "timer": None, "boot_guard": None}
    assert on["diff"]["after"]["flow_restore_wait"] is True
    off = module(state="disabled")
    assert off["changed"] is True
    assert (off["flow_restore_wait"], off["timer"]) == (False, None)
    assert database.other_config == {}


def test_twice_is_once(module: Module) -> None:
    first = module(state="enabled", clear_after=3600)
    second = module(state="enabled", clear_after=3600)
    assert second["changed"] is False
    # When it ends is told from how long it still runs, and the clock may come to the next second.
    assert {**second["timer"], "expires": None} == {**first["timer"], "expires": None}
    assert module(state="enabled")["changed"] is False
    assert module(state="enabled", clear_after=1800)["changed"] is True
    assert module(state="disabled")["changed"] is True
    assert module(state="disabled")["changed"] is False


def test_check_mode_touches_nothing(module: Module, database: t.Any) -> None:
    result = module(check=True, state="enabled", clear_after=3600)
    assert (result["changed"], result["flow_restore_wait"]) == (True, True)
    assert result["timer"]["seconds"] == 3600.0
    assert result["diff"]["after"]["flow_restore_wait"] is True
    assert database.other_config == {}
    assert not module.root.exists()


def test_a_deadline_that_makes_no_sense_is_refused_in_check_mode_too(module: Module) -> None:
    for check in (True, False):
        result = module(check=check, state="enabled", clear_after=1)
        assert result["failed"] is True
        assert result["error"]["kind"] == "Refused"


def test_no_database(module: Module, tmp_path: Path) -> None:
    result = module(state="enabled", rundir=str(tmp_path / "none"))
    assert "cannot connect to unix:" in result["msg"]
    assert result["error"]["kind"] == "Unreachable"


def test_every_value_is_documented(module: Module) -> None:
    result = module(state="enabled", clear_after=3600)
    documented = yaml.safe_load(ovs_restore_wait.RETURN)
    assert set(documented) == set(result) - {"changed", "diff", "invocation"}
    assert set(documented["timer"]["contains"]) == set(result["timer"])
