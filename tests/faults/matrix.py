# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""For every step of every strategy: one fault before or after it, and the host must forward again within 5 s.

The same for what comes after the steps: when all is applied and waits for its confirmation, in a rollback, hot or plain,
and in the confirmation (``--phase``, see driver.py).

Prints a line for each case, a table, and, last, "N of N survived"; the exit status tells whether all survived.
Hosts with the kernel datapath and systemd are User Mode Linux machines, those with the userspace datapath and no systemd
namespaces.

build/faults/<backend>-<strategy>.json has every result as soon as it is there; --resume takes those of the same code
from it that survived, so that strategies can be run beside each other first (--strategy, --name) and counted together
last. A host that a case has harmed is replaced by a new one; what it had to tell is in build/faults.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import time
import types
import typing as t
from pathlib import Path

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import plan
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.steps.shared import RESTART_SERVER
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.strategies import steps_for
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.step import Step
from tests.faults import driver
from tests.lab import hosts
from tests.lab import lab as laboratory
from tests.lab.images import REPOSITORY

STRATEGIES = {
    "uml": ("make_before_break", "prefilled", "restart"),
    "native": ("make_before_break", "standby", "restart"),
}
# After so many cases a run without a fault shows that a host is as good as new; on the kernel datapath the next case is a next
# run anyway.  In userspace an ovs-vswitchd that has lost its database some times in a row waits up to 8 s with the next try.
AGAIN = {"uml": 8, "native": 1}
PLACE = "/srv/faults"
RESULT = "/run/faults.json"
ENGINE = REPOSITORY / "plugins/module_utils"
PACKAGE = "ansible_collections/ovsops/hot_upgrade/plugins/module_utils"
OUTPUT = REPOSITORY / "build/faults"

# The first and the last step before which the second daemon is there.
SECONDS = {
    "make_before_break": {
        "second ovs-vswitchd": ("load the OpenFlow state", "cut over"),
        "second ovsdb-server": ("start the new ovs-vswitchd beside the old one", "adopt"),
    },
    "standby": {"second ovs-vswitchd": ("move the new process to the service", "end the old ovs-vswitchd")},
    "restart": {},
}

EVIDENCE = (
    "cat /run/driver.log; cd /var/lib/ovsops/transactions && for name in $(ls | tail -n 2); do "
    'echo "== $name"; ls -l $name; cat $name/result.json $name/journal.jsonl $name/second.log; done 2>&1; '
    "echo == processes; ps -eo pid,ppid,lstart,args | grep -e ovs -e driver; ls -la /run/openvswitch*; "
    "echo == logs; tail -n 60 /var/log/openvswitch/*.log; journalctl --no-pager -n 150 -o short-precise 2>&1"
)

Json = dict[str, t.Any]

# The last moments of a rollback.
ENDINGS = ["become rolled_back", "clean up"]
# What a step does that has nothing to undo.
NOTHING = Step("", lambda __: None).undo


def cases(backend: str, strategy: str) -> list[Json]:
    """Every case of a strategy."""
    found = [
        *((driver.APPLY, *case) for case in in_the_steps(backend, strategy)),
        *((driver.AFTER, *case) for case in when_applied(backend)),
        *((driver.BACK, *case) for case in in_a_hot_rollback(backend, strategy)),
        *((driver.PLAIN, *case) for case in in_a_plain_rollback(backend, strategy)),
        *((driver.CONFIRM, *case) for case in in_the_confirmation(backend)),
    ]
    names = ("phase", "step", "when", "fault")
    return [{"strategy": strategy, **dict(zip(names, case))} for case in found]


Moment = tuple[str, str, str]


def steps(backend: str, strategy: str, **changes: t.Any) -> list[Step[t.Any]]:
    request = {
        "strategy": strategy,
        "convert": False,
        "downgrade": False,
        "restart_server": True,
        "prove": driver.PROVE,
        "dpdk": False,
        "userspace": backend == "native",
    }
    # What the list of steps depends on; the rest of a request is about a host.
    return steps_for(t.cast("t.Any", types.SimpleNamespace(**{**request, **changes})))


