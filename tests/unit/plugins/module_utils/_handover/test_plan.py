# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of facts: which strategy comes out, and which reasons against the others."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import plan as plans
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.plan import (
    AUTO,
    MAKE_BEFORE_BREAK,
    PREFILLED,
    RESTART,
    STANDBY,
    STRATEGIES,
    Facts,
    decide,
    loses_meters,
    sentences,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.spoken import Spoken
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import bfd, cfm, lacp
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import Daemon, Supervisor
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Bridge, Interface, Port
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.service_start import Foresight
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof.megaflows import Amount, Survey
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof.selection import Group
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import Process


def daemon(name: str, running: str | None = "3.5.0", disk: str | None = "4.0.0", **changes: t.Any) -> Daemon:
    systemd = Supervisor("systemd", f"{name}.service", None, None)
    values = {
        "name": name,
        "pidfile": f"/run/openvswitch/{name}.pid",
        "process": Process(100, 1),
        "user": "root",
        "running_version": running,
        "disk_version": disk,
        "binary": f"/usr/sbin/{name}",
        "binary_replaced": running != disk,
        "supervisor": systemd,
    }
    return Daemon(**{**values, **changes})


def interface(name: str = "p1", **changes: t.Any) -> Interface:
    empty: dict[str, t.Any] = {field.name: None for field in dataclasses.fields(Interface)}
    values = {
        "name": name,
        "port": name,
        "type": "",
        "options": {},
        "other_config": {},
        "bfd": {},
        "policing_rate": 0,
    }
    return Interface(**{**empty, **values, **changes})


def port(name: str = "p1", **changes: t.Any) -> Port:
    empty: dict[str, t.Any] = {field.name: None for field in dataclasses.fields(Port)}
    values = {"name": name, "interfaces": (name,), "opened": (name,), "qos": False, "other_config": {}}
    return Port(**{**empty, **values, **changes})


def bridge(name: str = "br0", **changes: t.Any) -> Bridge:
    empty: dict[str, t.Any] = {field.name: None for field in dataclasses.fields(Bridge)}
    values = {
        "name": name,
        "datapath_type": "system",
        "protocols": (),
        "controllers": (),
        "ports": (port(),),
        "interfaces": (interface(),),
        "mirrors": 0,
        "other_config": {},
    }
    for flag in ("stp", "rstp", "mcast_snooping", "netflow", "sflow", "ipfix"):
        values[flag] = False
    return Bridge(**{**empty, **values, **changes})


def bonded(key: str = "") -> Bridge:
    """With a bond of b1 and b2, of which a new process opens b2 first."""
    members = (
        interface("b1", ofport=1),
        interface("b2", ofport=2, other_config={"lacp-aggregation-key": key}),
    )
    bond = port("bond0", lacp="active", interfaces=("b1", "b2"), opened=("b2", "b1"))
    return bridge(ports=(bond,), interfaces=members)


def negotiated(key: int = 2) -> Spoken:
    """What a process shows of that bond."""
    actor = lacp.Party("02:00:00:00:00:01", 1, 1, 1, key, 0x3D)
    member = lacp.Member(lacp.CURRENT, True, actor, actor)
    return Spoken(aggregates={"bond0": {"b1": member, "b2": member}})


def session(detection: int) -> bfd.Session:
    return bfd.Session(bfd.UP, 1, 2, 10, 10, 3, detection)


def endpoint(interval: int) -> cfm.Endpoint:
    return cfm.Endpoint(7, False, interval, (9,), "")


def facts(old: str = "3.5.0", new: str = "4.0.0", **changes: t.Any) -> Facts:
    values = {
        "vswitchd": daemon("ovs-vswitchd", old, new),
        "server": daemon("ovsdb-server", old, new),
        "schema_running": "8.5.0",
        "schema_on_disk": "8.8.0",
        "bridges": (bridge(),),
        "other_config": {},
        "flows": 10_000,
        "memory_available": 4 << 30,
        "memory_vswitchd": 100 << 20,
        "foreign_flag": False,
        "confined": None,
        "tracked": 0,
        "socket_user": None,
        "down": frozenset(),
    }
    return Facts(**{**values, **changes})


def test_a_plain_kernel_host_gets_the_best_strategy() -> None:
    plan = decide(facts())
    assert plan.strategy == MAKE_BEFORE_BREAK
    assert plan.refused == {}
    assert plan.warnings == ()
    assert plan.convert
    assert plan.restart_server
    assert plan.before == {"ovs-vswitchd": "3.5.0", "ovsdb-server": "3.5.0", "schema": "8.5.0"}
    assert plan.after == {"ovs-vswitchd": "4.0.0", "ovsdb-server": "4.0.0", "schema": "8.8.0"}


def test_what_a_start_does_besides_is_left_out_or_refused() -> None:
    plan = decide(facts(start=Foresight((), ("deletes",), ("ovs-ctl", "start")), dropped=("T.c of r = 1",)))
    assert plan.strategy == MAKE_BEFORE_BREAK
    assert plan.start.argv == ("ovs-ctl", "start")
    assert plan.warnings == (
        "deletes",
        "schema 8.8.0 has no place for T.c of r = 1: it is lost, a rollback brings it again",
    )
    refused = decide(facts(start=Foresight(("would not start",), (), ())))
    assert refused.strategy is None
    assert set(refused.refused) == set(STRATEGIES)


def test_nothing_is_done_when_nothing_is_to_be_done() -> None:
    current = facts("4.0.0", "4.0.0", schema_running="8.8.0")
    plan = decide(current)
    assert (plan.strategy, plan.needed, plan.before) == (None, False, plan.after)
    assert decide(current, force=True).strategy == MAKE_BEFORE_BREAK


def test_a_rebuilt_package_of_the_same_version_is_an_upgrade() -> None:
    rebuilt = daemon("ovs-vswitchd", "3.5.0", "3.5.0", binary_replaced=True)
    assert decide(facts("3.5.0", "3.5.0", vswitchd=rebuilt, schema_running="8.8.0")).needed


# For each hazard of handover.md: the facts, the strategy that is taken instead, words of the reason.
HAZARDS = [
    (
        "other datapath",
        {"bridges": (bridge(datapath_type="dummy"),)},
        STANDBY,
        "br0 uses the datapath type dummy",
    ),
    (
        "a port that one process can open",
        {"bridges": (bridge(datapath_type="netdev", interfaces=(interface("x1", type="afxdp"),)),)},
        STANDBY,
        "x1 of bridge br0 has the type afxdp",
    ),
    (
        "lacp",
        {"bridges": (bonded(),), "spoken": negotiated(key=1)},
        PREFILLED,
        "bond0.*would be 2, after its member b2, and is 1",
    ),
    ("lacp-key", {"bridges": (bonded("7"),), "spoken": negotiated(key=2)}, PREFILLED, "bond0.*would be 7"),
    ("bfd", {"spoken": Spoken(sessions={"p1": session(detection=30)})}, PREFILLED, "p1.*BFD.*after 30 ms"),
    ("cfm", {"spoken": Spoken(endpoints={"p1": endpoint(interval=10)})}, PREFILLED, "p1.*CFM.*after 35 ms"),
    ("unknown words", {"spoken": Spoken(wrong="what is shown")}, PREFILLED, "what is shown"),
    ("tried", {"bridges": (bonded(),), "unprimed": "its key"}, PREFILLED, "it was tried: its key"),
    (
        "a tree at a tunnel",
        {"bridges": (bridge(rstp=True, interfaces=(interface(type="geneve"),)),)},
        STANDBY,
        "p1 of bridge br0 has the type geneve: .*cannot be overheard",
    ),
    (
        "a tree that is left by a patch port",
        {"bridges": (bridge(stp=True, interfaces=(interface(type="patch", options={"peer": "p2"}),)),)},
        STANDBY,
        "p1 of bridge br0 is in a spanning tree, and its peer",
    ),
    (
        "stp, names that look alike",
        {
            "bridges": (
                bridge(
                    stp=True,
                    ports=(port("enp3s0f0_12"), port("enp3s0f0_13")),
                    interfaces=(interface("enp3s0f0_12"), interface("enp3s0f0_13")),
                ),
            )
        },
        STANDBY,
        "br0 cannot be told apart by the 10 bytes",
    ),
    (
        "stp in userspace",
        {"bridges": (bridge(stp=True, datapath_type="netdev"),)},
        STANDBY,
        "br0 may number its ports for STP anew.*p1 have none",
    ),
    ("offload", {"other_config": {"hw-offload": "true"}}, STANDBY, "hw-offload"),
    ("dpdk", {"other_config": {"dpdk-init": "true"}}, RESTART, "dpdk-init"),
    ("memory", {"memory_available": 50 << 20}, RESTART, "50 MiB are available"),
    (
        "a controller in the run directory",
        {"bridges": (bridge(controllers=("unix:/run/openvswitch/c.sock",)),)},
        RESTART,
        "br0 has a controller at unix:/run",
    ),
    ("no bridge", {"bridges": ()}, STANDBY, "there is no bridge"),
]


@pytest.mark.parametrize(
    ("changes", "taken", "words"), [row[1:] for row in HAZARDS], ids=[row[0] for row in HAZARDS]
)
def test_a_hazard_is_refused_with_its_reason(changes: dict[str, t.Any], taken: str, words: str) -> None:
    plan = decide(facts(**changes))
    assert plan.strategy == taken
    assert_reason(plan, MAKE_BEFORE_BREAK, words)


def test_the_upcall_dispatch_mode_must_not_change_under_the_old_process() -> None:
    plan = decide(facts("2.15.0", "3.1.0"))
    assert (plan.strategy, plan.dispatch) == (STANDBY, True)
    assert_reason(plan, MAKE_BEFORE_BREAK, "per-CPU upcalls")


def test_the_upcall_dispatch_mode_can_be_set_back_at_the_switch_over() -> None:
    plan = decide(facts("3.1.0", "2.15.0"))
    assert (plan.strategy, plan.dispatch) == (MAKE_BEFORE_BREAK, True)


@pytest.mark.parametrize(
    ("changes", "taken", "comparable"),
    [
        ({}, MAKE_BEFORE_BREAK, True),
        ({"bridges": (bonded(),), "spoken": negotiated()}, MAKE_BEFORE_BREAK, False),
        ({"bridges": (bonded(),), "spoken": negotiated(key=9)}, PREFILLED, False),
        ({"bridges": (bridge(stp=True),)}, MAKE_BEFORE_BREAK, False),
        ({"bridges": (bonded(),), "other_config": {"hw-offload": "true"}}, STANDBY, False),
        ({"memory_available": 50 << 20}, RESTART, True),
        ({"bridges": (bridge(datapath_type="netdev"),)}, MAKE_BEFORE_BREAK, True),
        (
            {"other_config": {"dpdk-init": "true"}, "bridges": (bridge(datapath_type="netdev"),)},
            RESTART,
            True,
        ),
        ({"bridges": (bridge(), bridge(datapath_type="netdev"))}, STANDBY, True),
        ({"bridges": ()}, STANDBY, True),
    ],
)
def test_a_process_is_filled_beforehand_where_the_host_bears_two(
    changes: dict[str, t.Any], taken: str, comparable: bool
) -> None:
    plan = decide(facts(**changes))
    assert (plan.strategy, plan.comparable) == (taken, comparable)


@pytest.mark.parametrize(
    ("fail_mode", "alone", "told"), [(None, True, True), (None, False, False), ("secure", True, False)]
)
def test_a_bridge_that_has_failed_open_is_told(fail_mode: str | None, alone: bool, told: bool) -> None:
    lost = bridge(controllers=("tcp:192.0.2.1",), alone=alone, fail_mode=fail_mode)
    warnings = " ".join(decide(facts(bridges=(lost,))).warnings)
    assert ("forwards as an Ethernet switch" in warnings) == told


def test_the_protocols_of_the_old_process_are_gone_on_with() -> None:
    plan = decide(facts(bridges=(bonded(),), spoken=negotiated()))
    assert (plan.strategy, plan.protocols, plan.warnings) == (MAKE_BEFORE_BREAK, True, ())
    assert not decide(facts(bridges=(bonded(),), spoken=negotiated()), PREFILLED).protocols
    assert not decide(facts()).protocols


@pytest.mark.parametrize(
    ("changes", "strategy", "warned"),
    [
        ({}, AUTO, False),
        ({}, PREFILLED, True),  # the old process has ended by then
        ({"upcalls_told": False}, AUTO, True),
        ({"vswitchd": daemon("ovs-vswitchd", "3.5.0", "2.17.2")}, AUTO, True),
        ({"vswitchd": daemon("ovs-vswitchd", "3.5.0", "2.17.3")}, AUTO, False),
        (
            {"bridges": (bridge(controllers=("tcp:192.0.2.1",), interfaces=(interface(cfm_mpid=7),)),)},
            AUTO,
            True,
        ),
        ({"bridges": (bridge(controllers=("tcp:192.0.2.1",), datapath_type="netdev"),)}, AUTO, True),
    ],
)
def test_a_controller_costs_nothing_while_the_old_process_can_answer(
    changes: dict[str, t.Any], strategy: str, warned: bool
) -> None:
    controlled = {"bridges": (bridge(controllers=("tcp:192.0.2.1",)),), "upcalls_told": True}
    plan = decide(facts(**{**controlled, **changes}), strategy)
    assert any("lose their flows" in text for text in plan.warnings) == warned


def test_who_asks_for_a_plain_strategy_gets_it() -> None:
    for name in (PREFILLED, STANDBY, RESTART):
        assert decide(facts(), name).strategy == name


def test_a_spanning_tree_keeps_a_process_from_being_filled_beforehand() -> None:
    assert_reason(decide(facts(bridges=(bridge(rstp=True),))), PREFILLED, "runs RSTP: .*close a loop")


@pytest.mark.parametrize(
    ("version", "recreates"),
    [
        ("2.15.0", True), ("2.17.5", True), ("2.17.6", False), ("3.0.3", True), ("3.0.4", False),
        ("3.1.0", True), ("3.1.1", False), ("3.2.0", False), ("4.0.0", False),
    ],
)  # fmt: skip
def test_tunnels_are_refused_where_the_new_version_recreates_them(version: str, recreates: bool) -> None:
    tunnel = bridge(interfaces=(interface("vx0", type="vxlan"),))
    plan = decide(facts("2.17.9" if version != "2.15.0" else "2.15.0", version, bridges=(tunnel,)))
    assert ("tunnel" in " ".join(plan.refused.get(MAKE_BEFORE_BREAK, ()))) == recreates


@pytest.mark.parametrize(("old", "told"), [("3.1.0", True), ("3.1.1", False)])
def test_a_rollback_that_recreates_tunnels_is_told_beforehand(old: str, told: bool) -> None:
    tunnel = bridge(interfaces=(interface("vx0", type="vxlan"),))
    assert ("a rollback interrupts" in " ".join(decide(facts(old, bridges=(tunnel,))).warnings)) == told


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"foreign_flag": True}, "flow-restore-wait is set by somebody else"),
        (
            {"vswitchd": daemon("ovs-vswitchd", supervisor=Supervisor("container", None, None, "/docker/x"))},
            "container",
        ),
        ({"vswitchd": daemon("ovs-vswitchd", running=None, supervisor=None, process=None)}, "does not run"),
        ({"vswitchd": daemon("ovs-vswitchd", disk=None)}, "no usable ovs-vswitchd"),
        (
            {"vswitchd": daemon("ovs-vswitchd", user="ovs"), "socket_user": "root"},
            "runs as the user ovs.*SocketUser=ovs",
        ),
    ],
)
def test_what_no_strategy_can_do(changes: dict[str, t.Any], words: str) -> None:
    plan = decide(facts(**changes))
    assert plan.strategy is None
    assert plan.needed
    for strategy in STRATEGIES:
        assert_reason(plan, strategy, words)


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("2.15.0", "3.1.0", True),
        ("3.1.0", "2.15.0", True),
        ("2.16.0", "4.0.0", False),
        ("2.13.0", "2.15.0", False),
    ],
)
def test_the_plan_tells_when_the_kernel_has_to_send_upcalls_differently(
    old: str, new: str, changes: bool
) -> None:
    assert decide(facts(old, new)).dispatch == changes
    assert not decide(facts(old, new, bridges=(bridge(datapath_type="netdev"),))).dispatch


