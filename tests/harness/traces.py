# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab has left on the machine."""

from __future__ import annotations

from pathlib import Path

from tests.lab import hosts


def traces(name: str) -> list[str]:
    """Whatever a lab of that name has left: processes, namespaces, folders, mounts, control groups."""
    found = [path for path in ("/proc/self/mountinfo",) if f"/{name}/" in Path(path).read_text()]
    found += [
        str(path) for path in (hosts.folder(name), Path("/run/netns", f"ovslab-{name}")) if path.exists()
    ]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{hosts.cgroup(name)}")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(f"/{name}/".encode() in word or word == f"ovslab-{name}".encode() for word in command):
            found.append(b" ".join(command).decode())
    return found
