# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the programs of packages are found and started; tests/integration/test_rehearsal.py has real ones."""

from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._rehearsal import programs
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Completed

VERSION = "ovs-vswitchd (Open vSwitch) 4.0.0\n"


class Runner:
    """Notes what it is asked to run, and says ``out``."""

    def __init__(self, out: str = VERSION, rc: int = 0, err: str = "") -> None:
        self.done: list[list[str]] = []
        self.answer = Completed(rc, out, err)

    def __call__(self, argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        self.done.append(list(argv))
        return self.answer


@pytest.fixture(name="tree")
def _tree(tmp_path: Path) -> Path:
    """What Debian's packages unpack to."""
    for name in ("usr/sbin/ovsdb-server", "usr/bin/ovsdb-tool", "usr/lib/openvswitch-switch/ovs-vswitchd"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        path.chmod(0o755)
    schema = tmp_path / "usr/share/openvswitch/vswitch.ovsschema"
    schema.parent.mkdir(parents=True)
    schema.write_text(json.dumps({"version": "8.9.0"}))
    return tmp_path


def test_programs_are_found_where_packages_have_them(tree: Path) -> None:
    found = programs.find(str(tree), Runner())
    assert (found.version, found.schema["version"]) == ("4.0.0", "8.9.0")
    assert found.vswitchd == (f"{tree}/usr/lib/openvswitch-switch/ovs-vswitchd",)
    assert found.tool == (f"{tree}/usr/bin/ovsdb-tool",)


def test_their_libraries_come_first(tree: Path) -> None:
    (tree / "usr/lib/x86_64-linux-gnu").mkdir()
    (tree / "usr/lib/x86_64-linux-gnu/libofproto.so.4").write_text("")
    found = programs.find(str(tree), Runner())
    assert found.server == (
        "env",
        f"LD_LIBRARY_PATH={tree}/usr/lib/x86_64-linux-gnu",
        f"{tree}/usr/sbin/ovsdb-server",
    )


def test_with_a_c_library_of_their_own_its_loader_starts_them(tree: Path) -> None:
    """The loader of the host would refuse another C library than its own."""
    folder = tree / "usr/lib/x86_64-linux-gnu"
    folder.mkdir()
    for name in ("libc.so.6", "ld-linux-x86-64.so.2"):
        (folder / name).write_text("")
    found = programs.find(str(tree), Runner())
    assert found.server == (
        f"{folder}/ld-linux-x86-64.so.2", "--library-path", str(folder), f"{tree}/usr/sbin/ovsdb-server",
    )  # fmt: skip


def test_links_of_a_container_lead_from_its_root_on(tree: Path) -> None:
    """There update-alternatives(1) has made its links, and the host's files have the same names."""
    (tree / "usr/sbin/ovs-vswitchd").symlink_to("/etc/alternatives/ovs-vswitchd")
    (tree / "etc/alternatives").mkdir(parents=True)
    (tree / "etc/alternatives/ovs-vswitchd").symlink_to("/usr/lib/openvswitch-switch/ovs-vswitchd")
    for name in ("lib64", "lib/x86_64-linux-gnu"):
        (tree / name).mkdir(parents=True)
    (tree / "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2").write_text("")
    (tree / "lib64/ld-linux-x86-64.so.2").symlink_to("/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
    found = programs.find(str(tree), Runner())
    assert found.vswitchd[0] == f"{tree}/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    assert found.vswitchd[-1] == f"{tree}/usr/lib/openvswitch-switch/ovs-vswitchd"


def test_what_is_missing_is_named(tree: Path) -> None:
    (tree / "usr/bin/ovsdb-tool").unlink()
    with pytest.raises(Refused, match="ovsdb-tool is not there: looked for below"):
        programs.find(str(tree), Runner())


def test_one_that_does_not_run_says_why(tree: Path) -> None:
    broken = Runner("", 127, "error while loading shared libraries: libxdp.so.1")
    with pytest.raises(Refused, match=r"does not run on this host: error while loading.*libxdp\.so\.1"):
        programs.find(str(tree), broken)


def test_packages_are_unpacked_by_their_own_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "doubt_of_directory", lambda _path: None)
    runner, folder, converted = Runner(), str(tmp_path / "tree"), []
    monkeypatch.setattr(programs, "convert", lambda *given: converted.append(given[:3]))
    programs.unpack([f"{tmp_path}/a.deb", f"{tmp_path}/b.rpm"], folder, runner)
    assert runner.done == [
        ["dpkg-deb", "--extract", f"{tmp_path}/a.deb", folder],
        ["tar", "--extract", "--gzip", "--file", f"{folder}.tgz", "--directory", folder],
    ]
    assert converted == [(["rpm2archive", "-"], f"{tmp_path}/b.rpm", f"{folder}.tgz")]
    assert os.stat(folder).st_mode & 0o777 == 0o700


def test_what_others_can_change_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link in a folder of somebody else could lead elsewhere a moment later."""
    monkeypatch.setattr(programs, "doubt_of_directory", lambda path: f"{path} belongs to nobody")
    runner = Runner()
    (tmp_path / "link.deb").symlink_to(tmp_path / "real.deb")
    with pytest.raises(Refused, match=r"real\.deb belongs to nobody"):
        programs.unpack([f"{tmp_path}/link.deb"], str(tmp_path / "tree"), runner)
    assert not runner.done
