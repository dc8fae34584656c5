# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""New groups and flows of a bridge, waiting in the switch: in one bundle, or in several, each on its connection.

ovs-vswitchd takes at most 50 messages from a connection before it looks after everything else (``ofconn_run`` in
ofproto/connmgr.c), so over several connections a large state is in sooner.  But only one bundle is atomic.  Several are
for an empty bridge, where nobody can tell: groups come with the first of them, and table 0, through which a packet gets
into every other table, with the last.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import OpenFlow

# How often the switch is told that a bundle is still wanted, in seconds; by itself it forgets it after 10, or what is set.
_KEEP_ALIVE = 0.3

_BUNDLE = 0x6F76
_FIRST_TABLE = 0


class Bundles:
    """A bundle on ``main`` and, if the bridge is empty, one on each of ``further``, which are closed in the end.

    All speak one version.  The switch drops what is idle for ``bundle-idle-timeout`` (10 s): they are kept alive, each by a
    sign of life of its connection, however long something else takes.
    """

    def __init__(self, main: OpenFlow, further: t.Sequence[OpenFlow] = ()) -> None:
        self._main, self._further = main, further
        self._connections = [main, *further]
        self._turns = itertools.cycle(self._connections)
        for of in self._connections:
            of.post([_control(of, wire.BUNDLE_OPEN)])
            of.sign_of_life(_KEEP_ALIVE, functools.partial(_still_wanted, of))
        self._looks_at = time.monotonic() + _KEEP_ALIVE

    def fill(self, objects: t.Iterable[bytes], deletions: bytes | None = None) -> list[wire.SwitchError]:
        """Send what shall replace all groups and flows, or those of ``deletions``, as ``State.objects`` yields it.

        Returns what the switch refused of it.
        """
        gone = self._deletions() if deletions is None else deletions
        self._main.post([wire.bundled(self._main.version, _BUNDLE, gone)])
        for data in filter(None, objects):  # a table may be empty
            of = self._connection_for(data)
            of.post([wire.bundled(of.version, _BUNDLE, data)])
        return self._refused()

    def append(self, messages: t.Sequence[bytes]) -> None:
        """Send modifications that are to be made behind all others."""
        of = self._connections[-1]
        of.post([wire.bundled(of.version, _BUNDLE, b"".join(messages))] if messages else [])

    def dropped(self) -> list[wire.SwitchError]:
        """The switch's errors if it dropped one; asked as often as you like, it looks only so often."""
        if time.monotonic() < self._looks_at:
            return []
        self._looks_at = time.monotonic() + _KEEP_ALIVE
        for of in self._connections:
            of.post([_still_wanted(of)])
        return self._refused()

    def commit(self) -> list[wire.SwitchError]:
        """Make their content that of the bridge. Returns what the switch refused; the bridge is then as it was."""
        try:
            for of in self._connections:
                of.sign_of_life()
                errors = of.send([_control(of, wire.BUNDLE_COMMIT)])
                if errors:
                    self._take_back()
                    return errors
        except BaseException:
            self._take_back()
            raise
        self._close_further()
        return []

    def discard(self) -> None:
        """Forget them; the bridge is as it was."""
        self._main.sign_of_life()
        self._close_further()
        self._main.send([_control(self._main, wire.BUNDLE_DISCARD)])

    def _connection_for(self, data: bytes) -> OpenFlow:
        if not wire.is_flow_mod(data):
            return self._main
        if wire.flow_fields(data).table == _FIRST_TABLE:
            return self._connections[-1]
        return next(self._turns)

    def _refused(self) -> list[wire.SwitchError]:
        return [error for of in self._connections for error in of.send()]

    def _take_back(self) -> None:
        """Of several bundles some may be in; the bridge was empty.  One is in as a whole or not at all."""
        if self._further:
            self._close_further()
            with contextlib.suppress(HotUpgradeError):
                self._main.send([self._deletions()])

    def _close_further(self) -> None:
        for of in self._further:
            of.close()

    def _deletions(self) -> bytes:
        version = self._main.version
        return wire.delete_flows(version, self._main.xid()) + wire.delete_groups(version, self._main.xid())


def _still_wanted(of: OpenFlow) -> bytes:
    return wire.bundled(of.version, _BUNDLE, wire.keep_alive_flow_mod(of.version, of.xid()))


def _control(of: OpenFlow, what: int) -> bytes:
    return wire.bundle_control(of.version, of.xid(), _BUNDLE, what)
