# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the files of the role promise each other."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml

ROLE = Path(__file__).resolve().parents[3] / "roles/hot_upgrade"

if not ROLE.exists():
    pytest.skip("ansible-test units copies only what its tests import", allow_module_level=True)


def load(name: str) -> t.Any:
    return yaml.safe_load((ROLE / name).read_text())


def test_what_is_forgotten_is_what_a_phase_begins_with() -> None:
    """A phase that is called alone has the values of vars, and one after a whole run those of forget."""
    forgotten = load("tasks/forget.yml")[0]["ansible.builtin.set_fact"]
    known = load("vars/main.yml")
    assert {name: known[name] for name in forgotten} == forgotten


def test_every_phase_is_documented_with_all_options_and_every_option_has_a_default() -> None:
    specs = load("meta/argument_specs.yml")["argument_specs"]
    phases = set(re.findall(r"file: (\w+)[.]yml", (ROLE / "tasks/main.yml").read_text())) - {
        "begin",
        "rescue",
    }
    assert set(specs) == {"main", "confirmation", "protect", "rehearse", *phases}
    defaults = load("defaults/main.yml")
    for name, spec in specs.items():
        assert spec["options"] == specs["main"]["options"], name
    assert set(defaults) == set(specs["main"]["options"])
    for name, option in specs["main"]["options"].items():
        assert "{{" in str(defaults[name]) or option["default"] == defaults[name], name
