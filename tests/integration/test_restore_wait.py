# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ovs_restore_wait and its timer against real daemons; without systemd, so the timer is a watcher process."""

from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Ovsdb

VERSIONS = ["2.15.0", "3.1.0", "3.5.0", "4.0.0"]


def flag(ovs: t.Any) -> bool:
    with Ovsdb(f"unix:{ovs.rundir}/db.sock") as db:
        return db.flow_restore_wait()


def traces(ovs: t.Any) -> list[str]:
    """What a timer leaves on the host."""
    folders = [Path(ovs.path(folder)) for folder in ("/run/ovsops", "/var/lib/ovsops", "/etc/systemd/system")]
    return sorted(str(path) for folder in folders for path in folder.rglob("*restore-wait*"))


@pytest.mark.parametrize("version", VERSIONS)
def test_set_and_cleared_on_every_version(start_ovs: t.Any, version: str) -> None:
    ovs = start_ovs(version)
    on = ovs.module("ovs_restore_wait", state="enabled", clear_after=3600)
    assert (on["changed"], on["flow_restore_wait"], on["timer"]["by"]) == (True, True, "watcher")
    assert flag(ovs)
    assert not ovs.module("ovs_restore_wait", state="enabled", clear_after=3600)["changed"]
    assert ovs.module("ovs_info")["flow_restore_wait"] is True
    off = ovs.module("ovs_restore_wait", state="disabled")
    assert (off["changed"], off["flow_restore_wait"], off["timer"]) == (True, False, None)
    assert not flag(ovs)
    assert not ovs.module("ovs_restore_wait", state="disabled")["changed"]
    assert traces(ovs) == []


def test_check_mode_sets_nothing(ovs: t.Any) -> None:
    result = ovs.module("ovs_restore_wait", check_mode=True, state="enabled", clear_after=60)
    assert (result["changed"], result["flow_restore_wait"]) == (True, True)
    assert not flag(ovs)
    assert traces(ovs) == []


def test_when_the_time_is_over_the_host_clears_the_flag_by_itself(ovs: t.Any) -> None:
    # The module's process, and all that Ansible would delete after it, is gone when module() returns.
    ovs.module("ovs_restore_wait", state="enabled", clear_after=5)
    assert flag(ovs)
    Waiter(60.0).wait("the host has cleared the flag", lambda: flag(ovs), lambda seen: not seen)
    Waiter(10.0).wait("nothing of the timer is left", lambda: traces(ovs), lambda left: not left)


def children(pid: int) -> list[bytes]:
    """The command lines of the processes that ``pid`` has started: it keeps the program alive."""
    numbers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{number}/cmdline").read_bytes() for number in numbers]


def test_a_database_that_is_away_at_the_deadline_is_cleared_when_it_is_back(ovs: t.Any) -> None:
    ovs.module("ovs_restore_wait", state="enabled", clear_after=5)
    (record,) = (json.loads(Path(name).read_text()) for name in traces(ovs) if name.endswith(".armed"))
    pid = record["process"][0]
    ovs.service("stop")
    Waiter(60.0).wait(
        "the timer's program has started",
        lambda: children(pid),
        lambda commands: any(b"guard.py" in command and b"time.sleep" not in command for command in commands),
        repr,
    )
    ovs.service("start")
    Waiter(60.0).wait("the host has cleared the flag", lambda: flag(ovs), lambda seen: not seen)
    Waiter(10.0).wait(
        "the program has ended", lambda: os.path.exists(f"/proc/{pid}/root"), lambda seen: not seen
    )
    assert traces(ovs) == []


def test_a_new_vswitchd_waits_with_the_flag_and_forwards_without(ovs: t.Any) -> None:
    ovs.bridge("br0", "fail_mode=secure")
    ends = ovs.endpoints("br0")
    ping = ("ip", "netns", "exec", ends.sender, "ping", "-c1", "-W2", ends.address)
    ovs.ofctl("add-flow", "br0", "actions=normal")
    ovs.run(*ping)
    ovs.module("ovs_restore_wait", state="enabled", clear_after=600)
    ovs.service("restart")
    ovs.ofctl("add-flow", "br0", "actions=normal")
    with pytest.raises(Exception, match="100% packet loss"):
        ovs.run(*ping)
    ovs.module("ovs_restore_wait", state="disabled")
    ovs.run(*ping)


def test_a_stopped_database_is_told(ovs: t.Any) -> None:
    ovs.service("stop")
    result = ovs.module("ovs_restore_wait", state="enabled", clear_after=60)
    assert result["failed"] is True
    assert result["error"]["kind"] == "Unreachable"
    assert traces(ovs) == []


def test_without_open_vswitch(start_ovs: t.Any) -> None:
    result = start_ovs(None).module("ovs_restore_wait", state="disabled")
    assert result["failed"] is True
    assert "cannot connect" in result["msg"]
