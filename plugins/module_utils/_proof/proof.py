# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The proof before the switch-over: through both processes the packets of the live megaflows leave at the same places.

``ofproto/trace`` (ovs-vswitchd(8)) is asked on both control sockets for each megaflow of the old one; it has no side
effect when it is given a flow and no packet.  A megaflow behind ``ct()`` or a hash is reached as its packets reach it: the
one before it is traced in the new process, which gives out a recirculation number for what comes next and knows it for
250 ms (``recirc_run`` in ofproto/ofproto-dpif-rid.c), and the live key, connection state included, is traced from there.
When the number is forgotten, the one before is traced again.
"""

from __future__ import annotations

import collections
import dataclasses
import fnmatch
import itertools
import re
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import (
    HotUpgradeError,
    Unreachable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.versions import version
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.daemons import parse_version
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.hints import VSWITCHD_LOG
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._ovs.ofproto_text import datapath_actions
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof import megaflows
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof.datapath_actions import (
    Fate,
    Reader,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._proof.megaflows import (
    ENOUGH,
    Amount,
    Megaflow,
)

MOST_DIFFERENCES = 20
# So many of them are in the message of a refusal.
SHOWN = 5

# What a group of the most slots looks at of a hash, as so many values.
HASHES = 256
# Of so many groups all hashes are traced in any case; of others when a live one differs.
MOST_HASHED = 64
# How often a recirculation number that the new process has forgotten is asked for again.
TRIES = 3

NOT_YET = "the new process has an internal port that they need only after the switch-over"
GONE = "the old process could not read them back"
NO_WAY = "no live megaflow leads to them, or only one that differs"
NOT_SAMPLED = "more are live than were asked for"
CIRCLE = "they recirculate in a circle"

# What a trace ends with that would have no end otherwise (ofproto_trace in ofproto/ofproto-dpif-trace.c), and the first versions
# that say so; older ones fill the memory instead, and do nothing else any more.
_ENDLESS = "Trace reached the recirculation limit"
_ENDING = ((2, 17, 10), (3, 0, 7), (3, 1, 5), (3, 2, 3), (3, 3, 1))

# A name may hold blanks; what is in parentheses behind it are type and options.
_PORT = re.compile(r"^  port (\d+): (.+?)(?: \([a-z0-9-]+(?:: .*)?\))?$", re.MULTILINE)
_BRIDGE = re.compile(r'^ *bridge\("(.*)"\)$', re.MULTILINE)
_GROUP = re.compile(r"\bgroup:(\d+)\b")
_HASH_MASK = re.compile(r"^Megaflow: .*\bdp_hash=0x[0-9a-f]+/0x([0-9a-f]+)", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Datapath:
    """``dump`` and ``name`` are what ``dpctl/dump-flows`` and ``ofproto/trace`` call it; ``shared`` by both processes."""

    dump: str
    name: str
    shared: bool


KERNEL = Datapath("ovs-system", "ovs-system", shared=True)
USERSPACE = Datapath("netdev@ovs-netdev", "ovs-netdev", shared=False)


class _Endless(HotUpgradeError):
    """The trace goes round in a circle."""


class Trace(t.Protocol):
    """A control socket: ``Appctl.call``."""

    def __call__(self, command: str, *args: str) -> str:
        """The text of the answer; raises ``HotUpgradeError``."""


@dataclasses.dataclass(frozen=True)
class Wish:
    """At most about ``most`` megaflows; differences whose name matches a pattern of ``accept`` are meant to be.

    ``bonds``: the port of each member interface; which member a packet leaves by is each process's own choice.
    ``beyond``: megaflows that match it are not compared, for the reason with it.
    """

    most: int
    accept: tuple[str, ...] = ()
    bonds: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    beyond: tuple[re.Pattern[str], str] | None = None


@dataclasses.dataclass(frozen=True)
class Difference:
    """What differs, by name (``IN>OUT:what``), for so many megaflows and packets, with one ``example`` in words."""

    name: str
    megaflows: int
    packets: int
    example: str


@dataclasses.dataclass(frozen=True)
class Moved:
    """Of ``hashes`` hash values ``moved`` lead to another bucket of ``group`` in the new process."""

    group: str
    hashes: int
    moved: int


@dataclasses.dataclass(frozen=True)
class Proof:
    """What was compared: ``traced`` of the live ``megaflows``, with ``covered`` percent of their packets.

    ``skipped`` are megaflows by the reason why they were not compared; ``different`` counts megaflows whose differences were
    not all accepted, ``accepted`` the others.  ``text`` is all of this in words.
    """

    megaflows: int
    packets: int
    traced: int
    traced_packets: int
    covered: float
    skipped: t.Mapping[str, int]
    different: int
    accepted: int
    differences: tuple[Difference, ...]
    moved: tuple[Moved, ...]

    def report(self) -> dict[str, t.Any]:
        """As JSON."""
        return {**dataclasses.asdict(self), "text": self.text}

    def require(self, log: str) -> None:
        """Raise ``HotUpgradeError`` if something differs that was not accepted; ``log`` is what the new process wrote."""
        if not self.different:
            return
        shown = []
        for example, same in itertools.groupby(self.differences[:SHOWN], lambda each: each.example):
            alike = list(same)
            names = ", ".join(each.name for each in alike)
            shown.append(
                f"{names} ({alike[0].megaflows} megaflows, {alike[0].packets} packets), as {example}"
            )
        if len(self.differences) > SHOWN:
            shown.append("and others, see verification.proof in the result")
        if log:
            shown.append(f"the new version wrote into its log: {log}")
        raise HotUpgradeError(
            f"the new ovs-vswitchd would forward {self.different} of {self.traced} live megaflows differently",
            "; ".join(shown),
            "If a difference is meant to be, name it in accept (role: hot_upgrade_accept), patterns "
            f"are possible: {[each.name for each in self.differences[:SHOWN]]}; prove: 0 (role: hot_upgrade_prove) goes on "
            "without any proof",
        )

    @property
    def text(self) -> str:
        """The proof as a sentence."""
        if not self.megaflows:
            return "there was no live megaflow: nothing is proved"
        text = (
            f"{self.traced} of {self.megaflows} live megaflows, with {self.covered:g} % of their packets, were traced through "
            f"both versions; {self.different + self.accepted or 'none'} would be forwarded differently"
        )
        if self.accepted:
            text += f", {self.accepted} of them as accepted"
        for each in self.moved:
            text += f"; {each.moved} of {each.hashes} hash values lead to another bucket of {each.group}"
        if self.covered < ENOUGH:
            text += f". The rest is not proved: {'; '.join(f'{count}: {why}' for why, count in self.skipped.items())}"
        return text


def prove(old: Trace, new: Trace, datapath: Datapath, wish: Wish) -> Proof:
    """Compare what both processes do with the packets of the live megaflows of the old one's ``datapath``."""
    flows = megaflows.parse(old("dpctl/dump-flows", "--no-names", datapath.dump))
    prover = _Prover(_Side.of(old, datapath, wish.bonds), _Side.of(new, datapath, wish.bonds), wish)
    prover.run(megaflows.sample(flows, wish.most), flows)
    return prover.proof(flows)


