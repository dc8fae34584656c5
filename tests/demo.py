# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole story once: lab hosts on an old version, traffic, the playbook over SSH, a page, a table, a RESULT line."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils import summary
from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.host_facts import Facts, from_result
from tests.harness import probe, runs
from tests.lab import hosts, images
from tests.lab import lab as laboratory
from tests.lab.images import REPOSITORY, say

REPORTS = REPOSITORY / "build/demo"


def upgrade(lab: hosts.Lab, to: str, strategy: str) -> int:
    """Run the playbook against the lab; every host leaves its result in the lab's report folder."""
    report = lab.folder / "report"
    report.mkdir()
    variables = {"strategy": strategy, "probe": probe.ENDPOINTS, "report_dir": str(report)}
    argv = runs.playbook_argv([lab.inventory], runs.prefixed(to, variables))
    environment = runs.environment(
        ANSIBLE_FORCE_COLOR="1" if sys.stdout.isatty() else "0",
        ANSIBLE_CALLBACKS_ENABLED="ovsops.hot_upgrade.rollout_report",
        OVSOPS_REPORT_FOLDER=str(REPORTS),
    )
    return subprocess.call(argv, stdin=subprocess.DEVNULL, env=environment)


def results(lab: hosts.Lab) -> list[Facts]:
    """What the hosts reported, in the lab's order; a host that reported nothing has failed."""
    found = []
    for host in lab.hosts:
        path = lab.folder / "report" / f"{host.name}.json"
        nothing = {"outcome": "failed", "failure": "no result came back"}
        found.append(from_result(host.name, json.loads(path.read_text()) if path.exists() else nothing))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--from", dest="ovs", default="3.5.0", choices=images.OVS_SUITES)
    parser.add_argument("--to", default="4.0.0", choices=images.OVS_SUITES)
    parser.add_argument("--flows", type=int, default=2000, help="flows on br0 of each host")
    parser.add_argument("--strategy", default="auto")
    parser.add_argument("--backend", default="uml", choices=laboratory.BACKENDS)
    parser.add_argument("--keep", action="store_true", help="leave the hosts running, to look around")
    options = parser.parse_args()
    name = "demo"
    with hosts.exclusive(name):
        try:
            lab = laboratory.up(name, options.backend, options.hosts, options.ovs)
            laboratory.populate(lab, ["--flows", str(options.flows)])
            code = upgrade(lab, options.to, options.strategy)
            found = results(lab)
        finally:
            if options.keep:
                say("the hosts go on running: 'tests/tools/lab --name demo ssh host1', and 'down' ends them")
            else:
                hosts.down(name)
    rows = [summary.line(host) for host in found]
    good = code == 0 and all(summary.kept(host) for host in found)
    for host in found:
        if host.failure:
            print(f"{host.name}: {host.failure}")
    print(("Everything was kept." if good else "NOT everything was kept.") + f" Ansible ended with {code}.")
    asked = {"from": options.ovs, "to": options.to, "all_kept": good}
    print("RESULT " + json.dumps({**summary.sums(rows), **asked, "per_host": rows}))
    return 0 if good else 1


if __name__ == "__main__":
    images.program(main)
