# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens in a rollout, from the events that Ansible tells anyway; nothing here knows Ansible.

A play counts as soon as something of this collection happens in it: a task of the role, a hand-over, a result. Other plays of the
same run are no part of the report.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.plugin_utils.reading import Json, mapping, text

RUNNING, ENDED, INTERRUPTED = "running", "ended", "interrupted"
RESULT = "hot_upgrade_result"
_OURS = "ovsops.hot_upgrade."
_HANDOVERS = (f"{_OURS}ovs_handover", f"{_OURS}ovs_kmod_reload")
_PROBE = f"{_OURS}ovs_traffic_probe"
# The role's files that an operator knows as steps; the others are a part of one of them.
STEPS = {
    "begin": "begin",
    "unfinished": "unfinished",
    "preflight": "preflight",
    "snapshot": "snapshot",
    "packages": "packages",
    "kernel_module": "kernel module",
    "handover": "hand-over",
    "verify": "verify",
    "ovn": "OVN",
    "rescue": "rescue",
    "result": "result",
    "confirmation": "confirmation",
}
# Those in which the switch is replaced.
CUT_OVERS = ("hand-over", "kernel module")
_ROLE_FILE = re.compile(r"/roles/hot_upgrade/tasks/(\w+)\.yml(?::\d+)?$")
_COLLECTION = re.compile(r"/hot_upgrade/(?:playbooks|roles/hot_upgrade/tasks)/")
_PLAYBOOK = re.compile(r"/hot_upgrade/playbooks/(?:hot_upgrade|tasks/asked)\.yml(?::\d+)?$")
_SET_FACT = ("set_fact", "ansible.builtin.set_fact", "ansible.legacy.set_fact")
# What the module tells of a hand-over that is of interest later, beside the result of the role.
_KEPT = ("transaction", "state", "deadline", "reason", "not_undone", "measured", "timeline", "refill_ms", "window_ms",
         "verified", "breaches", "changes", "not_carried", "proof")  # fmt: skip


def step_of(path: str) -> str | None:
    """The step of the role that a task at ``path`` (with or without its line) begins or goes on with; None for others."""
    found = _ROLE_FILE.search(path)
    return STEPS.get(found[1]) if found else None


def is_ours(path: str, action: str) -> bool:
    """Whether a task makes its play a rollout: one of the role's steps, or a hand-over in a playbook of the user's own."""
    return step_of(path) is not None or (action in _HANDOVERS and not _COLLECTION.search(path))


def batch_sizes(total: int, serial: t.Sequence[int]) -> list[int]:
    """As Ansible divides ``total`` hosts; ``serial`` are numbers, the last of which holds for the rest, 0 or less for all."""
    sizes: list[int] = []
    wanted = list(serial) or [0]
    while sum(sizes) < total:
        size, left = wanted[min(len(sizes), len(wanted) - 1)], total - sum(sizes)
        sizes.append(left if size <= 0 else min(size, left))
    return sizes


@dataclasses.dataclass
class Step:
    """One step of a host; seconds since the epoch."""

    name: str
    began: float
    ended: float | None = None


@dataclasses.dataclass
class Trouble:
    """Why a host went no further, as far as the last task tells; ``step`` is empty outside of the role."""

    step: str
    task: str
    message: str
    unreachable: bool = False


@dataclasses.dataclass
class Host:
    """What is known of one host. ``result`` is that of the role, ``plan`` and ``handover`` are the module's."""

    name: str
    steps: list[Step] = dataclasses.field(default_factory=list)
    result: Json = dataclasses.field(default_factory=dict)
    plan: Json = dataclasses.field(default_factory=dict)
    handover: Json = dataclasses.field(default_factory=dict)
    traffic: Json = dataclasses.field(default_factory=dict)
    trouble: Trouble | None = None
    hidden: bool = False

    @property
    def outcome(self) -> str:
        """As the role tells it; empty before."""
        return text(self.result.get("outcome"))

    @property
    def step(self) -> str:
        """The one it is in, or was in last."""
        return self.steps[-1].name if self.steps else ""


