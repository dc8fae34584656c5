# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import struct
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.bundles import Bundles

OPEN, COMMIT, DISCARD, DELETIONS, GROUPS, ALIVE = "open", "commit", "discard", "deletions", "groups", "alive"
KEPT_ALIVE = wire.keep_alive_flow_mod(wire.OF15, 0)
TABLE_FULL = wire.switch_error(wire.message(wire.OF15, wire.ERROR, 7, struct.pack("!HH", 5, 1)))


def flows(table: int) -> bytes:
    """A few flow-mods of one table, as one reply of a switch turns into."""
    match = wire.delete_flows(wire.OF15, 0)[48:]
    return b"".join(wire.flow_mod(wire.OF15, n, table, n, 0, 0, 0, 0, 0, match) for n in range(1, 4))


def groups() -> bytes:
    return wire.message(wire.OF15, wire.GROUP_MOD, 1, struct.pack("!HBxIHHI", 0, 0, 1, 0, 0, 0))


class Fake:
    """A connection that writes into ``log`` what it is told: (its number, what)."""

    version = wire.OF15

    def __init__(self, number: int, log: list[tuple[int, t.Any]], commit: t.Any = ()) -> None:
        self._number, self._log, self._commit = number, log, commit
        self._numbers = itertools.count(1)
        self.closed = False
        self.life: tuple[float, t.Any] = (0.0, None)

    def sign_of_life(self, interval: float = 15.0, message: t.Any = None) -> None:
        self.life = interval, message

    def xid(self) -> int:
        return next(self._numbers)

    def close(self) -> None:
        self.closed = True

    def post(self, messages: t.Iterable[bytes]) -> None:
        for data in messages:
            self._log.append((self._number, _meaning(data)))

    def send(self, messages: t.Iterable[bytes] = ()) -> t.Any:
        assert not self.closed
        messages = list(messages)
        self.post(messages)
        if not messages or _meaning(messages[0]) != COMMIT:
            return []
        if isinstance(self._commit, BaseException):
            raise self._commit
        return list(self._commit)


def _meaning(data: bytes) -> t.Any:
    if data[1] == wire.BUNDLE_CONTROL:
        kind = int.from_bytes(data[12:14], "big")
        return {wire.BUNDLE_OPEN: OPEN, wire.BUNDLE_COMMIT: COMMIT, wire.BUNDLE_DISCARD: DISCARD}[kind]
    inner = data[16:] if data[1] == wire.BUNDLE_ADD else data
    if inner[:4] + inner[8:] == KEPT_ALIVE[:4] + KEPT_ALIVE[8:]:
        return ALIVE
    if wire.is_group_mod(inner):
        return GROUPS
    table = wire.flow_fields(inner).table
    return DELETIONS if table == wire.ALL_TABLES else table


def bundles(log: list[tuple[int, t.Any]], *commits: t.Any) -> tuple[t.Any, list[Fake]]:
    """Bundles over a connection for each of ``commits``, which is what the switch says to its commit."""
    fakes = [Fake(number, log, commit) for number, commit in enumerate(commits)]
    main, *further = t.cast("list[t.Any]", fakes)
    return Bundles(main, further), fakes


def test_one_connection_takes_everything_in_order() -> None:
    log: list[tuple[int, t.Any]] = []
    waiting, __ = bundles(log, [])
    assert waiting.fill([groups(), flows(0), b"", flows(3)]) == []
    assert waiting.commit() == []
    assert log == [(0, what) for what in (OPEN, DELETIONS, GROUPS, 0, 3, COMMIT)]


def test_of_several_the_first_has_the_groups_and_the_last_the_way_in() -> None:
    log: list[tuple[int, t.Any]] = []
    waiting, fakes = bundles(log, [], [], [])
    waiting.fill([groups(), flows(0), flows(0), *(flows(table) for table in range(1, 9))])
    where = {what: number for number, what in log if what not in (OPEN, COMMIT)}
    assert where[DELETIONS] == where[GROUPS] == 0
    assert {number for number, what in log if what == 0} == {2}
    assert {where[table] for table in range(1, 9)} == {0, 1, 2}
    log.clear()
    waiting.commit()
    assert log == [(0, COMMIT), (1, COMMIT), (2, COMMIT)]
    assert [fake.closed for fake in fakes] == [False, True, True]


def test_every_bundle_is_kept_alive_by_its_connection_until_the_commit() -> None:
    log: list[tuple[int, t.Any]] = []
    waiting, fakes = bundles(log, [], [], [])
    for fake in fakes:
        interval, message = fake.life
        assert interval < 1.0
        assert message is not None
        assert _meaning(message()) == ALIVE
    waiting.commit()
    assert [fake.life for fake in fakes] == [(15.0, None)] * 3


@pytest.mark.parametrize("number", [0, 1, 2])
def test_when_one_of_several_is_refused_the_bridge_is_made_empty_again(number: int) -> None:
    log: list[tuple[int, t.Any]] = []
    waiting, fakes = bundles(log, *([TABLE_FULL] if each == number else [] for each in range(3)))
    log.clear()
    assert waiting.commit() == [TABLE_FULL]
    assert log == [*((each, COMMIT) for each in range(number + 1)), (0, DELETIONS)]
    assert [fake.closed for fake in fakes] == [False, True, True]


def test_an_interruption_between_two_commits_leaves_nothing_behind() -> None:
    log: list[tuple[int, t.Any]] = []
    waiting, __ = bundles(log, [], KeyboardInterrupt(), [])
    log.clear()
    with pytest.raises(KeyboardInterrupt):
        waiting.commit()
    assert log[-1] == (0, DELETIONS)


@pytest.mark.parametrize("commit", [[TABLE_FULL], Unreachable("gone")])
def test_a_single_bundle_that_fails_needs_no_deletions(commit: t.Any) -> None:
    log: list[tuple[int, t.Any]] = []
    waiting, __ = bundles(log, commit)
    log.clear()
    try:
        assert waiting.commit() == [TABLE_FULL]
    except Unreachable:
        assert isinstance(commit, Unreachable)
    assert log == [(0, COMMIT)]


def test_a_dropped_bundle_is_found_out_and_all_are_discarded(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[tuple[int, t.Any]] = []
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    waiting, fakes = bundles(log, [], [])
    log.clear()
    waiting.dropped()
    assert log == []  # it was heard of this moment
    now[0] += 1
    waiting.dropped()
    assert log == [(0, ALIVE), (1, ALIVE)]
    waiting.discard()
    assert log[-1] == (0, DISCARD)
    assert fakes[0].life == (15.0, None)
    assert [fake.closed for fake in fakes] == [False, True]
