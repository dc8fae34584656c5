# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Take, restore and compare the OpenFlow state of one bridge.

A state is a few ``Settings`` (TLV map, meters, table and port config, fragment handling) and a stream of what
a switch answers about its groups and flows.  A live bridge and a snapshot both are a ``State``: taking writes
one down as it comes, restoring turns one into modifications in an atomic bundle, comparing reads two.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import tempfile
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    ProtocolError,
    Refused,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import TimedOut, Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import legacy, text, wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.bundles import Bundles
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import (
    MOST_ERRORS,
    OpenFlow,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.content import Ignored, Part
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.refusal import Refusal

# From so many flows on, a state goes to an empty bridge over further connections.
_MANY_FLOWS = 10_000
_FURTHER_CONNECTIONS = 15
_CHUNK = 1 << 18
_SPOOL_IN_MEMORY = 1 << 20
_GROUP_SELECT = 1
_EMPTY_MATCH = bytes.fromhex("0001000400000000")
_DELETE_TIMEOUT = 5.0

# Somebody else was quicker.
_THERE = frozenset({"OFPGMFC_GROUP_EXISTS", "OFPMMFC_METER_EXISTS"})

# Of a flow whose group or meter is not there (ofproto_check_ofpacts in ofproto/ofproto.c).
DANGLING = frozenset({"OFPBAC_BAD_OUT_GROUP", "OFPMMFC_INVALID_METER"})
# How a switch refuses what somebody else has changed since it was looked at, and how often that may happen.
_OVERTAKEN = DANGLING | {"OFPMMFC_METER_EXISTS", "OFPMMFC_UNKNOWN_METER"}
_MOST_TRIES = 5

# Of a difference, so many objects are kept; all are counted.
MOST_SHOWN = 1000


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a bridge holds besides groups and flows.

    ``meters``: id -> flags and bands on the wire.  ``tables``: id -> config on the wire, only those that differ
    from the default.  ``ports``: ofport -> OFPPC_* bits; ``names``: ofport -> name, the first 15 bytes of it: what flows
    mean by the number.  ``fragments``: OFPC_FRAG_*.  ``port_bits``: which OFPPC_* bits are looked at and set.
    """

    tlvs: tuple[wire.Tlv, ...] = ()
    meters: t.Mapping[int, bytes] = dataclasses.field(default_factory=dict)
    tables: t.Mapping[int, bytes] = dataclasses.field(default_factory=dict)
    ports: t.Mapping[int, int] = dataclasses.field(default_factory=dict)
    fragments: int = 0
    names: t.Mapping[int, str] = dataclasses.field(default_factory=dict)
    port_bits: int = 0xFFFFFFFF


@dataclasses.dataclass(frozen=True)
class State:
    """The OpenFlow state of a bridge, in ``version``; ``ports_version`` is the version of the port config bits.

    ``replies`` can be called again and again; it streams what a switch answers when asked for its groups, and
    then for its ``flows``, of which there are about so many.
    """

    version: int
    ports_version: int
    settings: Settings
    flows: int
    replies: t.Callable[[], t.Iterator[bytes]]

    def objects(self) -> t.Iterator[bytes]:
        """The group-mods and then the flow-mods that make this state, numbered 1, 2, 3… by their transaction ids.

        Each item holds many, back to back.
        """
        xid = 1
        for reply in self.replies():
            make = wire.group_mods if wire.is_group_reply(reply) else wire.flow_mods
            data, count = make(reply, xid)
            xid += count
            yield data

    def messages(self) -> t.Iterator[bytes]:
        """The same, one at a time."""
        return (message for data in self.objects() for message in wire.each(data))

    def parts(self) -> t.Iterator[Part]:
        """The same for a comparison."""
        return map(Part.of_reply, self.replies())

    def check(self) -> None:
        """Raise ``Refused`` if ``replies`` does not stream what a switch told: its file is damaged."""


@dataclasses.dataclass(frozen=True)
class Whole(State):
    """A state without the flows whose group or meter it lacks: it was read one part after the other, while it was changed.

    A switch deletes them with their group or meter, so such a flow is gone as well, or will be told again.
    """

    saved: State

    @classmethod
    def of(cls, saved: State) -> State:
        """``saved`` without them."""
        if isinstance(saved, cls):
            return saved
        return cls(saved.version, saved.ports_version, saved.settings, saved.flows, saved.replies, saved)

    def objects(self) -> t.Iterator[bytes]:
        """See ``State``."""
        groups: set[int] = set()
        for data in self.saved.objects():
            kept = []
            for message in wire.each(data):
                if wire.is_group_mod(message):
                    groups.add(wire.group_id(message))
                elif not self._has_all(message, groups):
                    continue
                kept.append(message)
            yield b"".join(kept)

    def parts(self) -> t.Iterator[Part]:
        """See ``State``."""
        return (Part.of_messages(list(wire.each(data))) for data in self.objects())

    def _has_all(self, flow: bytes, groups: t.Container[int]) -> bool:
        used = wire.used_by(flow)
        return all(group in groups for group in used.groups) and self.settings.meters.keys() >= used.meters

    def check(self) -> None:
        """See ``State``."""
        self.saved.check()


@dataclasses.dataclass(frozen=True)
class Counts:
    """How many objects a state has."""

    tlvs: int = 0
    meters: int = 0
    tables: int = 0
    ports: int = 0
    groups: int = 0
    flows: int = 0


class Switch:
    """The connections to one bridge: ``main``, and ``ports`` in OpenFlow 1.0 where the bridge allows it.

    Only OpenFlow 1.0 shows and sets the port flags no-flood, no-stp and no-recv-stp.
    """

    def __init__(self, path: str, versions: t.Iterable[int] = wire.VERSIONS, timeout: float = 60.0) -> None:
        self._path, self._timeout = path, timeout
        self.main = OpenFlow.connect(path, versions, timeout)
        self._further: list[OpenFlow] = []
        self._others: dict[int, OpenFlow] = {self.main.version: self.main}
        try:
            self.ports = self.other(wire.OF10) or self.main
        except BaseException:
            self.main.close()
            raise

    def other(self, version: int) -> OpenFlow | None:
        """A connection in ``version``, or None if the bridge does not allow it."""
        if version not in self._others:
            if version not in self.main.offered:
                return None
            self._others[version] = OpenFlow.connect(self._path, (version,), self._timeout)
        return self._others[version]

    def further(self, count: int) -> list[OpenFlow]:
        """``count`` new connections like ``main``."""
        for __ in range(count):
            self._further.append(OpenFlow.connect(self._path, (self.version,), self._timeout))
        return self._further[len(self._further) - count :]

    def __enter__(self) -> Switch:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the switch drops what was staged on them."""
        for connection in (*self._others.values(), *self._further):
            connection.close()

    @property
    def version(self) -> int:
        """The OpenFlow version of everything but port config."""
        return self.main.version

    @property
    def name(self) -> str:
        """How errors call this bridge."""
        return self.main.name

    def describe_ports(self) -> list[wire.Port]:
        """Every port of the bridge, LOCAL included."""
        of = self.ports
        return [
            port for reply in of.ask(wire.ports_request(of.version, of.xid())) for port in wire.ports(reply)
        ]

    def software(self) -> str:
        """The version of the Open vSwitch that answers, ``3.5.0`` for example."""
        (reply,) = self.main.ask(wire.description_request(self.version, self.main.xid()))
        return wire.software(reply)

    def settings(self) -> Settings:
        """What the bridge has besides groups and flows; what its version cannot tell stays empty."""
        return read_settings(self.settings_replies())

    def settings_replies(self) -> list[bytes]:
        """What the switch answers when asked for its settings."""
        of, version = self.main, self.version
        requests = [
            wire.nicira(version, wire.NX_TLV_REQUEST, of.xid()),
            wire.message(version, wire.GET_CONFIG_REQUEST, of.xid()),
        ]
        if version >= wire.OF13:
            requests.append(wire.meters_request(version, of.xid()))
        if version >= wire.OF14:
            requests.append(wire.tables_request(version, of.xid()))
        replies = [reply for answer in self._asked(requests) for reply in answer]
        return replies + self.ports.ask(wire.ports_request(self.ports.version, self.ports.xid()))

    def count_flows(self, tables: t.Sequence[int] = (wire.ALL_TABLES,)) -> list[int]:
        """How many flows the switch counts in each of ``tables``."""
        of = self.main
        requests = [wire.aggregate_request(of.version, of.xid(), table) for table in tables]
        return [wire.aggregate_count(replies[0]) for replies in self._asked(requests)]

    def is_empty(self) -> bool:
        """Whether the bridge has neither flows nor groups, but for hidden flows."""
        of = self.main
        groups = of.ask(wire.group_desc_request(of.version, of.xid()))
        return not (any(map(wire.count_entries, groups)) or self.count_flows()[0])

    def about_flows(self) -> int:
        """How many flows the tables hold; hidden ones count too, but the switch need not look at every flow."""
        return sum(self._tables_in_use().values())

    def _tables_in_use(self) -> dict[int, int]:
        """Each table that holds flows, hidden ones included, and how many."""
        of = self.main
        found: dict[int, int] = {}
        for reply in of.ask(wire.tables_in_use_request(of.version, of.xid())):
            found |= wire.flows_in_tables(reply)
        return found

    def _asked(self, requests: list[bytes]) -> list[list[bytes]]:
        found: list[list[bytes]] = []
        for answer in self.main.exchange(requests):
            if isinstance(answer, wire.SwitchError) or not answer:
                name = answer.name if isinstance(answer, wire.SwitchError) else "no reply"
                raise ProtocolError(f"{self.name}: the switch refused to show its state", name)
            found.append(answer)
        return found

    def state(self) -> State:
        """The live state; its ``replies`` ask the switch each time."""
        return State(self.version, self.ports.version, self.settings(), self.about_flows(), self.replies)

    def replies(self) -> t.Iterator[bytes]:
        """What the switch answers when asked for its groups, and then for the flows of one table after the other.

        The switch does nothing else while it prepares an answer, so a table is what it has to stop for at most.
        """
        of = self.main
        flows = (wire.flows_request(of.version, of.xid(), table) for table in self._tables_in_use())
        return of.stream(wire.group_desc_request(of.version, of.xid()), *flows)


def read_settings(replies: t.Iterable[bytes]) -> Settings:
    """The settings that a switch told in ``replies``."""
    tlvs: tuple[wire.Tlv, ...] = ()
    meters: dict[int, bytes] = {}
    tables: dict[int, bytes] = {}
    ports: dict[int, wire.Port] = {}
    fragments = 0
    for reply in replies:
        found = wire.header(reply)
        if found.type == wire.EXPERIMENTER:
            tlvs = wire.tlv_map(reply)
        elif found.type == wire.GET_CONFIG_REPLY:
            fragments = wire.fragments(reply)
        elif not wire.is_multipart_reply(found):
            raise ProtocolError("a setting of the snapshot is of no known kind", reply[:16].hex())
        elif wire.multipart_reply(reply)[0] == wire.METER_CONFIG:
            meters |= wire.meters(reply)
        elif wire.multipart_reply(reply)[0] == wire.TABLE_DESC:
            tables |= wire.tables(reply)
        else:
            ports |= {port.number: port for port in wire.ports(reply)}
    bits = {number: port.config for number, port in ports.items()}
    names = {number: port.name for number, port in ports.items()}
    return Settings(tlvs, meters, tables, bits, fragments, names)


def settings_messages(state: State) -> bytes:
    """The settings of ``state`` as the messages that set them, or tell of ports, back to back, for people and for comparing."""
    version, settings = state.version, state.settings
    out = [wire.tlv_mod(version, 0, wire.TLV_ADD, settings.tlvs)] if settings.tlvs else []
    out += [wire.meter_mod(version, 0, wire.METER_ADD, *meter) for meter in sorted(settings.meters.items())]
    out += [wire.table_mod(version, 0, *table) for table in sorted(settings.tables.items())]
    out.append(wire.set_fragments(version, 0, settings.fragments))
    out += [
        wire.port_status(
            state.ports_version, number, settings.names.get(number, ""), config & settings.port_bits
        )
        for number, config in sorted(settings.ports.items())
    ]
    return b"".join(out)


# Take


@dataclasses.dataclass(frozen=True)
class Taken:
    """What ``take`` wrote, ``settings_bytes`` of them settings; and what it could not: one sentence each.

    ``pushes_vlan``: some flow pushes a VLAN tag and sets it, or means ``mod_vlan_vid`` of OpenFlow 1.0.
    """

    version: int
    ports_version: int
    settings_bytes: int
    counts: Counts
    not_carried: tuple[str, ...]
    pushes_vlan: bool


def take(switch: Switch, write: t.Callable[[bytes], None]) -> Taken:
    """Hand the bridge's state to ``write``, as the switch tells it: its settings, then groups, then flows.

    Memory does not grow with the number of flows.
    """
    replies = switch.settings_replies()
    settings = read_settings(replies)
    write(b"".join(replies))
    groups = flows = selects = 0
    pushes_vlan = False
    for reply in switch.replies():
        write(reply)
        pushes_vlan = pushes_vlan or wire.pushes_and_sets_vlan(reply)
        count = wire.count_entries(reply)
        if wire.is_group_reply(reply):
            groups += count
            selects += sum(
                wire.group_type(group) == _GROUP_SELECT for group in wire.each(wire.group_mods(reply, 1)[0])
            )
        else:
            flows += count
    lost = _unlisted(switch, flows) + _beyond_version(switch, selects)
    counts = Counts(
        len(settings.tlvs), len(settings.meters), len(settings.tables), len(settings.ports), groups, flows
    )
    versions = switch.version, switch.ports.version
    return Taken(*versions, sum(map(len, replies)), counts, tuple(lost), pushes_vlan)


def _unlisted(switch: Switch, flows: int) -> list[str]:
    """Flows that the switch counts but left out of its answer: larger than a statistics message can be."""
    if switch.about_flows() <= flows or switch.count_flows()[0] <= flows:
        return []
    tables = range(254)
    counted = switch.count_flows(tables)
    listed = collections.Counter(
        wire.flow_fields(flow).table for flow in switch.state().messages() if wire.is_flow_mod(flow)
    )
    return [
        f"table {table}: {counted[table] - listed[table]} of {counted[table]} flows are not listed by the switch "
        "(larger than an OpenFlow statistics message, or added meanwhile)"
        for table in tables
        if counted[table] > listed[table]
    ]


def _beyond_version(switch: Switch, selects: int) -> list[str]:
    """What the negotiated version cannot carry."""
    version, name = switch.version, wire.VERSION_NAMES[switch.version]
    lost = []
    if wire.OF10 < version < wire.OF15 and selects:
        lost.append(f"{name} cannot carry the selection method and fields of the {selects} select groups")
    if version < wire.OF14:
        lost.append(
            f"{name} cannot carry the importance of flows, nor the eviction and vacancy config of tables"
        )
    if version < wire.OF13:
        lost.append(
            f"{name} cannot carry meters, flow flags, and the instructions write_actions and write_metadata"
        )
    if switch.ports.version != wire.OF10:
        lost.append(
            "only OpenFlow10, which the bridge does not allow, carries the port flags no-flood, no-stp, no-recv-stp"
        )
    return lost


# Restore


@dataclasses.dataclass(frozen=True)
class Step:
    """A modification outside of the bundle and the message that takes it back."""

    connection: OpenFlow
    do: bytes
    undo: bytes


class Staged:
    """A state that waits in the switch's bundle; ``commit`` makes it the bridge's state at once, or not at all."""

    def __init__(self, switch: Switch, state: State, in_parts: bool, torn: bool = False) -> None:
        self._switch, self._state, self._in_parts, self._torn = switch, state, in_parts, torn
        self._done: list[Step] = []
        self._bundles: Bundles
        # Flows that only an older OpenFlow version takes, with their connections; see _oflegacy.
        self._legacy: list[tuple[OpenFlow, bytes]] = []
        # What was appended, and the meters that are to be deleted behind it.
        self._later: list[tuple[OpenFlow, list[bytes], list[bytes], list[bytes]]] = []
        self._gone: set[int] = set()
        self._insisting(self._begin, self._begin)

    def _begin(self) -> None:
        live = self._switch.settings()
        _check_tlvs(self._switch.name, live, self._state.settings)
        try:
            self._apply(self._tlvs_to_add(live) + self._meters_to_add(live))
            self._fill()
        except BaseException:
            self._revert()
            raise

    def _insisting(self, act: t.Callable[[], None], again: t.Callable[[], None]) -> None:
        """``act``, and ``again`` as long as somebody else is quicker and changes what it rests on."""
        for __ in range(_MOST_TRIES):
            try:
                act()
                return
            except Refusal as refusal:
                if not self._torn or not _overtaken(refusal):
                    raise
            self._state = Whole.of(self._state)
            act = again
        act()

    def _once_more(self) -> None:
        self._begin()
        for later in self._later:
            self._append(*later)
        self._commit()

    def require(self) -> None:
        """Raise ``HotUpgradeError`` if the switch has dropped the bundle."""
        errors = self._bundles.dropped()
        if errors:
            self.discard()  # The question itself has begun a new bundle.
            what = f"{self._switch.name}: the switch dropped the staged state"
            raise HotUpgradeError(
                what, errors[0].name, "Raise other_config:bundle-idle-timeout, or look into its log"
            )

    def append(
        self,
        flows_of: OpenFlow,
        before: list[bytes],
        flows: list[bytes],
        after: list[bytes],
        meters: t.Mapping[int, bytes | None],
    ) -> None:
        """Have changes made since ``state`` wait behind it: groups, then ``flows`` in the version of ``flows_of``, groups.

        ``meters`` are there already, or are to be deleted (None) when no flow uses them any more.
        """
        there = {meter: config for meter, config in meters.items() if config is not None}
        self._gone = self._gone - there.keys() | (meters.keys() - there.keys())
        settings = self._state.settings
        settings = dataclasses.replace(settings, meters={**settings.meters, **there})
        self._state = dataclasses.replace(self._state, settings=settings)
        self._later.append((flows_of, before, flows, after))
        self._append(flows_of, before, flows, after)

    def rest_on(self, settings: Settings) -> None:
        """Have it end with ``settings``, as far as flows do not depend on them."""
        known = self._state.settings
        settings = dataclasses.replace(settings, meters=known.meters, tlvs=known.tlvs)
        self._state = dataclasses.replace(self._state, settings=settings)

    def _append(
        self, flows_of: OpenFlow, before: list[bytes], flows: list[bytes], after: list[bytes]
    ) -> None:
        if flows_of is self._switch.main:
            self._bundles.append([*before, *flows, *after])
            return
        self._bundles.append(before)
        self._legacy += [(flows_of, flow) for flow in flows if wire.is_flow_mod(flow)]
        self._legacy += [(self._switch.main, group) for group in after]

    def commit(self) -> None:
        """Replace all groups and flows of the bridge by the staged ones, and set the rest to the snapshot's.

        Raises ``Refused`` with the flow or group in OpenFlow text; the bridge is then as it was.
        """
        self._insisting(self._commit, self._once_more)

    def _commit(self) -> None:
        live = self._switch.settings()
        try:
            self._apply(
                self._meters_to_add(live) + self._meters_to_change(live) + self._settings_to_change(live)
            )
            self._replace()
        except BaseException:
            self._revert()
            raise
        self._add_legacy()
        self._remove_extra(live)
        self._delete_gone()

    def refill(self) -> None:
        """``commit`` for a bridge that was flushed this moment, without asking first what it has: no meters, but its settings."""
        self._insisting(self._refill, self._once_more)

    def _refill(self) -> None:
        of, meters = self._switch.main, self._state.settings.meters
        of.post(wire.meter_mod(of.version, of.xid(), wire.METER_ADD, *meter) for meter in meters.items())
        self._replace()
        self._add_legacy()
        self._delete_gone()

    def _delete_gone(self) -> None:
        of = self._switch.main
        _insist(of, [wire.meter_mod(of.version, of.xid(), wire.METER_DELETE, meter) for meter in self._gone])

    def discard(self) -> None:
        """Forget the staged state; the bridge is as it was."""
        self._bundles.discard()
        self._revert()

    def _fill(self) -> None:
        several = self._in_parts and self._state.flows >= _MANY_FLOWS and self._switch.is_empty()
        further = self._switch.further(_FURTHER_CONNECTIONS if several else 0)
        self._bundles = Bundles(self._switch.main, further)
        try:
            errors = self._bundles.fill(self._objects(), self._deletions())
        except (ProtocolError, Refused):
            # The state's source is damaged, which may show in its last byte only.
            self._bundles.discard()
            raise
        try:
            self._legacy = self._reworded(errors)
        except BaseException:
            self._bundles.discard()
            raise

    def _objects(self) -> t.Iterator[bytes]:
        return self._state.objects()

    def _deletions(self) -> bytes | None:
        """What goes before; None: everything."""
        return None

    def _reworded(self, errors: t.Sequence[wire.SwitchError]) -> list[tuple[OpenFlow, bytes]]:
        """The refused flows in an older version, each with the connection to send it on.

        Raises ``Refused`` if there are other refusals, or if the bridge does not allow that version.
        """
        if len(errors) >= MOST_ERRORS or any(error.name not in legacy.WORDS for error in errors):
            raise self._refusal(errors)
        names = {error.xid: error for error in errors}
        found, refused = [], []
        for flow in self._find(names) if names else ():
            error = names[wire.header(flow).xid]
            version, reword = legacy.WORDS[error.name]
            connection = self._switch.other(version)
            try:
                if connection is not None:
                    found.append((connection, reword(flow)))
                    continue
            except ProtocolError:
                pass
            refused.append((flow, error.name))
        if refused:
            raise Refusal(self._switch.name, refused)
        return found

    def _replace(self) -> None:
        errors = self._bundles.commit()
        if errors:
            raise self._refusal(errors)

    def _add_legacy(self) -> None:
        """Add, right behind the commit, the flows that only an older version takes: bundles are of one version."""
        for of in {id(connection): connection for connection, __ in self._legacy}.values():
            first = [wire.with_table_ids(of.xid())] if of.version == wire.OF10 else []
            errors = of.send(first + [flow for connection, flow in self._legacy if connection is of])
            if errors:
                error = self._refusal(errors)
                raise HotUpgradeError(error.what, error.why, "Everything else of the snapshot is restored")

    def _tlvs_to_add(self, live: Settings) -> list[Step]:
        of, tlvs = self._switch.main, [tlv for tlv in self._state.settings.tlvs if tlv not in live.tlvs]
        if not tlvs:
            return []
        add, delete = (
            wire.tlv_mod(of.version, of.xid(), command, tlvs) for command in (wire.TLV_ADD, wire.TLV_DELETE)
        )
        return [Step(of, add, delete)]

    def _meters_to_add(self, live: Settings) -> list[Step]:
        of = self._switch.main
        return [
            Step(
                of,
                wire.meter_mod(of.version, of.xid(), wire.METER_ADD, meter, config),
                wire.meter_mod(of.version, of.xid(), wire.METER_DELETE, meter),
            )
            for meter, config in self._state.settings.meters.items()
            if meter not in live.meters
        ]

    def _meters_to_change(self, live: Settings) -> list[Step]:
        of, wanted = self._switch.main, self._state.settings.meters
        return [
            Step(
                of,
                wire.meter_mod(of.version, of.xid(), wire.METER_MODIFY, meter, wanted[meter]),
                wire.meter_mod(of.version, of.xid(), wire.METER_MODIFY, meter, config),
            )
            for meter, config in live.meters.items()
            if wanted.get(meter, config) != config
        ]

    def _settings_to_change(self, live: Settings) -> list[Step]:
        of, wanted = self._switch.main, self._state.settings
        version, steps = of.version, list[Step]()
        for table in sorted(live.tables.keys() | wanted.tables.keys()):
            before, after = (settings.tables.get(table, wire.DEFAULT_TABLE) for settings in (live, wanted))
            if before != after:
                do, undo = (wire.table_mod(version, of.xid(), table, config) for config in (after, before))
                steps.append(Step(of, do, undo))
        if live.fragments != wanted.fragments:
            do, undo = (
                wire.set_fragments(version, of.xid(), value) for value in (wanted.fragments, live.fragments)
            )
            steps.append(Step(of, do, undo))
        return steps + self._ports_to_change(live)

    def _ports_to_change(self, live: Settings) -> list[Step]:
        of, wanted = self._switch.ports, self._state.settings.ports
        bits = wire.PORT_CONFIG_BITS[of.version] & wire.PORT_CONFIG_BITS[self._state.ports_version]
        bits &= self._state.settings.port_bits
        changed = {
            number
            for number in wanted.keys() & live.ports.keys()
            if (wanted[number] ^ live.ports[number]) & bits
        }
        ports = [port for port in self._switch.describe_ports() if port.number in changed] if changed else []
        return [
            Step(
                of,
                wire.port_mod(of.version, of.xid(), port.number, port.hw_addr, wanted[port.number], bits),
                wire.port_mod(of.version, of.xid(), port.number, port.hw_addr, port.config, bits),
            )
            for port in ports
        ]

    def _remove_extra(self, live: Settings) -> None:
        """Delete meters and TLV mappings that the snapshot does not have: possible only now that no flow uses them."""
        of, wanted = self._switch.main, self._state.settings
        messages = [
            wire.meter_mod(of.version, of.xid(), wire.METER_DELETE, meter)
            for meter in live.meters.keys() - wanted.meters.keys()
        ]
        tlvs = [tlv for tlv in live.tlvs if tlv not in wanted.tlvs]
        if tlvs:
            messages.append(wire.tlv_mod(of.version, of.xid(), wire.TLV_DELETE, tlvs))
        _insist(of, messages)

    def _apply(self, steps: t.Sequence[Step]) -> None:
        """Do ``steps``, and remember how to take them back. Raises ``Refusal`` with all that the switch refused."""
        refused: list[tuple[bytes, str]] = []
        for connection in {id(step.connection): step.connection for step in steps}.values():
            mine = [step for step in steps if step.connection is connection]
            for step, answer in zip(mine, connection.exchange([step.do for step in mine])):
                if isinstance(answer, wire.SwitchError):
                    refused.append((step.do, answer.name))
                else:
                    self._done.append(step)
        if refused:
            raise Refusal(self._switch.name, refused)

    def _revert(self) -> None:
        undone = list(reversed(self._done))
        self._done.clear()
        for of in {id(step.connection): step.connection for step in undone}.values():
            # What cannot be taken back does no harm; the error that led here matters more.
            with contextlib.suppress(TimedOut):
                _insist(of, [step.undo for step in undone if step.connection is of])

    def _refusal(self, errors: t.Sequence[wire.SwitchError]) -> Refused:
        names = {error.xid: error.name for error in errors}
        refused = [(message, names[wire.header(message).xid]) for message in self._find(names)]
        if refused:
            return Refusal(self._switch.name, refused)
        what = f"{self._switch.name}: the switch refused the restore"
        return Refused(what, ", ".join(sorted({*names.values()})), "The bridge is as it was before")

    def _find(self, xids: t.Container[int]) -> t.Iterator[bytes]:
        """The groups and flows with the numbers ``xids``."""
        return (message for message in self._state.messages() if wire.header(message).xid in xids)


class Sparing(Staged):
    """Meters and TLV mappings that the state does not have are somebody else's, and stay."""

    def _remove_extra(self, live: Settings) -> None:
        """See the class."""


class Adjusted(Sparing):
    """What a state has of tables, ports and fragments; all that flows may use stays as it is, whoever changes it meanwhile."""

    def _fill(self) -> None:
        """Nothing waits."""

    def _replace(self) -> None:
        """Nothing is replaced."""


class Beside(Sparing):
    """A state for the bridge of a new process, in which others may have put something already: that stays."""

    def _objects(self) -> t.Iterator[bytes]:
        for data in filter(None, self._state.objects()):
            yield data if wire.is_flow_mod(data) else b"".join(map(_in_any_case, wire.each(data)))

    def _deletions(self) -> bytes | None:
        """The flow that a new bridge has by itself (fail_mode=standalone); groups none."""
        of = self._switch.main
        return wire.strict_deletion(of.version, of.xid(), 0, 0, _EMPTY_MATCH, 4)

    def _meters_to_change(self, live: Settings) -> list[Step]:
        return []


def _in_any_case(message: bytes) -> bytes:
    """A group-mod that adds its group as one that changes it where it is there already."""
    return (
        wire.with_group_command(message, wire.GROUP_ADD_OR_MODIFY) if wire.is_group_mod(message) else message
    )


class Configured(Adjusted):
    """What a state has of ports alone."""

    def _settings_to_change(self, live: Settings) -> list[Step]:
        return self._ports_to_change(live)


class Unbundled(Staged):
    """The same for a bridge that allows OpenFlow 1.0 only, which has no bundles: not atomic.

    ``commit`` deletes and adds; when the switch refuses something it puts back what was there.
    """

    def require(self) -> None:
        """Nothing waits in the switch."""

    def _append(
        self, flows_of: OpenFlow, before: list[bytes], flows: list[bytes], after: list[bytes]
    ) -> None:
        self._legacy += [(flows_of, message) for message in (*before, *flows, *after)]

    def refill(self) -> None:
        """The same as ``commit``: nothing waits in the switch."""
        self.commit()

    def discard(self) -> None:
        """Forget the state; the bridge is as it was."""
        self._revert()

    def _fill(self) -> None:
        """Nothing can be sent before ``commit``, which must not find out halfway that the state is damaged."""
        self._state.check()

    def _replace(self) -> None:
        of = self._switch.main
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL_IN_MEMORY) as before:
            for data in self._switch.state().objects():
                before.write(data)
            errors = of.send(self._replacing(self._state.objects()))
            if errors:
                before.seek(0)
                of.send(self._replacing(read_chunks(before)))
                raise self._refusal(errors)

    def _replacing(self, chunks: t.Iterable[bytes]) -> t.Iterator[bytes]:
        of = self._switch.main
        yield wire.with_table_ids(of.xid())
        yield wire.delete_flows(of.version, of.xid())
        yield wire.delete_groups(of.version, of.xid())
        yield from chunks


