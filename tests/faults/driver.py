# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a lab host: hand-overs with one fault in each, under traffic, and what became of the host.

    driver.py ASKED TOLD   takes a case, a line of JSON, from the fifo ASKED, and writes its outcome (JSON) into the fifo TOLD

A case is {"role", "strategy", "phase", "step", "when": before|after, "fault", "again", "but"}; the role is "case", or "after"
for what is left to be judged after a power cut; without a step it is a hand-over without fault, which follows where "again"
says so; "but" are parts of the host's state that may be others afterwards (see look.py).
Phases: the fault comes while the steps are done ("apply"), when all is applied ("applied", the step is how it ends then),
in a hot rollback by the guard ("back"), in one in which no hand-back is possible ("plain"), or in the confirmation
("confirm"); in the last three the step is a moment of ``faulty.Moments``.

Each case is a child of this process, which has read the engine already: a case costs no start of a program.  Of the engine,
faulty.py begins hand-overs and has the faults in them; who judges asks the tools of Open vSwitch and of the kernel (look.py)
and sends packets of its own (traffic.py).  A host must be as it was before the first case, which is judged after each.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import subprocess
import sys
import time
import typing as t

from tests.faults import faulty, traffic
from tests.harness import look
from tests.harness.waiting import wait_until

# The promise: the host forwards again this many seconds after the fault.
RECOVERY = 5.0
PATIENCE = 400.0
# How often a state, a file or /proc is looked at that nothing tells of, in seconds.
INTERVAL = 0.05
SPOOL_SIZE = "128m"
TRANSACTIONS = f"{faulty.SPOOL}/transactions"
# The transactions of a full disk, where a case was not survived.
TESTIMONY = "/srv/faults-transactions"
# What has to be known after a power cut.
BEFORE = "/srv/faults-before.json"
BUILD_ID = "/sys/module/openvswitch/notes/.note.gnu.build-id"
# What a boot makes anew, and what is the harness's own: the endpoints of the traffic.
REBOOTED = ("links", "traffic control", "datapath ports")
FINISHED = ("confirmed", "rolled_back")
# The moment from which on a transaction is finished.
CLEAN_UP = "clean up"
SETTLED = (*FINISHED, "failed")

# What nobody needs when a hand-over has ended.
TRACES = (
    "/run/ovsops/*.armed",
    "/run/ovsops/*.this-boot",
    "/etc/systemd/system/ovsops-*",
    "/etc/systemd/system/*.wants/ovsops-*",
    "/run/systemd/system/*.d/zzz-ovsops-hold.conf",
    f"{TRANSACTIONS}/.draft-*",
    f"{TRANSACTIONS}/*/back-*",
    f"{TRANSACTIONS}/*/lib",
    f"{TRANSACTIONS}/*/*.ko",
    f"{TRANSACTIONS}/*/stand-in",
    "/run/openvswitch-*.stand-in*",
    "/run/ovsops/back-*",
    "/run/ovsops/*.pulse",
)

Json = dict[str, t.Any]


def main() -> None:
    asked, told = sys.argv[1:]
    while True:
        with open(asked, encoding="utf-8") as lines:
            line = lines.readline()
        child = os.fork()
        if not child:
            outcome = one(json.loads(line))
            # Waits for a reader, which an SSH session that is cut leaves to the next one.
            with open(told, "w", encoding="utf-8") as file:
                json.dump(outcome, file)
            os._exit(0)
        os.waitpid(child, 0)


def one(case: Json) -> Json:
    """A case, and what became of it."""
    try:
        outcome = {"case": whole, "after": after_power}[case["role"]](case)
    except Exception as error:  # the harness wants a line for every case
        outcome = {"problems": [f"{type(error).__name__}: {error}"]}
    return {"case": case, **outcome}


class Record:
    """A transaction as its directory tells it."""

    def __init__(self, path: str) -> None:
        self.path = path

    @property
    def state(self) -> str:
        # A rename may come between two looks.
        names = glob.glob(f"{self.path}/state.*") or glob.glob(f"{self.path}/state.*")
        return names[0].rpartition(".")[2] if names else "gone"

    def read(self, name: str) -> Json:
        """A file of it; {} where there is none, or no room was left for it."""
        try:
            with open(f"{self.path}/{name}", encoding="utf-8") as file:
                return t.cast("Json", json.load(file))
        except (FileNotFoundError, ValueError):
            return {}

    @property
    def reason(self) -> str:
        return str(self.read("result.json").get("reason", ""))

    def ended(self) -> bool:
        """Whether it is settled, and nobody works on it any more."""
        return self.state in SETTLED and not self.attended() and not units()

    def attended(self) -> bool:
        """Whether engine or guard, or who keeps one of them alive, is there."""
        for number in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{number}/cmdline", "rb") as file:
                # A daemon may run a program that the transaction keeps.
                if {self.path.encode(), faulty.__file__.encode()} <= set(file.read().split(b"\0")):
                    return True
        return False


