# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller does around a hand-over; host and connection answer from a list."""

from __future__ import annotations

import calendar
import time
import types
import typing as t

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from ansible_collections.ovsops.hot_upgrade.plugins.action import ovs_handover
from ansible_collections.ovsops.hot_upgrade.plugins.action.ovs_handover import (
    HEALTH,
    INFO,
    PROBE,
    ActionModule,
)
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils import fallen

LAST = {"transaction": "last", "state": "confirmed"}
APPLIED = {"transaction": "new", "state": "applied", "deadline": "soon", "plan": {"strategy": "standby"}}
VARIABLES = {"inventory_hostname": "h1", "ansible_play_hosts_all": ["h1", "h2", "h3"]}
LOST = AnsibleConnectionFailure("broken pipe")


class Action(ActionModule):
    """Answers are what the module returns, one after the other, or how the connection ends."""

    def __init__(self, answers: list[t.Any], unreachable: str | None = None, **options: t.Any) -> None:
        self._task = types.SimpleNamespace(args=options, check_mode=False, async_val=0)
        self.answers, self.unreachable = answers, unreachable
        self.asked: list[tuple[str, str | None, bool]] = []
        self.given: list[dict[str, t.Any]] = []

    def _execute_module(
        self, name: str, options: dict[str, t.Any], *, task_vars: t.Any, wrap_async: bool = False
    ) -> t.Any:
        assert task_vars == VARIABLES
        assert wrap_async == bool(self._task.async_val)
        looks = name == INFO
        words = {INFO: "info", HEALTH: "health", PROBE: "probe"}
        what = words.get(name) or options.get("state", "handed_over")
        self.asked.append((what, options.get("confirm"), self._task.check_mode))
        self.given.append(dict(options))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {"transactions": [answer] if answer else []} if looks else dict(answer)

    def _reconnect(self) -> str | None:
        self.asked.append(("reconnect", None, self._task.check_mode))
        return self.unreachable


@pytest.fixture(autouse=True, name="folder")
def _base(monkeypatch: pytest.MonkeyPatch, tmp_path: t.Any) -> str:
    monkeypatch.setattr(ActionBase, "run", lambda *__: {})
    monkeypatch.setattr(ovs_handover.constants, "DEFAULT_LOCAL_TMP", str(tmp_path))
    return str(tmp_path)


BEGINNING = [("info", None, False), ("handed_over", "manual", False)]
END = [("reconnect", None, False), ("verified", None, False), ("confirmed", None, False)]


def test_one_task_hands_over_reconnects_verifies_and_confirms() -> None:
    action = Action([LAST, {**APPLIED, "changed": True}, {"changes": {}}, {"state": "confirmed", "changed": False}],
                    confirm="reconnected")  # fmt: skip
    result = action.run(task_vars=VARIABLES)
    assert action.asked == [*BEGINNING, *END]
    assert (result["state"], result["verified"], result["changed"]) == ("confirmed", True, True)
    assert result["plan"] == APPLIED["plan"]


def test_a_difference_that_nobody_explains_is_not_confirmed() -> None:
    wrong = {"failed": True, "msg": "a flow is missing", "changes": {"bridges": {}}}
    action = Action([LAST, APPLIED, wrong, APPLIED], confirm="reconnected")
    result = action.run(task_vars=VARIABLES)
    assert result["failed"]
    assert "a flow is missing" in result["msg"]
    assert "goes back by itself at soon" in result["msg"]
    assert "verified" not in result
    assert result["changes"] == wrong["changes"]


def test_one_that_went_back_meanwhile_is_not_said_to_wait() -> None:
    gone = {"failed": True, "msg": "there is nothing to verify any more"}
    action = Action([LAST, APPLIED, gone, {**APPLIED, "state": "rolled_back"}], confirm="reconnected")
    result = action.run(task_vars=VARIABLES)
    assert result["failed"]
    assert result["state"] == "rolled_back"
    assert "goes back by itself" not in result["msg"]


def test_a_host_that_does_not_answer_any_more_is_not_confirmed() -> None:
    result = Action([LAST, APPLIED], "timed out", confirm="reconnected").run(task_vars=VARIABLES)
    assert result["failed"]
    assert "timed out" in result["msg"]
    assert (result["state"], result["transaction"]) == ("applied", "new")


