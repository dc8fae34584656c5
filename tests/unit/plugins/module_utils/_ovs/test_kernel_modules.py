# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import kernel_modules as kmod
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Completed
from tests.unit.plugins.module_utils._ovs import test_module_image


def load(root: Path, name: str, **attributes: str) -> None:
    folder = root / "sys/module" / name
    folder.mkdir(parents=True)
    for attribute, value in {"initstate": "live", "taint": "", **attributes}.items():
        (folder / attribute).write_text(value + "\n")


def disk(**modules: str) -> t.Any:
    def run(argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        assert list(argv[:2]) == ["modinfo", "--"]
        text = modules.get(argv[2])
        return Completed(0, text, "") if text else Completed(1, "", "modinfo: ERROR: Module not found.\n")

    return run


IN_TREE = """filename:       /lib/modules/6.1.0/kernel/net/openvswitch/openvswitch.ko
alias:          net-pf-16-proto-16-family-ovs_datapath
license:        GPL
srcversion:     AAAA
intree:         Y
"""


def test_the_module_of_the_kernel(tmp_path: Path) -> None:
    load(tmp_path, "openvswitch", srcversion="AAAA", refcnt="5")
    load(tmp_path, "vport_vxlan", srcversion="CCCC", refcnt="1")
    load(tmp_path, "bridge")
    found, vport = kmod.modules(str(tmp_path), disk(openvswitch=IN_TREE))
    assert found == kmod.Module(
        name="openvswitch",
        loaded=True,
        builtin=False,
        in_tree=True,
        version=None,
        srcversion="AAAA",
        build_id=None,
        disk_version=None,
        disk_srcversion="AAAA",
        disk_build_id=None,
        disk_path="/lib/modules/6.1.0/kernel/net/openvswitch/openvswitch.ko",
        users=5,
    )
    assert found.reload_needed is False
    assert (vport.name, vport.loaded, vport.disk_srcversion, vport.reload_needed) == (
        "vport_vxlan",
        True,
        None,
        None,
    )


def test_another_one_on_disk_needs_a_reload(tmp_path: Path) -> None:
    load(tmp_path, "openvswitch", srcversion="BBBB", taint="OE", version="2.15.0")
    (module,) = kmod.modules(str(tmp_path), disk(openvswitch=IN_TREE))
    assert module.reload_needed is True
    assert (module.in_tree, module.version) == (False, "2.15.0")


def test_hashes_that_are_not_kept_tell_nothing(tmp_path: Path) -> None:
    load(tmp_path, "openvswitch")
    (module,) = kmod.modules(str(tmp_path), disk(openvswitch=IN_TREE))
    assert module.reload_needed is None


def on_disk(root: Path, build_id: bytes) -> None:
    path = root / "lib/modules/6.1.0/kernel/net/openvswitch/openvswitch.ko"
    path.parent.mkdir(parents=True)
    path.write_bytes(test_module_image.elf({".note.gnu.build-id": test_module_image.note(build_id)}))


def loaded_with(root: Path, build_id: bytes, **attributes: str) -> None:
    load(root, "openvswitch", **attributes)
    notes = root / "sys/module/openvswitch/notes"
    notes.mkdir()
    (notes / ".note.gnu.build-id").write_bytes(test_module_image.note(build_id))


def test_the_build_id_counts_before_the_hash_of_the_sources(tmp_path: Path) -> None:
    """A compiler, an option or a header that has changed leaves srcversion as it was."""
    loaded_with(tmp_path, b"\1\2\3", srcversion="AAAA")
    on_disk(tmp_path, b"\1\2\4")
    (module,) = kmod.modules(str(tmp_path), disk(openvswitch=IN_TREE))
    assert (module.build_id, module.disk_build_id, module.reload_needed) == ("010203", "010204", True)


def test_modules_without_version_and_srcversion_are_told_apart(tmp_path: Path) -> None:
    loaded_with(tmp_path, b"\1\2\3")
    on_disk(tmp_path, b"\1\2\3")
    (module,) = kmod.modules(str(tmp_path), disk(openvswitch=IN_TREE.replace("srcversion:     AAAA\n", "")))
    assert module.reload_needed is False


def test_a_version_alone_tells_nothing(tmp_path: Path) -> None:
    load(tmp_path, "openvswitch", version="2.17.9")
    (module,) = kmod.modules(str(tmp_path), disk(openvswitch="filename: /lib/x.ko\nversion: 2.17.9\n"))
    assert module.reload_needed is None


def test_not_loaded(tmp_path: Path) -> None:
    (module,) = kmod.modules(str(tmp_path), disk(openvswitch=IN_TREE))
    assert (module.loaded, module.in_tree, module.disk_srcversion, module.reload_needed) == (
        False,
        True,
        "AAAA",
        False,
    )


def test_built_in(tmp_path: Path) -> None:
    (tmp_path / "sys/module/openvswitch").mkdir(parents=True)
    (module,) = kmod.modules(str(tmp_path), disk(openvswitch="name: openvswitch\nfilename: (builtin)\n"))
    assert (module.loaded, module.builtin, module.disk_path) == (True, True, None)


def test_no_modinfo(tmp_path: Path) -> None:
    def run(argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        raise HotUpgradeError("cannot run modinfo")

    (module,) = kmod.modules(str(tmp_path), run)
    assert (module.loaded, module.in_tree, module.disk_path) == (False, None, None)


def a_module(name: str, in_tree: bool = True, loaded: bool = True) -> kmod.Module:
    return kmod.Module(name, loaded, False, in_tree, None, None, None, None, None, None, None, 1)


@pytest.mark.parametrize(
    ("userspace", "kernel", "names", "in_tree", "supported", "reason"),
    [
        (
            "4.0.0",
            "6.12.48+deb13-amd64",
            ["openvswitch"],
            True,
            True,
            "works with the module of Linux 6.12.48",
        ),
        ("2.15.0", "5.10.0-9-amd64", ["openvswitch", "vport_vxlan"], True, True, "2.15.0 works"),
        ("3.1.0", "5.4.0", ["openvswitch"], False, True, "out-of-tree"),
        ("3.5.0", "2.6.32-754.el6", ["openvswitch"], False, False, "older than 3.3"),
        ("3.5.0", "5.4.0", ["openvswitch", "vport_stt"], False, True, "out-of-tree"),
        ("3.6.0", "5.4.0", ["openvswitch", "vport_stt"], False, False, "vport_stt is loaded"),
        (
            "3.6.0",
            "5.4.0",
            ["openvswitch", "vport_stt", "vport_lisp"],
            False,
            False,
            "vport_lisp and vport_stt",
        ),
        ("4.0.0", "4.2.0", ["openvswitch", "vport_geneve"], True, False, "need Linux 4.3, not 4.2.0"),
        ("3.7.0", "4.2.0", ["openvswitch", "vport_geneve"], True, True, "works"),
        ("4.0.0", "4.2.0", ["openvswitch"], True, True, "works"),
        ("4.0.0", "6.1.0", [], True, None, "not loaded"),
        (None, "6.1.0", ["openvswitch"], True, None, "no Open vSwitch is installed"),
    ],
)
def test_support(
    userspace: str | None, kernel: str, names: list[str], in_tree: bool, supported: bool | None, reason: str
) -> None:
    found = kmod.support(userspace, kernel, [a_module(name, in_tree) for name in names])
    assert found.supported is supported
    assert reason in found.reason


def test_a_module_on_disk_only_is_not_driven() -> None:
    assert kmod.support("4.0.0", "6.1.0", [a_module("openvswitch", loaded=False)]).supported is None


@pytest.mark.parametrize(
    ("text", "key"), [("6.1.0-18-amd64", (6, 1, 0)), ("3.10", (3, 10)), ("4.0.0-git1", (4, 0, 0)), ("x", ())]
)
def test_version_keys(text: str, key: tuple[int, ...]) -> None:
    assert kmod.version_key(text) == key
