# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a lab host: one hand-over with one fault in it, under traffic, and what became of the host.

    driver.py case JSON RESULT    the whole case; RESULT is the file for its outcome (JSON)
    driver.py engine JSON PATH    the engine of transaction PATH with the fault in it
    driver.py after JSON RESULT   what is left to be judged after a power cut

A case is {"strategy", "step", "when": before|after, "fault"}; without a step it is a hand-over without fault.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import signal
import struct
import subprocess
import sys
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils import (
    _facts,
    _handover,
    _plan,
    _probe,
    _runner,
    _second,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils import _transaction as transactions
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._deadman import launcher
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovsdb import Connection
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._supervise import look
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._unixctl import read_pid

RUNDIR = "/run/openvswitch"
CONNECTION = Connection(RUNDIR, f"unix:{RUNDIR}/db.sock", 10.0)
PROBE = _probe.Settings("h1", "h2", "10.0.0.2", rate=50, new_flows=20)
RECORD = struct.Struct("<BBxxIq")
SENT, ARRIVED = 1, 2

# The promise: the host forwards again this many seconds after the fault.
RECOVERY = 5.0
PATIENCE = 400.0
SPOOL = "/var/lib/ovsops"

Case = dict[str, t.Any]


def main() -> None:
    role, case, place = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
    if role == "engine":
        engine(case, transactions.Transaction(place))
        return
    try:
        outcome = whole(case) if role == "case" else after_power(case)
    except Exception as error:  # the harness wants a line for every case
        outcome = {"problems": [f"{type(error).__name__}: {error}"]}
    with open(place + ".new", "w", encoding="utf-8") as file:
        json.dump({"case": case, **outcome}, file)
    os.rename(place + ".new", place)


def whole(case: Case) -> dict[str, t.Any]:
    if case["fault"] == "disk":
        os.makedirs(SPOOL, exist_ok=True)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=400m,mode=0700", "ovsops-faults", SPOOL], check=True
        )
    before = state_of_host()
    with contextlib.suppress(Exception):
        _probe.ensure("faults", "absent", PROBE, False)
    _probe.ensure("faults", "started", PROBE, False)
    time.sleep(1)
    transaction = begin(case)
    wait_for(
        lambda: (
            transaction.state in (*transactions.FINISHED, transactions.FAILED) and not guarded(transaction)
        )
    )
    time.sleep(2)
    _probe.ensure("faults", "stopped", PROBE, False)
    fault = transaction.read("fault.json")
    problems = [] if fault or not case["step"] else ["the fault never came"]
    state, result = transaction.state, transaction.read("result.json") or {}
    recovery, lost = recovered(fault["at_ns"] if fault else None)
    if recovery > RECOVERY:
        problems.append(f"forwarded again only {recovery:.1f} s after the fault")
    problems += judge(before, state)
    if case["fault"] == "disk":
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{SPOOL}/filler")
    problems += again(case, before)
    if case["fault"] == "disk":
        subprocess.run(["umount", "--lazy", SPOOL], check=True)
    return {
        "problems": problems,
        "state": state,
        "reason": result.get("reason", ""),
        "recovery_s": round(recovery, 2),
        "lost": lost,
    }


def begin(case: Case) -> transactions.Transaction:
    """What ``ovs_handover`` does, but the engine has the fault in it."""
    wish = _handover.Wish(case["strategy"], True, None, "none", 30.0, 50)

    def start(transaction: transactions.Transaction) -> None:
        argv = [sys.executable, __file__, "engine", json.dumps(case), transaction.path]
        launcher().start(
            f"engine-{transaction.id}", ["/usr/bin/env", f"PYTHONPATH={os.environ['PYTHONPATH']}", *argv]
        )

    _runner.start = start
    decision = _plan.decide(_handover.look(CONNECTION), wish.strategy, True)
    if decision.strategy is None:
        raise RuntimeError(f"refused: {decision.refused}")
    return _handover.begin(CONNECTION, decision, wish)


def engine(case: Case, transaction: transactions.Transaction) -> None:
    def observe(when: str, step: str) -> None:
        if (when, step) == (case["when"], case["step"]) and not os.path.exists(
            transaction.file("fault.json")
        ):
            transaction.write("fault.json", {"at_ns": time.monotonic_ns()})
            strike(case["fault"], transaction)

    _runner.engine(transaction, observe)


def strike(fault: str, transaction: transactions.Transaction) -> None:
    private = f"{RUNDIR}-{transaction.id[-6:]}"
    if fault == "engine":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault in ("ovs-vswitchd", "ovsdb-server"):
        kill_pidfile(RUNDIR, fault)
    elif fault == "second ovs-vswitchd":
        kill_pidfile(private, "ovs-vswitchd")
    elif fault == "second ovsdb-server":
        kill_pidfile(private, "ovsdb-server")
    elif fault == "disk":
        with contextlib.suppress(OSError), open(f"{SPOOL}/filler", "wb", buffering=0) as file:
            while file.write(bytes(1 << 20)):
                pass
        with contextlib.suppress(OSError), open(f"{SPOOL}/filler", "ab", buffering=0) as file:
            while file.write(b"x" * 64):
                pass
    elif fault == "ssh":
        for number in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{number}/comm", encoding="utf-8") as file:
                if file.read().strip() == "sshd-session":
                    os.kill(int(number), signal.SIGKILL)
    elif fault == "power":
        with open("/proc/sysrq-trigger", "w", encoding="ascii") as file:
            file.write("o")
        time.sleep(60)
    else:
        raise ValueError(fault)


