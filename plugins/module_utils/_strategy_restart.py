# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The documented five steps - stop, flag, start, restore, clear - and the steps that every strategy begins with.

On the kernel datapath established flows go on through the stop; new flows wait until the flag is cleared.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils import (
    _executables,
    _held,
    _rehearsal,
    _second,
    _shaping,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._attention import attention
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._daemons import OVSDB_SERVER, VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._errors import Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._second import (
    Act,
    all_attended,
    attended,
    end_first,
    remove_dead_links,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._supervise import look, modest, stopped
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import (
    ARMED,
    PREPARED,
    Json,
    Step,
)

CONVERT = "convert the database"
RESTART_SERVER = "restart ovsdb-server"


def steps(request: Json) -> list[Step[Host]]:
    """The steps of the strategy ``restart`` for a transaction's request."""
    held = [
        Step("make the private run directory", _second.make_directory, _second.remove),
        Step("start the process that waits", _held.start, _held.end),
        Step(
            "move the new process to the service",
            lambda host: host.adopt(_held.process(host)),
        ),
    ]
    late = request["userspace"] and not request["dpdk"]
    return [
        *prepare(request),
        *database_before(request, free_try=late),
        *([] if request["dpdk"] else all_attended(held)),
        ready(),
        arm(),
        Step("set the flag", Host.raise_flag, Host.lower_flag, window=True),
        Step("restart ovs-vswitchd", _restart, Host.make_whole if request["dpdk"] else _back, window=True),
        Step("load the OpenFlow state", persistent(Host.load), window=True),
        Step("clear the flag", persistent(Host.release), window=True),
        Step("wait for the service", Host.settle, window=True) if request["dpdk"] else adopt(),
        learned(persistent),
        *database_after(request, free_try=late),
        verify(persistent),
    ]


def persistent(do: Act) -> Act:
    """Make a step go on when the database ended in it: the new ovs-vswitchd runs, and the way back would take longer."""

    def step(host: Host) -> None:
        try:
            attended(do)(host)
        except Unreachable:
            host.disconnect()
            new = look(host.rundir, VSWITCHD).process
            # Under the flag it takes no new flows anyway; stopped, it has not begun to wait between its tries to connect.
            host.ensure_server(modest if "forwarding" in host.marks else stopped)
            if host.request["dpdk"]:
                host.connect(host.old.process.pid, new)
            else:
                _second.connect(host)
            attended(do)(host)

    return step


def _restart(host: Host) -> None:
    """Replace the process; DPDK wants to give back what it has before, which the service manager knows to wait for."""
    host.require_no_other()
    if host.request["dpdk"]:
        host.end_old(lambda: host.swap(None))
        return
    server = look(host.rundir, OVSDB_SERVER).process
    _held.take_pidfile(host)
    host.end_old(lambda: end_first(host))
    host.mark("stopped")
    _held.release(host)
    with attention({OVSDB_SERVER: server}):
        _second.connect(host)
    _second.take_pidfile(host)
    host.mark("connected")


def adopt() -> Step[Host]:
    """Give the new process, which had its sockets in the private run directory until it was filled, the place of the old one."""

    def move_in(host: Host) -> None:
        _second.move_in(host, look(host.rundir, VSWITCHD).process)
        _second.tidy(host)

    return Step("adopt", move_in, window=True)


def _back(host: Host) -> None:
    """Have the old program start anew; a new process that has not got its place yet is not found there, and ends first."""
    if not os.path.islink(_second.directory(host)):
        _second.remove(host)
    host.make_whole()


def prepare(request: Json) -> list[Step[Host]]:
    """What is done while nothing is at risk."""
    return all_attended(
        [
            Step("hold the restart policies", Host.hold, _let_go),
            Step(_shaping.STEP, _shaping.leave_alone, _give_back),
            Step("take the snapshot", Host.take_snapshot),
            Step("keep the old programs and the database", _keep),
            *(
                [Step("start the new ovsdb-server dry", _rehearsal.rehearse, _rehearsal.clear)]
                if request["restart_server"]
                else []
            ),
        ]
    )


def _give_back(host: Host) -> None:
    """What cannot be told to a database that is dead would stay for good."""
    host.ensure_server()
    _shaping.give_back(host)


def _keep(host: Host) -> None:
    host.keep()
    _executables.require_kept(host.kept)


def _let_go(host: Host) -> None:
    """Under the hold, a daemon that has ended is ours to start; after it, nobody would."""
    try:
        host.fill_revived()
    finally:
        host.let_go()


def database_before(request: Json, free_try: bool = False) -> list[Step[Host]]:
    """The steps for ovsdb-server that come before those for ovs-vswitchd: all of an upgrade.

    Where the new ovs-vswitchd has a ``free_try`` (see ``_second.command_line``) and needs it, the restart waits for it.
    """
    if request["downgrade"]:
        return []
    return [*_converted(request), *([] if free_try else _server_restarted(request, False))]


def database_after(request: Json, free_try: bool = False) -> list[Step[Host]]:
    """The steps for ovsdb-server that come after those for ovs-vswitchd: all of a downgrade.

    A running ovs-vswitchd bears a schema that is newer than itself, not one that lacks columns it has asked for:
    3.5 on the schema of 3.1 asks in vain for ever (seen).
    """
    if request["downgrade"]:
        return [*_converted(request), *_server_restarted(request, free_try)]
    return _server_restarted(request, free_try) if free_try else []


def _converted(request: Json) -> list[Step[Host]]:
    return [Step(CONVERT, _convert, _rehearsal.convert_back)] if request["convert"] else []


def _server_restarted(request: Json, free_try: bool) -> list[Step[Host]]:
    if not request["restart_server"]:
        return []
    return [Step(RESTART_SERVER, lambda host: _rehearsal.restart_server(host, free_try), Host.ensure_server)]


def ready() -> Step[Host]:
    """Have the state in memory, as it is now: nothing is read from the disk in the window."""
    return Step("have the OpenFlow state ready", attended(Host.make_ready))


def arm() -> Step[Host]:
    """From here on the guard rolls back whatever is not confirmed in time."""
    return Step("arm", lambda host: host.transaction.move(PREPARED, ARMED))


def learned(careful: t.Callable[[Act], Act] = attended) -> Step[Host]:
    """Carry over what the old process had learned and OpenFlow does not show."""
    carry = careful(lambda host: host.carry_learned(host.connection))
    return Step("carry over what was learned", carry, window=True)


def verify(careful: t.Callable[[Act], Act] = attended) -> Step[Host]:
    """Compare what forwards now with the snapshot."""

    def check(host: Host) -> None:
        careful(Host.verify)(host)
        host.let_go()
        remove_dead_links(host)
        _shaping.give_back(host)

    return Step("verify", check, window=True)


def _convert(host: Host) -> None:
    _rehearsal.convert(host, host.request["schema"])
