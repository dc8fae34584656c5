# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What a module is asked and what it answers, without Ansible: the engine runs where there is none."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Connection


@dataclasses.dataclass(frozen=True)
class Call:
    """What the playbook asked for; ``params`` are the module's options."""

    params: dict[str, t.Any]
    check_mode: bool

    @property
    def connection(self) -> Connection:
        """The place of Open vSwitch, from the options of ``CONNECTION``."""
        rundir, timeout = self.params["rundir"], self.params["timeout"]
        # Zero would never see an answer, and the ovs package waits for ever when it is negative.
        if not 0 < timeout < float("inf"):
            raise Refused(
                f"a timeout of {timeout:g} s is refused", "it must be more than 0", "Leave it at 10 s"
            )
        return Connection(
            rundir=rundir,
            remote=self.params["database"] or f"unix:{rundir}/db.sock",
            timeout=timeout,
        )


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a module returns: ``values`` as its RETURN says; ``before`` and ``after`` for diff mode.

    ``error`` makes the task fail and still returns the values (a plan, a timeline).
    """

    changed: bool
    values: t.Mapping[str, t.Any]
    before: t.Mapping[str, t.Any] | None = None
    after: t.Mapping[str, t.Any] | None = None
    error: HotUpgradeError | None = None
