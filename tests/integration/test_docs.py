# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pages tell an operator to type is there: playbooks, modules, variables, tags, entry points."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.lab.images import REPOSITORY

PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "roles/hot_upgrade/README.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
ROLE = REPOSITORY / "roles/hot_upgrade"


def words(pattern: str, *paths: Path) -> set[str]:
    return {found for path in paths for found in re.findall(pattern, path.read_text())}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_named_exists(page: Path) -> None:
    playbooks = words(r"ansible-playbook [^\n`]*?ovsops\.hot_upgrade\.(\w+)", page)
    assert playbooks <= {path.stem for path in (REPOSITORY / "playbooks").glob("*.yml")}
    modules = words(r"-m ovsops\.hot_upgrade\.(\w+)", page)
    assert modules <= {path.stem for path in (REPOSITORY / "plugins/modules").glob("*.py")}
    known = words(r"\bhot_upgrade_\w+", *(REPOSITORY / "playbooks").glob("*.yml"), *ROLE.rglob("*.yml"))
    assert words(r"\bhot_upgrade_[a-z]\w*", page) <= known


def test_the_role_tells_of_every_entry_point_and_no_other_default() -> None:
    text = (ROLE / "README.md").read_text()
    specs = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]
    table = text.partition("## Entry points")[2]
    told = set(re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", table, re.MULTILINE))
    assert told - {"tasks_from"} == set(specs)
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    for name, default in re.findall(r"^\| `(hot_upgrade_\w+)` \| `([^`|]+)` \|", text, re.MULTILINE):
        assert str(defaults[name]).lower() == default.lower(), name
