# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The programs of a version that is not installed, and how to run them: packages in a folder, or the files of a container."""

from __future__ import annotations

import glob
import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import (
    OVSDB_SERVER,
    VSWITCHD,
    on_disk,
    parse_version,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.schema import read_schema, schema_file
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import (
    Runner,
    check,
    convert,
    run,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.trust import (
    doubt_of_directory,
    real_file,
)

OVSDB_TOOL = "ovsdb-tool"
# Unpacking is mostly writing, in seconds.
_UNPACK_TIMEOUT = 300.0
# Where Debian has what update-alternatives(1) puts into the usual places after an installation.
_APART = "usr/lib/openvswitch*"


class Programs(t.NamedTuple):
    """What a version of Open vSwitch brings; each program is the words that it is started with.

    ``schema`` is that of its database (RFC 7047, 3.2), as in ``schema_file``.
    """

    version: str
    server: tuple[str, ...]
    vswitchd: tuple[str, ...]
    tool: tuple[str, ...]
    schema_file: str
    schema: dict[str, t.Any]


def unpack(packages: t.Sequence[str], folder: str, runner: Runner = run) -> None:
    """Unpack package files into ``folder``, which is made; nothing of them is installed, and no script of theirs runs.

    Raises ``Refused`` for a file that is no package or that others than root can write.
    """
    os.mkdir(folder, 0o700)
    for package in map(os.path.realpath, packages):
        doubt = doubt_of_directory(package)
        if doubt:
            raise Refused(
                f"the package {package} is not unpacked",
                doubt,
                "Have it in a folder that belongs to root, and to which nobody else can write",
            )
        if package.endswith(".deb"):
            check(runner, ["dpkg-deb", "--extract", package, folder], _UNPACK_TIMEOUT)
        elif package.endswith(".rpm"):
            _unpack_rpm(package, folder, runner)
        else:
            raise Refused(
                f"{package} is not unpacked", "its name ends in neither .deb nor .rpm", "Correct packages"
            )


def _unpack_rpm(package: str, folder: str, runner: Runner) -> None:
    """By rpm2archive(8), from one stream to another: with names of files each version does something else."""
    archive = f"{folder}.tgz"
    try:
        convert(["rpm2archive", "-"], package, archive, _UNPACK_TIMEOUT)
        check(
            runner, ["tar", "--extract", "--gzip", "--file", archive, "--directory", folder], _UNPACK_TIMEOUT
        )
    finally:
        if os.path.exists(archive):
            os.unlink(archive)


def find(root: str = "/", runner: Runner = run) -> Programs:
    """The programs below ``root``.  Raises ``Refused`` where one is missing or does not run on this host."""
    paths = {name: _program(name, root) for name in (OVSDB_SERVER, VSWITCHD, OVSDB_TOOL)}
    file = schema_file(root)
    missing = [name for name, path in {**paths, "vswitch.ovsschema": file}.items() if path is None]
    if missing or file is None:
        raise Refused(
            f"{', '.join(missing)} is not there"
            if len(missing) == 1
            else f"{', '.join(missing)} are not there",
            f"looked for below {root}",
            "Give all packages that the upgrade would install: on Debian openvswitch-common and openvswitch-switch",
        )
    words = {name: tuple(_words(str(path), root)) for name, path in paths.items()}
    started = words[OVSDB_SERVER], words[VSWITCHD], words[OVSDB_TOOL]
    return Programs(_version(words[VSWITCHD], runner), *started, file, read_schema(file))


def _program(name: str, root: str) -> str | None:
    if root == "/":
        return on_disk(name)
    found = on_disk(name, root)
    # In a container the link of update-alternatives(1) is there, and leads from its root on.
    real = real_file(found.removeprefix(root), root) if found else None
    if real and os.path.exists(real):
        return real
    return next(iter(sorted(glob.glob(os.path.join(glob.escape(root), _APART, name)))), None)


def _words(path: str, root: str) -> list[str]:
    """How ``path`` is started with the libraries that came with it: by its own loader where there is a C library among them."""
    if root == "/":
        return [path]
    folders = _library_folders(root)
    loaders = [
        real
        for folder in ("lib*", "usr/lib*", "usr/lib/*")
        for found in glob.glob(f"{glob.escape(root)}/{folder}/ld*-*.so.*")
        for real in [real_file(found.removeprefix(root), root)]
        if real and os.path.exists(real)
    ]
    if loaders:
        return [loaders[0], "--library-path", ":".join(folders), path]
    return ["env", f"LD_LIBRARY_PATH={':'.join(folders)}", path] if folders else [path]


def _library_folders(root: str) -> list[str]:
    found = {
        os.path.dirname(path)
        for folder in ("lib*", "usr/lib*", "lib/*", "usr/lib/*")
        for path in glob.glob(f"{glob.escape(root)}/{folder}/lib*.so*")
    }
    return sorted(found)


def _version(words: t.Sequence[str], runner: Runner) -> str:
    done = runner([*words, "--version"])
    version = parse_version(done.out)
    if done.rc or version is None:
        raise Refused(
            "the new ovs-vswitchd does not run on this host",
            (done.err or done.out).strip()[-500:] or f"it ended with status {done.rc}",
            "Give the packages of the libraries that it needs, too",
        )
    return version
