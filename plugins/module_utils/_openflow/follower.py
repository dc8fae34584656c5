# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Follow what others change in a bridge while we work on it: controllers, learn actions, timeouts.

``Changes`` is what was seen, a ``Follower`` sees it, ``Followers`` do so for all bridges of an ovs-vswitchd, up to the last
word that it wrote before it ended: what is in a socket can be read after the writer is gone.
"""

from __future__ import annotations

import collections
import contextlib
import selectors
import struct
import threading
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.side_by_side import side_by_side
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import monitor, wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.connection import OpenFlow
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.monitor import Event, Key

# How long a switch that has paused may need to tell all, in seconds.  It pauses when 128 KB wait (ofmonitor_flush).
QUIET_TIMEOUT = 5.0

# How often the attendant looks whether it is to end, in seconds.
_LOOK = 0.2

_COMMAND = struct.Struct("!H")
_WHOLE = (wire.GROUP_DELETE, wire.GROUP_ADD_OR_MODIFY)

# (kind, table, priority, cookie): what the changes of a flow are counted by.
Mark = tuple[str, int, int, int]
# (table, cookie) -> (flags, importance) of flows, which no monitor tells.
Flags = t.Mapping[tuple[int, int], tuple[int, int]]


class Changes:
    """What others have changed in one bridge: the last event of each flow, what was sent for each group and meter.

    ``cleared`` are what was deleted as a whole: "groups", "meters".  ``counts`` tells how often flows changed, by ``Mark``.
    ``paused``: the switch keeps something back.  ``deleted`` and ``expired``: how many flows were, since ``expect_replacement``.
    A meter that is modified to what it is, as in those that the bridge began with, is not changed: we do that ourselves.
    """

    def __init__(self, meters: t.Mapping[int, bytes] | None = None) -> None:
        self._configs: dict[int, bytes | None] = dict(meters or {})
        self.flows: dict[Key, Event] = {}
        self.groups: dict[int, list[bytes]] = {}
        self.meters: dict[int, bytes | None] = {}
        # Number -> config, as it was told last.
        self.ports: dict[int, int] = {}
        self.cleared: set[str] = set()
        self.counts: collections.Counter[Mark] = collections.Counter()
        self.paused = False
        # Our own messages that change flows: what was told of these flows before is over.
        self.ours: dict[int, Key] = {}
        self.deleted = self.expired = 0
        # Whether a flow was told as added since ``expect_replacement``; until then, a switch that goes on has told the flush.
        self._added = False
        self._replaced_by: collections.Counter[Mark] | None = None
        self._window: dict[Key, list[Event]] | None = None
        self._new: set[Key] = set()
        # Groups and meters that were touched since ``window`` began: what was added and deleted again looks as before.
        self._late: set[tuple[str, int]] = set()

    def __bool__(self) -> bool:
        """Whether anything was changed."""
        return bool(self.flows or self.groups or self.meters or self.ports or self.cleared)

    def copy(self) -> Changes:
        """The same, which does not change any more."""
        found = Changes()
        found.flows = dict(self.flows)
        found.groups = {group: list(told) for group, told in self.groups.items()}
        found.meters, found.counts = dict(self.meters), self.counts.copy()
        found.ports, found.cleared, found.paused = dict(self.ports), set(self.cleared), self.paused
        return found

    def since(self, earlier: Changes) -> Changes:
        """What of it differs from ``earlier``, without ports and ``counts``."""
        found = Changes()
        found.flows = {key: event for key, event in self.flows.items() if earlier.flows.get(key) != event}
        found.groups = {
            group: told for group, told in self.groups.items() if earlier.groups.get(group) != told
        }
        known: dict[int, bytes | None] = {**dict.fromkeys(self.meters, b""), **earlier.meters}
        found.meters = {meter: config for meter, config in self.meters.items() if known[meter] != config}
        found.cleared = self.cleared - earlier.cleared
        return found

    def without(self, later: Changes) -> Changes:
        """What of it was not changed by ``later`` as well."""
        found = self.copy()
        for key in later.flows:
            found.flows.pop(key, None)
        for group in later.groups:
            found.groups.pop(group, None)
        for meter in later.meters:
            found.meters.pop(meter, None)
        return found

    def without_flows(self) -> Changes:
        """A copy without the flows; their ``counts`` stay."""
        found = self.copy()
        found.flows.clear()
        return found

    def forget(self) -> None:
        """Begin anew; ``counts`` go on."""
        for found in (self.flows, self.groups, self.meters, self.ports, self.cleared):
            found.clear()

    def expect_replacement(self) -> None:
        """All that is told up to our next own change is the doing of that: ovs-vswitchd deletes, and we add again."""
        self._replaced_by = self.counts.copy()
        self.deleted = self.expired = 0
        self._added = False

    @contextlib.contextmanager
    def window(self) -> t.Iterator[None]:
        """Meanwhile, keep every event of a flow for ``candidates``, not only the last."""
        self._window = {}
        self._late.clear()
        try:
            yield
        finally:
            self._window = None
            self._new.clear()

    def candidates(self, key: Key) -> list[Event]:
        """What the flow was at some moment since ``window`` began, as far as it was touched at all."""
        last = [self.flows[key]] if key in self.flows else []
        return (self._window or {}).get(key, []) + last

    def is_new(self, key: Key) -> bool:
        """Whether the flow was touched for the first time since ``window`` began."""
        return key in self._new

    def is_late(self, kind: str, number: int) -> bool:
        """Whether the group or meter was touched since ``window`` began, alone or with all others."""
        every = wire.GROUP_ALL if kind == "group" else wire.ALL
        return not self._late.isdisjoint({(kind, number), (kind, every)})

    def take(self, message: bytes) -> None:
        """Note what the switch told.  Raises ``ProtocolError`` when it is malformed."""
        request = monitor.forwarded(message)
        if request is not None:
            self._request(request)
            return
        port = monitor.changed_port(message)
        if port is not None:
            self.ports[port.number] = port.config
            return
        for event in monitor.events(message):
            self._event(event)

    def _event(self, event: Event) -> None:
        if event.kind in (monitor.PAUSED, monitor.RESUMED):
            self.paused = event.kind == monitor.PAUSED
            if not self.paused and self._added:  # our own changes were told as if they were others'
                self._end_replacement()
        elif event.kind == monitor.OWN:
            if event.xid in self.ours:
                self.flows.pop(self.ours.pop(event.xid), None)
            if self._replaced_by is not None:
                self.forget()
                self._end_replacement()
        else:
            self.deleted += event.kind == monitor.REMOVED and not event.expired
            self.expired += event.expired
            self._added = self._added or event.kind == monitor.ADDED
            key = event.key
            if self._window is not None:
                if key in self.flows:
                    self._window.setdefault(key, []).append(self.flows[key])
                else:
                    self._new.add(key)
            self.flows[key] = event
            kind = "expired" if event.expired else event.kind
            self.counts[(kind, event.table, event.priority, event.cookie)] += 1

    def _end_replacement(self) -> None:
        if self._replaced_by is not None:
            self.counts, self._replaced_by = self._replaced_by, None

    def _request(self, request: bytes) -> None:
        if wire.is_group_mod(request):
            self._late.add(("group", wire.group_id(request)))
            self._group(request)
            return
        meter, config = wire.meter_of(request)
        (command,) = wire.unpack(_COMMAND, request, wire.HEADER.size, "meter-mod")
        if command == wire.METER_MODIFY and self._configs.get(meter) == config:
            return
        self._late.add(("meter", meter))
        if command == wire.METER_DELETE and meter == wire.ALL:
            self.meters = dict.fromkeys(self.meters)
            self.cleared.add("meters")
            self._configs.clear()
            return
        self.meters[meter] = self._configs[meter] = None if command == wire.METER_DELETE else config

    def _group(self, request: bytes) -> None:
        """Keep the shortest series of messages that leads to the group as it is; deleted and added again is changed."""
        group, command = wire.group_id(request), wire.group_command(request)
        if command == wire.GROUP_DELETE and group == wire.GROUP_ALL:
            self.groups = {known: [wire.delete_group(request[0], 0, known)] for known in self.groups}
            self.cleared.add("groups")
        elif command == wire.GROUP_DELETE:
            self.groups[group] = [request]
        elif command in (wire.GROUP_ADD, wire.GROUP_MODIFY, wire.GROUP_ADD_OR_MODIFY):
            self.groups[group] = [wire.with_group_command(request, wire.GROUP_ADD_OR_MODIFY)]
        else:  # buckets are added or taken away
            self.groups.setdefault(group, []).append(request)

    def replaces_group(self, group: int) -> bool:
        """Whether nothing is left of the group as it was: its buckets were not only added to, or taken from."""
        if group not in self.groups:
            return "groups" in self.cleared
        first = self.groups[group][0]
        return wire.group_command(first) in _WHOLE

    def deleted_group(self, group: int) -> bool:
        """Whether the group is gone."""
        if group not in self.groups:
            return "groups" in self.cleared
        return wire.group_command(self.groups[group][-1]) == wire.GROUP_DELETE

    def flow_messages(
        self, version: int, xid: t.Callable[[], int], flags: Flags, alive: t.Container[Key] = ()
    ) -> list[bytes]:
        """The flow-mods that make the same changes elsewhere, in ``version``, the one that they were told in.

        What has only expired stays where it is ``alive`` again.
        """
        found = [wire.with_table_ids(xid())] if version == wire.OF10 else []
        for key, event in self.flows.items():
            if event.expired and key in alive:
                continue
            if event.kind == monitor.REMOVED:
                found.append(monitor.deletion(key, version, xid(), event.match_length))
            else:
                known = flags.get((event.table, event.cookie), (0, 0))
                found.append(monitor.addition(event, version, xid(), *known))
        return found

    @property
    def partial_groups(self) -> frozenset[int]:
        """Groups that had buckets added or taken away, so that nothing tells what they are as a whole."""
        return frozenset(
            group for group, told in self.groups.items() if wire.group_command(told[-1]) not in _WHOLE
        )

    def group_messages(
        self, version: int, xid: t.Callable[[], int], known: t.Iterable[int]
    ) -> tuple[list[bytes], list[bytes]]:
        """(what is to be sent before the flows, what after them) for the groups; ``known`` are those that were there."""
        before: list[bytes] = []
        after: list[bytes] = []
        for group, messages in self.groups.items():
            chosen = after if self.deleted_group(group) else before
            chosen.extend(wire.with_xid(message, xid()) for message in messages)
        if "groups" in self.cleared:
            after += [wire.delete_group(version, xid(), group) for group in known if group not in self.groups]
        return before, after


def as_addition(group_mod: bytes) -> bytes:
    """A group-mod that makes a whole group, as one that adds it."""
    whole = wire.group_command(group_mod) == wire.GROUP_ADD_OR_MODIFY
    return wire.with_group_command(group_mod, wire.GROUP_ADD) if whole else group_mod


class Unfollowed(HotUpgradeError):
    """The switch does not tell what others change."""


class Follower:
    """Sees what others change in one bridge, from its making on; ``version`` is the language of the flows.

    ``of`` is kept by the caller.  Raises ``Unfollowed`` when the bridge cannot be followed: Open vSwitch before 3.0 tells
    flows in OpenFlow 1.0 only, by ``old``, which connects in that version, or returns None if the bridge does not allow it.
    """

    def __init__(self, of: OpenFlow, old: t.Callable[[], OpenFlow | None]) -> None:
        of.listens = True
        of.exchange([monitor.forward_request(of.version, of.xid())])
        self.changes = Changes(meter_configs(of))
        # For those who read for it in several threads.
        self.lock = threading.RLock()
        self.connections = [of]
        self.version = of.version
        if _knows_monitor(of) and self._begin(of):
            return
        fallback = None if of.version == wire.OF10 else old()
        if fallback is None or not self._begin(fallback):
            raise Unfollowed(
                f"{of.name}: the switch does not tell what others change",
                f"Open vSwitch before 3.0 does so in OpenFlow10 only, {wire.VERSION_NAMES[of.version]} is what it allows",
            )
        self.version = fallback.version
        self.connections.append(fallback)

    @staticmethod
    def _begin(of: OpenFlow) -> bool:
        of.listens = True
        aside, request = (
            make(of.version, of.xid()) for make in (monitor.stand_aside, monitor.monitor_request)
        )
        __, answer = of.exchange([aside, request])
        return not isinstance(answer, wire.SwitchError)

    def take(self) -> None:
        """Note what has arrived, without waiting.  Raises ``Unreachable`` when the switch is gone."""
        for of in self.connections:
            of.poll()
        self._note()

    def sync(self) -> None:
        """Note all that was changed up to now, unless the switch has paused."""
        for of in self.connections:
            of.exchange([])
        self._note()

    def quiet(self) -> None:
        """The same, and wait for a switch that has paused to go on; it may pause for ever under a change without end."""
        end = time.monotonic() + QUIET_TIMEOUT
        self.sync()
        while self.changes.paused and time.monotonic() < end:
            self.sync()

    def rest(self) -> None:
        """Note what the switch wrote before it ended."""
        for of in self.connections:
            of.drain()
        self._note()

    def forget(self) -> None:
        """Whatever was changed up to now is known in another way."""
        self.quiet()
        self.changes.forget()

    def _note(self) -> None:
        for of in self.connections:
            while of.told:
                self.changes.take(of.told.popleft())


def meter_configs(of: OpenFlow) -> dict[int, bytes]:
    """Each meter of a switch: id -> its flags and bands, as on the wire."""
    if of.version < wire.OF13:
        return {}
    replies = of.ask(wire.meters_request(of.version, of.xid()))
    return {meter: config for reply in replies for meter, config in wire.meters(reply).items()}


def _knows_monitor(of: OpenFlow) -> bool:
    """Whether the switch has the monitor of this OpenFlow version; before 3.0 it stumbles over all but that of 1.0."""
    if of.version == wire.OF10:
        return True
    (reply,) = of.ask(wire.description_request(of.version, of.xid()))
    major = wire.software(reply).partition(".")[0]
    return not major.isdigit() or int(major) >= 3


class Followers:
    """Followers of all bridges of one ovs-vswitchd, on connections of their own, with a thread that reads for them.

    So the switch need not pause, and does not drop a connection that does not answer its echo requests.
    ``unfollowed`` says for each bridge that cannot be followed why.
    """

    def __init__(self, paths: t.Mapping[str, str]) -> None:
        self.unfollowed: dict[str, str] = {}
        self._stack = contextlib.ExitStack()
        self._followers: dict[str, Follower] = {}
        self._ended = threading.Event()
        try:
            side_by_side(lambda item: self._follow(*item), paths.items())
        except BaseException:
            self._stack.close()
            raise
        self._attendant = threading.Thread(target=self._attend, name="follow", daemon=True)
        self._attendant.start()

    def __getitem__(self, bridge: str) -> Changes:
        """What was seen of ``bridge`` so far, as a copy; nothing of one that cannot be followed."""
        if bridge not in self._followers:
            return Changes()
        follower = self._followers[bridge]
        with follower.lock:
            return follower.changes.copy()

    def up_to_now(self, bridge: str) -> Changes:
        """The same, with what ``bridge`` has kept back; of a process that has ended, what it wrote last."""
        if bridge not in self._followers:
            return Changes()
        follower = self._followers[bridge]
        with follower.lock:
            try:
                follower.quiet()
            except Unreachable:
                follower.rest()
            return follower.changes.copy()

    def any_changed(self) -> bool:
        """Whether anything was changed."""
        return any(follower.changes for follower in self._followers.values())

    def version(self, bridge: str) -> int:
        """The OpenFlow version in which the flows of ``bridge`` are told."""
        return self._followers[bridge].version if bridge in self._followers else wire.OF15

    def _follow(self, name: str, path: str) -> None:
        of = self._stack.enter_context(OpenFlow.connect(path))

        def old() -> OpenFlow | None:
            if wire.OF10 not in of.offered:
                return None
            return self._stack.enter_context(OpenFlow.connect(path, (wire.OF10,)))

        try:
            self._followers[name] = Follower(of, old)
        except Unfollowed as error:
            self.unfollowed[name] = f"{error.what}: {error.why}"

    def forget(self) -> None:
        """Whatever was changed up to now is known in another way."""
        self._each(Follower.forget)

    def quiet(self) -> None:
        """See ``Follower``."""
        self._each(Follower.quiet)

    def rest(self) -> None:
        """See ``Follower``; the process has ended."""
        self._ended.set()
        for follower in self._followers.values():
            with follower.lock:
                follower.rest()

    def close(self) -> None:
        """End it; what was seen stays."""
        self._ended.set()
        self._attendant.join()
        self._stack.close()

    def _each(self, act: t.Callable[[Follower], None]) -> None:
        def one(follower: Follower) -> None:
            with follower.lock:
                act(follower)

        side_by_side(one, self._followers.values())

    def _attend(self) -> None:
        with selectors.DefaultSelector() as selector:
            for follower in self._followers.values():
                for of in follower.connections:
                    selector.register(of.fileno(), selectors.EVENT_READ, follower)
            while not self._ended.is_set():
                for key, __ in selector.select(_LOOK):
                    with key.data.lock:
                        try:
                            if not self._ended.is_set():
                                key.data.take()
                        except HotUpgradeError:  # what it wrote last is there, for ``rest``
                            selector.unregister(key.fileobj)
