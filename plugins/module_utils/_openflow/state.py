# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The OpenFlow state of one bridge, live or saved, and how to take it; see ``restore.py`` and ``compare.py`` for the rest.

A state is a few ``Settings`` (TLV map, meters, table and port config, fragment handling) and a stream of what
a switch answers about its groups and flows.  A live bridge and a snapshot both are a ``State``: taking writes
one down as it comes, restoring turns one into modifications in an atomic bundle, comparing reads two.
"""

from __future__ import annotations

import collections
import dataclasses
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    ProtocolError,
    Refused,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import (
    OpenFlow,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.content import Part

_GROUP_SELECT = 1
# So many groups are asked for at once, one by one.
_GROUPS_AT_ONCE = 500
_SMALLER = (
    "Take buckets from it, or make two of it. Nothing that asks for all groups of the bridge (ovs-ofctl dump-groups, ovs-save) "
    "is safe until then: ovs-vswitchd may end"
)


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

        Each item holds some, back to back.
        """
        xid = 1
        for reply in self.replies():
            make = wire.group_mods if wire.is_group_reply(reply) else wire.flow_mods
            data, count = make(reply, xid)
            xid += count
            if count:
                yield data

    def messages(self) -> t.Iterator[bytes]:
        """The same, one at a time."""
        return (message for data in self.objects() for message in wire.each(data))

    def parts(self) -> t.Iterator[Part]:
        """The same for a comparison."""
        return (Part.of_messages(list(wire.each(data))) for data in self.objects())

    def check(self) -> None:
        """Raise ``Refused`` if ``replies`` does not stream what a switch told: its file is damaged."""


@dataclasses.dataclass(frozen=True)
class Told(State):
    """A state whose objects are what a switch told, and nothing else."""

    def parts(self) -> t.Iterator[Part]:
        """See ``State``; no message is made."""
        return map(Part.of_reply, self.replies())


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
            if kept:
                yield b"".join(kept)

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

    def count_flows_of(self, cookie: int) -> int:
        """How many flows have that cookie.

        By table: of all tables at once, Open vSwitch counts those of its internal table, too, where the cookie is exact
        (collect_rules_loose in ofproto/ofproto.c); they have none.
        """
        of = self.main
        tables = self._tables_in_use()
        requests = [wire.aggregate_request(of.version, of.xid(), table, cookie) for table in tables]
        return sum(wire.aggregate_count(replies[0]) for replies in self._asked(requests))

    def cookies(self) -> t.Iterator[int]:
        """The cookie of every flow; the switch does nothing else while it prepares what a table holds."""
        for reply in self._flow_replies():
            yield from wire.cookies(reply)

    def oldest_flow(self, table: int = wire.ALL_TABLES) -> int | None:
        """How long the oldest flow of a table is there, in whole seconds; None where the table is empty."""
        of = self.main
        replies = of.ask(wire.flows_request(of.version, of.xid(), table))
        return max(map(wire.oldest, replies)) if any(map(wire.count_entries, replies)) else None

    def is_empty(self) -> bool:
        """Whether the bridge has neither flows nor groups, but for hidden flows."""
        return not (self.groups() or self.count_flows()[0])

    def groups(self) -> list[int]:
        """The number of each group.  Raises ``Refused`` where one has more buckets than the switch can count in a message."""
        of = self.main
        try:
            replies = of.ask(wire.group_stats_request(of.version, of.xid()))
            return [group for reply in replies for group in wire.groups_counted(reply)]
        except ProtocolError as error:
            raise Refused(
                f"{self.name}: the groups cannot be counted",
                f"one of them may have more than 4,090 buckets, which take more than a message may have, 64 KB ({error})",
                _SMALLER,
            ) from error

    def group_replies(self) -> t.Iterator[bytes]:
        """What the switch answers when asked for its groups, one by one where the version allows that.

        Each ovs-vswitchd up to 4.0 at least ends when it is asked for all, and one before the last takes more than 64 KB
        (ofpmp_postappend in lib/ofp-msgs.c).  In OpenFlow 1.5 a group takes more than in the version in which it was made.
        Raises ``Refused`` where there is such a one.
        """
        groups = self.groups()
        if not wire.describes_single_groups(self.version):
            yield from self.main.stream(wire.group_desc_request(self.version, self.main.xid()))
            return
        for start in range(0, len(groups), _GROUPS_AT_ONCE):
            some = groups[start : start + _GROUPS_AT_ONCE]
            try:
                answers = self._described(some)
            except ProtocolError as error:
                raise self._too_large(some) or error from error
            for answer in answers:
                yield from answer

    def _described(self, groups: t.Sequence[int]) -> list[list[bytes]]:
        requests = [wire.group_desc_request(self.version, self.main.xid(), group) for group in groups]
        answers = self._asked(requests)
        if any(len(parts) > 1 for parts in answers):
            raise ProtocolError(
                f"{self.name}: a group takes more than one message", "no version provides for that"
            )
        return answers

    def _too_large(self, groups: t.Iterable[int]) -> Refused | None:
        """That one of ``groups`` is; what comes after its answer cannot be read."""
        for group in groups:
            with Switch(self._path, (self.version,), self._timeout) as another:
                try:
                    another._described([group])
                except ProtocolError:
                    return Refused(
                        f"{self.name}: group {group} cannot be read",
                        f"it takes more than a message of {wire.VERSION_NAMES[self.version]} may have, 64 KB",
                        _SMALLER,
                    )
        return None

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
        return Told(self.version, self.ports.version, self.settings(), self.about_flows(), self.replies)

    def replies(self) -> t.Iterator[bytes]:
        """What the switch answers when asked for its groups, and then for the flows of one table after the other.

        The switch does nothing else while it prepares an answer, so a table is what it has to stop for at most.
        """
        yield from self.group_replies()
        yield from self._flow_replies()

    def _flow_replies(self) -> t.Iterator[bytes]:
        of = self.main
        yield from of.stream(
            *(wire.flows_request(of.version, of.xid(), table) for table in self._tables_in_use())
        )


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


def settings_of(path: str) -> Settings:
    """The settings of the bridge behind the management socket ``path``."""
    with Switch(path) as switch:
        return switch.settings()


def remaining(state: State, elapsed: float) -> State:
    """The same state with the lifetime that its flows had left; ``elapsed`` are the seconds since it was taken."""

    def replies() -> t.Iterator[bytes]:
        for reply in state.replies():
            yield reply if wire.is_group_reply(reply) else wire.with_remaining_time(reply, elapsed)

    return dataclasses.replace(state, replies=replies)