@dataclasses.dataclass
class Batch:
    """Hosts that are upgraded together, the ``number``-th of ``of`` in its play."""

    number: int
    of: int
    hosts: tuple[str, ...]
    began: float
    ended: float | None = None


@dataclasses.dataclass
class Play:
    """One play with its batches; ``hosts`` are those of all batches, also of those to come."""

    name: str
    hosts: tuple[str, ...]
    sizes: list[int]
    batches: list[Batch] = dataclasses.field(default_factory=list)
    counts: bool = False


@dataclasses.dataclass
class Rollout:
    """All that is known by now. ``refusal`` is why nothing was begun at all."""

    playbook: str = ""
    inventories: tuple[str, ...] = ()
    check_mode: bool = False
    forks: int = 5
    began: float = 0.0
    ended: float | None = None
    now: float = 0.0
    state: str = RUNNING
    refusal: str = ""
    plays: list[Play] = dataclasses.field(default_factory=list)
    known: dict[str, Host] = dataclasses.field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether there is anything to report."""
        return bool(self.refusal) or any(play.counts for play in self.plays)

    @property
    def name(self) -> str:
        """By which it can be taken back; empty where no host has told it."""
        return next(
            (name for name in (text(host.result.get("rollout")) for host in self.known.values()) if name), ""
        )

    @property
    def batches(self) -> list[Batch]:
        """Those that have begun, in order."""
        return [batch for play in self.plays if play.counts for batch in play.batches]

    @property
    def to_come(self) -> list[int]:
        """The sizes of the batches that have not begun."""
        return [size for play in self.plays if play.counts for size in play.sizes[len(play.batches) :]]

    @property
    def hosts(self) -> list[Host]:
        """Every host of the rollout, in the order of its batches, also those that nobody has touched."""
        names = dict.fromkeys(name for play in self.plays if play.counts for name in play.hosts)
        return [self.known.get(name) or Host(name) for name in names]


@dataclasses.dataclass(frozen=True)
class Event:
    """What has just happened that an operator wants to see: ``kind`` is batch, step, cut over or host."""

    kind: str
    batch: Batch | None
    host: Host


class Collector:
    """Folds events into a ``Rollout``; ``clock`` tells seconds since the epoch."""

    def __init__(self, clock: t.Callable[[], float], **given: t.Any) -> None:
        self._clock = clock
        self.rollout = Rollout(began=clock(), now=clock(), **given)
        self._announced: set[tuple[int, str]] = set()

    def play(self, name: str, hosts: t.Sequence[str], batch: t.Sequence[str], sizes: t.Sequence[int]) -> None:
        """A batch of a play begins; ``hosts`` are those of all its batches, ``sizes`` how they are divided."""
        now, plays = self._now(), self.rollout.plays
        for each in (each for play in plays for each in play.batches if each.ended is None):
            each.ended = now
        last = plays[-1] if plays else None
        if last is None or not _goes_on(last, name, hosts, batch):
            last = Play(name, tuple(hosts), list(sizes))
            plays.append(last)
        number = len(last.batches) + 1
        last.batches.append(Batch(number, max(number, len(sizes)), tuple(batch), now))

    def started(self, name: str, path: str, action: str) -> list[Event]:
        """A task has started on a host."""
        now, host, events = self._now(), self._host(name), self._begin(name, is_ours(path, action))
        step = step_of(path)
        if step is None or step == host.step:
            return events
        _end_step(host, now)
        host.steps.append(Step(step, now))
        first = self._is_first(step) and self.rollout.counts
        # A batch that begins says so itself.
        return events or ([Event("step", self._batch(), host)] if first else [])

    def told(self, name: str, action: str, result: Json) -> list[Event]:
        """A task has ended well on a host, or is allowed not to."""
        now, host = self._now(), self._host(name)
        if "censored" in result:
            host.hidden = True
            return []
        if action in _HANDOVERS:
            return self._handed_over(host, result)
        if action == _PROBE and mapping(result.get("result")):
            host.traffic = mapping(result["result"])
        # Facts that a host tells are not what the role has found.
        found = mapping(mapping(result.get("ansible_facts")).get(RESULT)) if action in _SET_FACT else {}
        if not found:
            return []
        events = self._begin(name, True)
        host.result = found
        if host.outcome in ("", "unknown"):
            return events
        _end_step(host, now)
        # The role has judged it.
        host.trouble = host.trouble if host.outcome == "failed" else None
        return [*events, Event("host", self._batch(), host)]

    def failed(self, name: str, path: str, action: str, task: str, result: Json) -> list[Event]:
        """A task has failed on a host, and that is not ignored. It may be rescued."""
        self._now()
        if "censored" in result:
            message = "what it said is hidden by no_log"
            self._host(name).hidden = True
        else:
            message = text(result.get("msg")) or "it gave no reason"
        if self.rollout.plays and not self.rollout.batches and _PLAYBOOK.search(path):
            self.rollout.refusal = message
            return []
        host = self._host(name)
        host.trouble = Trouble(host.step if _ROLE_FILE.search(path) else "", task, message)
        return self._handed_over(host, result) if action in _HANDOVERS else []

    def unreachable(self, name: str, task: str, result: Json) -> list[Event]:
        """Ansible has lost a host, and drops it."""
        now, host = self._now(), self._host(name)
        host.trouble = Trouble(
            host.step, task, text(result.get("msg")) or "no reason was given", unreachable=True
        )
        _end_step(host, now)
        return [Event("host", self._batch(), host)] if self.rollout.counts else []

    def end(self, state: str = ENDED) -> Rollout:
        """The run has ended, or was ended."""
        now = self._now()
        for batch in (batch for play in self.rollout.plays for batch in play.batches if batch.ended is None):
            batch.ended = now
        for host in self.rollout.known.values():
            _end_step(host, now)
        self.rollout.ended, self.rollout.state = now, state
        return self.rollout

    def _handed_over(self, host: Host, result: Json) -> list[Event]:
        host.plan = mapping(result.get("plan")) or host.plan
        if not text(result.get("transaction")):
            return []
        host.handover = {**host.handover, **{name: result[name] for name in _KEPT if name in result}}
        cut_over = bool(mapping(result.get("plan"))) and self.rollout.counts
        return [Event("cut over", self._batch(), host)] if cut_over else []

    def _begin(self, name: str, ours: bool) -> list[Event]:
        play = self.rollout.plays[-1] if self.rollout.plays else None
        if play is None or not (ours or play.counts):
            return []
        play.counts = True
        return [Event("batch", self._batch(), self._host(name))] if self._is_first("") else []

    def _is_first(self, step: str) -> bool:
        """Whether nobody of this batch was there before."""
        key = (sum(len(play.batches) for play in self.rollout.plays), step)
        before = len(self._announced)
        self._announced.add(key)
        return len(self._announced) > before

    def _batch(self) -> Batch | None:
        return self.rollout.plays[-1].batches[-1] if self.rollout.plays else None

    def _host(self, name: str) -> Host:
        return self.rollout.known.setdefault(name, Host(name))

    def _now(self) -> float:
        self.rollout.now = self._clock()
        return self.rollout.now


def _goes_on(play: Play, name: str, hosts: t.Sequence[str], batch: t.Sequence[str]) -> bool:
    """Whether ``batch`` is the next one of a play: Ansible starts it once more for each."""
    done = {host for each in play.batches for host in each.hosts}
    return (play.name, play.hosts) == (name, tuple(hosts)) and not done.intersection(batch)


def _end_step(host: Host, now: float) -> None:
    if host.steps and host.steps[-1].ended is None:
        host.steps[-1].ended = now
