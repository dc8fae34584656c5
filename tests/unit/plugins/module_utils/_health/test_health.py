# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What counts as worse than before, and what does not."""

from __future__ import annotations

import copy
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._health import health
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Connection

SYSTEM, USERSPACE = "system@ovs-system", "netdev@ovs-netdev"
Json = dict[str, t.Any]


def switch(**changed: t.Any) -> Json:
    port = {"packets": 1000, "errors": 0, "dropped": 10}
    whole = {
        "datapaths": {SYSTEM: {"lookups": 100, "lost": 0, "ports": {"p1": port}}},
        "growing": [],
        "well": {"the link of p1": True, "BFD of p2": False},
        "process": "1-1",
    }
    return copy.deepcopy({**whole, **changed})


def counting(
    lookups: int = 200,
    lost: int = 0,
    errors: int = 0,
    dropped: int = 10,
    packets: int = 2000,
    name: str = SYSTEM,
) -> Json:
    port = {"packets": packets, "errors": errors, "dropped": dropped}
    return {name: {"lookups": lookups, "lost": lost, "ports": {"p1": port}}}


@pytest.mark.parametrize(
    ("now", "worse"),
    [
        (switch(), []),
        (switch(well={}), []),
        (switch(well={"the link of p1": False}), ["the link of p1 is down, and was up before"]),
        (switch(well={"the link of p1": True, "BFD of p2": False, "CFM of p3": False}), []),
        (
            switch(datapaths=counting(lost=2)),
            [f"{SYSTEM} (packets lost on their way to ovs-vswitchd) counts 2 more than before"],
        ),
        (switch(datapaths=counting(errors=1)), ["p1 (packets with errors) counts 1 more than before"]),
        (switch(datapaths=counting(dropped=99)), []),
        # Another datapath, after a reload: all that it has lost is new.
        (
            switch(datapaths=counting(lookups=9, lost=4)),
            [f"{SYSTEM} (packets lost on their way to ovs-vswitchd) counts 4 more than before"],
        ),
    ],
)
def test_what_is_worse(now: Json, worse: list[str]) -> None:
    assert health.compare(switch(), now)["worse"] == worse


def test_what_a_new_process_in_userspace_has_counted_beside_the_old_one_is_no_loss() -> None:
    before = switch(datapaths=counting(name=USERSPACE))
    now = counting(lookups=9, lost=385, name=USERSPACE)
    assert health.compare(before, switch(datapaths=now, process="2-2"))["worse"] == []
    assert health.compare(before, switch(datapaths=now))["worse"] != []


def test_what_grew_by_itself_before_is_nobodys_fault() -> None:
    growing = [f"{SYSTEM} (packets lost on their way to ovs-vswitchd)", "p1 (packets with errors)"]
    before = switch(growing=growing)
    found = health.compare(before, switch(datapaths=counting(lost=90, errors=90)))
    assert found["worse"] == []
    assert found["counted"] == {"lost_upcalls": 90, "dropped": 0, "why": ""}


@pytest.mark.parametrize(("errors", "worse"), [(12, False), (21, True)])
def test_a_rate_that_was_there_before_is_nobodys_fault(errors: int, worse: bool) -> None:
    # Ten in a thousand packets before, and a thousand packets since.
    was, now = counting(errors=10, packets=1000), counting(errors=10 + errors, packets=2000)
    assert bool(health.compare(switch(datapaths=was), switch(datapaths=now))["errors"]) == worse
    was, now = counting(lookups=1000, lost=10), counting(lookups=2000, lost=10 + errors)
    assert bool(health.compare(switch(datapaths=was), switch(datapaths=now))["lost"]) == worse


def test_counters_of_a_port_that_came_meanwhile_are_its_own() -> None:
    now = switch()
    now["datapaths"][SYSTEM]["ports"]["p9"] = {"packets": 99, "errors": 50, "dropped": 50}
    found = health.compare(switch(), now)
    assert (found["worse"], found["counted"]["dropped"]) == ([], 0)


@pytest.mark.parametrize(
    ("before", "now", "lost"),
    [
        (switch(), switch(datapaths=counting(lost=1, dropped=14)), (1, 4)),
        (switch(), switch(datapaths=counting(lookups=99)), (None, None)),
        (
            switch(datapaths=counting(name=USERSPACE)),
            switch(datapaths=counting(lookups=999, name=USERSPACE), process="2-2"),
            (None, None),
        ),
        (
            switch(datapaths=counting(name=USERSPACE)),
            switch(datapaths=counting(lookups=999, name=USERSPACE)),
            (0, 0),
        ),
    ],
)
def test_what_the_counters_tell_of_losses(
    before: Json, now: Json, lost: tuple[int | None, int | None]
) -> None:
    found = health.counted(before, now)
    assert (found["lost_upcalls"], found["dropped"]) == lost
    assert ("began anew" in found["why"]) == (lost[0] is None)


@pytest.mark.parametrize(
    "before", [{}, {"well": 5}, {"well": {}, "datapaths": {}, "process": ""}, switch(well=[])]
)
def test_what_is_no_health_is_refused(before: Json) -> None:
    with pytest.raises(Refused, match="give its field health"):
        health.compare(before, switch())


def test_what_is_down_may_take_its_time_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    down = switch(well={"the link of p1": False})
    looks = [down, down, switch()]
    now = [0.0]
    monkeypatch.setattr(health, "look", lambda *_: looks.pop(0))
    monkeypatch.setattr(health.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(health.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    assert health.tell(Connection("/r", "unix:x", 1), switch(), 5)["worse"] == []
    looks[:] = [down] * 9
    assert health.tell(Connection("/r", "unix:x", 1), switch(), 5)["down"]
    assert len(looks) == 3
