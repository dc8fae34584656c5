# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What ``ovs_handover`` does while it is connected: look, plan, hand the work to the engine, wait for it."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.clock import boot_id
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Refused,
    attempt,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import reload_operation
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.applied import AGAIN, UNPRIMED
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.facts import read_facts
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.operation import OPERATION
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners import choice
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.plan import (
    STRATEGIES,
    Facts,
    Plan,
    decide,
    sentences,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.record import report
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import (
    NAME,
    RELOAD,
    Request,
    first_of,
    inventory,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.strategies import steps_for
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import homes
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Outcome
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import OVSDB_SERVER, VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.homes import Homes
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Connection
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.schema import schema_file
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import connected, lease
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.operation import Operation
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    APPLIED,
    CONFIRMED,
    FAILED,
    ROLLED_BACK,
    ROOT,
    Json,
    Transaction,
    transactions,
)

# How often a hand-over is begun whose preparation somebody's changes of the database overtake.
MOST_TRIES = 3


@dataclasses.dataclass(frozen=True)
class Wish:
    """What is asked of a hand-over: the options of ``ovs_handover``."""

    strategy: str
    force: bool
    snapshot: str | None
    confirm: str
    confirm_timeout: float
    prove: int
    accept: t.Sequence[str] = ()
    target_version: str | None = None
    health_before: Json | None = None
    homes: Homes | None = None


def hand_over(connection: Connection, wish: Wish, check_mode: bool) -> Outcome:
    """Bring the daemons of this host to the version on the disk, and wait until that is done or undone."""
    facts = read_facts(connection, wish.homes)
    if check_mode and wish.target_version:
        facts = facts.with_version(wish.target_version)
    decision = decide(facts, wish.strategy, wish.force)
    request = requested(connection, facts, decision, wish) if decision.strategy else None
    values: Json = {"plan": request.plan if request else describe_plan(decision, wish.prove)}
    if not decision.needed:
        return Outcome(False, values, decision.before, decision.before)
    if request is None:
        return Outcome(False, values, decision.before, decision.before, _refusal(decision, wish.strategy))
    if check_mode:
        return Outcome(True, values, decision.before, decision.after)
    transaction = _carry_out(connection, request, wish)
    state = transaction.state
    error = accept(transaction, wish.confirm) if state == APPLIED else None
    values.update(report(transaction))
    if state in (APPLIED, CONFIRMED):
        return Outcome(True, values, decision.before, decision.after, error)
    return Outcome(True, values, decision.before, decision.before, failure(values))


def accept(
    transaction: Transaction, confirm: str, operation: Operation[Host] = OPERATION
) -> HotUpgradeError | None:
    """Confirm what was applied where nobody else is to; what is wrong with that."""
    attempt(lambda: lease.renew(transaction))
    if confirm == "automatic":
        try:
            connected.end(transaction, CONFIRMED, operation)
        except HotUpgradeError as error:
            return error
    return None


def _carry_out(connection: Connection, request: Request, wish: Wish) -> Transaction:
    """Hand over, and once more with a plan of now when the preparation has found another one to be needed."""
    unprimed = ""
    for __ in range(MOST_TRIES):
        transaction = connected.begin(OPERATION, request.json())
        state = connected.wait(transaction, OPERATION)
        result = transaction.read("result.json") or {}
        if state != ROLLED_BACK or not result.get(AGAIN):
            break
        # Not the plan of before: ovsdb-server may be the new one already.
        unprimed = result.get(UNPRIMED, unprimed)
        facts = dataclasses.replace(read_facts(connection, wish.homes), unprimed=unprimed)
        decision = decide(facts, wish.strategy, wish.force)
        if decision.strategy is None:
            break
        request = requested(connection, facts, decision, wish)
    return transaction


def operation_of(identifier: str | None, root: str = ROOT) -> Operation[Host]:
    """That of the transaction that is meant: what ``ovs_kmod_reload`` has begun ``ovs_handover`` brings to its end, too."""
    ours = {each.id: each.operation for each in transactions(root) if each.operation in (NAME, RELOAD)}
    kind = ours.get(identifier) if identifier else next(reversed(ours.values()), NAME)
    return reload_operation.OPERATION if kind == RELOAD else OPERATION


def end(identifier: str | None, state: str, check_mode: bool) -> Outcome:
    """Confirm a transaction (the one that is not finished), or roll it back; one that is there already stays."""
    operation = operation_of(identifier)
    transaction = connected.named(identifier, operation.name)
    before = transaction.state
    if before == state or check_mode:
        return Outcome(before != state, report(transaction), {"state": before}, {"state": state})
    connected.end(transaction, state, operation)
    values = report(transaction)
    error = failure(values) if values["state"] == FAILED else None
    return Outcome(True, values, {"state": before}, {"state": values["state"]}, error)


def verify(identifier: str | None) -> Outcome:
    """Account for every difference between what the switch held before the hand-over, and holds now; nothing is changed."""
    operation = operation_of(identifier)
    transaction = connected.named(identifier, operation.name)
    if transaction.state == CONFIRMED:  # somebody else has, and looked before
        return Outcome(False, report(transaction), {}, {})
    if transaction.state != APPLIED:
        raise Refused(
            f"transaction {transaction.id} is {transaction.state}: there is nothing to verify any more",
            "the switch is followed from the snapshot to the confirmation or the rollback",
            "The field changes of its result has what was seen up to then",
        )
    try:
        connected.verify(transaction, operation)
    except HotUpgradeError as error:
        return Outcome(False, report(transaction), {}, {}, error)
    return Outcome(False, report(transaction), {}, {})


def settle(identifier: str | None, check_mode: bool, root: str = ROOT) -> Outcome:
    """Wait until a transaction waits for its confirmation or is finished; what a dead engine has left is undone.

    It is the named one, else the one that is not finished, else the last one; a host without any has nothing to tell.
    """
    operation = operation_of(identifier, root)
    transaction = connected.latest(identifier, operation.name, root)
    if transaction is None:
        return Outcome(False, {})
    before = transaction.state
    if not check_mode:
        connected.settle(transaction, operation)
    values = report(transaction)
    return Outcome(values["state"] != before, values, {"state": before}, {"state": values["state"]})


def requested(connection: Connection, facts: Facts, decision: Plan, wish: Wish) -> Request:
    """What is to be done where ``facts`` led to the ``decision``, which has a strategy."""
    daemons = {VSWITCHD: facts.vswitchd, OVSDB_SERVER: facts.server}
    between = homes.with_pods(wish.homes)
    request = Request(
        strategy=decision.strategy or "",
        plan={},
        rundir=connection.rundir,
        remote=connection.remote,
        timeout=connection.timeout,
        **inventory(facts.bridges),
        lost_ports=decision.lost_ports,
        userspace=decision.userspace,
        dpdk=decision.dpdk,
        snapshot=wish.snapshot,
        confirm=wish.confirm,
        confirm_timeout=wish.confirm_timeout,
        prove=wish.prove if decision.comparable else 0,
        accept=tuple(wish.accept),
        convert=decision.convert,
        downgrade=decision.downgrade,
        dispatch=decision.dispatch,
        restart_server=decision.restart_server,
        start=decision.start,
        schema=_schema_of(wish.homes),
        homes=between,
        vswitchd=first_of(facts.instances[VSWITCHD], connection),
        server=first_of(facts.instances[OVSDB_SERVER], connection),
        supervisors={
            name: choice.as_json(choice.of_daemon(daemon, between), daemon.binary)
            for name, daemon in daemons.items()
        },
        boot=boot_id(),
        protocols=decision.protocols,
        health_before=wish.health_before,
    )
    steps = [step.name for step in steps_for(request)]
    return dataclasses.replace(request, plan=describe_plan(decision, wish.prove, steps))


def _schema_of(between: Homes | None) -> str:
    """Its file as the programs of the new version call it, empty without one."""
    root = homes.root_of(homes.enter(between))
    found = schema_file(root)
    return os.path.join("/", os.path.relpath(found, root)) if found else ""


def describe_plan(decision: Plan, prove: int, steps: t.Sequence[str] = ()) -> Json:
    """The plan as JSON; ``steps`` are the names that the timeline will show."""
    return {
        "strategy": decision.strategy,
        "needed": decision.needed,
        "reasons": {name: list(reasons) for name, reasons in decision.refused.items()},
        "window": decision.window,
        "warnings": list(decision.warnings),
        "proof": decision.proof if prove else "nothing is proved before the switch-over: prove is 0",
        "before": dict(decision.before),
        "after": dict(decision.after),
        "steps": list(steps),
        "summary": sentences(decision),
    }


def _refusal(decision: Plan, wanted: str) -> Refused:
    """What stands in the way of every strategy is said once, then what else stands in the way of each."""
    reasons = decision.refused if wanted == "auto" else {wanted: decision.refused[wanted]}
    first, *others = reasons.values()
    allowed = [name for name in STRATEGIES if name not in decision.refused]
    shared = [text for text in first if all(text in texts for texts in others)]
    own = {name: [text for text in texts if text not in shared] for name, texts in reasons.items()}
    why = [*shared, *(f"{name}: {', '.join(texts)}" for name, texts in own.items() if texts)]
    hint = (
        f"It allows {', '.join(allowed)}: choose one of these, or auto"
        if allowed
        else "Fix what is named, and start again"
    )
    return Refused(
        f"this host cannot be handed over{'' if wanted == 'auto' else f' by {wanted}'}", "; ".join(why), hint
    )


def failure(values: Json, what: str = "hand-over") -> HotUpgradeError:
    """The error of a hand-over, or of ``what`` was done else, that was rolled back or could not be, from its ``report``."""
    if values["state"] == FAILED:
        return HotUpgradeError(
            f"the {what} failed and could not be undone completely",
            f"{values['reason']}; not undone: {'; '.join(values['not_undone'])}",
            f"Fix what is named, then roll back transaction {values['transaction']} again",
        )
    found = values["measured"] or "nothing: look at the host with ovs_info"
    return HotUpgradeError(f"the {what} was taken back", values["reason"], f"Found afterwards: {found}")
