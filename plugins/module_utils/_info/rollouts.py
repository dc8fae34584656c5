# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Which rollout has changed the packages of this host last, and which versions were there before.

The record is written by the role (tasks/rollout.yml), before it installs anything.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import records

RECORD = "var/lib/ovsops/rollout.json"


def last(root: str = "/") -> dict[str, t.Any] | None:
    """Its id, when it came here, and the packages with their versions; None where there is none that can be read."""
    return records.read(os.path.join(root, RECORD), _told)


def _told(record: t.Any) -> dict[str, t.Any]:
    # Those of OVN are from a later version of this collection on.
    packages, ovn = _versions(record["packages"]), _versions(record.get("ovn", {}))
    return {"id": str(record["id"]), "at": str(record["at"]), "packages": packages, "ovn": ovn}


def _versions(found: t.Mapping[t.Any, t.Any]) -> dict[str, str]:
    return {str(name): str(version) for name, version in found.items()}
