# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who owns the daemons: the host's service manager afterwards, a monitor, another user, a second engine."""

from __future__ import annotations

import concurrent.futures
import functools
import typing as t

from tests.harness import runs
from tests.lab import rpms
from tests.scenarios.again import back
from tests.scenarios.scene import (
    GONE,
    RENUMBERED,
    Broken,
    Scene,
    measured,
    require_same,
    require_sound,
    until,
    upgrade,
)

COUNT = "ovs-ofctl -O OpenFlow15 dump-aggregate br0"


def flows_of(scene: Scene) -> dict[str, list[str]]:
    return {name: state["flows"] for name, state in scene.look()["state"]["bridges"].items()}


def restarted(daemon: str) -> str:
    """The shell script that waits until the pidfile names another process than $old, which answers."""
    pidfile = f"/run/openvswitch/{daemon}.pid"
    changed = f"[ -s {pidfile} ] && [ $old != $(cat {pidfile}) ]"
    return until(f"{changed} && ovs-appctl -t {daemon} version >/dev/null")


def units(scene: Scene) -> str:
    """systemctl does afterwards what it always did, and so does a reboot."""
    scene.populate("--no-meter")  # with a meter upstream's reload loses the whole table
    __, losses = upgrade(scene, "4.0.0")
    flows = flows_of(scene)
    for verb in ("reload", "restart"):
        scene.sh(f"systemctl {verb} openvswitch-switch")
        require_sound(scene, "4.0.0")
        if verb == "reload" and flows_of(scene) != flows:
            raise Broken("reload did not keep the flows")
    for unit in ("ovs-vswitchd", "ovsdb-server"):
        scene.sh(f"systemctl restart {unit}")
        require_sound(scene, "4.0.0")
    scene.sh("systemctl stop openvswitch-switch")
    left = scene.sh("pgrep -x 'ovs-vswitchd|ovsdb-server' || true").split()
    if left:
        raise Broken(f"processes {left} are there after systemctl stop")
    scene.sh("systemctl start openvswitch-switch")
    require_sound(scene, "4.0.0")
    # The restart policy is at work again. (A process that crashes leaves its control socket behind.)
    scene.sh(
        "old=$(cat /run/openvswitch/ovs-vswitchd.pid); kill -SEGV $old\n"
        + restarted("ovs-vswitchd")
        + "ovs-vsctl --timeout=20 show; rm /run/openvswitch/ovs-vswitchd.$old.ctl"
    )
    require_sound(scene, "4.0.0")
    scene.reboot()
    scene.sh("ovs-vsctl --timeout=20 show")
    require_sound(scene, "4.0.0")
    failed = scene.sh("systemctl list-units --failed --no-legend --plain 'ov*'")
    if failed:
        raise Broken(f"units have failed after the reboot: {failed}")
    return f"{losses}; reload, restart, stop, start, a crash and a reboot after it"


def monitor(scene: Scene) -> str:
    """Daemons that a ``--monitor`` parent restarts when they crash: the new one has such a parent, too."""
    scene.populate()
    look = "tr '\\0' ' ' < /proc/$(cat /run/openvswitch/ovs-vswitchd.pid)/cmdline"
    if "--monitor" not in scene.sh(look):
        raise Broken("ovs-vswitchd of this lab host has no monitor")
    result, losses = upgrade(scene, "4.0.0", no_loss=False, but=RENUMBERED)
    for daemon in ("ovs-vswitchd", "ovsdb-server"):
        pid = f"/run/openvswitch/{daemon}.pid"
        old = scene.sh(f"cat {pid}")
        # A process that crashes leaves its control socket behind.
        new = scene.sh(
            f"old={old.strip()}; kill -SEGV $old\n{restarted(daemon)}ovs-vsctl --timeout=20 show >&2; "
            f"rm /run/openvswitch/{daemon}.$old.ctl; cat {pid}"
        )
        if old == new:
            raise Broken(f"{daemon} did not get a new process from its monitor")
    require_sound(scene, "4.0.0")
    for verb in ("restart", "stop", "start"):
        scene.sh(f"service openvswitch-switch {verb}")
    require_sound(scene, "4.0.0")
    losses.shorter_than(5)
    return f"{result['plan']['strategy']}, {losses}"


# What starts the daemons where no unit of theirs does: a login that has ended since, a wrapper, units of other names.
CTL = "/usr/share/openvswitch/scripts/ovs-ctl --system-id=random --no-record-hostname"


def custom_unit(name: str, kind: str, options: str) -> str:
    """A script that starts ovs-ctl by a unit of this name."""
    return f"""cat > /etc/systemd/system/{name}.service <<'END'
[Service]
{kind}
ExecStart={CTL} {options} start
ExecStop={CTL} {options} stop
END
systemctl daemon-reload
systemctl start {name}
"""


