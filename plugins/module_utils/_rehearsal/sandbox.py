# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Two daemons beside the running ones that can touch nothing of the host.

``ovs-vswitchd --enable-dummy=override``, which stock builds have, makes every datapath and every device a dummy (lib/dummy.c):
ports of any name and number are there without devices.  It runs in a network namespace and in a directory of its own, and ends
with whoever has started it.
"""

from __future__ import annotations

import contextlib
import functools
import subprocess
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    Ended,
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import TimedOut, Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import management_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import Switch
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl, daemon_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import OVSDB_SERVER, VSWITCHD
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.last_words import last_words
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import (
    Connection,
    Ovsdb,
    reconfigured,
    request_reconfiguration,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._rehearsal.programs import Programs
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import PATH

# A database of 50,000 ports takes a while; in seconds.
START_TIMEOUT = 120.0
_ANSWER_TIMEOUT = 60.0
_END_TIMEOUT = 10.0
_OFTEN = 0.01
# They end with their maker, give way to what the host is there for, and have a network of their own.
_APART = ("setpriv", "--pdeathsig", "KILL", "nice", "-n", "10", "unshare", "--net", "--")

T = t.TypeVar("T")


class Sandbox:
    """The daemons of ``programs`` in ``directory``, which is root's alone; a context manager that ends them."""

    def __init__(self, programs: Programs, directory: str) -> None:
        self._programs, self._directory = programs, directory
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.connection = Connection(directory, f"unix:{directory}/db.sock", _ANSWER_TIMEOUT)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait(_END_TIMEOUT)

    def serve(self, file: str) -> Ovsdb:
        """Serve the database in ``file``; the session with it is the caller's to close."""
        self._start(OVSDB_SERVER, [*self._programs.server, file, f"--remote=punix:{self._directory}/db.sock"])
        return self._patient(OVSDB_SERVER, "the copy of the database is served", self.connection.open)

    def start(self, database: Ovsdb) -> None:
        """Start ovs-vswitchd; returns when it has done what ``database`` says."""
        number = request_reconfiguration(database)
        self._start(
            VSWITCHD,
            [*self._programs.vswitchd, self.connection.remote, "--enable-dummy=override", "--disable-system"],
        )
        done = functools.partial(reconfigured, database, number)
        self._patient(VSWITCHD, f"the {VSWITCHD} of {self._programs.version} has read it", done, bool)

    def switch(self, bridge: str, version: int) -> Switch:
        """A connection to ``bridge`` in that version of OpenFlow."""
        return Switch(management_socket(self._directory, bridge), (version,), _ANSWER_TIMEOUT)

    @property
    def control(self) -> Appctl:
        """The control socket of ovs-vswitchd."""
        return Appctl(daemon_socket(self._directory, VSWITCHD), _ANSWER_TIMEOUT)

    def memory(self) -> int:
        """The most memory that ovs-vswitchd has had, in bytes."""
        with open(f"/proc/{self._running[VSWITCHD].pid}/status", encoding="utf-8") as file:
            return next((int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM:")), 0)

    def _start(self, name: str, words: t.Sequence[str]) -> None:
        own = ["--no-chdir", "--pidfile", f"--log-file={self._log(name)}", "-vconsole:off", "-vsyslog:off"]
        places = {f"OVS_{each}DIR": self._directory for each in ("RUN", "DB", "LOG", "SYSCONF")}
        with open(self._said(name), "wb") as said:
            try:
                self._running[name] = subprocess.Popen(
                    [*_APART, *words, *own],
                    env={"PATH": PATH, **places},
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                )
            except OSError as error:
                why = error.strerror or str(error)
                raise HotUpgradeError(
                    f"cannot run {_APART[0]}", why, "It is in the package util-linux"
                ) from error

    def _patient(
        self, name: str, what: str, ask: t.Callable[[], T], enough: t.Callable[[T], bool] = lambda _seen: True
    ) -> T:
        """What ``ask`` returns, when that is ``enough``.  Raises ``HotUpgradeError`` with the daemon's words when it ends."""

        def answer() -> T:
            if self._running[name].poll() is not None:
                raise Ended(f"the {name} of {self._programs.version} has ended", self._words(name))
            return ask()

        try:
            return Waiter(START_TIMEOUT, _OFTEN).wait(what, answer, enough)
        except (TimedOut, Unreachable) as error:
            raise HotUpgradeError(
                f"the {name} of {self._programs.version} does not start on a copy of the database",
                error.why,
                "It was tried apart from the host's: nothing of the host was touched",
            ) from error

    def _words(self, name: str) -> str:
        """Why it has ended."""
        with open(self._said(name), encoding="utf-8", errors="replace") as file:
            said = file.read()[-500:].strip()
        return said or last_words([name, f"--log-file={self._log(name)}"], 0, None)

    def _log(self, name: str) -> str:
        return f"{self._directory}/{name}.log"

    def _said(self, name: str) -> str:
        return f"{self._directory}/{name}.said"