def units() -> bool:
    """Whether systemd still has something of a hand-over at work."""
    if not os.path.isdir("/run/systemd/system"):
        return False
    command = ["systemctl", "is-active", "--quiet", "ovsops-*"]
    return subprocess.run(command, check=False).returncode == 0


def whole(case: Json) -> Json:
    started = time.monotonic()
    if case["fault"] == "disk":
        os.makedirs(faulty.SPOOL, exist_ok=True)
        options = f"size={SPOOL_SIZE},mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "ovsops-faults", faulty.SPOOL], check=True)
    before, loaded = known_before(), module()
    packets = traffic.Traffic()
    record = begun_by_another() if case["fault"] == "ssh" else Record(faulty.begin(case).path)
    see_to_the_end(case, record)
    wait_until(record.ended, PATIENCE)
    forwards = packets.flows_since(time.monotonic_ns(), RECOVERY)
    fault = record.read("fault.json")
    state = record.state
    lost = traffic.losses(packets.stop(), fault.get("at_ns", 0))
    problems = [] if fault.get("struck") or not case["step"] else ["the fault never came"]
    problems += [] if forwards else [f"no packet came within {RECOVERY:g} s after the end"]
    problems += late(case, lost, state)
    problems += judge(before, case["but"], state)
    if case["strategy"] == "reload" and (module() != loaded) != (state == "confirmed"):
        problems.append(f"the loaded module is {'the old' if module() == loaded else 'another'} one")
    if case["fault"] == "disk":
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{faulty.SPOOL}/filler")
    middle = time.monotonic()
    if case["again"]:
        problems += again(case, before)
    if case["fault"] == "disk":
        if problems:  # what it has to tell would go with it
            subprocess.run(["cp", "-a", TRANSACTIONS, TESTIMONY], check=True)
        subprocess.run(["umount", "--lazy", faulty.SPOOL], check=True)
    return {
        "problems": problems,
        "state": state,
        "reason": record.reason,
        "not_undone": record.read("result.json").get("not_undone", []),
        **lost._asdict(),
        "took_s": [round(middle - started, 1), round(time.monotonic() - middle, 1)],
    }


def known_before() -> Json:
    """What the host was before its first case: there has to be a snapshot of it, too, as the playbook makes one."""
    with contextlib.suppress(FileNotFoundError), open(BEFORE, encoding="utf-8") as file:
        return t.cast("Json", json.load(file))
    before = {**look.state(), "monitors": monitors()}
    faulty.take_snapshot()
    with open(BEFORE, "w", encoding="utf-8") as file:
        json.dump(before, file)
        file.flush()
        os.fsync(file.fileno())
    return before


def module() -> str:
    """Which kernel module is loaded, by the note with its build-id; empty for none, or one without."""
    with contextlib.suppress(FileNotFoundError), open(BUILD_ID, "rb") as file:
        return file.read().hex()
    return ""


def monitors() -> list[str]:
    """The daemons that a process of their own starts again (ovs-ctl's monitor)."""
    found = []
    for daemon in look.DAEMONS:
        with open(f"/proc/{look.pid_of(daemon)}/stat", encoding="utf-8") as file:
            parent = file.read().rpartition(")")[2].split()[1]
        with open(f"/proc/{parent}/cmdline", "rb") as file:
            if b": monitoring pid" in file.read():
                found.append(daemon)
    return found


def see_to_the_end(case: Json, record: Record) -> None:
    """Do what belongs to the phase when all is applied."""
    if case["phase"] not in (faulty.AFTER, faulty.CONFIRM):
        return
    wait_until(lambda: record.state in ("applied", *SETTLED), PATIENCE)
    if case["phase"] == faulty.AFTER:
        faulty.applied(case, record.path)
    if case["phase"] == faulty.CONFIRM or case["step"] == "confirm":
        beside(lambda: faulty.confirm(case, record.path))


def beside(action: t.Callable[[], None]) -> None:
    """Do it in a process of its own, which the fault may kill."""
    child = os.fork()
    if not child:
        os.umask(0o077)
        with contextlib.suppress(Exception):  # what came of it is seen in the host's state
            action()
        os._exit(0)
    os.waitpid(child, 0)


