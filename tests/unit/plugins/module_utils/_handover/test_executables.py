# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the services will execute must be there, and run."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import executables
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Completed
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.unit_files import (
    Command,
    Origin,
    Service,
    Text,
)

TOOLS = ("ovsdb-server", "ovs-vswitchd", "ovsdb-tool", "ovs-vsctl", "ovs-appctl", "ovs-ofctl")
SCRIPTS = ("ovs-ctl", "ovs-lib", "ovs-save")


def answering(**answers: Completed) -> t.Any:
    return lambda argv, timeout=30.0: answers.get(
        Path(argv[0]).name.replace("-", "_"), Completed(0, "3.5.0", "")
    )


@pytest.fixture(name="service")
def _service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    """A unit of which everything is there."""
    for name in (*TOOLS, *SCRIPTS, "extra"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(executables, "PATH", str(tmp_path))
    monkeypatch.setattr(executables, "doubt_of_file", lambda path: None)
    origin = Origin("/usr/lib/systemd/system/ovsdb-server.service", 7)
    commands = [
        Command("ExecStartPre", (Text("/nowhere", origin),), "-"),
        Command("ExecStartPre", (Text(str(tmp_path / "extra"), origin),)),
        Command("ExecStart", (Text(str(tmp_path / "ovs-ctl"), origin), Text("start", origin))),
        Command("ExecStop", (Text(str(tmp_path / "ovs-ctl"), origin), Text("stop", origin))),
    ]
    return Service("ovsdb-server.service", tuple(commands), {}, None, None, ())


def test_nothing_is_missing(service: Service) -> None:
    assert executables.missing([service, None], answering()) == ()


@pytest.mark.parametrize("name", [*TOOLS, *SCRIPTS, "extra"])
def test_each_thing_that_is_missing_is_named_once_and_where_it_is_run(
    service: Service, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).unlink()
    found = executables.missing([service, service], answering())
    assert len(found) == 1
    assert name in found[0]
    assert "ovsdb-server.service, line 7" in found[0]


def test_a_tool_that_does_not_run_is_named_with_its_words(service: Service) -> None:
    broken = answering(ovsdb_tool=Completed(127, "", "libx.so: cannot open shared object file"))
    (found,) = executables.missing([service], broken)
    assert "ovsdb-tool" in found
    assert "libx.so" in found


def test_a_tool_that_others_can_change_is_not_run(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executables, "doubt_of_file", lambda path: f"{path} belongs to nobody")
    found = executables.missing([service], lambda argv, timeout=30.0: pytest.fail(f"{argv} was run"))
    assert len(found) == len(TOOLS)
    assert all("belongs to nobody" in text for text in found)


def test_a_kept_program_that_does_not_run_is_no_way_back() -> None:
    executables.require_kept("/kept", answering())
    with pytest.raises(HotUpgradeError, match="no rollback.*libx"):
        executables.require_kept("/kept", answering(env=Completed(127, "", "libx.so")))
