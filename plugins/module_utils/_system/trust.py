# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Whom root believes, and which files it runs.  The reasons are in docs/security.md.

Open vSwitch may run as a user of its own.  Then the run directory with pidfiles and sockets is that user's, and so are
the command line and the environment that /proc shows of the daemon.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import stat
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import is_variant

# Where packages put programs and libraries; nobody but root mounts or writes anything there.
PLACES = ("/usr/", "/opt/", "/sbin/", "/bin/", "/lib/", "/lib64/")
# Where a hand-over keeps the programs of before.
KEPT = ("/var/lib/ovsops/", "/run/ovsops/")
DELETED = " (deleted)"

_MOST_LINKS = 40

# The mount namespaces of the containers that whoever called has named, with the descriptors that pin them, see ``believe``.
_BELIEVED: dict[str, int] = {}

# The arguments with which ovs-ctl starts the daemons (utilities/ovs-lib.in, ovs-ctl.in), and harmless ones: none names
# another file than these.
_HARMLESS = re.compile(
    r"unix:/\S+"
    r"|-v[\w:,]*|--verbose(=[\w:,]*)?"
    r"|--(no-)?mlockall|--no-chdir|--detach|--monitor|--no-self-confinement|--overwrite-pidfile"
    r"|--pidfile(=/\S+)?|--unixctl=/\S+"
    r"|--log-file(=/var/log/openvswitch/[\w-]+\.log)?"
    r"|--(private-key|certificate|bootstrap-ca-cert|ca-cert)=db:[\w,]+"
    r"|--remote=(punix:/(var/)?run/openvswitch/db\.sock|db:[\w,]+|pfd:\d+)"
    r"|/(etc|var/lib)/openvswitch/conf\.db"
)

_ORDINARY = re.compile(
    r"(LANG|LANGUAGE|LC_[A-Z]+)=[\w.@:-]*"
    r"|TZ=\w+(/\w+)*"
    r"|PATH=(/usr)?(/local)?/s?bin(:(/usr)?(/local)?/s?bin)*"
    r"|HOME=/(root)?|(USER|LOGNAME)=root|SHELL=(/usr)?/bin/(ba|da)?sh"
    r"|INVOCATION_ID=[0-9a-f]{32}|JOURNAL_STREAM=\d+:\d+|SYSTEMD_EXEC_PID=\d+"
    r"|OVS_RUNDIR=(/var)?/run/openvswitch(-[0-9a-f]+)?"
    r"|OVS_LOGDIR=/var/log/openvswitch|OVS_DBDIR=/(etc|var/lib)/openvswitch|OVS_SYSCONFDIR=/etc"
    r"|OVS_(PKGDATADIR=/usr/share/openvswitch|S?BINDIR=/usr/s?bin)"
)

# What the daemons read (lib/dirs.c.in, lib/vlog.c, lib/dns-resolve.c).
_READ = frozenset(
    f"OVS_{name}"
    for name in (
        *("RUNDIR", "LOGDIR", "DBDIR", "SYSCONFDIR", "PKGDATADIR", "BINDIR"),
        *("SYSLOG_METHOD", "RESOLV_CONF", "HOSTS_FILE", "UNBOUND_CONF"),
    )
)


def doubt_of_file(path: str, root: str = "/") -> str | None:
    """Why root must not run the file ``path`` (seen from ``root``); None when only root can have put it there.

    It, every directory on the way to it, and every link on that way are root's, and nobody else can write to them.
    """
    here, wrong = _walk(path, root)
    if wrong:
        return wrong
    if not here[len(root.rstrip("/")) :].startswith((*PLACES, *KEPT)):
        return f"{here} is not where packages put programs"
    return None if stat.S_ISREG(os.lstat(here).st_mode) else f"{here} is no file"


def real_file(path: str, root: str = "/") -> str | None:
    """Where the file ``path`` really is, for somebody who has ``root`` for his root; None when it is not there, or not root's."""
    here, wrong = _walk(path, root)
    return None if wrong else here


