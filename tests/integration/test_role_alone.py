# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role promises before it touches a host: a machine without Open vSwitch is enough to see it."""

from __future__ import annotations

import json
import subprocess
import typing as t
from pathlib import Path

import pytest

from tests.harness import runs

PLAY = """
- hosts: all
  gather_facts: false
  become: true
  tasks:
    - ansible.builtin.include_role:
        name: ovsops.hot_upgrade.hot_upgrade
"""


def play(place: Path, **variables: t.Any) -> subprocess.CompletedProcess[str]:
    """Run the role on this machine, by a play that becomes root as plays on switches do."""
    inventory = {"all": {"hosts": {"here": {"ansible_connection": "local"}}}}
    (place / "inventory.json").write_text(json.dumps(inventory))
    (place / "play.yml").write_text(PLAY)
    return runs.play(
        runs.playbook_argv([place / "inventory.json"], variables, playbook=str(place / "play.yml"))
    )


@pytest.mark.parametrize("folder", ["/proc/nowhere", "/proc/version"])
def test_a_report_folder_that_cannot_be_written_is_refused_before_anything(
    tmp_path: Path, folder: str
) -> None:
    done = play(tmp_path, hot_upgrade_report_dir=folder)
    assert done.returncode != 0
    assert (
        f"hot_upgrade_report_dir is {folder}, and the user who runs Ansible cannot write there" in done.stdout
    )
    assert "Look at Open vSwitch" not in done.stdout
    assert "failed=1 " in done.stdout


def test_a_report_folder_is_made_and_has_what_failed(tmp_path: Path) -> None:
    done = play(tmp_path, hot_upgrade_report_dir=str(tmp_path / "reports"))
    assert done.returncode != 0
    result = json.loads((tmp_path / "reports/here.json").read_text())
    assert result["outcome"] == "failed"
    assert "Open vSwitch is not installed" in result["failure"]
