# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The database through a restart and a conversion: tried on a copy first, compared afterwards, and put back.

The new ovsdb-server is started dry as its service will start it, beside the old one, in a directory of its own and on a copy of
the database without managers, before anything is stopped.  ``ovs-ctl`` (ovs-lib.in) takes its places from ``OVS_*`` variables.
"""

from __future__ import annotations

import contextlib
import json
import operator
import os
import pwd
import re
import shutil
import signal
import subprocess
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.files import open_regular
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import TimedOut, Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.restore import fill_up
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import State
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import database_content
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import OVSDB_SERVER
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.database_file import fitted
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.hints import ENGINE_LOG
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.homes import runner_in
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.last_words import log_size, written
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import DATABASE, Ovsdb
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import PATH, check
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.likeness import drops
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    identify,
    shown,
    terminate,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.trust import user_of

# How long a dry start may take, in seconds.
TIMEOUT = 60.0

# How long what it has started may take to end, in seconds.
KILLED_TIMEOUT = 5.0

# What a start changes of the switch's own row is put back afterwards; bridges and all else would be seen by ovs-vswitchd at once.
HARMLESS = frozenset({"external_ids"})
FORESEEN, DROPPED = "foreseen.json", "dropped.json"

# Options whose value is a word of its own, and those that name what belongs to the first process (ovsdb-server(1)).
_VALUED = frozenset(
    {"--user", "--remote", "--private-key", "--certificate", "--ca-cert", "--bootstrap-ca-cert"}
)
_PLACES = frozenset(
    {"--remote", "--pidfile", "--unixctl", "--log-file", "--detach", "--monitor", "--no-chdir"}
)
_SCRIPTS = frozenset({"install_uuid.conf"})
_MOST_CONFIGURED = 1 << 16
_CONFIGURED = ("system-id.conf", "install_uuid.conf", "system-type.conf", "system-version.conf")
_LOGGED = re.compile(r"\|(WARN|ERR|EMER)\|")


def place(host: Host) -> str:
    """The directory of the dry start."""
    return f"{host.scope.beside}{host.transaction.id[-6:]}-dry"


def rehearse(host: Host) -> None:
    """Start the new ovsdb-server dry; raises ``HotUpgradeError`` when it does not start, or would change the configuration."""
    try:
        before = _lay_out(host)
        output = _start(host)
        with Ovsdb(f"unix:{place(host)}/db.sock", host.request.timeout) as copy:
            after, tables = database_content.read(copy), copy.schema["tables"]
    finally:
        clear(host)
    # What a conversion has no place for is announced by itself.
    changed = [each for each in database_content.compare(before, after) if each.table in tables]
    severe = [str(each) for each in changed if _is_severe(each)]
    if severe:
        raise HotUpgradeError(
            f"a start of {_name(host)} would change the configuration",
            "; ".join([*severe[:5], *([f"{len(severe) - 5} more"] if len(severe) > 5 else []), output]),
            "It was tried on a copy, nothing was stopped. Fix what starts it",
        )
    host.transaction.write(FORESEEN, [list(each.key) for each in changed])


def clear(host: Host) -> None:
    """End whatever the dry start has started, and remove its directory; nothing is there: fine."""
    directory = place(host)
    users = (0, _identity(host.request.server.process.pid)[0])
    with contextlib.suppress(TimedOut):
        Waiter(KILLED_TIMEOUT, 0.01, host.outside.clock).wait(
            "nothing of the dry start runs", lambda: _kill(directory, users), operator.not_
        )
    for left in (directory, _apart(host)):
        shutil.rmtree(left, ignore_errors=True)


def restart_server(host: Host, free_try: bool = False) -> None:
    """Restart ovsdb-server, and put back what its start has changed of the configuration.

    Raises ``HotUpgradeError`` when that was more than names: ovs-vswitchd may have acted on it, and the flows were restored, too.
    """
    with host.database.open() as database:
        before = database_content.read(database)
    states = _states(host) if _is_unknown(host) else {}
    with _telling(host):
        host.database.restart_server(free_try)
    with host.database.open() as database:
        changed = _of_the_start(host, database_content.compare(before, database_content.read(database)))
        if changed:
            database.transact(*database_content.putting_back(changed, database.schema))
    host.report.not_carried += [
        f"the start of {OVSDB_SERVER} changed the database, it was put back: {each}" for each in changed
    ]
    severe = [str(each) for each in changed if _is_severe(each)]
    if severe:
        host.database.wait_for_vswitchd()
        for name, state in states.items():
            with host.outside.open_switch(host.scope.management(name)) as switch:
                fill_up(switch, state)
        raise HotUpgradeError(
            f"the start of {_name(host)} changed the configuration",
            "; ".join(severe[:5]),
            "It was put back, and the flows with it. Fix what starts it",
        )


def _of_the_start(
    host: Host, changed: t.Sequence[database_content.Difference]
) -> list[database_content.Difference]:
    """What of this the start has changed, and not somebody else meanwhile.

    The dry start tells, if it has run what the service runs; else whatever is gone or another now, after a second in which
    nobody could reach the database, counts as the start's.
    """
    foreseen = {tuple(key) for key in host.transaction.read(FORESEEN) or ()}
    unknown = _is_unknown(host)
    return [each for each in changed if each.key in foreseen or (unknown and each.before is not None)]


def _is_unknown(host: Host) -> bool:
    """Whether the service starts the daemon by something of which nothing is known."""
    return bool(host.request.supervisors[OVSDB_SERVER]["unit"] and not host.request.start.argv)


def _states(host: Host) -> dict[str, State]:
    """What the bridges hold now: of one that is deleted, its followers are told that its flows were."""
    snapshot = host.snapshot.read()
    return {name: host.snapshot.now(snapshot, name) for name in host.scope.bridges}


def _is_severe(difference: database_content.Difference) -> bool:
    """Whether ovs-vswitchd acts on it."""
    return difference.table != DATABASE or difference.column not in HARMLESS


@contextlib.contextmanager
def _telling(host: Host) -> t.Iterator[None]:
    """Give an error of a start the words that the daemon has meanwhile written into its log."""
    argv = host.request.server.argv
    size = log_size(argv)
    try:
        yield
    except HotUpgradeError as error:
        said = _logged(argv, size)
        if not said:
            raise
        raise HotUpgradeError(error.what, "; ".join([error.why, *said]), error.hint) from error


def _logged(argv: t.Sequence[str], since: int = 0) -> list[str]:
    """The last warnings and errors in the log of a daemon with this command line."""
    return [line.strip() for line in written(argv, since).splitlines() if _LOGGED.search(line)][-6:]


def convert(host: Host, schema_file: str) -> None:
    """Convert the database, and keep what the other schema has no place for, or does not allow."""
    schema = host.database.read_schema(schema_file)
    with host.database.open() as database:
        lost = database_content.lost(database, schema)
    host.transaction.write(DROPPED, database_content.as_json(lost))
    host.report.not_carried += host.database.convert(schema, lost)


def convert_back(host: Host) -> None:
    """Convert the database to the schema of before, with what had no place meanwhile."""
    host.database.ensure()
    schema = host.database.read_schema(f"{host.scope.kept}/vswitch.ovsschema")
    with host.database.open() as database:
        converted = database.schema_version != schema["version"]
        lost = database_content.lost(database, schema)
    host.report.not_carried += host.database.convert(schema, lost)
    with host.database.open() as database:
        dropped = database_content.of_json(host.transaction.read(DROPPED) or ())
        if not converted:  # it was taken back already, or never came to be
            dropped = _emptied(dropped, database_content.read(database))
        database.transact(*database_content.putting_back(dropped, database.schema))


def _emptied(
    lost: t.Sequence[database_content.Difference], now: database_content.Content
) -> list[database_content.Difference]:
    """Of what a conversion would lose, the values that were taken out before it began, and are not there ``now``."""
    return [
        each
        for each in lost
        if each.column is not None
        and now.get(each.table, {}).get(each.uuid, {}).get(each.column) == (each.before[0], ())
    ]


def command_line(host: Host) -> list[str]:
    """How the dry start starts: as the service does, or as the daemon was started where no service of a known kind does."""
    directory, start = place(host), host.request.start
    if start.argv:
        own = [f"--db-file={directory}/conf.db", f"--db-sock={directory}/db.sock"]
        return [*map(_without_places, start.argv), *own]
    program = host.request.supervisors[OVSDB_SERVER]["program"]
    arguments = _arguments(host.request.server.argv[1:])
    own = [f"--remote=punix:{directory}/db.sock", f"--pidfile={directory}/{OVSDB_SERVER}.pid"]
    return [
        *(program, f"{directory}/conf.db", *arguments, *own, "--no-chdir", "--detach"),
        *(f"--unixctl={directory}/{OVSDB_SERVER}.ctl", f"--log-file={_apart(host)}/{OVSDB_SERVER}.log"),
    ]


def _apart(host: Host) -> str:
    """The directory of what root opens or runs as a script meanwhile: not where the daemon's user could change it."""
    return place(host) if host.request.start.user else host.scope.seen("dry")


