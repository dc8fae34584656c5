# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""How many objects a bridge holds, and whose its flows are."""

from __future__ import annotations

import collections
import dataclasses
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import oversize
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import Switch

# So many flows are looked at one by one.  ovs-vswitchd does nothing else while it tells a table: some microseconds for each.
_MOST_LISTED = 20_000
# So many cookies are named.
_LARGEST = 5


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


@dataclasses.dataclass(frozen=True)
class CookieCounts:
    """How many flows a bridge has, how many of them have no cookie, how many cookies there are, and those of most flows.

    The last two are None where that takes a look at every flow and they are too many, or the switch may not be asked for them.
    """

    total: int
    without_cookie: int
    cookies: int | None
    largest: t.Mapping[str, int] | None


def count_cookies(path: str, timeout: float) -> CookieCounts:
    """Count the flows of the bridge behind the management socket ``path`` by their cookies.  Raises ``HotUpgradeError``."""
    with Switch(path, timeout=timeout) as switch:
        (total,), without = switch.count_flows(), switch.count_flows_of(0)
        if total > _MOST_LISTED or oversize.ends_over_large_flows(switch.software()):
            return CookieCounts(total, without, None, None)
        found = collections.Counter(cookie for cookie in switch.cookies() if cookie)
    largest = {f"0x{cookie:x}": count for cookie, count in found.most_common(_LARGEST)}
    return CookieCounts(total, without, len(found), largest)
