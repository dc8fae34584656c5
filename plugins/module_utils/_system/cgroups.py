# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""In which control groups a process is, in every hierarchy, and who owns it in the eyes of systemd.

systemd ends what is in the control group of a unit that ends, and which hierarchy it looks at depends on how the host
was booted: the unified one, that of its name, or both (systemd's ``systemd.unified_cgroup_hierarchy``).
"""

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Runner, run

# Hierarchy -> the path of a control group in it: "" is the unified one, else its controllers or "name=..." (cgroups(7)).
Places = t.Mapping[str, str]

# What our own units are called (_deadman.unit): they end, and systemd ends with them whatever is in them.
_OURS = re.compile(r"/ovsops-[^/]*\.(?:service|scope)(?:/|$)")
# What systemd calls the owner of what is in no unit.
ROOTS = ("-.slice", "init.scope")
_OCTAL = re.compile(r"\\([0-7]{3})")
_SHOWN = re.compile(r"\S+ (\S+\.[a-z]+)(?: - .*)?$")


def places(pid: int, root: str = "/") -> dict[str, str]:
    """Where the process is in every hierarchy; nothing when it has ended."""
    try:
        with open(
            os.path.join(root, "proc", str(pid), "cgroup"), encoding="utf-8", errors="surrogateescape"
        ) as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return {}
    return {fields[1]: fields[2] for fields in lines if len(fields) == 3}


def move(pid: int, wanted: Places, root: str = "/") -> list[str]:
    """Move the process, with all its threads, to ``wanted`` in every hierarchy; returns what could not be done, as text.

    A group that is gone is replaced by the hierarchy's root, where nobody ends it.
    """
    refused = []
    for hierarchy, path in places(pid, root).items():
        target = wanted.get(hierarchy, path)
        if target == path:
            continue
        try:
            try:
                _enter(pid, hierarchy, target, root)
            except FileNotFoundError:
                _enter(pid, hierarchy, "/", root)
                refused.append(f"the control group {target}{_of(hierarchy)} is gone: / is used instead")
        except ProcessLookupError:
            return refused
        except OSError as error:
            refused.append(f"the control group {target}{_of(hierarchy)} cannot be entered: {error.strerror}")
    return refused


def ours(pid: int, root: str = "/") -> str | None:
    """A control group of ours that the process is in, in any hierarchy: it would be ended with us; or None."""
    for hierarchy, path in places(pid, root).items():
        if _OURS.search(path):
            return f"{path}{_of(hierarchy)}"
    return None


def unit_of(pid: int, root: str = "/", runner: Runner = run) -> str | None:
    """The unit that systemd says owns the process; None when none does, or where systemd is not the running init."""
    if not os.path.isdir(os.path.join(root, "run/systemd/system")):
        return None
    shown = runner(["systemctl", "status", "--no-pager", "--full", "--lines=0", str(pid)]).out
    first = next(iter(shown.splitlines()), "")
    found = _SHOWN.match(first)
    return found.group(1) if found else None


def _enter(pid: int, hierarchy: str, path: str, root: str) -> None:
    directory = _directory(hierarchy, path, root)
    if directory is None:
        raise OSError(0, "its hierarchy is not mounted")
    with open(os.path.join(directory, "cgroup.procs"), "w", encoding="ascii") as file:
        file.write(str(pid))


def _directory(hierarchy: str, path: str, root: str) -> str | None:
    """Where the group ``path`` of the hierarchy is in the file system; a mount may show a part of it only (mountinfo)."""
    for shown, point in _mounts(hierarchy, root):
        top = "" if shown == "/" else shown
        if path == shown or path.startswith(f"{top}/"):
            return os.path.join(root, (point + path[len(top) :]).lstrip("/"))
    return None


def _mounts(hierarchy: str, root: str) -> t.Iterator[tuple[str, str]]:
    wanted = set(hierarchy.split(",")) if hierarchy else set()
    with open(os.path.join(root, "proc/self/mountinfo"), encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, __, after = line.rstrip("\n").partition(" - ")
            kind, __, options = after.split(" ", 2)
            if kind != ("cgroup" if hierarchy else "cgroup2") or not wanted <= set(options.split(",")):
                continue
            fields = before.split(" ")
            yield _plain(fields[3]), _plain(fields[4])


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found.group(1), 8)), text)


def _of(hierarchy: str) -> str:
    return f" of the hierarchy {hierarchy}" if hierarchy else ""
