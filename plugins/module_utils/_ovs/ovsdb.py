# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The Open_vSwitch database over JSON-RPC (RFC 7047): plain values in, plain values out.

Column types come from the schema that the server runs, so the same code reads the
databases of Open vSwitch 2.15 to 4.0.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import types
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    ProtocolError,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.jsonrpc import JsonRpc, RpcError

DATABASE = "Open_vSwitch"
DEFAULT_REMOTE = "unix:/run/openvswitch/db.sock"
FLOW_RESTORE_WAIT = "flow-restore-wait"
# Keys of maps whose values are nobody's business: the pre-shared key of an IPsec tunnel.
SECRETS = frozenset({"psk"})

Row = dict[str, t.Any]
Condition = tuple[str, str, t.Any]


@dataclasses.dataclass(frozen=True)
class Interface:
    """A row of Interface; ``port`` is the name of its Port (differs from ``name`` in a bond).

    ``ofport`` is None until vswitchd has numbered it and -1 when it could not be added (``error`` says why).
    """

    name: str
    port: str
    type: str
    ofport: int | None
    ofport_request: int | None
    options: dict[str, str]
    other_config: dict[str, str]
    bfd: dict[str, str]
    cfm_mpid: int | None
    policing_rate: int
    mac: str | None
    mac_in_use: str | None
    mtu: int | None
    ifindex: int | None
    link_state: str | None
    error: str | None


@dataclasses.dataclass(frozen=True)
class Port:
    """A row of Port; more than one interface makes it a bond.

    ``opened`` are its interfaces in the order in which a new ovs-vswitchd opens them: that of their UUIDs (ovsdb_datum_sort).
    """

    name: str
    interfaces: tuple[str, ...]
    opened: tuple[str, ...]
    bond_mode: str | None
    lacp: str | None
    qos: bool
    other_config: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Bridge:
    """A row of Bridge with its ports; ``controllers`` are targets, ``datapath_id`` is 16 hex digits.

    ``alone`` tells that none of the controllers is connected that it connects to.
    ``protocols`` is as configured: empty means vswitchd's default set.  Ports and interfaces are in
    the order of their names.
    """

    name: str
    datapath_type: str
    datapath_id: str | None
    fail_mode: str | None
    protocols: tuple[str, ...]
    controllers: tuple[str, ...]
    alone: bool
    ports: tuple[Port, ...]
    interfaces: tuple[Interface, ...]
    stp: bool
    rstp: bool
    mcast_snooping: bool
    mirrors: int
    netflow: bool
    sflow: bool
    ipfix: bool
    other_config: dict[str, str]

    @property
    def ofports(self) -> dict[str, int]:
        """The ofport of each interface that ovs-vswitchd has numbered, by its name; -1 where it could not add it."""
        return {each.name: each.ofport for each in self.interfaces if each.ofport is not None}


@dataclasses.dataclass(frozen=True)
class Connection:
    """Where Open vSwitch is on this host; ``timeout`` is for one answer, in seconds."""

    rundir: str
    remote: str
    timeout: float

    def open(self) -> Ovsdb:
        """A session with its database."""
        return Ovsdb(self.remote, self.timeout)


