# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Give a bridge a state: staged in atomic bundles first, committed in one moment; or fill in what it lacks."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import tempfile
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    ProtocolError,
    Refused,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.waiting import TimedOut, Waiter
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import legacy, wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.bundles import Bundles
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.compare import (
    Difference,
    object_name,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import (
    MOST_ERRORS,
    OpenFlow,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.refusal import Refusal
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import (
    Settings,
    State,
    Switch,
    Whole,
)

# From so many flows on, a state goes to an empty bridge over further connections.
_MANY_FLOWS = 10_000
_FURTHER_CONNECTIONS = 15
_CHUNK = 1 << 18
_SPOOL_IN_MEMORY = 1 << 20
_EMPTY_MATCH = bytes.fromhex("0001000400000000")
_DELETE_TIMEOUT = 5.0

# Somebody else was quicker.
_THERE = frozenset({"OFPGMFC_GROUP_EXISTS", "OFPMMFC_METER_EXISTS"})

# Of a flow whose group or meter is not there (ofproto_check_ofpacts in ofproto/ofproto.c).
DANGLING = frozenset({"OFPBAC_BAD_OUT_GROUP", "OFPMMFC_INVALID_METER"})
# How a switch refuses what somebody else has changed since it was looked at, and how often that may happen.
_OVERTAKEN = DANGLING | {"OFPMMFC_METER_EXISTS", "OFPMMFC_UNKNOWN_METER"}
_MOST_TRIES = 5


@dataclasses.dataclass(frozen=True)
class Undoable:
    """A modification outside of the bundle and the message that takes it back."""

    connection: OpenFlow
    do: bytes
    undo: bytes


class Staged:
    """A state that waits in the switch's bundle; ``commit`` makes it the bridge's state at once, or not at all."""

    def __init__(self, switch: Switch, state: State, in_parts: bool, torn: bool = False) -> None:
        self._switch, self._state, self._in_parts, self._torn = switch, state, in_parts, torn
        self._done: list[Undoable] = []
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

    def _tlvs_to_add(self, live: Settings) -> list[Undoable]:
        of, tlvs = self._switch.main, [tlv for tlv in self._state.settings.tlvs if tlv not in live.tlvs]
        if not tlvs:
            return []
        add, delete = (
            wire.tlv_mod(of.version, of.xid(), command, tlvs) for command in (wire.TLV_ADD, wire.TLV_DELETE)
        )
        return [Undoable(of, add, delete)]

    def _meters_to_add(self, live: Settings) -> list[Undoable]:
        of = self._switch.main
        return [
            Undoable(
                of,
                wire.meter_mod(of.version, of.xid(), wire.METER_ADD, meter, config),
                wire.meter_mod(of.version, of.xid(), wire.METER_DELETE, meter),
            )
            for meter, config in self._state.settings.meters.items()
            if meter not in live.meters
        ]

    def _meters_to_change(self, live: Settings) -> list[Undoable]:
        of, wanted = self._switch.main, self._state.settings.meters
        return [
            Undoable(
                of,
                wire.meter_mod(of.version, of.xid(), wire.METER_MODIFY, meter, wanted[meter]),
                wire.meter_mod(of.version, of.xid(), wire.METER_MODIFY, meter, config),
            )
            for meter, config in live.meters.items()
            if wanted.get(meter, config) != config
        ]

    def _settings_to_change(self, live: Settings) -> list[Undoable]:
        of, wanted = self._switch.main, self._state.settings
        version, steps = of.version, list[Undoable]()
        for table in sorted(live.tables.keys() | wanted.tables.keys()):
            before, after = (settings.tables.get(table, wire.DEFAULT_TABLE) for settings in (live, wanted))
            if before != after:
                do, undo = (wire.table_mod(version, of.xid(), table, config) for config in (after, before))
                steps.append(Undoable(of, do, undo))
        if live.fragments != wanted.fragments:
            do, undo = (
                wire.set_fragments(version, of.xid(), value) for value in (wanted.fragments, live.fragments)
            )
            steps.append(Undoable(of, do, undo))
        return steps + self._ports_to_change(live)

    def _ports_to_change(self, live: Settings) -> list[Undoable]:
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
            Undoable(
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

    def _apply(self, steps: t.Sequence[Undoable]) -> None:
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
        for data in self._state.objects():
            yield data if wire.is_flow_mod(data) else b"".join(map(_in_any_case, wire.each(data)))

    def _deletions(self) -> bytes | None:
        """The flow that a new bridge has by itself (fail_mode=standalone); groups none."""
        of = self._switch.main
        return wire.strict_deletion(of.version, of.xid(), 0, 0, _EMPTY_MATCH, 4)

    def _meters_to_change(self, live: Settings) -> list[Undoable]:
        return []


def _in_any_case(message: bytes) -> bytes:
    """A group-mod that adds its group as one that changes it where it is there already."""
    return (
        wire.with_group_command(message, wire.GROUP_ADD_OR_MODIFY) if wire.is_group_mod(message) else message
    )


class Configured(Adjusted):
    """What a state has of ports alone."""

    def _settings_to_change(self, live: Settings) -> list[Undoable]:
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


def _exchange(switch: Switch, messages: list[bytes], but: t.Container[str] = ()) -> None:
    """Send ``messages``; raises ``Refusal`` with what is refused for other reasons than ``but``."""
    of = switch.main
    first = [wire.with_table_ids(of.xid())] if of.version == wire.OF10 else []
    found = of.refusals([*first, *messages])
    refused = [(message, error.name) for message, error in found if error.name not in but]
    if refused:
        raise Refusal(switch.name, refused)


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
                f"{name}: the bridge maps tunnel options differently than the snapshot",
                f"{_tlv_text(other.pop())} is there, {_tlv_text(tlv)} is wanted",
                "Delete the flows that use it and that mapping (ovs-ofctl del-tlv-map), then restore again",
            )


def _tlv_text(tlv: wire.Tlv) -> str:
    return (
        f"{{class={tlv.option_class:#x},type={tlv.option_type:#x},len={tlv.length}}}->tun_metadata{tlv.index}"
    )
