# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a lab host: a chassis of OVN, and on the first host the whole logical network.

    ovnhost.py NUMBER HOSTS CENTRAL ADDRESS [--flows N] [--ports N] [--datapath-type netdev]
               [--tunnels-through DEVICE] [--in-pods]

CENTRAL and ADDRESS are the addresses of the first host and of this one, for the databases and for geneve. Each chassis has the
namespaces h1 and h2, ports of the logical switch sw0 (10.0.0.1 and .2 on the first host, .3 and .4 on the second), and h3, a port
of sw1 (10.0.1.1, 10.0.1.2); a router joins both switches. Stateful ACLs guard them, and a hashed load balancer makes each new
flow to 10.0.0.2:47000 an upcall. So many flows more come from ACLs, and so many ports of sw0 on each chassis are internal
ports that nobody uses. DEVICE becomes a port of the bridge br-phys, which gets ADDRESS: the userspace datapath has no other way
out for tunnels. In pods, OVN runs and has its databases already.

Running it twice gives the same host.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time

VIP = "10.0.0.2:47000"
DATABASES = ("/run/ovn/ovnnb_db.sock", "/run/ovn/ovnsb_db.sock")
PATIENCE = 60
# So many values a match may have.
TOGETHER = 500


def run(*argv: str) -> str:
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv[:6])} failed: {done.stdout[-1000:]}")
    return done.stdout.strip()


def start(service: str, verb: str) -> None:
    """A service of the package, with systemd or without."""
    if os.path.isdir("/run/systemd/system"):
        run("systemctl", "start", service)
    else:
        run("/usr/share/ovn/scripts/ovn-ctl", verb)


def central(address: str) -> None:
    start("ovn-central", "start_northd")
    # systemd does not wait for them, and nothing tells.
    until = time.monotonic() + PATIENCE
    while not all(map(os.path.exists, DATABASES)) and time.monotonic() < until:
        time.sleep(0.1)
    run("ovn-sbctl", "set-connection", f"ptcp:6642:{address}")


def way_out(device: str, address: str, datapath: str) -> None:
    """The bridge br-phys, by which other hosts are reached; both addresses of the device are those of the bridge."""
    with open(f"/sys/class/net/{device}/address") as file:
        mac = file.read().strip()
    run(
        *(
            "ovs-vsctl",
            "--may-exist",
            "add-br",
            "br-phys",
            "--",
            "--may-exist",
            "add-port",
            "br-phys",
            device,
        ),
        # The others remember it for a quarter of an hour, and a restart makes up another one.
        *("--", "set", "bridge", "br-phys", f"datapath_type={datapath}", f'other_config:hwaddr="{mac}"'),
    )
    run("ip", "address", "flush", "dev", device)
    run("ip", "link", "set", "br-phys", "up")
    run("ip", "address", "replace", f"{address}/24", "dev", "br-phys")


def chassis(name: str, central_address: str, address: str, datapath: str) -> None:
    with open("/etc/openvswitch/system-id.conf", "w") as file:
        file.write(f"{name}\n")
    settings = {
        "system-id": name,
        "ovn-remote": f"tcp:{central_address}:6642",
        "ovn-encap-type": "geneve",
        "ovn-encap-ip": address,
        "ovn-bridge-datapath-type": datapath,
    }
    run("ovs-vsctl", "set", "open", ".", *(f"external_ids:{key}={value}" for key, value in settings.items()))
    start("ovn-host", "start_controller")


def endpoint(number: int, address: str, mac: str, port: str) -> None:
    """The namespace h<number>, a port of br-int."""
    name, device = f"h{number}", f"p{number}"
    if not os.path.exists(f"/run/netns/{name}"):
        run("ip", "netns", "add", name)
        run("ip", "link", "add", device, "type", "veth", "peer", "name", "e0", "netns", name)
        run("ip", "-n", name, "link", "set", "e0", "address", mac)
        run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "e0")
        run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", name, "link", "set", "e0", "up")
        run("ip", "-n", name, "route", "add", "default", "via", f"{address.rpartition('.')[0]}.254")
        run("ip", "link", "set", device, "up")
        run("ip", "netns", "exec", name, "ethtool", "-K", "e0", "tx", "off")
    run(
        *("ovs-vsctl", "--may-exist", "add-port", "br-int", device),
        *("--", "set", "interface", device, f"external_ids:iface-id={port}"),
    )


def idle(number: int, count: int) -> list[str]:
    """Further logical ports of a chassis."""
    return [f"idle{number}x{each}" for each in range(count)]


