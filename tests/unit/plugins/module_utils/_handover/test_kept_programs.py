# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import kept_programs


def test_a_kept_library_is_found_by_its_short_names(tmp_path: Path) -> None:
    library = tmp_path / "libofproto-2.15.so.0.0.4"
    library.write_bytes(b"code")
    kept_programs._link_short_names(str(library))
    kept_programs._link_short_names(str(library))
    assert sorted(os.listdir(tmp_path)) == [
        "libofproto-2.15.so.0",
        "libofproto-2.15.so.0.0",
        "libofproto-2.15.so.0.0.4",
    ]
    assert (tmp_path / "libofproto-2.15.so.0").read_bytes() == b"code"
