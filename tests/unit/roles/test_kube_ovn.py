# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the files of the role promise each other, and the cluster."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml

TREE = Path(__file__).resolve().parents[3]
ROLE = TREE / "roles/kube_ovn"

if not ROLE.exists():
    pytest.skip("ansible-test units copies only what its tests import", allow_module_level=True)


def load(name: str) -> t.Any:
    return yaml.safe_load((ROLE / name).read_text())


def test_what_is_forgotten_is_what_a_use_of_the_role_begins_with() -> None:
    forgotten = load("tasks/forget.yml")[0]["ansible.builtin.set_fact"]
    known = load("vars/main.yml")
    assert {name: known[name] for name in forgotten} == forgotten
    registered = set(
        re.findall(r"register: (__kube_ovn_\w+)", "".join(map(Path.read_text, ROLE.glob("tasks/*.yml"))))
    )
    # Those that are read in the file that registers them alone.
    assert registered - set(forgotten) == {"__kube_ovn_begun", "__kube_ovn_ended"}


def test_every_entry_point_has_all_options_and_every_option_has_a_default() -> None:
    specs = load("meta/argument_specs.yml")["argument_specs"]
    assert set(specs) == {"main", "begin", "rehearse", "end"}
    for spec in specs.values():
        assert spec["options"] == specs["main"]["options"]
    defaults = load("defaults/main.yml")
    assert set(defaults) == set(specs["main"]["options"]) - {"kube_ovn_image"}
    for name, default in defaults.items():
        assert "{{" in str(default) or specs["main"]["options"][name]["default"] == default, name


def test_the_page_tells_no_other_default() -> None:
    defaults = load("defaults/main.yml")
    text = (ROLE / "README.md").read_text()
    for name, default in re.findall(r"^\| `(kube_ovn_\w+)` \| `([^`|]+)` \|", text, re.MULTILINE):
        assert str(defaults[name]).lower() == default.lower(), name
    for page in (ROLE / "README.md", TREE / "docs/kube-ovn.md"):
        named = set(re.findall(r"\bkube_ovn_[a-z_]+\b", page.read_text()))
        assert named <= {*defaults, "kube_ovn_image", "kube_ovn_result", "kube_ovn_strategy"}, page


def test_the_rights_are_for_the_daemonset_of_the_defaults() -> None:
    found = yaml.safe_load((TREE / "examples/kube-ovn/rbac.yml").read_text())["items"]
    defaults = load("defaults/main.yml")
    rules = [rule for each in found if each["kind"] == "Role" for rule in each["rules"]]
    assert [rule.get("resourceNames") for rule in rules] == [[defaults["kube_ovn_daemonset"]], None, None]
    assert not [rule for rule in rules if "*" in rule["verbs"] + rule["resources"]]


@pytest.mark.parametrize("name", ["look", "left", "away", "surge", "handover", "adopt", "rescue"])
def test_the_cluster_is_asked_from_the_controller_and_the_node_from_itself(name: str) -> None:
    def tasks(found: t.Any) -> t.Iterator[dict[str, t.Any]]:
        for each in found or []:
            yield each
            for part in ("block", "rescue", "always"):
                yield from tasks(each.get(part))

    for task in tasks(load(f"tasks/{name}.yml")):
        asks = [key for key in task if key.startswith("ovsops.hot_upgrade.")]
        if asks:
            assert (task.get("delegate_to") == "localhost") is asks[0].startswith(
                "ovsops.hot_upgrade.kube_"
            ), task["name"]
