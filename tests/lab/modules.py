# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel modules of Open vSwitch for the User Mode Linux hosts: with conntrack zones, and in variants that really differ.

The packaged modules have no conntrack zones, and ct() of OVS needs them. So all of these are built from the kernel's source
package, with the packaged kernel's own configuration and the compiler of its suite, once, and cached like the other artefacts.
Whoever needs them (a scenario, a benchmark) puts them on a host; images do not have them.

    shipped        what a host begins with: openvswitch.ko and the conntrack modules that it needs
    rebuilt        openvswitch.ko of the same code, built again: another build-id, and like ``shipped`` no version
    rebuilt-xz     the same file, compressed as packages do it
    rebuilt-zst    the same
    versioned      with MODULE_VERSION: in sysfs there are a version and a srcversion
    foreign        for another kernel: its vermagic is not this kernel's
    failing        its init function returns an error
    useless        it loads, and makes no datapath
"""

from __future__ import annotations

import functools
import gzip
import lzma
import os
import shutil
import struct
import subprocess
import typing as t
from pathlib import Path

from tests.lab import hosts, images
from tests.lab.images import LabError, run

TOOLS = (
    "gcc", "make", "flex", "bison", "bc", "libelf-dev", "libssl-dev", "xz-utils", "kmod", "libc6-dev", "zstd", "python3-minimal",
)  # fmt: skip
# Of the source, three quarters that nothing here needs; all Kconfig files have to be there.
LEFT_OUT = (
    "*/drivers/gpu/*.[ch]", "*/drivers/net/*.[ch]", "*/drivers/media/*.[ch]", "*/sound/*.[ch]", "*.dts*", "*/tools/testing/*",
    "*/Documentation/*.rst", "*/Documentation/*.yaml",
)  # fmt: skip
# What knows the layout of a struct nf_conn, which zones change, of all that Open vSwitch uses: its module needs some, its
# daemon makes the kernel load the others. A module comes after those that it needs.
TARGETS = {
    "net/netfilter": (
        "nf_conntrack.ko", "nf_nat.ko", "nf_conncount.ko", "nf_conntrack_netlink.ko", "nfnetlink_cttimeout.ko",
        "nf_conntrack_ftp.ko", "nf_nat_ftp.ko", "nf_conntrack_tftp.ko", "nf_nat_tftp.ko",
    ),
    "net/openvswitch": ("openvswitch.ko", "vport-vxlan.ko", "vport-geneve.ko", "vport-gre.ko"),
}  # fmt: skip
# The frozen mirrors that some machines use have indexes that have expired.
STALE = '--aptopt=Acquire::Check-Valid-Until "false"'
_BEGIN, _END = b"IKCFG_ST", b"IKCFG_ED"

VERSION = "2.17.99"
# The kernel's words for the error that ``failing`` returns are "No such device".
_FAILING = """static int __init failing_init(void)
{
\treturn dp_init ? -ENODEV : 0;
}
module_init(failing_init);
"""
_DATAPATH = "net/openvswitch/datapath.c"
_WHAT_DATAPATHS_NEED = "if (!a[OVS_DP_ATTR_NAME] || !a[OVS_DP_ATTR_UPCALL_PID])"
_LICENCE = 'MODULE_LICENSE("GPL");\n'


class Edit(t.NamedTuple):
    """What makes a variant out of the source: ``new`` instead of ``old`` in the file at ``path``."""

    path: str
    old: str
    new: str


MODULE = "openvswitch.ko"
SHIPPED = "shipped"
EDITS = {
    "rebuilt": Edit(_DATAPATH, _LICENCE, f'{_LICENCE}MODULE_INFO(rebuilt, "yes");\n'),
    "versioned": Edit(_DATAPATH, _LICENCE, f'{_LICENCE}MODULE_VERSION("{VERSION}");\n'),
    "foreign": Edit("include/generated/utsrelease.h", 'UTS_RELEASE "', 'UTS_RELEASE "1'),
    "failing": Edit(_DATAPATH, "module_init(dp_init);\n", _FAILING),
    "useless": Edit(_DATAPATH, _WHAT_DATAPATHS_NEED, "err = -EOPNOTSUPP;\n\tif (true)"),
}
# As the kernel's own scripts/Makefile.modinst does it: the kernel can read no other kind of xz.
PACKED = {
    "xz": ("xz", "--check=crc32", "--lzma2=dict=1MiB"),
    "zst": ("zstd", "--quiet", "--rm"),
}


def variant(name: str) -> Path:
    """The folder with the files of a variant, for the kernel that ``images.kernel()`` has; the first use builds all of them."""
    return modules() / name


def modules() -> Path:
    """A folder with a folder for each variant."""
    release = next((images.kernel() / "modules").iterdir()).name
    archive = images.Archive(images.KERNEL_SUITES[0])
    package = f"linux-source-{'.'.join(release.split('.')[:2])}"
    key = images.digest(images.kernel().name, package, TOOLS, TARGETS, EDITS, PACKED, 1)
    return images.cached("modules", key, functools.partial(_build, archive, package, release))


def _build(archive: images.Archive, package: str, release: str, work: Path) -> None:
    root = work / "root"
    _unpack(archive, package, work, root)
    _configure(root / "src", release)
    _make(root, "olddefconfig", "modules_prepare")
    symbols = "".join(_symbols(images.kernel() / "modules" / release))
    (root / "src/Module.symvers").write_text(symbols)
    (work / SHIPPED).mkdir()
    for folder, names in TARGETS.items():
        _make(root, f"M={folder}", *names)
        for name in names:
            shutil.copy(root / "src" / folder / name, work / SHIPPED)
    for name, edit in EDITS.items():
        _vary(root, edit, work / name)
    for suffix, argv in PACKED.items():
        _pack(root, work / "rebuilt", suffix, argv)
    shutil.rmtree(root)


def _unpack(archive: images.Archive, package: str, work: Path, root: Path) -> None:
    """A root with a compiler and, in /src, the kernel's source."""
    archive.download(work / "debs", package)
    [deb] = (work / "debs").glob("*.deb")
    run("mmdebstrap", "--variant=apt", f"--include={','.join(TOOLS)}", *images.NO_DOCS, STALE,
        archive.suite, str(root), images.MIRROR)  # fmt: skip
    run("dpkg", "-x", str(deb), str(work / "x"))
    [tarball] = (work / "x/usr/src").glob("linux-source-*.tar.*")
    (root / "src").mkdir()
    excluded = [f"--exclude={pattern}" for pattern in LEFT_OUT]
    run("tar", "-C", str(root / "src"), "--strip-components=1", *excluded, "-xf", str(tarball))
    shutil.rmtree(work / "debs")
    shutil.rmtree(work / "x")


