# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import (
    Appctl,
    daemon_socket,
    read_pid,
)


def test_a_command_and_its_arguments_as_they_are(serve: t.Any) -> None:
    server = serve(lambda m: [{"id": m["id"], "result": "text\n", "error": None}], "ovs-vswitchd.1.ctl")
    assert Appctl(str(server.path)).call("ofproto/trace", 'br "0" $(x)', "in_port=1") == "text\n"
    assert server.received[0]["method"] == "ofproto/trace"
    assert server.received[0]["params"] == ['br "0" $(x)', "in_port=1"]


def test_a_refusal_names_daemon_and_command(serve: t.Any) -> None:
    server = serve(
        lambda m: [{"id": m["id"], "result": None, "error": "unknown bridge\n"}], "ovs-vswitchd.1.ctl"
    )
    with pytest.raises(HotUpgradeError) as refusal:
        Appctl(str(server.path)).call("fdb/show", "nope")
    assert str(refusal.value).startswith("ovs-vswitchd.1.ctl refused the command fdb/show: unknown bridge. ")


def test_the_socket_is_found_by_the_pidfile(tmp_path: Path) -> None:
    (tmp_path / "ovs-vswitchd.pid").write_text("4711\n")
    assert daemon_socket(str(tmp_path), "ovs-vswitchd") == f"{tmp_path}/ovs-vswitchd.4711.ctl"


def test_without_a_pidfile(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"cannot read the pidfile .*ovs-vswitchd\.pid: No such file"):
        daemon_socket(str(tmp_path), "ovs-vswitchd")


@pytest.mark.parametrize("content", ["", "-1", "0", "1_0", "12 34", "x", "9" * 11, "7\n" * 100_000, "\0"])
def test_a_pidfile_without_a_number(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.pid").write_text(content)
    with pytest.raises(Unreachable, match="holds no process id"):
        read_pid(str(tmp_path / "x.pid"))


def test_a_pidfile_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.pid")
    with pytest.raises(Unreachable, match="it is no regular file"):
        read_pid(str(tmp_path / "x.pid"))


@pytest.mark.parametrize("target", ["/etc/shadow", "/dev/zero", "other.pid"])
def test_a_pidfile_that_is_a_link_is_not_followed(tmp_path: Path, target: str) -> None:
    (tmp_path / "other.pid").write_text("7\n")
    (tmp_path / "x.pid").symlink_to(target)
    with pytest.raises(Unreachable, match="cannot read the pidfile"):
        read_pid(str(tmp_path / "x.pid"))
