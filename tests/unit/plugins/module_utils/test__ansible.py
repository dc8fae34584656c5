# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import typing as t

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils import _ansible as adapter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ansible import CONNECTION
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Call, Outcome

Json = dict[str, t.Any]


class Run:
    """Runs a behaviour as a module and returns its JSON and exit status."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(
        self,
        behaviour: t.Callable[[Call], Outcome],
        arguments: Json | None = None,
    ) -> tuple[Json, int]:
        with patch_module_args(arguments or {}), pytest.raises(SystemExit) as end:
            adapter.run_module(CONNECTION, behaviour)
        return json.loads(self.capsys.readouterr().out), int(end.value.code or 0)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return Run(capsys)


def never(call: Call) -> Outcome:
    raise AssertionError("the behaviour must not run")


def test_values_and_diff_are_returned(run: Run) -> None:
    def change(call: Call) -> Outcome:
        return Outcome(True, {"flows": 5}, {"flag": False}, {"flag": True})

    result, status = run(change, {"_ansible_diff": True})
    assert status == 0
    assert result["changed"] is True
    assert result["flows"] == 5
    assert result["diff"] == {"before": {"flag": False}, "after": {"flag": True}}


def test_without_before_and_after_there_is_no_diff(run: Run) -> None:
    result, _status = run(lambda call: Outcome(False, {}))
    assert "diff" not in result


def test_check_mode_reaches_the_behaviour(run: Run) -> None:
    result, _status = run(
        lambda call: Outcome(False, {"check": call.check_mode}), {"_ansible_check_mode": True}
    )
    assert result["check"] is True


@pytest.mark.parametrize(
    ("arguments", "rundir", "remote", "timeout"),
    [
        ({}, "/run/openvswitch", "unix:/run/openvswitch/db.sock", 10.0),
        ({"rundir": "/opt/o v s"}, "/opt/o v s", "unix:/opt/o v s/db.sock", 10.0),
        ({"database": "tcp:127.0.0.1:6640", "timeout": "2.5"}, "/run/openvswitch", "tcp:127.0.0.1:6640", 2.5),
    ],
)
def test_where_open_vswitch_is(run: Run, arguments: Json, rundir: str, remote: str, timeout: float) -> None:
    def tell(call: Call) -> Outcome:
        place = call.connection
        return Outcome(False, {"place": [place.rundir, place.remote, place.timeout]})

    result, _status = run(tell, arguments)
    assert result["place"] == [rundir, remote, timeout]


@pytest.mark.parametrize("seconds", [0, -1, "nan", "inf"])
def test_a_timeout_that_makes_no_sense_is_refused(run: Run, seconds: t.Any) -> None:
    result, _status = run(
        lambda call: Outcome(False, {"timeout": call.connection.timeout}), {"timeout": seconds}
    )
    assert result["error"]["kind"] == "Refused"


def test_an_error_is_told_whole_and_in_parts(run: Run) -> None:
    def fail(call: Call) -> Outcome:
        raise Refused("cannot restore br0", "port p1 has ofport 3, not 1", "Pin it back")

    result, status = run(fail)
    assert status == 1
    assert result["failed"] is True
    assert result["msg"] == "cannot restore br0: port p1 has ofport 3, not 1. Pin it back"
    assert result["error"] == {
        "kind": "Refused",
        "what": "cannot restore br0",
        "why": "port p1 has ofport 3, not 1",
        "hint": "Pin it back",
    }


def test_an_outcome_with_an_error_fails_and_keeps_its_values(run: Run) -> None:
    outcome = Outcome(True, {"timeline": [1, 2]}, error=HotUpgradeError("rolled back"))
    result, status = run(lambda call: outcome)
    assert status == 1
    assert (result["timeline"], result["msg"], result["changed"]) == ([1, 2], "rolled back", True)


def test_what_the_system_refuses_is_told_with_the_file(run: Run) -> None:
    def write(call: Call) -> Outcome:
        raise OSError(28, "No space left on device", "/var/lib/ovsops/x")

    result, _status = run(write)
    assert result["msg"].startswith("the host refused access to /var/lib/ovsops/x: No space left on device. ")


def test_another_user_than_root_is_told_what_to_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result, _status = run(never)
    assert "must run as root: it runs as user id 1000" in result["msg"]
    assert "become: true" in result["error"]["hint"]


def test_what_asks_a_cluster_needs_no_root(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with patch_module_args({}), pytest.raises(SystemExit):
        adapter.run_module(
            adapter.KUBERNETES, lambda call: Outcome(False, dict(call.params)), privileged=False
        )
    told = json.loads(capsys.readouterr().out)
    assert (told["namespace"], told["daemonset"], told["container"]) == (
        "kube-system",
        "ovs-ovn",
        "openvswitch",
    )