def add_idle(names: list[str]) -> None:
    words = []
    for name in names:
        words += ["--", "--may-exist", "add-port", "br-int", name]
        words += ["--", "set", "interface", name, "type=internal", f"external_ids:iface-id={name}"]
    if words:
        run("ovs-vsctl", *words[1:])


def ports(number: int) -> list[tuple[int, str, str, str, str]]:
    """Number of the namespace, address, MAC address, logical port and switch of each endpoint of a host."""
    return [
        *(
            (
                each,
                f"10.0.0.{2 * number - 2 + each}",
                f"02:00:00:00:00:{2 * number - 2 + each:02x}",
                f"lsp{number}{each}",
                "sw0",
            )
            for each in (1, 2)
        ),
        (3, f"10.0.1.{number}", f"02:00:00:00:01:{number:02x}", f"lsp{number}3", "sw1"),
    ]


def network(count: int, flows: int, further: int) -> None:
    words = []
    for subnet, switch in enumerate(("sw0", "sw1")):
        mac, address = f"02:00:00:00:0{subnet}:fe", f"10.0.{subnet}.254"
        words += ["--", "ls-add", switch]
        words += [
            "--",
            "--may-exist",
            "lr-add",
            "r0",
            "--",
            "lrp-add",
            "r0",
            f"r0-{switch}",
            mac,
            f"{address}/24",
        ]
        words += ["--", "lsp-add", switch, f"{switch}-r0", "--", "lsp-set-type", f"{switch}-r0", "router"]
        words += ["--", "lsp-set-addresses", f"{switch}-r0", "router"]
        words += ["--", "lsp-set-options", f"{switch}-r0", f"router-port=r0-{switch}"]
    for number in range(1, count + 1):
        for __, address, mac, port, switch in ports(number):
            words += ["--", "lsp-add", switch, port, "--", "lsp-set-addresses", port, f"{mac} {address}"]
            words += ["--", "lsp-set-port-security", port, f"{mac} {address}"]
        for each, name in enumerate(idle(number, further)):
            mac = f"02:00:00:01:{number:02x}:{each:02x}"
            words += [
                "--",
                "lsp-add",
                "sw0",
                name,
                "--",
                "lsp-set-addresses",
                name,
                f"{mac} 10.0.{100 + number}.{each}",
            ]
    for switch in ("sw0", "sw1"):
        words += ["--", "acl-add", switch, "to-lport", "1000", "ip4 && (udp || tcp || icmp)", "allow-related"]
        words += ["--", "acl-add", switch, "to-lport", "900", "ip", "drop"]
    run("ovn-nbctl", *words[1:])
    run("ovn-nbctl", "lb-add", "lb1", VIP, VIP, "udp", "--", "set", "load_balancer", "lb1",
        "selection_fields=ip_src,ip_dst,tp_src,tp_dst", "--", "ls-lb-add", "sw0", "lb1")  # fmt: skip
    for first in range(0, flows, TOGETHER):
        ports_ = ", ".join(str(20000 + each) for each in range(first, min(flows, first + TOGETHER)))
        match = f'outport == "lsp12" && ip4.src == 192.0.2.{first // TOGETHER + 1} && udp.dst == {{{ports_}}}'
        run("ovn-nbctl", "acl-add", "sw0", "to-lport", str(1100 + first // TOGETHER), match, "drop")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("number", type=int)
    options.add_argument("hosts", type=int)
    options.add_argument("central")
    options.add_argument("address")
    options.add_argument("--flows", type=int, default=2000)
    options.add_argument("--ports", type=int, default=0)
    options.add_argument("--datapath-type", default="system")
    options.add_argument("--tunnels-through")
    options.add_argument("--in-pods", action="store_true")
    chosen = options.parse_args()
    if chosen.tunnels_through:
        way_out(chosen.tunnels_through, chosen.address, chosen.datapath_type)
    if chosen.in_pods:
        run("ovs-vsctl", "set", "open", ".", f"external_ids:ovn-encap-ip={chosen.address}")
    else:
        if chosen.number == 1:
            central(chosen.central)
        chassis(f"host{chosen.number}", chosen.central, chosen.address, chosen.datapath_type)
    run("ovs-vsctl", f"--timeout={PATIENCE}", "wait-until", "bridge", "br-int")
    for number, address, mac, port, __ in ports(chosen.number):
        endpoint(number, address, mac, port)
    add_idle(idle(chosen.number, chosen.ports))
    if chosen.number == 1:
        if not run("ovn-nbctl", "ls-list"):
            network(chosen.hosts, chosen.flows, chosen.ports)
        run("ovn-nbctl", "--wait=hv", "--timeout=120", "sync")
    print(run("ovs-ofctl", "-O", "OpenFlow15", "dump-aggregate", "br-int"))


if __name__ == "__main__":
    main()
