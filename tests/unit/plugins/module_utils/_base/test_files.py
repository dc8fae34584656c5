# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base import files


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "state"
    files.write_durable(str(file), b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_durable(str(file), b"new")
    assert os.listdir(tmp_path) == ["state"]
    assert file.read_bytes() == b"old"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_link_in_the_place_of_the_new_file_gives_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever owns the directory puts the link there at the worst moment, which is any moment after the rename."""
    victim, file = tmp_path / "shadow", tmp_path / "pid"
    victim.touch()
    rename = os.rename

    def attacked(old: str, new: str) -> None:
        rename(old, new)
        assert os.stat(new).st_uid == 65534
        os.unlink(new)
        os.symlink(victim, new)

    monkeypatch.setattr(os, "rename", attacked)
    files.write_durable(str(file), b"7\n", 0o644, (65534, 65534))
    assert victim.stat().st_uid == 0
