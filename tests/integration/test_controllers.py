# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controllers of the database against real daemons: none of them is there before its bridge is filled again."""

from __future__ import annotations

import os
import signal
import socket
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import controllers
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import state
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Ovsdb

if t.TYPE_CHECKING:
    from tests.integration.conftest import Ovs

VERSIONS = ["2.15.0", "3.1.0", "3.5.0", "4.0.0"]
COLUMNS = "target,type,inactivity_probe,external_ids,max_backoff"


def database(ovs: Ovs) -> Ovsdb:
    return Ovsdb(f"unix:{ovs.rundir}/db.sock")


def rows(ovs: Ovs) -> list[str]:
    lines = ovs.vsctl("--bare", "--format=csv", f"--columns={COLUMNS}", "list", "controller").splitlines()
    return sorted(lines)


def fill(ovs: Ovs) -> None:
    ovs.ofctl("add-flow", "br0", "cookie=1,ip actions=drop")


def flows(ovs: Ovs) -> int:
    return ovs.ofctl("dump-flows", "br0").count("cookie=0x1,")


def start_under_flag(ovs: Ovs) -> None:
    """A process looks at the flag until it has seen it cleared once."""
    old = ovs.pid()
    with database(ovs) as db:
        db.set_flow_restore_wait(True)
    os.kill(old, signal.SIGKILL)
    Waiter(10.0).wait("it has ended", lambda: Path(f"/proc/{old}").exists(), lambda there: not there)
    ovs.run("ovs-vswitchd", "--pidfile", "--detach", "--no-chdir")


@pytest.fixture(name="controller")
def _controller() -> t.Iterator[socket.socket]:
    """Where a controller waits, whom no switch has reached yet."""
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.setblocking(False)
        yield waiting


def came(controller: socket.socket) -> bool:
    try:
        controller.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("fail_mode", ["secure", "standalone"])
def test_a_controller_that_is_held_comes_when_its_bridge_is_full_and_nothing_is_flushed_for_it(
    start_ovs: t.Callable[..., Ovs], controller: socket.socket, version: str, fail_mode: str
) -> None:
    ovs = start_ovs(version)
    ovs.bridge("br0", f"fail_mode={fail_mode}")
    start_under_flag(ovs)
    controller.bind(f"{ovs.rundir}/controller.sock")
    controller.listen()
    ovs.vsctl("set-controller", "br0", "unix:controller.sock")
    ovs.vsctl("set", "controller", "br0", "max_backoff=1000", "external_ids:mine=1")
    for target in ("ptcp\\:6654\\:127.0.0.1", "nonsense"):
        create = ("--", "--id=@new", "create", "controller", f"target={target}")
        ovs.vsctl(*create, "--", "add", "bridge", "br0", "controller", "@new")
    before = rows(ovs)
    fill(ovs)
    with database(ovs) as db:
        controllers.hold(db, ["br0"])
        controllers.hold(db, ["br0"])  # again: it is not what they were before
        db.set_flow_restore_wait(False)
        ovs.vsctl("set", "bridge", "br0", "external_ids:applied=1")
        fill(ovs)
        assert (flows(ovs), came(controller)) == (1, False)
        controllers.let_go(db)
    ovs.vsctl("set", "bridge", "br0", "external_ids:applied=2")
    assert flows(ovs) == 1
    assert came(controller)
    assert rows(ovs) == before


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_flushed_where_a_controller_takes_the_place_of_its_stand_in(
    start_ovs: t.Callable[..., Ovs], version: str
) -> None:
    real, copy = start_ovs(version), start_ovs(version)
    for ovs in (real, copy):
        for name in ("br0", "br1", "br2"):
            ovs.bridge(name, "fail_mode=secure")
    real.vsctl("set-controller", "br0", "tcp:127.0.0.1:1")
    real.vsctl("set-controller", "br1", "ptcp:6654:127.0.0.1")  # a service: no flush
    fill(copy)
    with database(real) as source, database(copy) as target:
        controllers.stand_in(source, target, ["br0", "br1", "br2"])
    copy.vsctl("set", "bridge", "br0", "external_ids:applied=1")
    assert flows(copy) == 0
    assert [bool(copy.vsctl("get-controller", name).strip()) for name in ("br0", "br1", "br2")] == [
        True,
        False,
        False,
    ]
    fill(copy)
    copy.vsctl("set-controller", "br0", "tcp:127.0.0.1:1")
    assert flows(copy) == 1


def test_what_somebody_else_makes_of_a_controller_that_is_held_stays(ovs: Ovs) -> None:
    ovs.bridge("br0")
    ovs.vsctl("set-controller", "br0", "tcp:127.0.0.1:1", "ssl:127.0.0.1:2")
    with database(ovs) as db:
        controllers.hold(db, ["br0"])
        (held,) = [
            row["_uuid"]
            for row in db.select("Controller", ("_uuid", "external_ids"))
            if "ssl" in row["external_ids"][controllers.HELD]
        ]
        ovs.vsctl("set", "controller", held, "target=tcp\\:127.0.0.1\\:3")
        controllers.hold(db, ["br0"])
        controllers.let_go(db)
        controllers.let_go(db)
    assert sorted(ovs.vsctl("get-controller", "br0").split()) == ["tcp:127.0.0.1:1", "tcp:127.0.0.1:3"]
    ovs.vsctl("del-controller", "br0")
    with database(ovs) as db:
        controllers.let_go(db)
    assert not rows(ovs)


def has_fail_open_flow(ovs: Ovs) -> bool:
    return "priority=15790320," in ovs.appctl("bridge/dump-flows", "br0")


@pytest.mark.parametrize("flows_in_first_table", [0, 1])
@pytest.mark.parametrize("version", VERSIONS[1:])  # 2.15.0 fails open again at once, without a probe
def test_a_bridge_that_was_without_its_controller_once_is_read_as_a_whole(
    start_ovs: t.Callable[..., Ovs], controller: socket.socket, version: str, flows_in_first_table: int
) -> None:
    """Open vSwitch tells one flow too few of table 0 from then on, for 0 some four thousand million."""
    ovs = start_ovs(version)
    ovs.bridge("br0", "fail_mode=standalone")
    ovs.vsctl("set-controller", "br0", "unix:controller.sock")
    ovs.vsctl("set", "controller", "br0", "inactivity_probe=0", "max_backoff=1000")
    waiter = Waiter(20.0)
    waiter.wait("it has failed open", lambda: has_fail_open_flow(ovs), bool)
    controller.bind(f"{ovs.rundir}/controller.sock")
    controller.listen()
    controller.settimeout(20)
    channel, __ = controller.accept()
    with channel:
        channel.sendall(bytes.fromhex("0400000800000000 0414000800000001"))  # hello and a barrier request
        waiter.wait("its controller is back", lambda: has_fail_open_flow(ovs), lambda there: not there)
        for table in range(1 - flows_in_first_table, 2):
            ovs.ofctl("add-flow", "br0", f"table={table},cookie=1,ip actions=drop")
        with state.Switch(f"{ovs.rundir}/br0.mgmt") as switch:
            assert len([*switch.state().messages()]) == 1 + flows_in_first_table
            assert switch.about_flows() <= 2
