# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections that the userspace datapath tracks, behind a firewall that drops what it does not know: none of them is lost.

The judges are the peers of real connections (tests/lab/peers.py, tests/lab/kinds.py), and what ovs-appctl shows before and
after: it is compared as text, since the code that reads it for the hand-over is what is judged.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import json
import re
import time
import typing as t

from tests.lab.images import REPOSITORY
from tests.scenarios.programs import Program, background
from tests.scenarios.scene import Broken, Json, Scene, require_sound, until

PEERS = Program("peers")
KINDS = (REPOSITORY / "tests/lab/kinds.py").read_text()
KINDS_PLACE, KINDS_LOG, KINDS_PID = "/srv/kinds.py", "/run/kinds", "/run/kinds.pid"

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

# What each address of h2 stands for is in the rules: no translation, of the source (some addresses, some ports), of the target
# (with and without its port), and both, one zone each.
EVERY_KIND = """
for six in 2 3; do
    ip -n h2 address replace fd00::$six/64 dev e0 nodad
    ip -n h1 neighbour replace fd00::$six dev e0 lladdr 02:00:00:00:00:02
    ip -n h2 address replace 10.0.0.$((six + 1))/24 dev e0
done
ip -n h1 address replace fd00::1/64 dev e0 nodad
for last in 3 4 66 77 78 79; do
    ip -n h1 neighbour replace 10.0.0.$last dev e0 lladdr 02:00:00:00:00:02
done
for last in 9 10 11 12 13 20; do
    ip -n h2 neighbour replace 10.0.0.$last dev e0 lladdr 02:00:00:00:00:01
done
for last in 66 77; do ip -n h1 neighbour replace fd00::$last dev e0 lladdr 02:00:00:00:00:02; done
for last in 1 9 a b c; do ip -n h2 neighbour replace fd00::$last dev e0 lladdr 02:00:00:00:00:01; done
ovs-ofctl -O OpenFlow15 --bundle replace-flows br0 - <<'END'
cookie=0xbb,table=0,priority=30,in_port=1,tcp,tp_dst=9020,actions=output:2
cookie=0xbb,table=0,priority=30,in_port=2,tcp,tp_src=9020,actions=output:1
cookie=0xbb,table=0,priority=30,in_port=1,tcp6,tp_dst=9020,actions=output:2
cookie=0xbb,table=0,priority=30,in_port=2,tcp6,tp_src=9020,actions=output:1
table=0,priority=20,in_port=2,ip,nw_dst=10.0.0.20,actions=ct(table=10,zone=65535,nat)
table=0,priority=10,ip,actions=ct(table=11,zone=5,nat)
table=0,priority=10,ipv6,actions=ct(table=11,zone=6,nat)
table=0,priority=1,arp,actions=normal
table=10,priority=1,ct_state=+est+rpl+trk,ip,actions=ct(table=11,zone=5,nat)
table=11,priority=50,ct_state=+inv+trk,actions=drop
table=11,priority=45,in_port=1,ct_state=+new+trk,tcp,tp_dst=9020,actions=ct(commit,zone=5,exec(set_field:0x20->ct_mark)),output:2
table=11,priority=45,in_port=1,ct_state=+new+trk,tcp6,tp_dst=9020,actions=ct(commit,zone=6,exec(set_field:0x20->ct_mark)),output:2
table=11,priority=40,ct_state=+new+trk,tcp,tcp_flags=-syn,actions=drop
table=11,priority=40,ct_state=+new+trk,tcp6,tcp_flags=-syn,actions=drop
table=11,priority=35,in_port=1,ct_state=+new+trk,tcp,tp_dst=21,actions=ct(commit,zone=5,alg=ftp,nat(src=10.0.0.9)),output:2
table=11,priority=30,in_port=1,ct_state=+new+trk,ip,nw_dst=10.0.0.3,actions=\
ct(commit,zone=5,nat(src=10.0.0.9-10.0.0.12),exec(set_field:0x77->ct_mark,set_field:0x123456789abcdef0123->ct_label)),output:2
table=11,priority=30,in_port=1,ct_state=+new+trk,ip,nw_dst=10.0.0.4,actions=\
ct(commit,zone=5,nat(src=10.0.0.13:20000-29999),exec(set_field:0xffffffff->ct_mark)),output:2
table=11,priority=30,in_port=1,ct_state=+new+trk,ip,nw_dst=10.0.0.77,actions=\
ct(commit,zone=5,nat(dst=10.0.0.2),exec(set_field:0x80000000000000000000000000000001->ct_label)),output:2
table=11,priority=31,in_port=1,ct_state=+new+trk,icmp,nw_dst=10.0.0.78,actions=ct(commit,zone=5,nat(dst=10.0.0.2)),output:2
table=11,priority=30,in_port=1,ct_state=+new+trk,ip,nw_dst=10.0.0.78,actions=ct(commit,zone=5,nat(dst=10.0.0.2:9000)),output:2
table=11,priority=30,in_port=1,ct_state=+new+trk,ip,nw_dst=10.0.0.79,actions=\
ct(commit,table=12,zone=5,nat(dst=10.0.0.2),exec(set_field:0x79->ct_mark))
table=11,priority=30,in_port=1,ct_state=+new+trk,ipv6,ipv6_dst=fd00::3,actions=\
ct(commit,zone=6,nat(src=fd00::9-fd00::c),exec(set_field:0x88->ct_mark,set_field:0xabc->ct_label)),output:2
table=11,priority=30,in_port=1,ct_state=+new+trk,ipv6,ipv6_dst=fd00::77,actions=ct(commit,zone=6,nat(dst=fd00::2)),output:2
table=11,priority=20,in_port=1,ct_state=+new+trk,ip,actions=ct(commit,zone=5),output:2
table=11,priority=20,in_port=1,ct_state=+new+trk,ipv6,actions=ct(commit,zone=6,exec(set_field:0x1->ct_mark)),output:2
table=11,priority=16,in_port=1,ct_state=+est+trk,ct_mark=0x79,ip,actions=resubmit(,12)
table=11,priority=15,in_port=1,ct_state=+est+trk,actions=output:2
table=11,priority=15,in_port=2,ct_state=+est+rpl+trk,actions=output:1
table=12,priority=1,ip,actions=ct(table=13,zone=65535,nat)
table=13,priority=50,ct_state=+inv+trk,actions=drop
table=13,priority=20,in_port=1,ct_state=+new+trk,ip,actions=ct(commit,zone=65535,nat(src=10.0.0.20)),output:2
table=13,priority=15,in_port=1,ct_state=+est+trk,actions=output:2
END
"""
# What differs though nothing of the connection does: fields without a value, which not every version shows.
FLEETING = re.compile(r",timeout=\d+|(?<=\)),id=\d+|\b\w+=0?(?=[,)]|$)")
REMAINS = re.compile(r"timeout=(\d+)")
# Those of tests/lab/peers.py, which come and go.
OF_PEERS = re.compile(r"dport=80[89]\d")
ENDS = re.compile(r"orig=\(src=10\.0\.0\.1,dst=10\.0\.0\.2,sport=(\d+),dport=(\d+)")