def test_a_socket_unit_that_lets_the_user_in_is_no_hazard() -> None:
    other = daemon("ovs-vswitchd", user="ovs")
    assert decide(facts(vswitchd=other, socket_user="ovs")).strategy == MAKE_BEFORE_BREAK
    assert decide(facts(socket_user="root")).strategy == MAKE_BEFORE_BREAK


def test_a_strategy_that_was_asked_for_is_not_replaced_by_another() -> None:
    hazard = facts(bridges=(bridge(datapath_type="dummy"),))
    assert decide(hazard, MAKE_BEFORE_BREAK).strategy is None
    assert decide(hazard, RESTART).strategy == RESTART
    assert decide(facts(), STANDBY).strategy == STANDBY


def test_every_bridge_is_looked_at() -> None:
    plan = decide(
        facts(bridges=(bridge("br0"), bridge("br1", rstp=True, interfaces=(interface(type="gre"),))))
    )
    assert_reason(plan, MAKE_BEFORE_BREAK, "bridge br1")
    assert len(plan.refused[MAKE_BEFORE_BREAK]) == 1


def test_two_datapaths_do_not_switch_over_at_once() -> None:
    plan = decide(facts(bridges=(bridge("br0"), bridge("br1", datapath_type="netdev"))))
    assert_reason(plan, MAKE_BEFORE_BREAK, "some bridges use the kernel datapath")


