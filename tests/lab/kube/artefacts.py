# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster is made of, built once and cached: Kubernetes itself, a container runtime, and OVS as container images.

No Debian suite has packages of Kubernetes' servers, but one has the whole source.

    kube-<key>/       control/: etcd, kube-apiserver …; node/: what lies over the root file system of a host
    pod-<ovs>-<key>/  the same kind of layer: srv/pods/ovs-<ovs>.tar, an image with that Open vSwitch and its suite's OVN
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import tarfile
import typing as t
from pathlib import Path

from tests.lab import images
from tests.lab.images import run

HERE = Path(__file__).resolve().parent
SUITE = "bookworm"
VERSION = "1.20.2"
BUILDER = ("dpkg-dev", "gcc", "golang-1.19-go", "jq", "libc6-dev", "make", "rsync")
# Newer runtimes no longer speak this kubelet's version of the CRI.
RUNTIME = ("containerd", "etcd-server", "runc")
SERVERS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
# What a host has of Open vSwitch and OVN: links to a program that runs the pod's.
TOOLS = ("ovn-appctl", "ovn-nbctl", "ovn-sbctl", "ovs-appctl", "ovs-ofctl", "ovs-vsctl", "ovsdb-client")
OWN_PROGRAMS = ("in-ovs-pod", "kube-node")
POD_PACKAGES = (
    "iproute2", "kmod", "openvswitch-switch", "ovn-central", "ovn-host", "procps", "python3-minimal",
)  # fmt: skip
POD_PROGRAMS = ("ovs-healthcheck.sh", "start-central.sh", "start-ovs.sh")


def _versions() -> dict[str, str]:
    """What of Debian Kubernetes and its container runtime are made from; looked up once."""
    return images.remembered("kube-versions", _look)


def _look() -> dict[str, str]:
    sources, archive = images.Archive(SUITE, "deb-src"), images.Archive(SUITE)
    for known in (sources, archive):
        known.update()
    return {
        "source": sources.source_version("kubernetes"),
        **{name: archive.version(name) for name in (*RUNTIME, "golang-1.19-go")},
    }


def programs() -> Path:
    """Kubernetes: a folder with control/ and node/."""
    own = [(HERE / name).read_text() for name in OWN_PROGRAMS]
    key = images.digest(_versions(), servers().name, own, RUNTIME, SERVERS, TOOLS, 1)
    return images.cached("kube", key, _assemble)


def servers() -> Path:
    """Kubernetes' own programs, which take minutes to build."""
    recipe = (HERE / "build.sh").read_text()
    key = images.digest(_versions()["source"], _versions()["golang-1.19-go"], BUILDER, recipe)
    return images.cached("kube-built", key, _build)


def _build(work: Path) -> None:
    images.say(
        "Kubernetes is built from source, once: that takes about eight minutes of CPU time and 4 GB meanwhile"
    )
    root = work / "builder"
    include = f"--include={','.join(BUILDER)}"
    run("mmdebstrap", "--variant=apt", include, *images.NO_DOCS, SUITE, str(root), images.MIRROR)
    images.Archive(SUITE, "deb-src").download_source(root / "build", "kubernetes")
    shutil.copy2(HERE / "build.sh", root / "build")
    images.inside(root, "bash", "/build/build.sh", VERSION)
    for program in (root / "build/out").iterdir():
        shutil.copy2(program, work / program.name)
    shutil.rmtree(root)


def _assemble(work: Path) -> None:
    packages = work / "packages"
    images.Archive(SUITE).download(packages, *RUNTIME)
    for deb in packages.glob("*.deb"):
        run("dpkg", "-x", str(deb), str(packages / "x"))
    control, local = work / "control", work / "node/usr/local"
    for folder in (control, local / "bin", local / "sbin", work / "node/srv/pods"):
        folder.mkdir(parents=True)
    shutil.copy2(packages / "x/usr/bin/etcd", control)
    for name in SERVERS:
        os.link(servers() / name, control / name)
    for name in ("bin/containerd", "bin/containerd-shim-runc-v2", "bin/ctr", "sbin/runc"):
        shutil.copy2(packages / "x/usr" / name, local / "bin")
    os.link(servers() / "kubelet", local / "bin/kubelet")
    for name in OWN_PROGRAMS:
        shutil.copy2(HERE / name, local / "sbin")
    for name in TOOLS:
        (local / "bin" / name).symlink_to("../sbin/in-ovs-pod")
    (packages / "pause").mkdir()
    shutil.copy2(servers() / "pause", packages / "pause")
    run(
        "tar",
        "-C",
        str(packages / "pause"),
        "--owner=0",
        "--group=0",
        "-cf",
        str(packages / "pause.tar"),
        "pause",
    )
    archive(packages / "pause.tar", "lab/pause:1", ["/pause"], work / "node/srv/pods/pause.tar")
    shutil.rmtree(packages)


def pod(ovs: str) -> Path:
    """A layer with the container image lab/ovs:<ovs>."""
    programs = [(HERE / "pod" / name).read_text() for name in POD_PROGRAMS]
    key = images.digest(images.package_version(ovs), POD_PACKAGES, images.NO_DOCS, programs, 1)
    return images.cached(f"pod-{ovs}", key, functools.partial(_build_pod, ovs))


def _build_pod(ovs: str, work: Path) -> None:
    suite = images.OVS_SUITES[ovs]
    root = work / "root"
    run(
        "mmdebstrap", "--variant=essential", f"--include={','.join(POD_PACKAGES)}", *images.NO_DOCS,
        "--aptopt=Acquire::Languages \"none\"", suite, str(root), images.MIRROR,
    )  # fmt: skip
    (root / "kube-ovn").mkdir()
    for name in POD_PROGRAMS:
        shutil.copy2(HERE / "pod" / name, root / "kube-ovn")
    for name in ("etc/openvswitch/conf.db", "etc/openvswitch/system-id.conf"):
        (root / name).unlink(missing_ok=True)
    layer = work / "layer.tar"
    run("tar", "-C", str(root), "--numeric-owner", "--exclude=./dev/*", "-cf", str(layer), ".")
    shutil.rmtree(root)
    (work / "srv/pods").mkdir(parents=True)
    archive(layer, f"lab/ovs:{ovs}", ["/kube-ovn/start-ovs.sh"], work / f"srv/pods/ovs-{ovs}.tar")
    layer.unlink()


def archive(layer: Path, name: str, entrypoint: list[str], target: Path) -> None:
    """Make a docker-archive of one layer, which 'ctr images import' takes."""
    with layer.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    config: dict[str, t.Any] = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": entrypoint,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"],
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{checksum}"]},
    }
    with tarfile.open(target, "w") as packed:
        packed.add(layer, "layer.tar")
        manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
        for member, content in (("config.json", config), ("manifest.json", manifest)):
            written = layer.with_name(member)
            written.write_text(json.dumps(content))
            packed.add(written, member)
            written.unlink()
