# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""A second ovs-vswitchd with a run directory of its own beside the running one, and its adoption in the first's place.

The private directory is beside the real one, so that its sockets can be renamed over; afterwards a link from its
name to the real one stays for as long as the process lives, which makes later sockets there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import glob
import os
import shutil
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.side_by_side import first_alone
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import TimedOut, Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover import controllers
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.database import START_TIMEOUT
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.filler import POLL
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import management_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import (
    OVSDB_SERVER,
    VSWITCHD,
    kill_daemon,
    parse_version,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.hints import VSWITCHD_LOG
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.instance import environment_of
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.last_words import log_size
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Ovsdb
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.silence import silence
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.death_watch import attention
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.launch import prepare, spawn
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
    Watched,
    alive,
    comm,
    identify,
    is_variant,
    kill,
    monitor_of,
    shown,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.sockets import StandsStill
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.trust import (
    doubt_of_daemon,
    owner_of,
    user_of,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.step import Step

# How long a process may need to become the program that it is to run, in seconds.
EXEC_TIMEOUT = 2.0

# An environment that is longer is not one that we gave.
_MOST_ENVIRONMENT = 1 << 20

# What is beside the private run directory for a while: the socket of its database, and itself when it has had its day.
_BESIDE = (".db", ".done")

T = t.TypeVar("T")
Act = t.Callable[[Host], None]


def database(host: Host) -> str:
    """The remote of the private database: in a directory of root's own, which the daemon's user can get to."""
    return f"unix:{_database_socket(host)}"


def open_database(host: Host) -> Ovsdb:
    """A session with the private database."""
    return host.outside.open_database(database(host), host.request.timeout)


def lasting_database(host: Host) -> str:
    """The remote for the second ovs-vswitchd: a link to the private database, and after ``move_in`` the real one."""
    return f"unix:{host.scope.private}/db.sock"


def _database_socket(host: Host) -> str:
    return f"{host.scope.private}.db/db.sock"


class Running(t.NamedTuple):
    """The second ovs-vswitchd, and how to ask it."""

    process: Process
    control: Appctl


def running(host: Host) -> Running:
    """The second ovs-vswitchd.  Raises ``Unreachable`` when it does not run, or has its pidfile in the real directory."""
    found = process(host)
    return Running(found, Appctl(_control_socket(host, found), 60.0))


def control(host: Host) -> Appctl:
    """The control socket of the second ovs-vswitchd; raises as ``running`` does."""
    return running(host).control


def _control_socket(host: Host, second: Process) -> str:
    return os.path.join(host.scope.private, f"{VSWITCHD}.{second.pid}.ctl")


def process(host: Host) -> Process:
    """The second ovs-vswitchd.  Raises ``Unreachable`` when it does not run."""
    return host.outside.running(host.scope.private, VSWITCHD).process


def reachable(host: Host) -> Appctl:
    """The control socket of the second ovs-vswitchd, also when its pidfile is in the real directory already."""
    return find(host).control


def find(host: Host) -> Running:
    """The second ovs-vswitchd, wherever its pidfile is; this looks through all processes.  Raises ``Unreachable``."""
    for found in processes_of(host.scope.private, (VSWITCHD,)):
        path = _control_socket(host, found)
        if os.path.exists(path):
            return Running(found, Appctl(path, 5.0))
    raise Unreachable(
        f"the second {VSWITCHD} does not run",
        f"no process has the run directory {host.scope.private}",
        VSWITCHD_LOG,
    )


def version(host: Host) -> str:
    """The version of the second ovs-vswitchd, ``0`` when it does not tell."""
    return parse_version(reachable(host).call("version")) or "0"


def attended(do: Act, private: t.Sequence[str] = (VSWITCHD, OVSDB_SERVER)) -> Act:
    """Make a step fail at once when a daemon ends that it needs: those in the real directory, and the ``private`` ones."""

    def step(host: Host) -> None:
        needed = {name: host.services.process(name) for name in (OVSDB_SERVER, VSWITCHD)}
        for number, found in enumerate(processes_of(host.scope.private, private)):
            needed[f"daemon {number} of {host.scope.private}"] = found
        with attention(needed):
            do(host)

    return step


def all_attended(steps: t.Sequence[Step[Host]]) -> list[Step[Host]]:
    """``steps`` that need both daemons from the first to the last: without one of them they would wait for long."""
    return [dataclasses.replace(step, do=attended(step.do)) for step in steps]


def make_directory(host: Host) -> None:
    """Make the private run directory, and remove the links of processes that are gone."""
    remove_dead_links(host)
    give_directory(host, host.scope.private)


def give_directory(host: Host, path: str) -> None:
    """Make a directory for the daemon's user; the one above is root's alone (docs/security.md)."""
    os.mkdir(path, 0o755)
    os.chown(path, *user(host))


def user(host: Host) -> tuple[int, int]:
    """The user and the group that ovs-vswitchd runs as."""
    like = host.services.owner(VSWITCHD).heritage.like
    return like.uid, like.gid


def copy_database(host: Host) -> None:
    """Serve a copy of the database in the private directory: with the flag, without anything that speaks.

    The flag is never in the real database, so no crash and no power loss can leave it there.  The files of this server
    are elsewhere, because it deletes its sockets by name when it is asked to end, also when the private directory has
    become a link to the real one.
    """
    os.symlink(_database_socket(host), os.path.join(host.scope.private, "db.sock"))
    own = host.scope.seen("database")
    with (
        serve_copy(host, own, _database_socket(host), host.scope.private) as copy,
        host.database.open() as real,
    ):
        if not host.request.userspace:  # there it takes the bridge's own port, which opens late
            controllers.let_through(real, copy)


def serve_copy(host: Host, own: str, listening: str, place: str) -> Ovsdb:
    """Serve a copy of the database, with the flag and without anything that speaks, on the socket ``listening``.

    The directory ``own`` is made for the files of its server, and that of the socket, which the daemon's user can get to.
    The server belongs to the run directory ``place`` (see ``processes_of``).
    """
    os.mkdir(os.path.dirname(listening), 0o755)
    os.chmod(os.path.dirname(listening), 0o755)  # whatever the umask
    os.mkdir(own, 0o700)
    with open(os.path.join(own, "conf.db"), "w", encoding="utf-8") as file:
        file.write(host.database.backup())
    spawn(
        host.scope.inside(
            [
                host.request.supervisors[OVSDB_SERVER]["program"],
                os.path.join(own, "conf.db"),
                f"--remote=punix:{listening}",
                f"--unixctl={own}/{OVSDB_SERVER}.ctl",
                f"--pidfile={own}/{OVSDB_SERVER}.pid",
                "--no-chdir",
                "-vconsole:warn",
                "-vsyslog:off",
            ]
        ),
        {**os.environ, "OVS_RUNDIR": place},
        host.transaction.file("second.log"),
    )
    copy = _wait_for_copy(host, f"unix:{listening}")
    copy.transact(*silence(copy))
    os.chown(listening, *user(host))
    return copy


def start(host: Host, remote: str, program: str) -> None:
    """Start ``program`` as the second ovs-vswitchd on the database ``remote``, like the first in all else."""
    argv = command_line(host, remote, program, host.scope.private)
    launch(host, argv, program, host.scope.private)


def command_line(host: Host, remote: str, program: str, place: str) -> list[str]:
    """The command line of the first ovs-vswitchd for another ``program``, database and run directory.

    It has the address several times, and with that one free try less: where it loses its database for the first time, and
    so on, it connects again at once and not after a second (jsonrpc_session_open_multiple, reconnect_disconnected).  It loses
    the private one, and the real one by a restart or a conversion; in the pod of before by both.
    """
    address = ",".join([remote] * (3 if host.request.homes is None else 4))
    arguments = [
        address if word.startswith(("unix:", "tcp:", "ssl:")) else word
        for word in host.request.vswitchd.detached
    ]
    if address not in arguments:
        arguments.insert(0, address)
    argv = [program, *arguments, "--no-chdir", f"--pidfile={place}/{VSWITCHD}.pid"]
    return [*argv, "--monitor"] if "--monitor" in host.request.vswitchd.argv else argv


def launch(host: Host, argv: t.Sequence[str], program: str, place: str) -> None:
    """Start ``argv``, which is or becomes ``program``, like the first ovs-vswitchd in all that exec(2) keeps.

    It is in the control groups of this process until ``Services.adopt``: what nobody has adopted ends with its maker.  One of
    a pod is in those of its container from its birth.
    """
    environment = environment_of(host.request.vswitchd, os.path.dirname(program))
    if place != host.request.rundir:
        environment["OVS_RUNDIR"] = place
    owner = host.services.owner(VSWITCHD)
    model = owner.model(host.request.vswitchd.process)
    starting = prepare(argv, environment, model, here=not owner.born_there)
    own = list(argv[argv.index(program) :])
    host.transaction.write("second.json", {"argv": own, "since": log_size(own)})
    starting.go()
    host.report.not_carried += [f"{VSWITCHD}: {text}" for text in starting.refused]


def connect(host: Host) -> None:
    """Connect to every bridge of the second process; raises ``HotUpgradeError`` with its words if it dies."""

    def one(bridge: str) -> None:
        path = management_socket(host.scope.private, bridge)
        host.filler.switches[bridge] = patient(host, functools.partial(host.outside.open_switch, path))

    first_alone(one, [bridge for bridge in host.scope.bridges if bridge not in host.filler.switches])


def patient(host: Host, ask: t.Callable[[], T]) -> T:
    """What ``ask`` returns as soon as it can be reached; raises ``HotUpgradeError`` when the second process dies or hangs."""
    clock = host.outside.clock
    begin = clock.monotonic()
    watched = Watched(lambda: [process.pid for process in _there(host)], clock)

    def answer() -> T:
        try:
            return ask()
        except Unreachable as error:
            ended = clock.monotonic() - begin > EXEC_TIMEOUT and not _there(host)
            stuck = isinstance(error.__cause__, StandsStill) or watched.stand_still()
            if ended or stuck:
                raise _did_not_start(host, error) from error
            raise

    try:
        return Waiter(host.scope.take_over_timeout, POLL, clock).wait(
            f"the new {VSWITCHD} answers", answer, lambda __: True
        )
    except TimedOut as error:
        raise _did_not_start(host, error) from error


def _did_not_start(host: Host, error: HotUpgradeError) -> HotUpgradeError:
    found = "it hangs" if _there(host) else "it has ended"
    why = f"{found}; {host.vswitchd.words_of_new() or error.why}"
    return HotUpgradeError(f"the new {VSWITCHD} did not start", why, VSWITCHD_LOG)


def require_answer(host: Host) -> None:
    """Raise ``HotUpgradeError`` unless the second process answers now: nothing may be taken from the first before."""
    try:
        reachable(host).call("version")
    except Unreachable as error:
        raise HotUpgradeError(
            f"the new {VSWITCHD} does not answer any more", str(error), VSWITCHD_LOG
        ) from error


def end_first(host: Host) -> None:
    """SIGKILL the first ovs-vswitchd, after the monitor that would speak for it.

    A graceful exit would take ports and its pidfile away, and 3 s for a million flows.
    """
    monitor = monitor_of(host.request.vswitchd.process)
    if monitor is not None:
        kill(monitor)
    kill_daemon(VSWITCHD, host.request.vswitchd.process, host.request.rundir)


def take_pidfile(host: Host) -> None:
    """Make the real pidfile name the second process, so that its service accepts it when the first ends."""
    own = os.path.join(host.scope.private, f"{VSWITCHD}.pid")
    os.rename(own, os.path.join(host.request.rundir, f"{VSWITCHD}.pid"))


def move_in(host: Host) -> None:
    """Move the sockets into the real run directory and put a link in the private one's place.

    The pidfile names the second process by now; raises ``Unreachable`` when that has ended.
    """
    second = host.services.process(VSWITCHD)
    place, real = host.scope.private, os.path.realpath(host.request.rundir)
    if has_moved_in(host):
        return
    for name in os.listdir(place):  # not by glob, which leaves out the sockets of a bridge like ".hidden"
        if name.endswith((".mgmt", ".snoop")) or name == f"{VSWITCHD}.{second.pid}.ctl":
            os.rename(os.path.join(place, name), os.path.join(real, name))
    os.rename(place, f"{place}.done")
    os.symlink(real, place)


def has_moved_in(host: Host) -> bool:
    """Whether ``move_in`` is done: the second process has the place of the first."""
    return os.path.islink(host.scope.private)


def end_database(host: Host) -> None:
    """End the private database: after ``move_in`` the second process finds the real one in its place."""
    with contextlib.suppress(Unreachable):
        kill(host.outside.running(host.scope.seen("database"), OVSDB_SERVER).process)


def tidy(host: Host) -> None:
    """Remove what is left of the private directory, and links of earlier hand-overs whose process was replaced since."""
    for suffix in _BESIDE:
        shutil.rmtree(host.scope.private + suffix, ignore_errors=True)
    shutil.rmtree(host.scope.seen("database"), ignore_errors=True)
    remove_dead_links(host)


def remove(host: Host) -> None:
    """End every process that was started in the private directory, and remove it; the first is not touched.

    A wrapper that has not become the daemon yet is ended, too: it would become one later.
    """
    place = host.scope.private
    for found, __ in _named(place, (VSWITCHD, OVSDB_SERVER), owner_of(place)):
        monitor = monitor_of(found)
        if monitor is not None:
            kill(monitor)
        kill_daemon(VSWITCHD, found, host.request.rundir)
    for path in (place, *(place + suffix for suffix in _BESIDE)):
        if os.path.islink(path):
            os.unlink(path)
        elif os.path.isdir(path):
            shutil.rmtree(path)
    shutil.rmtree(host.scope.seen("database"), ignore_errors=True)


def processes_of(place: str, names: t.Sequence[str] = (VSWITCHD, OVSDB_SERVER)) -> list[Process]:
    """The daemons that were started with the run directory ``place``, their monitors included.

    Anybody can give a process of his such a name and such an environment: only the programs that packages install count,
    and only as root or as the user whose directory it is.
    """
    owner = owner_of(place)
    found = []
    for process, name in _named(place, names, owner):
        with contextlib.suppress(OSError):
            if doubt_of_daemon(process.pid, name, owner) is None and alive(process):
                found.append(process)
    return found


def _named(place: str, names: t.Sequence[str], owner: int) -> list[tuple[Process, str]]:
    """Processes of that name and run directory, whatever they run."""
    found = []
    for number in map(int, filter(str.isdigit, os.listdir("/proc"))):
        if user_of(number) not in (0, owner):
            continue
        with contextlib.suppress(OSError):
            name = next((each for each in names if is_variant(comm(number), each)), None)
            words = shown(number, "environ", _MOST_ENVIRONMENT).split(b"\0")
            process = identify(number)
            if process and name and b"OVS_RUNDIR=" + os.fsencode(place) in words:
                found.append((process, name))
    return found


def remove_dead_links(host: Host) -> None:
    """Remove links of earlier hand-overs whose process has been replaced since."""
    for path in glob.glob(f"{glob.escape(host.scope.beside)}*"):
        if os.path.islink(path) and not processes_of(path):
            os.unlink(path)


def _there(host: Host) -> list[Process]:
    """What is worth waiting for; a wrapper is not the daemon's program yet."""
    place = host.scope.private
    return [process for process, __ in _named(place, (VSWITCHD,), owner_of(place)) if alive(process)]


def _wait_for_copy(host: Host, remote: str) -> Ovsdb:
    opener = host.outside.open_database
    return Waiter(START_TIMEOUT, clock=host.outside.clock).wait(
        f"{remote} answers",
        lambda: opener(remote, 60.0),
        lambda __: True,
        hint=f"Look into {host.transaction.file('second.log')}",
    )