def test_in_userspace_the_kernel_does_not_matter() -> None:
    ports = (interface("p1", type="system"), interface("i1", type="internal"), interface("vx0", type="vxlan"))
    alone = (bridge(datapath_type="netdev", interfaces=ports),)
    plan = decide(facts("2.15.0", "3.1.0", bridges=alone))
    assert (plan.strategy, plan.userspace) == (MAKE_BEFORE_BREAK, True)
    dpdk = decide(facts(bridges=alone, other_config={"dpdk-init": "true"}))
    assert (dpdk.strategy, dpdk.dpdk) == (RESTART, True)
    assert any("addresses and routes are lost" in text for text in dpdk.warnings)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bridges": (bridge(controllers=("tcp:192.0.2.1",)),)}, "br0.*lose their flows"),
        ({"bridges": (bridge(mcast_snooping=True),)}, "snoops multicast"),
        ({"bridges": (bridge(interfaces=(interface(policing_rate=1000),)),)}, "policers of p1"),
        ({"confined": "openvswitch_t"}, "confined as openvswitch_t"),
        ({"tracked": 3}, "the 3 connections that the userspace datapath tracks"),
        ({"bridges": (bonded(),), "spoken": negotiated(key=9)}, "bond0.*starts anew"),
        (
            {
                "tracked": 100_000,
                "spoken": Spoken(sessions={"p1": session(300)}),
                "bridges": (bridge(datapath_type="netdev"),),
            },
            "hears no neighbour for about 500 ms.*after 300 ms",
        ),
    ],
)
def test_what_cannot_be_avoided_is_said(changes: dict[str, t.Any], words: str) -> None:
    warnings = decide(facts(**changes), AUTO).warnings
    assert [text for text in warnings if matches(words, text)]


