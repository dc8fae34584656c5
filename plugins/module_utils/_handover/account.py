# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Account for every difference between what a bridge held and what it holds.

A bridge that is in use changes while it is upgraded.  What is compared is what the old process held when it ended, plus
what was seen to change since.  A difference is then explained - it expired, it was learned, somebody else made it - or it
is a fault.
"""

from __future__ import annotations

import collections
import dataclasses
import re
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow import monitor, wire
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.compare import (
    MOST_SHOWN,
    NONE,
    Difference,
    Learned,
    digest,
    object_name,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.follower import (
    Changes,
    Follower,
    Mark,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.monitor import Event, Key
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.state import Settings, State
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._openflow.text import lines

# What is compared of a flow that was touched: (cookie, idle, hard, instructions); None: it is not there.
Content = t.Optional[tuple[int, int, int, bytes]]

Messages = dict[t.Hashable, bytes]


# In OpenFlow text, what does not name a flow, unlike its table, its priority and its match; whatever the version.
_NAMELESS = re.compile(
    r"\b(?:cookie=\w+,? ?|(?:idle|hard)_timeout=\d+,? ?|importance=\d+,? ?|"
    r"(?:flow|ADD|send_flow_rem|check_overlap|reset_counts|no_packet_counts|no_byte_counts) )| ?actions=.*"
)


@dataclasses.dataclass(frozen=True)
class Account:
    """Of one bridge.  ``others``: cookie (hex) -> how many flows were added, modified, removed by somebody else.

    ``settings`` names what else was changed; ``unexplained`` is the fault, if there is one.
    """

    expired: int
    learned: int
    others: dict[str, dict[str, int]]
    settings: list[str]
    unexplained: Difference


def account(base: State, before: Changes, after: Follower, read: t.Callable[[], State]) -> Account:
    """Compare what ``read`` shows of a bridge with ``base``, changed by ``before`` and then by what ``after`` sees.

    ``before`` ended with the old process; its flows are in the version of ``base``.  Holds 16 bytes for each flow of
    ``base``, and what was touched.
    """
    after.quiet()
    found = _Comparison(base, before, after.changes)
    with after.changes.window():
        found.compare(read)
        after.quiet()
        if after.version == base.version:
            found.explain()
        else:
            found.explain_by_text()
    counts = before.counts + after.changes.counts
    ours = {mark: count for mark, count in counts.items() if not found.is_learned(mark)}
    return Account(
        expired=sum(count for mark, count in counts.items() if mark[0] == "expired"),
        learned=sum(count for mark, count in counts.items() if found.is_learned(mark)),
        others=_by_cookie(ours),
        settings=sorted({*_touched(before), *_touched(after.changes), *found.settings}),
        unexplained=found.difference(),
    )


class _Comparison:
    """Objects in which a bridge differs from ``base``, by what tells each from all others."""

    def __init__(self, base: State, before: Changes, after: Changes) -> None:
        self._base, self._before, self._after = base, before, after
        # What was touched before the bridge is read is judged by what was told of it, all else by what ``base`` holds.
        self._touched = before.flows.keys() | after.flows.keys()
        self._groups = before.groups.keys() | after.groups.keys()
        self._live_touched: Messages = {}
        self._missing: Messages = {}
        self._extra: Messages = {}
        self._learners: set[Learned] = set()
        self.settings: list[str] = []

    def is_learned(self, mark: Mark) -> bool:
        """Whether a learn action makes such flows."""
        return mark[0] != "expired" and mark[1:] in self._learners

    def difference(self) -> Difference:
        """What is not explained; a process that was ended while it kept something back leaves nothing to be judged."""
        if self._before.paused:
            return NONE
        missing, extra = list(self._missing.values()), list(self._extra.values())
        most = MOST_SHOWN
        return Difference(tuple(missing[:most]), tuple(extra[:most]), len(missing), len(extra))

    def compare(self, read: t.Callable[[], State]) -> None:
        """Find every object that differs."""
        wanted = set()
        for name, message in self._objects(self._base):
            if not self._is_touched(name):
                wanted.add(digest(message))
        live = read()
        for name, message in self._objects(live):
            if self._is_touched(name):
                self._live_touched[name] = message
                continue
            found = digest(message)
            if found in wanted:
                wanted.discard(found)
            else:
                self._extra[name] = message
        if wanted:
            for name, message in self._objects(self._base):
                if digest(message) in wanted:
                    self._missing[name] = message
        self._compare_settings(live.settings)

    def _objects(self, state: State) -> t.Iterator[tuple[t.Hashable, bytes]]:
        for message in state.messages():
            self._learners.update(wire.learn_targets(message))
            yield object_name(message), message

    def _is_touched(self, name: t.Hashable) -> bool:
        if isinstance(name, int):
            return name in self._groups or "groups" in self._before.cleared | self._after.cleared
        return name in self._touched

    def explain(self) -> None:
        """Drop what is as it was told, and add what is not."""
        for key in self._touched:
            actual = self._live_touched.get(key)
            if _content(actual) not in self._allowed(key):
                self._blame(key, actual, _as_flow(self._told(key), self._base.version))
        late = [key for key in self._after.flows if key in self._missing or key in self._extra]
        for key in late:
            allowed = {_content_of(event) for event in self._after.candidates(key)}
            if _content(self._extra.get(key)) in allowed:
                self._missing.pop(key, None)
                self._extra.pop(key, None)
        self._explain_groups()
        self._explain_settings()

    def _told(self, key: Key) -> Event:
        found = self._after.flows.get(key)
        return found if found is not None else self._before.flows[key]

    def _allowed(self, key: Key) -> set[Content]:
        candidates = self._after.candidates(key)
        # Touched while it was read for the first time since: it may have been seen as the old process left it.
        if key in self._before.flows and (not candidates or self._after.is_new(key)):
            candidates = [*candidates, self._before.flows[key]]
        return {_content_of(event) for event in candidates}

    def _blame(self, name: t.Hashable, actual: bytes | None, wanted: bytes | None) -> None:
        if wanted is not None:
            self._missing[name] = wanted
        if actual is not None:
            self._extra[name] = actual

    def _explain_groups(self) -> None:
        for found in (self._missing, self._extra):
            for group in [
                name for name in found if isinstance(name, int) and self._after.is_late("group", name)
            ]:
                del found[group]
        live = {name for name in self._live_touched if isinstance(name, int)}
        for group in live | self._groups:
            if self._after.is_late("group", group):
                continue
            actual = self._live_touched.get(group)
            last = (
                self._after
                if group in self._after.groups or "groups" in self._after.cleared
                else self._before
            )
            if last.deleted_group(group) != (actual is None):
                self._blame(group, actual, None if actual else last.groups[group][-1])

    def _explain_settings(self) -> None:
        """Drop what was changed while the bridge was read."""
        after = self._after
        for found in (self._missing, self._extra):
            for kind, number in [
                key for key in found if isinstance(key, tuple) and key[0] in ("port", "meter")
            ]:
                if after.is_late("meter", number) if kind == "meter" else number in after.ports:
                    del found[(kind, number)]

    def _compare_settings(self, live: Settings) -> None:
        base = self._base.settings
        self._compare_meters(live.meters)
        ports = self._before.ports.keys() | self._after.ports.keys()
        version = self._base.ports_version
        bits = wire.PORT_CONFIG_BITS[version] & base.port_bits
        for number in (base.ports.keys() & live.ports.keys()) - ports:
            renamed = base.names.get(number, "") != live.names.get(number, "")
            if renamed or (base.ports[number] ^ live.ports[number]) & bits:
                told = [
                    wire.port_status(version, number, found.names.get(number, ""), found.ports[number])
                    for found in (base, live)
                ]
                self._missing[("port", number)], self._extra[("port", number)] = told
        # Nothing tells who changes these, and only somebody else can: they were compared before the switch-over.
        for name in ("tables", "tlvs", "fragments"):
            if getattr(base, name) != getattr(live, name):
                self.settings.append(name)

    def _compare_meters(self, live: t.Mapping[int, bytes]) -> None:
        told: dict[int, bytes | None] = dict(self._base.settings.meters)
        for changes in (self._before, self._after):
            if "meters" in changes.cleared:
                told = {}
            told.update(changes.meters)
        for meter in told.keys() | live.keys():
            wanted, actual = told.get(meter), live.get(meter)
            if wanted != actual:
                version = self._base.version
                mods = [
                    wire.meter_mod(version, 0, wire.METER_ADD, meter, config) if config is not None else None
                    for config in (wanted, actual)
                ]
                self._blame(("meter", meter), mods[1], mods[0])

    def explain_by_text(self) -> None:
        """The same where the flows are told in another version than they are compared in: by their names as text."""
        events = [_as_flow(event, wire.OF10, gone=True) for event in self._after.flows.values()]
        touched = set(map(_name_in_text, lines([event for event in events if event is not None])))
        for found in (self._missing, self._extra):
            names = [name for name in found if isinstance(name, tuple) and name[0] not in ("port", "meter")]
            for name, line in zip(names, lines([found[name] for name in names])):
                if _name_in_text(line) in touched:
                    del found[name]
        self._explain_groups()
        self._explain_settings()


def _name_in_text(line: str) -> str:
    return _NAMELESS.sub("", line)


def _content_of(event: Event) -> Content:
    if event.kind == monitor.REMOVED:
        return None
    return event.cookie, event.idle, event.hard, event.rest


def _content(message: bytes | None) -> Content:
    if message is None:
        return None
    flow = wire.flow_fields(message)
    return flow.cookie, flow.idle, flow.hard, flow.rest


def _as_flow(event: Event, version: int, gone: bool = False) -> bytes | None:
    """The flow of an event as a flow-mod; None if there is none any more, unless ``gone`` ones are wanted, too."""
    if event.kind == monitor.REMOVED and not gone:
        return None
    return monitor.addition(event, version, 0, 0, 0)


def _by_cookie(marks: t.Mapping[Mark, int]) -> dict[str, dict[str, int]]:
    found: dict[str, collections.Counter[str]] = {}
    for (kind, __, __, cookie), count in sorted(marks.items()):
        if kind != "expired":
            found.setdefault(f"{cookie:#x}", collections.Counter())[kind] += count
    return {cookie: dict(counts) for cookie, counts in found.items()}


def _touched(changes: Changes) -> list[str]:
    names = [f"group {group}" for group in changes.groups] + [f"meter {meter}" for meter in changes.meters]
    names += ["what was changed in the last moment"] if changes.paused else []
    return [*names, *(f"all {what}" for what in changes.cleared), *(f"port {port}" for port in changes.ports)]
