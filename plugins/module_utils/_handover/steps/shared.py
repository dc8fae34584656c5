# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The steps that strategies share: what each begins and ends with."""

from __future__ import annotations

import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import (
    backlog,
    executables,
    newcomer,
    rehearsal,
    shaping,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.newcomer import (
    Act,
    all_attended,
    attended,
    remove_dead_links,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import Request
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.step import Step
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    ARMED,
    PREPARED,
)

HOLD_RESTARTS = "hold the restart policies"
CONVERT = "convert the database"
RESTART_SERVER = "restart ovsdb-server"


def prepare(request: Request) -> list[Step[Host]]:
    """What is done while nothing is at risk."""
    return all_attended(
        [
            Step(HOLD_RESTARTS, lambda host: host.services.hold(), _let_go),
            *backlog.lengthen(request),
            Step(shaping.STEP, shaping.leave_alone, _give_back),
            Step("take the snapshot", lambda host: host.snapshot.take()),
            Step("keep the old programs and the database", _keep),
            *(
                [Step("start the new ovsdb-server dry", rehearsal.rehearse, rehearsal.clear)]
                if request.restart_server
                else []
            ),
        ]
    )


def _give_back(host: Host) -> None:
    """What cannot be told to a database that is dead would stay for good."""
    host.database.ensure()
    shaping.give_back(host)


def _keep(host: Host) -> None:
    host.database.keep()
    if host.request.homes is None:
        executables.require_kept(host.scope.kept)


def _let_go(host: Host) -> None:
    """Under the hold, a daemon that has ended is ours to start; after it, nobody would."""
    try:
        host.recovery.fill_revived()
    finally:
        host.services.let_go()


def database_before(request: Request, free_try: bool = False) -> list[Step[Host]]:
    """The steps for ovsdb-server that come before those for ovs-vswitchd: all of an upgrade.

    In userspace the restart waits for the new ovs-vswitchd: it has a ``free_try`` (see ``newcomer.command_line``), or is
    ``apart``.
    """
    if request.downgrade:
        return []
    return [*_converted(request), *([] if free_try else _server_restarted(request, False))]


def database_after(request: Request, free_try: bool = False) -> list[Step[Host]]:
    """The steps for ovsdb-server that come after those for ovs-vswitchd: all of a downgrade.

    A running ovs-vswitchd bears a schema that is newer than itself, not one that lacks columns it has asked for:
    3.5 on the schema of 3.1 asks in vain for ever (seen).
    """
    if request.downgrade:
        return [*_converted(request), *_server_restarted(request, free_try)]
    return _server_restarted(request, free_try) if free_try else []


def _converted(request: Request) -> list[Step[Host]]:
    return [Step(CONVERT, _convert, rehearsal.convert_back)] if request.convert else []


def _server_restarted(request: Request, free_try: bool) -> list[Step[Host]]:
    if not request.restart_server:
        return []
    return [
        Step(
            RESTART_SERVER,
            lambda host: rehearsal.restart_server(host, free_try),
            lambda host: host.database.put_server_back(free_try),
        )
    ]


def flag() -> Step[Host]:
    """Have the next ovs-vswitchd wait for its flows."""
    return Step(
        "set the flag",
        lambda host: host.database.raise_flag(),
        lambda host: host.database.lower_flag(),
        window=True,
    )


def filled(careful: t.Callable[[Act], Act] = attended) -> list[Step[Host]]:
    """Fill the new process, and have it begin its work."""
    return [
        Step("load the OpenFlow state", careful(lambda host: host.filler.load()), window=True),
        Step("clear the flag", careful(lambda host: host.filler.release()), window=True),
    ]


def ready() -> Step[Host]:
    """Have the state in memory, as it is now: nothing is read from the disk in the window."""
    return Step("have the OpenFlow state ready", attended(lambda host: host.filler.make_ready()))


def arm() -> Step[Host]:
    """From here on the guard rolls back whatever is not confirmed in time."""
    return Step("arm", lambda host: host.transaction.move(PREPARED, ARMED))


def learned(careful: t.Callable[[Act], Act] = attended) -> Step[Host]:
    """Carry over what the old process had learned and OpenFlow does not show."""
    carry = careful(lambda host: host.filler.carry_learned(host.scope.connection))
    return Step("carry over what was learned", carry, window=True)


def verify(careful: t.Callable[[Act], Act] = attended) -> Step[Host]:
    """Compare what forwards now with the snapshot."""

    def check(host: Host) -> None:
        careful(lambda host: host.verifier.verify())(host)
        host.services.let_go()
        remove_dead_links(host)
        shaping.give_back(host)

    return Step("verify", check, window=True)


def _convert(host: Host) -> None:
    rehearsal.convert(host, host.request.schema)


def adopt() -> Step[Host]:
    """Give the new process, which had its sockets in the private run directory until it was filled, the place of the old one."""

    def move_in(host: Host) -> None:
        newcomer.move_in(host)
        newcomer.tidy(host)

    return Step("adopt", move_in, window=True)