def begun_by_another() -> Record:
    """The transaction that ``faulty.py connected``, which SSH has started, begins as soon as it may."""
    known = set(glob.glob(f"{TRANSACTIONS}/*/state.*"))
    known = {os.path.dirname(path) for path in known}
    with open(faulty.READY, "w", encoding="ascii"):
        pass

    def new() -> list[str]:
        return [p for p in map(os.path.dirname, glob.glob(f"{TRANSACTIONS}/[!.]*/state.*")) if p not in known]

    wait_until(lambda: bool(new()), PATIENCE)
    os.unlink(faulty.READY)
    return Record(new()[0])


def judge(before: Json, but: t.Container[str], state: str) -> list[str]:
    """What is wrong with the host now: a daemon that the fault ended may need as long as the promise to be what it was."""
    problems = [] if state in FINISHED else [f"the transaction is {state}"]
    clear_traces()
    end = time.monotonic() + RECOVERY
    while (found := seen(before, but)) and time.monotonic() < end:
        time.sleep(INTERVAL)
    return problems + found


def clear_traces() -> None:
    """Remove the control sockets of those who are gone: whoever was killed could not."""
    for path in glob.glob(f"{look.RUNDIR}/*.ctl"):
        if not os.path.exists(f"/proc/{path.split('.')[-2]}"):
            os.unlink(path)


def seen(before: Json, but: t.Container[str]) -> list[str]:
    """What is wrong with the host at this moment."""
    try:
        now = {**look.state(), "monitors": monitors()}
        problems = look.problems()
    except Exception as error:
        return [f"the host cannot be described: {type(error).__name__}: {error}"]
    changed = look.changed(before, now, but)
    problems += [changed] if changed else []
    return problems + [f"{path} is left over" for path in left_over()]


def left_over() -> list[str]:
    return [path for pattern in TRACES for path in glob.glob(pattern)]


def again(case: Json, before: Json) -> list[str]:
    """The next run, without a fault, starts clean."""
    try:
        record = Record(faulty.begin({**case, "phase": faulty.APPLY, "step": None}).path)
        wait_until(record.ended, PATIENCE)
    except Exception as error:
        return [f"the next run: {type(error).__name__}: {error}"]
    if record.state != "confirmed":
        return [f"the next run is {record.state}: {record.reason}"]
    return [f"after the next run {problem}" for problem in judge(before, case["but"], record.state)]


def after_power(case: Json) -> Json:
    """After the boot that followed a power cut; the endpoints have been made again by the harness."""
    before = known_before()
    record = Record(max(map(os.path.dirname, glob.glob(f"{TRANSACTIONS}/[!.]*/state.*"))))
    wait_until(lambda: record.state in SETTLED, 60.0)
    if record.state == "confirmed" or case["step"] == CLEAN_UP:  # then it is a boot like any other: no flows
        wait_until(lambda: not left_over(), 60.0)
        return {"problems": [], "state": record.state, "spoiled": True}
    problems = judge(before, (*REBOOTED, *case["but"]), record.state)
    restored = os.stat(f"{record.path}/state.{record.state}").st_ctime
    with open("/proc/uptime", encoding="ascii") as file:
        booted = time.time() - float(file.read().split()[0])
    started = booted + start_time(look.pid_of("ovs-vswitchd"))
    if restored - started > RECOVERY:
        problems.append(f"its flows were back only {restored - started:.1f} s after ovs-vswitchd was started")
    packets = traffic.Traffic()
    packets.flows_since(time.monotonic_ns() + 10**9, RECOVERY)
    lost = traffic.losses(packets.stop(), 0).lost
    if lost:
        problems.append(f"{lost} packets were lost after the boot")
    # The devices of this boot are those that the next cases have to keep.
    os.unlink(BEFORE)
    if case["again"]:
        problems += again(case, known_before())
    return {
        "problems": problems,
        "state": record.state,
        "reason": record.reason,
        "lost": lost,
        "recovery_s": round(restored - started, 2),
        "boot_s": round(restored - booted, 2),
    }


def start_time(pid: int) -> float:
    """When a process was started, in seconds since the boot (proc(5), field 22)."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return int(file.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


def late(case: Json, lost: traffic.Losses, state: str) -> list[str]:
    """One that goes on in spite of the fault has its own interruption later: that counts by its length."""
    at_once = case["phase"] == faulty.APPLY and state != "confirmed"
    seconds = lost.recovery_s if at_once else lost.outage_s
    if seconds <= RECOVERY + (faulty.HUNG if case["fault"] == "hang" else 0):
        return []
    return [f"forwarded again only {lost.recovery_s} s after the fault (outage {lost.outage_s} s)"]


if __name__ == "__main__":
    main()
