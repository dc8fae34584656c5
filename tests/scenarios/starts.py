# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts whose files have the start of a service do more than start it, or keep it from starting."""

from __future__ import annotations

import functools

from tests.harness import runs
from tests.lab import images
from tests.scenarios import versions
from tests.scenarios.scene import SPANNING_TREE, Broken, Scene, measured, require_same, require_sound, upgrade

OPTIONS = "/etc/default/openvswitch-switch"
DELETING = f"""
echo 'OVS_CTL_OPTS="--delete-bridges --delete-transient-ports --external-id=hostname=elsewhere"' >> {OPTIONS}
echo another-name > /etc/openvswitch/system-id.conf
ovs-vsctl set port p2 other_config:transient=true
mkdir -p /etc/systemd/system/ovsdb-server.service.d
printf '[Service]\\nExecStartPost=/usr/bin/ovs-vsctl --no-wait --if-exists del-br br1\\n' \\
    > /etc/systemd/system/ovsdb-server.service.d/tidy.conf
systemctl daemon-reload
"""


def deleting(options: tuple[str, ...], scene: Scene) -> str:
    """A start of ovsdb-server deletes bridges and ports and changes the host's name: the hand-over's does not."""
    scene.populate(*options)
    scene.sh(DELETING)
    result, losses = upgrade(scene, "4.0.0", no_loss=not options)
    losses.shorter_than(10)
    for what in ("all bridges", "the ports with", "external_ids:hostname", "another-name", "del-br br1"):
        if not any(what in warning for warning in result["plan"]["warnings"]):
            raise Broken(f"the plan does not warn of {what}: {result['plan']['warnings']}")
    return f"{result['plan']['strategy']}, {losses}; {'; '.join(result['plan']['warnings'])}"


def unusable(options: str, words: str, scene: Scene) -> str:
    """ovs-ctl cannot take the options: the service would never start again, so nothing is begun."""
    scene.populate()
    scene.sh(f"cat >> {OPTIONS} <<'END'\n{options}\nEND")
    scene.install("4.0.0")
    before = scene.look()
    with scene.traffic() as traffic:
        result = scene.module("ovs_handover", {})
    require_sound(scene, "3.5.0")
    require_same(before, scene.look())
    measured(traffic).none()
    if not result["failed"] or words not in result["msg"] or OPTIONS not in result["msg"]:
        raise Broken(f"it does not say {words!r}: {result.get('msg')}")
    return str(result["msg"])


BROKEN = """
mkdir -p /etc/systemd/system/ovsdb-server.service.d
printf '[Service]\\nEnvironment="OVS_CTL_OPTS=%s"\\n' '--ovsdb-server-options=--nonsense' \\
    > /etc/systemd/system/ovsdb-server.service.d/options.conf
systemctl daemon-reload
"""


def fails(scene: Scene) -> str:
    """ovsdb-server itself does not take an option: the dry start says so in its words, and nothing is stopped."""
    scene.populate()
    scene.sh(BROKEN)
    scene.install("4.0.0")
    before = scene.look()
    with scene.traffic() as traffic:
        reason = str(scene.hand_over(expect="rolled_back")["reason"])
    require_sound(scene, "3.5.0")
    require_same(before, scene.look())
    measured(traffic).none()
    if "nonsense" not in reason or "would not start again" not in reason:
        raise Broken(f"it does not say why: {reason}")
    return reason


# One zone with a limit, which the schema of 3.1 has no column for.
ZONE = """
ovs-vsctl --no-wait -- --id=@z create ct_zone limit=100 external_ids:a=b \\
    -- --id=@d create datapath datapath_version=0 ct_zones:5=@z -- set open_vswitch . datapaths:system=@d
"""
# Not by the ovs-vsctl of 3.1, which knows no limits.
LIMIT = (
    "ovsdb-client --format=csv --no-headings dump unix:/run/openvswitch/db.sock Open_vSwitch CT_Zone limit"
)


# Before 3.5 a table may have three, and ovn-controller 25.03 sets four.
WIDE = """ovs-vsctl --timeout=10 -- --id=@t create Flow_Table name=wide prefixes=ip_dst,ip_src,ipv6_dst,tun_id \\
    -- set bridge br0 flow_tables:200=@t"""
