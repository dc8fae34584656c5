# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a lab host: bridges with flows, groups and meters, and two namespaces that send traffic through br0.

br0 joins the namespaces h1 (10.0.0.1) and h2 (10.0.0.2). multipath() over the whole 5-tuple keeps the
megaflows exact, so that each new connection costs an upcall. br1 has no traffic, only state to keep.
Running it twice gives the same host.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout


def endpoint(bridge: str, number: int) -> None:
    """A namespace h<number> with the address 10.0.0.<number>, on the bridge as port p<number>."""
    name, port = f"h{number}", f"p{number}"
    if not os.path.exists(f"/run/netns/{name}"):
        run("ip", "netns", "add", name)
        run("ip", "link", "add", port, "type", "veth", "peer", "name", "e0", "netns", name)
        run("ip", "-n", name, "link", "set", "e0", "address", f"02:00:00:00:00:0{number}")
        run("ip", "-n", name, "address", "add", f"10.0.0.{number}/24", "dev", "e0")
        run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", name, "link", "set", "e0", "up")
        run("ip", "link", "set", port, "up")
        # The userspace datapath does not fill in checksums that the sender left to its network card.
        run("ip", "netns", "exec", name, "ethtool", "-K", "e0", "tx", "off")
        other = 3 - number
        run(
            "ip",
            "-n",
            name,
            "neighbour",
            "replace",
            f"10.0.0.{other}",
            "lladdr",
            f"02:00:00:00:00:0{other}",
            "dev",
            "e0",
        )
    run(
        "ovs-vsctl",
        "--may-exist",
        "add-port",
        bridge,
        port,
        "--",
        "set",
        "interface",
        port,
        f"ofport_request={number}",
    )


def load(bridge: str, what: str, lines: list[str]) -> None:
    """Give ovs-ofctl a file of flows or groups."""
    with tempfile.NamedTemporaryFile("w", suffix=f".{what}") as handle:
        handle.write("\n".join(lines) + "\n")
        handle.flush()
        verb = {"flows": ["--bundle", "replace-flows"], "groups": ["--bundle", "add-groups"]}[what]
        run("ovs-ofctl", "-O", "OpenFlow15", *verb, bridge, handle.name)


def pipeline(flows: int, metered: bool) -> list[str]:
    """Traffic from h1 to h2 and back through a group and maybe a meter, and as many flows beside it as wanted."""
    lines = [
        "table=0,priority=10,in_port=1,udp,actions=multipath(symmetric_l3l4+udp,0,modulo_n,1024,0,NXM_NX_REG5[]),resubmit(,1)",
        "table=0,priority=5,in_port=2,actions=output:1",
        "table=0,priority=4,in_port=1,icmp,actions=output:2",
        "table=1,priority=10,udp,nw_dst=10.0.0.2,actions=" + ("meter:1," if metered else "") + "group:1",
    ]
    rows = (
        f"table=1,priority=50,udp,tp_dst={n % 50000 + 10000},nw_dst=10.{10 + n // 50000}.0.2,cookie={n},actions=output:2"
        for n in range(flows)
    )
    return [*lines, *rows]


def spare(flows: int) -> list[str]:
    """A bridge without traffic: more shapes of state than br0 has."""
    return [
        f"table={n % 4},priority={100 + n % 7},cookie={2**63 + n},ip,nw_src=192.0.2.{n % 256},"
        f"nw_dst=198.51.100.{n // 256 % 256},tp_dst={n},tcp,actions=set_queue:1,group:7,pop_queue"
        for n in range(flows)
    ]


def meters(bridge: str, specs: dict[int, str]) -> None:
    present = run("ovs-ofctl", "-O", "OpenFlow15", "dump-meters", bridge)
    for number, bands in specs.items():
        verb = "mod-meter" if f"meter={number} " in present else "add-meter"
        run("ovs-ofctl", "-O", "OpenFlow15", verb, bridge, f"meter={number},{bands}")


