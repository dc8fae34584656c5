# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The traffic probe against a real bridge; the kernel's own UDP counters are the judge."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import typing as t
from pathlib import Path

import pytest

from tests.harness.waiting import wait_until

if t.TYPE_CHECKING:
    from tests.integration.conftest import Ovs

DROP = "priority=100,udp,tp_dst=47000"


@pytest.fixture(scope="module")
def wired(shared_ovs: Ovs) -> Ovs:
    """br0 forwards between the namespaces h1 and h2."""
    shared_ovs.bridge("br0")
    shared_ovs.endpoints("br0")
    return shared_ovs


@pytest.fixture
def ovs(wired: Ovs) -> t.Iterator[Ovs]:
    """The same without anything that an earlier test may have left."""
    yield wired
    for pid in agents(wired):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not agents(wired))
    wired.run("rm", "-rf", "/run/ovsops")
    wired.ofctl("replace-flows", "br0", "-", feed="priority=0,actions=NORMAL\n")


def start(ovs: Ovs, **changes: t.Any) -> dict[str, t.Any]:
    parameters = {"sender_namespace": "h1", "receiver_namespace": "h2", "address": "10.0.0.2"}
    return ovs.module("ovs_traffic_probe", **{**parameters, **changes})


def stop(ovs: Ovs) -> dict[str, t.Any]:
    answer = ovs.module("ovs_traffic_probe", state="stopped")
    assert not answer.get("failed"), answer["msg"]
    return t.cast("dict[str, t.Any]", answer["result"])


def counter(ovs: Ovs, namespace: str, group: str, name: str) -> int:
    """A field of /proc/net/snmp of a namespace: what its kernel counted."""
    text = ovs.run("ip", "netns", "exec", namespace, "cat", "/proc/net/snmp")
    names, values = (line.split() for line in text.splitlines() if line.startswith(f"{group}: "))
    return int(values[names.index(name)])


def packets_out(ovs: Ovs) -> int:
    return counter(ovs, "h1", "Ip", "OutRequests")


def packets_in(ovs: Ovs) -> int:
    return counter(ovs, "h2", "Udp", "InDatagrams")


def wait_for_more(ovs: Ovs, count: t.Callable[[Ovs], int], packets: int = 60) -> None:
    wanted = count(ovs) + packets
    wait_until(lambda: count(ovs) >= wanted)


def missing(ovs: Ovs) -> int:
    """How many more packets were sent than arrived, ever; copies count against it."""
    return packets_out(ovs) - packets_in(ovs)


def add_flow(ovs: Ovs, flow: str) -> None:
    """Add a flow and have it in effect: what the datapath has cached is looked through again."""
    ovs.ofctl("add-flow", "br0", flow)
    ovs.appctl("revalidator/wait")


def agents(ovs: Ovs) -> list[int]:
    """The pids of the agents in this host."""
    own = os.readlink(f"/proc/{ovs.host.pid}/ns/uts")
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "ns/uts") == own and b"/probe.py" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def nothing_left(ovs: Ovs) -> bool:
    return not agents(ovs) and not list(Path(ovs.path("/run")).glob("ovsops/*"))


def test_a_quiet_bridge_loses_and_duplicates_nothing(ovs: Ovs) -> None:
    assert start(ovs)["changed"] is True
    wait_for_more(ovs, packets_in, 200)
    result = stop(ovs)
    assert result["ended"] == "stopped"
    for stream in (result["established"], result["new_flows"]):
        assert stream["sent"] == stream["received"] > 0
        assert (stream["lost"], stream["duplicated"], stream["worst_runs"]) == (0, 0, [])
    assert result["receiver_dropped"] == 0
    assert ovs.module("ovs_traffic_probe", state="absent")["changed"] is True
    assert nothing_left(ovs)


def test_every_packet_of_the_second_stream_is_a_new_flow(ovs: Ovs) -> None:
    # multipath() un-wildcards the whole 5-tuple (lab.md): now each new flow needs an upcall and a megaflow.
    add_flow(
        ovs, "priority=50,udp,actions=multipath(symmetric_l3l4+udp,0,modulo_n,16,0,NXM_NX_REG0[]),NORMAL"
    )
    # No megaflow shall be gone before it was counted.
    ovs.vsctl("set", "open_vswitch", ".", "other_config:max-idle=600000")
    start(ovs)
    wait_for_more(ovs, packets_in, 200)
    result = stop(ovs)
    megaflows = ovs.appctl("dpctl/dump-flows", "netdev@ovs-netdev", "filter=udp,udp_dst=47000")
    sources = set(re.findall(r"udp\(src=(\d+),", megaflows))
    assert len(sources) >= result["new_flows"]["sent"] > 0


