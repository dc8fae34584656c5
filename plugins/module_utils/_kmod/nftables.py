# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Which chains and flowtables of nftables are at a device: they lose it when it goes, and nothing gives it back.

Asked of nft(8), whose JSON is described in libnftables-json(5): that is only done beforehand.
"""

from __future__ import annotations

import contextlib
import json
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Runner

_KINDS = {"chain": "chains", "flowtable": "flowtables"}


class Hook(t.NamedTuple):
    """A chain or a flowtable, in words, and the names of the devices that it is at."""

    what: str
    devices: tuple[str, ...]


def hooks(runner: Runner) -> tuple[Hook, ...]:
    """Those of the namespace in which this thread works; none where there is no nft."""
    return tuple(hook for kind, listed in _KINDS.items() for hook in _of_kind(kind, listed, runner))


def _of_kind(kind: str, listed: str, runner: Runner) -> t.Iterator[Hook]:
    with contextlib.suppress(
        HotUpgradeError, ValueError, AttributeError, TypeError
    ):  # not there, too old, or no JSON
        done = runner(["nft", "--json", "list", listed])
        for entry in json.loads(done.out).get("nftables", []) if done.rc == 0 else []:
            told = entry.get(kind, {})
            devices = told.get("dev", [])
            if devices:
                what = f"the {kind} {told.get('name')} of the table {told.get('family')} {told.get('table')} of nftables"
                yield Hook(what, (devices,) if isinstance(devices, str) else tuple(map(str, devices)))