def management_bridge(datapath_type: str) -> None:
    """Move the address that SSH uses to the bridge br-mgmt, on which vec0 is a port, as many hypervisors have it."""
    if "br-mgmt" in run("ovs-vsctl", "list-br").split():
        return
    link = json.loads(run("ip", "-json", "address", "show", "dev", "vec0"))[0]
    inet = next(entry for entry in link["addr_info"] if entry["family"] == "inet")
    address = f"{inet['local']}/{inet['prefixlen']}"
    run("ovs-vsctl", "add-br", "br-mgmt", "--", "set", "bridge", "br-mgmt", "fail_mode=secure",
        f"datapath_type={datapath_type}", f"other_config:hwaddr={link['address']}",
        "--", "add-port", "br-mgmt", "vec0")  # fmt: skip
    run("ovs-ofctl", "add-flow", "br-mgmt", "priority=1,actions=NORMAL")
    run("ip", "address", "flush", "dev", "vec0")
    run("ip", "link", "set", "br-mgmt", "up")
    run("ip", "address", "add", address, "dev", "br-mgmt")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--flows", type=int, default=2000, help="flows on br0 beside the pipeline's four")
    options.add_argument("--spare-flows", type=int, default=500, help="flows on br1")
    options.add_argument(
        "--no-meter",
        dest="metered",
        action="store_false",
        help="let no flow use a meter: upstream's scripts lose the table of a bridge where one does",
    )
    options.add_argument(
        "--management-bridge", action="store_true", help="SSH reaches the host through a bridge, too"
    )
    options.add_argument(
        "--controller", action="store_true", help="br0 has a controller in the database; nobody answers there"
    )
    options.add_argument(
        "--spanning-tree",
        action="store_true",
        help="one more bridge, with STP at a tunnel: on such a host a new ovs-vswitchd is not filled beside the old one",
    )
    options.add_argument("--datapath-type", default="system", choices=("system", "netdev"))
    chosen = options.parse_args()
    for bridge in ("br0", "br1"):
        run("ovs-vsctl", "--may-exist", "add-br", bridge, "--", "set", "bridge", bridge,
            "fail_mode=secure", f"datapath_type={chosen.datapath_type}")  # fmt: skip
    if chosen.spanning_tree:
        run("ovs-vsctl", "--may-exist", "add-br", "stp0", "--", "set", "bridge", "stp0",
            "stp_enable=true", f"datapath_type={chosen.datapath_type}",
            "--", "--may-exist", "add-port", "stp0", "stpx0",
            "--", "set", "interface", "stpx0", "type=geneve", "options:remote_ip=192.0.2.1", "options:key=4000")  # fmt: skip
    endpoint("br0", 1)
    endpoint("br0", 2)
    if chosen.controller:
        run("ovs-vsctl", "set-controller", "br0", "tcp:127.0.0.1:6653")
    meters("br0", {1: "kbps,burst,stats,bands=type=drop,rate=1000000,burst_size=100000"})
    meters(
        "br1",
        {n: f"pktps,burst,stats,bands=type=drop,rate={n * 100},burst_size={n * 50}" for n in range(1, 11)},
    )
    groups = [
        f"group_id={n},type=select,selection_method=hash,fields(ip_src,ip_dst),"
        f"bucket=bucket_id:1,weight:{n},actions=drop,bucket=bucket_id:2,weight:100,actions=drop"
        for n in range(1, 21)
    ]
    load("br0", "groups", ["group_id=1,type=all,bucket=bucket_id:1,actions=output:2"])
    load("br1", "groups", groups)
    load("br0", "flows", pipeline(chosen.flows, chosen.metered))
    load("br1", "flows", spare(chosen.spare_flows))
    if chosen.management_bridge:
        management_bridge(chosen.datapath_type)
    print(f"2 bridges, {chosen.flows + 4} + {chosen.spare_flows} flows, 1 + 20 groups, 1 + 10 meters")


if __name__ == "__main__":
    main()
