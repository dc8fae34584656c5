# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof between two real versions that hold the same flows: a pipeline with conntrack, NAT and a group, under traffic."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.versions import version
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof.proof import (
    CIRCLE,
    USERSPACE,
    Proof,
    Wish,
    prove,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof.selection import Group, moved
from tests.integration.pipeline import WEIGHTS, pipeline, talk

if t.TYPE_CHECKING:
    from tests.integration.conftest import Ovs, StartOvs


def proved(old: Ovs, new: Ovs, *accept: str) -> Proof:
    control = [Appctl(f"{ovs.rundir}/ovs-vswitchd.{ovs.pid()}.ctl", 30.0) for ovs in (old, new)]
    return prove(control[0].call, control[1].call, USERSPACE, Wish(1000, accept))


@pytest.mark.parametrize(("before", "after"), [("3.1.0", "4.0.0"), ("3.5.0", "4.0.0"), ("4.0.0", "2.15.0")])
def test_the_packets_of_a_pipeline_are_covered(start_ovs: StartOvs, before: str, after: str) -> None:
    old, new = start_ovs(before), start_ovs(after)
    ends = pipeline(old)
    pipeline(new)
    talk(old, ends)
    states = old.appctl("dpctl/dump-flows", "netdev@ovs-netdev")
    assert all(part in states for part in ("+est", "+new", "dp_hash")), states
    proof = proved(old, new)
    assert (proof.different, proof.differences) == (0, ())
    assert proof.covered >= 95, proof.report()
    # What a plan computes beforehand is what the two processes really do with the hashes.
    expected = moved(Group("br0", 5, "", WEIGHTS), version(before), version(after))
    assert bool(expected) == (before != "3.5.0")
    assert [each.moved for each in proof.moved] == [expected] * bool(expected)

    # The last table forgets to count the TTL down, and nobody would see it in the first stage.
    new.ofctl("mod-flows", "br0", "table=2,udp,actions=group:5")
    changed = proved(old, new)
    assert changed.different
    assert [difference.name for difference in changed.differences] == ["p-h1>next-stage:ipv4.ttl"]
    assert proved(old, new, "p-h1>*:ipv4.ttl").different == 0


def test_an_old_version_does_not_trace_without_end(start_ovs: StartOvs) -> None:
    """Answers come back to the first table with their addresses translated; of a trace they have the same as before."""
    old, new = start_ovs("3.1.0"), start_ovs("4.0.0")
    flows = (
        "ip,nw_dst=10.0.0.9,actions=ct(commit,nat(dst=10.0.0.2),table=1)",
        "ip,nw_src=10.0.0.2,actions=ct(nat,table=0)",
        "ip,nw_src=10.0.0.9,actions=NORMAL",
        "table=1,actions=NORMAL",
    )
    for ovs in (old, new):
        ovs.bridge("br0", "fail_mode=secure")
        ends = ovs.endpoints("br0")
        ovs.ofctl("add-flows", "br0", "-", feed="\n".join(flows))
    inside = ("ip", "-n", ends.sender, "neighbour", "add", "10.0.0.9", "dev", "e0")
    old.run(*inside, "lladdr", "02:00:00:00:00:02")
    old.run("ip", "netns", "exec", ends.sender, "ping", "-c", "3", "-i", "0.2", "10.0.0.9")
    proof = proved(old, new)
    assert proof.skipped[CIRCLE] == 1, proof.report()
    assert old.appctl("version").rstrip().endswith("3.1.0")
