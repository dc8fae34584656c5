# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lab hosts whose Open vSwitch comes from RPMs, installed by the real dnf that Debian packages.

The programs are Debian's own, in packages that are named and scripted as those of Open vSwitch are (``rpm/``). What a host has of
systemd, users and libraries stays Debian's, and there is no SELinux.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.lab import hosts, images

# What a lab host has not, with all that they need.
TOOLS = ("dnf", "dnf-plugins-core", "python3-dnf", "python3-systemd", "rpm", "rpm2cpio")
VERSIONS = ("3.5.0", "4.0.0")
SOURCES = Path(__file__).with_name("rpm")
# On the hosts.
DEBS, OFFERED = "/var/tmp/dnf", "/srv/rpms"
CONF = "[main]\ngpgcheck=0\nbest=True\nskip_if_unavailable=False\nplugins=1\n"
REPO = f"[ovsops]\nname=Open vSwitch\nbaseurl=file://{OFFERED}\nenabled=1\ngpgcheck=0\n"
FILES = {
    "/etc/dnf/dnf.conf": CONF,
    # It would look for packages that were installed before.
    "/etc/dnf/plugins/local.conf": "[main]\nenabled = false\n",
    "/etc/yum.repos.d/ovsops.repo": REPO,
}
# Nothing of Debian's package stays: dpkg knows no Open vSwitch any more.
SWITCH = """
purge="dpkg --purge --force-depends openvswitch-switch openvswitch-common"
$purge >/run/dnf.log 2>&1 || {{ cat /run/dnf.log >&2; false; }}
rm -rf /etc/openvswitch /var/lib/openvswitch /run/openvswitch
dnf --quiet --assumeyes install system-release openvswitch-{version} >/run/dnf.log 2>&1 || {{ cat /run/dnf.log >&2; false; }}
if [ -d /run/systemd/system ]; then
    systemctl enable --now openvswitch
else
    # As root: no other user may make the userspace datapath's devices here.
    chown -R root:root /etc/openvswitch /var/lib/openvswitch /var/log/openvswitch
    /usr/share/openvswitch/scripts/ovs-ctl --system-id=random start
fi
ovs-vsctl --timeout=20 show
"""


def tools() -> Path:
    """A folder with the packages of dnf for a lab host."""
    return images.cached("dnf", images.digest(images.root(None).name, TOOLS, 1), _fetch)


def _fetch(work: Path) -> None:
    images.Archive(images.ROOT_SUITE).download_missing(work, images.root(None), *TOOLS)


def packages() -> Path:
    """A dnf repository with Open vSwitch of each of ``VERSIONS``."""
    key = images.digest(images.repo().name, images.tree_digest(SOURCES), VERSIONS, 1)
    return images.cached("rpms", key, _build)


def _build(work: Path) -> None:
    for version in VERSIONS:
        with tempfile.TemporaryDirectory() as scratch:
            unpacked = Path(scratch) / "unpacked"
            for name in images.OVS_PACKAGES:
                (deb,) = (images.repo() / "pool").glob(f"{name}_{images.package_version(version)}_*.deb")
                images.run("dpkg-deb", "--extract", str(deb), str(unpacked))
            settings = {
                "_topdir": scratch,
                "_rpmdir": str(work),
                "ovs": version,
                "unpacked": str(unpacked),
                "here": str(SOURCES),
            }
            defined = [word for name, value in settings.items() for word in ("--define", f"{name} {value}")]
            for spec in SOURCES.glob("*.spec"):
                images.run("rpmbuild", "-bb", "--nodeps", *defined, str(spec))
    images.run("createrepo_c", "--quiet", str(work))


def offer(lab: hosts.Lab) -> None:
    """Have every host know these packages, and have the dnf that installs them."""
    for host in lab.hosts:
        hosts.put(lab, host, sorted(tools().glob("*.deb")), DEBS)
        hosts.put(lab, host, sorted(packages().iterdir()), OFFERED)
        hosts.script(
            lab,
            host,
            f"dpkg --install {DEBS}/*.deb >/run/dnf.log 2>&1 || {{ cat /run/dnf.log >&2; false; }}\nrm -r {DEBS}",
        )
        for path, text in FILES.items():
            hosts.script(lab, host, f"mkdir -p {Path(path).parent}\ncat > {path} <<'END'\n{text}END")


def install(lab: hosts.Lab, version: str) -> None:
    """Have Open vSwitch on every host come from an RPM instead; with systemd it runs as ``openvswitch``."""
    offer(lab)
    for host in lab.hosts:
        hosts.script(lab, host, SWITCH.format(version=version))
