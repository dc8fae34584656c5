# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel modules with conntrack zones for the User Mode Linux hosts: the packaged ones have none, and ct() of OVS needs them.

Built once from the kernel's source package, with the packaged kernel's own configuration and the compiler of its suite, then
cached like the other artefacts. Whoever needs them (a scenario) puts them on a host; images do not have them.
"""

from __future__ import annotations

import functools
import gzip
import lzma
import struct
import typing as t
from pathlib import Path

from tests.lab import images
from tests.lab.images import LabError, run

TOOLS = (
    "gcc", "make", "flex", "bison", "bc", "libelf-dev", "libssl-dev", "xz-utils", "kmod", "libc6-dev", "zstd", "python3-minimal",
)  # fmt: skip
# Of the source, three quarters that nothing here needs; all Kconfig files have to be there.
LEFT_OUT = (
    "*/drivers/gpu/*.[ch]", "*/drivers/net/*.[ch]", "*/drivers/media/*.[ch]", "*/sound/*.[ch]", "*.dts*", "*/tools/testing/*",
    "*/Documentation/*.rst", "*/Documentation/*.yaml",
)  # fmt: skip
# What holds a struct nf_conn, whose layout zones change, of all that openvswitch.ko needs.
TARGETS = {
    "net/netfilter": ("nf_conntrack.ko", "nf_nat.ko", "nf_conncount.ko"),
    "net/openvswitch": ("openvswitch.ko", "vport-vxlan.ko", "vport-geneve.ko", "vport-gre.ko"),
}
# The frozen mirrors that some machines use have indexes that have expired.
STALE = '--aptopt=Acquire::Check-Valid-Until "false"'
_BEGIN, _END = b"IKCFG_ST", b"IKCFG_ED"


def modules() -> Path:
    """A folder with the modules for the kernel that ``images.kernel()`` has, uncompressed."""
    release = next((images.kernel() / "modules").iterdir()).name
    archive = images.Archive(images.KERNEL_SUITES[0])
    package = f"linux-source-{'.'.join(release.split('.')[:2])}"
    key = images.digest(images.kernel().name, package, TOOLS, TARGETS, 1)
    return images.cached("zones", key, functools.partial(_build, archive, package, release))


def _build(archive: images.Archive, package: str, release: str, work: Path) -> None:
    root = work / "root"
    archive.download(work / "debs", package)
    [deb] = (work / "debs").glob("*.deb")
    run(
        "mmdebstrap",
        "--variant=apt",
        f"--include={','.join(TOOLS)}",
        *images.NO_DOCS,
        STALE,
        archive.suite,
        str(root),
        images.MIRROR,
    )
    run("dpkg", "-x", str(deb), str(work / "x"))
    [tarball] = (work / "x/usr/src").glob("linux-source-*.tar.*")
    source = root / "src"
    source.mkdir()
    excluded = [f"--exclude={pattern}" for pattern in LEFT_OUT]
    run("tar", "-C", str(source), "--strip-components=1", *excluded, "-xf", str(tarball))
    _configure(source, release)
    make = ("make", "-C", "/src", "ARCH=um", "KBUILD_MODPOST_WARN=1")
    images.inside(root, *make, "olddefconfig", "modules_prepare")
    (source / "Module.symvers").write_text("".join(_symbols(images.kernel() / "modules" / release)))
    for folder, names in TARGETS.items():
        images.inside(root, *make, f"M={folder}", *names)
        for name in names:
            (source / folder / name).rename(work / name)
    for left in ("root", "debs", "x"):
        run("rm", "-rf", str(work / left))


def _configure(source: Path, release: str) -> None:
    """The packaged kernel's configuration and version, so that it takes the modules for its own."""
    shipped = images.kernel() / "modules" / release
    data = _read(next(shipped.rglob("configs.ko*")))
    config = gzip.decompress(data[data.index(_BEGIN) + len(_BEGIN) : data.index(_END)]).decode()
    unset = "# CONFIG_NF_CONNTRACK_ZONES is not set\n"
    if unset not in config:
        raise LabError("the packaged kernel's configuration has no place for conntrack zones")
    (source / ".config").write_text(config.replace(unset, "CONFIG_NF_CONNTRACK_ZONES=y\n"))
    makefile = (source / "Makefile").read_text().splitlines(keepends=True)
    level = f"SUBLEVEL = {release.split('.')[2]}\n"
    text = "".join(level if line.startswith("SUBLEVEL =") else line for line in makefile)
    (source / "Makefile").write_text(text)


def _read(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if data.startswith(b"\xfd7zXZ\0") else data


def _symbols(root: Path) -> t.Iterator[str]:
    """Lines of Module.symvers for what the shipped modules export, so that ``depends:`` comes out right."""
    for path in sorted(root.rglob("*.ko*")):
        module = str(path.relative_to(root)).partition(".ko")[0].removeprefix("kernel/")
        for name in _exported(_read(path)):
            yield f"0x00000000\t{name}\t{module}\tEXPORT_SYMBOL_GPL\t\n"


def _exported(data: bytes) -> t.Iterator[str]:
    """The names in an ELF file's symbol table that begin with __ksymtab_ (elf(5))."""
    table, size, count = struct.unpack_from("<Q10xHH", data, 40)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + number * size) for number in range(count)]
    for __, kind, __, __, offset, length, link, *__ in sections:
        if kind != 2:
            continue
        strings = sections[link][4]
        for entry in range(offset, offset + length, 24):
            name_at, __, __, section = struct.unpack_from("<IBBH", data, entry)
            start = strings + name_at
            name = data[start : data.index(b"\0", start)].decode()
            if name.startswith("__ksymtab_") and section:
                yield name.removeprefix("__ksymtab_")


if __name__ == "__main__":
    print(modules())
