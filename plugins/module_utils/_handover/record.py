# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What is known of the hand-overs of this host, as ``ovs_handover`` and ``ovs_handover_info`` return it; only reads."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import NAME, RELOAD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import lease
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.step import timeline
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    APPLIED,
    ROOT,
    Json,
    Transaction,
    find,
    find_of,
    transactions,
)


def records(identifier: str | None = None, root: str = ROOT) -> list[Json]:
    """Every hand-over and reload of which this host keeps a record, newest first, or the named one; of a host without any, none.

    Only the first can be unfinished.  Raises ``Refused`` where there is none of this name.
    """
    ours = (NAME, RELOAD, "")  # a damaged one is everybody's
    if identifier and find(identifier, root).operation not in ours:
        find_of(NAME, identifier, root)  # it says whose it is
    found = [find(identifier, root)] if identifier else transactions(root)[::-1]
    return [report(transaction) for transaction in found if transaction.operation in ours]


def report(transaction: Transaction) -> Json:
    """The outcome as ``ovs_handover`` returns it; times are monotonic microseconds of the host."""
    result = transaction.read("result.json") or {}
    marks = result.get("marks", {})
    plan = _asked(transaction, "plan")
    # Of a reload alone, whoever asks for it.
    gap = {"gap_ms": _milliseconds(marks, "module: sealed", "module: busiest flows")}
    return {
        "plan": plan,
        **_judged_by(transaction),
        "transaction": transaction.id,
        "operation": transaction.operation,
        "state": transaction.state,
        "deadline": _deadline(transaction),
        "timeline": result.get("timeline", timeline(transaction)),
        "window_ms": _milliseconds(marks, "stopped", "forwarding"),
        **(gap if transaction.operation == RELOAD else {}),
        "refill_ms": _milliseconds(marks, "flushed", "refilled"),
        "verification": {key: result[key] for key in ("proof", "compared") if key in result},
        "proof": _proof_text(plan, result),
        "connections": result.get("connections"),
        "changes": result.get("changes", {}),
        "changed_since_snapshot": result.get("changed_since_snapshot", {}),
        "not_carried": result.get("not_carried", []),
        "reason": result.get("reason", ""),
        "measured": result.get("measured", ""),
        "not_undone": result.get("not_undone", []),
    }


def _asked(transaction: Transaction, name: str) -> Json:
    """A document of the request; nothing where the record is damaged, which is told all the same: it is in the way of others."""
    try:
        return dict(transaction.request[name])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _judged_by(transaction: Transaction) -> Json:
    """The health of before, for whoever is to confirm it: it may be another run than the one that began it."""
    found = _asked(transaction, "health_before") if transaction.state == APPLIED else {}
    return {"health_before": found} if found else {}


def _deadline(transaction: Transaction) -> str | None:
    """When the host goes back by itself, in UTC; None when nobody has to confirm anything."""
    left = lease.left(transaction) if transaction.state == APPLIED else None
    return None if left is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + left))


def _milliseconds(marks: t.Mapping[str, int], begin: str, end: str) -> float | None:
    if begin not in marks or end not in marks:
        return None
    return max(0, marks[end] - marks[begin]) / 1000


def _proof_text(plan: Json, result: Json) -> str:
    """What was proved, or why nothing was, in words."""
    if "proof" in result:
        # A record of an older version of this collection has none.
        return str(result["proof"].get("text", ""))
    planned = str(plan.get("proof", ""))
    return planned if planned.startswith("nothing") else "nothing was proved: it did not come to that"
