# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How pytest runs the scenarios: which, on whose lab, and what is said of each.

``stage``  fresh lab hosts as the scenario of the test wants them; they end with the test.
"""

from __future__ import annotations

import typing as t

import pytest

from tests.lab import hosts
from tests.scenarios import scene
from tests.scenarios.every import Scenario

SAID = "said"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("scenarios")
    group.addoption("--lab", default="scenarios", help="name of the lab")
    group.addoption(
        "--scenario",
        action="append",
        default=[],
        metavar="NAME",
        help="only scenarios with this in their name",
    )
    group.addoption("--keep", action="store_true", help="leave the lab of the last scenario")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = config.getoption("--scenario")
    kept = [item for item in items if not wanted or any(part in name_of(item) for part in wanted)]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def name_of(item: pytest.Item) -> str:
    """The name of the scenario that a test plays."""
    function = t.cast("pytest.Function", item)
    return t.cast("Scenario", function.callspec.params["scenario"]).name


@pytest.fixture
def stage(scenario: Scenario, request: pytest.FixtureRequest, worker_id: str) -> t.Iterator[scene.Scene]:
    # Workers of pytest-xdist play beside each other, each on a lab of its own.
    name = request.config.getoption("--lab") + ("" if worker_id == "master" else f"-{worker_id}")
    last = request.session.items[-1] is request.node
    with hosts.exclusive(name):
        made = scene.open_lab(name, scenario.backend, scenario.hosts, scenario.version)
        try:
            yield made
        finally:
            if not (last and request.config.getoption("--keep")):
                hosts.down(name)


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Beside the name of a scenario, what it measured, or what was broken."""
    if report.when == "call" and report.failed:
        return "failed", "F", f"FAILED: {str(report.longrepr).splitlines()[0][:400]}"
    if report.when != "call" or not report.passed:
        return None
    said = dict(report.user_properties).get(SAID, "")
    return "passed", ".", f"held: {said} ({report.duration:.0f} s)"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    held, failed, broken = (len(terminalreporter.getreports(kind)) for kind in ("passed", "failed", "error"))
    if held or failed or broken:
        terminalreporter.write_line(f"{held} of {held + failed + broken} held")