def test_few_connections_keep_nobody_from_hearing_a_neighbour() -> None:
    own = bridge(datapath_type="netdev")
    for more in ({"tracked": 50_000}, {"tracked": 100_000, "spoken": Spoken()}):
        values: t.Any = {"bridges": (own,), "spoken": Spoken(sessions={"p1": session(300)}), **more}
        found = decide(facts(**values))
        assert not [text for text in found.warnings if "hears no neighbour" in text]


def assert_reason(plan: plans.Plan, strategy: str, words: str) -> None:
    assert [reason for reason in plan.refused[strategy] if matches(words, reason)], plan.refused[strategy]


def matches(words: str, text: str) -> bool:
    position = 0
    for part in words.split(".*"):
        position = text.find(part, position)
        if position < 0:
            return False
    return True


LIVE = Survey(Amount(416, 1000), Amount(400, 990))


@pytest.mark.parametrize(
    ("wanted", "changes", "text"),
    [
        ("auto", {}, "400 of 416 live megaflows, with 99 % of their packets, can be traced"),
        ("prefilled", {}, "400 of 416"),
        ("standby", {}, "nothing is proved before the switch-over: with standby"),
        (
            "prefilled",
            {"bridges": (bridge(ports=(port(lacp="active"),)),)},
            "nothing is proved before the switch-over: port p1 of bridge br0 runs LACP",
        ),
        ("auto", {"live": Survey(Amount(), Amount())}, "nothing can be proved: start again under traffic"),
        ("auto", {"live": None}, ""),
    ],
)
def test_a_plan_tells_what_the_proof_can_cover(wanted: str, changes: dict[str, t.Any], text: str) -> None:
    plan = decide(facts(**{"live": LIVE, **changes}), wanted)
    assert text in plan.proof
    assert bool(plan.proof) == bool(text)


