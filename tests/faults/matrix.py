# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""For every step of every strategy: one fault before or after it, and the host must forward again within 5 s.

The same for what comes after the steps: when all is applied and waits for its confirmation, in a rollback, hot or plain,
and in the confirmation (``--phase``, see driver.py).

Prints a line for each case, a table, and, last, "N of N survived"; the exit status tells whether all survived.
Hosts with the kernel datapath and systemd are User Mode Linux machines, those with the userspace datapath and no systemd
namespaces.  As many hosts as the machine has CPUs work side by side (--jobs).

build/faults/<backend>-<strategy>.json has every result as soon as it is there; --resume takes those of the same code
from it that survived, so that strategies can be run beside each other first (--strategy, --name) and counted together
last. A host that a case has harmed is replaced by a new one; what it had to tell is in build/faults.
A run that is too long for one day: --keep writes what has survived of the wanted cases into survived.txt, which --resume
reads as well.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import queue
import re
import subprocess
import sys
import tarfile
import threading
import time
import typing as t
from pathlib import Path

from tests.faults import driver, faulty, traffic
from tests.faults.cases import STRATEGIES, Json, cases, key
from tests.harness import look, waiting
from tests.lab import hosts, modules
from tests.lab import lab as laboratory
from tests.lab.images import REPOSITORY

# After so many cases a run without a fault shows that a host is as good as new; the next case is a next run anyway.
AGAIN = 8
# After these it always does: the program of before lies on the full disk, which is taken away; and in userspace an ovs-vswitchd
# that has lost its database some times in a row waits up to 8 s with the next try.
FRESH = {"uml": {"disk"}, "native": {"disk", "ovsdb-server", "both daemons"}}
# What is another thing afterwards although nobody has lost anything: in userspace the datapath is a part of the process, which
# numbers its ports anew, and the devices of bridges are made anew by the one that was killed.
RENEWED = {"uml": (), "native": ("datapath ports", "links", "traffic control")}
PLACE = "/srv/faults"
ASKED, TOLD = "/run/faults.asked", "/run/faults.told"
ENGINE = REPOSITORY / "plugins/module_utils"
# Capabilities that the engine does not run: none imports another.
OTHERS = re.compile(
    r"/_(health|info|kube|ovn|policy_guard|probe|prune|rehearsal|restore_wait)/|/_ansible\.py$"
)
# What only a reload of the kernel module runs.
OF_RELOADS = re.compile(r"_kmod/|_handover/(steps/)?reload|_handover/stand_in")
PACKAGE = "ansible_collections/ovsops/hot_upgrade/plugins/module_utils"
PROGRAMS = [
    Path(str(module.__file__)).relative_to(REPOSITORY) for module in (driver, faulty, traffic, look, waiting)
]
OUTPUT = REPOSITORY / "build/faults"
# Lines CODE BACKEND KEY of earlier runs.
KEPT = REPOSITORY / "tests/faults/survived.txt"
# One after the other: each takes the CPU that the fewest are on (uml.py).
STARTING = threading.Lock()
# A case may take so long, in seconds.
PATIENCE = {"case": 600.0, "after": 200.0}
# How often it is looked whether the host runs at all, in seconds: nothing tells of its end.
LOOK_INTERVAL = 0.5

# Made again after a boot, which takes the devices but not the configuration.
BOND = """
ip netns list | grep -q partner || ip netns add partner
modprobe bonding
ip -n partner link add bond0 type bond mode 802.3ad lacp_rate fast miimon 100
for each in a b; do
    ip link add l$each type veth peer name v$each netns partner
    ip -n partner link set v$each master bond0
    ip link set l$each up
done
ip -n partner link set bond0 up
ovs-vsctl --may-exist add-bond br0 bond0 la lb bond_mode=balance-tcp lacp=active other_config:lacp-time=fast \\
    -- set interface la ofport_request=3 -- set interface lb ofport_request=4
# Whichever member is there first after a boot.
for each in la lb; do ovs-vsctl set interface $each other_config:lacp-aggregation-key=3; done
""" + waiting.until("[ $(ovs-appctl lacp/show bond0 | grep -c 'current attached') = 2 ]", 60)

