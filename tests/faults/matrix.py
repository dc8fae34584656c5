# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""For every step of every strategy: one fault before or after it, and the host must forward again within 5 s.

Prints a line for each case and, last, "N of N survived"; writes build/faults.json. The exit status tells whether
all survived. Hosts with the kernel datapath and systemd (User Mode Linux) run make_before_break and restart, hosts
with the userspace datapath and no systemd (namespaces) run standby and restart.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tarfile
import time
import typing as t
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests/lab"))
sys.path.insert(0, str(REPOSITORY / "build/collections"))

import hosts
import lab as laboratory

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils import _runner

STRATEGIES = {"uml": ("make_before_break", "restart"), "native": ("standby", "restart")}
PLACE = "/srv/faults"
RESULT = "/run/faults.json"
PACKAGE = "ansible_collections/ovsops/hot_upgrade/plugins/module_utils"
FLOWS = 2504


def cases(backend: str, strategy: str) -> list[dict[str, t.Any]]:
    """Every case of a strategy."""
    steps = _runner.STEPS[strategy](
        {"convert": False, "downgrade": False, "restart_server": True, "prove": 50}
    )
    names = [step.name for step in steps]
    found = [(name, when, "engine") for name in names for when in ("before", "after")]
    faults = ["ovs-vswitchd", "ovsdb-server", "disk"]
    if strategy != "restart":
        faults.append("second ovs-vswitchd")
    if strategy == "make_before_break":
        faults.append("second ovsdb-server")
    if backend == "uml":
        faults += ["ssh", "power"]
    found += [(name, "before", fault) for fault in faults for name in names]
    return [{"strategy": strategy, "step": name, "when": when, "fault": fault} for name, when, fault in found]


def bring(lab: hosts.Lab, host: hosts.Host) -> None:
    """Copy the engine and the driver to a host."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for depth in range(1, len(PACKAGE.split("/")) + 1):
            name = "/".join(PACKAGE.split("/")[:depth]) + "/__init__.py"
            tar.addfile(tarfile.TarInfo(name))
        for path in sorted((REPOSITORY / "plugins/module_utils").glob("*.py")):
            tar.add(path, f"{PACKAGE}/{path.name}")
        tar.add(REPOSITORY / "tests/faults/driver.py", "driver.py")
    command = hosts.ssh_argv(lab, host, f"rm -rf {PLACE}; mkdir -p {PLACE}; tar -x -C {PLACE}")
    subprocess.run(command, input=archive.getvalue(), check=True)


def drive(
    lab: hosts.Lab, host: hosts.Host, role: str, case: dict[str, t.Any], seconds: float
) -> dict[str, t.Any]:
    """Run the driver detached and return its result; None-like problems if it never came."""
    words = f"{role} '{json.dumps(case)}' {RESULT}"
    program = f"python3 {PLACE}/driver.py {words} </dev/null >/run/driver.log 2>&1"
    hosts.ssh(lab, host, f"rm -f {RESULT}; PYTHONPATH={PLACE} {detached(lab)} {program} &")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.5)
        try:
            text = hosts.ssh(lab, host, f"cat {RESULT} 2>/dev/null || true")
        except hosts.LabError:
            if not hosts.alive(hosts.require(lab.name).host(host.name)):
                return {"powered_off": True}
            continue
        if text:
            return t.cast("dict[str, t.Any]", json.loads(text))
    return {"case": case, "problems": [f"no result after {seconds:g} s"]}


def detached(lab: hosts.Lab) -> str:
    """What starts a command that outlives its SSH session."""
    if lab.backend == "uml":
        return f"systemd-run --quiet --collect --setenv=PYTHONPATH={PLACE}"
    return "setsid"


def endpoints(lab: hosts.Lab) -> None:
    """Make the namespaces again that the traffic runs between: they do not survive a boot; the flows must."""
    source = (REPOSITORY / "tests/lab/populate.py").read_text()
    code = (
        "import sys; names = {'__name__': 'populate'}; exec(sys.stdin.read(), names); "
        "[names['endpoint']('br0', n) for n in (1, 2)]"
    )
    hosts.ssh(lab, lab.hosts[0], f'python3 -c "{code}"', feed=source)


def examine(lab: hosts.Lab, case: dict[str, t.Any]) -> tuple[hosts.Lab, dict[str, t.Any]]:
    """Run one case to its end."""
    host = lab.hosts[0]
    result = drive(lab, host, "case", case, 900)
    if not result.get("powered_off"):
        return lab, result
    lab = laboratory.power_on(lab, host)
    endpoints(lab)
    early = case["step"] in ("take the snapshot",)
    return lab, drive(lab, lab.hosts[0], "after", {**case, "flows": FLOWS, "early": early}, 200)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="faults", help="name of the lab")
    parser.add_argument("--backend", action="append", choices=sorted(STRATEGIES))
    parser.add_argument("--strategy", action="append")
    parser.add_argument("--fault", action="append")
    parser.add_argument("--step", action="append")
    parser.add_argument("--from", dest="ovs", default="3.5.0")
    parser.add_argument("--keep", action="store_true", help="use the lab that runs, and leave it")
    options = parser.parse_args()
    results = []
    for backend in options.backend or STRATEGIES:
        wanted = [
            case
            for strategy in STRATEGIES[backend]
            if not options.strategy or strategy in options.strategy
            for case in cases(backend, strategy)
            if (not options.fault or case["fault"] in options.fault)
            and (not options.step or case["step"] in options.step)
        ]
        if wanted:
            results += run(f"{options.name}-{backend}", backend, options, wanted)
    survived = sum(not result["problems"] for result in results)
    output = REPOSITORY / "build/faults.json"
    output.write_text(json.dumps(results, indent=1) + "\n")
    print(f"{survived} of {len(results)} survived")
    return 0 if survived == len(results) else 1


def run(
    name: str, backend: str, options: argparse.Namespace, wanted: list[dict[str, t.Any]]
) -> list[dict[str, t.Any]]:
    """All wanted cases on one lab host."""
    lab = hosts.require(name) if options.keep and hosts.load(name) else None
    if lab is None:
        lab = laboratory.up(name, backend, 1, options.ovs)
        laboratory.populate(lab, [])
    bring(lab, lab.hosts[0])
    results = []
    try:
        for number, case in enumerate(wanted, 1):
            lab, result = examine(lab, case)
            results.append(result)
            verdict = "survived" if not result["problems"] else "FAILED: " + "; ".join(result["problems"])
            seconds = f", {result['recovery_s']:.1f} s" if "recovery_s" in result else ""
            print(
                f"[{number}/{len(wanted)}] {backend} {case['strategy']}: {case['fault']} {case['when']} "
                f"'{case['step']}': {result.get('state')}{seconds}: {verdict}",
                flush=True,
            )
    finally:
        if not options.keep:
            hosts.down(name)
    return results


if __name__ == "__main__":
    sys.exit(main())
