# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The kernel's part of Open vSwitch: the modules that are loaded, and those on disk.

``root`` is where /sys and the files of modules are looked for, ``runner`` runs modinfo(8): tests bring both.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import module_image
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Runner, run

DATAPATH = "openvswitch"
VPORT = "vport_"


@dataclasses.dataclass(frozen=True)
class Module:
    """One module, by the name the kernel uses (``vport_vxlan``).

    ``build_id`` is what the linker has made of all that is in it, ``srcversion`` a hash of the sources (modpost); None where
    there is none.  ``in_tree`` is None when it cannot be told; ``users`` counts what holds the module in memory.
    """

    name: str
    loaded: bool
    builtin: bool
    in_tree: bool | None
    version: str | None
    srcversion: str | None
    build_id: str | None
    disk_version: str | None
    disk_srcversion: str | None
    disk_build_id: str | None
    disk_path: str | None
    users: int | None

    @property
    def reload_needed(self) -> bool | None:
        """Whether the loaded module is another one than that on disk; None when it cannot be told.

        By the build-id, else by the hash of the sources.  A version tells nothing: the modules that come with a kernel have
        none, and what is built anew keeps it.
        """
        if not self.loaded or self.builtin:
            return False
        for loaded, disk in ((self.build_id, self.disk_build_id), (self.srcversion, self.disk_srcversion)):
            if loaded is not None and disk is not None:
                return loaded != disk
        return None


@dataclasses.dataclass(frozen=True)
class Support:
    """Whether the userspace on disk can drive the loaded modules; None when there is nothing to drive."""

    supported: bool | None
    reason: str


def modules(root: str = "/", runner: Runner = run) -> list[Module]:
    """The datapath module (loaded or not) and every loaded ``vport_*`` module, in this order by name."""
    folder = os.path.join(root, "sys/module")
    names = os.listdir(folder) if os.path.isdir(folder) else []
    vports = sorted(name for name in names if name.startswith(VPORT))
    return [_module(name, root, runner) for name in [DATAPATH, *vports]]


def support(userspace: str | None, kernel: str, loaded: list[Module]) -> Support:
    """Whether Open vSwitch ``userspace`` (as ``3.5.0``) can drive the modules that ``modules()`` returned.

    After the upstream statements: Documentation/faq/releases.rst (any userspace works with the module of
    Linux 3.3 and later, and with those of Open vSwitch itself until 2.17) and NEWS 3.6.0, 3.7.0 and 4.0.0
    (what was dropped).
    """
    names = {module.name for module in loaded if module.loaded}
    if DATAPATH not in names:
        return Support(None, "the module openvswitch is not loaded; only userspace datapaths can be in use")
    if userspace is None:
        return Support(None, "no Open vSwitch is installed, so there is no userspace to compare with")
    if version_key(kernel) < (3, 3):
        return Support(False, f"Linux {kernel} is older than 3.3, the first with a usable openvswitch module")
    dropped = sorted(names & {"vport_stt", "vport_lisp"})
    if dropped and version_key(userspace) >= (3, 6):
        lost = " and ".join(dropped)
        return Support(False, f"{lost} is loaded, and Open vSwitch has no such tunnels since 3.6")
    tunnels = sorted(names & {"vport_gre", "vport_vxlan", "vport_geneve"})
    if tunnels and version_key(userspace) >= (4, 0) and version_key(kernel) < (4, 3):
        lost = " and ".join(tunnels)
        return Support(
            False, f"{lost} is loaded, and tunnels of Open vSwitch 4.0 need Linux 4.3, not {kernel}"
        )
    if any(module.name == DATAPATH and module.in_tree is False for module in loaded):
        why = "upstream has ended support for out-of-tree modules: plan to use the one of the kernel"
        return Support(True, f"Open vSwitch {userspace} works with the loaded out-of-tree module, but {why}")
    return Support(True, f"Open vSwitch {userspace} works with the module of Linux {kernel}")


def version_key(version: str) -> tuple[int, ...]:
    """The leading numbers, to compare by: ``6.1.0-18-amd64`` -> (6, 1, 0)."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(number) for number in found.group(0).split(".")) if found else ()


def _module(name: str, root: str, runner: Runner) -> Module:
    path = os.path.join(root, "sys/module", name)
    loaded = os.path.isdir(path)
    users = _attribute(path, "refcnt")
    taint = _attribute(path, "taint")
    disk = _modinfo(name, runner)
    filename = disk.get("filename")
    filename = filename if filename and filename.startswith("/") else None
    in_tree = "O" not in taint if taint is not None else _yes(disk.get("intree")) if disk else None
    return Module(
        name=name,
        loaded=loaded,
        # A built-in one has no initstate (kernel/module/sysfs).
        builtin=loaded and not os.path.exists(os.path.join(path, "initstate")),
        in_tree=in_tree,
        version=_attribute(path, "version"),
        srcversion=_attribute(path, "srcversion"),
        build_id=_build_id(os.path.join(path, "notes", module_image.BUILD_ID)),
        disk_version=disk.get("version"),
        disk_srcversion=disk.get("srcversion"),
        disk_build_id=_build_id_on_disk(filename, root),
        disk_path=filename,
        users=int(users) if users is not None else None,
    )


def _build_id(path: str) -> str | None:
    """Of a loaded module: the kernel shows its note as it is."""
    try:
        with open(path, "rb") as file:
            return module_image.build_id(file.read(1 << 16), sys.byteorder == "big")
    except OSError:
        return None


def _build_id_on_disk(path: str | None, root: str) -> str | None:
    """Of a file, None when it cannot be read: whoever wants to load it is told why."""
    if path is None:
        return None
    try:
        return module_image.read(os.path.join(root, path.lstrip("/"))).build_id
    except HotUpgradeError:
        return None


def _attribute(path: str, name: str) -> str | None:
    try:
        with open(os.path.join(path, name), encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def _modinfo(name: str, runner: Runner) -> dict[str, str]:
    """The fields of modinfo(8) for the running kernel; empty when it has no such module, or no modinfo."""
    try:
        done = runner(["modinfo", "--", name])
    except HotUpgradeError:
        return {}
    if done.rc != 0:
        return {}
    pairs = (line.partition(":") for line in done.out.splitlines())
    return {key.strip(): value.strip() for key, _colon, value in pairs}


def _yes(value: str | None) -> bool:
    return value == "Y"