def seconds_of(strategy: str) -> dict[str, tuple[str, str]]:
    return SECONDS[plan.MAKE_BEFORE_BREAK if strategy == plan.PREFILLED else strategy]


def in_the_steps(backend: str, strategy: str) -> list[Moment]:
    names = [step.name for step in steps(backend, strategy)]
    found = [(name, when, "engine") for name in names for when in ("before", "after")]
    faults = ["ovs-vswitchd", "ovsdb-server", "both daemons", "guard", "engine and guard", "hang", "disk"]
    if backend == "uml":
        faults += ["ssh", "power"]
    found += [(name, "before", fault) for fault in faults for name in names]
    for fault, (first, last) in seconds_of(strategy).items():
        there = names[names.index(first) : names.index(last) + 1]
        found += [(name, "before", fault) for name in there]
    return found


def when_applied(backend: str) -> list[Moment]:
    """What dies after the work is done: the step is how it ends.

    A dead ovs-vswitchd is never confirmed; one that dies with its database behind it is the service manager's.
    """
    faults = ["engine", "guard", "engine and guard", "ovs-vswitchd", "disk"]
    found = [(end, "after", fault) for end in driver.ENDS for fault in faults]
    faults = ["ovsdb-server", "both daemons", *(["power"] if backend == "uml" else [])]
    return [*found, *(("deadline", "after", fault) for fault in faults)]


def in_a_hot_rollback(backend: str, strategy: str) -> list[Moment]:
    """From the decision to the last file that goes."""
    handed = [
        f"{driver.HAND_BACK}{step.name}" for step in steps(backend, strategy, restart_server=False, prove=0)
    ]
    last = [name for name in undone(backend, strategy) if name == f"undo {RESTART_SERVER}"]
    found = struck(backend, ["become rolling_back", *handed, *last], ENDINGS)
    for first, last in [found for fault, found in seconds_of(strategy).items() if fault.endswith("vswitchd")]:
        names = (driver.HAND_BACK + first, driver.HAND_BACK + last)
        there = handed[handed.index(names[0]) : handed.index(names[1]) + 1]
        found += [(name, "before", "second ovs-vswitchd") for name in there]
    return found


def in_a_plain_rollback(backend: str, strategy: str) -> list[Moment]:
    return struck(backend, ["become rolling_back", *undone(backend, strategy)], ENDINGS)


def in_the_confirmation(backend: str) -> list[Moment]:
    return struck(backend, [], ["become confirmed", "clean up"])


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


def code() -> str:
    """The commit, and a hash of all that a host runs of it."""
    whole = hashlib.sha256()
    for path in sources():
        whole.update(path.read_bytes())
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return f"{commit or 'no commit'} {whole.hexdigest()[:12]}"


def same(one: str, other: str) -> bool:
    """Whether two results of ``code`` mean the same, in whatever commits."""
    return one.split()[-1] == other.split()[-1]


def sources() -> list[Path]:
    return [
        *sorted(ENGINE.rglob("*.py")),
        REPOSITORY / "tests/faults/driver.py",
    ]


