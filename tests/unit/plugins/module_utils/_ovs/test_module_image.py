# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import gzip
import lzma
import shutil
import struct
import subprocess
import typing as t
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import module_image


def note(build_id: bytes, order: str = "<", kind: int = 3) -> bytes:
    return (
        struct.pack(order + "III", 4, len(build_id), kind) + b"GNU\0" + build_id + bytes(-len(build_id) % 4)
    )


def elf(sections: t.Mapping[str, bytes], bits: int = 64, order: str = "<") -> bytes:
    """The smallest file with these sections that elf(5) allows."""
    names, contents = b"\0", b""
    begin = 64
    headers = []
    for name, content in {**sections, ".shstrtab": b""}.items():
        if name == ".shstrtab":
            content = names + name.encode() + b"\0"
        headers.append((len(names), 1, begin + len(contents), len(content)))
        names += name.encode() + b"\0"
        contents += content
    entry = struct.Struct(order + ("IIQQQQIIQQ" if bits == 64 else "10I"))
    table = b"".join(entry.pack(name, kind, 0, 0, at, size, 0, 0, 0, 0) for name, kind, at, size in headers)
    offset = begin + len(contents)
    ident = b"\x7fELF" + bytes([bits // 32, 1 if order == "<" else 2]) + bytes(10)
    head = bytearray(ident.ljust(64, b"\0"))
    struct.pack_into(order + ("Q" if bits == 64 else "I"), head, 40 if bits == 64 else 32, offset)
    struct.pack_into(
        order + "HHH", head, 58 if bits == 64 else 46, entry.size, len(headers), len(headers) - 1
    )
    return bytes(head) + contents + table


MODULE = elf({
    ".modinfo": b"license=GPL\0depends=nf_nat,nsh\0\0vermagic=6.1.0 SMP mod_unload \0",
    ".note.gnu.build-id": note(b"\xab\xcd"),
})  # fmt: skip


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_build_id_is_found_in_every_kind_of_file(bits: int, order: str) -> None:
    content = elf({".text": b"\0" * 7, ".note.gnu.build-id": note(b"\1\2\3\4\5", order)}, bits, order)
    assert module_image.parse(content, "x.ko").build_id == "0102030405"


def test_other_notes_are_passed_over() -> None:
    assert module_image.build_id(note(b"\7", kind=5) + note(b"\1\2")) == "0102"
    assert module_image.build_id(note(b"\7", kind=5)) is None
    assert module_image.build_id(b"") is None


def test_what_the_module_says_of_itself() -> None:
    info = module_image.parse(MODULE, "x.ko").info
    assert info == {"license": "GPL", "depends": "nf_nat,nsh", "vermagic": "6.1.0 SMP mod_unload "}


@pytest.mark.parametrize("pack", [lambda content: content, lzma.compress, gzip.compress])
def test_a_compressed_file_is_the_same_module(tmp_path: Path, pack: t.Callable[[bytes], bytes]) -> None:
    path = tmp_path / "openvswitch.ko"
    path.write_bytes(pack(MODULE))
    assert module_image.read(str(path)).content == MODULE


@pytest.mark.skipif(shutil.which("zstd") is None, reason="no zstd here")
def test_zstd(tmp_path: Path) -> None:
    (tmp_path / "x.ko").write_bytes(MODULE)
    subprocess.run(["zstd", "-q", str(tmp_path / "x.ko")], check=True)
    assert module_image.read(str(tmp_path / "x.ko.zst")).build_id == "abcd"


# Names by hand: gzip writes the time into its header, and two workers of pytest-xdist have to find the same tests.
@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(b"#!/bin/sh\n", "is no kernel module", id="a script"),
        pytest.param(MODULE[:90], "is no kernel module", id="cut off"),
        pytest.param(lzma.compress(MODULE)[:20] + b"x" * 60, "cannot be unpacked", id="damaged xz"),
        pytest.param(gzip.compress(MODULE)[:12] + b"x" * 60, "cannot be unpacked", id="damaged gzip"),
    ],
)
def test_what_is_none_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "x.ko"
    path.write_bytes(content)
    with pytest.raises(HotUpgradeError, match=why):
        module_image.read(str(path))


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(HotUpgradeError, match="cannot be read"):
        module_image.read("/nonexistent/x.ko")


@given(st.integers(0, len(MODULE)), st.binary(max_size=8))
def test_a_damaged_file_is_an_error_or_a_module(place: int, damage: bytes) -> None:
    with contextlib.suppress(HotUpgradeError):
        module_image.parse(MODULE[:place] + damage + MODULE[place + len(damage) :], "x.ko")
