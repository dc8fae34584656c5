# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a lab host: the engine, its guard and whoever is connected, with the fault of a case in them.

    faulty.py engine JSON PATH   the engine of transaction PATH
    faulty.py guard JSON PATH    its guard
    faulty.py connected JSON     what Ansible's connection would run: begins the hand-over of a case, and waits

All that the matrix needs of the engine is here; what became of the host is judged without it (see driver.py).
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import select
import shutil
import signal
import sys
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import (
    handover,
    plan,
    reload,
    reload_operation,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.facts import read_facts
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.operation import OPERATION
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.request import Request
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.rollback import (
    HAND_BACK as HANDING_BACK,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import facts as module_facts
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import images
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import plan as module_plan
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import kernel_modules, module_image
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import read_pid
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Connection
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import switch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import connected
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import (
    transaction as transactions,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.ending import (
    confirm as _confirm,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.engine import engine as _engine
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.guard import guard as _guard
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.operation import Operation

RUNDIR = "/run/openvswitch"
CONNECTION = Connection(RUNDIR, f"unix:{RUNDIR}/db.sock", 10.0)
SPOOL = "/var/lib/ovsops"
# What the playbook does before the hand-over: the state is safe before anything can happen.
SNAPSHOT = "/srv/faults-snapshot"
# The two modules that a reload goes from and to.
MODULES = "/srv/modules/*/openvswitch.ko"
# Somebody may begin the hand-over now.
READY = "/run/faults.ready"
# What is planned where a case's strategy tells of the host.
NEIGHBOURS = "neighbours"
PLANNED = {NEIGHBOURS: plan.MAKE_BEFORE_BREAK}
# So many live megaflows are proved.
PROVE = 50

# Phases, and how long a confirmation is waited for in each, in seconds.
APPLY, AFTER, BACK, PLAIN, CONFIRM = "apply", "applied", "back", "plain", "confirm"
TIMEOUTS = {APPLY: 30.0, AFTER: 5.0, BACK: 1.0, PLAIN: 1.0, CONFIRM: 30.0}
# How what was applied ends: confirmed, or by its deadline.
ENDS = ("confirm", "deadline")
# A slow host may need this to confirm, in seconds.
PATIENT = 120.0
HAND_BACK = f"{HANDING_BACK}: "
# An engine that hangs is ended after so many seconds here.
HUNG = 10.0

UNTOLD = ("engine", "guard", "engine and guard", "actor", "hang", "power", "disk")

Json = dict[str, t.Any]


def main() -> None:
    role, case = sys.argv[1], json.loads(sys.argv[2])
    if role == "connected":
        while not os.path.exists(READY):
            time.sleep(0.02)  # no event tells of a file
        connected.wait(begin(case), operation(case))
        return
    os.umask(0o077)
    {"engine": engine, "guard": guard}[role](case, sys.argv[3])


def take_snapshot() -> None:
    """What the playbook does before the hand-over."""
    switch.take(CONNECTION, SNAPSHOT)


def begin(case: Json) -> transactions.Transaction:
    """What ``ovs_handover`` does, but engine and guard have the fault in them."""
    phase = case["phase"]
    confirm = "none" if phase == APPLY else "manual"
    timeout = PATIENT if (phase, case["step"]) == (AFTER, "confirm") else TIMEOUTS[phase]
    strategy: str = PLANNED.get(case["strategy"]) or case["strategy"]
    request = (_reload if strategy == plan.RELOAD else _hand_over)(strategy, confirm, timeout)
    return connected.begin(
        operation(case), request.json(), argv=lambda transaction, role: program(role, case, transaction)
    )


def operation(case: Json) -> Operation[Host]:
    """What the transaction of a case does."""
    return reload_operation.OPERATION if case["strategy"] == plan.RELOAD else OPERATION


def _hand_over(strategy: str, confirm: str, timeout: float) -> Request:
    wish = handover.Wish(strategy, True, SNAPSHOT, confirm, timeout, PROVE)
    facts = read_facts(CONNECTION)
    decision = plan.decide(facts, wish.strategy, True)
    if decision.strategy is None:
        raise RuntimeError(f"refused: {decision.refused}")
    return handover.requested(CONNECTION, facts, decision, wish)


def _reload(strategy: str, confirm: str, timeout: float) -> Request:
    """To the one of the two modules that is not loaded; the file of the other one is kept."""
    put_other_module()
    wish = reload.ReloadWish("current", "auto", "report", confirm, timeout, SNAPSHOT)
    found = module_facts.read_facts({})
    decision = module_plan.decide(found, wish.state, wish.held)
    if decision.reasons or not decision.needed:
        raise RuntimeError(f"refused: {decision}")
    return reload.requested_reload(CONNECTION, read_facts(CONNECTION), found, wish)


def put_other_module() -> None:
    """As a package does: the file of the module that is loaded is kept, and that of the other one is in its place."""
    module = kernel_modules.modules()[0]
    for mine in (True, False):  # the directory of what is kept may be another one than in the last case
        (path,) = [
            path
            for path in glob.glob(MODULES)
            if (module_image.read(path).build_id == module.build_id) == mine
        ]
        shutil.copyfile(path, str(module.disk_path))
        if mine:
            images.keep(kernel_modules.modules()[0])


def program(role: str, case: Json, transaction: transactions.Transaction) -> list[str]:
    argv = [sys.executable, __file__, role, json.dumps(case), transaction.path]
    return ["/usr/bin/env", f"PYTHONPATH={os.environ['PYTHONPATH']}", *argv]


def applied(case: Json, path: str) -> None:
    """The fault of a case strikes when all is applied."""
    Moments(case, transactions.Transaction(path)).reach(case["when"], case["step"])


class Moments:
    """The moments of a transaction, in whatever process; at the one of the case its fault strikes, once."""

    def __init__(self, case: Json, transaction: transactions.Transaction) -> None:
        self.case = case
        self.transaction = transaction
        self.wanted = (case["when"], case["step"])

    def reach(self, when: str, what: str) -> None:
        if (when, what) != self.wanted or os.path.exists(self.transaction.file("fault.json")):
            return
        at = time.monotonic_ns()
        # Some faults leave nobody, or no room, to tell it afterwards.
        untold = self.case["fault"] in UNTOLD
        self.transaction.write("fault.json", {"at_ns": at, "struck": untold})
        if strike(self.case["fault"], self.transaction, what) and not untold:
            self.transaction.write("fault.json", {"at_ns": at, "struck": True})


def observed(case: Json, path: str) -> transactions.Transaction:
    """The transaction, with the case's fault at one of its moments."""
    return transactions.Transaction(path, Moments(case, transactions.Transaction(path)).reach)


def engine(case: Json, path: str) -> None:
    apply = case["phase"] == APPLY
    _engine(operation(case), observed(case, path) if apply else transactions.Transaction(path))


def guard(case: Json, path: str) -> None:
    if case["fault"] == "hang":
        transactions.HUNG = HUNG
    transaction = transactions.Transaction(path)
    if case["phase"] == BACK:
        transaction = observed(case, path)
    if case["phase"] == PLAIN:
        moments = Moments(case, transaction)

        def reach(when: str, what: str) -> None:
            if what == HANDING_BACK:
                raise RuntimeError("the case wants the plain rollback")
            moments.reach(when, what)

        transaction = transactions.Transaction(path, reach)
    _guard(operation(case), transaction)


def confirm(case: Json, path: str) -> None:
    wanted = case["phase"] == CONFIRM
    _confirm(operation(case), observed(case, path) if wanted else transactions.Transaction(path))


def strike(fault: str, transaction: transactions.Transaction, moment: str) -> bool:
    """Do it; whether there was anything to strike."""
    if fault in ("actor", "hang"):
        os.kill(os.getpid(), signal.SIGKILL if fault == "actor" else signal.SIGSTOP)
    if fault in PROGRAMS:
        # An engine that has ended its work already is as good as killed.
        for pid in [pid for role in PROGRAMS[fault] for pid in programs(role, transaction)]:
            os.kill(pid, signal.SIGKILL)
        return True
    if fault in ("ovs-vswitchd", "ovsdb-server"):
        return kill_pidfile(RUNDIR, fault)
    if fault == "both daemons":
        killed = [kill_pidfile(RUNDIR, name) for name in ("ovs-vswitchd", "ovsdb-server")]
        return any(killed)
    if fault == "second ovs-vswitchd":
        return kill_pidfile(second_place(transaction, moment), "ovs-vswitchd")
    if fault == "second ovsdb-server":
        return kill_pidfile(transaction.file("database"), "ovsdb-server")
    if fault == "disk":
        return fill()
    if fault == "ssh":
        return cut()
    if fault == "power":
        with open("/proc/sysrq-trigger", "w", encoding="ascii") as file:
            file.write("o")
        time.sleep(60)  # the end of the host comes meanwhile
    raise ValueError(fault)


def second_place(transaction: transactions.Transaction, moment: str) -> str:
    """The private run directory of the second process, of the hand-back in one."""
    name = transaction.id
    if moment.startswith(HAND_BACK):
        places = (transaction.path, "/run/ovsops")
        (name,) = [path for place in places for path in glob.glob(f"{place}/back-*")]
    return f"{RUNDIR}-{name[-6:]}"


PROGRAMS = {"engine": ("engine",), "guard": ("guard",), "engine and guard": ("engine", "guard")}


def programs(role: str, transaction: transactions.Transaction) -> list[int]:
    """The processes with this role, without keepers; the one that asks last, since it kills itself."""
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{number}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
            tail = [__file__.encode(), role.encode()]
            if words[1:3] == tail and words[4:5] == [transaction.path.encode()]:
                found.append(int(number))
    return sorted(found, key=lambda pid: pid == os.getpid())


def fill() -> bool:
    """Fill the disk to the last byte."""
    for chunk in (bytes(1 << 20), b"x" * 64):
        with contextlib.suppress(OSError), open(f"{SPOOL}/filler", "ab", buffering=0) as file:
            while file.write(chunk) == len(chunk):
                pass
    return True


def cut() -> bool:
    """Kill every SSH session with all that it has started."""
    parents = {}
    for number in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{number}/stat", encoding="utf-8") as file:
            name, __, rest = file.read().partition("(")[2].rpartition(")")
            parents[int(number)] = (name, int(rest.split()[1]))
    doomed = {pid for pid, (name, __) in parents.items() if name == "sshd-session"}
    while more := {pid for pid, (__, parent) in parents.items() if parent in doomed} - doomed:
        doomed |= more
    for pid in doomed:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    return any(parents[pid][0].startswith("python") for pid in doomed)


def kill_pidfile(rundir: str, daemon: str) -> bool:
    """Kill it, and return when it has ended: whoever goes on meets a dead one."""
    try:
        pid = read_pid(os.path.join(rundir, f"{daemon}.pid"))
        descriptor = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
    except Exception:
        return False
    select.select([descriptor], [], [], PATIENT)
    os.close(descriptor)
    return True


if __name__ == "__main__":
    main()