def test_a_moment_without_forwarding_is_counted_packet_by_packet(ovs: Ovs) -> None:
    before = missing(ovs)
    start(ovs)
    wait_for_more(ovs, packets_in)
    add_flow(ovs, f"{DROP},actions=drop")
    wait_until(lambda: missing(ovs) >= before + 60)
    ovs.ofctl("--strict", "del-flows", "br0", DROP)
    wait_for_more(ovs, packets_in)
    result = stop(ovs)
    streams = (result["established"], result["new_flows"])
    assert sum(stream["lost"] for stream in streams) == missing(ovs) - before
    for stream in streams:
        assert stream["lost"] > 0
        assert [run["lost"] for run in stream["worst_runs"]] == [stream["lost"]]
        assert stream["longest_outage_ms"] == stream["worst_runs"][0]["outage_ms"] > 0
        assert stream["duplicated"] == 0


def test_copies_are_counted_as_duplicates(ovs: Ovs) -> None:
    before = missing(ovs)
    start(ovs)
    add_flow(ovs, "priority=100,udp,tp_dst=47000,actions=NORMAL,NORMAL")
    wait_until(lambda: missing(ovs) <= before - 60)
    result = stop(ovs)
    streams = (result["established"], result["new_flows"])
    assert sum(stream["duplicated"] for stream in streams) == before - missing(ovs)
    assert [stream["lost"] for stream in streams] == [0, 0]


def test_stopping_open_vswitch_is_an_outage_of_both_streams(ovs: Ovs) -> None:
    before = missing(ovs)
    start(ovs)
    wait_for_more(ovs, packets_in)
    ovs.service("stop")
    wait_until(lambda: missing(ovs) >= before + 60)
    ovs.service("start")
    wait_for_more(ovs, packets_in)
    result = stop(ovs)
    assert result["established"]["lost"] + result["new_flows"]["lost"] == missing(ovs) - before
    assert result["established"]["lost"] > 0 < result["new_flows"]["lost"]


def test_starting_twice_is_starting_once(ovs: Ovs) -> None:
    assert start(ovs)["changed"] is True
    assert start(ovs)["changed"] is False
    assert len(agents(ovs)) == 1
    refused = start(ovs, rate=100)
    assert refused["failed"]
    assert "rate 200 (asked: 100)" in refused["msg"]
    assert len(agents(ovs)) == 1


def test_two_starts_at_the_same_moment_make_one_agent(ovs: Ovs) -> None:
    start(ovs)
    ovs.module("ovs_traffic_probe", state="absent")
    answers: list[dict[str, t.Any]] = []
    threads = [threading.Thread(target=lambda: answers.append(start(ovs))) for __ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(agents(ovs)) == 1
    assert sum(answer.get("changed", False) for answer in answers) == 1
    for answer in answers:
        assert not answer.get("failed") or "being started by someone else" in answer["msg"]


def test_it_ends_by_itself_and_says_so(ovs: Ovs) -> None:
    start(ovs, max_duration=1)
    wait_until(lambda: not agents(ovs))
    result = stop(ovs)
    assert result["ended"] == "max_duration"
    assert 0 < result["established"]["sent"] <= 200
    assert 0 < result["new_flows"]["sent"] <= 40


def test_a_killed_agent_leaves_a_result_that_says_so(ovs: Ovs) -> None:
    start(ovs)
    [agent] = agents(ovs)
    recorded = Path(ovs.path("/run/ovsops/probe-default/events.bin"))
    wait_until(lambda: recorded.stat().st_size > 0)
    os.kill(agent, signal.SIGKILL)
    wait_until(lambda: not agents(ovs))
    result = stop(ovs)
    assert result["ended"] == "killed"
    assert result["established"]["sent"] > 0
    assert start(ovs)["changed"] is True
    ovs.module("ovs_traffic_probe", state="absent")
    assert nothing_left(ovs)


def test_its_files_are_for_root_only(ovs: Ovs) -> None:
    directory = Path(ovs.path(start(ovs)["directory"]))
    stop(ovs)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in directory.iterdir()} == {0o600}


def test_check_mode_changes_nothing(ovs: Ovs) -> None:
    assert start(ovs, check_mode=True)["changed"] is True
    assert nothing_left(ovs)
    start(ovs)
    assert start(ovs, check_mode=True)["changed"] is False
    answer = ovs.module("ovs_traffic_probe", check_mode=True, state="stopped")
    assert (answer["changed"], answer["running"], "result" in answer) == (True, False, False)
    assert ovs.module("ovs_traffic_probe", check_mode=True, state="absent")["changed"] is True
    assert len(agents(ovs)) == 1


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"address": "10.0.0.77"}, "10.0.0.77 must belong to network namespace 'h2'"),
        ({"receiver_namespace": "h3"}, "/run/netns/h3 is missing"),
        ({"receiver_namespace": "h1"}, "would not cross a bridge"),
        ({"state": "started", "address": None}, "address"),
    ],
)
def test_what_cannot_start_is_refused_and_leaves_nothing(
    ovs: Ovs, changes: dict[str, t.Any], text: str
) -> None:
    answer = start(ovs, **changes)
    assert answer["failed"]
    assert text in answer["msg"]
    wait_until(lambda: nothing_left(ovs))


