# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring up, look at and end a lab of real Open vSwitch hosts. 'make help' lists the usual ways to call it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import typing as t
from pathlib import Path

from tests.lab import hosts, images, kubernetes, native, ovn, uml
from tests.lab.images import LabError, say
from tests.lab.kube import ovn as kube_ovn


class Backend(t.Protocol):
    """What a kind of lab host has to offer; ``POPULATE`` is what populate.py and ovnhost.py have to know about it."""

    POPULATE: t.Sequence[str]

    def prepare(self, ovs: str | None) -> None: ...

    def start(self, lab: hosts.Lab, host: hosts.Host) -> hosts.Lab: ...

    def finish(self, lab: hosts.Lab) -> None: ...


BACKENDS: dict[str, Backend] = {"uml": uml, "native": native, "kubernetes": kubernetes}


def up(name: str, backend: str, count: int, ovs: str | None) -> hosts.Lab:
    """Start a lab of count hosts and wait until each answers; a lab of that name that is there already is ended."""
    hosts.down(name)
    kind = BACKENDS[backend]
    kind.prepare(ovs)
    lab = hosts.Lab(name, backend, ovs, tuple(hosts.Host(f"host{n + 1}", n) for n in range(count)))
    (lab.folder / "cp").mkdir(parents=True, mode=0o700)
    lab.save()
    hosts.make_network(lab)
    hosts.write_inventory(lab)
    began = time.monotonic()
    for host in lab.hosts:
        lab = kind.start(lab, host)
    for host in lab.hosts:
        hosts.wait_for_ssh(lab, host)
        say(f"{host.name} answers at {host.address} after {time.monotonic() - began:.0f} s")
        _have_handlers(lab, host)
    kind.finish(lab)
    return lab


def _have_handlers(lab: hosts.Lab, host: hosts.Host) -> None:
    """Open vSwitch 3.1.0 counts no CPU in the first 10 s of a machine, and loses every upcall after that (count_cpu_cores)."""
    if (lab.backend, lab.ovs) == ("uml", "3.1.0"):
        late = "while [ $(cut -d. -f1 /proc/uptime) -lt 11 ]; do sleep 0.2; done"
        hosts.script(lab, host, f"{late}\nsystemctl restart ovs-vswitchd")


def populate(lab: hosts.Lab, options: t.Sequence[str]) -> None:
    """Give every host bridges, flows, groups, meters and traffic endpoints (see populate.py)."""
    program = (Path(__file__).parent / "populate.py").read_text()
    running = [
        (host, subprocess.Popen(
            hosts.ssh_argv(lab, host, "python3", "-", *BACKENDS[lab.backend].POPULATE, *options),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ))
        for host in lab.hosts
    ]  # fmt: skip
    for host, process in running:
        output, __ = process.communicate(program)
        if process.returncode:
            raise LabError(f"{host.name}: populate failed:\n{output}")
        say(f"{host.name}: {output.strip().splitlines()[-1]}")


def add_ovn(lab: hosts.Lab, version: str, ports: int = 0) -> None:
    """Have every host be a chassis of OVN, with ports of a logical network; so many ``ports`` more on each, outside of pods."""
    if lab.backend == "kubernetes":
        in_image = kube_ovn.VERSIONS[lab.ovs or ""]
        if version != in_image:
            raise LabError(
                f"the container image with Open vSwitch {lab.ovs} has OVN {in_image}, not {version}"
            )
        kube_ovn.start(lab)
    else:
        ovn.install(lab, version)
        ovn.populate(lab, *BACKENDS[lab.backend].POPULATE, f"--ports={ports}")


def power_on(lab: hosts.Lab, host: hosts.Host) -> hosts.Lab:
    """Start a host again that was powered off, with its disk as it was left."""
    lab = BACKENDS[lab.backend].start(lab, host)
    hosts.wait_for_ssh(lab, host)
    _have_handlers(lab, host)
    return lab


def status() -> None:
    for name in hosts.names():
        lab = hosts.load(name)
        if lab is None:
            print(
                f"{name}: left over from an interrupted run ('tests/tools/lab --name {name} down' removes it)"
            )
            continue
        running = sum(hosts.alive(host) for host in lab.hosts)
        print(
            f"{name}: {lab.backend}, OVS {lab.ovs}, {running} of {len(lab.hosts)} hosts running, {lab.inventory}"
        )


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=__doc__)
    top.add_argument("--name", default="main", help="which lab (default: main)")
    commands = top.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="start a lab; prints the path of its inventory")
    start.add_argument("--backend", choices=BACKENDS, default="uml")
    start.add_argument("--hosts", type=int, default=2)
    start.add_argument("--from", dest="ovs", default="3.5.0", choices=[*images.OVS_SUITES, "none"])
    start.add_argument(
        "--populate", action="store_true", help="with the default bridges, flows and endpoints"
    )
    start.add_argument("--ovn", choices=ovn.SUITES, help="with OVN, and a logical network over its hosts")
    start.add_argument("--ovn-ports", type=int, default=0, help="so many logical ports more on each host")
    commands.add_parser(
        "populate", help="bridges, flows and endpoints on every host; options as populate.py has them"
    )
    commands.add_parser("down", help="end the lab and remove all of it")
    commands.add_parser("clean", help="end every lab")
    commands.add_parser("prune", help="end every lab and remove the cached images")
    commands.add_parser("status", help="what is running")
    commands.add_parser("images", help="build the images of every version, so that later starts are fast")
    for verb, text in (("power-off", "pull a host's plug"), ("power-on", "start it again")):
        commands.add_parser(verb, help=text).add_argument("host")
    shell = commands.add_parser("ssh", help="a command (or a shell) on a host")
    shell.add_argument("host")
    shell.add_argument("words", nargs=argparse.REMAINDER)
    return top


def main(argv: t.Sequence[str]) -> int:
    options, rest = parser().parse_known_args(argv)
    if rest and options.command != "populate":
        parser().error(f"unrecognized arguments: {' '.join(rest)}")
    if os.geteuid() != 0:
        raise LabError("the lab needs root: it makes network namespaces, taps and file systems")
    command = options.command
    if command == "status":
        status()
        return 0
    if command == "ssh":
        lab = hosts.require(options.name)
        return subprocess.call(hosts.ssh_argv(lab, lab.host(options.host), *options.words))
    if command == "images":
        for ovs in images.OVS_SUITES:
            images.disk(ovs)
        return 0
    if command in ("clean", "prune"):
        for name in hosts.names():
            with hosts.exclusive(name):
                hosts.down(name)
        if command == "prune":
            images.prune()
        return 0
    with hosts.exclusive(options.name):
        if command == "up":
            lab = up(
                options.name, options.backend, options.hosts, None if options.ovs == "none" else options.ovs
            )
            if options.populate:
                populate(lab, [])
            if options.ovn:
                add_ovn(lab, options.ovn, options.ovn_ports)
            print(lab.inventory)
        elif command == "down":
            hosts.down(options.name)
        elif command == "populate":
            populate(hosts.require(options.name), rest)
        else:
            lab = hosts.require(options.name)
            host = lab.host(options.host)
            if command == "power-off":
                hosts.power_off(lab, host)
            else:
                power_on(lab, host)
    return 0


if __name__ == "__main__":
    images.program(lambda: main(sys.argv[1:]))