class Ovsdb:
    """A session with the Open_vSwitch database; use it as a context manager.

    ``timeout`` limits the connect and each call, in seconds.
    """

    def __init__(self, remote: str = DEFAULT_REMOTE, timeout: float = 10.0) -> None:
        self.remote = remote
        self._rpc = JsonRpc(remote, timeout)

    def __enter__(self) -> Ovsdb:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._rpc.close()

    def call(self, method: str, *params: t.Any, timeout: float | None = None) -> t.Any:
        """Any method of RFC 7047 section 4.1; raises ``HotUpgradeError`` with the server's reason."""
        try:
            return self._rpc.call(method, params, timeout)
        except RpcError as refusal:
            raise _refused(self.remote, method, refusal.error) from refusal

    def transact(self, *operations: dict[str, t.Any]) -> list[dict[str, t.Any]]:
        """Run operations of RFC 7047 section 5.2 as one transaction and return one result for each.

        Raises ``HotUpgradeError`` when any of them (or the commit) failed: then nothing was changed.
        """
        results: list[t.Any] = self.call("transact", DATABASE, *operations)
        with _sound(self.remote):
            for index, result in enumerate(results):
                if result and result.get("error"):
                    # A commit failure is an extra result after those of the operations.
                    what = operations[index]["op"] if index < len(operations) else "commit"
                    raise _refused(self.remote, what, result)
            if len(results) < len(operations):
                raise ValueError(f"{len(results)} results for {len(operations)} operations")
            return results

    @functools.cached_property
    def schema(self) -> dict[str, t.Any]:
        """The schema that the server runs, as JSON (RFC 7047 section 3.2)."""
        schema: dict[str, t.Any] = self.call("get_schema", DATABASE)
        return schema

    @property
    def schema_version(self) -> str:
        """As ``8.3.0``."""
        with _sound(self.remote):
            return str(self.schema["version"])

    def has_column(self, table: str, column: str) -> bool:
        """Whether this server's schema has the column (they grow with the versions)."""
        return column in self.schema["tables"].get(table, {}).get("columns", {})

    def select(self, table: str, columns: t.Sequence[str], where: t.Sequence[Condition] = ()) -> list[Row]:
        """Rows of ``table`` with ``columns`` as plain values.

        By the column's type: (optional) scalar -> value or None, set -> list, map -> dict, uuid -> str.
        """
        return self.select_many((table, columns, where))[0]

    def select_many(self, *queries: tuple[str, t.Sequence[str], t.Sequence[Condition]]) -> list[list[Row]]:
        """Several ``select`` in one transaction, so that the tables fit together."""
        operations = [
            {"op": "select", "table": table, "columns": list(columns), "where": [list(c) for c in where]}
            for table, columns, where in queries
        ]
        results = self.transact(*operations)
        with _sound(self.remote):
            return [
                [
                    {column: plain(row[column], self._type(table, column)) for column in columns}
                    for row in result["rows"]
                ]
                for (table, columns, _where), result in zip(queries, results)
            ]

    def bridges(self) -> list[Bridge]:
        """Every bridge with its ports and interfaces, sorted by name, read in one transaction.

        Without those that ovs-vswitchd ignores for their name (add_del_bridges in vswitchd/bridge.c): their sockets would be
        outside of the run directory.
        """
        bridges, ports, interfaces, controllers = self.select_many(
            ("Bridge", _BRIDGE_COLUMNS, ()),
            ("Port", _PORT_COLUMNS, ()),
            ("Interface", _INTERFACE_COLUMNS, ()),
            ("Controller", ("_uuid", "target", "type", "is_connected"), ()),
        )
        port_rows = {row["_uuid"]: row for row in ports}
        interface_rows = {row["_uuid"]: row for row in interfaces}
        controller_rows = {row["_uuid"]: row for row in controllers}
        with _sound(self.remote):
            return sorted(
                (
                    _bridge(row, port_rows, interface_rows, controller_rows)
                    for row in bridges
                    if not {"/", "\\"} & set(row["name"])
                ),
                key=lambda bridge: bridge.name,
            )

    def flow_restore_wait(self) -> bool:
        """Whether ``other_config:flow-restore-wait`` is set, as vswitchd reads it."""
        rows = self.select(DATABASE, ("other_config",))
        return any(is_true(row["other_config"].get(FLOW_RESTORE_WAIT)) for row in rows)

    def set_flow_restore_wait(self, enabled: bool) -> None:
        """Set the flag to ``true``, or remove the key; returns when the database has it, not vswitchd."""
        # "insert" into a map keeps an existing pair, so the old one is deleted first (RFC 7047 section 5.1).
        mutations: list[t.Any] = [["other_config", "delete", ["set", [FLOW_RESTORE_WAIT]]]]
        if enabled:
            mutations.append(["other_config", "insert", ["map", [[FLOW_RESTORE_WAIT, "true"]]]])
        operation = {"op": "mutate", "table": DATABASE, "where": [], "mutations": mutations}
        result = self.transact(operation)[0]
        if enabled and result["count"] == 0:
            raise HotUpgradeError(
                f"cannot set {FLOW_RESTORE_WAIT} on {self.remote}",
                "the database has no Open_vSwitch row",
                "Initialise it with 'ovs-vsctl --no-wait init' and start again",
            )

    def external_ids(self) -> dict[str, str]:
        """``external_ids`` of the whole switch."""
        rows = self.select(DATABASE, ("external_ids",))
        return dict(rows[0]["external_ids"]) if rows else {}

    def set_external_ids(self, values: t.Mapping[str, str | None]) -> None:
        """Set keys of ``external_ids`` of the whole switch, or remove those that are None."""
        mutations: list[t.Any] = [["external_ids", "delete", ["set", list(values)]]]
        pairs = [[key, value] for key, value in values.items() if value is not None]
        mutations.append(["external_ids", "insert", ["map", pairs]])
        self.transact({"op": "mutate", "table": DATABASE, "where": [], "mutations": mutations})

    def flush(self) -> None:
        """Return when the disk has all that the database has, which by itself takes its time (ovsdb-server(7)).

        An empty transaction would not be written, so a harmless counter goes up.
        """
        count = {"op": "mutate", "table": DATABASE, "where": [], "mutations": [["next_cfg", "+=", 1]]}
        self.transact(count, {"op": "commit", "durable": True})

    def tell_versions(self, running: str) -> None:
        """Correct what is told of the version that runs, and of the schema, where anybody has told it.

        The daemons do not: ``ovs-ctl`` does at each start (ovs-ctl.in, set_system_ids), and ``ovs-vsctl show`` prints it.
        """
        wanted = {"ovs_version": running, "db_version": self.schema_version}
        for row in self.select(DATABASE, tuple(wanted)):  # there is one, or none yet
            wrong = {name: value for name, value in wanted.items() if row[name] and row[name] != value}
            if wrong:
                self.transact({"op": "update", "table": DATABASE, "where": [], "row": wrong})

    def _type(self, table: str, column: str) -> t.Any:
        if column == "_uuid":
            return "uuid"
        return self.schema["tables"][table]["columns"][column]["type"]


