# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    Ended,
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import TimedOut, Waiter


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        self.slept.append(seconds)
        self.now += seconds


def script(*items: t.Any) -> t.Callable[[], t.Any]:
    """Look by look; the last item stays, an exception is raised."""
    left = list(items)

    def look() -> t.Any:
        item = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(item, Exception):
            raise item
        return item

    return look


def test_what_is_there_already_costs_no_time() -> None:
    clock = FakeClock()
    assert Waiter(5, clock=clock).wait("it is there", script(3), lambda n: n == 3) == 3
    assert clock.slept == []


def test_it_looks_again_until_the_predicate_accepts() -> None:
    clock = FakeClock()
    assert Waiter(5, 0.5, clock).wait("three", script(1, 2, 3, 4), lambda n: n == 3) == 3
    assert clock.slept == [0.5, 0.5]


def test_unreachable_means_not_yet() -> None:
    look = script(Unreachable("no socket"), Unreachable("no socket"), "up")
    assert Waiter(5, clock=FakeClock()).wait("it is up", look, bool) == "up"


def test_other_errors_end_the_waiting() -> None:
    with pytest.raises(HotUpgradeError, match="broken"):
        Waiter(5, clock=FakeClock()).wait("it is up", script(HotUpgradeError("broken")), bool)


def test_the_message_tells_the_last_look() -> None:
    clock = FakeClock()
    with pytest.raises(TimedOut) as error:
        Waiter(1.0, 0.4, clock).wait(
            "all flows are back",
            script(1, 2, 3, 4),
            lambda n: n == 9,
            lambda n: f"{n} of 9 flows",
            "Do this.",
        )
    assert str(error.value) == (
        "waited 1.0 s in vain until all flows are back: last seen: 4 of 9 flows. Do this."
    )
    assert sum(clock.slept) == pytest.approx(1.0)


def test_the_message_tells_why_it_was_unreachable() -> None:
    with pytest.raises(TimedOut, match="last seen: cannot connect"):
        Waiter(1.0, clock=FakeClock()).wait("it is up", script(Unreachable("cannot connect")), bool)


def test_no_time_at_all_is_one_look() -> None:
    clock = FakeClock()
    with pytest.raises(TimedOut):
        Waiter(0, clock=clock).wait("it is up", script(False), bool)
    assert clock.slept == []


@pytest.mark.parametrize(
    ("error", "strict"), [(Ended("ovsdb-server ended"), False), (Unreachable("the session was lost"), True)]
)
def test_what_has_been_lost_for_good_is_not_waited_for(error: Unreachable, strict: bool) -> None:
    clock = FakeClock()
    with pytest.raises(type(error)):
        Waiter(5, clock=clock, strict=strict).wait("it answers", script(error), bool)
    assert clock.slept == []
