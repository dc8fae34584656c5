# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof between two real versions that hold the same flows: a pipeline with conntrack, NAT and a group, under traffic."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.plan import version
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.proof import (
    USERSPACE,
    Proof,
    Wish,
    prove,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.selection import Group, moved
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl

if t.TYPE_CHECKING:
    from tests.integration.conftest import Endpoints, Ovs, StartOvs

FLOWS = """
table=0,priority=10,in_port=1,udp,actions=ct(table=1,zone=5,nat)
table=0,priority=10,in_port=2,udp,actions=ct(table=1,zone=5,nat)
table=0,priority=1,arp,actions=normal
table=1,in_port=1,ct_state=+new+trk,udp,actions=ct(commit,zone=5,nat(src=10.0.0.9),exec(set_field:0x77->ct_mark)),group:5
table=1,in_port=1,ct_state=+est+trk,udp,actions=ct(zone=6,table=2)
table=1,in_port=2,ct_state=+est+trk,udp,actions=output:1
table=2,udp,actions=dec_ttl,group:5
"""
WEIGHTS = (3, 2, 7, 2, 3, 5, 2)
BUCKETS = ",".join(
    f"bucket=weight:{weight},actions=set_field:{n * 4}->nw_tos,output:2" for n, weight in enumerate(WEIGHTS)
)
# Every connection sends, is answered, and sends again.
TRAFFIC = """
import socket
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(("10.0.0.2", 80))
receiver.settimeout(5)
print("ready", flush=True)
for __ in range(int(input())):
    data, address = receiver.recvfrom(99)
    receiver.sendto(data, address)
"""
CONNECTIONS, ROUNDS = 40, 5
SEND = f"""
import socket
for number in range({CONNECTIONS}):
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind(("10.0.0.1", 2000 + number))
    sender.settimeout(5)
    for __ in range({ROUNDS}):
        sender.sendto(b"x", ("10.0.0.2", 80))
        sender.recvfrom(99)
"""


def pipeline(ovs: Ovs) -> Endpoints:
    """A bridge with the pipeline and two endpoints; the receiver answers to the address that NAT gives."""
    ovs.bridge("br0", "fail_mode=secure")
    ends = ovs.endpoints("br0")
    ovs.run(
        "ip", "-n", ends.receiver, "neighbour", "add", "10.0.0.9", "dev", "e0", "lladdr", "02:00:00:00:00:01"
    )
    ovs.ofctl("add-group", "br0", f"group_id=5,type=select,{BUCKETS}")
    ovs.ofctl("add-flows", "br0", "-", feed=FLOWS)
    return ends


def talk(ovs: Ovs, ends: Endpoints) -> None:
    """Let connections be opened and used."""
    inside = f"""
import subprocess, sys
receiver = subprocess.Popen(["ip", "netns", "exec", "{ends.receiver}", "python3", "-c", {TRAFFIC!r}],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
receiver.stdout.readline()
receiver.stdin.write("{CONNECTIONS * ROUNDS}\\n")
receiver.stdin.flush()
subprocess.run(["ip", "netns", "exec", "{ends.sender}", "python3", "-c", {SEND!r}], check=True)
receiver.wait()
"""
    ovs.run("python3", "-c", inside)


def proved(old: Ovs, new: Ovs, *accept: str) -> Proof:
    control = [Appctl(f"{ovs.rundir}/ovs-vswitchd.{ovs.pid()}.ctl", 30.0) for ovs in (old, new)]
    return prove(control[0].call, control[1].call, USERSPACE, Wish(1000, accept))


@pytest.mark.parametrize(("before", "after"), [("3.1.0", "4.0.0"), ("3.5.0", "4.0.0"), ("4.0.0", "2.15.0")])
def test_the_packets_of_a_pipeline_are_covered(start_ovs: StartOvs, before: str, after: str) -> None:
    old, new = start_ovs(before), start_ovs(after)
    ends = pipeline(old)
    pipeline(new)
    talk(old, ends)
    states = old.appctl("dpctl/dump-flows", "netdev@ovs-netdev")
    assert all(part in states for part in ("+est", "+new", "dp_hash")), states
    proof = proved(old, new)
    assert (proof.different, proof.differences) == (0, ())
    assert proof.covered >= 95, proof.report()
    # What a plan computes beforehand is what the two processes really do with the hashes.
    expected = moved(Group("br0", 5, "", WEIGHTS), version(before), version(after))
    assert bool(expected) == (before != "3.5.0")
    assert [each.moved for each in proof.moved] == [expected] * bool(expected)

    # The last table forgets to count the TTL down, and nobody would see it in the first stage.
    new.ofctl("mod-flows", "br0", "table=2,udp,actions=group:5")
    changed = proved(old, new)
    assert changed.different
    assert [difference.name for difference in changed.differences] == ["p-h1>next-stage:ipv4.ttl"]
    assert proved(old, new, "p-h1>*:ipv4.ttl").different == 0
