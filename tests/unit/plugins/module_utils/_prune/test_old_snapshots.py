# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which snapshots are removed, and what is never touched."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._prune.old_snapshots import prune


def snapshot(folder: Path, name: str, when: int) -> Path:
    (folder / name).mkdir()
    (folder / name / "manifest.json").write_text("{}")
    os.utime(folder / name / "manifest.json", (when, when))
    return folder / name


def test_the_newest_stay_and_so_does_what_is_no_snapshot(tmp_path: Path) -> None:
    taken = snapshot(tmp_path, "now", 1)  # whatever its clock says
    old = [snapshot(tmp_path, name, when) for name, when in (("b", 10), ("a", 20), ("c", 30))]
    (tmp_path / "theirs").mkdir()
    (tmp_path / "link").symlink_to(old[0])
    assert prune(str(taken), 2, None, check_mode=True) == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert len(list(tmp_path.iterdir())) == 6
    assert prune(str(taken), 2, None, check_mode=False) == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "link", "now", "theirs"]
    assert prune(str(taken), 2, None, check_mode=False) == []


def test_a_folder_that_nobody_has_made_yet_has_none(tmp_path: Path) -> None:
    assert prune(str(tmp_path / "later" / "now"), 2, None, check_mode=True) == []


def test_none_is_no_number_to_keep(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="Keep at least 1"):
        prune(str(tmp_path / "now"), 0, None, check_mode=False)


def test_none_of_more_days_stays(tmp_path: Path) -> None:
    now = int(time.time())
    taken = snapshot(tmp_path, "now", now)
    snapshot(tmp_path, "young", now - 86400)
    old = snapshot(tmp_path, "old", now - 3 * 86400)
    assert prune(str(taken), None, 2, check_mode=False) == [str(old)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["now", "young"]
    with pytest.raises(Refused, match="keep_days=0"):
        prune(str(taken), None, 0, check_mode=False)
