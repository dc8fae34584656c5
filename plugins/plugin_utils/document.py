# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout as JSON, for programs; docs/report.md has the format.

``VERSION`` grows when something is gone or means another thing.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils import summary
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.host_facts import Facts
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.rollout import Host, Rollout
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.verdict import Verdict, numbers

FORMAT, VERSION = "ovsops.hot_upgrade.rollout", 1


def document(rollout: Rollout, hosts: t.Sequence[Facts], found: Verdict) -> str:
    """The text of the file."""
    batch_of = {name: number for number, batch in enumerate(rollout.batches, 1) for name in batch.hosts}
    content = {
        "format": FORMAT,
        "version": VERSION,
        "state": rollout.state,
        "rollout": rollout.name,
        "playbook": rollout.playbook,
        "check_mode": rollout.check_mode,
        "forks": rollout.forks,
        "began": moment(rollout.began),
        "ended": moment(rollout.ended),
        "written": moment(rollout.now),
        "verdict": dataclasses.asdict(found),
        "totals": numbers(hosts),
        "batches": [
            {
                "number": batch.number,
                "of": batch.of,
                "began": moment(batch.began),
                "ended": moment(batch.ended),
                "hosts": batch.hosts,
            }
            for batch in rollout.batches
        ],
        "batches_to_come": rollout.to_come,
        "hosts": [_host(host, each, batch_of.get(host.name)) for host, each in zip(rollout.hosts, hosts)],
    }
    # What a host tells may be of any type.
    return json.dumps(content, default=str) + "\n"


def _host(host: Host, found: Facts, batch: int | None) -> dict[str, t.Any]:
    return {
        **summary.line(found),
        "batch": batch,
        "failed_in": found.step if found.failure else "",
        "remark": found.remark,
        "hidden_by_no_log": found.hidden,
        "steps": [
            {"name": step.name, "began": moment(step.began), "ended": moment(step.ended)}
            for step in host.steps
        ],
        "reasons": {strategy: list(why) for strategy, why in found.reasons},
        "changes": list(found.changes),
        "result": host.result or None,
        "handover": host.handover or None,
    }


def moment(seconds: float | None) -> str | None:
    """Seconds since the epoch in UTC, as ISO 8601."""
    if seconds is None:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat(timespec="milliseconds")