def survey(old: Trace, datapath: Datapath, internal: t.Container[str]) -> megaflows.Survey:
    """What a proof could cover now; ``internal`` are ports that a userspace datapath of the new process has only afterwards."""
    closed = {number for number, name in _PORT.findall(old("dpctl/show", datapath.dump)) if name in internal}
    return megaflows.survey(
        old("dpctl/dump-flows", "--no-names", datapath.dump), set() if datapath.shared else closed
    )


def traces_end(said: str) -> bool:
    """Whether an ovs-vswitchd that ``said`` that of its version ends a trace that goes round in a circle.

    Packets need not: a trace goes on with a connection that is new and has no address translated, whatever the packets have.
    """
    numbers = version(parse_version(said) or "")
    same = [first for first in _ENDING if first[:2] == numbers[:2]]
    return numbers >= (same[0] if same else _ENDING[-1])


def metered(dump: str, ends: bool) -> list[Megaflow]:
    """The megaflows that have a meter among their actions, those first that begin with a packet's arrival.

    Where no trace of a circle ``ends``, those are left out behind which a trace guesses.
    """
    flows = megaflows.parse(dump)
    left_out = set[Megaflow]() if ends else megaflows.guessed(flows)
    found = (flow for flow in flows if "meter(" in flow.actions and flow not in left_out)
    return sorted(found, key=lambda flow: flow.number)


