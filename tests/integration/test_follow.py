# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Following what others change in a bridge, on every version and in every language that a bridge may allow."""

from __future__ import annotations

import collections
import os
import signal
import struct
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import follower, state, wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import OpenFlow
from tests.harness.waiting import wait_until

if t.TYPE_CHECKING:
    from tests.integration.conftest import Ovs

VERSIONS = ("2.15.0", "3.1.0", "3.5.0", "4.0.0")
NEWER = ("OpenFlow13", "OpenFlow14", "OpenFlow15")


def follow(ovs: Ovs, *bridges: str) -> follower.Followers:
    return follower.Followers({name: f"{ovs.rundir}/{name}.mgmt" for name in bridges})


def kinds(changes: follower.Changes) -> dict[int, str]:
    """Priority of each changed flow -> what became of it."""
    return {key[1]: event.kind for key, event in changes.flows.items()}


def dump(ovs: Ovs, bridge: str) -> list[str]:
    # What is added in OpenFlow 1.0 gets this flag, which 2.15 shows.
    lines = ovs.ofctl("--no-stats", "dump-flows", bridge).replace("reset_counts ", "").splitlines()
    return sorted(line for line in lines if "actions=" in line)


def groups(ovs: Ovs, bridge: str) -> list[str]:
    return sorted(ovs.ofctl("dump-groups", bridge).splitlines()[1:])


@pytest.mark.parametrize("version", VERSIONS)
def test_changes_of_flows_are_seen_and_can_be_made_elsewhere(
    start_ovs: t.Callable[..., Ovs], version: str
) -> None:
    ovs = start_ovs(version)
    for name in ("br0", "br1"):
        ovs.bridge(name)
        ovs.ofctl("add-flow", name, "priority=1,cookie=1,ip,nw_dst=10.0.0.1 actions=drop")
        ovs.ofctl("add-flow", name, "priority=2,ip,nw_dst=10.0.0.2 actions=drop")
        ovs.ofctl("add-flow", name, "priority=5,ip,send_flow_rem,cookie=0x77 actions=drop")
    followers = follow(ovs, "br0")
    ovs.ofctl("mod-flows", "br0", "cookie=1/-1,ip,nw_dst=10.0.0.1 actions=NORMAL")
    ovs.ofctl("--strict", "del-flows", "br0", "priority=2,ip,nw_dst=10.0.0.2")
    ovs.ofctl(
        "add-flow",
        "br0",
        "table=3,priority=3,tcp,tp_dst=80,cookie=0xabc,idle_timeout=60 actions=resubmit(,4)",
    )
    ovs.ofctl("add-flow", "br0", "priority=4,ip,nw_src=10.0.0.9 actions=drop")
    ovs.ofctl("del-flows", "br0", "ip,nw_src=10.0.0.9")
    ovs.ofctl("add-flow", "br0", "priority=6,arp,send_flow_rem,cookie=0x77 actions=drop")
    followers.quiet()
    seen = followers["br0"]
    assert kinds(seen) == {1: "modified", 2: "removed", 3: "added", 4: "removed", 6: "added"}
    with state.Switch(f"{ovs.rundir}/br1.mgmt") as switch:
        of = switch.other(followers.version("br0"))
        assert of is not None
        assert not of.send(seen.flow_messages(of.version, of.xid, {(0, 0x77): (1, 0)}))
    followers.close()
    assert dump(ovs, "br1") == dump(ovs, "br0")


@pytest.mark.parametrize("version", VERSIONS[1:])
@pytest.mark.parametrize("language", ["OpenFlow10", *NEWER])
def test_a_bridge_is_followed_in_any_language(
    start_ovs: t.Callable[..., Ovs], version: str, language: str
) -> None:
    ovs = start_ovs(version)
    ovs.bridge("br0", f"protocols={language}")
    followers = follow(ovs, "br0")
    ovs.ofctl(
        "add-flow", "br0", "priority=3,tcp,tp_dst=80,cookie=0xabc actions=resubmit(,4)", version=language
    )
    followers.quiet()
    assert kinds(followers["br0"]) == {3: "added"}
    assert wire.VERSION_NAMES[followers.version("br0")] == language
    followers.close()


def test_a_bridge_that_tells_nothing_is_named(start_ovs: t.Callable[..., Ovs]) -> None:
    ovs = start_ovs("2.15.0")
    ovs.bridge("br0", "protocols=OpenFlow13")
    followers = follow(ovs, "br0")
    assert "OpenFlow10" in followers.unfollowed["br0"]
    assert not followers["br0"]
    followers.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_switch_survives_that_flows_are_deleted_that_are_too_large_to_be_told(
    start_ovs: t.Callable[..., Ovs], version: str
) -> None:
    """With their instructions: an output has 8 bytes in OpenFlow 1.0, and 16 in 1.5; it is the other way round for set-field."""
    ovs = start_ovs(version)
    path, before = f"{ovs.rundir}/{ovs.bridge('br0')}.mgmt", ovs.pid()
    outputs = struct.pack("!HHHH", 0, 8, 1, 0) * 5000
    fields = struct.pack("!HHIIxxxx", 25, 16, 0x00010204, 1) * 3800
    apply = struct.pack("!HHxxxxHHxxxx", 1, 4, 4, 8 + len(fields)) + fields
    for spoken, flows in (
        (wire.OF10, [wire.nx_flow_mod(number, 0, number, 0, 0, 0, 0, outputs) for number in (1, 2)]),
        (wire.OF15, [wire.flow_mod(wire.OF15, number, 0, number, 0, 0, 0, 0, 0, apply) for number in (3, 4)]),
    ):
        with OpenFlow.connect(path, (spoken,)) as of:
            assert not of.send(flows)
    followers = follow(ovs, "br0")
    ovs.ofctl("del-flows", "br0")
    followers.quiet()
    assert {1, 2, 3, 4} <= kinds(followers["br0"]).keys()
    followers.close()
    assert ovs.pid() == before


