# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What one hand-over is about: its request, those of its bridges that are still there, and its places on the disk.

Everything here is right in a process that did not begin the hand-over: what must be known of the time before is
in the transaction's request, the rest is looked up.
"""

from __future__ import annotations

import functools
import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.clock import boot_id
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import Request
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import management_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import homes
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Connection
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot.switch import live_bridges
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.containers import Container
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import Transaction

# How long the ovs-vswitchd that takes over may need to open all ports, and what each port adds, in seconds: 50,000 ports
# need about 60 s.  Shorter than another start, since one that hangs is found out by it, and without another nobody takes
# new flows until then.
TAKE_OVER_TIMEOUT = 30.0
TAKE_OVER_PER_PORT = 0.005


class Scope:
    """Of one transaction, for the length of one process."""

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction
        self.request = Request.read(transaction.request)
        if self.request.homes is not None:
            homes.trust(self.request.homes)
        self.deleted: frozenset[str] = frozenset()

    @property
    def kept(self) -> str:
        """The directory of what is needed to go back: old programs, old schema, the database as it was."""
        return self.transaction.file("old")

    @property
    def beside(self) -> str:
        """How the names of our own run directories begin."""
        between = homes.BESIDE if self.request.homes is None else homes.WITHIN
        return os.path.realpath(self.request.rundir) + between

    @property
    def private(self) -> str:
        """The run directory of the second process; a link to the real one when that has the place of the first."""
        return f"{self.beside}{self.transaction.id[-6:]}"

    def seen(self, name: str) -> str:
        """The path of ``name``, of this transaction, for a daemon that is to open it."""
        if self.request.homes is None:
            return self.transaction.file(name)
        return f"{self.private}.{name}"

    @functools.cached_property
    def container(self) -> Container | None:
        """Where the programs of the new version are; None for the host itself."""
        return homes.enter(self.request.homes)

    def inside(self, argv: t.Sequence[str]) -> list[str]:
        """The command that runs ``argv``, of the new version."""
        return homes.inside(self.container, argv)

    @property
    def connection(self) -> Connection:
        """Where Open vSwitch is."""
        return Connection(self.request.rundir, self.request.remote, self.request.timeout)

    @property
    def bridges(self) -> list[str]:
        """Names of all bridges at the start, without those that ``leave_deleted`` has found."""
        return [name for name in self.request.bridges if name not in self.deleted]

    @property
    def controlled(self) -> set[str]:
        """Bridges with a controller in the database: ovs-vswitchd flushes their flows when the flag is cleared."""
        return {name for name, controllers in self.request.bridges.items() if controllers}

    @property
    def take_over_timeout(self) -> float:
        """How long the ovs-vswitchd that takes over may need to open all ports, in seconds."""
        return TAKE_OVER_TIMEOUT + TAKE_OVER_PER_PORT * self.request.ports

    @property
    def rebooted(self) -> bool:
        """Whether the host was booted since the hand-over began."""
        return bool(boot_id() != self.request.boot)

    def management(self, bridge: str) -> str:
        """The bridge's OpenFlow socket."""
        return management_socket(self.request.rundir, bridge)

    def configured(self) -> frozenset[str]:
        """The bridges that the database holds now."""
        return frozenset(bridge.name for bridge in live_bridges(self.connection))

    def leave_deleted(self) -> None:
        """Leave the bridges alone that somebody has deleted since the start: nobody will ever serve their sockets."""
        self.deleted = frozenset(self.request.bridges) - self.configured()

    def look_again(self) -> None:
        """Have the bridges be those that there are now."""
        self.request = self.request.of_now(live_bridges(self.connection))
