# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``ovs_kmod_reload`` returns: nothing to do, every reason against it, the plan, the outcome."""

from __future__ import annotations

import dataclasses
import types
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import plan, reload
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.steps import reload as steps
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import facts as module_facts
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import images
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Connection
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import connected
from tests.unit.plugins.module_utils._kmod.test_plan import FINE, MODULE

CONNECTION = Connection("/run/openvswitch", "unix:/run/openvswitch/db.sock", 10.0)
WISH = reload.ReloadWish("current", "auto", "report", "manual", 60.0)


class Host:
    """A host with these facts; ``begun`` are the requests of transactions that were begun, which end in ``state``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, make_request: t.Callable[..., t.Any]) -> None:
        self.module, self.state = FINE, "applied"
        self.facts: t.Any = types.SimpleNamespace(
            old="3.5.0",
            new="4.0.0",
            userspace=False,
            other_config={},
            server=types.SimpleNamespace(upgrade_pending=True),
            flows=1000,
            memory_vswitchd=10 << 20,
            memory_available=1 << 30,
        )
        self.begun: list[t.Any] = []
        self.asked: list[list[str]] = []
        self.against: list[str] = []
        decision: t.Any = types.SimpleNamespace()
        request = make_request(strategy=plan.RESTART)
        monkeypatch.setattr(reload, "read_facts", lambda _connection: self.facts)
        monkeypatch.setattr(module_facts, "read_facts", self._module)
        monkeypatch.setattr(images, "kept", lambda _module: "/kept.ko")
        monkeypatch.setattr(plan, "REASONS", {plan.RESTART: lambda _facts: iter(self.against)})
        monkeypatch.setattr(plan, "decide", lambda *_words, **_force: decision)
        monkeypatch.setattr(reload, "requested", lambda *_words: request)
        monkeypatch.setattr(
            reload,
            "describe_plan",
            lambda _decision, _prove, steps: {
                "steps": list(steps),
                "warnings": ["one"],
                "before": {"ovs-vswitchd": "3.5.0"},
                "after": {"ovs-vswitchd": self.facts.new},
            },
        )
        monkeypatch.setattr(connected, "begin", lambda _operation, record: self._begin(record))
        monkeypatch.setattr(connected, "wait", lambda _transaction, _operation: self.state)
        monkeypatch.setattr(
            reload, "report", lambda _transaction: {"state": self.state, "reason": "no", "measured": ""}
        )
        monkeypatch.setattr(reload, "accept", lambda *_words: None)

    def _module(self, versions: dict[str, str]) -> t.Any:
        self.asked.append(list(versions.values()))
        return self.module

    def _begin(self, record: t.Any) -> t.Any:
        self.begun.append(record)
        result = {"bypass": "3 of 3"}
        return types.SimpleNamespace(read=lambda _name: result)


@pytest.fixture(name="host")
def _host(monkeypatch: pytest.MonkeyPatch, make_request: t.Callable[..., t.Any]) -> Host:
    return Host(monkeypatch, make_request)


def test_the_same_module_is_left_alone(host: Host) -> None:
    host.module = dataclasses.replace(FINE, module=dataclasses.replace(MODULE, disk_build_id="aaaa"))
    found = reload.reload(CONNECTION, WISH, False)
    assert (found.changed, found.error, host.begun) == (False, None, [])
    assert found.values["plan"]["summary"] == ["the loaded module openvswitch is the one on the disk (aaaa)"]


def test_every_reason_of_the_module_and_of_the_host_at_once(host: Host) -> None:
    host.module = dataclasses.replace(FINE, missing=("nsh",))
    host.facts.other_config = {"hw-offload": "true"}
    host.against = ["somebody else restores flows"]
    found = reload.reload(CONNECTION, WISH, False)
    assert (found.changed, host.begun) == (False, [])
    for text in ("needs the module nsh", "hardware offload is on", "somebody else restores flows"):
        assert text in str(found.error)


def test_check_mode_returns_the_plan(host: Host) -> None:
    found = reload.reload(CONNECTION, WISH, True)
    assert (found.changed, host.begun) == (True, [])
    assert (found.before, found.after) == ({"module": "aaaa"}, {"module": "bbbb"})
    assert "reload the module" in found.values["plan"]["steps"]
    assert found.values["plan"]["warnings"] == ["one"]
    assert found.values["plan"]["summary"] == [
        "the loaded module openvswitch is aaaa, that on the disk bbbb",
        "ovs-vswitchd 4.0.0 follows 3.5.0 with it",
        "warning: one",
    ]


def test_a_look_ahead_is_for_the_version_that_comes_and_touches_nothing(host: Host) -> None:
    host.module = dataclasses.replace(FINE, module=dataclasses.replace(MODULE, disk_build_id="aaaa"))
    wish = dataclasses.replace(WISH, state="coming", target_version="4.0.0")
    host.facts.with_version = lambda version: types.SimpleNamespace(**{**vars(host.facts), "new": version})
    host.facts.new = "3.5.0"
    found = reload.reload(CONNECTION, wish, True)
    assert (found.changed, found.error, host.begun) == (True, None, [])
    assert found.values["plan"]["why"].startswith("the packages may bring another module")
    assert host.asked == [["3.5.0", "4.0.0"]]
    with pytest.raises(Refused, match="Use it in check mode"):
        reload.reload(CONNECTION, wish, False)


def test_one_interruption_serves_for_module_and_daemons(host: Host) -> None:
    found = reload.reload(CONNECTION, WISH, False)
    (request,) = host.begun
    assert (request["operation"], request["strategy"], request["restart_server"]) == (
        "kmod-reload",
        "reload",
        True,
    )
    wanted = {"new": MODULE.disk_path, "old": "/kept.ko", "bypass": "auto", "stand_in": True}
    assert request["reload"] == wanted
    assert (found.changed, found.values["bypass"]) == (True, "3 of 3")


def test_where_memory_is_short_new_flows_wait(host: Host) -> None:
    host.facts.memory_available = 1 << 20
    found = reload.reload(CONNECTION, WISH, True)
    assert "new flows wait for the new ovs-vswitchd: two daemons need" in found.values["plan"]["warnings"][-1]
    assert steps.STAND_IN not in found.values["plan"]["steps"]


def test_where_tc_lacks_something_the_plan_says_so(host: Host) -> None:
    host.module = dataclasses.replace(FINE, without=("cls_flower", "act_pedit"))
    (warning,) = reload.reload(CONNECTION, WISH, True).values["plan"]["warnings"][1:]
    assert (
        warning
        == "established flows may stop while the module is away: tc has no cls_flower, act_pedit (modprobe)"
    )
    wish = dataclasses.replace(WISH, bypass="no")
    assert reload.reload(CONNECTION, wish, True).values["plan"]["warnings"] == ["one"]


def test_what_was_taken_back_is_a_failure(host: Host) -> None:
    host.state = "rolled_back"
    found = reload.reload(CONNECTION, WISH, False)
    assert str(found.error).startswith("the reload was taken back: no")
    assert found.before == found.after
