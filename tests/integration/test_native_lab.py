# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's native backend: hosts that are apart from each other, survive a power cut and end without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import typing as t
from pathlib import Path

import pytest

from tests.harness.traces import traces
from tests.harness.waiting import wait_until
from tests.lab import hosts
from tests.lab import lab as laboratory
from tests.lab.images import REPOSITORY

PROGRAM = REPOSITORY / "tests/tools/lab"


@pytest.fixture
def name() -> t.Iterator[str]:
    """A lab name that nobody else uses."""
    unique = f"it-native-{os.getpid()}"
    try:
        yield unique
    finally:
        hosts.down(unique)


def test_hosts_are_apart_but_can_talk(name: str) -> None:
    lab = laboratory.up(name, "native", 2, "3.5.0")
    one, two = lab.hosts
    hosts.ssh(lab, one, "ovs-vsctl add-br only-here -- set bridge only-here datapath_type=netdev")
    assert hosts.ssh(lab, one, "ovs-vsctl list-br") == "only-here\n"
    assert hosts.ssh(lab, two, "ovs-vsctl list-br") == ""
    assert [hosts.ssh(lab, host, "hostname").strip() for host in lab.hosts] == ["host1", "host2"]
    assert hosts.ssh(lab, two, "ps -C ovs-vswitchd -o pid=").count("\n") == 1, "its own, not its neighbour's"
    hosts.ssh(lab, one, f"ping -c 1 -W 5 {two.data_address}")
    hosts.down(name)
    assert traces(name) == []


def test_a_power_cut_loses_what_is_in_memory_only(name: str) -> None:
    lab = laboratory.up(name, "native", 1, "3.5.0")
    hosts.ssh(lab, lab.hosts[0], "touch /etc/kept /run/gone; ovs-vsctl --no-wait add-br br-kept")
    hosts.power_off(lab, lab.hosts[0])
    assert not hosts.alive(lab.hosts[0])
    lab = laboratory.power_on(lab, lab.hosts[0])
    assert hosts.ssh(lab, lab.hosts[0], "ls -d /etc/kept /run/gone 2>/dev/null || :") == "/etc/kept\n"
    assert hosts.ssh(lab, lab.hosts[0], "ovs-vsctl list-br") == "br-kept\n"


def test_nothing_of_the_machine_can_be_changed_from_a_host(name: str) -> None:
    lab = laboratory.up(name, "native", 1, None)
    [host] = lab.hosts
    # CAP_SYS_MODULE, bit 16 of the bounding set (capabilities(7)).
    bounding = hosts.ssh(lab, host, "grep CapBnd /proc/self/status").split()[1]
    assert not int(bounding, 16) & 1 << 16
    hosts.ssh(lab, host, "rm -rf /srv/ovsops /usr/bin/ovs-vsctl; mount -t tmpfs none /mnt; hostname changed")
    assert "/mnt" not in [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    assert os.uname().nodename != "changed"
    hosts.power_off(lab, host)
    assert hosts.alive(lab.hosts[0]) is False


def has_folder(name: str) -> bool:
    return hosts.folder(name).exists()


def has_namespace(name: str) -> bool:
    return Path("/run/netns", f"ovslab-{name}").exists()


def has_a_host(name: str) -> bool:
    lab = hosts.load(name)
    return lab is not None and any(map(hosts.alive, lab.hosts))


def has_every_host(name: str) -> bool:
    lab = hosts.load(name)
    return lab is not None and all(map(hosts.alive, lab.hosts))


@pytest.mark.parametrize("moment", [has_folder, has_namespace, has_a_host, has_every_host])
def test_an_interrupted_start_is_cleaned_by_one_command(name: str, moment: t.Callable[[str], bool]) -> None:
    starting = subprocess.Popen(
        [PROGRAM, "--name", name, "up", "--backend", "native", "--hosts", "6"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until(lambda: starting.poll() is not None or moment(name), 60, 0.005)
    assert starting.poll() is None, "it was not interrupted"
    starting.send_signal(signal.SIGKILL)
    starting.wait()
    subprocess.run([PROGRAM, "--name", name, "down"], check=True)
    assert traces(name) == []


def test_starting_it_twice_does_not_collide(name: str) -> None:
    laboratory.up(name, "native", 1, "3.5.0")
    lab = laboratory.up(name, "native", 1, "3.5.0")
    assert hosts.ssh(lab, lab.hosts[0], "true") == ""
