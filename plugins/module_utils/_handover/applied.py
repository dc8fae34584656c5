# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What a hand-over writes down of its outcome, and whether the daemons of when all was applied are still there."""

from __future__ import annotations

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import attempt
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import backlog
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import (
    OVSDB_SERVER,
    VSWITCHD,
    parse_version,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process, alive
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    Json,
    Transaction,
)

# The note of one that was rolled back for a reason that may be gone at the next try.
AGAIN = "again"
# And of one whose new process could not go on with the protocols of the old one: why.
UNPRIMED = "unprimed"

# The result's entry for the daemons of when all was applied.
FORWARDS = "forwards"


def conclude(host: Host) -> Json:
    """Have the database be on the disk, and return what the result says of the hand-over."""
    flush(host)
    backlog.shorten(host)
    daemons = {name: host.services.process(name) for name in (VSWITCHD, OVSDB_SERVER)}
    return {
        **host.report.outcome(),
        "changes": host.verifier.changes,
        FORWARDS: {name: [process.pid, process.started] for name, process in daemons.items()},
    }


def flush(host: Host) -> None:
    """Have the disk have all, with the versions of now.

    Without the guard of the next boot nobody would clear a flag that a power loss brings back.
    """
    with host.database.open() as database:
        database.flush()
    attempt(lambda: _tell_versions(host))  # a word for people: nothing depends on it


def _tell_versions(host: Host) -> None:
    running = parse_version(host.services.control(VSWITCHD).call("version"))
    with host.database.open() as database:
        if running:
            database.tell_versions(running)


def applied_processes(transaction: Transaction) -> dict[str, Process]:
    """The daemons of when all was applied, by name; none when the disk had no room to say so."""
    recorded = (transaction.read("result.json") or {}).get(FORWARDS, {})
    return {name: Process(*numbers) for name, numbers in recorded.items()}


def ended_since(transaction: Transaction) -> str | None:
    """Which of these daemons has ended, in words."""
    for name, process in applied_processes(transaction).items():
        if not alive(process):
            return f"the {name} that was handed over to, process {process.pid}, has ended"
    return None