def _without_places(word: str) -> str:
    """``--ovsdb-server-options=`` may name sockets and files that the running daemon has."""
    name, equals, value = word.partition("=")
    if name != "--ovsdb-server-options" or not equals:
        return word
    return f"{name}={' '.join(_arguments(value.split()))}"


def _arguments(words: t.Sequence[str]) -> list[str]:
    """The options of an ovsdb-server that another one may have as well; its databases are left out."""
    kept: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        alone = word in _VALUED and position + 1 < len(words)
        if word.startswith("-") and word.partition("=")[0] not in _PLACES:
            kept += words[position : position + 1 + alone]
        position += 1 + alone
    return kept


def _lay_out(host: Host) -> database_content.Content:
    """Make the directory, with a copy of the database and of the files that ``ovs-ctl`` reads; what the copy holds."""
    directory = place(host)
    clear(host)
    os.makedirs(directory, 0o755)
    os.makedirs(f"{_apart(host)}/etc/openvswitch", 0o755)
    for name in _CONFIGURED:
        with contextlib.suppress(OSError):
            _copy_small(f"/etc/openvswitch/{name}", f"{_apart(host)}/etc/openvswitch/{name}")
    path = f"{directory}/conf.db"
    content = host.database.backup()
    if host.request.convert:
        content = fitted(content, host.database.read_schema(host.request.schema))
    with open(path, "w", encoding="utf-8") as file:
        file.write(content)
    silent = {"op": "update", "table": DATABASE, "where": [], "row": {"manager_options": ["set", []]}}
    runner = runner_in(host.scope.container)
    check(runner, ["ovsdb-tool", "transact", path, json.dumps([DATABASE, silent])], timeout=120)
    before = database_content.read(t.cast(Ovsdb, _File(path, host)))
    if host.request.convert and not host.request.start.argv:  # ovs-ctl does it by itself
        check(runner, ["ovsdb-tool", "convert", path, host.request.schema], timeout=120)
    with contextlib.suppress(FileNotFoundError):  # what ovsdb-tool left, and only root could open
        os.unlink(f"{directory}/.conf.db.~lock~")
    _give(host, path, directory)
    return before


