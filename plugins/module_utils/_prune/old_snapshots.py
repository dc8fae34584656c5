# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Of many snapshots in a folder the oldest away."""

from __future__ import annotations

import os
import shutil
import time

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot.directory import MANIFEST

_DAY = 86400.0


def prune(path: str, keep: int | None, days: int | None, check_mode: bool) -> list[str]:
    """Leave ``keep`` snapshots in the folder of the one at ``path``, that one among them, and none of more than so many ``days``.

    None stands for any number.  Returns what was removed, or would be.  What is no snapshot is left alone.

    Raises ``Refused`` for a number that makes no sense.
    """
    for name, number in (("keep", keep), ("keep_days", days)):
        if number is not None and number < 1:
            raise Refused(
                f"{name}={number} is refused", "the snapshot that was taken is one already", "Keep at least 1"
            )
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):  # in check mode nobody has made it
        return []
    others = [
        each
        for each in (os.path.join(folder, name) for name in os.listdir(folder))
        if each != os.path.abspath(path) and _is_snapshot(each)
    ]
    taken = {each: os.stat(os.path.join(each, MANIFEST)).st_mtime for each in others}
    too_many = sorted(others, key=taken.__getitem__, reverse=True)[keep - 1 :] if keep else []
    oldest = time.time() - days * _DAY if days else 0.0
    old = sorted({*too_many, *(each for each in others if taken[each] < oldest)})
    for each in old if not check_mode else ():
        shutil.rmtree(each)
    return old


def _is_snapshot(path: str) -> bool:
    return not os.path.islink(path) and os.path.isfile(os.path.join(path, MANIFEST))