def of_kinds(line: str) -> bool:
    return not OF_PEERS.search(line)


@dataclasses.dataclass
class Look:
    """The tracked connections as they are shown, without what is fleeting; what is left of each in seconds, and when that was."""

    lines: collections.Counter[str]
    rests: dict[str, int]
    when: float

    @classmethod
    def at(cls, scene: Scene, wanted: t.Callable[[str], bool] = of_kinds) -> Look:
        """Those that are ``wanted``."""
        when = time.monotonic()
        shown = scene.sh("ovs-appctl dpctl/dump-conntrack -m -s netdev@ovs-netdev").splitlines()
        look = cls(collections.Counter(), {}, when)
        for line in filter(wanted, shown):
            bare = FLEETING.sub("", line)
            look.lines[bare] += 1
            rest = REMAINS.search(line)
            look.rests[bare] = max(look.rests.get(bare, 0), int(rest.group(1)) if rest else 0)
        return look


def require_equal(before: Look, after: Look, result: Json) -> str:
    """Raise ``Broken`` unless the same is shown; what had too little time left may have ended, and what is told may be lost."""
    uncarriable = uncarried(result)
    passed = after.when - before.when + 1
    gone, more = before.lines - after.lines, after.lines - before.lines
    ended = [line for line in gone if before.rests[line] <= passed]
    lost = [line for line in gone.elements() if line not in ended]
    if len(lost) != uncarriable or more.total() > uncarriable:
        raise Broken(
            f"{len(lost)} of {before.lines.total()} are not as before, {uncarriable} were to be so, as {lost[:8]}; "
            f"{more.total()} were not there, as {list(more)[:8]}: {result['not_carried']}"
        )
    equal = before.lines.total() - gone.total()
    rest = {"ended meanwhile": len(ended), "told as not carried": uncarriable}
    words = [f"{count} {what}" for what, count in rest.items() if count]
    return ", ".join([f"{equal} of {before.lines.total()} entries equal", *words])


