# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils import _supervise
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._process import Process, identify


def test_a_kept_library_is_found_by_its_short_names(tmp_path: Path) -> None:
    library = tmp_path / "libofproto-2.15.so.0.0.4"
    library.write_bytes(b"code")
    _supervise._link_short_names(str(library))
    _supervise._link_short_names(str(library))
    assert sorted(os.listdir(tmp_path)) == [
        "libofproto-2.15.so.0",
        "libofproto-2.15.so.0.0",
        "libofproto-2.15.so.0.0.4",
    ]
    assert (tmp_path / "libofproto-2.15.so.0").read_bytes() == b"code"


def test_a_stopped_process_goes_on_whatever_happens_meanwhile() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        process = identify(child.pid)
        assert isinstance(process, Process)
        try:
            with contextlib.suppress(KeyError), _supervise.stopped(process):
                assert os.waitpid(child.pid, os.WUNTRACED)[0] == child.pid
                assert _state(child.pid) == "T"
                raise KeyError
            assert os.waitpid(child.pid, os.WCONTINUED)[0] == child.pid
        finally:
            child.kill()


def test_a_held_unit_does_not_restart_and_starts_as_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = tmp_path / "ovsdb-server.service.d" / "hold.conf"
    monkeypatch.setattr(_supervise.Systemd, "_held", str(held))
    plain = _supervise.Systemd("ovsdb-server.service", "ovsdb-server", "/run/openvswitch")
    assert plain.hold()
    assert held.read_text() == "[Service]\nRestart=no\n"
    assert not plain.hold()
    assert plain.let_go()
    told = _supervise.Systemd("ovsdb-server.service", "ovsdb-server", "/run/openvswitch", ("/bin/x", "a $b%"))
    assert told.hold()
    assert held.read_text().splitlines()[2:] == ["ExecStart=", 'ExecStart="/bin/x" "a $$b%%"']


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
