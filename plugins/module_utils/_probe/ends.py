# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Two ends of a measurement that are nobody's: network namespaces on a bridge, each with a veth pair.

What one sends the other one gets, by a flow of its own, and nothing else: no packet of theirs goes to another port, whatever
the flow table does.  Their addresses are those for measurements (198.18.0.0/15, RFC 2544).
"""

from __future__ import annotations

import contextlib
import os
import typing as t
import zlib

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Refused,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import one_way
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import (
    OpenFlow,
    management_socket,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ovsdb import (
    Bridge,
    Connection,
    Ovsdb,
    reconfigured,
    request_reconfiguration,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.command import Runner, run

RECEIVER_ADDRESS = "198.18.0.2"
_SENDER_ADDRESS = "198.18.0.1"
NAMESPACES = "/run/netns"
_OWNER = "ovsops-probe"  # in external_ids of a Port: the name of the measurement
_PRIORITY, _COOKIE = 65535, 0x6F76_7072_0000_0000
_HINT = "state=absent removes what is left; or give two namespaces of your own"
_DEVICE, _USUAL_MTU = "e0", 1500


class Ends:
    """Those of the measurement ``name``; ``timeout`` of the connection limits each wait."""

    def __init__(self, name: str, connection: Connection, runner: Runner = run) -> None:
        self._name, self._connection, self._run = name, connection, runner
        number = zlib.crc32(name.encode())
        self.cookie = _COOKIE | number
        self.sender, self.receiver = f"ovsops-{name}-sender", f"ovsops-{name}-receiver"
        # A device has 15 characters at most.
        self._ports = {self.sender: f"opr{number:08x}s", self.receiver: f"opr{number:08x}r"}

    def there(self) -> bool:
        """Whether both namespaces are."""
        return all(os.path.exists(os.path.join(NAMESPACES, each)) for each in self._ports)

    def make(self, bridge: str) -> None:
        """Make them at ``bridge``, from the beginning if only a part is there; what cannot be finished is removed again.

        Raises ``Refused`` where there is no such bridge, ``HotUpgradeError`` for all else.
        """
        with self._connection.open() as database:
            bridges = {each.name: each for each in database.bridges()}
            if bridge not in bridges:
                raise Refused(
                    f"the ends of probe {self._name!r} cannot be made",
                    f"there is no bridge {bridge}",
                    f"There are: {', '.join(bridges) or 'none'}",
                )
            self._remove(database)
            try:
                self._make(database, bridge, _mtu(bridges[bridge]))
            except BaseException:
                self._remove(database)
                raise

    def remove(self) -> bool:
        """All of it away, whatever part is left; whether there was anything."""
        try:
            with self._connection.open() as database:
                return self._remove(database)
        except Unreachable:
            if any(os.path.exists(os.path.join(NAMESPACES, each)) for each in self._ports):
                raise
            return False  # a host without Open vSwitch

    def _make(self, database: Ovsdb, bridge: str, mtu: int) -> None:
        for number, (namespace, port) in enumerate(self._ports.items(), 1):
            self._ip("netns", "add", namespace)
            self._ip("link", "add", port, "type", "veth", "peer", "name", _DEVICE, "netns", namespace)
            self._ip("-n", namespace, "link", "set", _DEVICE, "address", _mac(number), "mtu", str(mtu))
            self._ip("link", "set", port, "mtu", str(mtu))
            # Else each end looks for routers and neighbours, with packets that nobody counts.
            quiet = f"net.ipv6.conf.{_DEVICE}.disable_ipv6=1"
            self._ip("netns", "exec", namespace, "sysctl", "-qw", quiet, needed=False)
        database.transact(*self._rows(bridge))
        ofports = self._numbered(database)
        with self._switch(bridge) as of:
            first = one_way.forward(of.version, of.xid(), self.cookie, _PRIORITY, *ofports)
            others = [
                one_way.drop(of.version, of.xid(), self.cookie, _PRIORITY - 1, each) for each in ofports
            ]
            self._send(of, first, *others)
        addresses = (_SENDER_ADDRESS, RECEIVER_ADDRESS), (RECEIVER_ADDRESS, _SENDER_ADDRESS)
        for number, ((namespace, port), (own, other)) in enumerate(zip(self._ports.items(), addresses), 1):
            self._ip("-n", namespace, "address", "add", f"{own}/30", "dev", _DEVICE)
            self._ip("-n", namespace, "link", "set", "lo", "up")
            self._ip("-n", namespace, "link", "set", _DEVICE, "up")
            peer = ("lladdr", _mac(3 - number), "dev", _DEVICE)
            self._ip("-n", namespace, "neighbour", "replace", other, *peer)
            self._ip("link", "set", port, "up")

    def _rows(self, bridge: str) -> t.Iterator[dict[str, t.Any]]:
        """The operations that add both ports."""
        for number, port in enumerate(self._ports.values()):
            yield {
                "op": "insert",
                "table": "Interface",
                "row": {"name": port},
                "uuid-name": f"interface{number}",
            }
            row = {
                "name": port,
                "interfaces": ["named-uuid", f"interface{number}"],
                "external_ids": ["map", [[_OWNER, self._name]]],
            }
            yield {"op": "insert", "table": "Port", "row": row, "uuid-name": f"port{number}"}
            yield _of_bridge([["name", "==", bridge]], "insert", ["named-uuid", f"port{number}"])

    def _numbered(self, database: Ovsdb) -> list[int]:
        """The numbers that ovs-vswitchd has given to them."""
        self._apply(database)
        found = {
            row["name"]: row["ofport"]
            for row in database.select("Interface", ("name", "ofport"))
            if row["name"] in self._ports.values()
        }
        numbers = [found.get(port) for port in self._ports.values()]
        if None in numbers or min(t.cast("list[int]", numbers)) < 1:
            raise HotUpgradeError(
                f"the ends of probe {self._name!r} cannot be made",
                "ovs-vswitchd could not add their ports",
                "Its log says why",
            )
        return t.cast("list[int]", numbers)

    def _remove(self, database: Ovsdb) -> bool:
        ports = database.select("Port", ("_uuid", "external_ids"))
        ours = [row["_uuid"] for row in ports if row["external_ids"].get(_OWNER) == self._name]
        for row in database.select("Bridge", ("name", "ports")) if ours else []:
            held = [uuid for uuid in ours if uuid in row["ports"]]
            if held:
                with contextlib.suppress(HotUpgradeError), self._switch(row["name"]) as of:
                    self._send(of, one_way.deletion(of.version, of.xid(), self.cookie))
                where = [["name", "==", row["name"]]]
                database.transact(*(_of_bridge(where, "delete", ["uuid", uuid]) for uuid in held))
        if ours:
            self._apply(database)
        found = bool(ours)
        for namespace, port in self._ports.items():
            if os.path.exists(os.path.join(NAMESPACES, namespace)):
                found = True
                self._ip("link", "delete", port, needed=False)
                self._ip("netns", "delete", namespace)
        return found

    def _apply(self, database: Ovsdb) -> None:
        number = request_reconfiguration(database)
        waiter = Waiter(self._connection.timeout)
        what = "ovs-vswitchd has applied the ports of the probe"
        waiter.wait(what, lambda: reconfigured(database, number), bool, lambda _: "it has not", _HINT)

    def _switch(self, bridge: str) -> OpenFlow:
        socket = management_socket(self._connection.rundir, bridge)
        return OpenFlow.connect(socket, timeout=self._connection.timeout)

    def _send(self, of: OpenFlow, *messages: bytes) -> None:
        errors = of.send(messages)
        if errors:
            raise self._failed(f"{of.name} refuses a flow: {errors[0].name}")

    def _ip(self, *words: str, needed: bool = True) -> None:
        argv = ("ip", *words)
        done = self._run(argv, self._connection.timeout)
        if done.rc != 0 and needed:
            raise self._failed(f"{' '.join(argv)}: {(done.err or done.out).strip()}")

    def _failed(self, why: str) -> HotUpgradeError:
        return HotUpgradeError(f"the ends of probe {self._name!r} cannot be made or removed", why, _HINT)


def _mtu(bridge: Bridge) -> int:
    """What a port must have that changes nothing: ovs-vswitchd gives its internal ports the lowest of all others.

    See find_min_mtu in ofproto/ofproto.c.
    """
    others = [each.mtu for each in bridge.interfaces if each.type != "internal" and each.mtu]
    own = [each.mtu for each in bridge.interfaces if each.name == bridge.name and each.mtu]
    return min(others or own or [_USUAL_MTU])


def _of_bridge(where: t.Any, how: str, port: t.Any) -> dict[str, t.Any]:
    return {"op": "mutate", "table": "Bridge", "where": where, "mutations": [["ports", how, ["set", [port]]]]}


def _mac(number: int) -> str:
    return f"02:6f:76:70:72:{number:02x}"