def test_a_proof_that_covers_little_is_a_warning() -> None:
    little = Survey(Amount(416, 1000), Amount(400, 300))
    assert not any("covers little" in text for text in decide(facts(live=LIVE)).warnings)
    assert any("covers little" in text for text in decide(facts(live=little)).warnings)
    spanning = facts(live=little, bridges=(bridge(rstp=True),))
    assert not any("covers little" in text for text in decide(spanning, "standby").warnings)


def test_versions_that_move_connections_are_announced() -> None:
    groups = (Group("br0", 5, "", (1,) * 7),)
    assert any("may move" in text for text in decide(facts("3.1.0", groups=groups)).warnings)
    assert not any("may move" in text for text in decide(facts("3.5.0", groups=groups)).warnings)


def test_what_root_cannot_rely_on_refuses_every_strategy() -> None:
    decision = decide(facts(distrust=("the command line is not passed on",)))
    assert decision.strategy is None
    assert all("the command line is not passed on" in reasons for reasons in decision.refused.values())


def test_a_process_that_is_not_the_daemon_is_said_to_be_none() -> None:
    doubted = dataclasses.replace(
        daemon("ovs-vswitchd", "3.5.0", "4.0.0"), doubt="process 7 runs /tmp/x", supervisor=None
    )
    refused = decide(facts(vswitchd=doubted)).refused
    assert all(
        "not taken for ovs-vswitchd: process 7 runs /tmp/x" in str(texts) for texts in refused.values()
    )


