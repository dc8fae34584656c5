# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible's own connection goes through a bridge of the host that is upgraded, by the playbook, as operators do it."""

from __future__ import annotations

import functools
import json

import remote
from broken import FAULTS, VSWITCHD, spoil
from scene import Broken, Scene, measured, require_same, require_sound

STRATEGIES = ("make_before_break", "standby", "restart")


def through_the_bridge(strategy: str, scene: Scene) -> str:
    """The upgrade succeeds, and the host is as it was."""
    scene.populate("--management-bridge")
    before = scene.look()
    with scene.traffic() as traffic:
        done = remote.playbook(scene.lab, "4.0.0", strategy=strategy)
    if done.returncode:
        raise Broken(f"the playbook ended with {done.returncode}: {done.stdout[-1500:]}")
    require_sound(scene, "4.0.0")
    require_same(before, scene.look())
    losses = measured(traffic)
    if strategy == "make_before_break":
        losses.none()
    losses.shorter_than(10)
    return str(losses)


def broken_through_the_bridge(strategy: str, scene: Scene) -> str:
    """A new version that is no good: nobody has to reconnect by hand, the host goes back by itself."""
    scene.populate("--management-bridge")
    scene.install("4.0.0")
    spoil(scene, FAULTS["crashes at start"], VSWITCHD)
    before = scene.look()
    with scene.traffic() as traffic:
        done = remote.playbook(scene.lab, "4.0.0", strategy=strategy, manage_packages=False)
    if not done.returncode or "the hand-over was taken back" not in done.stdout:
        raise Broken(f"the playbook ended with {done.returncode}: {done.stdout[-1500:]}")
    require_sound(scene, "3.5.0", server=False)
    require_same(before, scene.look())
    measured(traffic).shorter_than(20)
    said = next(line for line in done.stdout.splitlines() if "the hand-over was taken back" in line)
    return f"{measured(traffic)}; {json.dumps(said.strip())[:200]}"


SCENARIOS = [
    *(
        (f"{name}: SSH through the bridge", "3.5.0", functools.partial(through_the_bridge, name))
        for name in STRATEGIES
    ),
    *(
        (
            f"{name}: SSH through the bridge, new version crashes at start",
            "3.5.0",
            functools.partial(broken_through_the_bridge, name),
        )
        for name in STRATEGIES
    ),
]
