# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Whether this host is protected between two rollouts, and whether its daemons were restarted all the same.

The record is written by the role (tasks/protect.yml).
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.clock import boot_id
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import records

RECORD = "var/lib/ovsops/protection.json"


def look(identities: t.Mapping[str, str | None], root: str = "/") -> dict[str, t.Any] | None:
    """Since when, which packages are held, and which daemons are other processes than those that were left, or None.

    ``identities``: by the name of the daemon.  After a reboot nothing is told of processes.
    """

    def told(record: t.Any) -> dict[str, t.Any]:
        known = record["daemons"] if record["boot"] == boot_id() else {}
        restarted = [name for name, identity in known.items() if identities.get(name) != identity]
        return {"since": record["since"], "packages": list(record["packages"]), "restarted": restarted}

    return records.read(os.path.join(root, RECORD), told)
