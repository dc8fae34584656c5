# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose beats are heard."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base import heartbeat


def test_a_thread_that_goes_on_beside_the_work_is_not_heard(tmp_path: Path) -> None:
    path = str(tmp_path / "pulse")

    def beat() -> None:
        with heartbeat.unheard():
            heartbeat.beat()

    def age() -> float:
        found = heartbeat.last(path)
        assert found is not None
        return found.age

    with heartbeat.beating(path, 1, 1):
        time.sleep(0.05)  # of which nothing tells
        thread = threading.Thread(target=beat)
        thread.start()
        thread.join()
        assert age() >= 0.05
        heartbeat.beat()
        assert age() < 0.05