EVIDENCE = (
    f"cat /run/driver.log; cd {driver.TESTIMONY} 2>/dev/null || cd {driver.TRANSACTIONS}; for name in $(ls | tail -n 2); do "
    'echo "== $name"; ls -l $name; cat $name/result.json $name/journal.jsonl $name/second.log; done 2>&1; '
    "echo == processes; ps -eo pid,ppid,lstart,args | grep -e ovs -e driver; ls -la /run/openvswitch*; "
    "echo == logs; tail -n 60 /var/log/openvswitch/*.log; journalctl --no-pager -n 150 -o short-precise 2>&1"
)


def code(strategy: str) -> str:
    """The commit, and a hash of all that a host runs of it with that strategy."""
    whole = hashlib.sha256()
    for path in sources():
        if strategy == "reload" or not OF_RELOADS.search(str(path)):
            whole.update(path.read_bytes())
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return f"{commit or 'no commit'} {whole.hexdigest()[:12]}"


def same(one: str, other: str) -> bool:
    """Whether two results of ``code`` mean the same, in whatever commits."""
    return one.split()[-1] == other.split()[-1]


def sources() -> list[Path]:
    engine = (path for path in sorted(ENGINE.rglob("*.py")) if not OTHERS.search(str(path)))
    return [*engine, *(REPOSITORY / path for path in PROGRAMS)]


def pack() -> bytes:
    """The engine and the programs of the matrix, as a host needs them."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in sources():
            inside = path.relative_to(ENGINE) if path.is_relative_to(ENGINE) else None
            tar.add(path, f"{PACKAGE}/{inside}" if inside else str(path.relative_to(REPOSITORY)))
    return archive.getvalue()


class Bench:
    """One lab host that cases are tried on, one after the other."""

    def __init__(self, name: str, backend: str, strategy: str, ovs: str, archive: bytes) -> None:
        self.name, self.backend, self.strategy = name, backend, strategy
        self.ovs, self.archive = ovs, archive
        self.lab = self.fresh()

    @property
    def host(self) -> hosts.Host:
        return self.lab.hosts[0]

    def fresh(self) -> hosts.Lab:
        """A new host with flows and endpoints, the engine and the driver."""
        with STARTING:
            self.lab = laboratory.up(self.name, self.backend, 1, self.ovs)
        self.furnish()
        command = hosts.ssh_argv(self.lab, self.host, f"mkdir -p {PLACE}; tar -x -C {PLACE}")
        subprocess.run(command, input=self.archive, check=True)
        # What was there long before the hand-over would be on the disk.
        hosts.ssh(self.lab, self.host, "sync")
        self.start_driver()
        return self.lab

    def furnish(self) -> None:
        """Flows and endpoints; for reloads two modules, and no meter: those flows would have to wait."""
        if self.strategy != "reload":
            laboratory.populate(self.lab, ["--controller"] if self.strategy == faulty.NEIGHBOURS else [])
            self.neighbours()
            return
        modules.install(self.lab, self.host, modules.SHIPPED)
        modules.reload(self.lab, self.host)
        for name in (modules.SHIPPED, "rebuilt"):
            hosts.put(self.lab, self.host, [modules.variant(name) / modules.MODULE], f"/srv/modules/{name}")
        laboratory.populate(self.lab, ["--no-meter"])

    def neighbours(self) -> None:
        """The bond, whose other end is Linux's in a network namespace."""
        if self.strategy == faulty.NEIGHBOURS:
            hosts.script(self.lab, self.host, BOND)

    def start_driver(self) -> None:
        """Start what outlives the SSH session and takes the cases."""
        outlives = "setsid"
        if self.backend == "uml":
            outlives = f"systemd-run --quiet --collect --setenv=PYTHONPATH={PLACE}"
        program = f"python3 {PLACE}/{PROGRAMS[0]} {ASKED} {TOLD} </dev/null >/run/driver.log 2>&1 &"
        prepare = f"rm -f {ASKED} {TOLD}; mkfifo {ASKED} {TOLD}"
        hosts.ssh(self.lab, self.host, f"{prepare}; PYTHONPATH={PLACE} {outlives} {program}")

    def examine(self, case: Json) -> Json:
        """Run one case to its end."""
        case = {**case, "but": RENEWED[self.backend]}
        result = self.drive({**case, "role": "case"})
        if result.get("powered_off"):
            with STARTING:
                self.lab = laboratory.power_on(self.lab, self.host)
            self.endpoints()
            self.neighbours()
            self.start_driver()
            result = self.drive({**case, "role": "after"})
        if result["problems"]:
            self.testify(case, result)
        if result["problems"] or result.get("spoiled"):
            self.fresh()
        return result

    def drive(self, case: Json) -> Json:
        """Give a case to the driver and return its result."""
        connected = None
        if case["role"] == "case" and case["fault"] == "ssh":
            command = f"PYTHONPATH={PLACE} python3 {PLACE}/{PROGRAMS[1]} connected '{json.dumps(case)}'"
            connected = subprocess.Popen(hosts.ssh_argv(self.lab, self.host, command))
        try:
            return self.result(case)
        finally:
            if connected:
                connected.kill()
                connected.wait()

    def result(self, case: Json) -> Json:
        """What the driver has to say, by one SSH session that waits for it; another one, where the fault has cut that."""
        patience = PATIENCE[case["role"]]
        end = time.monotonic() + patience
        asking = f"cat >{ASKED}; "
        while time.monotonic() < end:
            argv = hosts.ssh_argv(self.lab, self.host, f"{asking}exec cat {TOLD}")
            text = self.told(argv, json.dumps(case) + "\n" if asking else "", end)
            if text:
                return t.cast("Json", json.loads(text))
            if not hosts.alive(self.host):
                return {"powered_off": True}
            asking = ""
        return {"case": case, "problems": [f"no result after {patience:g} s"]}

    def told(self, argv: list[str], feed: str | None, end: float) -> str:
        """What an SSH session prints; nothing when it, its host or the time ends before."""
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as session:
            while time.monotonic() < end and hosts.alive(self.host):
                given, feed = feed, None
                with contextlib.suppress(subprocess.TimeoutExpired):
                    text = session.communicate(given, timeout=LOOK_INTERVAL)[0]
                    return text if session.returncode == 0 else ""
            session.kill()
        return ""

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


