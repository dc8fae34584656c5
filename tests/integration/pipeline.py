# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pipeline with conntrack, NAT and a group, and connections that go through it."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from tests.integration.conftest import Endpoints, Ovs

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
