# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hand-overs as operators meet them, on fresh lab hosts with traffic: one line for each scenario.

Prints, last, "N of N held"; writes build/scenarios.json. The exit status tells whether all held. Name the scenarios
to run, or parts of their names; without any, all are run.
"""

from __future__ import annotations

import argparse
import json
import time
import typing as t

from tests.lab.images import REPOSITORY, LabError, program
from tests.scenarios import (
    again,
    attackers,
    broken,
    connection,
    crowded,
    kept,
    likeness,
    living,
    names,
    networks,
    pipelines,
    scene,
    services,
    starts,
    versions,
)

GROUPS = (
    broken,
    connection,
    again,
    names,
    networks,
    crowded,
    kept,
    pipelines,
    living,
    services,
    likeness,
    starts,
    attackers,
    versions,
)


class Scenario(t.NamedTuple):
    """``play`` on ``count`` fresh hosts of ``backend`` that start with Open vSwitch ``version``."""

    name: str
    version: str
    play: t.Callable[[scene.Scene], str]
    backend: str = "uml"
    count: int = 1


def every() -> list[Scenario]:
    """All scenarios, in the order of the modules and of the lists in them."""
    return [Scenario(*row) for group in GROUPS for row in group.SCENARIOS]


def examine(scenario: Scenario, name: str, keep: bool) -> dict[str, t.Any]:
    """Run one scenario to its end; what it said, and the journals of the hosts when it did not hold."""
    began = time.monotonic()
    result: dict[str, t.Any] = {"name": scenario.name, "version": scenario.version, "held": True}
    try:
        with scene.hosts.exclusive(name):
            stage = scene.open_lab(name, scenario.backend, scenario.count, scenario.version)
            try:
                result["said"] = scenario.play(stage)
            except (scene.Broken, LabError) as error:
                result.update(held=False, said=str(error), journals=scene.journals(stage))
            finally:
                if not keep:
                    scene.hosts.down(name)
    except LabError as error:
        result.update(held=False, said=f"the lab did not start: {error}")
    result["seconds"] = round(time.monotonic() - began)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wanted", nargs="*", metavar="NAME", help="a scenario, or part of its name")
    parser.add_argument("--name", default="scenarios", help="name of the lab")
    parser.add_argument("--list", action="store_true", help="print the names and do nothing")
    parser.add_argument("--keep", action="store_true", help="leave the lab of the last scenario")
    options = parser.parse_args()
    chosen = [
        each for each in every() if not options.wanted or any(part in each.name for part in options.wanted)
    ]
    if options.list:
        print("\n".join(each.name for each in chosen))
        return 0
    results = []
    for number, each in enumerate(chosen, 1):
        result = examine(each, options.name, options.keep and number == len(chosen))
        results.append(result)
        verdict = "held" if result["held"] else "FAILED"
        seconds = result["seconds"]
        print(f"[{number}/{len(chosen)}] {each.name}: {verdict}: {result['said']} ({seconds} s)", flush=True)
        (REPOSITORY / "build/scenarios.json").write_text(json.dumps(results, indent=1) + "\n")
    held = sum(result["held"] for result in results)
    print(f"{held} of {len(results)} held")
    return 0 if results and held == len(results) else 1


if __name__ == "__main__":
    program(main)