def _copy_small(source: str, target: str) -> None:
    """Copy a file of /etc/openvswitch, which may be the daemon's user's; a link is not followed (docs/security.md).

    What ovs-ctl runs as a script, as root, is copied only if it is root's.
    """
    with open_regular(source) as file:
        found = os.fstat(file.fileno())
        if os.path.basename(source) in _SCRIPTS and (found.st_uid != 0 or found.st_mode & 0o022):
            return
        with open(target, "wb") as copy:
            copy.write(file.read(_MOST_CONFIGURED))


class _File:
    """A database in a file that nobody serves, for ``database_content.read``."""

    def __init__(self, path: str, host: Host) -> None:
        self.path, self._run = path, runner_in(host.scope.container)
        with host.database.open() as database:
            self.schema = database.schema

    def transact(self, *operations: dict[str, t.Any]) -> t.Any:
        """The results of operations that only read (ovsdb-tool(1), query)."""
        argv = ["ovsdb-tool", "query", self.path, json.dumps([DATABASE, *operations])]
        return json.loads(check(self._run, argv, timeout=120))


def _give(host: Host, *paths: str) -> None:
    """Give ``paths`` to the user as whom the running ovsdb-server runs."""
    user, group = _identity(host.request.server.process.pid)
    for path in paths:
        os.chown(path, user, group, follow_symlinks=False)


