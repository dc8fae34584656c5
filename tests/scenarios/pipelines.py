# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pipelines with conntrack, NAT and groups under traffic both ways: what the proof covers, what the plan announces."""

from __future__ import annotations

import functools
import json

from tests.harness import runs
from tests.lab import modules
from tests.scenarios.scene import Broken, Json, Scene, require_same, require_sound, until

ENOUGH = 95.0
# Seven buckets have 16 slots up to 3.1.5 and 32 in 3.5.0 and 4.0.0; half of all hashes move.
GROUP = "group 5 of bridge br0"
MOVED = 128

BUCKETS = ",".join(
    f"bucket=weight:1,actions=set_field:{number}->nw_tos,output:2" for number in range(0, 28, 4)
)
# From h1 to h2 through two zones and a group, source address translated; the answers back.
PIPELINE = f"""
ovs-ofctl -O OpenFlow15 add-group br0 'group_id=5,type=select,{BUCKETS}'
ovs-ofctl -O OpenFlow15 --bundle replace-flows br0 - <<'END'
table=0,priority=10,in_port=1,udp,actions=ct(table=11,zone=5,nat)
table=0,priority=10,in_port=2,udp,actions=ct(table=11,zone=5,nat)
table=0,priority=1,arp,actions=normal
table=11,in_port=1,ct_state=+new+trk,udp,actions=ct(commit,zone=5,nat(src=10.0.0.9),exec(set_field:0x77->ct_mark)),group:5
table=11,in_port=1,ct_state=+est+trk,ct_mark=0x77,udp,actions=ct(zone=6,table=12)
table=11,in_port=2,ct_state=+est+trk,udp,actions=output:1
table=12,udp,actions=dec_ttl,group:5
END
ip -n h2 neighbour replace 10.0.0.9 dev e0 lladdr 02:00:00:00:00:01
"""
# Forty connections that are answered, again and again, until somebody ends them; "talking" when all were answered.
TALK = """
cat > /run/answer.py <<'END'
import socket
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(("10.0.0.2", 8080))
while True:
    data, address = receiver.recvfrom(99)
    receiver.sendto(data, address)
END
cat > /run/talk.py <<'END'
import socket, time
senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for __ in range(40)]
for number, sender in enumerate(senders):
    sender.bind(("10.0.0.1", 2000 + number))
    sender.settimeout(0.5)
waiting = set(senders)
while True:
    for sender in senders:
        sender.sendto(b"x", ("10.0.0.2", 8080))
        try:
            sender.recvfrom(99)
            waiting.discard(sender)
        except OSError:
            pass
        time.sleep(0.002)
    if not waiting:
        open("/run/talking", "w").close()
END
rm -f /run/talking
setsid ip netns exec h2 python3 /run/answer.py > /run/answer.log 2>&1 < /dev/null &
echo $! > /run/answer.pid
setsid ip netns exec h1 python3 /run/talk.py > /run/talk.log 2>&1 < /dev/null &
echo $! > /run/talk.pid
""" + until("[ -e /run/talking ]", 20, otherwise="cat /run/*.log >&2; ovs-appctl dpctl/dump-flows >&2")
SILENCE = "kill $(cat /run/talk.pid /run/answer.pid)"


def talking(scene: Scene, options: tuple[str, ...]) -> None:
    """The pipeline under traffic."""
    scene.populate(*options)
    scene.sh(PIPELINE)
    scene.sh(TALK)


def covered(result: Json) -> Json:
    """The proof in a result.  Raises ``Broken`` when it covers little, or differs."""
    proof: Json = result["verification"]["proof"]
    if proof["covered"] < ENOUGH or proof["different"]:
        raise Broken(f"the proof: {proof}")
    if "can be traced" not in result["plan"]["proof"] or proof["text"] != result["proof"]:
        raise Broken(f"the result says {result['proof']!r}, the plan {result['plan']['proof']!r}")
    return proof


def looked_ahead(scene: Scene, version: str, moved: int) -> None:
    """Before anything is installed the playbook in check mode tells what the version will change."""
    reports = scene.lab.folder / "reports"
    reports.mkdir()
    done = runs.playbook(scene.lab, version, check=True, report_dir=str(reports))
    if done.returncode:
        raise Broken(f"the playbook in check mode failed: {done.stdout[-2000:]}{done.stderr[-500:]}")
    result = json.loads((reports / "host1.json").read_text())
    if (
        any("may move" in text for text in result["warnings"]) != bool(moved)
        or "traced" not in result["proof"]
    ):
        raise Broken(f"the look ahead says {result['warnings']}, {result['proof']!r}")


