# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""How many objects a bridge holds."""

from __future__ import annotations

import dataclasses

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import Switch


@dataclasses.dataclass(frozen=True)
class ObjectCounts:
    """How many objects a bridge holds in OpenFlow."""

    flows: int
    groups: int
    meters: int
    tlvs: int


def count(path: str, timeout: float) -> ObjectCounts:
    """Count what the bridge behind the management socket ``path`` holds.  Raises ``HotUpgradeError``."""
    with Switch(path, timeout=timeout) as switch:
        settings = switch.settings()
        return ObjectCounts(
            flows=switch.count_flows()[0],
            groups=len(switch.groups()),
            meters=len(settings.meters),
            tlvs=len(settings.tlvs),
        )
