# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Which package manager has installed Open vSwitch here, and what of its packages is to stay as it is."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Runner

PATTERNS = ("openvswitch*", "ovn*")
# The locks of dnf's plugin, and those that dnf5 has itself.
LOCKS = "etc/dnf/plugins/versionlock.list"
LOCKS_5 = "etc/dnf/versionlock.toml"
# dpkg(1), "Package states".
_UNFINISHED = frozenset({"half-installed", "unpacked", "half-configured"})
# NAME-EPOCH:VERSION-RELEASE.ARCH, of which all but the name may be left out; ! means all but this.
_LOCK = re.compile(r"!?(.+?)(-(\d+:)?[\d*].*)?$")
_LOCK_5 = re.compile(r"^\s*name\s*=\s*[\"']([^\"']+)[\"']", re.MULTILINE)
# What the scripts of an older package did after an upgrade, written out or as systemd's macros had it from 248 on.
_RESTARTS = re.compile(
    r"systemctl\s.*restart|mark-restart-system-units|needs-restart|service\s+\S+\s+(cond)?restart"
)


class Packages(t.NamedTuple):
    """``manager``: apt, dnf4, dnf5 or None; ``restarting`` are those whose own scripts restart a service when replaced.

    ``unfinished`` are those that an interrupted dpkg has left half installed.
    """

    manager: str | None
    held: list[str]
    restarting: list[str]
    unfinished: t.Sequence[str] = ()


def look(runner: Runner, root: str = "/") -> Packages:
    """See ``Packages``.  A host may have tools of both kinds: what counts is who knows Open vSwitch."""
    states = _dpkg(runner)
    unfinished = sorted(name for __, status, name in states if status in _UNFINISHED)
    if unfinished or any(status == "installed" for __, status, __ in states):
        return Packages(
            "apt", sorted(name for want, __, name in states if want == "hold"), [], tuple(unfinished)
        )
    scripts = _rpm(runner)
    dnf = shutil.which("dnf") or shutil.which("dnf-3")
    if dnf and (scripts or not shutil.which("apt-get")):
        locks = _locks(root)
        held = [name for name in scripts if any(fnmatch.fnmatchcase(name, lock) for lock in locks)]
        restarting = [name for name, text in scripts.items() if _RESTARTS.search(text)]
        manager = "dnf5" if os.path.basename(os.path.realpath(dnf)) == "dnf5" else "dnf4"
        return Packages(manager, sorted(held), sorted(restarting))
    held = sorted(name for want, __, name in states if want == "hold")
    return Packages("apt" if shutil.which("apt-get") else None, held, [])


def _dpkg(runner: Runner) -> list[list[str]]:
    """What is wanted of each package, its state, and its name."""
    form = "--showformat=${db:Status-Want} ${db:Status-Status} ${Package}\n"
    try:
        told = runner(["dpkg-query", "--show", form, *PATTERNS]).out
    except HotUpgradeError:
        return []
    return [line.split() for line in told.splitlines() if len(line.split()) == 3]


def _rpm(runner: Runner) -> dict[str, str]:
    """The installed packages with their scripts that run when another version replaces them."""
    form = "--queryformat=%{NAME}\n%{PREUN}\n%{POSTUN}\n\x1e"
    try:
        told = runner(["rpm", "--query", "--all", form, *PATTERNS]).out
    except HotUpgradeError:
        return {}
    found = (entry.partition("\n") for entry in told.split("\x1e") if entry.strip())
    return {name: text for name, __, text in found}


def _locks(root: str) -> list[str]:
    """The names, or patterns of names, that are locked."""
    lines = _read(root, LOCKS).splitlines()
    names = [_LOCK.match(line.strip()) for line in lines if line.strip() and not line.startswith("#")]
    return [found.group(1) for found in names if found] + _LOCK_5.findall(_read(root, LOCKS_5))


def _read(root: str, path: str) -> str:
    try:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
