# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import schema


@pytest.mark.parametrize("content", ["", "{}", "[1", '"x"', "[]"])
def test_a_schema_file_that_is_none(tmp_path: Path, content: str) -> None:
    file = tmp_path / schema.SCHEMA_FILES[0]
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert schema.disk_schema_version(str(tmp_path)) is None


def test_a_pipe_in_its_place_has_nobody_wait(tmp_path: Path) -> None:
    """Whoever is root in a container would keep root of the host waiting, in the middle of a hand-over."""
    file = tmp_path / schema.SCHEMA_FILES[0]
    file.parent.mkdir(parents=True)
    os.mkfifo(file)
    with pytest.raises(OSError, match="regular"):
        schema.read_schema(f"/proc/self/root{file}")
    assert schema.disk_schema_version(str(tmp_path)) is None


def test_of_a_container_no_link_is_followed_from_our_root_on(tmp_path: Path) -> None:
    (tmp_path / "real").write_text('{"version": "8"}')
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert schema.read_schema(str(tmp_path / "link")) == {"version": "8"}
    with pytest.raises(OSError, match="link"):
        schema.read_schema(f"/proc/self/root{tmp_path}/link")
