# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""What ``ovs_rehearsal`` does: the new version is tried beside the running one, with all that this holds, and back again."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import re
import shutil
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Refused,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.files import try_lock
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import (
    database_content,
    homes,
    rehearsed,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl, daemon_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.call import Call, Outcome
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import (
    OVSDB_SERVER,
    VSWITCHD,
    Daemon,
    inspect,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.database_file import backup
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Connection
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof import traffic
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof.proof import Wish
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._rehearsal import programs, trial
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._snapshot import switch

RECORDS = f"/{rehearsed.RECORDS}"
RUN = "/run/ovsops"
_BACKUP_TIMEOUT = 120.0
# Where a tunnel leads is a matter of routes and devices, and dummies have none.
TUNNELS = (
    re.compile(r"\b(?:tunnel|tnl_push|tnl_pop)\("),
    "they go through a tunnel, and a rehearsal has none",
)

Json = dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Portrait:
    """What a rehearsal must not change: who runs, the datapaths with their ports, and the configuration."""

    processes: t.Mapping[str, str]
    datapaths: str
    content: database_content.Content

    @classmethod
    def of(cls, connection: Connection, daemons: t.Sequence[Daemon]) -> Portrait:
        """The host as it is now."""
        with connection.open() as database:
            content = database_content.read(database)
        return cls({daemon.name: str(daemon.process) for daemon in daemons}, _ports(connection), content)

    def changed(self, now: Portrait) -> list[str]:
        """What is another thing now, a sentence each."""
        found = [
            f"{name} is another process"
            for name, process in self.processes.items()
            if now.processes[name] != process
        ]
        if self.datapaths != now.datapaths:
            found.append("the ports of the datapath are others")
        return found + [str(each) for each in database_content.compare(self.content, now.content)]


def _ports(connection: Connection) -> str:
    """The ports of all datapaths, as text; empty where there is no datapath."""
    control = Appctl(daemon_socket(connection.rundir, VSWITCHD), connection.timeout)
    try:
        shown = control.call("dpctl/show")
    except Unreachable:
        raise
    except HotUpgradeError:
        return ""
    return "\n".join(line for line in shown.splitlines() if line.lstrip().startswith("port "))


def rehearse(call: Call) -> Outcome:
    """Try the version in ``packages``, or in a container; nothing of the host is changed, but for the record of it."""
    connection = call.connection
    daemons = _daemons(connection)
    if call.check_mode:
        return Outcome(False, {})
    before = Portrait.of(connection, daemons)
    with _places() as (store, run):
        after, root = _roots(call, store)
        new = programs.find(after)
        given = trial.Left(
            switch.take(connection, f"{store}/snapshot"), backup(connection.remote, _BACKUP_TIMEOUT)
        )
        live = _live(connection, call.params["prove"])
        forward, left = trial.attempt(new, given, f"{run}/new", f"{store}/new", live)
        backward = _back(daemons[0], root, left, f"{run}/old", f"{store}/old")
        with connection.open() as database:
            forward.dropped = [str(each) for each in database_content.lost(database, new.schema)]
    changed = before.changed(Portrait.of(connection, _daemons(connection)))
    values = _values(daemons[0], forward, backward, changed)
    rehearsed.keep(values)
    return Outcome(False, {"rehearsal": values})


def _roots(call: Call, store: str) -> tuple[str, str]:
    """Below which folders the programs of the new version are, and those of the one that runs."""
    between = homes.Homes.of(call.params)
    if between is not None:
        return homes.roots(between)
    programs.unpack(call.params["packages"], f"{store}/packages")
    return f"{store}/packages", "/"


def _live(connection: Connection, most: int) -> trial.Live | None:
    """What forwards now, to be compared with; None where nothing is to be proved."""
    if not most:
        return None
    with connection.open() as database:
        bridges = database.bridges()
    control = Appctl(daemon_socket(connection.rundir, VSWITCHD), traffic.DUMP_TIMEOUT)
    wish = Wish(most, bonds=traffic.members(bridges), beyond=TUNNELS)
    return trial.Live(control.call, traffic.datapath(bridges), wish)


def _daemons(connection: Connection) -> list[Daemon]:
    """Both daemons.  Raises ``Refused`` where one does not run: there is nothing to rehearse with."""
    found = [inspect(name, connection.rundir, connection.timeout) for name in (VSWITCHD, OVSDB_SERVER)]
    for daemon in found:
        if not daemon.running:
            raise Refused(
                f"{daemon.name} does not run",
                daemon.doubt or "its pidfile names nothing",
                "Start Open vSwitch first",
            )
    return found


def _back(running: Daemon, root: str, left: trial.Left | None, run: str, store: str) -> trial.Trial:
    """The version that runs, tried with what the new one holds: a way back."""
    version = running.running_version or "0"
    if left is None:
        return trial.Trial(version, "", "not tried: the new version did not come so far")
    try:
        old = programs.find(root)
    except HotUpgradeError as error:
        return trial.Trial(version, "", f"not tried: {error}")
    if old.version != version:
        return trial.Trial(
            version, "", f"not tried: {version} runs, the programs on the disk are {old.version}"
        )
    return trial.attempt(old, left, run, store)[0]


@contextlib.contextmanager
def _places() -> t.Iterator[tuple[str, str]]:
    """A folder for all that may be large and one for sockets, for the length of a rehearsal; those of a killed one are removed.

    Raises ``Refused`` while another one is under way.
    """
    for parent in (RECORDS, RUN):
        os.makedirs(parent, mode=0o700, exist_ok=True)
    with open(os.path.join(RECORDS, "lock"), "w", encoding="utf-8") as lock, contextlib.ExitStack() as stack:
        if not try_lock(lock):
            raise Refused(
                "another rehearsal is under way on this host", f"{lock.name} is locked", "Wait for it to end"
            )
        found = []
        for parent in (RECORDS, RUN):
            place = os.path.join(parent, "under-way")
            shutil.rmtree(place, ignore_errors=True)
            os.mkdir(place, 0o700)
            stack.callback(shutil.rmtree, place, ignore_errors=True)
            found.append(place)
        yield found[0], found[1]


def _values(running: Daemon, forward: trial.Trial, backward: trial.Trial, changed: t.Sequence[str]) -> Json:
    return {
        "at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "from": running.running_version,
        "to": forward.version,
        "passed": forward.passed,
        "passed_back": backward.passed,
        "forward": dataclasses.asdict(forward),
        "backward": dataclasses.asdict(backward),
        "changed_meanwhile": list(changed),
    }