MONITORS = "by units with monitors"
FORKING = "Type=forking\nRestart=on-failure"
UNITLESS = {
    "by hand": f"systemd-run --quiet --scope --unit=login {CTL} start",
    "by a wrapper unit": custom_unit("switch", "Type=oneshot\nRemainAfterExit=yes", ""),
    "by a forking unit": custom_unit("switch", FORKING, "--no-monitor"),
    MONITORS: custom_unit("my-ovsdb-server", "Type=forking", "--no-ovs-vswitchd")
    + custom_unit("my-ovs-vswitchd", "Type=forking", "--no-ovsdb-server"),
}
# A process that crashes leaves its control socket behind.
CRASH = """
main=$(systemctl show --property=MainPID --value my-{0})
test -n "$(pgrep -P $main)"
old=$(cat /run/openvswitch/{0}.pid)
kill -SEGV $old
{1}[ $main = $(systemctl show --property=MainPID --value my-{0}) ]
rm -f /run/openvswitch/{0}.$old.ctl
ovs-vsctl --timeout=20 show
"""


# What a process that is not filled beforehand may take on a host under load, in seconds.
BOUND = 60.0


def unitless(how: str, strategy: str, way_back: bool, scene: Scene) -> str:
    """Daemons that no unit owns: the new ones outlive the engine's unit and are where the old ones were."""
    units = "openvswitch-switch ovs-vswitchd ovsdb-server ovsdb-server.socket ovs-record-hostname"
    scene.sh(f"systemctl mask --now {units} 2>&1 || true\n{UNITLESS[how]}")
    filled = strategy == "make_before_break"
    scene.populate()
    group = "cat /proc/$(cat /run/openvswitch/{}.pid)/cgroup"
    daemons = ("ovs-vswitchd", "ovsdb-server")
    before = {daemon: scene.sh(group.format(daemon)) for daemon in daemons}
    if way_back:
        scene.install("4.0.0")
        state = scene.look()
        with scene.traffic() as traffic:
            scene.hand_over(expect="applied", strategy=strategy, confirm="manual", confirm_timeout=1)
            scene.sh(GONE)
        losses = measured(traffic)
        require_same(state, scene.look())
        require_sound(scene, "3.5.0", server=False)
    else:
        __, losses = upgrade(scene, "4.0.0", no_loss=filled, strategy=strategy)
        scene.sh(GONE)
        require_sound(scene, "4.0.0")
    losses.shorter_than(BOUND)
    after = {daemon: scene.sh(group.format(daemon)) for daemon in daemons}
    if after != before:
        raise Broken(f"the control groups were {before} and are {after}")
    if how == MONITORS:
        for daemon in daemons:
            scene.sh(CRASH.format(daemon, restarted(daemon)))
    scene.sh("ovs-vsctl --timeout=10 add-br br9 -- del-br br9")
    return f"{losses}; {after['ovs-vswitchd'].strip()}"


