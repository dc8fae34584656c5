# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts whose files have the start of a service do more than start it, or keep it from starting."""

from __future__ import annotations

import functools

from scene import SPANNING_TREE, Broken, Scene, measured, require_same, require_sound, upgrade

OPTIONS = "/etc/default/openvswitch-switch"
DELETING = f"""
echo 'OVS_CTL_OPTS="--delete-bridges --delete-transient-ports --external-id=hostname=elsewhere"' >> {OPTIONS}
echo another-name > /etc/openvswitch/system-id.conf
ovs-vsctl set port p2 other_config:transient=true
"""


def deleting(options: tuple[str, ...], scene: Scene) -> str:
    """A start of ovsdb-server deletes bridges and ports and changes the host's name: the hand-over's does not."""
    scene.populate(*options)
    scene.sh(DELETING)
    result, losses = upgrade(scene, "4.0.0", no_loss=not options)
    losses.shorter_than(10)
    for what in ("all bridges", "the ports with", "external_ids:hostname", "another-name"):
        if not any(what in warning for warning in result["plan"]["warnings"]):
            raise Broken(f"the plan does not warn of {what}: {result['plan']['warnings']}")
    return f"{result['plan']['strategy']}, {losses}; {'; '.join(result['plan']['warnings'])}"


def unusable(options: str, words: str, scene: Scene) -> str:
    """ovs-ctl cannot take the options: the service would never start again, so nothing is begun."""
    scene.populate()
    scene.sh(f"cat >> {OPTIONS} <<'END'\n{options}\nEND")
    scene.install("4.0.0")
    before = scene.look()
    with scene.traffic() as traffic:
        result = scene.module("ovs_handover", {})
    require_sound(scene, "3.5.0")
    require_same(before, scene.look())
    measured(traffic).none()
    if not result["failed"] or words not in result["msg"] or OPTIONS not in result["msg"]:
        raise Broken(f"it does not say {words!r}: {result.get('msg')}")
    return str(result["msg"])


SCENARIOS = [
    ("a start deletes bridges and ports", "3.5.0", functools.partial(deleting, ())),
    ("a start deletes bridges, spanning tree", "3.5.0", functools.partial(deleting, (SPANNING_TREE,))),
    (
        "a start with a variable that is not expanded",
        "3.5.0",
        functools.partial(
            unusable, 'OVS_CTL_OPTS="$OVS_CTL_OPTS --no-mlockall"', "nothing in it is expanded"
        ),
    ),
]