class Run:
    """The wanted cases of a strategy; ``results`` has them by ``key``, and those of earlier runs that are in the file."""

    def __init__(self, backend: str, strategy: str, options: argparse.Namespace) -> None:
        self.backend, self.strategy, self.options = backend, strategy, options
        self.version = code(strategy)
        self.wanted = chosen(backend, strategy, options)
        self.path = OUTPUT / f"{backend}-{strategy}.json"
        self.results: dict[str, Json] = json.loads(self.path.read_text()) if self.path.exists() else {}
        earlier = kept()
        for case in self.wanted:
            if self.line(case) in earlier and not self.survived(case):
                self.results[key(case)] = {
                    "case": case,
                    "backend": backend,
                    "code": self.version,
                    "problems": [],
                }
        self.due = [case for case in self.wanted if not (options.resume and self.survived(case))]
        self.waiting: queue.SimpleQueue[Json] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.done = 0
        self.failure: BaseException | None = None

    def line(self, case: Json) -> str:
        """What tells of a case that has survived."""
        return f"{self.version.split()[-1]} {self.backend} {key(case)}"

    def survived(self, case: Json) -> bool:
        """Whether an earlier run with the same code has shown it."""
        found = self.results.get(key(case))
        return found is not None and same(found["code"], self.version) and not found["problems"]

    def go(self, archive: bytes) -> None:
        """Run all that are due, on as many hosts as there are jobs; raises what has ended one of them."""
        for case in self.due:
            self.waiting.put(case)
        names = [
            f"{self.options.name}-{self.backend}{n or ''}"
            for n in range(min(self.options.jobs, len(self.due)))
        ]
        threads = [threading.Thread(target=self.work, args=(name, archive)) for name in names]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            while not self.waiting.empty():  # interrupted: nobody begins another one
                self.waiting.get()
            for thread in threads:
                thread.join()
        if self.failure:
            raise self.failure

    def work(self, name: str, archive: bytes) -> None:
        """Try cases on one host until there are no more."""
        try:
            bench = Bench(name, self.backend, self.strategy, self.options.ovs, archive)
            count = 0
            with contextlib.suppress(queue.Empty):
                while True:
                    case = self.waiting.get_nowait()
                    count += 1
                    fresh = count % AGAIN == 0 or case["fault"] in FRESH[self.backend]
                    again = fresh or self.waiting.empty()
                    self.tell(case, bench.examine({**case, "again": again}))
        except BaseException as error:
            self.failure = error
        finally:
            hosts.down(name)

    def tell(self, case: Json, result: Json) -> None:
        """Print and keep a result."""
        with self.lock:
            self.done += 1
            self.results[key(case)] = {**result, "backend": self.backend, "code": self.version}
            self.path.with_suffix(".new").write_text(json.dumps(self.results, indent=1) + "\n")
            self.path.with_suffix(".new").rename(self.path)
            verdict = "survived" if not result["problems"] else "FAILED: " + "; ".join(result["problems"])
            seconds = f", {result['recovery_s']:.1f} s" if "recovery_s" in result else ""
            print(
                f"[{self.done}/{len(self.due)}] {self.backend} {self.strategy}, {case['phase']}: {case['fault']} "
                f"{case['when']} '{case['step']}': {result.get('state')}{seconds}: {verdict}",
                flush=True,
            )


