# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts in a folder: /proc and the mounted hierarchies of every way to boot systemd."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import cgroups
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Completed

ENGINE = "/system.slice/ovsops-handover-engine.service"
UNIT = "/system.slice/ovs-vswitchd.service"
UNIFIED = "28 23 0:23 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = (
    "30 23 0:25 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n"
    "31 23 0:26 / /sys/fs/cgroup/systemd rw shared:10 - cgroup cgroup rw,xattr,name=systemd\n"
    "32 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:11 - cgroup cgroup rw,cpu,cpuacct\n"
    "33 23 0:28 / /sys/fs/cgroup/memory rw shared:12 - cgroup cgroup rw,memory\n"
)


def a_host(root: Path, mounts: str, own: t.Mapping[str, str], groups: t.Iterable[str]) -> str:
    """A folder with process 7, which is in the groups ``own``, and the directories ``groups``."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/7").mkdir()
    (root / "proc/self/mountinfo").write_text(f"1 0 8:1 / / rw - ext4 /dev/ubda rw\n{mounts}")
    lines = [f"{number}:{name}:{path}\n" for number, (name, path) in enumerate(own.items())]
    (root / "proc/7/cgroup").write_text("".join(lines))
    for group in groups:
        (root / group).mkdir(parents=True, exist_ok=True)
    return str(root)


def entered(root: str) -> set[str]:
    """The directories of the groups that a process was written into."""
    top = Path(root)
    found = [path for path in top.rglob("cgroup.procs") if path.read_text() == "7"]
    return {str(path.parent.relative_to(top)) for path in found}


def test_a_process_is_moved_in_the_unified_hierarchy(tmp_path: Path) -> None:
    root = a_host(tmp_path, UNIFIED, {"": ENGINE}, [f"sys/fs/cgroup{UNIT}"])
    assert cgroups.move(7, {"": UNIT}, root) == []
    assert entered(root) == {f"sys/fs/cgroup{UNIT}"}


def test_a_process_is_moved_in_every_hierarchy(tmp_path: Path) -> None:
    own = {"cpu,cpuacct": "/system.slice", "memory": ENGINE, "name=systemd": ENGINE, "": ENGINE}
    wanted = {"cpu,cpuacct": "/system.slice", "memory": "/", "name=systemd": UNIT, "": UNIT}
    groups = ["memory", f"systemd{UNIT}", f"unified{UNIT}"]
    root = a_host(tmp_path, HYBRID, own, [f"sys/fs/cgroup/{group}" for group in groups])
    assert cgroups.move(7, wanted, root) == []
    assert entered(root) == {f"sys/fs/cgroup/{group}" for group in groups}


def test_a_group_that_is_gone_is_replaced_by_the_root_and_said(tmp_path: Path) -> None:
    root = a_host(tmp_path, UNIFIED, {"": ENGINE}, ["sys/fs/cgroup"])
    refused = cgroups.move(7, {"": "/user.slice/session-3.scope"}, root)
    assert refused == ["the control group /user.slice/session-3.scope is gone: / is used instead"]
    assert entered(root) == {"sys/fs/cgroup"}


def test_a_hierarchy_that_is_not_mounted_is_said(tmp_path: Path) -> None:
    root = a_host(tmp_path, UNIFIED, {"name=systemd": ENGINE, "": UNIT}, [])
    refused = cgroups.move(7, {"name=systemd": UNIT, "": UNIT}, root)
    assert len(refused) == 1
    assert "of the hierarchy name=systemd cannot be entered" in refused[0]


def test_a_mount_that_shows_a_part_of_the_hierarchy_only(tmp_path: Path) -> None:
    mounts = "28 23 0:23 /inner /sys/fs/my\\040group rw - cgroup2 cgroup2 rw\n"
    root = a_host(tmp_path, mounts, {"": "/inner/a"}, ["sys/fs/my group/b"])
    assert cgroups.move(7, {"": "/inner/b"}, root) == []
    assert entered(root) == {"sys/fs/my group/b"}


@pytest.mark.parametrize(
    "path", [ENGINE, "/system.slice/ovsops-handover-guard.service/child", "/a/ovsops-x.scope"]
)
def test_a_group_of_ours_is_found_in_whatever_hierarchy(tmp_path: Path, path: str) -> None:
    root = a_host(tmp_path, HYBRID, {"name=systemd": UNIT, "": path}, [])
    assert cgroups.ours(7, root) == path


def test_a_unit_is_not_ours_because_of_its_name(tmp_path: Path) -> None:
    root = a_host(tmp_path, HYBRID, {"name=systemd": UNIT, "": "/ovsops-users.slice/x.service"}, [])
    assert cgroups.ours(7, root) is None


@pytest.mark.parametrize(
    ("shown", "owner"),
    [
        (
            "● ovs-vswitchd.service - Open vSwitch Forwarding Unit\n     Loaded: loaded\n",
            "ovs-vswitchd.service",
        ),
        ("* init.scope - System and Service Manager\n", "init.scope"),
        ("○ session-3.scope\n", "session-3.scope"),
        ("", None),
    ],
)
def test_systemd_says_who_owns_a_process(tmp_path: Path, shown: str, owner: str | None) -> None:
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    asked = []

    def runner(argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        asked.append(argv[-1])
        return Completed(
            0 if shown else 4, shown, "" if shown else "PID 7 does not belong to any loaded unit."
        )

    assert cgroups.unit_of(7, str(tmp_path), runner) == owner
    assert asked == ["7"]


def test_nobody_is_asked_where_systemd_does_not_run(tmp_path: Path) -> None:
    def runner(argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        raise AssertionError(argv)

    assert cgroups.unit_of(7, str(tmp_path), runner) is None


def test_a_process_that_has_ended_is_nowhere(tmp_path: Path) -> None:
    assert cgroups.places(7, str(tmp_path)) == {}
    assert cgroups.move(7, {"": UNIT}, str(tmp_path)) == []