class Readable(t.Protocol):
    """The part of a binary file that reading it in order takes."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""


def read_chunks(file: Readable) -> t.Iterator[bytes]:
    """Whole messages, some 256 KB at a time, from a file that holds them back to back."""
    rest = b""
    while True:
        data = file.read(_CHUNK)
        if not data:
            break
        data = rest + data
        end = wire.last_boundary(data)
        if end:
            yield data[:end]
        rest = data[end:]
    if rest:
        raise ProtocolError(
            "a file of OpenFlow messages is cut off", f"{len(rest)} bytes are left at its end"
        )


def stage(
    switch: Switch, state: State, in_parts: bool = False, beside: bool = False, torn: bool = False
) -> Staged:
    """Send ``state`` to the switch without effect on flows and groups; ``commit`` the result when it is time.

    ``in_parts``: a large state for an empty bridge may go there in several bundles (see _bundles), which is sooner done
    as a whole; to wait for a moment when nothing must take long, one is better.
    ``beside``: the bridge is that of a new process, and what it holds already is somebody's: that stays, unless ``state`` has
    something else in its place.
    ``torn``: others change the bridge, so that a flow may name a group or a meter that was gone when these were read; where the
    switch refuses it, it is left out (``Whole``), and whoever follows the bridge makes it again.

    TLV mappings and meters that are missing are added now, because flows cannot be staged without them; whatever
    fails, they are taken back.  Raises ``Refused`` if the switch cannot hold the state.
    """
    if switch.version != state.version:
        raise Refused(
            f"{switch.name}: the snapshot is in {wire.VERSION_NAMES[state.version]}, the connection is not",
            f"it uses {wire.VERSION_NAMES[switch.version]}",
            f"Add {wire.VERSION_NAMES[state.version]} to the bridge's protocols column",
        )
    kind = Unbundled if state.version == wire.OF10 else Beside if beside else Staged
    try:
        return kind(switch, state, in_parts, torn)
    except HotUpgradeError:
        # Whatever was wrong with it, damage is the better explanation.
        state.check()
        raise


def _overtaken(refusal: Refusal) -> bool:
    """Whether somebody else was quicker, and what was refused may be taken when it is tried again."""
    return all(error in _OVERTAKEN for __, error in refusal.objects)


def restore(switch: Switch, state: State, torn: bool = False) -> None:
    """Make ``state`` the state of the bridge, see ``stage``. Raises ``Refused`` with the bridge as it was."""
    stage(switch, state, in_parts=True, torn=torn).commit()


def adjust(switch: Switch, state: State) -> None:
    """Give the bridge the tables, ports and fragments of ``state``. Raises ``Refused`` with the bridge as it was."""
    _adjust(Adjusted, switch, state)


def configure_ports(switch: Switch, state: State, numbers: t.Container[int]) -> None:
    """Give the ports ``numbers`` the config that they have in ``state``. Raises ``Refused`` with the bridge as it was."""
    ports = {number: config for number, config in state.settings.ports.items() if number in numbers}
    _adjust(Configured, switch, state, ports=ports)


def _adjust(kind: type[Adjusted], switch: Switch, state: State, **changes: t.Any) -> None:
    settings = dataclasses.replace(state.settings, meters={}, tlvs=(), **changes)
    kind(switch, dataclasses.replace(state, settings=settings), in_parts=False).commit()


def settings_of(path: str) -> Settings:
    """The settings of the bridge behind the management socket ``path``."""
    with Switch(path) as switch:
        return switch.settings()


def amend(switch: Switch, difference: Difference) -> None:
    """Take ``difference``, of flows alone and all of them, back. Raises ``Refusal`` with what is refused."""
    of = switch.main
    wanted = set(map(wire.flow_key, difference.missing))
    messages = [
        wire.deletion_of(flow, of.xid()) for flow in difference.extra if wire.flow_key(flow) not in wanted
    ]
    _exchange(switch, messages + [wire.with_xid(flow, of.xid()) for flow in difference.missing])


def renew_timeouts(switch: Switch, state: State) -> None:
    """Have the time of every flow of ``state`` that expires begin anew: each is added again, as it is."""
    xid = switch.main.xid
    _exchange(switch, [wire.with_xid(flow, xid()) for flow in state.messages() if wire.expires(flow)])


def fill_up(switch: Switch, state: State) -> None:
    """Give the bridge the groups, flows and settings of ``state`` that it lacks; what it has stays, whatever it is.

    Raises ``Refusal`` with what is refused.
    """
    if switch.count_flows()[0] <= 1:  # the one of fail_mode=standalone
        restore(switch, state)
        return
    adjust(switch, state)
    of, meters = switch.main, switch.settings().meters
    lost = [meter for meter in state.settings.meters.items() if meter[0] not in meters]
    _exchange(
        switch, [wire.meter_mod(of.version, of.xid(), wire.METER_ADD, *meter) for meter in lost], _THERE
    )
    live = {object_name(message) for message in switch.state().messages()}
    missing = [message for message in state.messages() if object_name(message) not in live]
    _exchange(switch, [wire.with_xid(message, of.xid()) for message in missing], _THERE | DANGLING)


def object_name(message: bytes) -> t.Hashable:
    """What tells the flow or group of a message from all others."""
    return wire.flow_key(message) if wire.is_flow_mod(message) else wire.group_id(message)


def _exchange(switch: Switch, messages: list[bytes], but: t.Container[str] = ()) -> None:
    """Send ``messages``; raises ``Refusal`` with what is refused for other reasons than ``but``."""
    of = switch.main
    first = [wire.with_table_ids(of.xid())] if of.version == wire.OF10 else []
    found = of.refusals([*first, *messages])
    refused = [(message, error.name) for message, error in found if error.name not in but]
    if refused:
        raise Refusal(switch.name, refused)


def remaining(state: State, elapsed: float) -> State:
    """The same state with the lifetime that its flows had left; ``elapsed`` are the seconds since it was taken."""

    def replies() -> t.Iterator[bytes]:
        for reply in state.replies():
            yield reply if wire.is_group_reply(reply) else wire.with_remaining_time(reply, elapsed)

    return dataclasses.replace(state, replies=replies)


def _insist(of: OpenFlow, deletions: t.Sequence[bytes]) -> None:
    """Send deletions until the switch accepts them: it destroys flows, and frees what they used, a moment later.

    Raises ``TimedOut`` when one is still refused after some seconds.
    """
    hint = "Look for a controller that adds flows to this bridge"
    what = f"{of.name} deletes a meter or TLV mapping that no flow uses any more"
    answers = of.exchange(deletions) if deletions else []
    for message, answer in zip(deletions, answers):
        if isinstance(answer, wire.SwitchError):
            again = functools.partial(of.send, [message])
            Waiter(_DELETE_TIMEOUT, 0.01).wait(what, again, lambda errors: not errors, str, hint)


def _check_tlvs(name: str, live: Settings, wanted: Settings) -> None:
    """Refuse a TLV map that contradicts the live one: it cannot change while flows use it."""
    fields = {tlv.index: tlv for tlv in live.tlvs}
    options = {(tlv.option_class, tlv.option_type): tlv for tlv in live.tlvs}
    for tlv in wanted.tlvs:
        other = {fields.get(tlv.index, tlv), options.get((tlv.option_class, tlv.option_type), tlv)} - {tlv}
        if other:
            raise Refused(
                f"{name}: the bridge maps tunnel options otherwise than the snapshot",
                f"{_tlv_text(other.pop())} is there, {_tlv_text(tlv)} is wanted",
                "Delete the flows that use it and that mapping (ovs-ofctl del-tlv-map), then restore again",
            )


def _tlv_text(tlv: wire.Tlv) -> str:
    return (
        f"{{class={tlv.option_class:#x},type={tlv.option_type:#x},len={tlv.length}}}->tun_metadata{tlv.index}"
    )


# Compare


@dataclasses.dataclass(frozen=True)
class Ignore:
    """What may differ: ``cookies``; ``timeouts`` (their values); ``expiring`` flows (those with a timeout);
    ``learned`` flows (those that a learn action of either side adds); all flows of some ``tables``; which ``ports``
    there are and what they are called (but not the config of those that both sides have); and whether their ``devices``
    are up."""

    cookies: bool = False
    timeouts: bool = False
    expiring: bool = False
    learned: bool = False
    tables: frozenset[int] = frozenset()
    ports: bool = False
    devices: bool = False


EXACT = Ignore()
_NOTHING = Ignored()
# Flows that come and go by themselves are no difference between before and after; ports are looked at by themselves.
BY_ITSELF = Ignore(expiring=True, learned=True, ports=True, devices=True)


@dataclasses.dataclass(frozen=True)
class Difference:
    """How two states differ; ``missing`` and ``extra`` are messages, at most as many as asked for."""

    missing: tuple[bytes, ...]
    extra: tuple[bytes, ...]
    missing_count: int
    extra_count: int

    def __bool__(self) -> bool:
        """Whether there is a difference."""
        return not self.same

    @property
    def same(self) -> bool:
        """Whether there is no difference."""
        return not (self.missing_count or self.extra_count)

    def without_groups(self, groups: t.Container[int]) -> Difference:
        """The same without these groups."""
        missing, extra = (
            tuple(
                message
                for message in found
                if not (wire.is_group_mod(message) and wire.group_id(message) in groups)
            )
            for found in (self.missing, self.extra)
        )
        counts = (
            self.missing_count - len(self.missing) + len(missing),
            self.extra_count - len(self.extra) + len(extra),
        )
        return Difference(missing, extra, *counts)

    @property
    def flows_alone(self) -> bool:
        """Whether nothing but flows differs, and all of them are known."""
        found = (*self.missing, *self.extra)
        return len(found) == self.missing_count + self.extra_count and all(map(wire.is_flow_mod, found))

    def __str__(self) -> str:
        """The numbers, and the first few objects as text."""
        lines = [f"missing {line}" for line in text.lines(self.missing[:3])]
        lines += [f"unexpected {line}" for line in text.lines(self.extra[:3])]
        return f"{self.missing_count} missing, {self.extra_count} unexpected ({'; '.join(lines)})"


NONE = Difference((), (), 0, 0)


def compare(saved: State, live: State, ignore: Ignore = EXACT, most: int = MOST_SHOWN) -> Difference:
    """What ``live`` lacks of ``saved`` (missing) and what it has besides (extra); an altered object is both.

    ``live`` is streamed once; ``saved`` twice if something is missing.  Holds a number of 64 bits (on most machines) for each
    object of ``saved``, made with a key of this process (PYTHONHASHSEED): nobody can prepare two objects with the same one.
    """
    if ignore.ports:
        numbers = saved.settings.ports.keys() & live.settings.ports.keys()
        saved, live = (_with_ports(state, numbers) for state in (saved, live))
    if ignore.devices:
        saved, live = leaving_devices(saved), leaving_devices(live)
    learned = _learned_by(saved) | _learned_by(live) if ignore.learned else frozenset[Learned]()
    ignored = Ignored(ignore.expiring, ignore.tables, learned, ignore.cookies, ignore.timeouts)
    seen = _begun(_parts(live, ignored))
    wanted: set[int] = set()
    for part in _parts(saved, ignored):
        wanted.update(map(hash, part.contents))
    extra: list[bytes] = []
    extra_count = 0
    for part in seen:
        found = list(map(hash, part.contents))
        strange = [number for number, each in enumerate(found) if each not in wanted]
        wanted.difference_update(found)
        extra_count += len(strange)
        extra += part.some(strange, most - len(extra))
    missing: list[bytes] = []
    for part in _parts(saved, ignored) if wanted else ():
        lost = [number for number, each in enumerate(part.contents) if hash(each) in wanted]
        missing += part.some(lost, most - len(missing))
    return Difference(tuple(missing), tuple(extra), len(wanted), extra_count)


def _begun(parts: t.Iterator[Part]) -> t.Iterator[Part]:
    """``parts``, of which the first is here: the switch prepares the next while something else is done."""
    return itertools.chain([first] if (first := next(parts, None)) else [], parts)


def leaving_devices(state: State) -> State:
    """``state`` without whether the devices of ports are up, to be restored where these are not ours.

    OFPPC_PORT_DOWN is what ovs-vswitchd knows of that, sometimes late, and to set it is to set the device down.
    """
    bits = state.settings.port_bits & ~wire.PORT_DOWN
    return dataclasses.replace(state, settings=dataclasses.replace(state.settings, port_bits=bits))


def _with_ports(state: State, numbers: t.Container[int]) -> State:
    """``state`` with these ports only, and without their names."""
    ports = {number: config for number, config in state.settings.ports.items() if number in numbers}
    return dataclasses.replace(state, settings=dataclasses.replace(state.settings, ports=ports, names={}))


def renumbered(saved: Settings, live: Settings) -> list[str]:
    """One sentence for each port that both sides have, under another number: flows name ports by number.

    Ports that only one side has are left out: who adds and deletes ports means to.
    """
    before, now = _numbers(saved), _numbers(live)
    return [
        f"port {name!r} had the number {_listed(before[name])} and has {_listed(now[name])}"
        for name in sorted(before.keys() & now.keys())
        if before[name] - now[name] and now[name] - before[name]
    ]


def _numbers(settings: Settings) -> dict[str, set[int]]:
    """The numbers by name: several interfaces can begin with the same 15 bytes."""
    found: dict[str, set[int]] = collections.defaultdict(set)
    for number, name in settings.names.items():
        found[name].add(number)
    return found


def _listed(numbers: t.Iterable[int]) -> str:
    return " or ".join(map(str, sorted(numbers)))


Learned = tuple[int, int, int]


def _parts(state: State, ignored: Ignored) -> t.Iterator[Part]:
    """The objects of ``state`` without what is ignored; its settings last."""
    for part in state.parts():
        yield part if ignored == _NOTHING else ignored.leave(part)
    yield Part.of_messages(list(wire.each(settings_messages(state))))


def _learned_by(state: State) -> frozenset[Learned]:
    """(table, priority, cookie) of the flows that learn actions in ``state`` add."""
    return frozenset(target for reply in state.replies() for target in wire.learn_targets(reply))


def digest(message: bytes) -> bytes:
    """What is equal for two messages that differ in their transaction id at most."""
    # The transaction id is a mere number; 128 bits make two flows with one digest impossible in practice.
    return hashlib.blake2b(message[:4] + message[8:], digest_size=16).digest()
