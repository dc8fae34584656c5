# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""A kernel module's file: what is in it, compressed or not.

Formats: elf(5), include/linux/moduleinfo.h (``.modinfo`` holds ``key=value`` strings), ld's --build-id (a note of the owner GNU).
"""

from __future__ import annotations

import dataclasses
import os
import struct
import tempfile
import typing as t
import zlib

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import check, run

BUILD_ID = ".note.gnu.build-id"

_XZ, _GZIP, _ZSTD, _ELF = b"\xfd7zXZ\0", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x7fELF"
_MOST = 256 << 20
_HINT = "Install the package of the running kernel's modules again, then depmod -a"
_64_BIT, _BIG_ENDIAN, _SHT_NOBITS, _NT_GNU_BUILD_ID = 2, 2, 8, 3


@dataclasses.dataclass(frozen=True)
class Image:
    """A module as init_module(2) takes it; ``build_id`` as hexadecimal digits, None without one; ``info`` as in modinfo(8)."""

    content: bytes
    build_id: str | None
    info: t.Mapping[str, str]


def read(path: str) -> Image:
    """The module in the file ``path``.  Raises ``HotUpgradeError`` when it cannot be read or is no module."""
    try:
        with open(path, "rb") as file:
            content = decompressed(file.read(_MOST), path)
    except OSError as error:
        raise HotUpgradeError(
            f"the module {path} cannot be read", error.strerror or str(error), _HINT
        ) from error
    return parse(content, path)


def parse(content: bytes, path: str) -> Image:
    """The module that ``content`` is; ``path`` is for the message of ``HotUpgradeError`` when it is none."""
    try:
        found = {name: content[begin:end] for name, begin, end in _sections(content)}
    except (struct.error, ValueError, OverflowError) as error:
        raise HotUpgradeError(f"{path} is no kernel module", str(error), _HINT) from error
    strings = found.get(".modinfo", b"").decode(errors="replace").split("\0")
    pairs = (text.partition("=") for text in strings if text)
    info: dict[str, str] = {}
    for key, __, value in pairs:
        info.setdefault(key, value)
    return Image(content, build_id(found.get(BUILD_ID, b""), content[5] == _BIG_ENDIAN), info)


def build_id(note: bytes, big_endian: bool = False) -> str | None:
    """What a section of notes says, as hexadecimal digits; None when it has no such note."""
    order, offset = ">" if big_endian else "<", 0
    while offset + 12 <= len(note):
        owner, size, kind = struct.unpack_from(order + "III", note, offset)
        begin = offset + 12 + owner + -owner % 4
        if kind == _NT_GNU_BUILD_ID and note[offset + 12 : offset + 12 + owner] == b"GNU\0":
            return note[begin : begin + size].hex() or None
        offset = begin + size + -size % 4
    return None


def decompressed(content: bytes, path: str) -> bytes:
    """``content``, of the file ``path``, without what kmod(8) may have packed it in.

    Raises ``HotUpgradeError`` when it cannot be unpacked.
    """
    for magic, unpack in ((_XZ, _unxz), (_GZIP, _gunzip), (_ZSTD, _unzstd)):
        if content.startswith(magic):
            try:
                return unpack(content, path)
            except (ImportError, ValueError, EOFError) as error:
                raise HotUpgradeError(f"the module {path} cannot be unpacked", str(error), _HINT) from error
    return content


def _unxz(content: bytes, __: str) -> bytes:
    import lzma  # not every Python was built with it

    try:
        return lzma.LZMADecompressor().decompress(content, _MOST)
    except lzma.LZMAError as error:
        raise ValueError(str(error)) from error


def _gunzip(content: bytes, __: str) -> bytes:
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(content, _MOST)
    except zlib.error as error:
        raise ValueError(str(error)) from error


def _unzstd(__: bytes, path: str) -> bytes:
    """By a program: Python has no zstd before 3.14."""
    with tempfile.TemporaryDirectory(prefix="ovsops-") as place:
        target = os.path.join(place, "module.ko")
        check(run, ["zstd", "--decompress", "--quiet", "-o", target, "--", path])
        with open(target, "rb") as file:
            return file.read(_MOST)


def _sections(content: bytes) -> t.Iterator[tuple[str, int, int]]:
    """The sections that have a content: name, begin and end."""
    if not content.startswith(_ELF) or len(content) < 64:
        raise ValueError("it does not begin like one")
    order = ">" if content[5] == _BIG_ENDIAN else "<"
    if content[4] == _64_BIT:
        (table,), entry = struct.unpack_from(order + "Q", content, 40), struct.Struct(order + "IIQQQQ")
    else:
        (table,), entry = struct.unpack_from(order + "I", content, 32), struct.Struct(order + "IIIIII")
    size, count, names = struct.unpack_from(order + "HHH", content, 58 if content[4] == _64_BIT else 46)
    headers = [entry.unpack_from(content, table + number * size) for number in range(count)]
    if names >= count:
        raise ValueError("it has no names of sections")
    strings = headers[names][4]
    for name, kind, __, __, begin, length in headers:
        if kind == _SHT_NOBITS:
            continue
        if begin + length > len(content):
            raise ValueError("it is cut off")
        end = content.index(b"\0", strings + name)
        yield content[strings + name : end].decode(errors="replace"), begin, begin + length
