# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Only their owner reads them, and nobody sees half of one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils import private_files


def mode(path: Path) -> str:
    return oct(path.stat().st_mode & 0o777)


def test_file_and_folder_are_for_their_owner(tmp_path: Path) -> None:
    folder = tmp_path / "a/b"
    private_files.make_folder(str(folder))
    private_files.make_folder(str(folder))
    private_files.write(str(folder / "x"), "gr\u00fc\ud800")
    assert (mode(folder), mode(folder / "x")) == ("0o700", "0o600")
    assert (folder / "x").read_bytes() == "gr\u00fc?".encode()


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    private_files.make_folder(str(tmp_path))
    assert mode(tmp_path) == "0o755"


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("old")
    (tmp_path / "x").symlink_to(tmp_path / "precious")
    private_files.write(str(tmp_path / "x"), "new")
    assert (tmp_path / "precious").read_text() == "old"
    assert not (tmp_path / "x").is_symlink()


def test_what_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private_files.write(str(tmp_path / "x"), "old")

    def full(descriptor: int) -> None:
        raise OSError("full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        private_files.write(str(tmp_path / "x"), "new")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "old"