def _identity(pid: int) -> tuple[int, int]:
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            values = dict(line.split(":", 1) for line in file if ":" in line)
        return int(values["Uid"].split()[1]), int(values["Gid"].split()[1])
    except (OSError, KeyError):
        return 0, 0


def _start(host: Host) -> str:
    """Run the command line to its end; what it said.  Raises ``HotUpgradeError`` with that when it failed."""
    directory, start = place(host), host.request.start
    os.makedirs(_apart(host), 0o700, exist_ok=True)
    environment = {
        "PATH": PATH,
        **start.environment,
        **{f"OVS_{name}DIR": directory for name in ("RUN", "DB")},
        "OVS_LOGDIR": _apart(host),
        "OVS_SYSCONFDIR": f"{_apart(host)}/etc",
    }
    # Not where the daemon's user could put a link in its place.
    said = host.transaction.file("dry.log")
    with open(said, "w", encoding="utf-8") as output:
        argv = host.scope.inside(command_line(host))
        process = _popen(argv, environment, output, _credentials(host))
    try:
        code: int | None = Waiter(TIMEOUT).wait(
            "it has ended", process.poll, lambda status: status is not None
        )
        why = f"status {code}"
    except TimedOut:
        code, why = None, f"it did not end within {TIMEOUT:g} s"
    finally:
        with contextlib.suppress(
            ProcessLookupError
        ):  # 2.15 has ovs-ctl ask for the host's name in the background
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    words = _words(directory, said, f"{_apart(host)}/{OVSDB_SERVER}.log")
    if code != 0:
        raise HotUpgradeError(
            f"{_name(host)} would not start again",
            "; ".join(filter(None, [why, *words])),
            "It was tried on a copy, nothing was stopped. Fix what it names: the running one could not be started again either",
        )
    return "; ".join(words)


def _credentials(host: Host) -> dict[str, t.Any]:
    """As whom it is started: as the unit's user, else as root, unless the running one is somebody else's from its beginning."""
    start, server = host.request.start, host.request.server
    if start.user:
        entry = pwd.getpwnam(start.user)
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}
    user, group = _identity(server.process.pid)
    if user == 0 or start.argv or drops(server.argv):
        return {}
    return {"user": user, "group": group, "extra_groups": []}


def _popen(
    argv: t.Sequence[str], environment: t.Mapping[str, str], output: t.IO[str], who: t.Mapping[str, t.Any]
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(argv),
            env=dict(environment),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **who,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise HotUpgradeError(f"cannot run {argv[0]}", str(error), ENGINE_LOG) from error


def _words(directory: str, said: str, log: str) -> list[str]:
    """What is worth reading of what the dry start said and logged, on one line each."""
    with open(said, encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file]
    found = [line for line in lines[-6:] if line and not line.endswith("done.")]
    found += _logged([f"--log-file={log}"])
    return [line.replace(directory, "DIR") for line in dict.fromkeys(found)]


def _name(host: Host) -> str:
    return str(host.request.supervisors[OVSDB_SERVER]["unit"] or OVSDB_SERVER)


def _kill(directory: str, users: t.Container[int]) -> int:
    """SIGKILL every process of ``users`` that has the run directory ``directory``; how many there were."""
    wanted, count = b"OVS_RUNDIR=" + os.fsencode(directory), 0
    for number in filter(str.isdigit, os.listdir("/proc")):
        process = identify(int(number))
        with contextlib.suppress(OSError):
            ours = wanted in shown(int(number), "environ").split(b"\0")
            # Others may have given a process our variable.
            if ours and process and user_of(int(number)) in users:
                terminate(process, signal.SIGKILL, 1.0)
                count += 1
    return count
