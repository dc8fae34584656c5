# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hand-overs as operators meet them, on fresh lab hosts with traffic: one line for each scenario.

Prints, last, "N of N held"; writes build/scenarios.xml (JUnit). The exit status tells whether all held. Name the scenarios
to run, or parts of their names; without any, all are run. pytest runs them (python -m pytest tests/scenarios), and
takes its own options here, too: -x ends with the first that does not hold, --lf runs those that did not hold last time,
--numprocesses=2 --dist=worksteal plays them on two labs beside each other. (More labs than processors lose packets for
want of time.)
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from tests.lab.images import REPOSITORY
from tests.scenarios.every import SCENARIOS


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wanted", nargs="*", metavar="NAME", help="a scenario, or part of its name")
    parser.add_argument("--name", default="scenarios", help="name of the lab")
    parser.add_argument("--list", action="store_true", help="print the names and do nothing")
    options, further = parser.parse_known_args()
    if options.list:
        names = [each.name for each in SCENARIOS]
        chosen = [
            name for name in names if not options.wanted or any(part in name for part in options.wanted)
        ]
        print("\n".join(chosen))
        return 0
    chosen = [f"--scenario={part}" for part in options.wanted]
    report = f"--junitxml={REPOSITORY / 'build/scenarios.xml'}"
    folder = str(Path(__file__).parent)
    return int(
        pytest.main(
            [
                "-v",
                "-o",
                "console_output_style=count",
                report,
                f"--lab={options.name}",
                *chosen,
                *further,
                folder,
            ]
        )
    )


if __name__ == "__main__":
    sys.exit(main())
