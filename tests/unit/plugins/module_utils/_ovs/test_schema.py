# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import schema


@pytest.mark.parametrize("content", ["", "{}", "[1", '"x"', "[]"])
def test_a_schema_file_that_is_none(tmp_path: Path, content: str) -> None:
    file = tmp_path / schema.SCHEMA_FILES[0]
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert schema.disk_schema_version(str(tmp_path)) is None