@pytest.mark.parametrize(
    ("found", "failed", "text"),
    [
        (APPLIED, True, "goes back by itself at soon"),
        ({**APPLIED, "state": "confirmed"}, False, ""),
        (
            LOST,
            True,
            "Whether new is confirmed is not known. If it is not, the host goes back by itself at soon",
        ),
    ],
)
def test_a_connection_that_ends_in_the_confirmation_is_asked_what_became_of_it(
    found: t.Any, failed: bool, text: str
) -> None:
    result = Action([LAST, APPLIED, {"changes": {}}, LOST, found], confirm="reconnected").run(
        task_vars=VARIABLES
    )
    assert result.get("failed", False) == failed
    assert text in result.get("msg", "")
    assert result["transaction"] == "new"
    assert result["state"] == (None if found is LOST else found["state"])


@pytest.mark.parametrize("confirm", ["reconnected", "manual", "automatic", "none"])
def test_a_hand_over_whose_connection_was_lost_is_asked_for(confirm: str) -> None:
    answers = [LAST, LOST, APPLIED, {}, {"state": "confirmed"}]
    action = Action(answers, confirm=confirm)
    result = action.run(task_vars=VARIABLES)
    assert action.asked[2:4] == [("reconnect", None, False), ("settled", None, False)]
    assert result["changed"]
    # With "automatic" the module that would have confirmed it may have ended with the connection.
    assert result["state"] == ("confirmed" if confirm in ("reconnected", "automatic") else "applied")


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (LAST, "before the host began it. Run it again"),
        ({"failed": True, "msg": "not undone: the flag"}, "not undone: the flag"),
        (
            {"transaction": "new", "state": "rolled_back", "reason": "it crashed"},
            "is rolled_back: it crashed",
        ),
    ],
)
def test_a_hand_over_that_was_not_done_fails(found: t.Any, text: str) -> None:
    result = Action([LAST, LOST, found], confirm="reconnected").run(task_vars=VARIABLES)
    assert result["failed"]
    assert text in result["msg"]


def test_a_host_that_never_answers_again_fails() -> None:
    result = Action([LAST, LOST], "timed out", confirm_timeout=3600).run(task_vars=VARIABLES)
    assert result["failed"]
    # Nothing of the hand-over before, and nothing that nobody knows.
    assert (result["transaction"], result["state"]) == (None, None)
    assert f"goes back by itself at about {result['deadline']}" in result["msg"]
    assert calendar.timegm(time.strptime(result["deadline"], "%Y-%m-%dT%H:%M:%SZ")) > time.time() + 3500


def test_a_connection_that_ends_again_is_no_reason_to_say_nothing() -> None:
    result = Action([LAST, LOST, LOST]).run(task_vars=VARIABLES)
    assert result["failed"]
    assert (result["transaction"], result["state"]) == (None, None)
    assert "goes back by itself at about" in result["msg"]


def test_a_host_that_never_answers_again_and_has_no_clock_does_not_go_back() -> None:
    result = Action([{}, LOST], "timed out", confirm="none").run(task_vars=VARIABLES)
    assert (result["failed"], result["deadline"]) == (True, None)
    assert "goes back" not in result["msg"]


def test_one_that_was_taken_back_is_not_confirmed() -> None:
    back = {"failed": True, "msg": "taken back", "state": "rolled_back", "transaction": "new"}
    action = Action([LAST, back], confirm="reconnected")
    assert action.run(task_vars=VARIABLES) == back
    assert action.asked == BEGINNING


@pytest.mark.parametrize("state", ["verified", "confirmed", "rolled_back", "settled"])
def test_other_states_are_the_modules_own(state: str) -> None:
    action = Action([LAST], state=state)
    assert action.run(task_vars=VARIABLES) == LAST
    assert action.asked == [(state, None, False)]


def test_check_mode_asks_for_the_plan_alone() -> None:
    action = Action([{"plan": {}}], confirm="reconnected")
    action._task.check_mode = True
    assert action.run(task_vars=VARIABLES) == {"plan": {}}
    assert action.asked == [("handed_over", "reconnected", True)]


def test_a_task_that_does_not_wait_cannot_reconnect() -> None:
    action = Action([], confirm="reconnected")
    action._task.async_val = 60
    assert "async" in action.run(task_vars=VARIABLES)["msg"]


