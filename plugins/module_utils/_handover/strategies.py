# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Which steps a strategy has."""

from __future__ import annotations

import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import plan
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import Request
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.steps import (
    make_before_break,
    reload,
    restart,
    standby,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.step import Step

STEPS: t.Mapping[str, t.Callable[[Request], list[Step[Host]]]] = {
    plan.MAKE_BEFORE_BREAK: make_before_break.steps,
    plan.PREFILLED: make_before_break.steps,
    plan.STANDBY: standby.steps,
    plan.RESTART: restart.steps,
    plan.RELOAD: reload.steps,
}


def steps_for(request: Request) -> list[Step[Host]]:
    """The steps of a request."""
    return STEPS[request.strategy](request)


def steps_of(host: Host) -> list[Step[Host]]:
    """The steps of the transaction."""
    return steps_for(host.request)
