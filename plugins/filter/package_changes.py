# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See package_changes.yml."""

from __future__ import annotations

import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.package_changes import changes


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name and function."""
        return {"package_changes": changes}