def test_other_confirmations_may_be_asynchronous() -> None:
    action = Action([{"ansible_job_id": "1"}], confirm="manual")
    action._task.async_val = 60
    assert action.run(task_vars=VARIABLES) == {"ansible_job_id": "1"}
    assert ActionModule._supports_async


# What is judged between the verification and the confirmation.
WELL: dict[str, t.Any] = {"health": {"well": {}}}
SAME = {**WELL, "worse": [], "down": [], "lost": [], "errors": [], "counted": {"lost_upcalls": 0}}
DOWN = ["the link of p1 is down, and was up before"]
WORSE = {**SAME, "worse": DOWN, "down": DOWN}
VERIFIED: dict[str, t.Any] = {"changes": {}}
CONFIRMED = {"state": "confirmed"}
BACK = {"state": "rolled_back", "transaction": "new", "measured": "ovs-vswitchd 3.5.0 forwards"}


def words(action: Action) -> list[str]:
    return [what for what, *__ in action.asked]


def test_a_host_as_well_as_before_is_confirmed(folder: str) -> None:
    action = Action([WELL, LAST, APPLIED, VERIFIED, SAME, CONFIRMED], confirm="reconnected", health=True)
    result = action.run(task_vars=VARIABLES)
    assert words(action) == [
        "health", "info", "handed_over", "reconnect", "verified", "health", "confirmed",
    ]  # fmt: skip
    assert (result["state"], result["breaches"], result["counted"]) == ("confirmed", [], SAME["counted"])
    assert result["health_before"] == WELL["health"]
    # The host keeps it, for a run that goes on with it.
    assert action.given[2]["health_before"] == WELL["health"]
    assert fallen.failed(folder, ["h1"]) == {}


def test_what_is_worse_than_before_is_taken_back_at_once(folder: str) -> None:
    action = Action(
        [WELL, LAST, APPLIED, VERIFIED, WORSE, BACK], confirm="reconnected", health=True, soak=900
    )
    result = action.run(task_vars=VARIABLES)
    assert words(action)[-2:] == ["health", "rolled_back"]
    assert result["failed"]
    assert result["msg"] == f"{WORSE['worse'][0]}. It was taken back: ovs-vswitchd 3.5.0 forwards"
    assert result["state"] == "rolled_back"
    assert fallen.failed(folder, ["h1"]) == {"h1": result["msg"]}


@pytest.mark.parametrize("strategy", ["make_before_break", "restart"])
def test_what_new_flows_lose_in_a_window_that_was_announced_is_not_judged(strategy: str) -> None:
    lost = ["system@ovs-system (packets lost on their way to ovs-vswitchd) counts 72 more than before"]
    applied = {**APPLIED, "plan": {"strategy": strategy}}
    answers = [WELL, LAST, applied, VERIFIED, {**SAME, "worse": lost, "lost": lost}]
    answers.append(BACK if strategy == "make_before_break" else CONFIRMED)
    result = Action(answers, "", confirm="reconnected", health=True).run(task_vars=VARIABLES)
    assert result["breaches"] == (lost if strategy == "make_before_break" else [])


def test_health_of_before_is_needed_to_judge_it_later() -> None:
    result = Action([], state="confirmed", health=True).run(task_vars=VARIABLES)
    assert "health needs health_before" in result["msg"]


def test_one_that_cannot_be_taken_back_is_not_said_to_be() -> None:
    stays = {"failed": True, "msg": "the guard is at work", "state": "failed"}
    answers = [WELL, LAST, APPLIED, VERIFIED, WORSE, stays]
    result = Action(answers, confirm="reconnected", health=True).run(task_vars=VARIABLES)
    assert "It could not be taken back: the guard is at work" in result["msg"]


def test_a_host_whose_health_is_not_known_is_not_touched() -> None:
    action = Action([{"failed": True, "msg": "no answer"}], confirm="reconnected", health=True)
    result = action.run(task_vars=VARIABLES)
    assert "its health before is not known: no answer. Nothing was done" in result["msg"]
    assert words(action) == ["health"]


def test_more_lost_than_allowed_is_taken_back() -> None:
    traffic = {"result": {"established": {"lost": 3, "sent": 90, "longest_outage_ms": 7.0}}}
    answers = [LAST, APPLIED, VERIFIED, traffic, BACK]
    result = Action(answers, confirm="reconnected", max_lost_established="2", probe="p", max_gap_ms=5).run(
        task_vars=VARIABLES
    )
    assert result["breaches"] == [
        "lost 3 of 90 packets of the established flow (2 allowed)",
        "nothing was forwarded for 7 ms (5 allowed)",
    ]


