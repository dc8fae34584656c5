# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of ``ovs_handover``: the connection may cross the switch that is being replaced.

A hand-over whose connection was lost is asked for over a new one.  With ``confirm=reconnected`` that one verifies and confirms
it, too, all in one task: after each task a host waits for the slowest of its batch, and would go back by itself meanwhile.
"""

from __future__ import annotations

import contextlib
import time
import typing as t

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

INFO = "ovsops.hot_upgrade.ovs_handover_info"
RECONNECTED, MANUAL, AUTOMATIC = "reconnected", "manual", "automatic"
# Defaults of the module's options, in seconds: how long to wait for the host over a new connection, and it for a confirmation.
RECONNECT_TIMEOUT = 100
CONFIRM_TIMEOUT = 120

Json = dict[str, t.Any]


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    """See the module's documentation.

    ``module`` is the one that is run, ``begins`` are its states that begin a transaction, the default first.
    """

    _supports_async = True
    module = "ovsops.hot_upgrade.ovs_handover"
    begins: tuple[str, ...] = ("handed_over",)

    def run(self, tmp: object = None, task_vars: Json | None = None) -> Json:
        """Run the module, and after a hand-over what only the connected side can do."""
        super().run(tmp, task_vars)
        self._vars = task_vars or {}
        options: Json = dict(self._task.args)
        confirm = options.get("confirm", AUTOMATIC)
        if self._task.async_val and confirm == RECONNECTED:
            why = (
                "confirm=reconnected waits for the host, which a task with async does not: use confirm=manual"
            )
            return failed({}, why)
        if (
            options.get("state", self.begins[0]) not in self.begins
            or self._task.check_mode
            or self._task.async_val
        ):
            return self._module(options, wrap_async=bool(self._task.async_val))
        if confirm == RECONNECTED:
            options["confirm"] = MANUAL
        result = self._hand_over(options)
        # With "automatic" the module has confirmed it, unless the connection was lost.
        if (
            confirm not in (RECONNECTED, AUTOMATIC)
            or result.get("failed")
            or result.get("state") != "applied"
        ):
            return result
        try:
            return self._confirm(result)
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

    def _confirm(self, result: Json) -> Json:
        """Reach the host anew, have it account for every difference, and make the hand-over final."""
        unreachable = self._reconnect()
        if unreachable:
            return failed(result, f"the host does not answer over a new connection: {unreachable}")
        for state in ("verified", "confirmed"):
            found = self._module({**self._place(), "state": state, "transaction": result["transaction"]})
            result = {**result, **told(found)}
            if found.get("failed"):
                return self._ask_again(result, str(found.get("msg")))
        return {**result, "verified": True}

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

    def _settled(self) -> Json:
        """How the last hand-over stands when what was under way has come to its end."""
        return self._module({**self._place(), "state": "settled"})

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

    def _module(self, options: Json, wrap_async: bool = False) -> Json:
        return t.cast(
            "Json", self._execute_module(self.module, options, task_vars=self._vars, wrap_async=wrap_async)
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
