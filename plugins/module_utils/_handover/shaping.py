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

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.host import Host
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import DATABASE, Ovsdb, is_true
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import links

# What names the rows that are ours: the transaction.
MARK = "ovsops-handover"
KEPT = "shaping.json"
STEP = "leave queueing disciplines of others alone"

# include/uapi/linux/{netlink,rtnetlink,pkt_sched}.h
_NETLINK_ROUTE, _NLMSG_ERROR, _NLMSG_DONE = 0, 2, 3
_RTM_NEWQDISC, _RTM_GETQDISC, _REQUEST_DUMP, _TCA_KIND = 36, 38, 0x301, 1
_ROOT, _INGRESS = 0xFFFFFFFF, 0xFFFFFFF1
_NLMSGHDR, _TCMSG, _NLATTR = struct.Struct("=IHHII"), struct.Struct("=BxxxiIII"), struct.Struct("=HH")

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
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE) as netlink:
        netlink.settimeout(5.0)
        body = _TCMSG.pack(0, 0, 0, 0, 0)
        netlink.send(_NLMSGHDR.pack(_NLMSGHDR.size + len(body), _RTM_GETQDISC, _REQUEST_DUMP, 1, 0) + body)
        found: list[Shaper] = []
        while True:
            try:
                data = netlink.recv(1 << 20)
            except OSError as error:
                raise HotUpgradeError(
                    "the kernel does not tell its qdiscs",
                    error.strerror or str(error),
                    "Look at dmesg, and at tc qdisc show",
                ) from error
            more, done = parse(data, _device)
            found += more
            if done:
                return tuple(found)


def parse(data: bytes, device: t.Callable[[int], str | None]) -> tuple[list[Shaper], bool]:
    """The qdiscs in a datagram of a dump, and whether it is the last one."""
    found: list[Shaper] = []
    offset = 0
    while offset + _NLMSGHDR.size <= len(data):
        length, kind, __, __, __ = _NLMSGHDR.unpack_from(data, offset)
        if kind in (_NLMSG_DONE, _NLMSG_ERROR) or length < _NLMSGHDR.size:
            return found, True
        if kind == _RTM_NEWQDISC:
            found += _shaper(data[offset + _NLMSGHDR.size : offset + length], device)
        offset += length + -length % 4
    return found, False


def _shaper(message: bytes, device: t.Callable[[int], str | None]) -> t.Iterator[Shaper]:
    __, index, handle, parent, __ = _TCMSG.unpack_from(message)
    if handle == 0 or parent not in (_ROOT, _INGRESS):
        return
    kind, offset = "", _TCMSG.size
    while offset + _NLATTR.size <= len(message):
        size, number = _NLATTR.unpack_from(message, offset)
        if size < _NLATTR.size:
            break
        if number == _TCA_KIND:
            kind = message[offset + _NLATTR.size : offset + size].rstrip(b"\0").decode(errors="replace")
        offset += size + -size % 4
    name = device(index)
    if name is not None and kind != "clsact":
        yield Shaper(name, kind, handle, parent == _INGRESS)


def _device(index: int) -> str | None:
    try:
        return socket.if_indextoname(index)
    except OSError:  # it has gone meanwhile
        return None