def _make(root: Path, *targets: str) -> None:
    jobs = f"-j{len(os.sched_getaffinity(0))}"
    images.inside(root, "make", "-C", "/src", jobs, "ARCH=um", "KBUILD_MODPOST_WARN=1", *targets)


def _vary(root: Path, edit: Edit, into: Path) -> None:
    """openvswitch.ko out of the source with an edit, which is undone."""
    path = root / "src" / edit.path
    source = path.read_text()
    if edit.old not in source:
        raise LabError(
            f"the kernel's {edit.path} has no {edit.old.strip()!r}, so the lab cannot build {into.name}"
        )
    path.write_text(source.replace(edit.old, edit.new))
    _make(root, "M=net/openvswitch", MODULE)
    into.mkdir()
    shutil.copy(root / "src/net/openvswitch" / MODULE, into)
    path.write_text(source)


def _pack(root: Path, origin: Path, suffix: str, argv: t.Sequence[str]) -> None:
    """The variant ``origin`` compressed, in a folder of its own."""
    shutil.copy(origin / MODULE, root / "tmp")
    images.inside(root, *argv, f"/tmp/{MODULE}")
    into = origin.with_name(f"{origin.name}-{suffix}")
    into.mkdir()
    shutil.move(root / "tmp" / f"{MODULE}.{suffix}", into)


