# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.side_by_side import side_by_side


def test_many_are_asked_before_the_first_has_answered() -> None:
    everybody = threading.Barrier(32)

    def ask(number: int) -> int:
        everybody.wait(30.0)
        return number * 2

    assert side_by_side(ask, iter(range(64))) == [number * 2 for number in range(64)]


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_do_side_by_side_takes_no_thread(count: int) -> None:
    assert (
        side_by_side(lambda __: threading.current_thread(), range(count)) == [threading.main_thread()] * count
    )


@pytest.mark.parametrize("each", [False, True])
def test_a_switch_that_fails_is_not_followed_by_others_unless_each_is_wanted(
    each: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    failed, called_off = threading.Event(), threading.Event()
    shutdown = ThreadPoolExecutor.shutdown

    def told(pool: ThreadPoolExecutor, wait: bool = True, cancel_futures: bool = False) -> None:
        shutdown(pool, wait=False, cancel_futures=cancel_futures)
        called_off.set()
        shutdown(pool, wait=wait)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", told)

    def work(number: int) -> None:
        begun.append(number)
        if number == 1:
            failed.set()
            raise ValueError(number)
        (failed if each else called_off).wait(30.0)
        if number == 2:
            raise ValueError(number)

    with pytest.raises(ValueError, match="1"):
        side_by_side(work, range(1, 1001), flows=10**6, each=each)
    assert (len(begun) == 1000) is each