PREFIXES = "ovsdb-client dump unix:/run/openvswitch/db.sock Open_vSwitch Flow_Table prefixes"  # ovs-vsctl of 3.1 shows none
FOUR = "Flow_Table.prefixes of wide = [ip_dst, ip_src, ipv6_dst, tun_id]"


def dropped(scene: Scene) -> str:
    """A downgrade loses the limit of a zone, and prefixes of a table: plan and result say so, the rollback brings them."""
    scene.sh(versions.SECOND_START)
    scene.populate()
    scene.sh(ZONE)
    scene.sh(WIDE)
    scene.install("3.1.0")
    with scene.traffic() as traffic:
        result = scene.hand_over(expect="applied", confirm="manual", confirm_timeout=300)
        scene.hand_over(expect="rolled_back", state="rolled_back")
    for said in (result["plan"]["warnings"], result["not_carried"]):
        for lost in ("CT_Zone.limit of ct_zones 5 of datapaths system = 100", FOUR):
            if not any(lost in text for text in said):
                raise Broken(f"{lost!r} is not in {said}")
    limit = scene.sh(LIMIT).split()[-1]  # ovsdb-client prints a heading
    if limit != "100":
        raise Broken(f"the limit is {limit!r} after the rollback, not 100")
    prefixes = scene.sh(PREFIXES)
    if any(each not in prefixes for each in ("ip_dst", "ip_src", "ipv6_dst", "tun_id")):
        raise Broken(f"the prefixes are {prefixes} after the rollback")
    return f"{measured(traffic)}; {result['not_carried']}"


def set_meanwhile(scene: Scene) -> str:
    """What a controller sets before the confirmation, and the old version does not allow, does not keep that from coming back."""
    scene.populate()
    scene.install("3.5.0")
    with scene.traffic() as traffic:
        scene.hand_over(expect="applied", confirm="manual", confirm_timeout=300)
        scene.sh(WIDE)
        back = scene.hand_over(expect="rolled_back", state="rolled_back")
    require_sound(scene, "3.1.0", server=False)
    if not any(FOUR in text for text in back["not_carried"]):
        raise Broken(f"{FOUR!r} is not in {back['not_carried']}")
    return f"{measured(traffic)}; {back['not_carried']}"


SHAPED = """
tc qdisc add dev p1 root handle 1: htb default 10
tc class add dev p1 parent 1: classid 1:10 htb rate 900mbit quantum 60000
tc qdisc add dev p2 root tbf rate 900mbit burst 100kb latency 50ms
tc qdisc add dev p2 clsact
tc filter add dev p2 ingress protocol ip prio 7 matchall action pass
tc filter add dev p2 egress protocol ip prio 7 matchall action pass
"""
FILTERS = """
tc filter show dev p2 ingress
tc filter show dev p2 egress
ovs-vsctl --columns=type,external_ids list qos
"""


def shaped(strategy: str, options: tuple[str, ...], scene: Scene) -> str:
    """Somebody else shapes traffic on the ports: nothing of that vanishes, there and back again."""
    scene.populate(*options)
    scene.sh(SHAPED)
    scene.install("4.0.0")
    before, filters = scene.look(), scene.sh(FILTERS)
    with scene.traffic() as traffic:
        result = scene.hand_over(expect="applied", confirm="manual", confirm_timeout=300, strategy=strategy)
        there, filters_there = scene.look(), scene.sh(FILTERS)
        scene.hand_over(expect="rolled_back", state="rolled_back")
    for seen in (there, scene.look()):
        require_same(before, seen)
    if not filters == filters_there == scene.sh(FILTERS):
        raise Broken(f"filters were {filters}, then {filters_there}, then {scene.sh(FILTERS)}")
    if any("qdisc" in text for text in result["not_carried"]):
        raise Broken(f"it says {result['not_carried']}")
    return str(measured(traffic))


def policed(scene: Scene) -> str:
    """An ingress qdisc of somebody else would vanish: it is refused with its port, and nothing is touched."""
    scene.populate()
    scene.sh(
        "tc qdisc add dev p1 ingress; tc filter add dev p1 parent ffff: protocol all prio 5 matchall action pass"
    )
    scene.install("4.0.0")
    before = scene.look()
    result = scene.module("ovs_handover", {})
    require_same(before, scene.look())
    if not result["failed"] or "p1 have an ingress qdisc" not in result["msg"]:
        raise Broken(f"it does not say so: {result.get('msg')}")
    scene.sh("tc qdisc del dev p1 ingress; ovs-vsctl set interface p1 ingress_policing_rate=900000")
    return str(scene.hand_over()["plan"]["strategy"])


