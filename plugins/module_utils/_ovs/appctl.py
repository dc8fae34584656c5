# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The daemons' control sockets: what ``ovs-appctl`` does, without a process.

Protocol: ``lib/unixctl.c``; each command is a JSON-RPC method whose params and result are strings.
"""

from __future__ import annotations

import os
import re

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.files import open_regular
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.jsonrpc import JsonRpc, RpcError

_MOST_PIDFILE = 64
_PID = re.compile(rb"[1-9][0-9]{0,9}\s*")


class Appctl:
    """Commands for the daemon behind ``socket_path``; one connection for each command."""

    def __init__(self, socket_path: str, timeout: float = 10.0) -> None:
        self.socket_path = socket_path
        self.timeout = timeout

    def call(self, command: str, *args: str) -> str:
        """Return the text that ``ovs-appctl COMMAND ARGS`` prints, with its final newline if it has one.

        Raises ``Unreachable`` (no daemon, no answer in time) or ``HotUpgradeError`` (refused by the daemon).
        """
        rpc = JsonRpc(f"unix:{self.socket_path}", self.timeout)
        try:
            return str(rpc.call(command, args))
        except RpcError as refusal:
            raise HotUpgradeError(
                f"{os.path.basename(self.socket_path)} refused the command {command}",
                str(refusal.error).strip(),
                "The daemon's log may say more; an old version may not know the command",
            ) from refusal
        finally:
            rpc.close()


def read_pid(pidfile: str) -> int:
    """The process id in ``pidfile``: a small file, no link, no pipe.  Raises ``Unreachable`` when it is anything else.

    Whoever owns the run directory can put anything there; see docs/security.md.
    """
    hint = "Check that the daemon runs and that the run directory is the right one"
    try:
        with open_regular(pidfile) as file:
            content = file.read(_MOST_PIDFILE)
    except OSError as error:
        raise Unreachable(f"cannot read the pidfile {pidfile}", error.strerror or str(error), hint) from error
    if not _PID.fullmatch(content):
        raise Unreachable(f"the pidfile {pidfile} holds no process id", f"it begins with {content!r}", hint)
    return int(content)


def daemon_socket(rundir: str, name: str) -> str:
    """The control socket of the daemon ``name`` (as ``ovs-vswitchd``), found by its pidfile in ``rundir``.

    The socket's existence is not checked.  Raises ``Unreachable`` when there is no usable pidfile.
    """
    pid = read_pid(os.path.join(rundir, f"{name}.pid"))
    return os.path.join(rundir, f"{name}.{pid}.ctl")