def build_id(path: Path) -> str:
    """The build-id of a module's file, compressed or not, in hexadecimal digits: a note named GNU of type 3 (elf(5))."""
    data = _read(path)
    for section in _sections(data):
        if section.kind == _NOTE:
            name_size, size, kind = struct.unpack_from("<III", data, section.offset)
            begin = section.offset + 12 + name_size
            if kind == 3 and data[begin - name_size : begin] == b"GNU\0":
                return data[begin : begin + size].hex()
    raise LabError(f"{path} has no build-id")


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
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dc", str(path)], check=True, capture_output=True).stdout
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def _symbols(root: Path) -> t.Iterator[str]:
    """Lines of Module.symvers for what the shipped modules export, so that ``depends:`` comes out right."""
    for path in sorted(root.rglob("*.ko*")):
        module = str(path.relative_to(root)).partition(".ko")[0].removeprefix("kernel/")
        for name in _exported(_read(path)):
            yield f"0x00000000\t{name}\t{module}\tEXPORT_SYMBOL_GPL\t\n"


def _exported(data: bytes) -> t.Iterator[str]:
    """The names in an ELF file's symbol table that begin with __ksymtab_."""
    sections = _sections(data)
    for section in sections:
        if section.kind != _SYMBOLS:
            continue
        strings = sections[section.link].offset
        for entry in range(section.offset, section.offset + section.length, 24):
            name_at, __, __, defined_in = struct.unpack_from("<IBBH", data, entry)
            start = strings + name_at
            name = data[start : data.index(b"\0", start)].decode()
            if name.startswith("__ksymtab_") and defined_in:
                yield name.removeprefix("__ksymtab_")


class _Section(t.NamedTuple):
    kind: int
    offset: int
    length: int
    link: int


_SYMBOLS, _NOTE = 2, 7


def _sections(data: bytes) -> list[_Section]:
    """The sections of an ELF file of 64 bits (elf(5))."""
    table, size, count = struct.unpack_from("<Q10xHH", data, 40)
    headers = [struct.unpack_from("<4xI16xQQI", data, table + number * size) for number in range(count)]
    return [_Section(*header) for header in headers]


# --- on a host --------------------------------------------------------------------------------------

INSTALL = """
cd /usr/lib/modules/$(uname -r)
for file in {source}/*; do
    name=$(basename "$file")
    find . -name "${{name%%.ko*}}.ko*" -delete
done
mkdir -p {folder}
mv {source}/* {folder}
depmod
"""
# The daemons' units end after that of the package; systemd refuses the sixth start of a unit within ten seconds.
RELOAD = """
systemctl stop openvswitch-switch ovs-vswitchd ovsdb-server
systemctl reset-failed
ovs-dpctl del-dp ovs-system || true
modprobe -r {modules}
modprobe openvswitch
systemctl start openvswitch-switch
"""


def install(lab: hosts.Lab, host: hosts.Host, name: str, folder: str = "updates") -> None:
    """Put a variant into a host's modules as a package does: the file is replaced, depmod run; what is loaded stays.

    ``folder`` is below /lib/modules/<release>: DKMS has ``updates``, the kernel's package ``kernel/net/openvswitch``.
    """
    source = f"/var/tmp/modules-{name}"
    hosts.put(lab, host, sorted(variant(name).iterdir()), source)
    hosts.script(lab, host, INSTALL.format(source=source, folder=folder))


def reload(lab: hosts.Lab, host: hosts.Host) -> None:
    """End Open vSwitch on a host and start it anew, its flows lost, with the modules that are on the disk.

    Raises ``LabError`` with the kernel's words when the module does not load; Open vSwitch is down then.
    """
    names = [name.removesuffix(".ko") for names in TARGETS.values() for name in names]
    hosts.script(lab, host, RELOAD.format(modules=" ".join(reversed(names))))


if __name__ == "__main__":
    print(modules())
