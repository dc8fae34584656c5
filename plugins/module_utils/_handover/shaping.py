# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Queueing disciplines that others have set on ports: a starting ovs-vswitchd deletes them.

Where a port has no QoS, it deletes whatever root qdisc there is (lib/netdev-linux.c, netdev_linux_set_qos), unless the QoS is
``linux-noop``; one that has begun with that leaves the qdisc alone for good, also when the QoS is taken away again.  An
``ingress`` qdisc it deletes always (netdev_linux_set_policing), one of the kind ``clsact`` it leaves (seen with 3.5 and 4.0).
"""

from __future__ import annotations

import dataclasses
import socket
import struct
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import DATABASE, Ovsdb, is_true
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import links, netlink

# What names the rows that are ours: the transaction.
MARK = "ovsops-handover"
KEPT = "shaping.json"
STEP = "leave queueing disciplines of others alone"

# include/uapi/linux/{rtnetlink,pkt_sched}.h
_GET_QDISC, _KIND = 38, 1
_ROOT, _INGRESS = 0xFFFFFFFF, 0xFFFFFFF1
_TCMSG = struct.Struct("=BxxxiIII")

Json = dict[str, t.Any]


@dataclasses.dataclass(frozen=True, order=True)
class Shaper:
    """A qdisc that somebody has set on a network device, at its root or for what comes in."""

    device: str
    kind: str
    handle: int
    ingress: bool

    def __str__(self) -> str:
        return f"{self.kind} {self.handle >> 16:x}: on {self.device}"


def foreign(database: Ovsdb, shapers: t.Iterable[Shaper]) -> tuple[Shaper, ...]:
    """Those of ``shapers`` that are on ports and that Open vSwitch has not set itself."""
    policing = [
        name
        for name in ("ingress_policing_rate", "ingress_policing_kpkts_rate")
        if database.has_column("Interface", name)
    ]
    switches, ports, interfaces = database.select_many(
        (DATABASE, ("other_config",), ()),
        ("Port", ("qos", "interfaces"), ()),
        ("Interface", ("_uuid", "name", *policing), ()),
    )
    offload = any(is_true(row["other_config"].get("hw-offload")) for row in switches)
    queued = {uuid for port in ports if port["qos"] is not None for uuid in port["interfaces"]}
    known = {links.device(row["name"]): row for row in interfaces}
    found = []
    for each in shapers:
        row = known.get(each.device)
        if row is None:
            continue
        own = offload or any(row[name] for name in policing) if each.ingress else row["_uuid"] in queued
        if not own:
            found.append(each)
    return tuple(sorted(found))


def leave_alone(host: Host) -> None:
    """Have every ovs-vswitchd leave the root qdiscs of others alone until ``give_back``; the running one does so, too.

    Also again, in a rollback: they are still those that were there at first.
    """
    with host.database.open() as database:
        kept = [each for each in foreign(database, shapers()) if not each.ingress]
        if host.transaction.read(KEPT) is None:
            host.transaction.write(KEPT, [dataclasses.astuple(each) for each in kept])
        if kept:
            devices = {each.device for each in kept}
            database.transact(*_without_queues(database, devices, host.transaction.id))


def give_back(host: Host) -> None:
    """Undo ``leave_alone``, and tell in ``not_carried`` which qdisc is not there any more."""
    with host.database.open() as database:
        ours = [
            row["_uuid"]
            for row in database.select("QoS", ("_uuid", "external_ids"))
            if MARK in row["external_ids"]
        ]
        operations: list[Json] = []
        for uuid in ours:
            same = ["==", ["uuid", uuid]]
            empty = {"qos": ["set", []]}
            operations.append({"op": "update", "table": "Port", "where": [["qos", *same]], "row": empty})
            operations.append({"op": "delete", "table": "QoS", "where": [["_uuid", *same]]})
        if operations:
            database.transact(*operations)
    before = {Shaper(*each) for each in host.transaction.read(KEPT) or ()}
    lost = sorted(before - set(shapers())) if before else []
    host.report.not_carried += [f"the qdisc {each}, which Open vSwitch had not set, is gone" for each in lost]


def _without_queues(database: Ovsdb, devices: t.Container[str], owner: str) -> t.Iterator[Json]:
    mark = ["map", [[MARK, owner]]]
    yield {
        "op": "insert",
        "table": "QoS",
        "uuid-name": "noop",
        "row": {"type": "linux-noop", "external_ids": mark},
    }
    ports, interfaces = database.select_many(
        ("Port", ("_uuid", "interfaces"), ()), ("Interface", ("_uuid", "name"), ())
    )
    shaped = {row["_uuid"] for row in interfaces if links.device(row["name"]) in devices}
    for port in ports:
        if shaped & set(port["interfaces"]):
            where = [["_uuid", "==", ["uuid", port["_uuid"]]], ["qos", "==", ["set", []]]]
            yield {"op": "update", "table": "Port", "where": where, "row": {"qos": ["named-uuid", "noop"]}}


def shapers() -> tuple[Shaper, ...]:
    """Every qdisc of this network namespace that was set at a root or for what comes in; those of the kernel have no handle."""
    with netlink.Netlink(netlink.ROUTE) as kernel:
        request = netlink.message(_GET_QDISC, _TCMSG.pack(0, 0, 0, 0, 0))
        bodies = [body for __, body in kernel.dump(request, "the kernel does not tell its qdiscs")]
    return tuple(parse(bodies, _device))


def parse(bodies: t.Iterable[bytes], device: t.Callable[[int], str | None]) -> t.Iterator[Shaper]:
    """The qdiscs in the messages of a dump."""
    for body in bodies:
        __, index, handle, parent, __ = _TCMSG.unpack_from(body)
        if handle == 0 or parent not in (_ROOT, _INGRESS):
            continue
        kind = netlink.attributes(body, _TCMSG.size).get(_KIND, b"").rstrip(b"\0").decode(errors="replace")
        name = device(index)
        if name is not None and kind != "clsact":
            yield Shaper(name, kind, handle, parent == _INGRESS)


def _device(index: int) -> str | None:
    try:
        return socket.if_indextoname(index)
    except OSError:  # it has gone meanwhile
        return None
