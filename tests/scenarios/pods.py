# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Open vSwitch in containers on the kernel datapath: the daemons move from one to another, and back.

A container is what a runtime makes of a pod that has the host's network and processes: a file system of its own with some
directories of the host in it, and control groups with its name.
"""

from __future__ import annotations

import functools
import hashlib
import typing as t
from pathlib import Path

from tests.harness import runs
from tests.lab import hosts
from tests.lab import ovn as ovns
from tests.scenarios import ovn
from tests.scenarios.scene import Broken, Scene, Traffic, measured, require_same, require_sound

FROM, TO = "3.1.0", "3.5.0"
OVN_FROM, OVN_TO = "23.03.1", "25.03.0"
# More packages of the newer version, in its container.
MORE = "/var/tmp/more"

# CONTAINER ID: its files are those of the host now; what it writes is in memory.
MAKE = """
modprobe overlay
mkdir -p /run/pods; mountpoint -q /run/pods || mount -t tmpfs tmpfs /run/pods
own=/run/pods/$1
mkdir -p $own/upper $own/work $own/root
mount -t overlay overlay -o lowerdir=/,upperdir=$own/upper,workdir=$own/work $own/root
"""
START = """
own=/run/pods/$1
setsid -f unshare --mount --propagation private sh -c '
    cd "$0"/root
    for place in proc sys dev run etc/openvswitch var/lib/openvswitch var/log/openvswitch; do mount --rbind /$place $place; done
    mkdir -p old
    pivot_root . old
    umount -l /old
    echo $$ >/run/pod.pid
    exec sleep infinity' $own </dev/null >/dev/null 2>&1
until [ -s /run/pod.pid ]; do sleep 0.1; done
pid=$(cat /run/pod.pid); rm /run/pod.pid
for hierarchy in $(findmnt --noheadings --raw --output TARGET --types cgroup,cgroup2); do
    mkdir -p $hierarchy/kubepods/pod$1/$2
    echo $pid >$hierarchy/kubepods/pod$1/$2/cgroup.procs