def lost(scene: Scene) -> str:
    """A downgrade across 2.17 deletes ovs-ctl: refused while the old version still runs; put back, it goes on."""
    scene.populate()
    before = scene.look()
    scene.sh(f"{runs.NO_RESTART}\n{' '.join(runs.install('2.15.0'))}\nrm /usr/sbin/policy-rc.d")
    result = scene.module("ovs_handover", {})
    if not result["failed"] or "scripts/ovs-ctl (" not in result["msg"] or "--reinstall" not in result["msg"]:
        raise Broken(f"it does not say what is lost: {result.get('msg')}")
    scene.sh(f"apt-get -qq -y install --reinstall openvswitch-common={images.package_version('2.15.0')}")
    require_same(before, scene.look())
    with scene.traffic() as traffic:
        scene.hand_over()
    require_sound(scene, "2.15.0")
    return f"{measured(traffic)}; {result['msg']}"


WRAPPED = """
cat > /usr/local/sbin/start-database <<'END'
#!/bin/sh
/usr/share/openvswitch/scripts/ovs-ctl --no-ovs-vswitchd --no-monitor --system-id=random --no-record-hostname start || exit 1
ovs-vsctl --no-wait --if-exists del-br br1
END
chmod 755 /usr/local/sbin/start-database
mkdir -p /etc/systemd/system/ovsdb-server.service.d
printf '[Service]\\nExecStart=\\nExecStart=/usr/local/sbin/start-database\\n' \\
    > /etc/systemd/system/ovsdb-server.service.d/own.conf
systemctl daemon-reload
"""


def wrapped(scene: Scene) -> str:
    """A script of the host's own starts the database and deletes a bridge: that comes back with its flows, and is said."""
    scene.populate()
    scene.sh(WRAPPED)
    scene.install("4.0.0")
    before = scene.look()
    reason = str(scene.hand_over(expect="rolled_back")["reason"])
    require_sound(scene, "3.5.0", server=False)
    require_same(before, scene.look(), ("links", "datapath ports"))
    if "Bridge of br1 is gone" not in reason:
        raise Broken(f"it does not say what was changed: {reason}")
    return reason


def put_back(scene: Scene) -> str:
    """The playbook puts back what the same downgrade deletes, before it hands over."""
    scene.populate()
    done = runs.playbook(scene.lab, "2.15.0")
    if done.returncode:
        raise Broken(f"the playbook failed: {done.stdout[-1500:]}")
    require_sound(scene, "2.15.0")
    scene.sh("/usr/share/openvswitch/scripts/ovs-ctl version")
    return done.stdout.strip().splitlines()[-1]


SCENARIOS = [
    ("a start deletes bridges and ports", "3.5.0", functools.partial(deleting, ())),
    ("a start deletes bridges, spanning tree", "3.5.0", functools.partial(deleting, (SPANNING_TREE,))),
    (
        "a start with a variable that is not expanded",
        "3.5.0",
        functools.partial(
            unusable, 'OVS_CTL_OPTS="$OVS_CTL_OPTS --no-mlockall"', "nothing in it is expanded"
        ),
    ),
    ("a start with an option that ovsdb-server does not know", "3.5.0", fails),
    ("a downgrade drops a limit of a conntrack zone", "3.5.0", dropped),
    ("a rollback drops what was set meanwhile", "3.1.0", set_meanwhile),
    ("qdiscs of others, make_before_break", "3.5.0", functools.partial(shaped, "make_before_break", ())),
    (
        "qdiscs of others, restart",
        "3.5.0",
        functools.partial(shaped, "restart", ()),
    ),
    ("a change of packages deletes ovs-ctl", "3.5.0", lost),
    ("the playbook puts back what a change of packages deletes", "3.5.0", put_back),
    ("a script of the host's own deletes a bridge", "3.5.0", wrapped),
    ("an ingress qdisc of somebody else", "3.5.0", policed),
]
