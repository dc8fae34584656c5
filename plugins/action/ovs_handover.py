# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of ``ovs_handover``: the connection may cross the switch that is being replaced.

A hand-over whose connection was lost is asked for over a new one.  With ``confirm=reconnected`` that one verifies, judges and
confirms it, too, all in one task: after each task a host waits for the slowest of its batch, and would go back meanwhile.
"""

from __future__ import annotations

import contextlib
import time
import typing as t
from types import MappingProxyType

from ansible import constants
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils import fallen
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.judgement import Budget, breaches

INFO = "ovsops.hot_upgrade.ovs_handover_info"
HEALTH = "ovsops.hot_upgrade.ovs_health_info"
PROBE = "ovsops.hot_upgrade.ovs_traffic_probe"
RECONNECTED, MANUAL, AUTOMATIC = "reconnected", "manual", "automatic"
# Defaults of the module's options, in seconds: how long to wait for the host over a new connection, and it for a confirmation.
RECONNECT_TIMEOUT = 100
CONFIRM_TIMEOUT = 120
# How long what is down after a hand-over may take to be up again, and how often a host is looked at before it is confirmed, in
# seconds; never more than a third of the time after which it goes back by itself.
RECOVERY, LOOK_INTERVAL = 30.0, 10.0

Json = dict[str, t.Any]
NOTHING: t.Mapping[str, t.Any] = MappingProxyType({})


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    """See the module's documentation.

    ``module`` is the one that is run, ``begins`` are its states that begin a transaction, the default first.
    """

    _supports_async = True
    module = "ovsops.hot_upgrade.ovs_handover"
    begins: tuple[str, ...] = ("handed_over",)

    def run(self, tmp: object = None, task_vars: Json | None = None) -> Json:
        """Run the module, and around a hand-over do what only the connected side can do."""
        super().run(tmp, task_vars)
        self._vars = task_vars or {}
        options: Json = dict(self._task.args)
        state, confirm = options.get("state", self.begins[0]), options.get("confirm", AUTOMATIC)
        begins, waits = state in self.begins, not self._task.async_val
        if self._task.check_mode or not (begins or state == "confirmed"):
            return self._module(options, wrap_async=not waits)
        if begins and not waits and confirm == RECONNECTED:
            why = (
                "confirm=reconnected waits for the host, which a task with async does not: use confirm=manual"
            )
            return failed({}, why)
        try:
            self._budget = Budget.of(options)
        except (ValueError, TypeError) as error:
            return failed({}, f"a limit is refused: {error}")
        mistake = self._budget.mistake(
            "begins" if begins else state, confirm, waits, bool(options.get("health_before"))
        )
        if mistake:
            return failed({}, f"{mistake}. Nothing was done")
        if not waits:
            return self._module(options, wrap_async=True)
        if not begins and not self._budget.judges:
            return self._module(options)
        host = str(self._vars.get("inventory_hostname"))
        stopped = self._stopped(host) if begins else ""
        if stopped:
            return failed({}, stopped)
        fallen.record(constants.DEFAULT_LOCAL_TMP, host, None)
        result = self._begin(options, confirm) if begins else self._end(options)
        if result.get("failed"):
            fallen.record(constants.DEFAULT_LOCAL_TMP, host, str(result.get("msg")))
        return result

    def _begin(self, options: Json, confirm: str) -> Json:
        """Hand over, and confirm it where that is asked for."""
        before = self._health() if self._budget.health else {}
        if before.get("failed"):
            return failed({}, f"its health before is not known: {before.get('msg')}. Nothing was done")
        if confirm == RECONNECTED:
            options["confirm"] = MANUAL
        if before:
            options["health_before"] = before["health"]
        result = self._hand_over(options)
        if before:
            result["health_before"] = before["health"]
        # With "automatic" the module has confirmed it, unless the connection was lost.
        waits = not result.get("failed") and result.get("state") == "applied"
        if waits and confirm in (RECONNECTED, AUTOMATIC):
            return self._confirm_safely(result, before.get("health"))
        return result

    def _stopped(self, host: str) -> str:
        """Why this host must not begin; empty if it may."""
        most = self._task.args.get("max_failed")
        others = set(self._vars.get("ansible_play_hosts_all", [])) - {host}
        found = fallen.failed(constants.DEFAULT_LOCAL_TMP, others) if most is not None else {}
        if len(found) <= int(most or 0):
            return ""
        reasons = "; ".join(f"{other}: {why}" for other, why in found.items())
        return (
            f"it was not begun, because the hand-over has failed on {len(found)} of the other hosts, and max_failed is {most}. "
            f"{reasons}. Nothing was done. When the cause is fixed, run it again"
        )

    def _end(self, options: Json) -> Json:
        """Confirm what an earlier task has begun, after it was judged."""
        result = self._settled({"transaction": options.get("transaction")})
        if result.get("failed") or result.get("state") != "applied":
            return self._module(options)
        return {**self._confirm_safely(result, options.get("health_before")), "changed": True}

    def _confirm_safely(self, result: Json, before: Json | None) -> Json:
        try:
            return self._confirm(result, before)
        except AnsibleConnectionFailure as lost:
            return self._ask_again(
                result, f"the connection was lost before it was known to be confirmed ({lost})"
            )

    def _hand_over(self, options: Json) -> Json:
        known = self._record().get("transaction")
        try:
            return self._module(options)
        except AnsibleConnectionFailure as lost:
            return self._learn(known, f"the connection was lost in the hand-over ({lost})")

    def _learn(self, known: str | None, lost: str) -> Json:
        """How a hand-over went that the connection did not see the end of; ``known`` is the one before it."""
        back = time.time() + float(self._task.args.get("confirm_timeout", CONFIRM_TIMEOUT))
        unreachable = self._reconnect()
        if unreachable:
            return self._unknown(f"{lost}, and the host does not answer: {unreachable}", back)
        try:
            result = self._settled()
        except AnsibleConnectionFailure as again:
            return self._unknown(f"{lost}, and again ({again})", back)
        if result.get("failed"):
            return failed(result, f"{lost}; {result.get('msg')}")
        if result.get("transaction") == known:
            return failed({}, f"{lost} before the host began it. Run it again")
        if result.get("state") not in ("applied", "confirmed"):
            why = "; ".join([str(result.get("reason")), *result.get("not_undone", [])])
            return failed(result, f"{lost}; it is {result.get('state')}: {why}")
        return {**result, "changed": True}

    def _unknown(self, lost: str, back: float) -> Json:
        """What can be said of a hand-over that nobody can be asked about; one done by now is taken back ``back`` (Unix time)."""
        known: Json = {"transaction": None, "state": None, "deadline": None}
        why = f"{lost}. What it had begun it brings to an end"
        if self._task.args.get("confirm") == "none":
            return failed(known, f"{why}, and confirm=none has it keep that")
        deadline = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(back))
        return failed(
            {**known, "deadline": deadline},
            f"{why}. If nobody can confirm it, the host goes back by itself at about {deadline}; then ask ovs_handover_info",
        )

    def _confirm(self, result: Json, before: Json | None) -> Json:
        """Reach the host anew, have it account for every difference, judge it, and make the hand-over final."""
        unreachable = self._reconnect()
        if unreachable:
            return failed(result, f"the host does not answer over a new connection: {unreachable}")
        of_it = {**self._place(), "transaction": result["transaction"]}
        result, why = self._become(result, of_it, "verified")
        if why is None and self._budget.judges:
            result = self._judged(result, before, of_it)
            if result["breaches"]:
                return self._take_back(result, of_it)
        if why is None and self._budget.soak:  # what has become different while it was watched
            result, why = self._become(result, of_it, "verified")
        if why is None:
            result, why = self._become(result, of_it, "confirmed")
        return {**result, "verified": True} if why is None else self._ask_again(result, why)

    def _become(self, result: Json, of_it: Json, state: str) -> tuple[Json, str | None]:
        """Have the host go on to a ``state``: the ``result`` with what it tells, and why it did not, or None."""
        found = self._module({**of_it, "state": state})
        return {**result, **told(found)}, str(found.get("msg")) if found.get("failed") else None

    def _judged(self, result: Json, before: Json | None, of_it: Json) -> Json:
        """The ``result`` with its ``breaches``, when the host was watched for long enough, or as soon as it has got worse."""
        # All others have a window in which new flows have to wait, and some of them in vain, as the plan says.
        zero = (result.get("plan") or {}).get("strategy") == "make_before_break"
        end = time.monotonic() + self._budget.soak
        while True:
            health = self._again(lambda: self._health(before)) if before is not None else {}
            left = end - time.monotonic()
            bad = health.get("down") or health.get("errors") or (zero and health.get("lost"))
            if bad or health.get("failed") or left <= 0:
                break
            time.sleep(min(left, LOOK_INTERVAL, self._third()))
            # The host has another while before it goes back by itself.
            self._again(lambda: self._module({**of_it, "state": "settled"}))
        if health.get("failed"):
            health = {"worse": [f"its health is not known: {health.get('msg')}"], "lost": []}
        worse = [each for each in health.get("worse", []) if zero or each not in health["lost"]]
        found = breaches(self._budget, result, self._traffic(), worse)
        return {**result, "counted": health.get("counted"), "breaches": found}

    def _again(self, ask: t.Callable[[], Json]) -> Json:
        """The answer of the host, over a new connection if this one ends: that alone is no reason to go back."""
        try:
            return ask()
        except AnsibleConnectionFailure:
            if self._reconnect():
                raise
            return ask()

    def _health(self, before: Json | None = None) -> Json:
        """How well the host is; what was up ``before`` gets some time to be up again."""
        compared = {} if before is None else {"before": before, "wait": min(RECOVERY, self._third())}
        return self._module({**self._place(), **compared}, HEALTH)

    def _third(self) -> float:
        """Of the time after which a host goes back by itself, in seconds."""
        return float(self._task.args.get("confirm_timeout", CONFIRM_TIMEOUT)) / 3

    def _traffic(self) -> Json | None:
        """What the probe has measured until now; None without one, or where it does not tell."""
        if not (self._budget.probe and self._budget.measures):
            return None
        found = self._module({"name": self._budget.probe, "state": "stopped"}, PROBE)
        return t.cast("Json | None", found.get("result"))

    def _take_back(self, result: Json, of_it: Json) -> Json:
        """Roll a host back that is not as it may be, and say what became of it."""
        why = "; ".join(result["breaches"])
        found = self._module({**of_it, "state": "rolled_back"})
        result = {**result, **told(found)}
        if result.get("state") != "rolled_back":
            return failed(result, f"{why}. It could not be taken back: {found.get('msg')}")
        return failed(
            result, f"{why}. It was taken back: {result.get('measured') or 'the version before runs'}"
        )

    def _ask_again(self, result: Json, why: str) -> Json:
        """The ``result`` as the host has it now: it may have been confirmed, or have gone back, meanwhile."""
        found: Json = {}
        with contextlib.suppress(AnsibleConnectionFailure):
            if not self._reconnect():
                found = self._record(result["transaction"])
        if "state" not in found:
            return {
                **result,
                "failed": True,
                # Not that of before: nobody knows.
                "state": None,
                "msg": f"{why}. Whether {result['transaction']} is confirmed is not known. If it is not, the host goes back by "
                f"itself at {result.get('deadline')} at the earliest; ask ovs_handover_info",
            }
        result = {**result, **told(found)}
        return result if found["state"] == "confirmed" else failed(result, why)

    def _settled(self, of_it: t.Mapping[str, t.Any] = NOTHING) -> Json:
        """How a hand-over, by default the last one, stands when what was under way has come to its end."""
        return self._module({**self._place(), **of_it, "state": "settled"})

    def _record(self, transaction: str | None = None) -> Json:
        """What the host has written down of a hand-over, of the last one by default; nothing where it cannot tell."""
        found = self._execute_module(INFO, {"transaction": transaction}, task_vars=self._vars)
        return t.cast("Json", next(iter(found.get("transactions", [])), {}))

    def _place(self) -> Json:
        """The options that say where Open vSwitch is."""
        return {
            name: self._task.args[name]
            for name in ("rundir", "database", "timeout")
            if name in self._task.args
        }

    def _module(self, options: Json, module: str = "", wrap_async: bool = False) -> Json:
        return t.cast(
            "Json",
            self._execute_module(module or self.module, options, task_vars=self._vars, wrap_async=wrap_async),
        )

    def _reconnect(self) -> str | None:
        """Wait until the host answers over a new connection; why it does not, or None."""
        task = self._task.copy()
        task.args = {"timeout": int(self._task.args.get("reconnect_timeout", RECONNECT_TIMEOUT)), "sleep": 1}
        action = self._shared_loader_obj.action_loader.get(
            "ansible.builtin.wait_for_connection",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        found = action.run(task_vars=self._vars)
        return str(found.get("msg", "no reason was given")) if found.get("failed") else None


def told(found: Json) -> Json:
    """What a later look at a hand-over adds to its result."""
    apart = ("changed", "diff", "failed", "msg", "invocation", "warnings", "deprecations", "exception")
    return {name: value for name, value in found.items() if name not in apart and not name.startswith("_")}


def failed(result: Json, why: str) -> Json:
    """``result`` as that of a task that failed; one that is not confirmed says when the host goes back."""
    if result.get("state") == "applied":
        why = f"{why}. It is not confirmed: the host goes back by itself at {result.get('deadline')} at the earliest"
    return {**result, "failed": True, "msg": why}
