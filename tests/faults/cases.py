# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which faults come at which moments: the cases of the matrix, from the engine's own list of steps."""

from __future__ import annotations

import types
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import plan
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.reloader import MODULE
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import Reload
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.steps.make_before_break import (
    CUT_OVER,
    MOMENTS,
    PROTOCOLS,
    RECONNECT,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.steps.reload import END
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.steps.shared import RESTART_SERVER
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.strategies import steps_for
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import gap
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.step import Step
from tests.faults import faulty

STRATEGIES = {
    # The last one is make_before_break on a host with a bond and a controller: only what comes with them is struck.
    "uml": ("make_before_break", "prefilled", "restart", "reload", faulty.NEIGHBOURS),
    "native": ("make_before_break", "standby", "restart"),
}
# The first and the last step before which the second daemon is there.
SECONDS = {
    "make_before_break": {
        "second ovs-vswitchd": ("load the OpenFlow state", "cut over"),
        "second ovsdb-server": ("start the new ovs-vswitchd beside the old one", "adopt"),
    },
    "standby": {"second ovs-vswitchd": ("move the new process to the service", "end the old ovs-vswitchd")},
    "restart": {},
    "reload": {},
}

Json = dict[str, t.Any]
Moment = tuple[str, str, str]

NOBODY_THERE = (f"undo {END}", "before", "ovs-vswitchd")
# The last moments of a rollback.
ENDINGS = ["become rolled_back", "clean up"]
# What a step does that has nothing to undo.
NOTHING = Step[object]("", lambda __: None).undo


def cases(backend: str, strategy: str) -> list[Json]:
    """Every case of a strategy."""
    found = with_neighbours() if strategy == faulty.NEIGHBOURS else everywhere(backend, strategy)
    names = ("phase", "step", "when", "fault")
    return [{"strategy": strategy, **dict(zip(names, case))} for case in found]


def everywhere(backend: str, strategy: str) -> list[tuple[str, str, str, str]]:
    """Before and after every step, of the rollbacks and of the confirmation, too."""
    return [
        *((faulty.APPLY, *case) for case in in_the_steps(backend, strategy)),
        *((faulty.AFTER, *case) for case in when_applied(backend)),
        *((faulty.BACK, *case) for case in in_a_hot_rollback(backend, strategy)),
        *((faulty.PLAIN, *case) for case in in_a_plain_rollback(backend, strategy)),
        *((faulty.CONFIRM, *case) for case in in_the_confirmation(backend)),
        *(in_the_gap() if strategy == plan.RELOAD else []),
    ]


def with_neighbours() -> list[tuple[str, str, str, str]]:
    """Around all in which a process is silent, primed or stood in for, and inside of the switch-over; there and back."""
    names = [step.name for step in steps("uml", plan.MAKE_BEFORE_BREAK, protocols=True, bonds=True)]
    there = names[names.index(PROTOCOLS) : names.index(RECONNECT) + 1]
    moments = [
        *((name, when) for name in there for when in ("before", "after")),
        *((f"{CUT_OVER}: {mark}", "after") for mark in MOMENTS),
    ]
    faults = ("engine", "engine and guard", "ovs-vswitchd", "both daemons", "power")
    back = ("actor", "engine and guard", "ovs-vswitchd", "power")
    in_the_cut_over = [moment for moment in moments if moment[0].startswith(CUT_OVER)]
    return [
        *((faulty.APPLY, *moment, fault) for fault in faults for moment in moments),
        *((faulty.APPLY, *moment, "hang") for moment in in_the_cut_over),
        *((faulty.BACK, faulty.HAND_BACK + name, when, fault) for fault in back for name, when in moments),
    ]


def steps(backend: str, strategy: str, **changes: t.Any) -> list[Step[t.Any]]:
    request = {
        "strategy": strategy,
        "convert": False,
        "downgrade": False,
        "restart_server": strategy != plan.RELOAD,
        "prove": faulty.PROVE,
        "dpdk": False,
        "userspace": backend == "native",
        "reload": Reload("", "", "auto", stand_in=True) if strategy == plan.RELOAD else None,
        "protocols": False,
        "bonds": False,
    }
    # What the list of steps depends on; the rest of a request is about a host.
    return steps_for(t.cast("t.Any", types.SimpleNamespace(**{**request, **changes})))


def seconds_of(strategy: str) -> dict[str, tuple[str, str]]:
    return SECONDS[plan.MAKE_BEFORE_BREAK if strategy == plan.PREFILLED else strategy]


def in_the_steps(backend: str, strategy: str) -> list[Moment]:
    names = own([step.name for step in steps(backend, strategy)], strategy)
    found = [(name, when, "engine") for name in names for when in ("before", "after")]
    faults = ["ovs-vswitchd", "ovsdb-server", "both daemons", "guard", "engine and guard", "hang", "disk"]
    if backend == "uml":
        faults += ["ssh", "power"]
    found += [(name, "before", fault) for fault in faults for name in names]
    for fault, (first, last) in seconds_of(strategy).items():
        all_names = [step.name for step in steps(backend, strategy)]
        there = all_names[all_names.index(first) : all_names.index(last) + 1]
        found += [(name, "before", fault) for name in there if name in names]
    return found


def own(names: list[str], strategy: str) -> list[str]:
    """Those at which a strategy is struck: up to its switch-over ``prefilled`` does what ``make_before_break`` does."""
    return names[names.index(CUT_OVER) :] if strategy == plan.PREFILLED else names


def when_applied(backend: str) -> list[Moment]:
    """What dies after the work is done: the step is how it ends.

    A dead ovs-vswitchd is never confirmed; one that dies with its database behind it is the service manager's.
    """
    faults = ["engine", "guard", "engine and guard", "ovs-vswitchd", "disk"]
    found = [(end, "after", fault) for end in faulty.ENDS for fault in faults]
    faults = ["ovsdb-server", "both daemons", *(["power"] if backend == "uml" else [])]
    return [*found, *(("deadline", "after", fault) for fault in faults)]


def in_a_hot_rollback(backend: str, strategy: str) -> list[Moment]:
    """From the decision to the last file that goes."""
    back = [step.name for step in steps(backend, strategy, restart_server=False, prove=0)]
    handed = [f"{faulty.HAND_BACK}{name}" for name in own(back, strategy)]
    server = [name for name in undone(backend, strategy) if name == f"undo {RESTART_SERVER}"]
    found = struck(backend, ["become rolling_back", *handed, *server], ENDINGS)
    for first, last in [there for fault, there in seconds_of(strategy).items() if fault.endswith("vswitchd")]:
        filled = [faulty.HAND_BACK + name for name in back[back.index(first) : back.index(last) + 1]]
        found += [(name, "before", "second ovs-vswitchd") for name in filled if name in handed]
    return found


def in_a_plain_rollback(backend: str, strategy: str) -> list[Moment]:
    found = struck(backend, ["become rolling_back", *undone(backend, strategy)], ENDINGS)
    # Between the module of before and the program of before no ovs-vswitchd runs that could be struck.
    return [each for each in found if (strategy, each) != (plan.RELOAD, NOBODY_THERE)]


def in_the_confirmation(backend: str) -> list[Moment]:
    return struck(backend, [], ["become confirmed", "clean up"])


def in_the_gap() -> list[tuple[str, str, str, str]]:
    """While the datapath is away, in a reload and in both ways back from one."""
    moments = [f"{MODULE}: {name}" for name in gap.MOMENTS]
    found = [
        (faulty.APPLY, moment, "after", fault)
        for fault in ("engine", "engine and guard", "power")
        for moment in moments
    ]
    for phase, prefix in ((faulty.BACK, faulty.HAND_BACK), (faulty.PLAIN, "")):
        for fault in ("actor", "engine and guard", "power"):
            found += [(phase, prefix + moment, "after", fault) for moment in moments]
    return found


def undone(backend: str, strategy: str) -> list[str]:
    """Steps that are undone, in this order."""
    return [f"undo {step.name}" for step in reversed(steps(backend, strategy)) if step.undo is not NOTHING]


def struck(backend: str, work: t.Sequence[str], endings: t.Sequence[str]) -> list[Moment]:
    """A daemon that dies after the work is done is the service manager's, as on any other day."""
    moments = [*work, *endings]
    found = [(moment, when, "actor") for moment in moments for when in ("before", "after")]
    faults = ["engine and guard", "disk", *(["power"] if backend == "uml" else [])]
    found += [(moment, "before", fault) for fault in faults for moment in moments]
    faults = ["ovs-vswitchd", "ovsdb-server", "both daemons"]
    return [*found, *((moment, "before", fault) for fault in faults for moment in work)]


def key(case: Json) -> str:
    """The name of a case, without its kind of host."""
    return " ".join(case[part] for part in ("strategy", "phase", "fault", "when", "step"))