LONG = "a-very-long-bridge-name"


def long_names(*down: str) -> Facts:
    """A userspace bridge whose own device has a long name."""
    mine = interface(LONG, type="internal", ofport=65534)
    tunnel = interface("another-very-long-name", type="vxlan", ofport=1)
    return facts(
        bridges=(bridge(LONG, datapath_type="netdev", interfaces=(mine, tunnel)),), down=frozenset(down)
    )


def test_a_device_whose_name_the_new_version_does_not_open_is_lost_if_nobody_uses_it() -> None:
    plan = decide(long_names("a-very-long-bri"))
    assert plan.strategy == MAKE_BEFORE_BREAK
    assert plan.lost_ports == (LONG,)
    assert any(LONG in text for text in plan.warnings)


def test_a_device_in_use_whose_name_the_new_version_does_not_open_is_refused() -> None:
    plan = decide(long_names())
    assert plan.strategy is None
    assert all(
        any("ip link set dev a-very-long-bri down" in text for text in plan.refused[name])
        for name in STRATEGIES
    )


@pytest.mark.parametrize(
    ("datapath_type", "versions"), [("system", ("3.5.0", "4.0.0")), ("netdev", ("3.1.0", "3.5.0"))]
)
def test_long_names_are_nothing_special_elsewhere(datapath_type: str, versions: tuple[str, str]) -> None:
    mine = interface(LONG, type="internal", ofport=65534)
    found = decide(
        facts(
            bridges=(bridge(LONG, datapath_type=datapath_type, interfaces=(mine,)),),
            vswitchd=daemon("ovs-vswitchd", *versions),
        )
    )
    assert (found.strategy, found.lost_ports) == (MAKE_BEFORE_BREAK, ())


