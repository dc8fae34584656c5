# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import instance
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
)


def test_libraries_of_kept_programs_go_with_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(instance, "KEPT", (f"{tmp_path}/",))
    (tmp_path / "old/lib/x.so").parent.mkdir(parents=True)
    (tmp_path / "old/lib/x.so").touch()
    inherited = {"LD_LIBRARY_PATH": f"{tmp_path}/gone/lib:/opt/ovs/lib", "PATH": f"{tmp_path}/gone:/bin"}
    found = instance.Instance(Process(1, 1), ("x",), inherited)
    assert instance.environment_of(found, "/usr/sbin") == {
        "PATH": "/bin",
        "LD_LIBRARY_PATH": "/opt/ovs/lib",
    }
    kept = instance.environment_of(found, f"{tmp_path}/old")
    assert kept["LD_LIBRARY_PATH"] == f"{tmp_path}/old/lib:/opt/ovs/lib"
