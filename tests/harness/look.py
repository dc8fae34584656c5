# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a lab host: prints as JSON what a hand-over must keep, and what is wrong with the host.

It asks the tools of Open vSwitch and of the kernel, never the engine that is being judged.  Scenarios run it over SSH, the
fault matrix imports it on the host, and both compare with ``changed``.
"""

from __future__ import annotations

import csv
import glob
import json
import os
import re
import socket
import subprocess
import sys
import typing as t

RUNDIR = "/run/openvswitch"
DAEMONS = ("ovs-vswitchd", "ovsdb-server")
LINK = ("ifname", "ifindex", "address", "mtu", "master", "link_netnsid")


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout


def lines(*argv: str) -> list[str]:
    return sorted(line.strip() for line in run(*argv).splitlines())


def bridges() -> list[str]:
    """The names of all bridges but those that ovs-vswitchd ignores."""
    return [name for name in run("ovs-vsctl", "list-br").splitlines() if not {"/", "\\"} & set(name)]


def openflow(bridge: str) -> dict[str, list[str]]:
    """Flows, groups and meters without what counts or depends on the transaction id, and the static MAC addresses."""
    found = {}
    target = f"unix:{RUNDIR}/{bridge}.mgmt"
    for what in ("flows", "groups", "meters", "tlv-map"):
        options = ["--no-stats"] if what == "flows" else []
        text = lines("ovs-ofctl", "-O", "OpenFlow15", *options, f"dump-{what}", target)
        found[what] = [line for line in text if not re.search(r"(reply|REPLY).*xid=", line)]
    ports = run("ovs-ofctl", "-O", "OpenFlow15", "dump-ports-desc", target)
    configs = re.findall(r"\((.*)\): addr.*\n +config: +(.*)", ports)
    found["port config"] = [f"{name}: {config}" for name, config in configs]
    found["MAC"] = [line for line in lines("ovs-appctl", "--", "fdb/show", bridge) if line.endswith("static")]
    return found


def limits(bridge: str) -> list[str]:
    """The meters that the datapath has, which does not show their rates: OpenFlow shows what ovs-vswitchd has, there or not."""
    told = run("ovs-ofctl", "-O", "OpenFlow15", "meter-stats", f"unix:{RUNDIR}/{bridge}.mgmt")
    return sorted(re.findall(r"meter:(\d+)", told))


def links(namespace: str | None) -> dict[str, object]:
    inside = ["-n", namespace] if namespace else []
    found: dict[str, object] = {}
    for link in json.loads(run("ip", *inside, "-json", "address", "show")):
        if link["ifname"] == "ovs-netdev":  # a device of the userspace datapath for its own purposes
            continue
        entry = {key: link.get(key) for key in LINK}
        entry["up"] = "UP" in link["flags"]
        entry["addresses"] = sorted(
            f"{each['local']}/{each['prefixlen']}" for each in link["addr_info"] if each["scope"] == "global"
        )
        found[link["ifname"]] = entry
    found["routes"] = sorted(run("ip", *inside, "route", "show", "table", "all").splitlines())
    return found


def traffic_control(interfaces: t.Iterable[str]) -> dict[str, list[str]]:
    """Queueing disciplines, classes and filters of the ports; what a policer or a queue has counted is left out."""
    found = {}
    for name in interfaces:
        if name in os.listdir("/sys/class/net"):
            text = [line for kind in ("qdisc", "class") for line in lines("tc", kind, "show", "dev", name)]
            text += lines("tc", "filter", "show", "dev", name, "parent", "ffff:")
            found[name] = [re.sub(r"(police|index) 0x\w+|index \d+ ", "", line) for line in text]
    return found


def state() -> dict[str, object]:
    """Everything that a hand-over keeps, by the words in which a difference is told."""
    interfaces = lines(
        "ovs-vsctl", "--columns=name,ofport,error", "--format=csv", "--no-headings", "list", "interface"
    )
    namespaces = [None, *(line.split()[0] for line in run("ip", "netns", "list").splitlines())]
    return {
        "configuration": [
            line
            for line in lines("ovs-vsctl", "show")
            if not re.search(r"ovs_version|is_connected|bfd_status|^[0-9a-f-]{36}$", line)
        ],
        "external ids": lines("ovs-vsctl", "get", "open_vswitch", ".", "external_ids"),
        "ofports": interfaces,
        "bridges": {bridge: openflow(bridge) for bridge in bridges()},
        "limits": {bridge: limits(bridge) for bridge in bridges()},
        "links": {name or "host": links(name) for name in namespaces},
        "traffic control": traffic_control(row[0] for row in csv.reader(interfaces)),
        "datapath ports": [line for line in lines("ovs-appctl", "dpctl/show") if line.startswith("port ")],
    }


def pid_of(daemon: str) -> int:
    with open(f"{RUNDIR}/{daemon}.pid", encoding="ascii") as file:
        return int(file.read())


def named(daemon: str) -> list[int]:
    """Processes of this name that are no monitors of one of them, and do not serve the databases of OVN."""
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{number}/comm", encoding="ascii", errors="replace") as file:
                if file.read().strip() != daemon:
                    continue
            with open(f"/proc/{number}/cmdline", "rb") as file:
                command = file.read()
                if b": monitoring pid" not in command and b"/ovn" not in command:
                    found.append(int(number))
        except OSError:
            continue
    return found


def problems() -> list[str]:
    """What a host has after no hand-over, whatever became of it."""
    found = []
    for daemon in DAEMONS:
        pid, processes = pid_of(daemon), named(daemon)
        if processes != [pid]:
            found.append(f"{daemon}: the pidfile says {pid}, there are {processes}")
        with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
            groups = file.read()
        if "ovsops-" in groups:
            found.append(f"{daemon} is in a control group of the hand-over: {groups}")
        if os.path.isdir("/run/systemd/system"):
            shown = run(
                "systemctl",
                "show",
                "--property=ActiveState,MainPID,ControlGroup,Restart,LoadState",
                f"{daemon}.service",
            )
            unit = dict(line.split("=", 1) for line in shown.splitlines())
            if unit["LoadState"] == "masked":
                continue
            # 0: systemd could not guess it when the package's script started several processes (units without PIDFile=).
            if unit["ActiveState"] != "active" or unit["MainPID"] not in (str(pid), "0"):
                found.append(
                    f"{daemon}.service is {unit['ActiveState']} with main pid {unit['MainPID']}, not {pid}"
                )
            if unit["Restart"] != "on-failure":
                found.append(f"{daemon}.service has Restart={unit['Restart']}")
            if unit["ControlGroup"] not in groups:
                found.append(f"{daemon} is not in the cgroup of its unit")
    if "flow-restore-wait" in run("ovs-vsctl", "get", "open_vswitch", ".", "other_config"):
        found.append("flow-restore-wait is set")
    private = [*glob.glob(f"{RUNDIR}-*"), *glob.glob(f"{RUNDIR}/ovsops-*")]
    found += [f"{path} is left over" for path in private if not os.path.islink(path)]
    found += [f"{path} is left over" for path in glob.glob("/etc/systemd/system/ovsops-*")]
    sockets = {os.path.basename(path) for path in glob.glob(f"{RUNDIR}/*.ctl")}
    extra = sockets - {f"{daemon}.{pid_of(daemon)}.ctl" for daemon in DAEMONS}
    if extra:
        found.append(f"control sockets are left over: {sorted(extra)}")
    return found + long_queues()


def long_queues() -> list[str]:
    """The packet sockets of ovs-vswitchd that hold more than those of others."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as usual:
        length = usual.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    shown = run("ss", "--packet", "--memory", "--processes", "--oneline").splitlines()
    found = [re.search(r"skmem:\(r\d+,rb(\d+)", line) for line in shown if '"ovs-vswitchd"' in line]
    lengths = {int(each[1]) for each in found if each}
    return [f"packet sockets of ovs-vswitchd hold {each} bytes" for each in lengths if each > length]


def changed(before: dict[str, object], after: dict[str, object], but: t.Container[str] = ()) -> str | None:
    """The first part of a ``state`` that is another one now, and how; ``but`` are parts that may be."""
    for part, value in before.items():
        if part not in but and value != after[part]:
            return f"{part} changed: {difference(value, after[part])}"
    return None


def difference(before: object, after: object) -> str:
    """Where two nested values differ, the first place."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            if before.get(key) != after.get(key):
                return f"{key}: {difference(before.get(key), after.get(key))}"
    if isinstance(before, list) and isinstance(after, list):
        gone = [entry for entry in before if entry not in after]
        come = [entry for entry in after if entry not in before]
        return f"gone {gone[:3]}, new {come[:3]}"
    return f"{before!r} became {after!r}"


def version(daemon: str) -> str:
    text = run("ovs-appctl", "-t", f"{RUNDIR}/{daemon}.{pid_of(daemon)}.ctl", "version")
    return text.split()[-1] if len(text.splitlines()) == 1 else text.splitlines()[0].split()[-1]


def main() -> None:
    json.dump(
        {
            "state": state(),
            "problems": problems(),
            "versions": {daemon: version(daemon) for daemon in DAEMONS},
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
