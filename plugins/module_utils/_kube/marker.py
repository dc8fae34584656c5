# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""A surge pod is told, from its node, that the daemons have moved into it: its next start is that of the DaemonSet's program."""

from __future__ import annotations

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
    # As the container sees it: a link there leads from its root on.
    folder = real_file(MOUNT, container.root)
    if folder is None or not os.path.isdir(folder):
        raise Refused(
            f"container {container.id[:12]} is no surge pod's",
            f"it has no folder {MOUNT}",
            "Name the container of the surge pod. Nothing was touched",
        )
    marker = os.path.join(folder, os.path.relpath(MARKER, MOUNT))
    if os.path.lexists(marker):
        return False
    if not check_mode:
        # Never what a program of the container has put in its place.
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    return True
