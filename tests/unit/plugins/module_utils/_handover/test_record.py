# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import record
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import lease
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import (
    transaction as transactions,
)

REQUEST = {"operation": "handover", "plan": {"strategy": "standby"}, "confirm_timeout": 60}


def test_a_host_without_any_hand_over(tmp_path: Path) -> None:
    assert record.records(root=str(tmp_path / "nothing")) == []


def test_the_newest_comes_first_and_tells_until_when_it_waits(tmp_path: Path) -> None:
    root = str(tmp_path)
    before = transactions.create(REQUEST, root)
    before.move("prepared", "confirmed")
    yesterday = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - 86400))
    os.rename(before.path, tmp_path / f"{yesterday}-ffffff")
    waits = transactions.create(REQUEST, root)
    waits.move("prepared", "applied")
    lease.renew(waits)
    age = lease.age(waits)
    newest, oldest = record.records(root=root)
    assert (newest["state"], newest["plan"]) == ("applied", REQUEST["plan"])
    assert newest["deadline"].endswith("Z")
    assert (oldest["state"], oldest["deadline"]) == ("confirmed", None)
    assert (lease.age(waits) or 0.0) >= (age or 0.0)  # nobody works on it who only looks


def test_one_that_waits_tells_the_health_of_before(tmp_path: Path) -> None:
    health = {"well": {"the link of p1": True}}
    waits = transactions.create({**REQUEST, "health_before": health}, str(tmp_path))
    waits.move("prepared", "applied")
    lease.renew(waits)
    assert record.report(waits)["health_before"] == health
    waits.move("applied", "confirmed")
    assert "health_before" not in record.report(waits)


def test_what_another_operation_has_done_is_no_hand_over(tmp_path: Path) -> None:
    root = str(tmp_path)
    transaction = transactions.create({"operation": "two_files"}, root)
    assert record.records(root=root) == []
    with pytest.raises(Refused, match="Use ovs_two_files for it"):
        record.records(transaction.id, root)


def test_a_reload_is_told_with_the_hand_overs(tmp_path: Path) -> None:
    root = str(tmp_path)
    transaction = transactions.create({**REQUEST, "operation": "kmod-reload"}, root)
    for found in (record.records(root=root), record.records(transaction.id, root)):
        assert [(each["transaction"], each["operation"]) for each in found] == [
            (transaction.id, "kmod-reload")
        ]


def test_whoever_confirms_a_reload_is_told_its_gap(tmp_path: Path) -> None:
    """By it a limit is judged; the window of a hand-over ends when all is back."""
    marks = {
        "stopped": 0,
        "forwarding": 9_000_000,
        "module: sealed": 1_000_000,
        "module: busiest flows": 1_042_500,
    }
    for operation, gap in (("kmod-reload", 42.5), ("handover", None)):
        transaction = transactions.create({**REQUEST, "operation": operation}, str(tmp_path / operation))
        transaction.write("result.json", {"marks": marks})
        (found,) = record.records(root=str(tmp_path / operation))
        assert (found["window_ms"], found.get("gap_ms")) == (9000.0, gap)


def test_one_is_told_alone_and_one_that_is_not_there_is_refused(tmp_path: Path) -> None:
    root = str(tmp_path)
    transaction = transactions.create(REQUEST, root)
    assert [found["transaction"] for found in record.records(transaction.id, root)] == [transaction.id]
    with pytest.raises(Refused, match="there is no transaction 'other'"):
        record.records("other", root)


def test_a_damaged_one_is_told_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    transaction = transactions.create(REQUEST, str(tmp_path))
    Path(transaction.file("request.json")).unlink()
    (found,) = record.records(root=str(tmp_path))
    assert (found["transaction"], found["state"], found["plan"]) == (transaction.id, "prepared", {})


@pytest.mark.parametrize(
    ("planned", "result", "text"),
    [
        ("", {"proof": {"text": "all of it"}}, "all of it"),
        ("", {"proof": {}}, ""),  # an older version of this collection
        ("nothing is proved: prove is 0", {}, "nothing is proved: prove is 0"),
        ("410 of 416", {}, "nothing was proved: it did not come to that"),
    ],
)
def test_what_was_proved_in_words(tmp_path: Path, planned: str, result: dict[str, object], text: str) -> None:
    transaction = transactions.create({"plan": {"proof": planned}, "confirm_timeout": 1}, str(tmp_path))
    transaction.note(**result)
    assert record.report(transaction)["proof"] == text
