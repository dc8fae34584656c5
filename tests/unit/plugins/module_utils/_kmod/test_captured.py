# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is captured: in which order, and what is written down."""

from __future__ import annotations

import dataclasses
import json
import os
import random

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import (
    dumps,
    namespaces,
    preserve,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.captured import Batch, Captured, Move
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.rtnetlink import (
    Stage,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod.settings import Setting
from tests.unit.plugins.module_utils._kmod.spaces import SPACES, captured, link, request


def test_ports_come_back_before_what_is_on_them_and_shaping_comes_last() -> None:
    wanted = [
        (0, Stage.STATE),
        (0, Stage.ADDRESS),
        (0, Stage.GATEWAY),
        (1, Stage.CHILD),
        (1, Stage.ADDRESS),
        (2, Stage.CHILD),
        (0, Stage.PROPERTY),
        (1, Stage.PROPERTY),
        (0, Stage.CLASS),
        (1, Stage.FILTER),
        (0, Stage.SETTLE),
    ]
    batches = [Batch(0, generation, stage) for generation, stage in wanted]
    mixed = random.Random(1).sample(batches, len(batches))
    assert sorted(mixed, key=lambda batch: batch.turn) == batches
    assert [batch.soon for batch in batches] == [True] * 3 + [False] * 8


def test_what_is_written_down_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Batch(1, 0, Stage.ADDRESS, (request(Stage.ADDRESS, 13, "a"), request(Stage.ADDRESS, 13, "b", 20)))
    child = dataclasses.replace(request(Stage.ADDRESS, 13, "c"), below=0)
    batch = dataclasses.replace(batch, requests=(*batch.requests, child))
    settings = Batch(0, 0, Stage.SYSCTL, settings=(Setting("ipv4/conf/br0/forwarding", b"1\n"),))
    before = captured(batch, settings, moves=(Move(1, preserve.HIGH + 4, 13, "in4", "eth0"),))
    before = dataclasses.replace(before, below={(1, 13): (0, 5)})
    looked = dataclasses.replace(before, below={**before.below, (0, 99): (0, 98)})
    monkeypatch.setattr(namespaces, "spaces", lambda: list(SPACES))
    assert Captured.from_json(json.loads(json.dumps(looked.as_json()))) == before


def test_a_namespace_that_has_gone_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    there = Batch(1, 0, Stage.ADDRESS, (request(Stage.ADDRESS, 13, "a"),))
    here = dataclasses.replace(there, space=0)
    record = captured(here, there, moves=(Move(1, 9, 13, "in4", "in4"),)).as_json()
    monkeypatch.setattr(namespaces, "spaces", lambda: [SPACES[0], SPACES[2]])
    found = Captured.from_json(record)
    assert (found.batches, found.moves) == ((here,), ())


def test_a_namespace_with_the_inode_of_one_that_has_gone_is_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is the next container's: what was a tenant's goes to no other one."""
    there = Batch(1, 0, Stage.ADDRESS, (request(Stage.ADDRESS, 13, "a"),))
    record = captured(there, moves=(Move(1, 9, 13, "in4", "in4"),)).as_json()
    successor = dataclasses.replace(SPACES[1], cookie=77)
    monkeypatch.setattr(namespaces, "spaces", lambda: [SPACES[0], successor, SPACES[2]])
    found = Captured.from_json(json.loads(json.dumps(record)))
    assert (found.batches, found.moves) == ((), ())


def test_namespaces_are_closed_once_where_ours_stands_for_one_that_has_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second time it is another file's descriptor, or nobody's."""
    record = captured().as_json()
    descriptor = os.open("/dev/null", os.O_RDONLY)
    ours = dataclasses.replace(
        SPACES[0], namespace=dataclasses.replace(SPACES[0].namespace, descriptor=descriptor)
    )
    monkeypatch.setattr(namespaces, "spaces", lambda: [ours])
    Captured.from_json(record).close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_how_much_there_is() -> None:
    told = dumps.Dumps(links=[link(5), link(6)], routes=[b"a"], neighbours=[b"b", b"c"])
    assert dataclasses.replace(captured(), told={0: told, 1: told}).size == 10