def _walk(path: str, root: str) -> tuple[str, str | None]:
    """Where ``path`` leads, seen from ``root``, and what on the way to there is not root's."""
    top = root.rstrip("/")
    left, here, links = path.strip("/").split("/"), top, 0
    wrong = _doubt_of_node(here or "/")
    while left and not wrong:
        name = left.pop(0)
        if name in ("", ".") or (name == ".." and here == top):
            continue
        step = f"{here}/{name}" if name != ".." else os.path.dirname(here)
        wrong = _doubt_of_node(step)
        if wrong or not os.path.islink(step):
            here = step
            continue
        links += 1
        if links > _MOST_LINKS:
            return here, f"{path} leads in a circle"
        target = os.readlink(step)
        if target.startswith("/"):
            here = top
        left = [*target.split("/"), *left]
    return here, wrong


def doubt_of_directory(path: str) -> str | None:
    """Why somebody else than root can change what is in the directory ``path``; None when nobody can."""
    here = os.path.realpath(path)
    while True:
        wrong = _doubt_of_node(here)
        if wrong or here == "/":
            return wrong
        here = os.path.dirname(here)


def program_of(pid: int, root: str = "/") -> str:
    """What the kernel says that the process runs, with `` (deleted)`` where that is no more there; empty when it ended."""
    try:
        path = os.readlink(os.path.join(root, "proc", str(pid), "exe"))
    except OSError:
        return ""
    return path[len(root.rstrip("/")) :] if path.startswith(root) else path


def believe(namespace: int) -> None:
    """Take daemons with that mount namespace, an open one, for what they are: it is that of a container whose image is trusted.

    The descriptor stays open, or is closed where that namespace was believed before.
    """
    identity = os.readlink(f"/proc/self/fd/{namespace}")
    if _BELIEVED.setdefault(identity, namespace) != namespace:
        os.close(namespace)


