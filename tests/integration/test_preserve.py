# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices of this kernel that are deleted and made again: all that named them is back, in two network namespaces."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import comparison, namespaces, preserve
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.datapath import INTERNAL, Vport

HERE = """
link set in1 address 02:aa:00:00:00:01 mtu 1400 txqueuelen 77 alias uplink group 5
link property add dev in1 altname another1
link set in1 up
address add 192.0.2.1/24 dev in1
address add 192.0.2.2/24 dev in1
address add 198.51.100.9/32 dev in1 scope link valid_lft 5000 preferred_lft 4000
address add 2001:db8::1/64 dev in1
route add 203.0.113.0/24 via 192.0.2.254 dev in1 table 200 proto static metric 7
route add 198.18.0.0/15 nexthop via 192.0.2.250 dev in1 nexthop via 192.0.2.251 dev in1
link add up1 index 107 type veth peer name up2
link set up1 addrgenmode none up
link set up2 addrgenmode none up
route add 198.51.100.128/25 dev up1 src 192.0.2.1
route add 2001:db8:1::/48 via 2001:db8::fe dev in1
neighbour add 192.0.2.77 lladdr 02:00:00:00:00:77 dev in1 nud permanent
neighbour add proxy 192.0.2.88 dev in1
"""
THERE = """
link set lo up
link set eth0 up
address add 10.70.0.1/24 dev eth0
route add default via 10.70.0.254
"""
SETTINGS = (
    "ipv4/conf/in1/forwarding",
    "ipv4/conf/in1/rp_filter",
    "ipv6/conf/in1/accept_ra",
    "ipv4/neigh/in1/gc_stale_time",
)


def veth(number: int, index: int) -> str:
    """``in1`` of a random address, and its other end, whose address is the same each time."""
    peer = f"peer{number} address 02:aa:00:00:01:0{number}"
    return f"link add in{number} index {index} type veth peer name {peer}\nlink set peer{number} addrgenmode none up\n"


def ip(commands: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input=commands, text=True, check=True)


@contextlib.contextmanager
def new_namespace() -> t.Iterator[namespaces.Namespace]:
    """One of its own, in which this thread is."""
    home = os.open(namespaces.OWN, os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x40000000) != 0:
        pytest.skip("no network namespace can be made here")
    descriptor = os.open(namespaces.OWN, os.O_RDONLY)
    seen = os.fstat(descriptor)
    try:
        yield namespaces.Namespace(seen.st_dev, seen.st_ino, descriptor)
    finally:
        libc.setns(home, 0x40000000)
        os.close(home)


@pytest.fixture
def other() -> t.Iterator[tuple[namespaces.Namespace, namespaces.Namespace]]:
    """Ours and another namespace; this thread is in ours."""
    with new_namespace() as ours:
        with new_namespace() as there:
            pass
        yield ours, there
        os.close(ours.descriptor)
        os.close(there.descriptor)


def portrait() -> set[str]:
    """What ip(8) tells, without what runs down and without the other ends, which are other devices now."""
    wanted = (
        "-details link",
        "address",
        "route show table all",
        "-6 route show table all",
        "neighbour show nud permanent",
    )
    told = [
        subprocess.run(["ip", *each.split()], capture_output=True, text=True, check=True).stdout
        for each in wanted
    ]
    found = {re.sub(r"@if\d+", "", line) for each in told for line in each.splitlines()}
    for device in ("in1", "eth0"):
        done = subprocess.run(["ethtool", "-k", device], capture_output=True, text=True, check=False)
        found |= {f"{device} {line}" for line in done.stdout.splitlines()}
    for setting in SETTINGS:
        path = Path("/proc/sys/net", setting)
        found |= {f"{setting} {path.read_text(encoding='ascii')}"} if path.exists() else set()
    passing = ("valid_lft 4", "valid_lft 5", "peer")
    return {
        line
        for line in found
        if not any(word in line for word in passing) and ("link/ether" not in line or "02:aa:" in line)
    }


def test_all_that_named_two_devices_is_back(
    other: tuple[namespaces.Namespace, namespaces.Namespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, there = other
    monkeypatch.setattr(
        namespaces,
        "every",
        lambda: [namespaces.Namespace(n.device, n.inode, os.dup(n.descriptor)) for n in other],
    )
    for namespace in other:  # what the test compares must not depend on when it looks
        with namespaces.within(namespace):
            Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0", encoding="ascii")
    ip(veth(1, 101) + HERE)
    for path, value in zip(SETTINGS, ("1", "2", "0", "77")):
        with open(f"/proc/sys/net/{path}", "w", encoding="ascii") as file:
            file.write(value)
    ethtool = ["ethtool", "-K", "in1", "gro", "on", "tx", "off"]
    subprocess.run(ethtool, check=True, capture_output=True)
    ip(veth(4, 104) + "link set in4 address 02:aa:00:00:00:04\n")
    subprocess.run(
        ["ip", "link", "set", "in4", "netns", f"/proc/self/fd/{there.descriptor}"],
        check=True,
        pass_fds=[there.descriptor],
    )
    with namespaces.within(there):
        ip("link set in4 name eth0\n" + THERE)
    spaces = namespaces.spaces()
    ports = [Vport(1, INTERNAL, "in1", 101), Vport(4, INTERNAL, "in4", 104, netns=spaces[1].number)]
    before, seen = preserve.capture(ports), portrait()
    with namespaces.within(there):
        seen_there = portrait()

    ip("link delete peer1\nlink delete peer4\n")
    first = before.first[4]
    ip(veth(1, 101) + veth(4, first))
    assert preserve.move(before, {}) == []
    assert preserve.restore(before, before.batches) == []
    assert preserve.rename(before) == []
    assert portrait() == seen
    with namespaces.within(there):
        assert portrait() == seen_there
    assert comparison.missing(before, preserve.capture(ports)) == []
