# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Between rollouts: what the playbook protect.yml keeps off, what it does not, and that nothing is left of it."""

from __future__ import annotations

import subprocess

from tests.harness import runs
from tests.lab import hosts
from tests.lab import lab as laboratory

HELD = "apt-mark showhold | sort | tr '\\n' ' '"
PENDING = "apt-get --simulate --quiet dist-upgrade | grep -c '^Inst openvswitch' || true"
LEFT = (
    "ls /etc/needrestart/conf.d/ovsops-hot-upgrade.conf /var/lib/ovsops/protection.json 2>/dev/null || true"
)


def protect(lab: hosts.Lab, wanted: bool = True, check: bool = False) -> subprocess.CompletedProcess[str]:
    return runs.playbook(lab, None, check, name="protect", protect=wanted)


def test_a_protected_host_is_upgraded_by_us_alone_and_tells_of_a_restart() -> None:
    name = "protection"
    with hosts.exclusive(name):
        try:
            lab = laboratory.up(name, "native", 1, "3.5.0")
            _play_it(lab, lab.hosts[0])
        finally:
            hosts.down(name)


def _play_it(lab: hosts.Lab, host: hosts.Host) -> None:
    def sh(script: str) -> str:
        return hosts.ssh(lab, host, script).strip()

    def restarted() -> list[str]:
        found: list[str] = runs.module(lab, host, "ovs_info", {})["protection"]["restarted"]
        return found

    laboratory.populate(lab, ["--flows", "50", "--datapath-type", "netdev"])
    assert sh(PENDING) == "2"
    planned = protect(lab, check=True)
    assert "changed=" in planned.stdout
    assert (planned.returncode, sh(HELD), sh(LEFT)) == (0, "", "")
    done = protect(lab)
    assert done.returncode == 0, done.stdout
    assert sh(HELD) == "openvswitch-common openvswitch-switch"
    assert sh(PENDING) == "0"
    assert "changed=0" in protect(lab).stdout
    upgraded = runs.playbook(lab, "4.0.0")
    assert upgraded.returncode == 0, upgraded.stdout
    assert sh("ovs-appctl version").split()[3].startswith("4.0.0")
    assert sh(HELD) == "openvswitch-common openvswitch-switch"
    assert restarted() == []
    sh("service openvswitch-switch restart")
    assert restarted() == ["ovs-vswitchd", "ovsdb-server"]
    gone = protect(lab, False)
    assert gone.returncode == 0, gone.stdout
    assert (sh(HELD), sh(LEFT)) == ("", "")
    assert "changed=0" in protect(lab, False).stdout
    sh("apt-mark hold openvswitch-common")
    refused = runs.playbook(lab, "3.5.0")
    assert refused.returncode != 0
    assert "openvswitch-common: held by dpkg, and not by this collection" in " ".join(refused.stdout.split())