done
echo $pid >/run/pods/$1.pid
"""
# In the old container: whatever comes behind it.
IN_OLD = (
    "echo $$ | tee $(find /sys/fs/cgroup -path '*/podold/*/cgroup.procs') >/dev/null\n"
    "nsenter --mount=/proc/$(cat /run/pods/old.pid)/ns/mnt -- "
)
# A container ends, with all that is in it.
END = "kill -KILL $(cat $(find /sys/fs/cgroup -path '*/pod{}/*/cgroup.procs') | sort -u)"
END_OLD, END_NEW = END.format("old"), END.format("new")


def identifier(name: str) -> str:
    """What a runtime would call it."""
    return hashlib.sha256(name.encode()).hexdigest()


def prepare(scene: Scene, packages: t.Sequence[Path] = ()) -> dict[str, t.Any]:
    """Both containers, the older one with the daemons, the newer one with more packages; the options of a hand-over."""
    scene.sh(
        "systemctl stop openvswitch-switch; systemctl mask --runtime openvswitch-switch ovs-vswitchd ovsdb-server"
    )
    ids = {name: identifier(name) for name in ("old", "new")}
    for name in ids:
        scene.sh(f"set -- {name}\n{MAKE}")
    # With the packages of the newer version; nothing is started there.
    if packages:
        hosts.put(scene.lab, scene.lab.hosts[0], packages, f"/run/pods/new/root{MORE}")
    scene.sh(install_in("/run/pods/new/root"))
    for name, each in ids.items():
        scene.sh(f"set -- {name} {each}\n{START}")
    scene.sh(f"{IN_OLD} /usr/share/openvswitch/scripts/ovs-ctl start --system-id=random")
    return {"container": ids["new"], "container_before": ids["old"]}


def install_in(root: str) -> str:
    """Put the newer version into a root file system."""
    words = " ".join(runs.install(TO))
    return f"""
    # Slaves: what is unmounted here stays mounted on the host.
    for place in proc sys dev; do mount --rbind /$place {root}/$place; mount --make-rslave {root}/$place; done
    printf '#!/bin/sh\\nexit 101\\n' >{root}/usr/sbin/policy-rc.d; chmod 755 {root}/usr/sbin/policy-rc.d
    chroot {root} {words}
    if [ -e {root}{MORE} ]; then chroot {root} sh -c 'dpkg -i {MORE}/*.deb'; fi
    for place in proc sys dev; do umount -l {root}/$place; done
    """


def owners(scene: Scene, container: str) -> dict[str, bool]:
    """Of each daemon that runs whether it is in the container."""
    return t.cast("dict[str, bool]", scene.module("ovs_container", {"id": container})["daemons"])


def chassis(scene: Scene) -> dict[str, t.Any]:
    """The same as ``prepare``, with OVN: its databases are on the host, its ovn-controller in the old container."""
    ovn.chassis(scene, OVN_FROM, 500)
    scene.sh("systemctl stop ovn-host ovn-controller; systemctl mask --runtime ovn-host ovn-controller")
    options = prepare(scene, ovns.packages(OVN_TO))
    scene.sh(f"{IN_OLD} /usr/share/ovn/scripts/ovn-ctl start_controller\n{ovn.SYNCED}")
    return options


def moved(strategy: str, scene: Scene) -> str:
    """There under traffic, confirmed; and in another container from then on."""
    options = prepare(scene)
    scene.populate("--flows", "2000")
    before = scene.look()
    rehearsed = scene.module("ovs_rehearsal", dict(options))["rehearsal"]
    if (rehearsed["from"], rehearsed["to"], rehearsed["passed"], rehearsed["passed_back"]) != (
        FROM,
        TO,
        True,
        True,
    ):
        raise Broken(f"the rehearsal says {rehearsed}")
    with scene.traffic() as traffic:
        result = scene.hand_over(strategy=strategy, **options)
    require_sound(scene, TO)
    require_same(before, scene.look())
    if set(owners(scene, options["container"]).values()) != {True}:
        raise Broken("not both daemons are in the new container")
    return judged(strategy, result["plan"]["strategy"], traffic)


def judged(strategy: str, chosen: str, traffic: Traffic) -> str:
    if chosen != (strategy if strategy != "auto" else "make_before_break"):
        raise Broken(f"the plan chose {chosen}")
    losses = measured(traffic)
    if chosen == "make_before_break":
        losses.none()
    else:
        losses.shorter_than(10)
    return f"{chosen}, {losses}"


def taken_back(scene: Scene) -> str:
    """There, and back into the container of before; then the new one ends, and nothing with it."""
    options = prepare(scene)
    scene.populate("--flows", "2000")
    before = scene.look()
    with scene.traffic() as traffic:
        scene.hand_over(expect="applied", confirm="manual", **options)
        scene.hand_over(expect="rolled_back", state="rolled_back")
        scene.sh(END_NEW)
    require_sound(scene, FROM)
    require_same(before, scene.look())
    if set(owners(scene, options["container_before"]).values()) != {True}:
        raise Broken("not both daemons are in the old container")
    measured(traffic).none()
    return str(measured(traffic))


def ended(scene: Scene) -> str:
    """The new container ends before the confirmation, with all that is in it: the one of before forwards again by itself."""
    options = prepare(scene)
    scene.populate("--flows", "2000")
    before = scene.look()
    with scene.traffic() as traffic:
        applied = scene.hand_over(expect="applied", confirm="manual", **options)
        scene.sh(END_NEW)
        result = scene.module("ovs_handover", {"state": "settled", "transaction": applied["transaction"]})
    if result["state"] != "rolled_back":
        raise Broken(f"it is {result['state']}: {result.get('msg')}")
    require_sound(scene, FROM)
    require_same(before, scene.look())
    measured(traffic).shorter_than(10)
    return str(measured(traffic))


def chassis_moved(scene: Scene) -> str:
    """A chassis of OVN: Open vSwitch moves, ovn-controller behind it, the old container ends; connections are tracked."""
    options = chassis(scene)
    with ovn.changing(scene), scene.traffic(rate=200) as traffic:
        scene.hand_over(strategy="make_before_break", **options)
        moved_on = scene.module("ovn_controller", dict(options))
        again = scene.module("ovn_controller", dict(options))
        scene.sh(END_OLD)
    if (moved_on["after"], again["changed"]) != (OVN_TO, False):
        raise Broken(f"ovn-controller: {moved_on}; again: {again}")
    require_sound(scene, TO)
    if set(owners(scene, options["container"]).values()) != {True}:
        raise Broken("not all daemons are in the new container")
    measured(traffic).none()
    return f"settled after {moved_on['settled_s']} s; {measured(traffic)}"


def chassis_stays(scene: Scene) -> str:
    """The new pod's ovn-controller does not start: the one before has its flows again, and all goes back."""
    options = chassis(scene)
    scene.sh(
        "printf '#!/bin/sh\\necho it is broken >&2; exit 1\\n' >/run/pods/new/root/usr/bin/ovn-controller"
    )
    with ovn.changing(scene), scene.traffic(rate=200) as traffic:
        scene.hand_over(strategy="make_before_break", **options)
        refused = scene.module("ovn_controller", dict(options))
        back = {"container": options["container_before"], "container_before": options["container"]}
        scene.hand_over(strategy="make_before_break", **back)
        scene.sh(END_NEW)
    wanted = ("it is broken", f"ovn-controller {OVN_FROM} runs in the old pod again")
    if not all(each in refused["msg"] for each in wanted):
        raise Broken(f"it says: {refused['msg']}")
    require_sound(scene, FROM)
    if set(owners(scene, options["container_before"]).values()) != {True}:
        raise Broken("not all daemons are in the old container")
    measured(traffic).none()
    return str(measured(traffic))


SCENARIOS = [
    ("pods: moved to another container", FROM, functools.partial(moved, "auto")),
    ("pods: moved by standby", FROM, functools.partial(moved, "standby")),
    ("pods: taken back", FROM, taken_back),
    ("pods: the new container ends", FROM, ended),
    ("pods: a chassis of OVN", FROM, chassis_moved),
    ("pods: a chassis whose new ovn-controller does not start", FROM, chassis_stays),
]
