# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""A surge pod is told, from its node, that the daemons have moved into it: its next start is that of the DaemonSet's program."""

from __future__ import annotations

import contextlib
import os

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kube.surge_pod import MARKER, MOUNT
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import OVSDB_SERVER, VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.containers import Container
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.trust import real_file


def tell(container: Container, daemons: dict[str, bool], check_mode: bool) -> bool:
    """Tell it; returns whether that is news. ``daemons``: of each one that runs, whether it is in the container.

    An ovn-controller may be in a pod of its own.  Raises ``Refused`` where not all are, or where it is no surge pod's container.
    """
    elsewhere = [name for name in (VSWITCHD, OVSDB_SERVER) if daemons.get(name) is False]
    if elsewhere or VSWITCHD not in daemons:
        raise Refused(
            f"container {container.id[:12]} is not told that the daemons are in it",
            f"{', '.join(elsewhere)} {'is' if len(elsewhere) == 1 else 'are'} not in it"
            if elsewhere
            else f"{VSWITCHD} does not run",
            "Hand the daemons over to it first: once told, its program restarts them at its next start. Nothing was touched",
        )
    folder = _folder(container.root)
    if folder is None:
        raise Refused(
            f"container {container.id[:12]} is no surge pod's",
            f"it has no folder {MOUNT}",
            "Name the container of the surge pod. Nothing was touched",
        )
    try:
        return _mark(folder, check_mode)
    finally:
        os.close(folder)


def _folder(root: str) -> int | None:
    """A descriptor of the volume, to which anybody in the container may write; the way there is root's, seen from its root."""
    parent = real_file(os.path.dirname(MOUNT), root)
    if parent is None:
        return None
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        return os.open(os.path.join(parent, os.path.basename(MOUNT)), flags)
    return None


def _mark(folder: int, check_mode: bool) -> bool:
    name = os.path.basename(MARKER)
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        if not check_mode:
            # Never what a program of the container has put in its place.
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o600, dir_fd=folder))
        return True
    return False