@pytest.mark.parametrize("version", VERSIONS)
def test_groups_and_meters_of_others_are_seen(start_ovs: t.Callable[..., Ovs], version: str) -> None:
    ovs = start_ovs(version)
    for name in ("br0", "br1"):
        ovs.bridge(name)
        for group in (1, 2, 3):
            ovs.ofctl("add-group", name, f"group_id={group},type=all,bucket=actions=drop")
    followers = follow(ovs, "br0")
    ovs.ofctl("mod-group", "br0", "group_id=1,type=select,bucket=weight:5,actions=output:1")
    ovs.ofctl("del-groups", "br0", "group_id=2")
    ovs.ofctl("add-group", "br0", "group_id=9,type=all,bucket=bucket_id:1,actions=drop")
    ovs.ofctl(
        "insert-buckets", "br0", "group_id=9,command_bucket_id=last,bucket=bucket_id:2,actions=output:2"
    )
    ovs.ofctl("add-meter", "br0", "meter=7,kbps,band=type=drop,rate=100")
    followers.quiet()
    seen = followers["br0"]
    assert [seen.deleted_group(group) for group in (1, 2)] == [False, True]
    with state.Switch(f"{ovs.rundir}/br1.mgmt") as switch:
        before, after = seen.group_messages(switch.version, switch.main.xid, [1, 2, 3])
        assert not switch.main.send(before + after)
    assert groups(ovs, "br1") == groups(ovs, "br0")
    assert list(seen.meters) == [7]
    ovs.ofctl("del-groups", "br0")
    followers.quiet()
    assert followers["br0"].deleted_group(3)
    followers.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_expired_and_learned_flows_are_told_as_such(start_ovs: t.Callable[..., Ovs], version: str) -> None:
    ovs = start_ovs(version)
    ovs.bridge("br0")
    ovs.ofctl("add-flow", "br0", "priority=9,arp,hard_timeout=1 actions=drop")
    learn = "learn(table=1,priority=7,hard_timeout=300,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[])"
    ovs.ofctl("add-flow", "br0", f"priority=1,actions={learn}")
    followers = follow(ovs, "br0")
    ovs.ofctl(
        "packet-out",
        "br0",
        "in_port=local,packet=" + "020000000001" * 2 + "0800" + "00" * 46 + ",actions=table",
    )

    def both() -> bool:
        followers.quiet()
        return len(followers["br0"].flows) == 2

    wait_until(both)
    assert kinds(followers["br0"]) == {9: "removed", 7: "added"}
    assert {event.expired for event in followers["br0"].flows.values()} == {True, False}
    followers.close()


def test_the_last_word_of_a_killed_switch_is_read(start_ovs: t.Callable[..., Ovs]) -> None:
    """Nobody reads before it has ended; so many changes as its socket holds: 200 KB, 768 bytes and more for each."""
    ovs = start_ovs()
    ovs.bridge("br0")
    with OpenFlow.connect(f"{ovs.rundir}/br0.mgmt") as of:
        unread = follower.Follower(of, lambda: None)
        flows = "".join(f"priority={n},ip,nw_dst=10.1.0.{n} actions=drop\n" for n in range(1, 101))
        ovs.ofctl("add-flows", "br0", "-", feed=flows)
        os.kill(ovs.pid(), signal.SIGKILL)
        unread.rest()
        assert len(unread.changes.flows) == 100


def test_a_switch_that_has_paused_tells_all_in_the_end(start_ovs: t.Callable[..., Ovs]) -> None:
    """So many changes at once that the switch pauses its monitor: 128 KB (ofmonitor_flush)."""
    ovs = start_ovs()
    ovs.bridge("br0")
    flows = "".join(
        f"priority={n},ip,nw_dst=10.1.{n // 250}.{n % 250} actions=drop\n" for n in range(1, 20001)
    )
    ovs.ofctl("add-flows", "br0", "-", feed=flows)
    followers = follow(ovs, "br0")
    ovs.ofctl("replace-flows", "--bundle", "br0", "-", feed=flows.replace("drop", "NORMAL"))
    followers.quiet()
    seen = collections.Counter(event.kind for event in followers["br0"].flows.values())
    assert seen == {"added": 20000, "removed": 1}  # the flow of the new bridge
    followers.close()