def kill_pidfile(rundir: str, daemon: str) -> None:
    with contextlib.suppress(Exception):
        os.kill(read_pid(os.path.join(rundir, f"{daemon}.pid")), signal.SIGKILL)


def state_of_host() -> dict[str, t.Any]:
    info = _facts.gather(CONNECTION)
    return {"totals": info["totals"], "flag": info["flow_restore_wait"], "daemons": info["daemons"]}


def judge(before: dict[str, t.Any], state: str) -> list[str]:
    """What is wrong with the host now."""
    problems = []
    if state not in transactions.FINISHED:
        problems.append(f"the transaction is {state}")
    try:
        now = state_of_host()
    except Exception as error:
        return [*problems, f"the host cannot be described: {error}"]
    if now["flag"] is not False:
        problems.append("flow-restore-wait is set")
    if now["totals"] != before["totals"]:
        problems.append(f"it holds {now['totals']}, before it was {before['totals']}")
    for name, daemon in now["daemons"].items():
        if not daemon["running"]:
            problems.append(f"{name} does not run")
        elif daemon["supervisor"]["kind"] != before["daemons"][name]["supervisor"]["kind"]:
            problems.append(f"{name} belongs to {daemon['supervisor']}")
    for path in glob.glob(f"{RUNDIR}-*"):
        if not os.path.islink(path):
            problems.append(f"{path} is left over")
        owners = _second.processes_of(path)
        pids = {look(RUNDIR, name).process.pid for name in ("ovs-vswitchd", "ovsdb-server")}
        strays = [owner.pid for owner in owners if owner.pid not in pids and not monitors(owner.pid, pids)]
        if strays:
            problems.append(f"processes {strays} of {path} are left over")
    return problems


def monitors(pid: int, children: set[int]) -> bool:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return any(int(child) in children for child in file.read().split())


def again(case: Case, before: dict[str, t.Any]) -> list[str]:
    """The next run, without a fault, starts clean."""
    try:
        transaction = begin({**case, "step": None})
        wait_for(
            lambda: (
                transaction.state in (*transactions.FINISHED, transactions.FAILED)
                and not guarded(transaction)
            )
        )
    except Exception as error:
        return [f"the next run: {type(error).__name__}: {error}"]
    if transaction.state != transactions.CONFIRMED:
        return [
            f"the next run is {transaction.state}: {(transaction.read('result.json') or {}).get('reason')}"
        ]
    return [f"after the next run {problem}" for problem in judge(before, transaction.state)]


def after_power(case: Case) -> dict[str, t.Any]:
    """After the boot that followed a power cut; the endpoints have been made again by the harness."""
    transaction = transactions.transactions()[-1]
    wait_for(lambda: transaction.state in (*transactions.FINISHED, transactions.FAILED) or case["early"])
    _probe.ensure("faults", "started", PROBE, False)
    time.sleep(3)
    _probe.ensure("faults", "stopped", PROBE, False)
    _recovery, lost = recovered(None)
    problems = [f"{lost} packets were lost after the boot"] if lost else []
    info = state_of_host()
    if info["flag"] is not False:
        problems.append("flow-restore-wait is set")
    if info["totals"]["flows"] != case["flows"]:
        problems.append(f"there are {info['totals']['flows']} flows, {case['flows']} were there")
    result = transaction.read("result.json") or {}
    problems += again({**case, "fault": "none"}, info)
    return {
        "problems": problems,
        "state": transaction.state,
        "reason": result.get("reason", ""),
        "restored_s_after_boot": result.get("restored_s_after_boot"),
        "lost": lost,
    }


def guarded(transaction: transactions.Transaction) -> bool:
    return transaction.running() or launcher().running(_runner.GUARD)


def recovered(fault_ns: int | None) -> tuple[float, int]:
    """Seconds from the fault to the last packet that was lost, and how many were lost at all."""
    sent: dict[tuple[int, int], int] = {}
    with open("/run/ovsops/probe-faults/events.bin", "rb") as file:
        data = file.read()
    for kind, stream, number, at in RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size]):
        if kind == SENT:
            sent[stream, number] = at
    for kind, stream, number, _at in RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size]):
        if kind == ARRIVED:
            sent.pop((stream, number), None)
    last = max((at for at in sent.values()), default=0)
    return (max(0.0, (last - fault_ns) / 1e9) if fault_ns and sent else 0.0), len(sent)


def wait_for(done: t.Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > end:
            raise RuntimeError(f"not done after {PATIENCE:g} s")
        time.sleep(0.25)


if __name__ == "__main__":
    main()
