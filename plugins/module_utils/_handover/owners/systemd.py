# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""A daemon that is a unit of systemd.

The Debian and RPM units tie both daemons together, so each job here is run with ``ignore-dependencies``: one
daemon changes and nothing else does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import subprocess
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.files import write_durable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.owners.owner import (
    Adopting,
    Heritage,
    Job,
    misplaced_of,
    nothing,
    take_in,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import (
    Instance,
    environment_of,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import PATH, check, run
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
    family,
    is_monitor,
    monitor_of,
)

# Names that come after those of others: of two drop-ins that set the same, the last name counts, not the folder.
DROP_IN = "zzz-ovsops.conf"


HOLD = "zzz-ovsops-hold.conf"


# A PATH that means the same in a unit file.
_PLAIN = re.compile(r"[\w/:.+-]+")


# Where a unit finds its next main process meanwhile.
MAIN = "/run/ovsops"


@dataclasses.dataclass(frozen=True)
class Systemd(Adopting):
    """The daemon is a systemd unit.

    With Open vSwitch 4.0 on Debian a socket unit passes ovsdb-server its listening socket.  That cannot be started
    while the service runs, so it is put between the service's stop and start; and stopped where it is left over.
    ``start`` are lines that the unit has while it is held (see ``service_start``).
    """

    unit: str
    name: str
    rundir: str
    heritage: Heritage
    start: tuple[str, ...] = ()

    def restart(self, old: Instance, binaries: str | None, ending: t.Callable[[], None] = nothing) -> Job:
        """See ``Owner``."""
        ending()
        path = environment_of(old, None).get("PATH", "")
        self.override(
            binaries,
            None if "--monitor" in old.argv else self._pidfile,
            path if _PLAIN.fullmatch(path) else PATH,
        )
        socket = f"{self.name}.socket"
        # The programs of before may not know sockets that are passed to them.
        wanted = binaries is None and self._shown(socket, "LoadState") == ["loaded"]
        verb = "restart"
        active = self._shown(socket, "ActiveState") == ["active"]
        if wanted != active:
            if active:  # first: whoever connects to it starts the service again
                self._job("stop", socket)
            self._job("stop", self.unit)
            if wanted:
                self._job("start", socket)
            verb = "start"
        run(["systemctl", "reset-failed", self.unit])
        return _Restart(_start(self._argv(verb, self.unit)), self.unit)

    def override(self, binaries: str | None, pidfile: str | None, path: str = PATH) -> None:
        """Have the unit use ``binaries`` before its ``path`` until the next boot, and ``pidfile`` where it names no source
        of its main pid.
        """
        before, lines = self._read_drop_in(), ["[Service]"]
        if pidfile is not None and (not self._show("PIDFile") or "PIDFile=" in before):
            lines.append(f"PIDFile={pidfile}")
        if binaries is not None:
            lines.append(f"Environment=PATH={binaries}:{path}")
            if os.listdir(os.path.join(binaries, "lib")):
                lines.append(f"Environment=LD_LIBRARY_PATH={binaries}/lib")
        if self._write_drop_in(before, lines):
            reload()

    def _write_drop_in(self, before: str, lines: t.Sequence[str]) -> bool:
        """Whether there was something to write."""
        content = "\n".join([*lines, ""]) if len(lines) > 1 else ""
        if content == before:
            return False
        if content:
            os.makedirs(os.path.dirname(self._drop_in), exist_ok=True)
            with open(self._drop_in, "w", encoding="ascii") as file:
                file.write(content)
        else:
            _remove(self._drop_in)
        return True

    def adopt(self, new: Process) -> list[str]:
        """See ``Owner``: systemd reads PIDFile= when the main process ends, so nothing is restarted.

        Where that is a ``--monitor``, the new one's has to be it: in a file for this purpose, until ``let_go``.
        """
        if is_monitor(int(self._show("MainPID") or 0)):
            main = monitor_of(new) or new
            os.makedirs(os.path.dirname(self._main), mode=0o700, exist_ok=True)
            write_durable(self._main, f"{main.pid}\n".encode())
            self.override(None, self._main)
        else:
            self.override(None, self._pidfile)
        return take_in(new, self.heritage)

    def misplaced(self, process: Process) -> str | None:
        """See ``Owner``."""
        return misplaced_of(process, (self.unit,))

    def hold(self) -> bool:
        """See ``Owner``: Restart=on-failure would restart the other daemon as well, and lose the flows."""
        if os.path.exists(self._held):
            return False
        lines = ["[Service]", "Restart=no"]
        lines += self.start
        os.makedirs(os.path.dirname(self._held), exist_ok=True)
        with open(self._held, "w", encoding="utf-8") as file:
            file.write("\n".join([*lines, ""]))
        return True

    def cancel_restart(self) -> None:
        """See ``Owner``: the job would stop the other daemon, too, and an ovs-vswitchd is not started without that."""
        if self._show("SubState").startswith("auto-restart"):
            self._job("stop", self.unit)

    @property
    def revives(self) -> bool:
        """See ``Owner``."""
        return not os.path.exists(self._held) and self._show("Restart") not in ("", "no")

    def let_go(self) -> bool:
        """See ``Owner``."""
        changed = os.path.exists(self._held)
        if changed:
            _remove(self._held)
        if os.path.exists(self._main):
            before = self._read_drop_in()
            lines = [line for line in before.splitlines() if not line.endswith(self._main)]
            changed |= self._write_drop_in(before, lines)
            os.unlink(self._main)
        return changed

    def healthy(self, process: Process) -> str | None:
        """See ``Owner``."""
        state, main = self._shown(self.unit, "ActiveState", "MainPID")
        # 0: systemd could not guess which process of several is the main one, and goes by their cgroup.
        if state == "active" and main in ("0", *(str(each.pid) for each in family(process))):
            return self.misplaced(process)
        return f"{self.unit} is {state} with main pid {main}, not active with {process.pid}"

    def owns(self, process: Process) -> bool:
        """Whether the unit's main process is ``process`` or its monitor."""
        return self._show("MainPID") in [str(each.pid) for each in family(process)]

    @property
    def socket_user(self) -> str | None:
        """Who owns the socket that a socket unit makes for the daemon; None without such a unit."""
        loaded, user = self._shown(f"{self.name}.socket", "LoadState", "SocketUser")
        return (user or "root") if loaded == "loaded" else None

    @property
    def _pidfile(self) -> str:
        return f"{os.path.realpath(self.rundir)}/{self.name}.pid"

    @property
    def _main(self) -> str:
        return f"{MAIN}/{self.unit}.main"

    @property
    def _drop_in(self) -> str:
        return f"/run/systemd/system/{self.unit}.d/{DROP_IN}"

    @property
    def _held(self) -> str:
        return f"/run/systemd/system/{self.unit}.d/{HOLD}"

    def _read_drop_in(self) -> str:
        try:
            with open(self._drop_in, encoding="ascii") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def _argv(self, verb: str, unit: str) -> list[str]:
        return ["systemctl", verb, "--job-mode=ignore-dependencies", unit]

    def _job(self, verb: str, unit: str) -> None:
        check(run, self._argv(verb, unit), timeout=120)

    def _show(self, key: str) -> str:
        return self._shown(self.unit, key)[0]

    def _shown(self, unit: str, *keys: str) -> list[str]:
        out = check(run, ["systemctl", "show", "--property", ",".join(keys), unit])
        values = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        return [values.get(key, "") for key in keys]


def _remove(drop_in: str) -> None:
    """Remove it, and its directory unless somebody else has something there."""
    os.unlink(drop_in)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(drop_in))


@dataclasses.dataclass(frozen=True)
class _Restart:
    process: subprocess.Popen[bytes]
    what: str

    @property
    def refused(self) -> list[str]:
        return []

    @property
    def _hint(self) -> str:
        return f"Look at what it said: journalctl -u {self.what}"

    def failed(self) -> bool:
        return self.process.poll() not in (None, 0)

    def wait(self, timeout: float) -> None:
        try:
            __, said = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            self.process.kill()
            raise HotUpgradeError(
                f"{self.what} did not start in {timeout:g} s", "systemctl has not returned", self._hint
            ) from error
        if self.process.returncode != 0:
            why = said.decode(errors="replace").strip() or f"status {self.process.returncode}"
            raise HotUpgradeError(f"{self.what} did not start", why, self._hint)


def reload() -> None:
    """Have systemd read what ``hold`` and ``let_go`` have written."""
    check(run, ["systemctl", "daemon-reload"], timeout=120)


def _start(argv: t.Sequence[str], environment: t.Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        list(argv),
        env=None if environment is None else dict(environment),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