@dataclasses.dataclass(frozen=True)
class _Answer:
    """What a trace says: the ``fate`` of the packet, the ``group`` it went through last, how many values its hash counts as."""

    fate: Fate
    group: str
    hashes: int


@dataclasses.dataclass(frozen=True, eq=False)
class _Side:
    """One of the two processes; ``ports``: number -> name; see ``traces_end`` for ``ends``."""

    trace: Trace
    datapath: Datapath
    ends: bool
    ports: t.Mapping[str, str]
    reader: Reader

    @classmethod
    def of(cls, trace: Trace, datapath: Datapath, bonds: t.Mapping[str, str]) -> _Side:
        ports = dict(_PORT.findall(trace("dpctl/show", datapath.dump)))
        places = {number: bonds.get(name, name) for number, name in ports.items()}
        return cls(trace, datapath, traces_end(trace("version")), ports, Reader(places, datapath.shared))

    def ask(self, key: str) -> _Answer:
        """What becomes of a packet of the flow ``key``.  Raises ``HotUpgradeError`` when the process does not tell."""
        text = self.trace("ofproto/trace", self.datapath.name, key)
        if _ENDLESS in text:
            raise _Endless("a trace has no end", key)
        mask = _HASH_MASK.search(text)
        return _Answer(
            self.reader.fate(actions(text), key), _group(text), int(mask[1], 16) + 1 if mask else 1
        )


def actions(trace: str) -> str:
    """The datapath actions that a trace begins with; what it goes on with is guessed, a connection that is always new."""
    found = datapath_actions(trace)
    if found is None:
        raise HotUpgradeError("a trace has no end", trace[-200:], VSWITCHD_LOG)
    return found


def _group(trace: str) -> str:
    bridges, groups = _BRIDGE.findall(trace), _GROUP.findall(trace)
    return f"group {groups[-1]} of bridge {bridges[-1]}" if groups and bridges else ""


@dataclasses.dataclass
class _Edge:
    """How packets come to a live recirculation ``number``: from ``flow``, which ``via`` led to; ``theirs`` in the new process."""

    flow: Megaflow
    via: _Edge | None
    number: int
    theirs: int | None


_Told = t.Union[_Answer, HotUpgradeError]


def _told(ask: t.Callable[[], _Answer]) -> _Told:
    """The answer, or that there is none for this packet; a circle, or a process that does not answer at all, is raised."""
    try:
        return ask()
    except (Unreachable, _Endless):
        raise
    except HotUpgradeError as error:
        return error


