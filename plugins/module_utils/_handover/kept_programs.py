# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Programs that run, copied before a package is removed or a rollback needs them."""

from __future__ import annotations

import os
import shutil

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import running
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.trust import (
    DELETED,
    open_library,
    open_program,
    owner_of,
)


def keep_binary(rundir: str, name: str, directory: str) -> None:
    """Copy the program of a running daemon, and the libraries it uses that were deleted since, to ``directory``.

    /proc/PID/exe and /proc/PID/map_files reach the content although a package upgrade has replaced the files.  What root
    did not install is no part of it (docs/security.md); raises ``Refused`` when the program itself is not.
    """
    process = running(rundir, name).process
    os.makedirs(os.path.join(directory, "lib"), mode=0o700, exist_ok=True)
    _copy(open_program(process.pid, name, owner_of(rundir)), os.path.join(directory, name))
    with open(f"/proc/{process.pid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            fields = line.rstrip("\n").split(None, 5)
            if len(fields) < 6 or not fields[5].endswith(DELETED):
                continue
            library = os.path.basename(fields[5].removesuffix(DELETED))
            copy = os.path.join(directory, "lib", library)
            if ".so" in library and not os.path.exists(copy):
                first, last = (int(address, 16) for address in fields[0].split("-"))
                descriptor = open_library(f"/proc/{process.pid}/map_files/{first:x}-{last:x}", library)
                if descriptor is not None:
                    _copy(descriptor, copy)
                    _link_short_names(copy)


def _copy(descriptor: int, target: str) -> None:
    with open(descriptor, "rb") as source, open(target, "wb") as copy:
        os.fchmod(copy.fileno(), 0o700)
        shutil.copyfileobj(source, copy)


def _link_short_names(library: str) -> None:
    """Programs ask for ``libx.so.0`` and not for ``libx.so.0.0.4`` (the soname, ld.so(8))."""
    directory, name = os.path.split(library)
    stem, __, version = name.partition(".so.")
    parts = version.split(".")
    for count in range(1, len(parts)):
        link = os.path.join(directory, f"{stem}.so.{'.'.join(parts[:count])}")
        if not os.path.lexists(link):
            os.symlink(name, link)
