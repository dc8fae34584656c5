# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What ``ovs_kmod_reload`` does while it is connected: look, plan, hand the work to the engine, wait for it."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import plan
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.facts import read_facts
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.handover import (
    Wish,
    accept,
    describe_plan,
    failure,
    requested,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.record import report
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.reload_operation import OPERATION
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import NO, Reload, Request
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.strategies import steps_for
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import facts as module_facts
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import images
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import plan as module_plan
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import kernel_modules
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Outcome
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Connection
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import connected
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    APPLIED,
    CONFIRMED,
    Json,
)


@dataclasses.dataclass(frozen=True)
class ReloadWish:
    """What is asked of a reload: the options of ``ovs_kmod_reload``."""

    state: str
    bypass: str
    held: str
    confirm: str
    confirm_timeout: float
    snapshot: str | None = None
    target_version: str | None = None
    health_before: Json | None = None


def keep(check_mode: bool) -> Outcome:
    """Keep the file of the module that is loaded, before a package replaces it."""
    module = kernel_modules.modules()[0]
    if check_mode:
        changed = module.loaded and images.kept(module) is None
        return Outcome(changed, {"kept": images.kept(module)})
    path = images.keep(module)
    return Outcome(path is not None, {"kept": images.kept(module)})


def reload(connection: Connection, wish: ReloadWish, check_mode: bool) -> Outcome:
    """Load the module that is on the disk, and wait until that is done or undone."""
    facts = read_facts(connection)
    if check_mode and wish.target_version:
        facts = facts.with_version(wish.target_version)
    elif wish.state == module_plan.COMING and not check_mode:
        raise Refused("state=coming does nothing", "it is a look ahead", "Use it in check mode")
    versions = {
        f"Open vSwitch {facts.old}, which runs,": facts.old,
        f"Open vSwitch {facts.new}, which is to run,": facts.new,
    }
    found = module_facts.read_facts(versions)
    decision = module_plan.decide(found, wish.state, wish.held)
    before, after = {"module": _identity(found, False)}, {"module": _identity(found, True)}
    values: Json = {"plan": _described(decision)}
    if not decision.needed:
        return Outcome(False, values, before, before)
    reasons = [*decision.reasons, *_reasons(facts)]
    if reasons:
        why, hint = "; ".join(reasons), "Fix what is named, and start again"
        refused = Refused("the kernel module of this host cannot be reloaded", why, hint)
        return Outcome(False, values, before, before, refused)
    request = requested_reload(connection, facts, found, wish)
    values["plan"] = _planned(decision, request.plan)
    if check_mode:
        return Outcome(True, values, before, after)
    transaction = connected.begin(OPERATION, dataclasses.replace(request, plan=values["plan"]).json())
    state = connected.wait(transaction, OPERATION)
    error = accept(transaction, wish.confirm, OPERATION) if state == APPLIED else None
    values.update(told(report(transaction), transaction.read("result.json") or {}))
    if values["state"] in (APPLIED, CONFIRMED):
        return Outcome(True, values, before, after, error)
    return Outcome(True, values, before, before, failure(values, "reload"))


def told(values: Json, result: Json) -> Json:
    """The outcome with what only a reload has."""
    return {
        **values,
        "bypass": result.get("bypass", ""),
        "new_flows": result.get("new_flows", ""),
        "restored": result.get("restored", {}),
    }


def _reasons(facts: plan.Facts) -> t.Iterator[str]:
    if facts.userspace:
        yield "no bridge uses the kernel's datapath: unload the module with 'modprobe -r openvswitch' and load it again"
    if facts.other_config.get("hw-offload", "false").lower() == "true":
        yield "hardware offload is on (other_config:hw-offload): its flows are in the devices, not in the datapath"
    yield from plan.REASONS[plan.RESTART](facts)


def requested_reload(
    connection: Connection, facts: plan.Facts, found: module_plan.Facts, wish: ReloadWish
) -> Request:
    """What the transaction is to do.

    The daemons are those on the disk afterwards: where they are others, one interruption serves for both.
    """
    decision = plan.decide(facts, plan.RESTART, force=True)
    asked = Wish(plan.RESTART, True, wish.snapshot, wish.confirm, wish.confirm_timeout, 0)
    request = requested(connection, facts, decision, asked)
    wait = list(plan.too_little_memory(facts))
    request = dataclasses.replace(
        request,
        strategy=plan.RELOAD,
        health_before=wish.health_before,
        restart_server=facts.server.upgrade_pending,
        reload=Reload(
            found.module.disk_path or "",
            images.kept(found.module) or found.module.disk_path or "",
            wish.bypass,
            stand_in=wish.bypass != NO and not wait,
        ),
    )
    steps = [step.name for step in steps_for(request)]
    described = describe_plan(decision, 0, steps)
    if found.without and wish.bypass != NO:
        lacking = ", ".join(found.without)
        described["warnings"].append(
            f"established flows may stop while the module is away: tc has no {lacking} (modprobe)"
        )
    described["warnings"] += [f"new flows wait for the new ovs-vswitchd: {why}" for why in wait]
    return dataclasses.replace(request, plan=described)


def _described(decision: module_plan.Plan) -> Json:
    return {
        "needed": decision.needed,
        "why": decision.why,
        "reasons": list(decision.reasons),
        "warnings": list(decision.warnings),
        "summary": [decision.why, *(f"warning: {text}" for text in decision.warnings)],
        "steps": [],
    }


def _planned(decision: module_plan.Plan, restart: Json) -> Json:
    """The plan of a reload, from that of the module and that of the restart of the daemons in it."""
    old, new = (restart[when]["ovs-vswitchd"] for when in ("before", "after"))
    daemon = f"ovs-vswitchd {old} is started anew" if old == new else f"ovs-vswitchd {new} follows {old}"
    warnings = [*decision.warnings, *restart["warnings"]]
    return {
        **_described(decision),
        "strategy": plan.RELOAD,
        "before": restart["before"],
        "after": restart["after"],
        "warnings": warnings,
        "summary": [decision.why, f"{daemon} with it", *(f"warning: {text}" for text in warnings)],
        "steps": restart["steps"],
    }


def _identity(found: module_plan.Facts, on_disk: bool) -> str:
    module = found.module
    if on_disk:
        return module.disk_build_id or module.disk_srcversion or "unknown"
    return module.build_id or module.srcversion or "unknown"
