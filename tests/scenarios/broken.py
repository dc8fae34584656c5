# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A new version that is no good: the old one must go on, or be back soon, and the text must say why."""

from __future__ import annotations

import functools
import re

from tests.scenarios.scene import Broken, Json, Losses, Scene, measured, require_same, require_sound

VSWITCHD = "/usr/lib/openvswitch-switch/ovs-vswitchd"
OVSDB_SERVER = "/usr/sbin/ovsdb-server"

# Strikes the new ovs-vswitchd when it has a socket: its control socket, or that of its second bridge.
_STRUCK = '''sh -c 'until [ -S "$OVS_RUNDIR/{socket}" ]; do sleep 0.01; done; kill -{signal} $0' $$ & exec -a "$0" $real "$@"'''
ANSWERS, SERVES = "ovs-vswitchd.$0.ctl", "br1.mgmt"
# What is put in the place of the new ovs-vswitchd; $real is the real one.
FAULTS = {
    "crashes at start": 'echo "cannot do anything" >&2; exit 134',
    "hangs at start": "kill -STOP $$",
    "crashes when it answers": _STRUCK.format(socket=ANSWERS, signal="SEGV"),
    "hangs when it answers": _STRUCK.format(socket=ANSWERS, signal="STOP"),
    "crashes when it has its bridges": _STRUCK.format(socket=SERVES, signal="SEGV"),
    "hangs when it has its bridges": _STRUCK.format(socket=SERVES, signal="STOP"),
}
# What the rollback may take, in seconds, where the old process has to end first.
BOUND = 60.0
# The same where it has taken over and is seen to stand still (``sockets.STILL``).
SEEN = 20.0


def spoil(scene: Scene, script: str, program: str) -> None:
    """Put a script in the place of a new daemon; it tells its version like the real one."""
    body = f"""#!/bin/bash
real={program}.real
if [ "$1" = --version ]; then exec $real --version; fi
{script}
"""
    scene.sh(f"mv {program} {program}.real\ncat > {program} <<'END'\n{body}END\nchmod 755 {program}")


def attempt(scene: Scene, strategy: str, words: str = "") -> tuple[Losses, str]:
    """A hand-over that must be undone and say why; the losses meanwhile and what it said."""
    with scene.traffic() as traffic:
        reason = scene.hand_over(expect="rolled_back", strategy=strategy)["reason"]
    if not re.search(words, reason):
        raise Broken(f"the reason does not say {words!r}: {reason}")
    return measured(traffic), reason


def judge(scene: Scene, before: Json, losses: Losses, interruption: float) -> None:
    """The old version forwards what it did, interrupted for at most so many seconds (0: not a packet was lost)."""
    # ovsdb-server stays the new one: a database that works is no reason to interrupt it again.
    require_sound(scene, "3.5.0", server=False)
    require_same(before, scene.look())
    if interruption:
        losses.shorter_than(interruption)
    else:
        losses.none()


def useless(
    script: str,
    program: str,
    strategy: str,
    interruption: float,
    scene: Scene,
) -> str:
    """The new version of a daemon does not come up."""
    scene.populate()
    scene.install("4.0.0")
    spoil(scene, script, program)
    before = scene.look()
    losses, reason = attempt(scene, strategy)
    judge(scene, before, losses, interruption)
    scene.sh("ovs-vsctl --timeout=10 add-br br9 -- del-br br9")
    return f"{losses}; {reason}"


# An action that 3.1 does not know: sample() with a field as the observation domain (3.4).
UNKNOWN = """
for port in 7 8; do
    ovs-ofctl -O OpenFlow15 add-flow br1 \
        "tcp,tp_dst=$port,actions=sample(probability=1,collector_set_id=1,obs_domain_id=NXM_NX_REG0[],obs_point_id=1)"
done
"""
# Both, as text, although the tools of 3.1 cannot print them.
NAMED = "2 of the OpenFlow objects.*tp_dst=7,actions=sample.*tp_dst=8,actions=sample.*into its log"


def refuses_a_flow(strategy: str, interruption: float, scene: Scene) -> str:
    """Two of 2506 flows have an action that the older version does not know."""
    scene.populate()
    scene.sh(UNKNOWN)
    before = scene.look()
    scene.install("3.1.0")
    losses, reason = attempt(
        scene, strategy, NAMED if strategy == "make_before_break" else "2 .*tp_dst=7.*tp_dst=8"
    )
    # The tools of 3.1 cannot print that flow.
    scene.install("3.5.0")
    judge(scene, before, losses, interruption)
    return f"{losses}; {reason}"


