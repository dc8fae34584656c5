# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of a rehearsal."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import rehearsed

RECORD = {
    "at": "2026-11-23T06:15:00+00:00",
    "from": "3.5.0",
    "to": "4.0.0",
    "passed": True,
    "passed_back": False,
}


def test_what_is_kept_is_told(tmp_path: Path) -> None:
    (tmp_path / rehearsed.RECORDS).mkdir(parents=True)
    rehearsed.keep({**RECORD, "forward": {"flows": 7}}, str(tmp_path))
    assert rehearsed.last(str(tmp_path)) == RECORD


@pytest.mark.parametrize("text", [None, "", "[]", "{}", "7"])
def test_what_cannot_be_read_is_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / rehearsed.RECORDS).mkdir(parents=True)
        (tmp_path / rehearsed.RECORDS / "last.json").write_text(text)
    assert rehearsed.last(str(tmp_path)) is None
