# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The new process is like the old one: all of /proc/PID, before and after, for every strategy and rollback."""

from __future__ import annotations

import functools
import json
import re
import typing as t
from pathlib import Path

from tests.lab import hosts
from tests.scenarios.scene import GONE, Broken, Scene, require_sound

PORTRAIT = (Path(__file__).parent / "portrait.py").read_text()

# Each setting that a unit has and that another process can be given, differently than it is by default.
DROP_IN = """
for unit in ovs-vswitchd ovsdb-server; do
mkdir -p /etc/systemd/system/$unit.service.d
cat > /etc/systemd/system/$unit.service.d/odd.conf <<'END'
[Service]
OOMScoreAdjust=-321
UMask=0027
Environment=PLAIN=1 "SPACED=a b" LC_TIME=C
LimitSTACK=4M:16M
LimitCORE=0:1M
LimitNOFILE=70000:80000
LimitSIGPENDING=900:1000
Nice=-3
CPUSchedulingPolicy=batch
IOSchedulingClass=best-effort
IOSchedulingPriority=2
TimerSlackNSec=123456
CoredumpFilter=shared-anonymous
CapabilityBoundingSet=~CAP_SYS_TIME
NoNewPrivileges=yes
IgnoreSIGPIPE=no
SupplementaryGroups=adm
WorkingDirectory=/usr
END
done
"""
# Not detached: standard output and error are the journal's.
SIMPLE = """
cat > /etc/systemd/system/ovs-vswitchd.service.d/simple.conf <<'END'
[Service]
Type=simple
ExecStart=
ExecStart=/usr/sbin/ovs-vswitchd unix:/run/openvswitch/db.sock -vsyslog:err -vfile:info --mlockall --no-chdir \
    --log-file=/var/log/openvswitch/ovs-vswitchd.log --pidfile=/run/openvswitch/ovs-vswitchd.pid
END
"""
START = "systemctl daemon-reload; systemctl restart openvswitch-switch"
# Without systemd: what an administrator and a login leave behind.
BY_HAND = """
service openvswitch-switch stop
cd /usr
umask 027
ulimit -S -s 4096
ulimit -n 7000
export PLAIN=1 SPACED='a b'
echo 321 > /proc/self/oom_score_adj
nice -n 3 ionice -c 2 -n 3 /usr/share/openvswitch/scripts/ovs-ctl --system-id=random --no-record-hostname start
"""

# Where a process was told things about itself; OVS_RUNDIR is where the new one was filled.
OF_ONE_START = frozenset(
    f"environment {name}"
    for name in (
        "OVS_RUNDIR",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "SYSTEMD_EXEC_PID",
        "LISTEN_PID",
        "LD_LIBRARY_PATH",
    )
)


# A monitor that did not detach itself has lost its standard input (3.5: lib/daemon-unix.c closes it), to nobody's harm.
MONITORS_OWN = frozenset({"stream 0", "flags of stream 0"})
# What the unit is to start by until the next boot, after a rollback.
KEPT = re.compile(r"/var/lib/ovsops/[^:]*:")


# What nobody would miss after a reboot: empty directories, links for processes that are gone, files for a moment.
LEFT = """
find /run/systemd/system /etc/systemd/system -mindepth 1 -type d -empty || true
find /run/ovsops -mindepth 1 || true
find /var/lib/ovsops/transactions -mindepth 2 -type d -empty ! -path '*/old/lib' || true
for link in /run/openvswitch-*; do
    [ -e "$link" ] || [ -L "$link" ] || continue
    grep -qz "^OVS_RUNDIR=$link$" /proc/$(cat /run/openvswitch/ovs-vswitchd.pid)/environ || echo "$link"
done
"""


def portraits(scene: Scene) -> dict[str, dict[str, str]]:
    """See portrait.py."""
    found = json.loads(hosts.ssh(scene.lab, scene.host(), "python3", "-", feed=PORTRAIT))
    return {
        what: {name: KEPT.sub("", value) for name, value in content.items() if name not in OF_ONE_START}
        for what, content in found.items()
    }


def require_alike(scene: Scene, before: dict[str, dict[str, str]], when: str) -> None:
    """Raise ``Broken`` with every difference of the daemons, their monitors and files."""
    after = portraits(scene)
    if scene.lab.backend == "uml":  # the service was started again, so it has another stream to the journal
        for stream in (1, 2):
            for seen in (before, after):
                text = seen["ovsdb-server"][f"stream {stream}"]
                seen["ovsdb-server"][f"stream {stream}"] = text.partition("[")[0]
    wrong = [
        f"{what}: {name} {before.get(what, {}).get(name)!r} became {after.get(what, {}).get(name)!r}"
        for what in sorted({*before, *after})
        for name in sorted({*before.get(what, {}), *after.get(what, {})})
        if before.get(what, {}).get(name) != after.get(what, {}).get(name)
        and not (what.startswith("monitor of") and name in MONITORS_OWN)
    ]
    if wrong:
        raise Broken(f"{when}: {'; '.join(wrong)}")


def alike(setup: str, strategies: t.Sequence[str], options: t.Sequence[str], scene: Scene) -> str:
    """Every strategy, confirmed and taken back."""
    scene.sh(setup)
    scene.populate(*options)
    before, left = portraits(scene), scene.sh(LEFT)
    for strategy in strategies:
        for confirm in ("automatic", "manual"):
            back = confirm == "manual"
            result = scene.hand_over(
                expect="applied" if back else "confirmed", strategy=strategy, force=True, confirm=confirm
            )
            when = f"after {strategy}"
            if back:
                scene.hand_over(expect="rolled_back", state="rolled_back")
                when = f"{when} was taken back"
            if any("cannot be" in text for text in result["not_carried"]):
                raise Broken(f"{when}: {result['not_carried']}")
            require_alike(scene, before, when)
            scene.sh(GONE)
            if scene.sh(LEFT) != left:
                raise Broken(f"{when} is left over: {scene.sh(LEFT)}")
            require_sound(scene, scene.lab.ovs or "", server=False)
    return f"{sum(map(len, before.values()))} properties of {', '.join(sorted(before))}"


UML = ("make_before_break",)
PLAIN = ("standby", "restart")

SCENARIOS = [
    ("likeness, odd units", "3.5.0", functools.partial(alike, DROP_IN + START, UML, ())),
    (
        "likeness, odd units, plain strategies",
        "3.5.0",
        functools.partial(alike, DROP_IN + START, PLAIN, ()),
    ),
    (
        "likeness, journal",
        "3.5.0",
        functools.partial(alike, DROP_IN + SIMPLE + START, (*UML, "restart"), ()),
    ),
    (
        "likeness, no systemd",
        "3.5.0",
        functools.partial(alike, BY_HAND, ("make_before_break",), ()),
        "native",
    ),
    (
        "likeness, no systemd, plain strategies",
        "3.5.0",
        functools.partial(alike, BY_HAND, PLAIN, ()),
        "native",
    ),
]
