# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OVN on lab hosts: the packages that a suite has, and a logical network over all of them.

The first host runs the central databases and ovn-northd; each host is a chassis, with geneve between them. What a host runs is in
ovnhost.py, which is sent there.
"""

from __future__ import annotations

import functools
from pathlib import Path

from tests.lab import hosts, images

# Upstream version of OVN -> the suite that packages it.
SUITES = {"23.03.1": "bookworm", "25.03.0": "trixie", "26.03.1": "sid"}
# lsb-release is what they need that a lab host has not.
PACKAGES = ("ovn-common", "ovn-host", "ovn-central", "lsb-release")
PROGRAM = Path(__file__).with_name("ovnhost.py")
# On the hosts.
PLACE, OFFERED = "/var/tmp/ovn", "/srv/ovn"


def packages(version: str) -> list[Path]:
    """The packages of OVN of that upstream version."""
    return sorted(_folder(version).glob("*.deb"))


def _folder(version: str) -> Path:
    """A flat apt repository of them."""
    fetch = functools.partial(_fetch, SUITES[version])
    return images.cached("ovn", images.digest(version, PACKAGES, 2), fetch)


def _fetch(suite: str, work: Path) -> None:
    archive = images.Archive(suite)
    archive.update()
    archive.download(work, *PACKAGES)
    (work / "Packages").write_text(images.run("apt-ftparchive", "packages", ".", cwd=work))


def install(lab: hosts.Lab, version: str) -> None:
    """Put OVN on every host; nothing of it is started."""
    for host in lab.hosts:
        hosts.script(lab, host, f"rm -rf {PLACE}")
        hosts.put(lab, host, packages(version), PLACE)
        hosts.script(
            lab,
            host,
            "printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d\n"
            f"dpkg -i {PLACE}/*.deb >/run/ovn.log 2>&1 || {{ cat /run/ovn.log >&2; false; }}\nrm /usr/sbin/policy-rc.d",
        )


def offer(lab: hosts.Lab, *versions: str) -> None:
    """Have apt on every host know the packages of these versions, too."""
    places = {version: f"{OFFERED}/{version}" for version in versions}
    lines = "".join(f"deb [trusted=yes] file:{place} ./\\n" for place in places.values())
    for host in lab.hosts:
        for version, place in places.items():
            hosts.put(lab, host, sorted(_folder(version).iterdir()), place)
        hosts.script(lab, host, f"printf '{lines}' > /etc/apt/sources.list.d/ovn.list\napt-get -qq update")


def populate(lab: hosts.Lab, *options: str) -> None:
    """Start OVN and give it a logical network (see ovnhost.py); returns when every chassis has all of it."""
    for host in reversed(lab.hosts):
        populate_host(lab, host, *options)


def populate_host(lab: hosts.Lab, host: hosts.Host, *options: str) -> None:
    """What that host has of it; the first one wants all others to have theirs."""
    central = lab.hosts[0]
    words = (str(host.index + 1), str(len(lab.hosts)), central.data_address, host.data_address, *options)
    output = hosts.ssh(lab, host, "python3", "-", *words, feed=PROGRAM.read_text())
    images.say(f"{host.name}: {output.strip().splitlines()[-1]}")
