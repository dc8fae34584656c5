# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A version tried beside the running one, with real daemons: what it finds, and that nothing is touched."""

from __future__ import annotations

import contextlib
import fcntl
import typing as t
from pathlib import Path

import pytest

from tests.harness import runs
from tests.integration.pipeline import pipeline, talk
from tests.lab import hosts
from tests.lab import lab as laboratory

if t.TYPE_CHECKING:
    from tests.integration.conftest import Ovs

Json = dict[str, t.Any]
PLACE = "/var/lib/ovsops/packages"
NAMES = ("openvswitch-common", "openvswitch-switch")
# An action that 3.1 does not know (3.4).
UNKNOWN = (
    "tcp,tp_dst=7,actions=sample(probability=1,collector_set_id=1,obs_domain_id=NXM_NX_REG0[],obs_point_id=1)"
)


def downloaded(ovs: Ovs, version: str) -> list[str]:
    """The package files of a version, in a folder that is root's."""
    ovs.run("mkdir", "-p", PLACE)
    ovs.run("chmod", "0700", PLACE)
    shown = ovs.run("apt-cache", "madison", *NAMES)
    wanted = [
        f"{fields[0]}={fields[1]}"
        for fields in ([word.strip() for word in line.split("|")] for line in shown.splitlines())
        if fields[1].startswith(version)
    ]
    ovs.run("sh", "-c", f'cd {PLACE} && apt-get download "$@"', "sh", *wanted)
    return ovs.run("find", PLACE, "-name", "*.deb").split()


def filled(ovs: Ovs) -> None:
    ovs.bridge("br0", "fail_mode=secure", "other_config:mac-table-size=99")
    for number in (1, 2, 30):
        ovs.vsctl(
            "add-port",
            "br0",
            f"p{number}",
            "--",
            "set",
            "interface",
            f"p{number}",
            "type=internal",
            f"ofport_request={number}",
        )
    ovs.vsctl(
        "add-port",
        "br0",
        "vx0",
        "--",
        "set",
        "interface",
        "vx0",
        "type=vxlan",
        "options:remote_ip=192.0.2.1",
        "ofport_request=40",
    )
    ovs.ofctl("add-meter", "br0", "meter=5,kbps,bands=type=drop,rate=1000")
    ovs.ofctl("add-group", "br0", "group_id=7,type=select,bucket=output:1,bucket=output:2")
    flows = "".join(f"table=1,udp,tp_dst={port},actions=meter:5,group:7\n" for port in range(1, 2001))
    ovs.ofctl("add-flows", "br0", "-", feed=f"in_port=30,udp,actions=ct(table=1,zone=5)\n{flows}")


def rehearse(ovs: Ovs, packages: list[str]) -> Json:
    return ovs.module("ovs_rehearsal", packages=packages)


def portrait(ovs: Ovs) -> Json:
    """What a hand-over keeps, what runs, and what lies about."""
    return {
        "pids": [ovs.pid("ovs-vswitchd"), ovs.pid("ovsdb-server")],
        "shown": ovs.vsctl("show"),
        "flows": ovs.ofctl("--no-stats", "dump-flows", "br0"),
        "links": ovs.run("ip", "-brief", "link"),
        "places": ovs.run(
            "find",
            "/run",
            "/var/lib/ovsops",
            "/etc/openvswitch",
            "-not",
            "-name",
            "last.json",
            "-not",
            "-name",
            "lock",
        ),
    }


@pytest.mark.parametrize(("old", "new"), [("3.5.0", "4.0.0"), ("3.1.0", "3.5.0"), ("4.0.0", "3.5.0")])
def test_a_version_that_takes_everything(start_ovs: t.Callable[..., Ovs], old: str, new: str) -> None:
    ovs = start_ovs(old)
    filled(ovs)
    packages = downloaded(ovs, new)
    ovs.run("mkdir", "-p", "/var/lib/ovsops/rehearsals", "/run/ovsops")
    before = portrait(ovs)
    result = rehearse(ovs, packages)
    assert not result.get("failed"), result
    found = result["rehearsal"]
    assert (found["from"], found["to"], found["changed_meanwhile"]) == (old, new, [])
    for side in ("forward", "backward"):
        assert {name: found[side][name] for name in ("failure", "refused", "changed", "ports")} == {
            "failure": "", "refused": [], "changed": [], "ports": [],
        }  # fmt: skip
        assert found[side]["flows"] == 2001
    assert (found["passed"], found["passed_back"], result["changed"]) == (True, True, False)
    assert portrait(ovs) == before
    assert not [pid for pid in processes() if "/under-way" in pid]


def processes() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_text(errors="replace"))
    return found


def test_live_packets_are_traced_through_both_versions(start_ovs: t.Callable[..., Ovs]) -> None:
    ovs = start_ovs("3.1.0")
    ends = pipeline(ovs)
    packages = downloaded(ovs, "4.0.0")
    talk(ovs, ends)
    proof = rehearse(ovs, packages)["rehearsal"]["forward"]["proof"]
    assert (proof["different"], proof["differences"]) == (0, []), proof
    assert proof["covered"] >= 95, proof
    assert [moved["group"] for moved in proof["moved"]] == ["group 5 of bridge br0"]
    nothing = ovs.module("ovs_rehearsal", packages=packages, prove=0)["rehearsal"]
    assert nothing["forward"]["proof"] is None


