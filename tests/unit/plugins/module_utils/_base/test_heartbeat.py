# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose beats are heard."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base import heartbeat


def test_a_thread_that_goes_on_beside_the_work_is_not_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, now = str(tmp_path / "pulse"), [10**9]
    monkeypatch.setattr(heartbeat.time, "monotonic_ns", lambda: now[0])

    def beat() -> None:
        with heartbeat.unheard():
            heartbeat.beat()

    def age() -> float:
        found = heartbeat.last(path)
        assert found is not None
        return found.age

    with heartbeat.beating(path, 1, 1):
        now[0] += 5 * 10**9
        thread = threading.Thread(target=beat)
        thread.start()
        thread.join()
        assert age() == 5
        heartbeat.beat()
        assert age() == 0
