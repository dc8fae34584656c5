# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real hierarchies: whatever this machine has mounted, one or many, of both kinds."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import cgroups


@pytest.fixture(name="groups")
def _groups() -> t.Iterator[dict[str, Path]]:
    """A new group below our own in each hierarchy where that can be made: hierarchy -> its directory."""
    name = f"test-{secrets.token_hex(4)}"
    made = {}
    for hierarchy, path in cgroups.places(os.getpid()).items():
        directory = cgroups._directory(hierarchy, f"{path.rstrip('/')}/{name}", "/")
        with contextlib.suppress(OSError):
            if directory is not None:
                os.mkdir(directory)
                made[hierarchy] = Path(directory)
                _furnish(Path(directory))
    if not made:
        pytest.skip("no control group can be made here")
    yield made
    for group in made.values():
        group.rmdir()


def _furnish(group: Path) -> None:
    """An empty set of CPUs takes nobody in (cpuset of version 1)."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (group / name).exists() and (group / "cgroup.clone_children").exists():
            (group / name).write_text((group.parent / name).read_text())


def test_a_process_goes_into_all_of_them_and_back(groups: dict[str, Path]) -> None:
    with subprocess.Popen(["sleep", "300"]) as child:
        try:
            home = cgroups.places(child.pid)
            wanted = {
                hierarchy: f"{home[hierarchy].rstrip('/')}/{directory.name}"
                for hierarchy, directory in groups.items()
            }
            assert cgroups.move(child.pid, wanted) == []
            assert cgroups.places(child.pid) == {**home, **wanted}
            assert cgroups.move(child.pid, home) == []
            assert cgroups.places(child.pid) == home
        finally:
            child.kill()


def test_of_a_group_that_is_gone_the_root_takes_over(groups: dict[str, Path]) -> None:
    with subprocess.Popen(["sleep", "300"]) as child:
        try:
            home = cgroups.places(child.pid)
            gone = dict.fromkeys(groups, "/not/there")
            refused = cgroups.move(child.pid, gone)
            assert {**home, **dict.fromkeys(groups, "/")} == cgroups.places(child.pid)
            assert len(refused) == len(groups)
            cgroups.move(child.pid, home)
        finally:
            child.kill()