def test_what_an_older_version_does_not_take_is_named(ovs: Ovs) -> None:
    filled(ovs)
    ovs.ofctl("add-flow", "br0", UNKNOWN)
    found = rehearse(ovs, downloaded(ovs, "3.1.0"))["rehearsal"]
    assert (found["passed"], found["passed_back"]) == (False, True)
    [refused] = found["forward"]["refused"]
    assert refused.startswith("bridge br0: flow")
    assert "tp_dst=7" in refused
    assert "OFPB" in refused


def test_what_a_schema_has_no_place_for_is_named(ovs: Ovs) -> None:
    ovs.vsctl(
        "--",
        "--id=@z",
        "create",
        "CT_Zone",
        "limit=7",
        "--",
        "--id=@d",
        "create",
        "Datapath",
        "datapath_version=x",
        "ct_zones:3=@z",
        "--",
        "set",
        "open_vswitch",
        ".",
        "datapaths:netdev=@d",
    )
    # Three are allowed before 3.5: more would have the conversion refused.
    ovs.bridge("br0")
    ovs.vsctl(
        "--",
        "--id=@t",
        "create",
        "Flow_Table",
        "name=wide",
        "prefixes=ip_dst,ip_src,ipv6_dst,tun_id",
        "--",
        "set",
        "bridge",
        "br0",
        "flow_tables:200=@t",
    )
    found = rehearse(ovs, downloaded(ovs, "3.1.0"))["rehearsal"]
    assert found["forward"]["failure"] == ""
    assert any("CT_Zone" in text and "limit" in text for text in found["forward"]["dropped"])
    assert any("Flow_Table.prefixes of wide" in text for text in found["forward"]["dropped"])


def test_what_cannot_be_tried_is_refused_before_anything_is_started(ovs: Ovs) -> None:
    packages = downloaded(ovs, "4.0.0")
    common = [path for path in packages if "common" in path]
    assert "ovs-vswitchd" in rehearse(ovs, common)["msg"]
    assert "neither .deb nor .rpm" in rehearse(ovs, ["/etc/passwd"])["msg"]
    ovs.run("chmod", "0777", PLACE)
    assert "can be written by others" in rehearse(ovs, packages)["msg"]
    ovs.run("chmod", "0700", PLACE)
    ovs.service("stop")
    assert "does not run" in rehearse(ovs, packages)["msg"]


def test_one_at_a_time(ovs: Ovs) -> None:
    packages = downloaded(ovs, "4.0.0")
    place = Path(ovs.path("/var/lib/ovsops/rehearsals"))
    place.mkdir(parents=True)
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another rehearsal" in rehearse(ovs, packages)["msg"]
    assert rehearse(ovs, packages)["rehearsal"]["passed"]


LOOK = """
cat /run/openvswitch/*.pid
dpkg -l | md5sum
ovs-ofctl -O OpenFlow15 --no-stats dump-flows br0 | md5sum
mkdir -p /var/lib/ovsops/rehearsals
find /var/lib/ovsops -not -name last.json -not -name lock
"""


def test_the_playbook_changes_nothing_and_says_what_to_expect() -> None:
    name = "rehearsal"
    with hosts.exclusive(name):
        try:
            lab = laboratory.up(name, "native", 2, "3.5.0")
            laboratory.populate(lab, ["--flows", "300", "--datapath-type", "netdev"])
            hosts.script(lab, lab.hosts[1], f"ovs-ofctl -O OpenFlow15 add-flow br1 '{UNKNOWN}'")
            before = [hosts.ssh(lab, host, LOOK) for host in lab.hosts]
            newer = runs.playbook(lab, "4.0.0", check=True, name="rehearse")
            older = runs.playbook(lab, "3.1.0", name="rehearse")
            after = [hosts.ssh(lab, host, LOOK) for host in lab.hosts]
            unknown = runs.playbook(lab, "4.0.0", check=True, rehearsal_days=3, hosts="host1")
            runs.playbook(lab, "4.0.0", name="rehearse")
            known = runs.playbook(lab, "4.0.0", check=True, rehearsal_days=3, hosts="host1")
        finally:
            hosts.down(name)
    assert newer.returncode == 0, newer.stdout
    assert newer.stdout.count("changed=0") == 2
    assert "4.0.0 takes all 804 flows" in newer.stdout
    assert "back to 3.5.0: all of it" in newer.stdout
    assert "by make_before_break" in newer.stdout
    assert older.returncode != 0
    assert "host2 is not ready for the upgrade: 3.1.0 takes not all of the 805 flows" in older.stdout
    assert "tp_dst=7" in older.stdout
    assert "host1                      : ok=" in older.stdout
    assert after == before
    assert unknown.returncode != 0
    assert "host1: the last rehearsal was of 3.1.0, not of 4.0.0" in " ".join(unknown.stdout.split())
    assert known.returncode == 0, known.stdout
