# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Memory of the host and of processes, in bytes (proc(5)).  All raise ``HotUpgradeError`` where the kernel does not tell."""

from __future__ import annotations

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError


def available() -> int:
    """What could be taken without swapping."""
    return _bytes("/proc/meminfo", "MemAvailable:")


def resident(pid: int) -> int:
    """What a process has in memory."""
    return _bytes(f"/proc/{pid}/status", "VmRSS:")


def _bytes(path: str, key: str) -> int:
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.startswith(key):
                return int(line.split()[1]) << 10
    raise HotUpgradeError(
        f"{path} has no line {key}",
        "the kernel is not one that is known",
        "Look at the file, and at uname -r",
    )
