# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Datapath actions as text (``format_odp_actions`` in lib/odp-util.c) to what leaves where; pure.

Two lists of actions mean the same when the same packets leave at the same places: ``clone(…)`` around the last actions, the
order of ``set(…)`` and of outputs, a ``set`` to the value that the packet has, and numbers that each process gives out by
itself are spelling.
"""

from __future__ import annotations

import collections
import dataclasses
import re
import typing as t

# Places where packets leave that are no port.
NEXT_STAGE = "next-stage"
CONTROLLER = "controller"
CONNTRACK = "conntrack"

_OPENING, _CLOSING = "({[", ")}]"
_CALL = re.compile(r"([A-Za-z_0-9]+)\((.*)\)", re.DOTALL)
_PORT = re.compile(r"\b(tnl_port|out_port|tnl_pop)\((\d+)\)")
# What an exporter of sFlow or IPFIX gets: the new process has none of them before the switch-over.
_EXPORTED = re.compile(r"^userspace\(pid=\d+,(?:sFlow|ipfix|flow_sample)\(")
# A number of the process; whether a trace would send; both say nothing of the packet.
_OWN = re.compile(r"^(?:recirc_id|dont_send)=")
_OWN_TIMEOUT = re.compile(r"^timeout=ovs_tp_\d+")
_WHOLE_MASK = re.compile(r"^(0x[0-9a-f]+)/0x(?:ffffffff|f{32})$")


@dataclasses.dataclass(frozen=True, order=True)
class Leaving:
    """A packet that leaves ``where``, with ``changes`` of its headers (``ipv4.ttl=63``), after it went ``through`` others."""

    where: str
    changes: tuple[str, ...] = ()
    through: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"to {self.where}"
        if self.changes:
            text += f" with {', '.join(self.changes)}"
        return f"{text} after {', '.join(self.through)}" if self.through else text


@dataclasses.dataclass(frozen=True)
class Fate:
    """What becomes of a packet: ``leavings``, sorted; ``further``: those that go on, and under which number, in their order."""

    leavings: tuple[Leaving, ...]
    further: tuple[tuple[Leaving, int], ...]

    def __str__(self) -> str:
        return "; ".join(map(str, self.leavings)) or "dropped"

    def alike(self, other: Fate) -> bool:
        """Whether the same leaves."""
        return self.leavings == other.leavings

    def aligned(self, other: Fate) -> list[tuple[int, int]]:
        """Which number of ``other`` is which of ours, for all that goes on in both."""
        theirs: dict[Leaving, collections.deque[int]] = collections.defaultdict(collections.deque)
        for leaving, number in other.further:
            theirs[leaving].append(number)
        return [(number, theirs[leaving].popleft()) for leaving, number in self.further if theirs[leaving]]

    def needs(self, places: t.Iterable[str]) -> bool:
        """Whether a packet leaves inside another one, by way of one of ``places``."""
        marks = [f"({place})" for place in places]
        return any(mark in text for leaving in self.leavings for text in leaving.changes for mark in marks)

    def without(self, places: t.Container[str]) -> Fate:
        """The same but for what leaves at ``places``."""
        kept = tuple(leaving for leaving in self.leavings if leaving.where not in places)
        return Fate(kept, self.further)

    def differences(self, other: Fate) -> list[str]:
        """Names of what differs: ``PLACE:gone``, ``PLACE:new``, ``PLACE:FIELD`` for a header that is another there."""
        ours, theirs = collections.Counter(self.leavings), collections.Counter(other.leavings)
        gone, new = list((ours - theirs).elements()), list((theirs - ours).elements())
        names = []
        for leaving in gone:
            same = next((candidate for candidate in new if candidate.where == leaving.where), None)
            if same is None:
                names.append(f"{leaving.where}:gone")
                continue
            new.remove(same)
            names += [f"{leaving.where}:{field}" for field in _fields(leaving, same)]
        return sorted({*names, *(f"{leaving.where}:new" for leaving in new)})


def _fields(one: Leaving, other: Leaving) -> list[str]:
    changed = {re.split("[=(]", text)[0] for text in {*one.changes} ^ {*other.changes}}
    if one.through != other.through:
        changed.add("through")
    return sorted(changed)


@dataclasses.dataclass(frozen=True)
class Reader:
    """How to read the actions of one process: ``ports`` by number, and whether its meters have the numbers of the other one."""

    ports: t.Mapping[str, str]
    meters_shared: bool = True

    def fate(self, actions: str, key: str = "") -> Fate:
        """What ``actions`` do with a packet of the flow ``key`` (ODP syntax)."""
        packet = _Packet(self, known_fields(key))
        packet.act(actions)
        return Fate(tuple(sorted(packet.leavings)), tuple(packet.further))

    def port(self, number: str) -> str:
        """The name of a port; its number where it has none."""
        return self.ports.get(number, number)

    def named(self, text: str) -> str:
        """``text`` with the names of ports for their numbers."""
        return _PORT.sub(lambda found: f"{found[1]}({self.port(found[2])})", text)


def split(text: str) -> list[str]:
    """``text`` at the commas that are in no parentheses."""
    parts, depth, begin = [], 0, 0
    for place, letter in enumerate(text):
        if letter in _OPENING:
            depth += 1
        elif letter in _CLOSING:
            depth -= 1
        elif letter == "," and depth == 0:
            parts.append(text[begin:place].strip())
            begin = place + 1
    parts.append(text[begin:].strip())
    return [part for part in parts if part]


def call(text: str) -> tuple[str, str]:
    """``name(inner)`` in its two parts; a word without parentheses has an empty inner part."""
    found = _CALL.fullmatch(text)
    return (found[1], found[2]) if found else (text, "")


def known_fields(key: str) -> dict[str, str]:
    """The header fields whose whole value the flow ``key`` tells: ``ipv4.ttl`` -> ``64``."""
    found: dict[str, str] = {}
    for part in split(key):
        name, inner = call(part)
        if name == "encap":  # what is behind a VLAN tag
            found.update(known_fields(inner))
            continue
        found.update({field: value for field, value in _assigned(name, inner) if "/" not in value})
    return found


def _assigned(name: str, inner: str) -> t.Iterator[tuple[str, str]]:
    words = split(inner)
    if len(words) == 1 and "=" not in words[0].partition("(")[0]:
        yield name, inner
        return
    for word in words:
        field, equals, value = word.partition("=")
        if not equals:  # flags(df|csum), geneve({…})
            field, value = call(word)
        yield f"{name}.{field}", "|".join(sorted(value.split("|"))) if field == "flags" else value


class _Packet:
    """A packet on its way through a list of actions; ``fork`` is a copy with headers of its own and the same destinations."""

    def __init__(self, reader: Reader, known: t.Mapping[str, str]) -> None:
        self._reader = reader
        self._known = known
        self.leavings: list[Leaving] = []
        self.further: list[tuple[Leaving, int]] = []
        self._changes: dict[str, str] = {}
        self._layers: list[str] = []
        self._through: list[str] = []
        self._tracked: str | None = None
        self._hash: str | None = None
        self._cut: str | None = None

    def fork(self) -> _Packet:
        copy = _Packet(self._reader, self._known)
        copy.leavings, copy.further = self.leavings, self.further
        copy._changes, copy._layers, copy._through = dict(self._changes), [*self._layers], [*self._through]
        copy._tracked, copy._hash, copy._cut = self._tracked, self._hash, self._cut
        return copy

    def act(self, actions: str) -> None:
        for action in split(actions):
            if not _EXPORTED.match(action):
                self._do(action)

    def _do(self, action: str) -> None:
        name, inner = call(action)
        if action.isdecimal():
            self._leave(self._reader.port(action))
        elif name == "drop" or action.startswith("drop:") or name == "psample":
            return
        elif name in _ACTIONS:
            _ACTIONS[name](self, inner)
        elif name.startswith(("push_", "pop_", "encap_", "decap_", "add_mpls", "tnl_push")):
            self._restack(name, self._reader.named(action))
        else:  # one that is not known acts on what comes after, too
            self._leave(self._reader.named(action))
            self._through.append(self._reader.named(action))

    def _leave(self, where: str, *more: str) -> None:
        changes = [f"{field}={value}" for field, value in self._changes.items()]
        if self._cut is not None:
            changes.append(f"length={self._cut}")
            self._cut = None
        self.leavings.append(Leaving(where, (*sorted(changes), *self._layers, *more), tuple(self._through)))

    def _set(self, inner: str) -> None:
        name, value = call(inner)
        if name == "tunnel":  # the whole of it, each time
            self._changes = {k: v for k, v in self._changes.items() if not k.startswith("tunnel.")}
        for field, new in _assigned(name, value):
            new = _WHOLE_MASK.sub(r"\1", new)
            if not self._layers and self._known.get(field) == new:
                self._changes.pop(field, None)
            else:
                self._changes[field] = new

    def _restack(self, name: str, action: str) -> None:
        undone = name.replace("pop_", "push_", 1)
        if name.startswith("pop_") and self._layers and self._layers[-1].startswith(f"{undone}("):
            self._layers.pop()
        else:
            self._layers.append(action)

    def _clone(self, inner: str) -> None:
        self.fork().act(inner)

    def _meter(self, inner: str) -> None:
        self._through.append(f"meter {inner}" if self._reader.meters_shared else "a meter")

    def _truncate(self, inner: str) -> None:
        self._cut = inner

    def _calculate_hash(self, inner: str) -> None:
        self._hash = inner

    def _track(self, inner: str) -> None:
        words = sorted(_OWN_TIMEOUT.sub("timeout=*", _whole(word)) for word in split(inner))
        text = f"ct({','.join(words)})"
        self._leave(CONNTRACK, text)
        self._tracked = text
        if any(word.startswith("nat") for word in words):
            self._through.append(text)

    def _forget(self, __: str) -> None:
        self._tracked = None

    def _recirculate(self, inner: str) -> None:
        more = [f"hash={self._hash}"] if self._hash else []
        self._leave(NEXT_STAGE, *more, *([f"tracked by {self._tracked}"] if self._tracked else []))
        self.further.append((self.leavings[-1], int(inner, 0)))

    def _to_userspace(self, inner: str) -> None:
        words = [word for word in split(inner) if not word.startswith("pid=")]
        name, details = call(words[0]) if words else ("", "")
        kept = [detail for detail in split(details) if not _OWN.match(detail)]
        if name == "controller":
            self._leave(CONTROLLER, *kept)
        else:
            self._leave("-".join(["userspace", name, *kept]).strip("-"))

    def _sample(self, inner: str) -> None:
        parts = dict(part.partition("=")[::2] if "(" not in part else call(part) for part in split(inner))
        inside = self._inside(parts.get("actions", ""))
        if inside:
            self._leave("sample", f"{parts.get('sample', '?')} ({inside})")

    def _check_length(self, inner: str) -> None:
        size = next((word for word in split(inner) if word.startswith("size=")), "")
        for word in split(inner):
            name, actions = call(word)
            if name in ("gt", "le"):
                branch = self.fork()
                branch._through.append(f"length {'>' if name == 'gt' else '<='} {size[5:]}")
                branch.act(actions)

    def _decrement(self, inner: str) -> None:
        branch = self.fork()
        branch._through.append("ttl <= 1")
        branch.act(call(inner)[1])
        self._layers.append("dec_ttl")

    def _balance(self, __: str) -> None:
        self._leave("bond")

    def _decapsulate(self, inner: str) -> None:
        self._leave(f"tunnel-{self._reader.port(inner)}")

    def _inside(self, actions: str) -> str:
        branch = self.fork()
        branch.leavings, branch.further = [], self.further
        branch.act(actions)
        return "; ".join(map(str, sorted(branch.leavings)))


def _whole(word: str) -> str:
    """A field of ``ct(…)`` without a mask that leaves nothing out."""
    name, equals, value = word.partition("=")
    return f"{name}{equals}{_WHOLE_MASK.sub(chr(92) + '1', value)}" if equals else word


_ACTIONS: dict[str, t.Callable[[_Packet, str], None]] = {
    "set": _Packet._set,
    "clone": _Packet._clone,
    "meter": _Packet._meter,
    "trunc": _Packet._truncate,
    "hash": _Packet._calculate_hash,
    "ct": _Packet._track,
    "ct_clear": _Packet._forget,
    "recirc": _Packet._recirculate,
    "userspace": _Packet._to_userspace,
    "sample": _Packet._sample,
    "check_pkt_len": _Packet._check_length,
    "dec_ttl": _Packet._decrement,
    "lb_output": _Packet._balance,
    "tnl_pop": _Packet._decapsulate,
}