class Bench:
    """One lab host that cases are tried on, one after the other."""

    def __init__(self, name: str, backend: str, ovs: str, archive: bytes) -> None:
        self.name, self.backend, self.ovs, self.archive = name, backend, ovs, archive
        self.lab = self.fresh()

    @property
    def host(self) -> hosts.Host:
        return self.lab.hosts[0]

    def fresh(self) -> hosts.Lab:
        """A new host with flows and endpoints, the engine and the driver."""
        self.lab = laboratory.up(self.name, self.backend, 1, self.ovs)
        laboratory.populate(self.lab, [])
        command = hosts.ssh_argv(self.lab, self.host, f"mkdir -p {PLACE}; tar -x -C {PLACE}")
        subprocess.run(command, input=self.archive, check=True)
        # What was there long before the hand-over would be on the disk.
        hosts.ssh(self.lab, self.host, "sync")
        return self.lab

    def examine(self, case: Json) -> Json:
        """Run one case to its end."""
        result = self.drive("case", case, 600)
        if result.get("powered_off"):
            self.lab = laboratory.power_on(self.lab, self.host)
            self.endpoints()
            result = self.drive("after", case, 200)
        if result["problems"]:
            self.testify(case, result)
        if result["problems"] or result.get("spoiled"):
            self.fresh()
        return result

    def drive(self, role: str, case: Json, seconds: float) -> Json:
        """Run the driver detached and return its result."""
        words = f"{role} '{json.dumps(case)}' {RESULT}"
        python = f"python3 {PLACE}/driver.py"
        hosts.ssh(
            self.lab,
            self.host,
            f"rm -f {RESULT}; PYTHONPATH={PLACE} {self.detached} {python} {words} </dev/null >/run/driver.log 2>&1 &",
        )
        connected = None
        if role == "case" and case["fault"] == "ssh":
            command = f"PYTHONPATH={PLACE} {python} connected '{json.dumps(case)}' -"
            connected = subprocess.Popen(hosts.ssh_argv(self.lab, self.host, command))
        try:
            return self.result(case, seconds)
        finally:
            if connected:
                connected.kill()
                connected.wait()

    def result(self, case: Json, seconds: float) -> Json:
        """What the driver has to say, by one SSH session that waits for it."""
        command = f"until cat {RESULT} 2>/dev/null; do sleep 0.2; done"
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            argv = hosts.ssh_argv(self.lab, self.host, command)
            with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as waiting:
                while time.monotonic() < end and hosts.alive(self.host):
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        waiting.wait(0.2)
                        break
                waiting.kill()
                text = waiting.communicate()[0]
            if text and waiting.returncode == 0:
                return t.cast("Json", json.loads(text))
            if not hosts.alive(self.host):
                return {"powered_off": True}
        return {"case": case, "problems": [f"no result after {seconds:g} s"]}

    @property
    def detached(self) -> str:
        """What starts a command that outlives its SSH session."""
        if self.backend == "uml":
            return f"systemd-run --quiet --collect --setenv=PYTHONPATH={PLACE}"
        return "setsid"

    def endpoints(self) -> None:
        """Make the namespaces again that the traffic runs between: they do not survive a boot; the flows must."""
        source = (REPOSITORY / "tests/lab/populate.py").read_text()
        code = (
            "import sys; names = {'__name__': 'populate'}; exec(sys.stdin.read(), names); "
            "[names['endpoint']('br0', n) for n in (1, 2)]"
        )
        hosts.ssh(self.lab, self.host, f'python3 -c "{code}"', feed=source)

    def testify(self, case: Json, result: Json) -> None:
        """Keep what the host can tell about a case that it did not survive."""
        name = "-".join([self.backend, key(case)])
        done = subprocess.run(
            hosts.ssh_argv(self.lab, self.host, EVIDENCE), capture_output=True, text=True, check=False
        )
        text = json.dumps(result, indent=1) + "\n" + done.stdout + done.stderr
        (OUTPUT / (re.sub(r"\W+", "-", name) + ".txt")).write_text(text)