def test_a_look_ahead_plans_for_the_version_that_comes() -> None:
    groups = (Group("br0", 5, "", (1,) * 7),)
    installed = facts("3.1.0", "3.1.0", groups=groups)
    plan = decide(installed.with_version("4.0.0"))
    assert (plan.before["ovs-vswitchd"], plan.after["ovs-vswitchd"]) == ("3.1.0", "4.0.0")
    assert any("may move" in text for text in plan.warnings)
    assert not decide(installed, force=True).warnings


def test_a_plan_is_told_to_people() -> None:
    told = sentences(decide(facts(bridges=(bonded(),), spoken=negotiated(key=9))))
    assert told[0] == "ovs-vswitchd is upgraded from 3.5.0 to 4.0.0, by prefilled"
    assert any(text.startswith("warning: port bond0 of bridge br0 runs LACP") for text in told)
    assert any(
        text.startswith("not by make_before_break: port bond0 of bridge br0: the key") for text in told
    )


def test_going_to_an_older_version_is_called_a_downgrade() -> None:
    assert sentences(decide(facts("4.0.0", "3.5.0")))[0].startswith(
        "ovs-vswitchd is downgraded from 4.0.0 to 3.5.0"
    )


def test_a_host_that_needs_nothing_and_one_that_allows_nothing_are_told_so() -> None:
    assert sentences(decide(facts("4.0.0", "4.0.0", schema_running="8.8.0"))) == [
        "nothing is to be done: 4.0.0 runs, and is what is on the disk"
    ]
    refused = sentences(decide(facts(foreign_flag=True)))
    assert refused[0] == "ovs-vswitchd 3.5.0 cannot be replaced by 4.0.0"
    assert len(refused) == 1 + len(STRATEGIES)


def test_trees_that_meet_by_patch_ports_go_on_and_take_their_time() -> None:
    two = (
        bridge("br0", stp=True, interfaces=(interface("p1", type="patch", options={"peer": "p2"}),)),
        bridge(
            "br1",
            stp=True,
            ports=(port("p2"),),
            interfaces=(interface("p2", type="patch", options={"peer": "p1"}),),
        ),
    )
    plan = decide(facts(bridges=two))
    assert plan.strategy == MAKE_BEFORE_BREAK
    assert any("listens to the spanning trees of br0, br1" in text for text in plan.warnings)


@pytest.mark.parametrize("fixed", ["3.3.7", "3.4.5", "3.5.3", "3.6.1", "3.7.0", "4.0.0"])
def test_versions_that_find_meters_whatever_is_there(fixed: str) -> None:
    assert not loses_meters(fixed)


@pytest.mark.parametrize("older", ["2.15.0", "3.1.0", "3.2.9", "3.3.6", "3.4.4", "3.5.2", "3.6.0", ""])
def test_versions_that_lose_all_meters_where_there_are_many(older: str) -> None:
    assert loses_meters(older)
