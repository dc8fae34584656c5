# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Meters told again: a switch tells its datapath of a meter when that is added or modified, and never else.

So whoever shares the meters of a kernel datapath with another process, or has lost some there, needs it.
"""

from __future__ import annotations

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import OpenFlow
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.follower import (
    Changes,
    meter_configs,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.monitor import forward_request

# So often somebody else may change one while we look what others have changed.
_MOST_ROUNDS = 10


def tell_again(of: OpenFlow) -> list[str]:
    """Have the switch tell its datapath all its meters, whose buckets are full then; what it refuses, a sentence each."""
    return _modify(of, meter_configs(of))


def tell_again_beside_others(of: OpenFlow) -> list[str]:
    """The same on a connection of our own where others may change meters at this moment: what they say stays."""
    of.listens, others = True, Changes()
    of.exchange([forward_request(of.version, of.xid())])
    refused = tell_again(of)
    for __ in range(_MOST_ROUNDS):
        others.meters.clear()
        while of.told:
            others.take(of.told.popleft())
        if not others.meters:
            break
        refused += _modify(
            of, {meter: config for meter, config in others.meters.items() if config is not None}
        )
    return refused


def _modify(of: OpenFlow, meters: dict[int, bytes]) -> list[str]:
    """Modify ``meters``; one that somebody has deleted meanwhile is none."""
    messages = [
        wire.meter_mod(of.version, of.xid(), wire.METER_MODIFY, meter, config)
        for meter, config in meters.items()
    ]
    return [
        f"{of.name}: meter {wire.meter_of(message)[0]}: {error.name}"
        for message, error in of.refusals(messages)
        if error.name != "OFPMMFC_UNKNOWN_METER"
    ]
