# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a lab host: one hand-over with one fault in it, under traffic, and what became of the host.

    driver.py case JSON RESULT       the whole case; RESULT is the file for its outcome (JSON)
    driver.py engine JSON PATH       the engine of transaction PATH with the fault in it
    driver.py guard JSON PATH        its guard
    driver.py confirm JSON PATH      what Ansible's connection would run to confirm it
    driver.py connected JSON RESULT  what Ansible's connection would run: begins the hand-over of a case, and waits
    driver.py after JSON RESULT      what is left to be judged after a power cut

A case is {"strategy", "phase", "step", "when": before|after, "fault", "again"}; without a step it is a hand-over without
fault, which follows where "again" says so.
Phases: the fault comes while the steps are done ("apply"), when all is applied ("applied", the step is how it ends then),
in a hot rollback by the guard ("back"), in one in which no hand-back is possible ("plain"), or in the confirmation
("confirm"); in the last three the step is a moment of ``Moments``.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import (
    handover,
    newcomer,
    plan,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.facts import read_facts
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.operation import OPERATION
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.rollback import (
    HAND_BACK as HANDING_BACK,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.supervisors import look
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.counts import count
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import daemons as _daemons
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import read_pid
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Connection
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.whole_switch import read_database
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._probe import agent, probe
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import switch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import connected, launching
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction import (
    transaction as transactions,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.ending import (
    confirm as _confirm,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.engine import engine as _engine
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.guard import guard as _guard

RUNDIR = "/run/openvswitch"
CONNECTION = Connection(RUNDIR, f"unix:{RUNDIR}/db.sock", 10.0)
PROBE = probe.Settings("h1", "h2", "10.0.0.2", rate=50, new_flow_rate=20)
STREAMS = (agent.ESTABLISHED, agent.NEW_FLOW)

# The promise: the host forwards again this many seconds after the fault.
RECOVERY = 5.0
PATIENCE = 400.0
SPOOL = "/var/lib/ovsops"
SPOOL_SIZE = "128m"

# What the playbook does before the hand-over: the state is safe before anything can happen.
SNAPSHOT = "/srv/faults-snapshot"
# What has to be known after a power cut.
BEFORE = "/srv/faults-before.json"
READY = "/run/faults.ready"

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

# What nobody needs when a hand-over has ended.
TRACES = (
    "/run/ovsops/*.armed",
    "/run/ovsops/*.this-boot",
    "/etc/systemd/system/ovsops-*",
    "/etc/systemd/system/*.wants/ovsops-*",
    "/run/systemd/system/*.d/zzz-ovsops-hold.conf",
    f"{SPOOL}/transactions/.draft-*",
    f"{SPOOL}/transactions/*/back-*",
    f"{SPOOL}/transactions/*/lib",
    "/run/ovsops/back-*",
    "/run/ovsops/*.pulse",
)

Json = dict[str, t.Any]


def main() -> None:
    role, case, place = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
    if role in ("engine", "guard", "confirm"):
        os.umask(0o077)
        {"engine": engine, "guard": guard, "confirm": confirm}[role](case, place)
        return
    if role == "connected":
        wait_for(lambda: os.path.exists(READY))
        connected.wait(begin(case), OPERATION)
        return
    try:
        outcome = {"case": whole, "after": after_power}[role](case)
    except Exception as error:  # the harness wants a line for every case
        outcome = {"problems": [f"{type(error).__name__}: {error}"]}
    with open(place + ".new", "w", encoding="utf-8") as file:
        json.dump({"case": case, **outcome}, file)
    os.rename(place + ".new", place)


def whole(case: Json) -> Json:
    started = time.monotonic()
    if case["fault"] == "disk":
        os.makedirs(SPOOL, exist_ok=True)
        options = f"size={SPOOL_SIZE},mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "ovsops-faults", SPOOL], check=True)
    shutil.rmtree(SNAPSHOT, ignore_errors=True)
    switch.take(CONNECTION, SNAPSHOT)
    before = state_of_host()
    with open(BEFORE, "w", encoding="utf-8") as file:
        json.dump(before, file)
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(Exception):
        probe.ensure("faults", "absent", PROBE, False)
    probe.ensure("faults", "started", PROBE, False)
    transaction = begun_by_another() if case["fault"] == "ssh" else begin(case)
    see_to_the_end(case, transaction)
    wait_for(lambda: ended(transaction))
    time.sleep(0.5)
    probe.ensure("faults", "stopped", PROBE, False)
    fault = transaction.read("fault.json")
    problems = [] if fault and fault["struck"] or not case["step"] else ["the fault never came"]
    state, result = transaction.state, transaction.read("result.json") or {}
    traffic = what_was_lost(fault["at_ns"] if fault else 0)
    problems += late(case, traffic, state)
    problems += judge(before, state)
    if case["fault"] == "disk":
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{SPOOL}/filler")
    middle = time.monotonic()
    if case["again"]:
        problems += again(case, before)
    if case["fault"] == "disk":
        subprocess.run(["umount", "--lazy", SPOOL], check=True)
    return {
        "problems": problems,
        "state": state,
        "reason": result.get("reason", ""),
        "not_undone": result.get("not_undone", []),
        **traffic,
        "took_s": [round(middle - started, 1), round(time.monotonic() - middle, 1)],
    }


def begin(case: Json) -> transactions.Transaction:
    """What ``ovs_handover`` does, but engine and guard have the fault in them."""
    strategy = case["strategy"]
    phase = case["phase"]
    confirm = "none" if phase == APPLY else "manual"
    timeout = PATIENT if (phase, case["step"]) == (AFTER, "confirm") else TIMEOUTS[phase]
    wish = handover.Wish(strategy, True, SNAPSHOT, confirm, timeout, PROVE)
    facts = read_facts(CONNECTION)
    decision = plan.decide(facts, wish.strategy, True)
    if decision.strategy is None:
        raise RuntimeError(f"refused: {decision.refused}")
    request = handover.requested(CONNECTION, facts, decision, wish)
    return connected.begin(
        OPERATION, request.json(), argv=lambda transaction, role: program(role, case, transaction)
    )


def program(role: str, case: Json, transaction: transactions.Transaction) -> list[str]:
    argv = [sys.executable, __file__, role, json.dumps(case), transaction.path]
    return ["/usr/bin/env", f"PYTHONPATH={os.environ['PYTHONPATH']}", *argv]


def see_to_the_end(case: Json, transaction: transactions.Transaction) -> None:
    """Do what belongs to the phase when all is applied."""
    if case["phase"] not in (AFTER, CONFIRM):
        return
    wait_for(lambda: transaction.state in (transactions.APPLIED, *transactions.FINISHED, transactions.FAILED))
    if case["phase"] == AFTER:
        Moments(case, transaction).reach(case["when"], case["step"])
    if case["phase"] == CONFIRM or case["step"] == "confirm":
        subprocess.run(program("confirm", case, transaction), check=False)


def begun_by_another() -> transactions.Transaction:
    """The transaction that the role ``connected``, which SSH has started, begins as soon as it may."""
    known = {transaction.id for transaction in transactions.transactions()}
    with open(READY, "w", encoding="ascii"):
        pass

    def new() -> list[transactions.Transaction]:
        return [found for found in transactions.transactions() if found.id not in known]

    wait_for(lambda: bool(new()))
    os.unlink(READY)
    return new()[0]


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
    _engine(OPERATION, observed(case, path) if apply else transactions.Transaction(path))


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
                raise RuntimeError("the case wants the plain way back")
            moments.reach(when, what)

        transaction = transactions.Transaction(path, reach)
    _guard(OPERATION, transaction)


def confirm(case: Json, path: str) -> None:
    wanted = case["phase"] == CONFIRM
    _confirm(OPERATION, observed(case, path) if wanted else transactions.Transaction(path))


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
        time.sleep(60)
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
    try:
        os.kill(read_pid(os.path.join(rundir, f"{daemon}.pid")), signal.SIGKILL)
    except Exception:
        return False
    return True


def state_of_host() -> Json:
    """Who forwards, and how much OpenFlow state there is."""
    database = read_database(CONNECTION)
    counts = [count(f"{RUNDIR}/{bridge.name}.mgmt", 10.0) for bridge in database.bridges]
    names = ("flows", "groups", "meters", "tlvs")
    daemons = {name: _daemons.inspect(name, RUNDIR) for name in (_daemons.VSWITCHD, _daemons.OVSDB_SERVER)}
    return {
        "totals": {name: sum(getattr(count, name) for count in counts) for name in names},
        "ports": sorted(i.name for bridge in database.bridges for i in bridge.interfaces),
        "flag": "flow-restore-wait" in database.other_config,
        "supervisors": {
            name: daemon.supervisor.kind if daemon.supervisor else None for name, daemon in daemons.items()
        },
    }


def judge(before: Json, state: str) -> list[str]:
    """What is wrong with the host now."""
    problems = []
    if state not in transactions.FINISHED:
        problems.append(f"the transaction is {state}")
    try:
        now = state_of_host()
    except Exception as error:
        return [*problems, f"the host cannot be described: {error}"]
    problems += [f"{key}: {now[key]}, before {before[key]}" for key in before if now[key] != before[key]]
    problems += [f"{path} is left over" for path in left_over()]
    for path in glob.glob(f"{RUNDIR}-*"):
        if not os.path.islink(path):
            problems.append(f"{path} is left over")
        owners = newcomer.processes_of(path)
        pids = {look(RUNDIR, name).process.pid for name in ("ovs-vswitchd", "ovsdb-server")}
        strays = [owner.pid for owner in owners if owner.pid not in pids and not monitors(owner.pid, pids)]
        if strays:
            problems.append(f"processes {strays} of {path} are left over")
    return problems


def left_over() -> list[str]:
    return [path for pattern in TRACES for path in glob.glob(pattern)]


def monitors(pid: int, children: set[int]) -> bool:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return any(int(child) in children for child in file.read().split())


def again(case: Json, before: Json) -> list[str]:
    """The next run, without a fault, starts clean."""
    try:
        transaction = begin({**case, "phase": APPLY, "step": None})
        wait_for(lambda: ended(transaction))
    except Exception as error:
        return [f"the next run: {type(error).__name__}: {error}"]
    if transaction.state != transactions.CONFIRMED:
        reason = (transaction.read("result.json") or {}).get("reason")
        return [f"the next run is {transaction.state}: {reason}"]
    return [f"after the next run {problem}" for problem in judge(before, transaction.state)]


def after_power(case: Json) -> Json:
    """After the boot that followed a power cut; the endpoints have been made again by the harness."""
    with open(BEFORE, encoding="utf-8") as file:
        before = json.load(file)
    transaction = transactions.transactions()[-1]
    wait_for(lambda: transaction.state in (*transactions.FINISHED, transactions.FAILED), 60.0)
    if transaction.state == transactions.CONFIRMED:  # then it is a boot like any other: no flows
        wait_for(lambda: not left_over(), 60.0)
        return {"problems": [], "state": transaction.state, "spoiled": True}
    problems = judge(before, transaction.state)
    restored = os.stat(transaction.file(f"state.{transaction.state}")).st_ctime
    with open("/proc/uptime", encoding="ascii") as file:
        booted = time.time() - float(file.read().split()[0])
    started = booted + look(RUNDIR, "ovs-vswitchd").process.started / os.sysconf("SC_CLK_TCK")
    if restored - started > RECOVERY:
        problems.append(f"its flows were back only {restored - started:.1f} s after ovs-vswitchd was started")
    probe.ensure("faults", "started", PROBE, False)
    time.sleep(1)
    probe.ensure("faults", "stopped", PROBE, False)
    traffic = what_was_lost(0)
    if traffic["lost"]:
        problems.append(f"{traffic['lost']} packets were lost after the boot")
    reason = (transaction.read("result.json") or {}).get("reason", "")
    if case["again"]:
        problems += again(case, before)
    return {
        "problems": problems,
        "state": transaction.state,
        "reason": reason,
        "lost": traffic["lost"],
        "recovery_s": round(restored - started, 2),
        "boot_s": round(restored - booted, 2),
    }


def ended(transaction: transactions.Transaction) -> bool:
    settled = transaction.state in (*transactions.FINISHED, transactions.FAILED)
    return settled and not transaction.running() and not launching.is_there(transaction)


def what_was_lost(since_ns: int) -> Json:
    """Seconds from the fault to the last packet that was lost, the longest outage since, and all packets lost."""
    with open("/run/ovsops/probe-faults/events.bin", "rb") as file:
        events = probe.decode(file.read())
    lost = {(e.stream, e.sequence): e.when for e in events if e.kind == agent.SENT}
    for event in events:
        if event.kind == agent.ARRIVED:
            lost.pop((event.stream, event.sequence), None)
    later = [e for e in events if e.kind == agent.ARRIVED or e.when >= since_ns]
    outages = [probe.analyse(later, stream, since_ns).longest_outage_ms for stream in STREAMS]
    last = max([at for at in lost.values() if at >= since_ns], default=since_ns)
    return {
        "recovery_s": round((last - since_ns) / 1e9, 2),
        "outage_s": round(max(outages) / 1e3, 2),
        "lost": len(lost),
    }


def late(case: Json, traffic: Json, state: str) -> list[str]:
    """One that goes on in spite of the fault has its own interruption later: that counts by its length."""
    at_once = case["phase"] == APPLY and state != transactions.CONFIRMED
    key = "recovery_s" if at_once else "outage_s"
    if traffic[key] <= RECOVERY + (HUNG if case["fault"] == "hang" else 0):
        return []
    return [
        f"forwarded again only {traffic['recovery_s']} s after the fault (outage {traffic['outage_s']} s)"
    ]


def wait_for(done: t.Callable[[], bool], patience: float = PATIENCE) -> None:
    end = time.monotonic() + patience
    while not done():
        if time.monotonic() > end:
            raise RuntimeError(f"not done after {patience:g} s")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
