# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What a transaction does, as plain data and functions; engine, guard, confirmation and rollback know nothing else of it.

docs/extending.md tells how to add one.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.step import Step
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.transaction import (
    Json,
    Transaction,
)

C = t.TypeVar("C")


@dataclasses.dataclass(frozen=True)
class Operation(t.Generic[C]):
    """One kind of change of a host; ``C`` is the context that its steps receive, opaque to everybody else.

    ``name``         as in ``ovs_NAME``, the module; programs are called by it (``ovsops-NAME-engine``)
    ``format``       of the request; what reads another format does not know what it means
    ``module``       where the transaction's own copy finds it, under the name ``OPERATION``
    ``heavy``        by the state at the end, what a finished transaction has no use for

    ``context``      begin to work on a transaction in this process; the second argument is the context of the same
                     transaction in which a step failed, for what it has seen, or None.  Raises when the request is wrong
    ``close``        let go of everything
    ``steps``        what is to be done, in order
    ``conclude``     when all steps are done: have it outlive a power loss, and return what is to be noted in ``result.json``.
                     Raises when it must not be applied
    ``failed``       after a step has failed: note what is to be known of it and let go, before somebody undoes it
    ``watch``        from ``applied`` on: return when the function it is given says that it is over, or at once
    ``ended_since``  why what was applied does not hold any more and must not wait for its confirmation, or None
    ``verify``       what a connected caller asks for before it confirms; raises what is wrong
    ``roll_back``    undo what was begun; the state before is given.  Returns what could not be undone, in words
    ``after_boot``   the same after a reboot, when nothing of the steps runs any more; with True, in the boot that the power
                     loss has brought about, bring back what was there before
    ``unblock``      at such a boot, before Open vSwitch starts: nothing that was left may hold it
    """

    name: str
    format: int
    module: str
    heavy: t.Mapping[str, tuple[str, ...]]
    context: collections.abc.Callable[[Transaction, C | None], C]
    close: collections.abc.Callable[[C], None]
    steps: collections.abc.Callable[[C], t.Sequence[Step[C]]]
    conclude: collections.abc.Callable[[C], Json]
    failed: collections.abc.Callable[[C], None]
    watch: collections.abc.Callable[[C, collections.abc.Callable[[], bool]], None]
    ended_since: collections.abc.Callable[[Transaction], str | None]
    verify: collections.abc.Callable[[Transaction], None]
    roll_back: collections.abc.Callable[[C, str], list[str]]
    after_boot: collections.abc.Callable[[C, bool], list[str]]
    unblock: collections.abc.Callable[[C], None]


def require_format(record: Json, name: str, number: int) -> None:
    """Raise ``HotUpgradeError`` when a request is another operation's, or of a version with another format."""
    if (record.get("operation"), record.get("format")) != (name, number):
        raise HotUpgradeError(
            "the request of this transaction cannot be read",
            f"it is of the operation {record.get('operation')} in format {record.get('format')}, this is {name} in {number}",
            "Confirm or roll it back with the collection's version that began it; the host goes back by itself as it would have",
        )