# The private database is served when the new version starts.
DIFFERENTLY = """ovs-vsctl --no-wait --db=unix:$OVS_RUNDIR/db.sock set port p2 tag=7
exec -a "$0" $real "$@\""""


def learns(scene: Scene) -> None:
    """A bridge that learns, with a newer version on the disk."""
    scene.populate()
    scene.sh(
        "ovs-ofctl del-flows br0; ovs-ofctl add-flow br0 actions=normal; ip netns exec h2 ping -c 2 10.0.0.1"
    )
    scene.install("4.0.0")


def translates_differently(scene: Scene) -> str:
    """The new version takes p2 for a port of another VLAN: the proof on live megaflows must see it."""
    learns(scene)
    spoil(scene, DIFFERENTLY, VSWITCHD)
    before = scene.look()
    losses, reason = attempt(
        scene, "make_before_break", "would forward .* differently.*p1>p2:gone.*hot_upgrade_accept"
    )
    judge(scene, before, losses, 0)
    return f"{losses}; {reason}"


# To that address nothing leaves the new version, since its port is said to be the one that it comes in by.
ASTRAY = """
(for _ in $(seq 600); do ovs-appctl --timeout=1 fdb/add br0 p2 0 {address} >/dev/null 2>&1 && break; sleep 0.05; done) &
exec -a "$0" $real "$@\""""


def accepted(scene: Scene) -> str:
    """What the new version forwards differently is refused, and goes on for who names it; so it forwards then."""
    learns(scene)
    address = scene.sh("ip -n h2 neighbour show 10.0.0.1").split()[4]
    spoil(scene, ASTRAY.format(address=address), VSWITCHD)
    # Only what is live is proved.
    scene.sh("systemd-run --quiet --unit=pings ip netns exec h2 ping -i 0.2 10.0.0.1")
    reason = scene.hand_over(expect="rolled_back", strategy="make_before_break")["reason"]
    if "p2>p1:gone" not in reason:
        raise Broken(f"the difference has no name: {reason}")
    with scene.traffic() as traffic:
        proof = scene.hand_over(strategy="make_before_break", accept=["p2>p1:*"])["verification"]["proof"]
    measured(traffic).none()
    if not proof["accepted"] or proof["different"]:
        raise Broken(f"it is not told as accepted: {proof}")
    version = scene.sh("ovs-appctl version").split()[3]
    if version != "4.0.0":
        raise Broken(f"ovs-vswitchd is {version}")
    ping = "ip netns exec h2 ping -c 3 -W 1 10.0.0.1 >/dev/null"
    scene.sh(f"systemctl stop pings; if {ping}; then exit 1; fi; ovs-appctl fdb/del br0 0 {address}; {ping}")
    return f"{measured(traffic)}; {proof['text']}"


SCENARIOS = [
    *(
        (
            f"{strategy}: new version {fault}",
            "3.5.0",
            functools.partial(useless, script, VSWITCHD, strategy, interruption),
        )
        for fault, script in FAULTS.items()
        for strategy, interruption in (
            ("make_before_break", 0),
            ("prefilled", 0),
            # It has no bridges before the old process has ended.
            ("standby", SEEN if "bridges" in fault else 0),
            ("restart", BOUND),
        )
        # ovs-ctl has it become another process.
        if not (strategy == "restart" and "when" in fault)
    ),
    *(
        (
            f"new ovsdb-server {fault}",
            "3.5.0",
            functools.partial(useless, FAULTS[fault], OVSDB_SERVER, "auto", 0),
        )
        for fault in ("crashes at start", "hangs at start")
    ),
    *(
        (
            f"{strategy}: new version refuses a flow",
            "3.5.0",
            functools.partial(refuses_a_flow, strategy, interruption),
        )
        for strategy, interruption in (
            ("make_before_break", 0),
            ("prefilled", 0),
            ("standby", BOUND),
            ("restart", BOUND),
        )
    ),
    ("new version translates a flow differently", "3.5.0", translates_differently),
    ("new version translates a flow differently, and it is accepted", "3.5.0", accepted),
]