class Kinds:
    """Connections of every kind on a host (see kinds.py)."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.turn = 1
        # Before 3.2 its ports are not known, and all between two addresses are one.
        words = "" if scene.lab.ovs == "3.1.0" else " sctp"
        start = background(f"python3 {KINDS_PLACE} 30000 {KINDS_LOG}{words}", KINDS_PID)
        scene.sh(f"cat > {KINDS_PLACE} <<'KINDS'\n{KINDS}\nKINDS\nrm -f {KINDS_LOG}.*\n{start}")
        self.begun = self.told()

    def told(self) -> Json:
        log, gone = f"{KINDS_LOG}.{self.turn}", f"! kill -0 $(cat {KINDS_PID}) 2>/dev/null"
        self.scene.sh(
            until(f"[ -e {log} ] || {gone}", 200, otherwise=f"ls {KINDS_LOG}* >&2")
            + f"[ -e {log} ] || {{ cat /run/background.log >&2; exit 1; }}"
        )
        self.turn += 1
        return t.cast("Json", json.loads(self.scene.sh(f"cat {log}")))

    def ask(self, signal: str) -> Json:
        self.scene.sh(f"kill -{signal} $(cat {KINDS_PID})")
        return self.told()

    def prove(self) -> None:
        """Raise ``Broken`` unless all say something."""
        broken = self.ask("USR1")
        if broken:
            raise Broken(f"of {self.begun} these say nothing any more: {broken}")

    def more(self) -> None:
        """Begin as many besides."""
        self.begun = self.ask("USR2")


@contextlib.contextmanager
def kinds(scene: Scene) -> t.Iterator[Kinds]:
    """All of them, for so long."""
    try:
        yield Kinds(scene)
    finally:
        scene.sh(f"kill $(cat {KINDS_PID}) || true")


@contextlib.contextmanager
def peers(scene: Scene, count: int, rate: int = 100, churn: int = 20) -> t.Iterator[Json]:
    """See peers.py; what became of the connections is in what this yields, afterwards."""
    begun = until(f"[ -e {PEERS.log}.open ]", 300, otherwise="cat /run/background.log >&2")
    with PEERS.running(scene, count, rate, churn, PEERS.log, begun=begun, patience=300) as log:
        yield log


def carried(new: str, count: int, churn: int, scene: Scene) -> str:
    """Both ends of all connections go on, whoever speaks first."""
    scene.populate("--datapath-type", "netdev")
    scene.sh(FIREWALL)
    scene.install(new)
    with peers(scene, count, churn=churn) as log:
        lasts = of_ends(scene)
        before = Look.at(scene, lasts)
        result = scene.hand_over(strategy="make_before_break")
        equal = require_equal(before, Look.at(scene, lasts), result)
    require_sound(scene, new)
    if log["broken"] or log["connections"] != count:
        raise Broken(f"of {count} connections: {log}; {result['connections']}, {result['not_carried']}")
    found = result["connections"]
    if found["carried"] != found["of"] or before.lines.total() != count:
        raise Broken(f"{found} were carried, {equal}: {result['not_carried']}")
    return f"{equal}, {log['connections']} of {count} go on, {log['opened']} opened"


def of_ends(scene: Scene) -> t.Callable[[str], bool]:
    """Tells the connections that last from those that come and go besides."""
    lasting = set(scene.sh(f"cat {PEERS.log}.*.open").splitlines())

    def lasts(line: str) -> bool:
        ends = ENDS.search(line)
        return ends is not None and " ".join(ends.groups()) in lasting

    return lasts


def every_kind(new: str, strategy: str, scene: Scene) -> str:
    """There under no traffic but theirs, and back under that of others: the entries are equal, and the ends still talk."""
    old = scene.lab.ovs or ""
    scene.populate("--datapath-type", "netdev")
    scene.sh(EVERY_KIND)
    scene.install(new)
    with kinds(scene) as ends:
        before = Look.at(scene)
        result = scene.hand_over(strategy=strategy, confirm="manual", confirm_timeout=600, expect="applied")
        there = require_equal(before, Look.at(scene), result)
        ends.prove()
        with peers(scene, 50) as log:
            ends.more()
            before = Look.at(scene)
            result = scene.hand_over(state="rolled_back", expect="rolled_back")
            back = require_equal(before, Look.at(scene), result)
            ends.prove()
        if log["broken"]:
            raise Broken(f"while it was taken back: {log}")
    require_sound(scene, old, server=False)
    return f"{there}; back: {back}"


def uncarried(result: Json) -> int:
    """How many it says it could not carry."""
    found = re.findall(r"^(\d+) tracked connections: ", "\n".join(result["not_carried"]), re.MULTILINE)
    return sum(map(int, found))


SCENARIOS = [
    *(
        (
            f"tracked connections of every kind, {strategy}, {old} to {new} and back",
            old,
            functools.partial(every_kind, new, strategy),
            "native",
        )
        for strategy, old, new in (
            ("make_before_break", "3.5.0", "4.0.0"),
            ("make_before_break", "3.1.0", "3.5.0"),
            ("make_before_break", "4.0.0", "3.5.0"),
            ("prefilled", "3.5.0", "4.0.0"),
        )
    ),
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