# As Ubuntu up to 21.04 has it: systemd has its own hierarchy, and the unified one beside it tells who belongs where.
HYBRID = ("systemd.unified_cgroup_hierarchy=0", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1")


def hybrid(by_hand: bool, scene: Scene) -> str:
    """Control groups of both kinds: nothing of the new daemons is left in those of the engine, in any hierarchy."""
    scene.reboot(1, *HYBRID)
    groups = scene.sh("cat /proc/1/cgroup; findmnt -t cgroup,cgroup2 -n -o TARGET")
    if "name=systemd" not in groups or "/sys/fs/cgroup/unified" not in groups:
        raise Broken(f"this systemd has no hybrid control groups: {groups}")
    if by_hand:
        return unitless("by hand", "make_before_break", False, scene)
    scene.populate()
    look = "for pid in /run/openvswitch/*.pid; do cat /proc/$(cat $pid)/cgroup; done"
    before = scene.sh(look)
    __, losses = upgrade(scene, "4.0.0")
    scene.sh(GONE)
    require_sound(scene, "4.0.0")
    after = scene.sh(look)
    if after != before:
        raise Broken(f"the control groups were {before} and are {after}")
    return f"{losses}; {len(after.splitlines())} groups as before"


OTHER_USER = """
useradd --system --no-create-home --shell /usr/sbin/nologin ovs
echo 'OVS_CTL_OPTS="--ovs-user=ovs:ovs"' > /etc/default/openvswitch-switch
mkdir -p /run/openvswitch
chown -R ovs:ovs /etc/openvswitch /var/lib/openvswitch /var/log/openvswitch /run/openvswitch
systemctl restart openvswitch-switch
test $(stat -c %U /proc/$(cat /run/openvswitch/ovs-vswitchd.pid)) = ovs
"""


# As the plan asks for: the socket unit of 4.0 makes the database's socket for root alone.
LET_IN = """
mkdir -p /etc/systemd/system/ovsdb-server.socket.d
printf '[Socket]\nSocketUser=ovs\nSocketGroup=ovs\n' > /etc/systemd/system/ovsdb-server.socket.d/user.conf
systemctl daemon-reload
"""


def other_user(scene: Scene) -> str:
    """Open vSwitch that does not run as root: refused as long as the new package would lock it out, then as good as any."""
    scene.sh(OTHER_USER)
    scene.populate()
    scene.install("4.0.0")
    refused = scene.module("ovs_handover", {})
    if not refused["failed"] or "SocketUser=ovs" not in refused["msg"]:
        raise Broken(f"it is not refused as long as ovs-vswitchd is locked out: {refused}")
    scene.sh(LET_IN)
    result, losses = upgrade(scene, "4.0.0")
    owner = scene.sh("stat -c %U /proc/$(cat /run/openvswitch/ovs-vswitchd.pid)").strip()
    if owner != "ovs":
        raise Broken(f"ovs-vswitchd runs as {owner}")
    for strategy in ("prefilled", "standby", "restart"):
        again = scene.module("ovs_handover", {"force": True, "strategy": strategy})
        if again.get("state") != "confirmed":
            raise Broken(f"it cannot be handed over again by {strategy}: {again}")
    require_sound(scene, "4.0.0")
    return f"{result['plan']['strategy']}, {losses}"


def other_user_back(scene: Scene) -> str:
    """The same, and back under traffic."""
    scene.sh(OTHER_USER + LET_IN)
    return back("make_before_break", (), scene)


def rpm(scene: Scene) -> str:
    """Open vSwitch from an RPM, with its units and its user, upgraded by the playbook and dnf, and taken back."""
    rpms.install(scene.lab, "3.5.0")
    scene.populate()
    said = []
    ways: tuple[tuple[str, str, dict[str, t.Any]], ...] = (
        ("4.0.0", "hot_upgrade", {"version": "4.0.0*", "rollout": "rpm"}),
        ("3.5.0", "rollback", {"rollout": "rpm"}),
    )
    for version, name, variables in ways:
        before = scene.look()
        with scene.traffic() as traffic:
            argv = runs.playbook_argv(
                [scene.lab.inventory], runs.prefixed(None, variables), playbook=f"ovsops.hot_upgrade.{name}"
            )
            done = runs.play(argv)
        if done.returncode:
            raise Broken(f"{name} failed: {done.stdout[-2000:]}")
        require_sound(scene, version)
        require_same(before, scene.look())
        measured(traffic).none()
        said.append(f"{name}: {measured(traffic)}")
        for daemon in ("ovs-vswitchd", "ovsdb-server"):
            pid = scene.sh(f"systemctl show --property=MainPID --value {daemon}").strip()
            if scene.sh(f"cat /run/openvswitch/{daemon}.pid; stat -c %U /proc/{pid}").split() != [
                pid,
                "openvswitch",
            ]:
                raise Broken(f"{daemon} is not that of its unit, or not of its user")
    return "; ".join(said)


def dpdk(scene: Scene) -> str:
    """A host that is set up for DPDK: the plan says what is possible and why not more."""
    scene.populate()
    scene.sh("ovs-vsctl --no-wait set open_vswitch . other_config:dpdk-init=true")
    scene.install("4.0.0")
    plan = scene.module("ovs_handover", {}, check=True)["plan"]
    if plan["strategy"] != "restart" or not all(
        any("dpdk-init" in reason for reason in plan["reasons"][name])
        for name in ("make_before_break", "standby")
    ):
        raise Broken(f"the plan is {plan}")
    return f"{plan['strategy']}: {plan['reasons']['standby'][0]}"


def two_engines(scene: Scene) -> str:
    """Two hand-overs that begin at the same moment: one does it, the other is told which one."""
    scene.populate()
    scene.install("4.0.0")
    before = scene.look()
    with scene.traffic() as traffic, concurrent.futures.ThreadPoolExecutor() as pool:
        both = [pool.submit(scene.module, "ovs_handover", {}) for __ in range(2)]
        results = sorted((each.result() for each in both), key=lambda result: bool(result["failed"]))
    require_sound(scene, "4.0.0")
    require_same(before, scene.look())
    done, refused = results
    if done.get("state") != "confirmed" or done["transaction"] not in refused.get("msg", ""):
        raise Broken(
            f"one is {done.get('state')}, the other says {refused.get('msg') or refused.get('state')}"
        )
    measured(traffic).none()
    return f"{measured(traffic)}; the other: {refused['msg']}"


SCENARIOS = [
    ("units and reboot afterwards", "3.5.0", units),
    ("two engines at once", "3.5.0", two_engines),
    ("daemons with a monitor", "3.5.0", monitor, "native"),
    ("Open vSwitch as another user", "3.5.0", other_user),
    ("Open vSwitch as another user: hot rollback", "3.5.0", other_user_back),
    ("hybrid control groups", "3.5.0", functools.partial(hybrid, False)),
    ("hybrid control groups, daemons by hand", "3.5.0", functools.partial(hybrid, True)),
    *(
        (
            f"daemons started {how}, {strategy}{', taken back' if way_back else ''}",
            "3.5.0",
            functools.partial(unitless, how, strategy, way_back),
        )
        for how, strategy, way_back in (
            ("by hand", "make_before_break", False),
            ("by hand", "standby", True),
            ("by a wrapper unit", "restart", False),
            ("by a forking unit", "make_before_break", True),
            (MONITORS, "make_before_break", False),
            (MONITORS, "restart", True),
        )
    ),
    ("Open vSwitch from an RPM, upgraded by dnf", "3.5.0", rpm),
    ("DPDK", "3.5.0", dpdk),
]