@contextlib.contextmanager
def _sound(remote: str) -> t.Iterator[None]:
    """Raise ``ProtocolError`` where an answer of the database does not have the form that RFC 7047 gives it."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        why = f"{type(error).__name__}: {error}"[:200]
        hint = "Look at what serves it: it is no OVSDB server"
        raise ProtocolError(f"the database at {remote} answered nonsense", why, hint) from error


def request_reconfiguration(database: Ovsdb) -> int:
    """Ask ovs-vswitchd to tell when it has applied what is in ``database`` now, as ovs-vsctl does (next_cfg)."""
    mutation = {"op": "mutate", "table": DATABASE, "where": [], "mutations": [["next_cfg", "+=", 1]]}
    wanted = {"op": "select", "table": DATABASE, "where": [], "columns": ["next_cfg"]}
    return int(database.transact(mutation, wanted)[1]["rows"][0]["next_cfg"])


def reconfigured(database: Ovsdb, number: int) -> bool:
    """Whether ovs-vswitchd has applied what was there at ``request_reconfiguration`` (cur_cfg)."""
    query = {"op": "select", "table": DATABASE, "where": [], "columns": ["cur_cfg"]}
    return bool(database.transact(query)[0]["rows"][0]["cur_cfg"] >= number)


def ofport_requests(ofports: t.Iterable[tuple[str, int | None]]) -> list[dict[str, t.Any]]:
    """The operations that ask for these (interface, ofport); reserved ofports (OFPP_MAX and up) cannot be asked for."""
    return [
        {
            "op": "update",
            "table": "Interface",
            "where": [["name", "==", name]],
            "row": {"ofport_request": number},
        }
        for name, number in ofports
        if number is not None and 0 < number < 0xFF00
    ]


def is_true(value: str | None) -> bool:
    """How the daemons read a boolean that is false by default out of a map (lib/smap.c, smap_get_bool)."""
    return value is not None and value.lower() == "true"


def plain(value: t.Any, column_type: t.Any) -> t.Any:
    """Turn a value of the wire (RFC 7047 section 5.1) into the form that ``column_type`` (3.2) implies."""
    if isinstance(column_type, dict) and "value" in column_type:
        return {_atom(key): _atom(item) for key, item in value[1]}
    is_set = isinstance(value, list) and value[0] == "set"
    atoms = [_atom(item) for item in value[1]] if is_set else [_atom(value)]
    if isinstance(column_type, dict) and column_type.get("max", 1) != 1:
        return atoms
    return atoms[0] if atoms else None


def _atom(value: t.Any) -> t.Any:
    return value[1] if isinstance(value, list) else value


# Controllers that ovs-vswitchd connects to, not the other way.
ACTIVE = ("tcp:", "ssl:", "unix:")

_BRIDGE_COLUMNS = (
    "name",
    "datapath_type",
    "datapath_id",
    "fail_mode",
    "protocols",
    "controller",
    "ports",
    "stp_enable",
    "rstp_enable",
    "mcast_snooping_enable",
    "mirrors",
    "netflow",
    "sflow",
    "ipfix",
    "other_config",
)
_PORT_COLUMNS = (
    "_uuid",
    "name",
    "interfaces",
    "bond_mode",
    "lacp",
    "qos",
    "other_config",
)
_INTERFACE_COLUMNS = (
    "_uuid",
    "name",
    "type",
    "ofport",
    "ofport_request",
    "options",
    "other_config",
    "bfd",
    "cfm_mpid",
    "ingress_policing_rate",
    "mac",
    "mac_in_use",
    "mtu",
    "ifindex",
    "link_state",
    "error",
)


def _bridge(
    row: Row, ports: dict[str, Row], interfaces: dict[str, Row], controllers: dict[str, Row]
) -> Bridge:
    own = [controllers[uuid] for uuid in row["controller"]]
    wanted = [each for each in own if each["type"] != "service" and each["target"].startswith(ACTIVE)]
    port_rows = sorted((ports[uuid] for uuid in row["ports"]), key=lambda port: str(port["name"]))
    members = [
        _interface(interfaces[uuid], port["name"]) for port in port_rows for uuid in port["interfaces"]
    ]
    return Bridge(
        name=row["name"],
        datapath_type=row["datapath_type"] or "system",
        datapath_id=row["datapath_id"],
        fail_mode=row["fail_mode"],
        protocols=tuple(sorted(row["protocols"])),
        controllers=tuple(sorted(each["target"] for each in own)),
        alone=bool(wanted) and not any(each["is_connected"] for each in wanted),
        ports=tuple(_port(port, interfaces) for port in port_rows),
        interfaces=tuple(sorted(members, key=lambda interface: interface.name)),
        stp=row["stp_enable"],
        rstp=row["rstp_enable"],
        mcast_snooping=row["mcast_snooping_enable"],
        mirrors=len(row["mirrors"]),
        netflow=row["netflow"] is not None,
        sflow=row["sflow"] is not None,
        ipfix=row["ipfix"] is not None,
        other_config=row["other_config"],
    )


def _port(row: Row, interfaces: dict[str, Row]) -> Port:
    return Port(
        name=row["name"],
        interfaces=tuple(sorted(interfaces[uuid]["name"] for uuid in row["interfaces"])),
        opened=tuple(interfaces[uuid]["name"] for uuid in sorted(row["interfaces"])),
        bond_mode=row["bond_mode"],
        lacp=row["lacp"],
        qos=row["qos"] is not None,
        other_config=row["other_config"],
    )


def _interface(row: Row, port: str) -> Interface:
    fields = {key: value for key, value in row.items() if key not in ("_uuid", "ingress_policing_rate")}
    return Interface(port=port, policing_rate=row["ingress_policing_rate"], **fields)


def _refused(remote: str, operation: str, error: t.Any) -> HotUpgradeError:
    detail = error if isinstance(error, dict) else {"error": str(error)}
    why = ": ".join(str(detail[key]) for key in ("error", "details") if detail.get(key))
    return HotUpgradeError(
        f"the database at {remote} refused {operation}", why, "Look into the log of ovsdb-server"
    )
