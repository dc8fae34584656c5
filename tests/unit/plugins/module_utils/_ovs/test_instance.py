# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Unreachable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import instance
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
    identify,
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


def test_what_is_asked_of_a_number_is_of_the_process_that_had_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon of another user ends while its arguments are judged: a process of root's with its number would vouch for them."""
    us, ended = identify(os.getpid()), False

    def judged(*_: object) -> None:
        nonlocal ended
        ended = True

    assert us is not None
    monkeypatch.setattr(instance, "alive", lambda _process: not ended)
    monkeypatch.setattr(instance.likeness, "drops", lambda _argv: True)
    monkeypatch.setattr(instance, "doubt_of_arguments", judged)
    with pytest.raises(Unreachable, match="has ended"):
        instance.instance_of(us)
    with pytest.raises(Unreachable, match="is gone"):
        instance.like_of(instance.Instance(us, ("ovs-vswitchd",), {}))
