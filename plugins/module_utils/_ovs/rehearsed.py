# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The record of the last rehearsal of a new version on this host."""

from __future__ import annotations

import json
import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.files import write_durable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import records

RECORDS = "var/lib/ovsops/rehearsals"
# What of it a look at the host tells.
_TOLD = ("at", "from", "to", "passed", "passed_back")


def keep(values: t.Mapping[str, t.Any], root: str = "/") -> None:
    """Write the record down; the folder is there."""
    write_durable(_path(root), json.dumps(values, indent=1).encode())


def last(root: str = "/") -> dict[str, t.Any] | None:
    """When it was, of which versions, and how it went; None where there is none that can be read."""
    return records.read(_path(root), lambda record: {name: record[name] for name in _TOLD})


def _path(root: str) -> str:
    return os.path.join(root, RECORDS, "last.json")
