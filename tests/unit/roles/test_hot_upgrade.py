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
from jinja2.nativetypes import NativeEnvironment

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.package_changes import changes

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
    assert set(specs) == {"main", "confirmation", "protect", "rehearse", "status", *phases}
    defaults = load("defaults/main.yml")
    for name, spec in specs.items():
        assert spec["options"] == specs["main"]["options"], name
    # For these no value means no limit.
    limits = {f"hot_upgrade_max_{what}" for what in ("lost_established", "lost_new", "gap_ms")}
    assert set(defaults) == set(specs["main"]["options"]) - limits
    for name, default in defaults.items():
        assert "{{" in str(default) or specs["main"]["options"][name]["default"] == default, name


@pytest.mark.parametrize(
    ("installed", "wanted", "comes"),
    [
        ({}, [], False),
        (
            {"stdout": "Inst openvswitch-common [3.1.0-2] (3.5.0-1)\nInst python3-openvswitch (3.5.0-1)"},
            [],
            False,
        ),
        ({"stdout": "Inst openvswitch-datapath-dkms [3.1.0-2] (3.5.0-1)"}, [], True),
        ({"stdout": "Inst acme-ovs (1.2)"}, [], False),
        ({"stdout": "Inst acme-ovs (1.2)"}, ["acme-ovs"], True),
        ({"results": ["Installed: acme-ovs-1.2-1.x86_64"]}, ["acme-ovs"], True),
    ],
)
def test_packages_that_may_bring_a_module(
    installed: dict[str, t.Any], wanted: list[str], comes: bool
) -> None:
    daemons = ["openvswitch-common", "openvswitch-switch"]
    filters = {
        "intersect": lambda one, two: [each for each in one if each in two],
        "difference": lambda one, two: [each for each in one if each not in two],
    }
    environment = NativeEnvironment()
    environment.filters.update(filters)
    found = environment.from_string(load("vars/main.yml")["__hot_upgrade_module_comes"]).render(
        __hot_upgrade_changes=changes(installed),
        __hot_upgrade_packages=daemons,
        hot_upgrade_packages=[*daemons, *wanted],
    )
    assert found is comes


def test_the_preflight_asks_what_the_phase_does() -> None:
    """What the reload is asked with comes before the packages, too, so that a refusal does."""

    def asked(name: str) -> dict[str, t.Any]:
        (found,) = [
            task["ovsops.hot_upgrade.ovs_kmod_reload"]
            for task in load(name)
            if "ovsops.hot_upgrade.ovs_kmod_reload" in task
        ]
        return {key: value for key, value in found.items() if key in ("bypass", "held", "target_version")}

    assert asked("tasks/preflight.yml") == asked("tasks/kernel_module.yml")
    assert set(asked("tasks/preflight.yml")) == {"bypass", "held", "target_version"}
