# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab host that the playbook works on, as the tests see it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shlex
import typing as t

from tests.harness import probe
from tests.lab import hosts
from tests.lab import lab as laboratory

# Of prepare_traffic.
PROBE = probe.ENDPOINTS


@dataclasses.dataclass(frozen=True)
class Target:
    """One host of the lab."""

    lab: hosts.Lab
    host: hosts.Host

    def run(self, *argv: str) -> str:
        return hosts.ssh(self.lab, self.host, shlex.join(argv))

    def shell(self, script: str) -> str:
        return hosts.ssh(self.lab, self.host, "sh", "-eu", feed=script)

    def bridge(self, name: str, *settings: str, version: str = "OpenFlow15") -> None:
        """A bridge with one flow more than it starts with."""
        # A name that no device can have is reported by ovs-vsctl, but the bridge is there.
        self.run(
            "ovs-vsctl", "--", "add-br", name, "--", "set", "bridge", name, "datapath_type=netdev",
            "fail_mode=secure", *settings
        )  # fmt: skip
        self.run("ovs-ofctl", "-O", version, "add-flow", mgmt(name), "priority=9,udp,tp_dst=9,actions=drop")

    def dump(self, name: str, version: str) -> list[str]:
        text = self.run("ovs-ofctl", "-O", version, "--no-stats", "dump-flows", mgmt(name))
        return sorted(text.splitlines()[1:])

    def flows(self) -> dict[str, list[str]]:
        """The flows of every bridge, as the newest version that it speaks tells them; {} where nothing runs."""
        names = self.shell("ovs-vsctl --timeout=5 list-br 2>/dev/null || :").splitlines()
        return {name: self.dump(name, self.newest(name)) for name in names}

    def newest(self, bridge: str) -> str:
        """The newest OpenFlow version of a bridge."""
        protocols = self.run("ovs-vsctl", "--", "get", "bridge", bridge, "protocols")
        return max(re.findall(r"OpenFlow1\d", protocols), default="OpenFlow15")

    def version(self) -> str:
        return self.run("ovs-appctl", "version").split()[-1]

    def states(self) -> list[str]:
        """The states of all transactions, oldest first."""
        found = self.shell("ls -d /var/lib/ovsops/transactions/*/state.* 2>/dev/null || :").split()
        return [name.rpartition(".")[2] for name in found]

    def processes(self) -> list[str]:
        """What of ours runs."""
        lines = self.run("ps", "-e", "-o", "args=").splitlines()
        return [line for line in lines if "ovsops" in line and "native-boot.sh" not in line]


def mgmt(name: str) -> str:
    return f"unix:/run/openvswitch/{name}.mgmt"


def prepare_traffic(target: Target) -> None:
    laboratory.populate(dataclasses.replace(target.lab, hosts=(target.host,)), ["--flows", "500"])


@contextlib.contextmanager
def native_targets(name: str, keys: t.Sequence[str]) -> t.Iterator[dict[str, Target]]:
    """A native host for each key, with bridges, flows and endpoints; all of them end with the context."""
    unique = f"{name}-{os.getpid()}"
    try:
        lab = laboratory.up(unique, "native", len(keys), "3.5.0")
        made = {key: Target(lab, host) for key, host in zip(keys, lab.hosts)}
        for target in made.values():
            prepare_traffic(target)
        yield made
    finally:
        hosts.down(unique)
