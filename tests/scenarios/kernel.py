# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's side: each variant of openvswitch.ko that the lab has is what it says it is, and works or fails as it must."""

from __future__ import annotations

import hashlib
import json
import typing as t

from tests.lab import modules
from tests.lab.images import LabError
from tests.scenarios.scene import Broken, Scene

PACKAGED = "kernel/net/openvswitch"


class Case(t.NamedTuple):
    """A variant, the folder that it is put into, what the kernel says to it (``None``: it loads) and its version."""

    variant: str
    folder: str
    refusal: str | None = None
    version: str = ""


# Each in place of the one before, so that a module that loads comes after those that do not.
CASES = (
    Case("rebuilt", PACKAGED),
    Case("rebuilt-xz", PACKAGED),
    Case("rebuilt-zst", PACKAGED),
    Case("foreign", PACKAGED, "Exec format error"),
    Case("versioned", "updates", version=modules.VERSION),
    Case("failing", PACKAGED, "No such device"),
    Case(modules.SHIPPED, "updates"),
)
# Tells what is loaded (``None``: nothing) and what the disk has.
FACTS = """
import hashlib, json, os, pathlib, subprocess

def read(name):
    path = pathlib.Path("/sys/module/openvswitch") / name
    return path.read_bytes() if path.exists() else b""

def modinfo(*options):
    return subprocess.run(["modinfo", *options, "openvswitch"], check=True, capture_output=True, text=True).stdout.strip()

note = read("notes/.note.gnu.build-id")
print(json.dumps({
    "loaded": note[16:].hex() or None,
    "version": read("version").decode().strip(),
    "srcversion": bool(read("srcversion")),
    "path": modinfo("-n"),
    "file": hashlib.sha256(pathlib.Path(modinfo("-n")).read_bytes()).hexdigest(),
    "file version": modinfo("-F", "version"),
    "file srcversion": bool(modinfo("-F", "srcversion")),
    "for this kernel": modinfo("-F", "vermagic").split()[0] == os.uname().release,
}))
"""
# Through the bridge with connection tracking in a zone.
PING = """
ovs-ofctl -O OpenFlow15 --bundle replace-flows br0 - <<'END'
priority=10,icmp,actions=ct(table=1,zone=5)
priority=1,arp,actions=normal
table=1,icmp,ct_state=+new+trk,actions=ct(commit,zone=5),normal
table=1,icmp,ct_state=+est+trk,actions=normal
END
ip netns exec h1 ping -q -c 3 -i 0.2 -w 30 10.0.0.2
ovs-appctl dpctl/dump-conntrack | grep zone=5
"""


def facts(scene: Scene, host: int = 1) -> dict[str, t.Any]:
    """What FACTS tells."""
    return t.cast("dict[str, t.Any]", json.loads(scene.sh(f"python3 - <<'END'\n{FACTS}\nEND", host)))


def variants(scene: Scene) -> str:
    """Put each variant on the host in its turn, and load it."""
    scene.populate()
    modules.install(scene.lab, scene.host(), modules.SHIPPED)
    modules.reload(scene.lab, scene.host())
    scene.sh(PING)
    seen = {case.variant: examine(scene, case) for case in CASES}
    if len(set(seen.values())) != len(seen) - len(modules.PACKED):
        raise Broken(f"variants have the same build-id: {seen}")
    return f"{len(seen)} variants, {sum(case.refusal is None for case in CASES)} of them carry traffic through a zone"


def examine(scene: Scene, case: Case) -> str:
    """The build-id of a variant. Raises ``Broken`` when it is not what it should be."""
    [file] = modules.variant(case.variant).glob(f"{modules.MODULE}*")
    before = facts(scene)["loaded"]
    modules.install(scene.lab, scene.host(), case.variant, case.folder)
    found = facts(scene)
    wanted = {
        "loaded": before,
        "path": f"{case.folder}/{file.name}",
        "file": hashlib.sha256(file.read_bytes()).hexdigest(),
        "file version": case.version,
        "file srcversion": bool(case.version),
        "for this kernel": case.variant != "foreign",
    }
    found["path"] = found["path"].partition("/modules/")[2].partition("/")[2]
    require(case, wanted, found)
    build_id = modules.build_id(file)
    if load(scene, case):
        scene.sh(PING)
        wanted = {"loaded": build_id, "version": case.version, "srcversion": bool(case.version)}
    else:
        wanted = {"loaded": None}
    require(case, wanted, facts(scene))
    return build_id


def load(scene: Scene, case: Case) -> bool:
    """Whether the variant on the disk loads. Raises ``Broken`` when that is not as it must be."""
    try:
        modules.reload(scene.lab, scene.host())
    except LabError as error:
        if case.refusal is None or case.refusal not in str(error):
            raise Broken(f"{case.variant} does not load: {error}") from error
        return False
    if case.refusal is not None:
        raise Broken(f"{case.variant} loads, instead of {case.refusal!r}")
    return True


def require(case: Case, wanted: dict[str, t.Any], found: dict[str, t.Any]) -> None:
    """Raise ``Broken`` unless all that is wanted was found."""
    wrong = {name: found[name] for name, value in wanted.items() if found[name] != value}
    if wrong:
        raise Broken(f"{case.variant}: {wrong} instead of {wanted}")


SCENARIOS = [("lab: module variants", "3.5.0", variants)]