def test_without_a_path_it_does_not_start(ovs: Ovs) -> None:
    add_flow(ovs, f"{DROP},actions=drop")
    answer = start(ovs)
    assert answer["failed"]
    assert "no packet of the stream established and new flows arrived" in answer["msg"]
    wait_until(lambda: nothing_left(ovs))


def test_a_taken_port_is_named(ovs: Ovs) -> None:
    assert start(ovs)["changed"] is True
    answer = start(ovs, name="second")
    assert answer["failed"]
    assert "UDP port 47000 must be free" in answer["msg"]
    assert start(ovs, name="second", port=47001)["changed"] is True


def test_the_agent_outlives_the_session_that_started_it(ovs: Ovs) -> None:
    # As sshd ends a session: the whole process group of the module gets SIGHUP.
    code = (
        "import os, signal\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # a CI under nohup would pass on that it is ignored
        "from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._probe import probe\n"
        "settings = probe.Settings('h1', 'h2', '10.0.0.2')\n"
        "assert probe.ensure('default', 'started', settings, False).after == 'running'\n"
        "os.killpg(0, signal.SIGHUP)\n"
    )
    argv = ovs.host.enter("env", "PYTHONPATH=/srv/collections", "python3", "-c", code)
    done = subprocess.run(argv, start_new_session=True, check=False)
    assert done.returncode == -signal.SIGHUP
    before = packets_in(ovs)
    wait_until(lambda: packets_in(ovs) > before + 50)
    assert stop(ovs)["ended"] == "stopped"


@pytest.mark.parametrize(
    ("version", "protocols"),
    [
        ("2.15.0", "OpenFlow13,OpenFlow15"),
        ("4.0.0", "OpenFlow15"),
        ("4.0.0", "OpenFlow10"),
        ("3.5.0", "OpenFlow14"),
    ],
)
def test_ends_of_its_own_on_a_switch_that_forwards_nothing(
    start_ovs: t.Any, version: str, protocols: str
) -> None:
    """Another port of the bridge, in another namespace, must get none of their packets."""
    ovs = start_ovs(version)
    ovs.bridge("br;0", "fail_mode=secure", "protocols=[OpenFlow13,OpenFlow15]")
    ovs.endpoints("br;0")
    ovs.ofctl("replace-flows", "br;0", "-", feed="priority=1,actions=drop\n")
    before = ovs.ofctl("dump-flows", "br;0", "--no-stats")
    ovs.run("ovs-vsctl", "set", "bridge", "br;0", f"protocols=[{protocols}]")
    links, namespaces = ovs.run("ip", "-br", "link"), ovs.run("ip", "netns", "list")
    first = ovs.module("ovs_traffic_probe", state="prepared", bridge="br;0")
    again = ovs.module("ovs_traffic_probe", state="prepared", bridge="br;0")
    assert (first["changed"], again["changed"]) == (True, False), first
    heard = counter(ovs, "h2", "Ip", "InReceives")
    started = ovs.module("ovs_traffic_probe", bridge="br;0", new_flow_rate=100)
    assert started["running"], started
    wait_until(
        lambda: "tp_src" in ovs.appctl("dpctl/dump-flows") or "udp(src" in ovs.appctl("dpctl/dump-flows")
    )
    result = stop(ovs)
    assert result["established"]["lost"] == result["new_flows"]["lost"] == 0
    assert result["new_flows"]["sent"] > 0
    assert counter(ovs, "h2", "Ip", "InReceives") == heard
    assert ovs.module("ovs_traffic_probe", state="absent")["changed"]
    ovs.run("ovs-vsctl", "set", "bridge", "br;0", "protocols=[OpenFlow13,OpenFlow15]")
    assert ovs.ofctl("dump-flows", "br;0", "--no-stats") == before
    assert (ovs.run("ip", "-br", "link"), ovs.run("ip", "netns", "list")) == (links, namespaces)
    assert not ovs.module("ovs_traffic_probe", state="absent")["changed"]


def test_ends_at_a_bridge_that_is_not_there_are_refused(ovs: Ovs) -> None:
    found = ovs.module("ovs_traffic_probe", bridge="br9")
    assert "there is no bridge br9. There are: br0" in found["msg"]


def test_ends_that_cannot_be_finished_leave_nothing(ovs: Ovs) -> None:
    links = ovs.run("ip", "-br", "link")
    ovs.run("ip", "netns", "add", "ovsops-default-receiver")
    found = ovs.module("ovs_traffic_probe", state="prepared", bridge="br0")
    # What an interrupted one has left is removed first.
    assert found["changed"], found
    assert ovs.module("ovs_traffic_probe", state="absent")["changed"]
    assert ovs.run("ip", "-br", "link") == links
