# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The snapshot that is restored: taken by the hand-over itself, and kept up to date until the old process ends."""

from __future__ import annotations

import os

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.living import Living
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.scope import Scope
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import text
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.compare import (
    BY_ITSELF,
    Difference,
    compare,
    leaving_devices,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import State
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import directory, switch


class OwnSnapshot:
    """In the transaction's directory; where none was taken yet, it is that of the option ``snapshot``."""

    def __init__(self, scope: Scope, living: Living) -> None:
        self._scope, self._living = scope, living

    @property
    def path(self) -> str:
        """Its directory."""
        own = self._scope.transaction.file("snapshot")
        return own if os.path.isdir(own) else str(self._scope.request.snapshot)

    @property
    def exists(self) -> bool:
        """Whether there is something to restore."""
        return os.path.isdir(self.path)

    def read(self) -> directory.Snapshot:
        """What it holds."""
        return directory.read(self.path)

    def take(self) -> None:
        """Take it, and follow from here on what others change; say what did since the one that was given."""
        self._follow()
        self._take()
        given = self._scope.request.snapshot
        if given is not None:
            self._scope.transaction.note(changed_since_snapshot=self._changed_since(given))

    def take_anew(self) -> None:
        """Have it hold what forwards now, of the bridges that there are now: it is what a rollback gives again."""
        self._scope.look_again()
        self._follow()
        self._take()

    def renew(self) -> None:
        """Have it hold what the bridges hold now: what is told of a change later lacks flags."""
        if self._living.changed() or self._living.unfollowed:
            self._take()

    def rest_on_now(self, path: str) -> None:
        """Have ``Living`` rest on what the bridges hold now, by another snapshot in ``path``."""
        switch.take(self._scope.connection, path)
        snapshot = directory.read(path)
        self._living.rest_on({name: snapshot.state(name) for name in self._scope.bridges})

    def now(self, snapshot: directory.Snapshot, name: str) -> State:
        """What ``snapshot`` holds of the bridge, with all that was changed since."""
        return self._living.now(name, leaving_devices(snapshot.state(name)))

    def _follow(self) -> None:
        self._living.follow({name: self._scope.management(name) for name in self._scope.bridges})

    def _take(self) -> None:
        self._living.forget()
        self.rest_on_now(self._scope.transaction.file("snapshot"))

    def _changed_since(self, path: str) -> dict[str, str]:
        given, own = directory.read(path), self.read()
        known = {bridge.name for bridge in given.bridges}
        found = {
            name: compare(given.state(name), own.state(name), BY_ITSELF)
            for name in self._scope.bridges
            if name in known
        }
        return {name: in_words(difference) for name, difference in found.items() if difference}


def in_words(difference: Difference) -> str:
    """A difference in one line of OpenFlow text."""
    parts = []
    for what, count, messages in (
        ("missing", difference.missing_count, difference.missing),
        ("extra", difference.extra_count, difference.extra),
    ):
        if count:
            parts.append(f"{count} {what}, as {text.line(messages[0])}")
    return "; ".join(parts)
