# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""How well a switch is, and what is worse than before; nothing here changes anything.

What was bad before is not what an upgrade has done: counters that grow as they always did and what was down already do not count.
"""

from __future__ import annotations

import math
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Refused,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._health import counters
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs import ovn
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.appctl import Appctl, daemon_socket
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import VSWITCHD, inspect
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import Connection

Json = dict[str, t.Any]

# How long counters are watched to see whether they grow by themselves, in seconds.
WATCHED = 1.0
_USERSPACE = "netdev@"
# Devices whose link is what their other end does: a container, a virtual machine.
_OTHERS_LINKS = ("veth", "tun")
# Types of interfaces whose devices Open vSwitch has not made.
_FOREIGN = ("", "system")
_ON_THEIR_WAY = " (packets lost on their way to ovs-vswitchd)"


def look(connection: Connection, watched: float = 0.0) -> Json:
    """The health of the switch.

    ``datapaths`` has the counters by name, ``well`` whether each thing that can fail is well, ``growing`` the names of what was
    counting losses and errors while it was ``watched``, and ``process`` tells one ovs-vswitchd from the next.

    Raises ``HotUpgradeError`` where ovs-vswitchd or the database do not answer.
    """
    datapaths = _counters(connection)
    growing: list[str] = []
    if watched:
        time.sleep(watched)
        earlier, datapaths = datapaths, _counters(connection)
        growing = sorted({**_lost(earlier, datapaths), **_errors(earlier, datapaths)})
    return {
        "datapaths": datapaths,
        "growing": growing,
        "well": _well(connection),
        "process": inspect(VSWITCHD, connection.rundir, connection.timeout).identity,
    }


def _counters(connection: Connection) -> Json:
    control = Appctl(daemon_socket(connection.rundir, VSWITCHD), connection.timeout)
    try:
        return counters.as_plain(counters.parse(control.call("dpctl/show", "--statistics")))
    except Unreachable:
        raise
    except HotUpgradeError as error:
        if error.why:
            raise
        return {}  # a switch without a datapath is refused so, without a word


def _well(connection: Connection) -> dict[str, bool]:
    """What can be up or down by its name, with whether it is up; what does not say is left out."""
    with connection.open() as database:
        columns = (
            "name", "type", "status", "link_state", "bfd_status", "cfm_fault", "lacp_current", "error",
        )  # fmt: skip
        interfaces, bridges, controllers, managers = database.select_many(
            ("Interface", columns, ()),
            ("Bridge", ("name", "controller"), ()),
            ("Controller", ("_uuid", "target", "is_connected"), ()),
            ("Manager", ("target", "is_connected"), ()),
        )
        chassis = ovn.look(connection.rundir, database.external_ids(), connection.timeout)
    found: dict[str, bool] = {}
    for row in interfaces:
        found.update(_interface(row))
    by_id = {row["_uuid"]: row for row in controllers}
    for bridge in bridges:
        for row in (by_id[number] for number in bridge["controller"] if number in by_id):
            found[f"the connection of {bridge['name']} to the controller {row['target']}"] = bool(
                row["is_connected"]
            )
    for row in managers:
        found[f"the connection to the manager {row['target']}"] = bool(row["is_connected"])
    if chassis is not None and chassis.connected is not None:
        found["the connection of ovn-controller to its southbound database"] = chassis.connected
    return found


def _interface(row: t.Mapping[str, t.Any]) -> t.Iterator[tuple[str, bool]]:
    name = row["name"]
    yield f"the interface {name}", row["error"] is None
    foreign = row["type"] in _FOREIGN and row["status"].get("driver_name") in _OTHERS_LINKS
    if row["link_state"] is not None and not foreign:
        yield f"the link of {name}", row["link_state"] == "up"
    if "state" in row["bfd_status"]:
        yield f"BFD of {name}", row["bfd_status"]["state"] == "up"
    if row["cfm_fault"] is not None:
        yield f"CFM of {name}", not row["cfm_fault"]
    if row["lacp_current"] is not None:
        yield f"LACP of {name}", bool(row["lacp_current"])


def compare(before: t.Mapping[str, t.Any], now: t.Mapping[str, t.Any]) -> Json:
    """What the module returns of two looks: what is ``down``, who counts packets ``lost`` and ``errors``, and how many are lost.

    Raises ``Refused`` where ``before`` is not what ``look`` returns.
    """
    try:
        down, lost, errors = list(_down(before, now)), *_more(before, now)
        found = {"down": down, "lost": lost, "errors": errors}
        return {**found, "worse": [*down, *lost, *errors], "counted": counted(before, now)}
    except (KeyError, TypeError, AttributeError) as error:
        raise Refused(
            "the option before is refused",
            f"it is not the health that this module has returned ({type(error).__name__}: {error})",
            "Register a task with this module before the change, and give its field health",
        ) from error


def _down(before: t.Mapping[str, t.Any], now: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    for name, was in before["well"].items():
        # What is not there any more was removed by somebody: the hand-over accounts for all that it has to keep.
        if was and not now["well"].get(name, True):
            yield f"{name} is down, and was up before"


def _more(before: t.Mapping[str, t.Any], now: t.Mapping[str, t.Any]) -> tuple[list[str], list[str]]:
    """A process that forwards in userspace has also counted what it did not take beside the one before: that lost nothing."""
    was, growing = _comparable(before, now), before["growing"]
    judged = {name: each for name, each in now["datapaths"].items() if not _is_of_another(name, before, now)}
    lost, errors = (
        [f"{name} counts {count} more than before" for name, count in found if name not in growing]
        for found in (_lost(was, judged).items(), _errors(was, judged).items())
    )
    return lost, errors


def _lost(before: t.Mapping[str, t.Any], now: t.Mapping[str, t.Any]) -> dict[str, int]:
    """How many packets more each datapath has lost on their way to ovs-vswitchd; a new one has lost all of them since."""
    nothing = {"lost": 0, "lookups": 0}
    return {
        f"{name}{_ON_THEIR_WAY}": count
        for name, each in now.items()
        if (count := _more_than_usual("lost", "lookups", before.get(name, nothing), each))
    }


def _errors(before: t.Mapping[str, t.Any], now: t.Mapping[str, t.Any]) -> dict[str, int]:
    """How many packets with errors more each port counts; one that has come meanwhile, none."""
    found = {}
    for name, datapath in now.items():
        known = before.get(name, {"ports": {}})["ports"]
        for port, values in datapath["ports"].items():
            if count := _more_than_usual("errors", "packets", known.get(port, values), values):
                found[f"{port} (packets with errors)"] = count
    return found


def _more_than_usual(counter: str, of: str, was: t.Mapping[str, int], now: t.Mapping[str, int]) -> int:
    """By how much ``counter`` has grown, if that is more than its rate of before makes likely; else 0.

    The rate is that of all packets since the counter began, and chance is given three standard deviations (Poisson): who has
    always lost one of a million is no worse when it loses the next one.
    """
    more = now[counter] - was[counter]
    usual = was[counter] / was[of] * max(0, now[of] - was[of]) if was[of] else 0.0
    return more if more > usual + 3 * math.sqrt(usual) else 0


def _comparable(before: t.Mapping[str, t.Any], now: t.Mapping[str, t.Any]) -> Json:
    """The counters of before, for those datapaths that go on counting from there."""
    return {
        name: was
        for name, was in before["datapaths"].items()
        if name in now["datapaths"] and not _began_anew(name, before, now)
    }


def _began_anew(name: str, before: t.Mapping[str, t.Any], now: t.Mapping[str, t.Any]) -> bool:
    """One of the kernel is another one after a reload of its module."""
    fewer = now["datapaths"][name]["lookups"] < before["datapaths"][name]["lookups"]
    return _is_of_another(name, before, now) or bool(fewer)


def _is_of_another(name: str, before: t.Mapping[str, t.Any], now: t.Mapping[str, t.Any]) -> bool:
    """A datapath in userspace is a part of its process."""
    return name.startswith(_USERSPACE) and bool(before["process"] != now["process"])


def counted(before: t.Mapping[str, t.Any], now: t.Mapping[str, t.Any]) -> Json:
    """What the host's own counters tell of lost packets: ``lost_upcalls``, and ``dropped`` by ports.

    It is a lower bound: a process that ends takes with it what it has not read.  Both are None where counters began anew, and
    ``why`` tells so.
    """
    anew = [
        name for name in now["datapaths"] if name in before["datapaths"] and _began_anew(name, before, now)
    ]
    if anew:
        why = f"the counters of {', '.join(anew)} began anew"
        return {"lost_upcalls": None, "dropped": None, "why": why}
    lost = dropped = 0
    for name, was in _comparable(before, now).items():
        datapath = now["datapaths"][name]
        lost += datapath["lost"] - was["lost"]
        for port, values in datapath["ports"].items():
            dropped += max(0, values["dropped"] - was["ports"].get(port, values)["dropped"])
    return {"lost_upcalls": lost, "dropped": dropped, "why": ""}


def tell(connection: Connection, before: t.Mapping[str, t.Any] | None, wait: float) -> Json:
    """What the module returns.  What is down may take ``wait`` seconds to be up again, as BFD does."""
    if before is None:
        return {"health": look(connection, WATCHED)}
    end = time.monotonic() + wait
    while True:
        now = look(connection)
        found = compare(before, now)
        if not found["down"] or time.monotonic() >= end:
            return {"health": now, **found}
        time.sleep(WATCHED)
