# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections that the userspace datapath tracks, behind a firewall that drops what it does not know: none of them is lost.

The judges are the peers of real TCP connections (tests/lab/peers.py), and what ovs-appctl shows before and after.
"""

from __future__ import annotations

import contextlib
import functools
import json
import typing as t

from tests.lab.images import REPOSITORY
from tests.scenarios.living import background
from tests.scenarios.scene import Broken, Json, Scene, require_sound, until

PEERS = (REPOSITORY / "tests/lab/peers.py").read_text()
PLACE, LOG, PID = "/srv/peers.py", "/run/peers.json", "/run/peers.pid"

# New connections only by SYN and only from h1, translated to four addresses; whatever else is not known is dropped.
FIREWALL = """
ovs-ofctl -O OpenFlow15 --bundle replace-flows br0 - <<'END'
table=0,priority=10,ip,actions=ct(table=11,zone=5,nat)
table=0,priority=10,ipv6,actions=ct(table=11,zone=6)
table=0,priority=1,arp,actions=normal
table=11,priority=30,ct_state=+inv+trk,actions=drop
table=11,priority=20,in_port=1,ct_state=+new+trk,tcp,tcp_flags=+syn-ack,actions=\
ct(commit,zone=5,nat(src=10.0.0.9-10.0.0.12),exec(set_field:0x77->ct_mark,set_field:0x123456789abcdef0123->ct_label)),output:2
table=11,priority=20,in_port=1,ct_state=+new+trk,udp,actions=ct(commit,zone=5,exec(set_field:0x78->ct_mark)),output:2
table=11,priority=20,in_port=1,ct_state=+new+trk,icmp,actions=ct(commit,zone=5,nat(src=10.0.0.13)),output:2
table=11,priority=20,in_port=1,ct_state=+new+trk,ipv6,actions=ct(commit,zone=6),output:2
table=11,priority=10,in_port=1,ct_state=+est+trk,ct_mark=0x77,ct_label=0x123456789abcdef0123,tcp,actions=output:2
table=11,priority=9,in_port=1,ct_state=+est+trk,tcp,actions=drop
table=11,priority=8,in_port=1,ct_state=+est+trk,actions=output:2
table=11,priority=10,in_port=2,ct_state=+est+rpl+trk,actions=output:1
END
for last in 9 10 11 12 13; do
    ip -n h2 neighbour replace 10.0.0.$last dev e0 lladdr 02:00:00:00:00:01
done
"""


@contextlib.contextmanager
def peers(scene: Scene, count: int, rate: int = 100, churn: int = 20) -> t.Iterator[Json]:
    """See peers.py; what became of the connections is in what this yields, afterwards."""
    scene.sh(
        f"cat > {PLACE} <<'PEERS'\n{PEERS}\nPEERS\nrm -f {LOG}*\n"
        + background(f"python3 {PLACE} {count} {rate} {churn} {LOG}", PID)
        + until(f"[ -e {LOG}.open ]", 300, otherwise="cat /run/background.log >&2")
    )
    log: Json = {}
    try:
        yield log
    finally:
        scene.sh(
            f"kill $(cat {PID})\n" + until(f"[ -e {LOG} ]", 300, otherwise="cat /run/background.log >&2")
        )
        log.update(json.loads(scene.sh(f"cat {LOG}")))


def carried(new: str, count: int, churn: int, scene: Scene) -> str:
    """Both ends of all connections go on, whoever speaks first."""
    scene.populate("--datapath-type", "netdev")
    scene.sh(FIREWALL)
    scene.install(new)
    with peers(scene, count, churn=churn) as log:
        result = scene.hand_over(strategy="make_before_break")
        tracked = int(
            scene.sh("ovs-appctl dpctl/ct-stats-show netdev@ovs-netdev | grep -oP 'Total: \\K[0-9]+'")
        )
    require_sound(scene, new)
    if log["broken"] or log["connections"] != count:
        raise Broken(f"of {count} connections: {log}; {result['connections']}, {result['not_carried']}")
    found = result["connections"]
    if found["carried"] != found["of"] or tracked < count:
        raise Broken(f"{found} were carried, {tracked} are tracked: {result['not_carried']}")
    return f"{found['carried']} of {found['of']} carried, {log['connections']} of {count} go on, {log['opened']} opened"


SCENARIOS = [
    *(
        (
            f"{count:,} tracked connections in userspace, {old} to {new}",
            old,
            functools.partial(carried, new, count, churn),
            "native",
        )
        for old, new, count, churn in (
            ("3.5.0", "4.0.0", 500, 20),
            ("3.1.0", "3.5.0", 500, 20),
            ("4.0.0", "3.5.0", 500, 20),
            ("3.5.0", "4.0.0", 10_000, 100),
            ("3.5.0", "4.0.0", 100_000, 100),
        )
    ),
]
