# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""A switch that is in use while it is handed over: nothing that somebody changes meanwhile is lost, or taken for a fault.

``Living`` follows the old process from the snapshot on, carries what changed since into the new one, up to the last word of
the old one, and follows the new one from then on, so that every difference can be accounted for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.side_by_side import side_by_side
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._handover.account import Account, account
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import monitor, wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.compare import (
    BY_ITSELF,
    NONE,
    compare,
    leaving_devices,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import OpenFlow
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.follower import (
    Changes,
    Flags,
    Follower,
    Followers,
    Unfollowed,
    as_addition,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.monitor import Key
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.restore import (
    DANGLING,
    Staged,
    adjust,
    stage,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import (
    State,
    Switch,
    Whole,
    settings_of,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.text import lines
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.hints import VSWITCHD_LOG

# How often others may change what they have changed while it is made again.
MOST_ROUNDS = 100

# Of a bridge that is not there any more.
DELETED = Account(0, 0, {}, ["the bridge was deleted"], NONE)

Switches = t.Mapping[str, Switch]
States = t.Mapping[str, State]
Refusals = list[tuple[bytes, wire.SwitchError]]
Meters = t.Mapping[int, t.Optional[bytes]]


# Numbers of the objects that ``Changed`` adds: above those of any snapshot, below those of requests.
_FIRST_CHANGED = 0x20000000


@dataclasses.dataclass(frozen=True)
class Changed(State):
    """A state with changes made to it."""

    saved: State
    changes: Changes
    flags: Flags

    @classmethod
    def of(cls, saved: State, changes: Changes, flags: Flags) -> State:
        """``saved`` itself where nothing was changed."""
        if not changes:
            return saved
        meters = dict(saved.settings.meters) if "meters" not in changes.cleared else {}
        meters.update({meter: config for meter, config in changes.meters.items() if config is not None})
        for meter in [meter for meter, config in changes.meters.items() if config is None]:
            meters.pop(meter, None)
        settings = dataclasses.replace(saved.settings, meters=meters)
        known = saved.version, saved.ports_version, settings, saved.flows, saved.replies
        return cls(*known, saved, changes, flags)

    def objects(self) -> t.Iterator[bytes]:
        """See ``State``."""
        xid = functools.partial(next, itertools.count(_FIRST_CHANGED))
        groups = list(map(as_addition, self.changes.group_messages(self.version, xid, ())[0]))
        flows = self.changes.flow_messages(self.version, xid, self.flags)
        flows = [flow for flow in flows if wire.is_addition(flow)]
        for data in self.saved.objects():
            if groups and wire.is_flow_mod(data):
                yield b"".join(groups)
                groups = []
            if kept := [message for message in wire.each(data) if not self._is_replaced(message)]:
                yield b"".join(kept)
        if added := [*groups, *flows]:
            yield b"".join(added)

    def _is_replaced(self, message: bytes) -> bool:
        if wire.is_flow_mod(message):
            return wire.flow_key(message) in self.changes.flows
        return self.changes.replaces_group(wire.group_id(message))

    def check(self) -> None:
        """See ``State``."""
        self.saved.check()


class Living:
    """All bridges of one host, for the length of one hand-over.

    ``unfollowed`` says for each bridge that cannot be followed why: there, flows that come and go by themselves are told
    from others by their look.
    """

    def __init__(self) -> None:
        self.unfollowed: dict[str, str] = {}
        self.base: dict[str, State] = {}
        self._before: Followers | None = None
        self._after: dict[str, Follower] = {}
        self._paths: dict[str, str] = {}
        self._late: set[str] = set()
        self._flags: dict[str, Flags] = {}
        self._groups: dict[str, frozenset[int]] = {}
        self._meters: dict[str, frozenset[int]] = {}

    def follow(self, paths: t.Mapping[str, str]) -> None:
        """Follow the bridges whose management sockets are ``paths`` from now on, if that is not done already."""
        if self._before is None:
            self._paths = dict(paths)
            self._before = Followers(paths)
            self.unfollowed.update(self._before.unfollowed)

    def close(self) -> None:
        """Follow nobody any more."""
        if self._before is not None:
            self._before.close()
            self._before = None
        self.unwatch()

    # The old process

    def forget(self) -> None:
        """What is read from now on holds all that was changed up to now."""
        if self._before is not None:
            self._before.forget()

    def changed(self) -> bool:
        """Whether a bridge was changed since ``forget``, as far as that is told."""
        if self._before is None:
            return False
        self._before.quiet()
        return self._before.any_changed()

    @property
    def follows(self) -> bool:
        """Whether the old process is followed."""
        return self._before is not None

    def rest_on(self, states: States) -> None:
        """What the old process held when it was read after ``forget``."""
        self.base = {name: self._as_base(name, state) for name, state in states.items()}
        for name, state in states.items():
            self._flags[name], self._groups[name] = _look(state)
            self._meters[name] = frozenset(state.settings.meters)

    def _as_base(self, name: str, state: State) -> State:
        """Of a bridge that is not followed nothing tells what was changed while it was read."""
        found = leaving_devices(state)
        return Whole.of(found) if name in self.unfollowed else found

    @property
    def flows(self) -> int:
        """How many flows the bridges had."""
        return sum(state.flows for state in self.base.values())

    def quiet(self) -> None:
        """Have the old process tell what it keeps back; it is to be ended right behind this."""
        if self._before is None:
            return
        states, paths = list(self.base.items()), [self._paths[name] for name in self.base]
        for (name, state), settings in zip(states, side_by_side(settings_of, paths)):
            settings = dataclasses.replace(settings, port_bits=state.settings.port_bits)
            if settings != state.settings:
                self.base[name] = dataclasses.replace(state, settings=settings)
                self._late.add(name)
        self._before.quiet()

    def last_words(self) -> None:
        """Take what the old process wrote before it ended."""
        if self._before is not None:
            self._before.rest()
            for name in self.base:
                self._take_ports(name, self._before[name].ports)

    def _take_ports(self, name: str, told: t.Mapping[int, int]) -> None:
        """Have ``base`` hold the config of ports that were ``told`` last: it was read a moment before."""
        state = self.base[name]
        bits = wire.PORT_CONFIG_BITS[wire.OF15] & state.settings.port_bits
        known = state.settings.ports
        ports = {
            number: known[number] & ~bits | config & bits
            for number, config in told.items()
            if number in known
        }
        if any(known[number] != config for number, config in ports.items()):
            settings = dataclasses.replace(state.settings, ports={**known, **ports})
            self.base[name] = dataclasses.replace(state, settings=settings)
            self._late.add(name)

    def before(self, name: str) -> Changes:
        """What was changed in the old process since ``base`` was read."""
        return self._before[name] if self._before is not None else Changes()

    def now(self, name: str, saved: State) -> State:
        """``saved`` with all that was changed since, up to now: unlike ``saved`` itself, a state that was there at a moment.

        A table is read after the other, so a flow may be in ``saved`` and its group not.
        """
        if self._before is None or name not in self.base:
            return saved
        changes = self._before.up_to_now(name)
        told = self._before.version(name) == saved.version
        return Changed.of(saved, changes if told else changes.without_flows(), self._flags.get(name, {}))

    # The new process

    def carry(self, switches: Switches, staged: t.Mapping[str, Staged]) -> None:
        """Make in the new process, and in what waits there, what was changed in the old one since ``base``.

        A flow that stays is never away.
        Raises ``HotUpgradeError`` with what it does not take.
        """
        changes = {name: self.before(name) for name in switches}
        busy = [name for name in switches if changes[name] or name in self._late]

        def one(name: str) -> None:
            if name in staged:
                self.append(name, switches[name], staged[name])
            if name in self._late:
                adjust(switches[name], self.base[name])
            refused = self._make(name, changes[name], switches[name]) if changes[name] else []
            if refused:
                raise _not_carried(name, _words(refused))

        side_by_side(one, busy)

    def _make(self, name: str, changes: Changes, switch: Switch) -> Refusals:
        """Make ``changes`` in the new process; what it does not take, without flows whose group or meter is gone there."""
        flows_of, *messages = self._messages(name, changes, switch, self._alive(name))
        self._own(name, messages[1])
        refused, flows_refused = _send(switch.main, flows_of, self._meters_of(name, changes), *messages)
        gone = [flow for flow, error in flows_refused if error.name in DANGLING]
        self._expect_no(name, gone)
        return refused + [each for each in flows_refused if each[0] not in gone]

    def _meters_of(self, name: str, changes: Changes) -> Meters:
        return _meters_of(changes, self._meters.get(name, ()))

    def _expect_no(self, name: str, flows: t.Sequence[bytes]) -> None:
        """Somebody has deleted in the new process already what ``flows`` use, so that they are gone with it."""
        if name in self._after:
            changes = self._after[name].changes
            for key in map(wire.flow_key, flows):
                changes.flows.setdefault(key, self.before(name).flows[key].removed())

    def restore(self, name: str, switch: Switch, state: State) -> None:
        """Fill the bridge of a new process with ``state``, and what was changed in the old one since ``base``, at once.

        What others have put there already is later than that, and stays.
        """
        told, watched = self._told(name), name in self._after
        # A switch would tell what comes over further connections as if it were somebody else's.
        staged = stage(switch, state, in_parts=not watched, beside=watched, torn=True)
        if name in self._late:
            staged.rest_on(self.base[name].settings)
        changes = self.before(name).without(told)
        meters = self._meters_of(name, changes)
        there = {meter: config for meter, config in meters.items() if config is not None}
        if changes:
            _set_meters(switch.main, there)
            staged.append(*self._messages(name, changes, switch), there)
        told = self._told(name)
        if told:
            staged.append(*self._theirs(name, told, switch), dict[int, t.Optional[bytes]]())
        staged.commit()
        told = self._told(name)
        _delete_meters(switch.main, dict.fromkeys(meters.keys() - there.keys() - told.meters.keys()))

    def _told(self, name: str) -> Changes:
        """What others were seen to change in the new process so far, as a copy."""
        if name not in self._after:
            return Changes()
        self._after[name].sync()
        return self._after[name].changes.copy()

    def _theirs(
        self, name: str, changes: Changes, switch: Switch
    ) -> tuple[OpenFlow, list[bytes], list[bytes], list[bytes]]:
        """See ``_messages``, for what others have changed in the new process."""
        after, xid = self._after[name], switch.main.xid
        flows = changes.flow_messages(after.version, xid, self._flags.get(name, {}))
        before, last = changes.group_messages(switch.version, xid, self._groups.get(name, ()))
        return after.connections[-1], before, flows, last

    def append(self, name: str, switch: Switch, staged: Staged) -> None:
        """Have the same wait in the switch, behind ``base``."""
        if name in self._late:
            staged.rest_on(self.base[name].settings)
        changes = self.before(name)
        if changes:
            meters = self._meters_of(name, changes)
            _set_meters(switch.main, meters)
            staged.append(*self._messages(name, changes, switch), meters)

    def _messages(
        self, name: str, changes: Changes, switch: Switch, alive: t.Container[Key] = ()
    ) -> tuple[OpenFlow, list[bytes], list[bytes], list[bytes]]:
        """On which connection flows go, and groups, flows and groups, in the order to send them."""
        version, xid = t.cast(Followers, self._before).version(name), switch.main.xid
        flows_of = switch.other(version)
        if flows_of is None:
            raise _not_carried(
                name, f"it does not allow {wire.VERSION_NAMES[version]}, in which they were told"
            )
        flows = changes.flow_messages(version, xid, self._flags.get(name, {}), alive)
        before, after = changes.group_messages(switch.version, xid, self._groups.get(name, ()))
        return flows_of, before, flows, after

    def _alive(self, name: str) -> frozenset[Key]:
        """The flows that the new process was seen to add by itself: it learns as soon as it takes packets."""
        if name not in self._after:
            return frozenset()
        self._after[name].sync()
        flows = self._after[name].changes.flows
        return frozenset(key for key, event in flows.items() if event.kind != monitor.REMOVED)

    def _own(self, name: str, flows: t.Sequence[bytes]) -> None:
        """Have ``flows`` be known as ours when the new process tells of them."""
        if name in self._after:
            mods = filter(wire.is_flow_mod, flows)
            self._after[name].changes.ours = {wire.header(flow).xid: wire.flow_key(flow) for flow in mods}

    def watch(self, switches: Switches) -> None:
        """Follow the new process from now on: it holds what ``base`` holds, and what is carried there is ours.

        What is followed already stays so: a switch has one monitor of a number on a connection (ofmonitor_create).
        """

        def one(name: str) -> None:
            switch = switches[name]
            try:
                self._after[name] = Follower(switch.main, _old_language(switch))
            except Unfollowed as error:
                self.unfollowed[name] = f"{error.what}: {error.why}"

        # Of those without ``base`` it is not known what they should hold.
        side_by_side(one, [name for name in switches if name not in self._after and name in self.base])

    def make_again(self, name: str, switch: Switch) -> None:
        """Make again what others have changed in the new process: it was filled since, which has undone that.

        What they change meanwhile is made again, too, since it may have come before ours.
        """
        if name not in self._after:
            return
        after, made = self._after[name], Changes()
        for __ in range(MOST_ROUNDS):
            after.sync()
            changes = after.changes.since(made)
            if not changes:
                break
            made = after.changes.copy()
            flows_of, *messages = self._theirs(name, changes, switch)
            _send(switch.main, flows_of, self._meters_of(name, changes), *messages)

    def unwatch(self) -> None:
        """Follow the new process no more: the connections to it are closed."""
        self._after.clear()

    def expect_refill(self, name: str) -> None:
        """The bridge is flushed by ovs-vswitchd now, and filled again by us."""
        if name in self._after:
            self._after[name].sync()
            self._after[name].changes.expect_replacement()

    def flushed(self, name: str, flows: int) -> bool | None:
        """Whether all ``flows`` of the bridge were seen to be deleted since ``expect_refill``; None when nothing tells."""
        if name not in self._after:
            return None
        self._after[name].take()
        changes = self._after[name].changes
        # What has expired meanwhile is not there to be deleted; and a switch that has so much to tell pauses.
        return changes.deleted > 0 and (changes.paused or changes.deleted + changes.expired >= flows)

    def descriptors(self, names: t.Iterable[str]) -> list[int]:
        """What becomes readable when the new process tells something of the bridges ``names``."""
        followers = (self._after[name] for name in names if name in self._after)
        return [of.fileno() for follower in followers for of in follower.connections]

    def take(self) -> None:
        """Note what the new process has told, without waiting; whether a bridge is gone is judged by ``account``."""
        for follower in self._after.values():
            with contextlib.suppress(Unreachable):
                follower.take()

    @property
    def watched(self) -> bool:
        """Whether the new process is followed, in all bridges that can be."""
        return bool(self.base) and all(name in self._after or name in self.unfollowed for name in self.base)

    def account(self, name: str, switch: Switch) -> Account:
        """Account for every difference of the bridge ``name``."""
        if name in self._after:
            before = self.before(name)
            if self._before is not None and self._before.version(name) != self.base[name].version:
                # They were made in another version, so the new process told them in its own.
                before = before.without_flows()
            return account(self.base[name], before, self._after[name], switch.state)
        difference = compare(self.base[name], switch.state(), BY_ITSELF)
        return Account(0, 0, {}, [], difference)


def values(found: Account) -> dict[str, t.Any]:
    """An account as JSON; what is not explained as text, a few of it."""
    return {**dataclasses.asdict(found), "unexplained": str(found.unexplained) if found.unexplained else ""}


def _look(state: State) -> tuple[Flags, frozenset[int]]:
    """What no monitor tells of flows, by their tables and cookies, and the groups of ``state``."""
    flags: dict[tuple[int, int], tuple[int, int]] = {}
    groups = set()
    for message in state.messages():
        if not wire.is_flow_mod(message):
            groups.add(wire.group_id(message))
        elif wire.has_flags(message):
            flow = wire.flow_fields(message)
            flags[(flow.table, flow.cookie)] = wire.flags_of(message)
    return flags, frozenset(groups)


def _meters_of(changes: Changes, known: t.Iterable[int]) -> Meters:
    """What has become of each meter that was touched, where ``known`` were there; None: it is gone."""
    cleared = dict.fromkeys(known) if "meters" in changes.cleared else {}
    return {**cleared, **changes.meters}


def _send(
    of: OpenFlow,
    flows_of: OpenFlow,
    meters: Meters,
    before: list[bytes],
    flows: list[bytes],
    after: list[bytes],
) -> tuple[Refusals, Refusals]:
    """Make changes in an order that works; returns what was refused, and which flows were."""
    refused = _set_meters(of, meters) + of.refusals(before)
    flows_refused = flows_of.refusals(flows)
    refused += of.refusals(after)
    _delete_meters(of, meters)
    return refused, flows_refused


def _set_meters(of: OpenFlow, meters: Meters) -> Refusals:
    """Add or change meters, before the flows that use them are made; as often as somebody else does the opposite."""
    refused: Refusals = []
    for meter, config in meters.items():
        found: Refusals = []
        for __ in range(MOST_ROUNDS if config is not None else 0):
            for command in (wire.METER_ADD, wire.METER_MODIFY):
                found = of.refusals([wire.meter_mod(of.version, of.xid(), command, meter, config or b"")])
                if not found or found[0][1].name != "OFPMMFC_METER_EXISTS":
                    break
            if not found or found[0][1].name != "OFPMMFC_UNKNOWN_METER":
                break
        refused += found
    return refused


def _delete_meters(of: OpenFlow, meters: Meters) -> None:
    """Delete the meters that are gone, after the flows that used them: what still uses one goes with it."""
    gone = [meter for meter, config in meters.items() if config is None]
    of.refusals([wire.meter_mod(of.version, of.xid(), wire.METER_DELETE, meter) for meter in gone])


def _old_language(switch: Switch) -> t.Callable[[], OpenFlow | None]:
    return lambda: switch.other(wire.OF10)


def _words(refused: Refusals) -> str:
    shown = lines([message for message, __ in refused[:3]])
    return f"{len(refused)} refused, as {'; '.join(shown)} ({refused[0][1].name})"


def _not_carried(name: str, why: str) -> HotUpgradeError:
    return HotUpgradeError(
        f"bridge {name}: what others changed while the hand-over ran cannot be made in the new ovs-vswitchd",
        why,
        VSWITCHD_LOG,
    )