def kept() -> frozenset[str]:
    """The lines of those that have survived in earlier runs, with whatever code."""
    return frozenset(KEPT.read_text().splitlines()) if KEPT.exists() else frozenset()


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


def parsed() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", default="faults", help="name of the labs, before their backend")
    parser.add_argument("--backend", action="append", choices=sorted(STRATEGIES))
    parser.add_argument("--strategy", action="append")
    parser.add_argument("--phase", action="append", choices=list(faulty.TIMEOUTS))
    parser.add_argument("--list", action="store_true", help="print the cases and do nothing")
    parser.add_argument(
        "--keep", action="store_true", help="write what has survived into survived.txt, and do nothing"
    )
    parser.add_argument("--fault", action="append", help="these faults only, in this order")
    parser.add_argument("--step", action="append")
    parser.add_argument("--when", choices=("before", "after"))
    parser.add_argument("--from", dest="ovs", default="3.5.0")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="hosts side by side")
    parser.add_argument("--resume", action="store_true", help="leave out what survived with the same code")
    return parser


def main() -> int:
    parser = parsed()
    options = parser.parse_args()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    archive = pack()
    results: list[Json] = []
    keep, asked = set[str](), set[str]()
    for backend in options.backend or STRATEGIES:
        for strategy in STRATEGIES[backend]:
            if options.strategy and strategy not in options.strategy:
                continue
            run = Run(backend, strategy, options)
            if options.keep:
                keep |= {run.line(case) for case in run.wanted if run.survived(case)}
                asked |= {f"{backend} {key(case)}" for case in run.wanted}
                continue
            if options.list:
                print(*(f"{backend} {key(case)}" for case in run.wanted), sep="\n")
                continue
            run.go(archive)
            results += [run.results[key(case)] for case in run.wanted]
    if options.keep:
        others = {line for line in kept() if line.partition(" ")[2] not in asked}
        KEPT.write_text("\n".join([*sorted(keep | others), ""]))
    if options.list or options.keep:
        return 0
    if not results:
        parser.error("no case is of that backend, strategy, phase, fault and step")
    survived = sum(not result["problems"] for result in results)
    versions = sorted({result["code"] for result in results})
    print(f"code: {', '.join(versions)}", *table(results), f"{survived} of {len(results)} survived", sep="\n")
    return 0 if survived == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
