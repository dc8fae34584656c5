# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The reload of the kernel module as an operation: a hand-over whose datapath goes away in between."""

from __future__ import annotations

import dataclasses

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import operation
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import RELOAD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    CONFIRMED,
    ROLLED_BACK,
)

# ``stand-in`` is there only where a power loss has ended it.
_HEAVY = ("new.ko", "old.ko", "gap.json", "stand-in")

OPERATION = dataclasses.replace(
    operation.OPERATION,
    name=RELOAD,
    module=__name__,
    heavy={state: (*operation.HEAVY[state], *_HEAVY) for state in (CONFIRMED, ROLLED_BACK)},
)