class _Prover:
    """Goes through the live megaflows from the first stage on and keeps the accounts."""

    def __init__(self, old: _Side, new: _Side, wish: Wish) -> None:
        self._old, self._new, self._wish = old, new, wish
        self._numbers = {name: number for number, name in new.ports.items()}
        self._late = {
            old.reader.port(number) for number, name in old.ports.items() if name not in self._numbers
        }
        self._edges: dict[int, list[_Edge]] = collections.defaultdict(list)
        self._traced: set[Megaflow] = set()
        self._skipped: dict[Megaflow, str] = {}
        self._different: dict[Megaflow, list[str]] = {}
        self._named: dict[str, tuple[set[Megaflow], str]] = {}
        self._outcomes: dict[int, frozenset[Fate]] = {}
        self._moved: dict[str, Moved] = {}
        self._chosen: set[Megaflow] = set()
        # Nothing but an answer of the new process tells that the old one ends a trace of these.
        self._unasked: set[Megaflow] = set()

    def run(self, flows: t.Sequence[Megaflow], live: t.Sequence[Megaflow]) -> None:
        """Compare ``flows``, stage by stage; what goes round in a circle is seen in all that are ``live``."""
        self._chosen = set(flows)
        circling = megaflows.circling(live)
        self._skipped = {flow: CIRCLE for flow in flows if flow in circling}
        self._unasked = set() if self._old.ends else megaflows.guessed(live)
        if self._wish.beyond:
            pattern, why = self._wish.beyond
            self._skipped.update(
                {flow: why for flow in flows if pattern.search(f"{flow.key} {flow.actions}")}
            )
        by_number: dict[int, list[Megaflow]] = collections.defaultdict(list)
        for flow in flows:
            if flow not in self._skipped:
                by_number[flow.number].append(flow)
        for flow in by_number[0]:
            self._examine(flow, None)
        done: set[int] = {0}
        while fresh := sorted(self._edges.keys() - done):
            for number in fresh:
                done.add(number)
                self._go_on(self._edges[number], by_number[number])

    def proof(self, live: t.Sequence[Megaflow]) -> Proof:
        """What was found out about the ``live`` megaflows."""
        whole, traced = Amount.of(live), Amount.of(self._traced)
        reasons = collections.Counter(
            self._skipped.get(flow, NO_WAY if flow in self._chosen else NOT_SAMPLED)
            for flow in live
            if flow not in self._traced
        )
        different = [flow for flow, names in self._different.items() if not all(map(self._accepted, names))]
        return Proof(
            megaflows=whole.megaflows,
            packets=whole.packets,
            traced=traced.megaflows,
            traced_packets=traced.packets,
            covered=traced.share(whole),
            skipped=dict(reasons),
            different=len(different),
            accepted=len(self._different) - len(different),
            differences=tuple(self._differences()),
            moved=tuple(self._moved.values()),
        )

    def _differences(self) -> list[Difference]:
        """Those that were not accepted first, then by packets."""
        found = [
            Difference(name, len(flows), Amount.of(flows).packets, example)
            for name, (flows, example) in self._named.items()
        ]
        found.sort(key=lambda each: (self._accepted(each.name), -each.packets))
        return found[:MOST_DIFFERENCES]

    def _accepted(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self._wish.accept)

    def _go_on(self, edges: t.Sequence[_Edge], flows: t.Sequence[Megaflow]) -> None:
        """Examine the megaflows of a stage, each from where it most likely comes, and each way to the stage at least once."""
        if not flows:
            return
        if "dp_hash(" in flows[0].key and len(self._outcomes) < MOST_HASHED:
            self._sample_hashes(edges[0], flows[0])
        unused = {id(edge) for edge in edges}
        for flow in flows:
            edge = max(edges, key=lambda edge: megaflows.likeness(edge.flow, flow))
            unused.discard(id(edge))
            self._examine(flow, edge)
        for edge in edges:
            if id(edge) in unused:
                self._examine(max(flows, key=lambda flow: megaflows.likeness(edge.flow, flow)), edge)

    def _examine(self, flow: Megaflow, edge: _Edge | None) -> None:
        """Compare one megaflow, to which ``edge`` leads."""
        source = self._old.ports.get(flow.in_port, flow.in_port)
        if source not in self._numbers or (self._late and flow.ends_tunnel):
            self._skipped[flow] = NOT_YET
            return
        try:
            was, now = self._both(flow, edge)
        except _Endless:
            self._skipped[flow] = CIRCLE
            return
        if isinstance(was, HotUpgradeError):
            self._skipped[flow] = GONE
            return
        if was.fate.needs(self._late):
            self._skipped[flow] = NOT_YET
            return
        self._traced.add(flow)
        if isinstance(now, HotUpgradeError):
            self._note(
                flow,
                [f"{source}>refused"],
                f"the new one cannot translate it: {now.why or now.what}",
                was.fate,
            )
            return
        before, after = was.fate.without(self._late), now.fate
        if not before.alike(after) and not self._elsewhere(flow, edge, after):
            names = [f"{source}>{name}" for name in before.differences(after)]
            self._note(flow, names, f"the new one: {after}", before)
        live = self._old.reader.fate(flow.actions, flow.key)
        for number, theirs in live.aligned(after):
            self._edges[number].append(_Edge(flow, edge, number, theirs))

    def _note(self, flow: Megaflow, names: list[str], does: str, was: Fate) -> None:
        source = self._old.ports.get(flow.in_port, flow.in_port)
        shown = flow.key.replace(f"in_port({flow.in_port})", f"in_port({source})")
        self._different[flow] = sorted({*self._different.get(flow, ()), *names})
        for name in names:
            flows, __ = self._named.setdefault(name, (set(), f"{shown}: the old version: {was}; {does}"))
            flows.add(flow)

    def _both(self, flow: Megaflow, edge: _Edge | None, key: str = "") -> tuple[_Told, _Told]:
        """What the old and the new process do with ``flow`` (or another ``key`` of the same stage).

        Who ends a trace that goes round in a circle is asked before the other; if none does, the one that no packet needs.
        """
        if self._old.ends:
            was = _told(lambda: self._old.ask(key or flow.key))
            return was, was if isinstance(was, HotUpgradeError) else _told(lambda: self._ask(flow, edge, key))
        now = _told(lambda: self._ask(flow, edge, key))
        if isinstance(now, HotUpgradeError) and flow in self._unasked:
            return _Answer(self._old.reader.fate(flow.actions, flow.key), "", 1), now
        return _told(lambda: self._old.ask(key or flow.key)), now

    def _ask(self, flow: Megaflow, edge: _Edge | None, key: str = "") -> _Answer:
        """What the new process does with ``flow`` (or another ``key`` of the same stage)."""
        in_port = self._numbers[self._old.ports.get(flow.in_port, flow.in_port)]
        for tries in range(TRIES, 0, -1):
            number = 0 if edge is None else self._number(edge)
            try:
                return self._new.ask(megaflows.placed(key or flow.key, number, in_port))
            except Unreachable:
                raise
            except HotUpgradeError:
                if edge is None or tries == 1:
                    raise
                edge.theirs = None
        raise AssertionError

    def _number(self, edge: _Edge) -> int:
        """The recirculation number of the new process for what comes after ``edge.flow``."""
        if edge.theirs is None:
            live = self._old.reader.fate(edge.flow.actions, edge.flow.key)
            edge.theirs = dict(live.aligned(self._ask(edge.flow, edge.via).fate)).get(edge.number)
        if edge.theirs is None:
            raise HotUpgradeError(
                "the new process goes another way each time",
                edge.flow.key,
                f"{VSWITCHD_LOG}, or begin again with prove: 0",
            )
        return edge.theirs

    def _elsewhere(self, flow: Megaflow, edge: _Edge | None, now: Fate) -> bool:
        """Whether the packet only goes to another bucket than before, one that others went to."""
        if edge is None or "dp_hash(" not in flow.key:
            return False
        if edge.number not in self._outcomes:
            self._sample_hashes(edge, flow)
        return now in self._outcomes[edge.number]

    def _sample_hashes(self, edge: _Edge, flow: Megaflow) -> None:
        """Ask both for every hash that they tell apart, and remember what the old process does with any of them."""
        self._outcomes[edge.number] = frozenset()
        outcomes, moved, group, value, hashes = set(), 0, "", 0, 1
        while value < hashes:
            value += 1  # 0 would mean that there is no hash yet
            key = megaflows.hashed(flow.key, value)
            try:
                was, now = self._both(flow, edge, key)
            except Unreachable:
                raise
            except (HotUpgradeError, KeyError):
                return
            if isinstance(was, HotUpgradeError) or isinstance(now, HotUpgradeError):
                return
            fate = was.fate.without(self._late)
            outcomes.add(fate)
            moved += not fate.alike(now.fate)
            group = group or was.group
            hashes = min(HASHES, max(hashes, was.hashes, now.hashes))
        self._outcomes[edge.number] = frozenset(outcomes)
        if moved:
            group = group or f"a bond behind {self._old.ports.get(flow.in_port, flow.in_port)}"
            self._moved[group] = Moved(group, HASHES, moved * HASHES // hashes)
