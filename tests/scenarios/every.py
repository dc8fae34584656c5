# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All scenarios, in the order of the modules and of the lists in them."""

from __future__ import annotations

import typing as t

from tests.scenarios import (
    again,
    attackers,
    broken,
    bypassed,
    connection,
    controllers,
    crowded,
    inband,
    kept,
    kernel,
    likeness,
    living,
    names,
    networks,
    ovn,
    pipelines,
    pods,
    protocols,
    reload,
    scene,
    services,
    starts,
    tracked,
    trees,
    versions,
)


class Scenario(t.NamedTuple):
    """``play`` on fresh ``hosts`` of ``backend`` that start with Open vSwitch ``version``; it returns what it measured."""

    name: str
    version: str
    play: t.Callable[[scene.Scene], str]
    backend: str = "uml"
    hosts: int = 1


SCENARIOS = [
    Scenario(*row)
    for group in (
        broken,
        connection,
        again,
        names,
        networks,
        ovn,
        crowded,
        kept,
        kernel,
        reload,
        bypassed,
        pipelines,
        pods,
        protocols,
        living,
        controllers,
        inband,
        services,
        likeness,
        starts,
        tracked,
        trees,
        attackers,
        versions,
    )
    for row in group.SCENARIOS
]
