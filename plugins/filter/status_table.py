# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See status_table.yml."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils import status
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.table import table


def status_table(found: t.Mapping[str, t.Any]) -> list[str]:
    """The lines for all hosts, the heading first."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return table([status.HEADING, *(status.row(host, each or None, now) for host, each in found.items())])


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name and function."""
        return {"status_table": status_table}