def pack() -> bytes:
    """The engine and the driver, as a host needs them."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        rooms = [f"{PACKAGE}/{path.name}" for path in ENGINE.iterdir() if path.is_dir()]
        packages = [PACKAGE.rsplit("/", depth)[0] for depth in range(PACKAGE.count("/") + 1)]
        for package in (*packages, *rooms):
            tar.addfile(tarfile.TarInfo(f"{package}/__init__.py"))
        for path in sources():
            inside = path.relative_to(ENGINE) if path.is_relative_to(ENGINE) else None
            tar.add(path, f"{PACKAGE}/{inside}" if inside else path.name)
    return archive.getvalue()


def key(case: Json) -> str:
    return " ".join(case[part] for part in ("strategy", "phase", "fault", "when", "step"))


def chosen(backend: str, strategy: str, options: argparse.Namespace) -> list[Json]:
    """The cases that the options want, in the order of the faults that they name."""
    wanted = [
        case
        for case in cases(backend, strategy)
        if (not options.phase or case["phase"] in options.phase)
        and (not options.fault or case["fault"] in options.fault)
        and (not options.step or case["step"] in options.step)
        and (not options.when or case["when"] == options.when)
    ]
    if options.fault:
        wanted.sort(key=lambda case: options.fault.index(case["fault"]))
    return wanted


def run(
    backend: str, strategy: str, options: argparse.Namespace, version: str, archive: bytes
) -> dict[str, Json]:
    """All wanted cases of a strategy on one lab host; their results by ``key``."""
    wanted = chosen(backend, strategy, options)
    path = OUTPUT / f"{backend}-{strategy}.json"
    known: dict[str, Json] = json.loads(path.read_text()) if path.exists() else {}
    good = {name for name, found in known.items() if same(found["code"], version) and not found["problems"]}
    due = [case for case in wanted if not (options.resume and key(case) in good)]
    bench = Bench(f"{options.name}-{backend}", backend, options.ovs, archive) if due else None
    try:
        for number, case in enumerate(due, 1):
            assert bench
            again = number % AGAIN[backend] == 0 or number == len(due)
            result = {**bench.examine({**case, "again": again}), "backend": backend, "code": version}
            known[key(case)] = result
            path.with_suffix(".new").write_text(json.dumps(known, indent=1) + "\n")
            path.with_suffix(".new").rename(path)
            verdict = "survived" if not result["problems"] else "FAILED: " + "; ".join(result["problems"])
            seconds = f", {result['recovery_s']:.1f} s" if "recovery_s" in result else ""
            print(
                f"[{number}/{len(due)}] {backend} {strategy}, {case['phase']}: {case['fault']} {case['when']} "
                f"'{case['step']}': {result.get('state')}{seconds}: {verdict}",
                flush=True,
            )
    finally:
        if bench:
            hosts.down(bench.name)
    return {key(case): known[key(case)] for case in wanted}


def table(results: t.Sequence[Json]) -> t.Iterator[str]:
    """For each strategy, phase and fault: how many survived, and how long the host did not forward at most."""
    groups: dict[tuple[str, ...], list[Json]] = {}
    for result in results:
        case = result["case"]
        groups.setdefault((result["backend"], case["strategy"], case["phase"], case["fault"]), []).append(
            result
        )
    for names, found in groups.items():
        survived = [result for result in found if not result["problems"]]
        worst = max((result.get("recovery_s", 0.0) for result in survived), default=0.0)
        cells = "".join(f"{name:<20}" for name in names)
        yield f"{cells} {len(survived):>3} of {len(found):>3} survived, worst recovery {worst:.1f} s"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", default="faults", help="name of the lab, before its backend")
    parser.add_argument("--backend", action="append", choices=sorted(STRATEGIES))
    parser.add_argument("--strategy", action="append")
    parser.add_argument("--phase", action="append", choices=list(driver.TIMEOUTS))
    parser.add_argument("--list", action="store_true", help="print the cases and do nothing")
    parser.add_argument("--fault", action="append", help="these faults only, in this order")
    parser.add_argument("--step", action="append")
    parser.add_argument("--when", choices=("before", "after"))
    parser.add_argument("--from", dest="ovs", default="3.5.0")
    parser.add_argument("--resume", action="store_true", help="leave out what survived with the same code")
    options = parser.parse_args()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    version, archive = code(), pack()
    results: list[Json] = []
    for backend in options.backend or STRATEGIES:
        for strategy in STRATEGIES[backend]:
            if options.strategy and strategy not in options.strategy:
                continue
            if options.list:
                print(*(f"{backend} {key(case)}" for case in chosen(backend, strategy, options)), sep="\n")
            else:
                results += run(backend, strategy, options, version, archive).values()
    if options.list:
        return 0
    if not results:
        parser.error("no case is of that backend, strategy, phase, fault and step")
    survived = sum(not result["problems"] for result in results)
    print(f"code: {version}", *table(results), f"{survived} of {len(results)} survived", sep="\n")
    return 0 if survived == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
