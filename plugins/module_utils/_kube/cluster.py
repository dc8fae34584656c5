# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What is asked of a cluster, and how it may refuse: whoever acts here gets somebody who does it (``client``)."""

from __future__ import annotations

import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)

Json = dict[str, t.Any]


class Conflict(Unreachable):
    """Somebody else has changed the object meanwhile: look again, and try again."""


class Missing(HotUpgradeError):
    """There is no such object."""


class Cluster(t.Protocol):
    """One DaemonSet of a cluster, and what belongs to it.

    Every method raises ``Unreachable`` where the API server does not answer, or cannot at the moment, and ``Refused`` where
    it does not allow that.
    """

    def daemonset(self) -> Json:
        """The DaemonSet; raises ``Missing``."""

    def patch_daemonset(self, patch: Json) -> Json:
        """Change it by a strategic merge patch; raises ``Conflict`` if the patch names an older version of it."""

    def revisions(self) -> list[Json]:
        """The ControllerRevisions of its namespace."""

    def pods(self, node: str | None = None) -> list[Json]:
        """The pods of its namespace; those of one node if it is named."""

    def nodes(self) -> list[Json]:
        """The cluster's nodes."""

    def node(self, name: str) -> Json:
        """One node; raises ``Missing``."""

    def create_pod(self, pod: Json) -> Json:
        """Create a pod in its namespace."""

    def delete_pod(self, name: str, uid: str, grace: int | None) -> None:
        """Begin to delete that very pod, with so many seconds of grace; raises ``Missing`` where it is gone."""

    def patch_pod(self, name: str, patch: Json) -> Json:
        """Change a pod; raises ``Missing`` where it is gone."""
