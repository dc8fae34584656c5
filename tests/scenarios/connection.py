# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible at work, by the playbook, as operators do it: its own connection goes through the bridge, a batch has a slow host."""

from __future__ import annotations

import functools
import json

from tests.harness import runs
from tests.scenarios.broken import FAULTS, VSWITCHD, spoil
from tests.scenarios.scene import Broken, Scene, measured, require_same, require_sound

STRATEGIES = ("make_before_break", "prefilled", "standby", "restart")


def through_the_bridge(strategy: str, scene: Scene) -> str:
    """The upgrade succeeds, and the host is as it was."""
    scene.populate("--management-bridge")
    before = scene.look()
    with scene.traffic() as traffic:
        done = runs.playbook(scene.lab, "4.0.0", strategy=strategy)
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
        done = runs.playbook(scene.lab, "4.0.0", strategy=strategy, manage_packages=False)
    if not done.returncode or "the hand-over was taken back" not in done.stdout:
        raise Broken(f"the playbook ended with {done.returncode}: {done.stdout[-1500:]}")
    require_sound(scene, "3.5.0", server=False)
    require_same(before, scene.look())
    measured(traffic).shorter_than(20)
    said = next(line for line in done.stdout.splitlines() if "the hand-over was taken back" in line)
    return f"{measured(traffic)}; {json.dumps(said.strip())[:200]}"


def slow_batch(scene: Scene) -> str:
    """The first host of a batch is done long before the second, and nobody works on it meanwhile: it must not go back."""
    scene.populate("--datapath-type", "netdev")
    for number in (1, 2):
        scene.install("4.0.0", number)
    slow = "/usr/local/bin/slow-python"
    scene.sh(f"printf '#!/bin/sh\nsleep 3; exec /usr/bin/python3 \"$@\"\n' >{slow}; chmod +x {slow}", 2)
    variables = scene.lab.inventory.parent / "host_vars" / f"{scene.host(2).name}.yml"
    variables.parent.mkdir()
    variables.write_text(f"ansible_python_interpreter: {slow}\n")
    done = runs.playbook(
        scene.lab,
        "4.0.0",
        forks=1,
        serial=2,
        confirm_timeout=9,
        reconnect_timeout=8,
        manage_packages=False,
    )
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if line.startswith(("fatal", "[ERROR]"))]
        raise Broken(f"the playbook ended with {done.returncode}: {' '.join(said)[-1500:]}")
    for number in (1, 2):
        require_sound(scene, "4.0.0", host=number)
    return "both are confirmed"


SCENARIOS = [
    ("a batch of two with a slow host", "3.5.0", slow_batch, "native", 2),
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
