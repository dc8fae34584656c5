# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What OVN itself, the kernel and traffic tell of the nodes of a cluster that are chassis."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import subprocess
import typing as t

from tests.harness import probe
from tests.harness.waiting import wait_until
from tests.kube.cluster import Cluster
from tests.lab import hosts
from tests.lab.hosts import Host

CONTROLLER = "ovn-controller"
_PINGED = re.compile(r"(\d+) packets transmitted, (\d+) received")
# Ends when nobody holds its input any more.
_PING = "ip netns exec h1 ping -q -i 0.01 {address} & read -r __ || :\nkill -INT $!\nwait $!\n"


def address(host: Host, endpoint: int) -> str:
    """That of the namespace h1 or h2 of a node (see ovnhost.py)."""
    return f"10.0.0.{2 * host.index + endpoint}"


def rows(cluster: Cluster) -> dict[str, str]:
    """The chassis in the southbound database: of each row the name."""
    words = ("ovn-sbctl", "--format=json", "--columns=_uuid,name", "list", "chassis")
    told = json.loads(hosts.ssh(cluster.lab, cluster.lab.hosts[0], *words))
    return {row[0][1]: row[1] for row in told["data"]}


def synchronise(cluster: Cluster) -> None:
    """Until every chassis has in its switch what the northbound database has; LabError if that does not come."""
    hosts.ssh(cluster.lab, cluster.lab.hosts[0], "ovn-nbctl", "--wait=hv", "--timeout=60", "sync")


def restart(cluster: Cluster, host: Host) -> None:
    """Restart ovn-controller by hand, as its own script does.

    One of 23.03 on a node where 25.03 has run gives routers other zones of conntrack at its next restart, whoever restarts
    it, and the same ones at all later ones (seen on 2026-11-28): 25.03 calls them otherwise.
    """
    pod = cluster.only_pod(host)
    cluster.execute(pod, "/usr/share/ovn/scripts/ovn-ctl", "restart_controller", "--restart")
    synchronise(cluster)


def version(cluster: Cluster, host: Host) -> str:
    """What the ovn-controller that answers on a node says it is."""
    return hosts.ssh(cluster.lab, host, "ovn-appctl", "version").splitlines()[0].split()[1]


def flows(cluster: Cluster, host: Host) -> list[str]:
    """Of the integration bridge, without what counts."""
    told = hosts.ssh(cluster.lab, host, "ovs-ofctl -O OpenFlow15 --no-stats dump-flows br-int")
    return sorted(line.strip() for line in told.splitlines() if "actions" in line)


def settings(cluster: Cluster, host: Host) -> dict[str, str]:
    """external_ids of the table Open_vSwitch."""
    told = json.loads(
        hosts.ssh(cluster.lab, host, "ovs-vsctl --format=json --columns=external_ids list open_vswitch")
    )
    return dict(told["data"][0][0][1])


def probing(cluster: Cluster, host: Host) -> contextlib.AbstractContextManager[probe.Probe]:
    """Between two logical ports of one node."""
    return probe.probing(cluster.lab, host, 2, address=address(host, 2), max_duration=3600)


@dataclasses.dataclass
class Pings:
    """Of one node to another, through the tunnel between them, 100 in a second."""

    sent: int = 0
    received: int = 0

    @property
    def lost(self) -> int:
        return self.sent - self.received


@contextlib.contextmanager
def pinging(cluster: Cluster) -> t.Iterator[list[Pings]]:
    """Ping from the first node to the second and back meanwhile; the figures are there when it has ended."""
    ways = list(zip(cluster.lab.hosts[:2], reversed(cluster.lab.hosts[:2])))
    wait_until(lambda: all(_reaches(cluster, *way) for way in ways), 60)
    running = [
        subprocess.Popen(
            hosts.ssh_argv(cluster.lab, here, "bash", "-c", f"'{_PING.format(address=address(there, 1))}'"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for here, there in ways
    ]  # fmt: skip
    pings = [Pings() for __ in ways]
    try:
        yield pings
    finally:
        for found, process in zip(pings, running):
            output, __ = process.communicate("\n")
            found.sent, found.received = map(int, _PINGED.findall(output)[-1])


def _reaches(cluster: Cluster, here: Host, there: Host) -> bool:
    argv = hosts.ssh_argv(
        cluster.lab, here, "ip", "netns", "exec", "h1", "ping", "-c", "1", "-W", "1", address(there, 1)
    )
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0
