# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Whether everything is there that the services and a rollback will execute.

A change of packages can lose a file that moves from one to another (Debian's ovs-ctl and ovs-save at 2.17, in a rollback): then
the running daemons are the last ones that this host has started.
"""

from __future__ import annotations

import os
import shutil
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import OVSDB_SERVER, VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.service_start import OVS_CTL
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import PATH, Runner, run
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.trust import doubt_of_file
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.unit_files import Service

# What ovs-ctl sources and runs to start, to stop and to reload (ovs-ctl.in, ovs-lib.in).
_BESIDE = ("ovs-lib", "ovs-save")
_TOOLS = (OVSDB_SERVER, VSWITCHD, "ovsdb-tool", "ovs-vsctl", "ovs-appctl", "ovs-ofctl")
_HINT = "put back what a change of packages has lost (Debian: apt-get install --reinstall with the package that dpkg -S names)"


def missing(services: t.Iterable[Service | None], runner: Runner = run) -> tuple[str, ...]:
    """One sentence for each thing that ``services`` will execute and that is not there, or does not run."""
    found: list[str] = []
    for service in services:
        for command in service.commands if service else ():
            program = command.words[0]
            if os.path.basename(program.text) == OVS_CTL:
                found += _of_ovs_ctl(program.text, str(program.origin), runner)
            elif command.checked and not _is_there(program.text):
                found.append(_lost(program.text, str(program.origin)))
    return tuple(dict.fromkeys(found))


def require_kept(directory: str, runner: Runner = run) -> None:
    """Raise ``HotUpgradeError`` unless the programs that were kept for a rollback run, with the libraries kept beside them."""
    for name in (VSWITCHD, OVSDB_SERVER):
        argv = ["env", f"LD_LIBRARY_PATH={directory}/lib", f"{directory}/{name}", "--version"]
        done = runner(argv)
        if done.rc != 0:
            raise HotUpgradeError(
                f"the copy of the running {name} does not run, so there would be no rollback",
                (done.err or done.out).strip() or f"status {done.rc}",
                "A library that it needs has gone with the packages of before: install that again",
            )


def _of_ovs_ctl(program: str, origin: str, runner: Runner) -> t.Iterator[str]:
    paths = [program, *(os.path.join(os.path.dirname(program), name) for name in _BESIDE)]
    lost = [path for path in paths if not os.path.isfile(path)]
    yield from (_lost(path, origin) for path in lost)
    for name in _TOOLS:
        path = shutil.which(name, path=PATH)
        wrong = "it is not there" if path is None else _wrong(path, runner)
        if wrong:
            yield f"the services run {path or name} by {program} ({origin}): {wrong}; {_HINT}"


def _wrong(path: str, runner: Runner) -> str:
    doubt = doubt_of_file(path)
    if doubt:
        return doubt
    try:
        done = runner([path, "--version"])
    except HotUpgradeError as error:
        return str(error)
    return "" if done.rc == 0 else (done.err or done.out).strip() or f"it ends with {done.rc}"


def _is_there(program: str) -> bool:
    return os.access(program, os.X_OK) if "/" in program else shutil.which(program, path=PATH) is not None


def _lost(path: str, origin: str) -> str:
    return f"the services run {path} ({origin}), which is not there: {_HINT}"
