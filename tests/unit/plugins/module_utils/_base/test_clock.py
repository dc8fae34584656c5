# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import time

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base import clock
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.clock import Moment


def test_the_age_does_not_know_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = Moment(clock.boot_id(), time.monotonic() - 10)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert moment.age is not None
    assert 10 <= moment.age < 1000


def test_a_moment_of_another_boot_has_no_age() -> None:
    assert Moment("another", time.monotonic()).age is None