def test_a_host_is_watched_and_its_time_does_not_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now, waited = [0.0], []
    monkeypatch.setattr(ovs_handover.time, "monotonic", lambda: now[0])

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(ovs_handover.time, "sleep", sleep)
    answers = [WELL, LAST, APPLIED, VERIFIED, SAME, APPLIED, SAME, APPLIED, SAME, VERIFIED, CONFIRMED]
    action = Action(answers, confirm="reconnected", health=True, soak=15)
    assert action.run(task_vars=VARIABLES)["state"] == "confirmed"
    assert waited == [10.0, 5.0]
    assert words(action)[4:] == [
        "verified", "health", "settled", "health", "settled", "health", "verified", "confirmed",
    ]  # fmt: skip


@pytest.mark.parametrize("unreachable", [None, "timed out"])
def test_a_connection_that_ends_while_a_host_is_watched_is_made_anew(unreachable: str | None) -> None:
    answers = [{**APPLIED, "window_ms": 3.0}, VERIFIED, LOST, SAME, CONFIRMED]

    class Unreachable(Action):
        def _reconnect(self) -> str | None:
            super()._reconnect()
            return unreachable if "health" in words(self) else None

    action = Unreachable(
        answers, state="confirmed", transaction="new", health=True, health_before=WELL["health"]
    )
    result = action.run(task_vars=VARIABLES)
    assert words(action)[:5] == ["settled", "reconnect", "verified", "health", "reconnect"]
    assert result.get("state") == (None if unreachable else "confirmed")


def test_a_later_task_judges_what_an_earlier_one_has_begun() -> None:
    answers = [{**APPLIED, "window_ms": 3.0}, VERIFIED, WORSE, BACK]
    action = Action(answers, state="confirmed", transaction="new", health=True, health_before=WELL["health"])
    result = action.run(task_vars=VARIABLES)
    assert words(action) == ["settled", "reconnect", "verified", "health", "rolled_back"]
    assert (result["failed"], result["changed"]) == (True, True)


def test_a_later_task_without_limits_only_confirms() -> None:
    action = Action([CONFIRMED], state="confirmed", transaction="new")
    assert action.run(task_vars=VARIABLES) == CONFIRMED
    assert words(action) == ["confirmed"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"soak": 5}, "with confirm=automatic the host confirms"),
        ({"confirm": "manual", "soak": 5}, "belong to the task with state=confirmed"),
        ({"confirm": "reconnected", "max_lost_new": 0}, "need the name of a running ovs_traffic_probe"),
        ({"confirm": "reconnected", "max_gap_ms": "x"}, "a limit is refused"),
    ],
)
def test_limits_that_nobody_could_judge_are_refused_before_anything_is_done(
    options: dict[str, t.Any], words: str
) -> None:
    action = Action([], **options)
    result = action.run(task_vars=VARIABLES)
    assert words in result["msg"]
    assert action.asked == []


def test_a_host_does_not_begin_when_others_have_failed(folder: str) -> None:
    fallen.record(folder, "h2", "it crashed")
    action = Action([], confirm="reconnected", max_failed=0)
    result = action.run(task_vars=VARIABLES)
    assert (
        "failed on 1 of the other hosts, and max_failed is 0. h2: it crashed. Nothing was done"
        in result["msg"]
    )
    assert action.asked == []
    for most in (1, None):
        answers = [LAST, APPLIED, VERIFIED, CONFIRMED]
        options: dict[str, t.Any] = {} if most is None else {"max_failed": most}
        action = Action(answers, "", confirm="reconnected", **options)
        assert action.run(task_vars=VARIABLES)["state"] == "confirmed"


def test_a_host_of_another_play_and_one_that_went_well_later_do_not_count(folder: str) -> None:
    fallen.record(folder, "stranger", "it crashed")
    fallen.record(folder, "h2", "it crashed")
    fallen.record(folder, "h2", None)
    answers = [LAST, APPLIED, VERIFIED, CONFIRMED]
    result = Action(answers, confirm="reconnected", max_failed=0).run(task_vars=VARIABLES)
    assert result["state"] == "confirmed"
