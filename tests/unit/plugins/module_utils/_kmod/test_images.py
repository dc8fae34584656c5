# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The old module's file is there when it is needed, and is never another one's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._kmod import images
from tests.unit.plugins.module_utils._kmod.test_plan import MODULE
from tests.unit.plugins.module_utils._ovs.test_module_image import elf, note

OLD, NEW = (elf({".note.gnu.build-id": note(each)}) for each in (b"\xaa\xaa", b"\xbb\xbb"))


@pytest.fixture(name="disk")
def _disk(tmp_path: Path) -> Path:
    path = tmp_path / "openvswitch.ko"
    path.write_bytes(OLD)
    return path


def test_kept_before_the_package_replaces_it(disk: Path, tmp_path: Path) -> None:
    kept = str(tmp_path / "kept")
    before = dataclasses.replace(MODULE, disk_build_id="aaaa", disk_path=str(disk))
    assert images.keep(before, kept) == f"{kept}/openvswitch-aaaa.ko"
    assert images.keep(before, kept) is None
    disk.write_bytes(NEW)
    after = dataclasses.replace(before, disk_build_id="bbbb")
    found = images.of_loaded(after, kept)
    assert found is not None
    assert found.content == OLD


def test_a_kept_file_that_somebody_has_replaced_is_none(disk: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    before = dataclasses.replace(MODULE, disk_build_id="aaaa", disk_path=str(disk))
    images.keep(before, str(kept))
    (kept / "openvswitch-aaaa.ko").write_bytes(NEW)
    assert images.kept(before, str(kept)) is None
    assert images.of_loaded(dataclasses.replace(before, disk_build_id="bbbb"), str(kept)) is None


def test_the_one_before_the_one_before_is_not_kept(disk: Path, tmp_path: Path) -> None:
    first = dataclasses.replace(MODULE, disk_build_id="aaaa", disk_path=str(disk))
    images.keep(first, str(tmp_path / "kept"))
    images.keep(dataclasses.replace(first, build_id="cccc", disk_build_id="cccc"), str(tmp_path / "kept"))
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["openvswitch-cccc.ko"]


def test_another_ones_file_is_not_kept(disk: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is another one already"):
        images.keep(dataclasses.replace(MODULE, disk_path=str(disk)), str(tmp_path / "kept"))
    assert not (tmp_path / "kept").exists()


def test_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="built into the kernel, or its file is not there"):
        images.keep(dataclasses.replace(MODULE, disk_path=None), str(tmp_path))
    with pytest.raises(Refused, match="it is not loaded"):
        images.keep(dataclasses.replace(MODULE, loaded=False), str(tmp_path))


def test_what_is_on_the_disk_serves_only_if_it_is_the_same(disk: Path, tmp_path: Path) -> None:
    same = dataclasses.replace(MODULE, disk_build_id="aaaa", disk_path=str(disk))
    found = images.of_loaded(same, str(tmp_path / "none"))
    assert found is not None
    assert found.content == OLD
    assert images.of_loaded(dataclasses.replace(same, disk_build_id="bbbb"), str(tmp_path / "none")) is None
    unknown = dataclasses.replace(same, build_id=None, disk_build_id=None)
    assert images.of_loaded(unknown, str(tmp_path / "none")) is None


def test_one_that_nothing_tells_apart_is_known_by_its_boot(disk: Path, tmp_path: Path) -> None:
    unknown = dataclasses.replace(MODULE, build_id=None, disk_build_id=None, disk_path=str(disk))
    images.keep(unknown, str(tmp_path / "kept"))
    assert images.of_loaded(unknown, str(tmp_path / "kept")) is not None
