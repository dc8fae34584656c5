# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What a package manager did or would do, whichever it is (pure): from the result of the module that drives it."""

from __future__ import annotations

import re
import typing as t

# What "apt-get --simulate" prints: Inst NAME [BEFORE] (VERSION ORIGIN …), Remv NAME [BEFORE]; the state in brackets may follow.
_APT_INSTALLS = re.compile(r"^Inst (\S+) (?:\[(\S+)\] )?\((\S+)", re.MULTILINE)
_APT_REMOVES = re.compile(r"^Remv (\S+)", re.MULTILINE)
# What dnf's modules list: a NEVRA (dnf4 leaves out an epoch of 0).
_DNF = re.compile(r"^(Installed|Downloaded|Removed): (.+)-((?:\d+:)?[^-:]+-[^-]+)\.[^.]+$")
# The package that has ovs-vswitchd in it: Debian's, upstream's, and those of Fast Datapath (openvswitch3.3).
_DAEMONS = re.compile(r"openvswitch(-switch|[\d.]*)$")
_UPSTREAM = re.compile(r"(?:\d+:)?(\d+(?:\.\d+)+)")
_MODULES = re.compile(r"linux-image-|linux-modules-|kernel(-core|-modules(-\w+)?)?$|.*(dkms|kmod|datapath)")


class Changes(t.TypedDict):
    """By the name of a package: what comes, with its version as the package manager knows it; what was there in its place."""

    needed: bool
    coming: dict[str, str]
    replaced: dict[str, str]
    removed: list[str]
    version: str | None
    module: bool


def changes(result: t.Mapping[str, t.Any]) -> Changes:
    """From a result of ``ansible.builtin.apt`` or ``ansible.builtin.dnf``; nothing changes where there is none.

    ``version`` is that of Open vSwitch which comes, as upstream counts, and ``module`` whether a kernel module may be in it.
    """
    printed = str(result.get("stdout") or "")
    coming, replaced, removed = _dnf(result["results"]) if result.get("results") else _apt(printed)
    upstream = [_UPSTREAM.match(version) for name, version in coming.items() if _DAEMONS.match(name)]
    return {
        "needed": bool(printed or coming or removed),
        "coming": coming,
        "replaced": replaced,
        "removed": removed,
        "version": next((found.group(1) for found in upstream if found), None),
        "module": any(map(_MODULES.match, coming)),
    }


def _apt(printed: str) -> tuple[dict[str, str], dict[str, str], list[str]]:
    found = _APT_INSTALLS.findall(printed)
    coming = {name: version for name, __, version in found}
    return coming, {name: before for name, before, __ in found if before}, _APT_REMOVES.findall(printed)


def _dnf(results: t.Iterable[t.Any]) -> tuple[dict[str, str], dict[str, str], list[str]]:
    coming: dict[str, str] = {}
    gone: dict[str, str] = {}
    for found in map(_DNF.match, map(str, results)):
        if found:
            action, name, version = found.groups()
            (gone if action == "Removed" else coming)[name] = version
    replaced = {name: version for name, version in gone.items() if name in coming}
    return coming, replaced, sorted(gone.keys() - coming.keys())