def doubt_of_daemon(pid: int, name: str, owner: int, root: str = "/") -> str | None:
    """Why the process ``pid`` is not taken for the daemon ``name``; None when it is believed.

    It runs a program of that name that only root can have installed (it may have been replaced since), as root or as
    ``owner``, whose run directory names it, and sees the host as we do, or is in a container that is believed.
    """
    user = user_of(pid, root)
    if user is None:
        return f"process {pid} has ended"
    if user not in (0, os.geteuid(), owner):
        return f"process {pid} is of the user {user_name(user)}, not of root or {user_name(owner)}"
    if elsewhere(pid, root) and not _is_believed(pid, root):
        return f"process {pid} is in namespaces of its own"
    path = program_of(pid, root)
    base = os.path.basename(path.removesuffix(DELETED))
    if not is_variant(base, name):
        return f"process {pid} runs {path}"
    try:
        descriptor = os.open(os.path.join(root, "proc", str(pid), "exe"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return f"process {pid}: {error.strerror}"
    try:
        return _doubt_of_open(descriptor, root)
    finally:
        os.close(descriptor)


def open_program(pid: int, name: str, owner: int) -> int:
    """A descriptor of what the daemon runs, also when it was replaced on the disk; raises ``Refused`` when it is not believed."""
    descriptor = os.open(f"/proc/{pid}/exe", os.O_RDONLY | os.O_CLOEXEC)
    # Of what was opened as well: the number may be another process's by now.
    wrong = doubt_of_daemon(pid, name, owner) or _doubt_of_open(descriptor)
    if wrong:
        os.close(descriptor)
        raise Refused(f"the program of {name} is not kept", wrong, "Find out who started it")
    return descriptor


def open_library(path: str, name: str) -> int | None:
    """A descriptor of the library ``name`` that a process has mapped at ``path`` (``/proc/PID/map_files/…``).

    None when root has not installed it, or when the process has something else there by now.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    mapped = os.readlink(f"/proc/self/fd/{descriptor}").removesuffix(DELETED)
    if _doubt_of_open(descriptor) or os.path.basename(mapped) != name:
        os.close(descriptor)
        return None
    return descriptor


def doubt_of_arguments(pid: int, arguments: t.Sequence[str]) -> str | None:
    """Why root must not pass on the command line that a daemon shows, None when it may.

    A daemon that is not root's could have changed it, and with ``--user`` root starts the new one, which becomes the user
    later.
    """
    user, group = user_of(pid), _number_of(pid, "Gid")
    if user in (0, None):
        return None
    words, wanted = list(arguments), None
    while words:
        word = words.pop(0)
        if word == "--user" and words:
            wanted = words.pop(0)
        elif word.startswith("--user="):
            wanted = word.partition("=")[2]
        elif not _HARMLESS.fullmatch(word):
            return f"it shows the argument {word!r}, which only root may give"
    if wanted is None or user is None or group is None or not _is_user(wanted, user, group):
        return f"it runs as {user_name(user or 0)}, and shows --user={wanted}"
    return None


def trusted_environment(pid: int, environment: t.Mapping[str, str]) -> dict[str, str]:
    """What of the environment that a daemon shows may be given to a process of root.

    Of another user's daemon what a service has by default: no variable that names code or files of somebody else.
    """
    if user_of(pid) == 0:
        return dict(environment)
    return {
        name: value
        for name, value in environment.items()
        if _ORDINARY.fullmatch(f"{name}={value}") is not None
    }


def doubt_of_environment(pid: int, environment: t.Mapping[str, str]) -> str | None:
    """Why the new daemon would lack what Open vSwitch reads of the environment that the old one shows, or None."""
    lost = environment.keys() - trusted_environment(pid, environment).keys()
    found = sorted(lost & _READ)
    return f"it shows {found[0]}={environment[found[0]]}, which only root may give" if found else None


def user_of(pid: int, root: str = "/") -> int | None:
    """The real user id of a process, None when it has ended."""
    return _number_of(pid, "Uid", root)


def user_name(user: int) -> str:
    """The name of a user, or the number of one without a name."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def elsewhere(pid: int, root: str = "/") -> bool:
    """Whether a process sees other files than we do, or is root only in a user namespace of its own."""
    places = [os.path.join(root, "proc", who) for who in (str(pid), "self")]
    for name in ("ns/mnt", "ns/user", "root"):
        try:
            theirs, ours = (os.readlink(os.path.join(place, name)) for place in places)
        except OSError:
            return True
        if theirs != ours:
            return True
    return False


def _is_believed(pid: int, root: str) -> bool:
    """Whether it is in a container that whoever called has named, and root there is root here."""
    places = [os.path.join(root, "proc", who, "ns/user") for who in (str(pid), "self")]
    try:
        seen = os.readlink(os.path.join(root, "proc", str(pid), "ns/mnt"))
        return seen in _BELIEVED and os.readlink(places[0]) == os.readlink(places[1])
    except OSError:
        return False


def owner_of(directory: str) -> int:
    """The user whose directory it is; root when there is none."""
    try:
        return os.stat(directory).st_uid
    except FileNotFoundError:
        return 0


def _doubt_of_node(path: str) -> str | None:
    try:
        return _doubt_of_status(path, os.lstat(path))
    except OSError as error:
        return f"{path}: {error.strerror}"


def _doubt_of_status(path: str, found: os.stat_result) -> str | None:
    if found.st_uid not in (0, os.geteuid()):
        return f"{path} belongs to {user_name(found.st_uid)}"
    shared = stat.S_IWOTH | (stat.S_IWGRP if found.st_gid not in (0, os.getegid()) else 0)
    if found.st_mode & shared and not stat.S_ISLNK(found.st_mode):
        return f"{path} can be written by others than root (mode {stat.S_IMODE(found.st_mode):04o})"
    return None


def _doubt_of_open(descriptor: int, root: str = "/") -> str | None:
    path, found = os.readlink(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor)
    if path.startswith(root):
        path = path[len(root.rstrip("/")) :]
    if not stat.S_ISREG(found.st_mode) or not path.startswith((*PLACES, *KEPT)):
        return f"{path} is not where packages put programs"
    return _doubt_of_status(path, found)


def _number_of(pid: int, key: str, root: str = "/") -> int | None:
    try:
        with open(os.path.join(root, "proc", str(pid), "status"), encoding="utf-8", errors="replace") as file:
            found = re.search(rf"^{key}:\s+(\d+)", file.read(), re.MULTILINE)
    except OSError:
        return None
    return int(found.group(1)) if found else None


def _is_user(wanted: str, user: int, group: int) -> bool:
    """Whether ``USER[:GROUP]``, as the daemons take it, is who the process is."""
    name, __, group_name = wanted.partition(":")
    with contextlib.suppress(KeyError):
        entry = pwd.getpwnam(name)
        return entry.pw_uid == user and group == (
            grp.getgrnam(group_name).gr_gid if group_name else entry.pw_gid
        )
    return False
