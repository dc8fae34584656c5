# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""How the parts of a hand-over reach what is outside of the engine: tests pass others."""

from __future__ import annotations

import dataclasses
import socket
import struct
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Clock
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners.choice import of_json
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners.owner import Owner
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import Switch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import Instance, running
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.kernel_meters import clear_the_way
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Ovsdb
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Runner, run
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.sockets import connect_unix
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import Json

# How long a bridge's socket may accept nobody before it counts as not served yet, in seconds.
SERVER_TIMEOUT = 1.0


def server_of(path: str) -> int | None:
    """The process that listens on the socket ``path``, or None (SO_PEERCRED, unix(7))."""
    try:
        client = connect_unix(path, SERVER_TIMEOUT)
    except OSError:
        return None
    with client:
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[0])


@dataclasses.dataclass(frozen=True)
class Outside:
    """The clock, commands, and who opens what.

    ``running`` finds the daemon that a run directory's pidfile names, ``owner`` makes who owns it from the request's record;
    ``clear_the_way`` is that of ``kernel_meters``.
    """

    clock: Clock = time
    run: Runner = run
    open_database: t.Callable[[str, float], Ovsdb] = Ovsdb
    open_switch: t.Callable[[str], Switch] = Switch
    server_of: t.Callable[[str], int | None] = server_of
    running: t.Callable[[str, str], Instance] = running
    owner: t.Callable[[str, str, Json, t.Sequence[str]], Owner] = of_json
    clear_the_way: t.Callable[[], list[int]] = clear_the_way


OUTSIDE = Outside()
