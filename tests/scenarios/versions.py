# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every pair of neighbouring versions and back, with the conversion of the schema, and many flows."""

from __future__ import annotations

import functools

from tests.scenarios.scene import Broken, Scene, upgrade

PAIRS = (("2.15.0", "3.1.0"), ("3.1.0", "3.5.0"), ("3.5.0", "4.0.0"))
MAKE_BEFORE_BREAK, STANDBY = "make_before_break", "standby"
# The newer one changes the kernel's upcall dispatch as soon as it opens the datapath, which the older one cannot share then.
DISPATCH = ("2.15.0", "3.1.0")
# 3.1.0 counts no CPU in the first 10 s after a boot, and then has no handler thread: every upcall is lost.
SECOND_START = (
    "until [ $(cut -d. -f1 /proc/uptime) -gt 10 ]; do sleep 1; done; systemctl restart openvswitch-switch"
)
# What "standby" and "restart" may cost on a lab host with one CPU, in seconds without a packet.
BOUND = 10.0


def pair(to: str, strategy: str, flows: int, scene: Scene) -> str:
    """Upgrade or downgrade with the strategy that the plan is to choose."""
    scene.sh(SECOND_START)
    scene.populate("--flows", str(flows))
    result, losses = upgrade(scene, to, no_loss=strategy == MAKE_BEFORE_BREAK)
    chosen = result["plan"]["strategy"]
    if chosen != strategy:
        raise Broken(f"the plan chose {chosen}: {result['plan']['reasons']}")
    losses.shorter_than(BOUND)
    schema = f"{result['plan']['before']['schema']} -> {result['plan']['after']['schema']}"
    return f"{strategy}, schema {schema}, {losses}, window {result['window_ms']} ms"


def strategy_of(old: str, new: str) -> str:
    return STANDBY if (old, new) == DISPATCH else MAKE_BEFORE_BREAK


SCENARIOS = [
    (f"{old} to {new}", old, functools.partial(pair, new, strategy_of(old, new), 2000))
    for low, high in PAIRS
    for old, new in ((low, high), (high, low))
]
SCENARIOS.append(("100,000 flows", "3.5.0", functools.partial(pair, "4.0.0", MAKE_BEFORE_BREAK, 100_000)))
