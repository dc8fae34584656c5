# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""A process that waits to become the new ovs-vswitchd.

It is there, and its service's, before the old one ends; so all that is left then is to run the program.  A service
manager that starts one runs a script of a second or more first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.files import write_durable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import newcomer
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import read_pid
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import OVSDB_SERVER, VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.hints import ENGINE_LOG, SYSTEM_LOG
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
    identify,
    kill,
)

# How long a shell may need to say that it waits, in seconds.
TIMEOUT = 10.0
_SCRIPT = 'echo $$ >"$1.new" && mv "$1.new" "$1"; read -r go <"$2" || exit 1; shift 2; {forget}exec "$@"'
# What a shell tells the program that it becomes, whether it was told it or not.
_OF_SHELLS = ("PWD", "OLDPWD", "SHLVL")


def start(host: Host) -> None:
    """Start the process; from its pidfile on it has the pid that the new ovs-vswitchd will have."""
    gate, own = _gate(host), _pidfile(host)
    os.mkfifo(gate, 0o600)
    program = host.request.supervisors[VSWITCHD]["program"]
    place = host.scope.private
    argv = newcomer.command_line(host, host.request.remote, program, place)
    added = [name for name in _OF_SHELLS if name not in host.request.vswitchd.environment]
    script = _SCRIPT.format(forget=f"unset {' '.join(added)}; " if added else "")
    newcomer.launch(host, ["/bin/sh", "-c", script, "sh", own, gate, *argv], program, place)
    Waiter(TIMEOUT).wait("the new process waits for its turn", lambda: read_pid(own), bool, hint=ENGINE_LOG)
    found = identify(read_pid(own))
    if found is None:
        raise HotUpgradeError(
            "the process that waits to become ovs-vswitchd has ended", "somebody killed it", SYSTEM_LOG
        )
    host.transaction.write("held.json", dataclasses.astuple(found))


def process(host: Host) -> Process:
    """The process, before and after it has become ovs-vswitchd.  Raises ``Unreachable`` when none was started."""
    found = host.transaction.read("held.json")
    if found is None:
        raise Unreachable("no process waits to become ovs-vswitchd", "none was started", ENGINE_LOG)
    return Process(*t.cast("list[int]", found))


def take_pidfile(host: Host) -> None:
    """Make the real pidfile name the process, so that its service accepts it when the old one ends.

    It has the owner of the directory: an ovs-vswitchd with ``--user`` opens it as that user.  Raises ``Unreachable`` where the
    database has ended, without which the old process does not end either: a rollback has to find that one in its pidfile, else
    it takes it for gone and starts it anew.
    """
    host.services.process(OVSDB_SERVER)
    path = os.path.join(host.request.rundir, f"{VSWITCHD}.pid")
    owner = os.stat(host.request.rundir)
    write_durable(path, f"{process(host).pid}\n".encode(), 0o644, (owner.st_uid, owner.st_gid))


def release(host: Host) -> None:
    """Let the process become ovs-vswitchd.  Raises ``HotUpgradeError`` when it is not there any more."""
    try:
        descriptor = os.open(_gate(host), os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        raise HotUpgradeError(
            "the process that waits to become ovs-vswitchd has ended",
            error.strerror or str(error),
            SYSTEM_LOG,
        ) from error
    try:
        os.write(descriptor, b"go\n")
    finally:
        os.close(descriptor)


def end(host: Host) -> None:
    """End the process, whatever it is by now; nothing there is fine."""
    with contextlib.suppress(Unreachable):
        kill(process(host))
    for path in (_gate(host), _pidfile(host)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _gate(host: Host) -> str:
    return host.transaction.file("go")


def _pidfile(host: Host) -> str:
    return host.transaction.file("held.pid")