def traced(old: str, new: str, moved: int, options: tuple[str, ...], scene: Scene) -> str:
    """The proof covers the pipeline; the plan announces the connections that move, and no others."""
    if not options:
        modules.install(scene.lab, scene.host(), modules.SHIPPED)
        modules.reload(scene.lab, scene.host())
    talking(scene, options)
    looked_ahead(scene, new, moved)
    scene.install(new)
    result = scene.hand_over(strategy="make_before_break")
    require_sound(scene, new)
    proof = covered(result)
    announced = [text for text in result["plan"]["warnings"] if "may move" in text]
    if bool(announced) != bool(moved) or not all(f"{moved} of 256" in text for text in announced):
        raise Broken(f"{old} to {new} moves {moved} of 256 hashes, the plan says {announced}")
    if {each["group"]: each["moved"] for each in proof["moved"]} != ({GROUP: moved} if moved else {}):
        raise Broken(f"{moved} of 256 hashes should move in the proof: {proof['moved']}")
    # The traffic goes on through the new version.
    scene.sh(f"{SILENCE}\n{TALK}\n{SILENCE}")
    return f"{proof['text']}; {'; '.join(announced) or 'no connection moves'}"


def rehearsed(scene: Scene) -> str:
    """A rehearsal traces the packets of the kernel's megaflows through a version that has dummies for devices."""
    modules.install(scene.lab, scene.host(), modules.SHIPPED)
    modules.reload(scene.lab, scene.host())
    talking(scene, ())
    before = scene.look()
    done = runs.playbook(scene.lab, "4.0.0", name="rehearse")
    if done.returncode:
        raise Broken(f"the rehearsal failed: {done.stdout[-2000:]}{done.stderr[-500:]}")
    require_same(before, scene.look())
    proof: Json = json.loads(scene.sh("cat /var/lib/ovsops/rehearsals/last.json"))["forward"]["proof"]
    if proof["covered"] < ENOUGH or proof["different"]:
        raise Broken(f"the proof: {proof}")
    if {each["group"]: each["moved"] for each in proof["moved"]} != {GROUP: MOVED}:
        raise Broken(f"{MOVED} of 256 hashes should move in the proof: {proof['moved']}")
    return str(proof["text"])


def little(scene: Scene) -> str:
    """Hardly anything comes by a port that the new process has already: plan and result say so."""
    scene.populate("--datapath-type", "netdev")
    scene.sh(
        """
    ovs-ofctl -O OpenFlow15 --bundle replace-flows br0 - <<'END'
priority=6,in_port=LOCAL,actions=output:2
END
    ip link set br0 up
    ip address add 10.20.0.1/24 dev br0
    ip neighbour replace 10.20.0.2 lladdr 02:00:00:00:00:02 dev br0
    ping -q -i 0.2 -w 60 10.20.0.2 > /dev/null 2>&1 < /dev/null &
    """
        + until("[ $(cat /sys/class/net/br0/statistics/tx_packets) -ge 15 ]")
    )
    scene.install("4.0.0")
    result = scene.hand_over(strategy="make_before_break")
    if not any("covers little" in text for text in result["plan"]["warnings"]):
        raise Broken(f"the plan does not say that the proof covers little: {result['plan']}")
    if "is not proved" not in result["proof"]:
        raise Broken(f"the result does not say that little was proved: {result['proof']}")
    return str(result["proof"])


USERSPACE = ("--datapath-type", "netdev")
SCENARIOS = [
    *(
        (
            f"proof of a ct pipeline in userspace, {old} to {new}",
            old,
            functools.partial(traced, old, new, moved, USERSPACE),
            "native",
        )
        for old, new, moved in (("3.1.0", "4.0.0", MOVED), ("3.5.0", "4.0.0", 0), ("3.5.0", "3.1.0", MOVED))
    ),
    ("proof of little", "3.5.0", little, "native"),
    ("rehearsal of a ct pipeline, 3.1.0 to 4.0.0", "3.1.0", rehearsed),
    *(
        (f"proof of a ct pipeline, {old} to {new}", old, functools.partial(traced, old, new, moved, ()))
        for old, new, moved in (("3.1.0", "4.0.0", MOVED), ("3.5.0", "4.0.0", 0))
    ),
]
