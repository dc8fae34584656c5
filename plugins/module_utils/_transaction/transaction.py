# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""One change of a host as a transaction that outlives the process that runs it.

A transaction is a directory (0700) below ``ROOT``::

    state.<name>    an empty file; its name is the state, and renaming it is the only way to change it,
                    so of two that want to leave a state exactly one succeeds
    request.json    what was asked and planned, never changed again
    journal.jsonl   one line for each event, on the disk before the event's step runs
    result.json     what is known of the outcome so far
    engine.lock     locked by the process that works on the transaction; the kernel unlocks it when that ends
    lease           when somebody who is connected last worked on it, see ``lease.py``

A new process needs nothing else to undo what a dead one began.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import errno
import fcntl
import functools
import json
import os
import secrets
import shutil
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.files import (
    sync_directory,
    write_durable,
)
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.heartbeat import beat
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._transaction.pulse import beating, end_hung

ROOT = "/var/lib/ovsops/transactions"

PREPARED = "prepared"
ARMED = "armed"
APPLIED = "applied"
CONFIRMED = "confirmed"
ROLLING_BACK = "rolling_back"
ROLLED_BACK = "rolled_back"
FAILED = "failed"
FINISHED = (CONFIRMED, ROLLED_BACK)

KEPT_RECORDS = 10

# One who works on a transaction and has not made any progress for so many seconds hangs, and is ended.  What shows none
# for long: a command (120 s at most), and the comparison of millions of flows on a slow host.
HUNG = 300.0

LOCK = "engine.lock"
_DRAFT = ".draft-"

# A directory that is read while a file in it is renamed may show both names, or none (readdir(3)).
STATE_LOOKS = 10

# The note of a transaction that was taken back for a reason that may be gone at the next try.
AGAIN = "again"

Json = dict[str, t.Any]
C = t.TypeVar("C")
Observer = collections.abc.Callable[[str, str], None]


class Lost(HotUpgradeError):
    """Somebody else moved the transaction to another state first."""


class Busy(Refused):
    """Another transaction is not finished; ``transaction`` is it."""

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction
        doing = "is being worked on" if transaction.running() else "is not finished"
        super().__init__(
            "a second hand-over cannot start on this host",
            f"transaction {transaction.id} {doing} (state {transaction.state})",
            f"Wait for it, or end it with ovs_handover and transaction={transaction.id}, "
            "state=confirmed or state=rolled_back",
        )


def _nothing(_context: t.Any) -> None:
    """The default of a step that has nothing to undo or to check."""


@dataclasses.dataclass(frozen=True)
class Step(t.Generic[C]):
    """One reversible action on the context ``C``.

    ``undo`` must be right whether ``do`` never ran, ran in part or ran to its end, and in a process that did
    not run it.  ``check`` raises ``HotUpgradeError`` when the effect is not there.  Neighbouring steps with
    ``window`` are journaled together before the first of them, so that no disk is waited for between them.
    """

    name: str
    do: collections.abc.Callable[[C], None]
    undo: collections.abc.Callable[[C], None] = _nothing
    check: collections.abc.Callable[[C], None] = _nothing
    window: bool = False


@dataclasses.dataclass(frozen=True)
class Transaction:
    """A transaction directory."""

    path: str

    @property
    def id(self) -> str:
        """The directory's name."""
        return os.path.basename(self.path)

    @property
    def state(self) -> str:
        """The current state, one of the constants above."""
        for __ in range(STATE_LOOKS):
            names = [name for name in os.listdir(self.path) if name.startswith("state.")]
            if len(names) == 1:
                return names[0][len("state.") :]
        raise HotUpgradeError(
            f"the transaction {self.path} is damaged",
            f"state files found: {sorted(names)}",
            "Look at its journal",
        )

    @property
    def request(self) -> Json:
        """What ``create`` was given."""
        return t.cast(Json, self.read("request.json"))

    @property
    def finished(self) -> bool:
        """Whether nothing is left to be done or undone."""
        return self.state in FINISHED

    def file(self, *names: str) -> str:
        """A path below the directory."""
        return os.path.join(self.path, *names)

    def move(self, old: str, new: str) -> None:
        """Go from state ``old`` to ``new``; raises ``Lost`` when the state is not ``old`` any more."""
        try:
            os.rename(self.file(f"state.{old}"), self.file(f"state.{new}"))
        except FileNotFoundError as error:
            raise Lost(
                f"transaction {self.id} cannot become {new}", f"it is {self.state}, not {old}"
            ) from error
        sync_directory(self.path)

    def read(self, name: str) -> t.Any:
        """The JSON document ``name``, or None when there is none."""
        try:
            with open(self.file(name), encoding="utf-8") as file:
                return json.load(file)
        except FileNotFoundError:
            return None

    def write(self, name: str, document: t.Any) -> None:
        """Put the JSON document ``name`` on the disk, whole or not at all."""
        write_durable(self.file(name), json.dumps(document, sort_keys=True, indent=1).encode())

    def note(self, **values: t.Any) -> None:
        """Add to ``result.json``."""
        self.write("result.json", {**(self.read("result.json") or {}), **values})

    def log(self, *events: Json) -> None:
        """Append events to the journal and wait until the disk has them."""
        stamp = time.monotonic_ns() // 1000
        if not events:
            return
        lines = "".join(json.dumps({"at_us": stamp, **event}, sort_keys=True) + "\n" for event in events)
        descriptor = os.open(self.file("journal.jsonl"), os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            end = os.fstat(descriptor).st_size
            if end and os.pread(descriptor, 1, end - 1) != b"\n":  # a power loss cut the last line
                lines = "\n" + lines
            if os.write(descriptor, lines.encode()) < len(lines):
                os.ftruncate(descriptor, end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.file("journal.jsonl"))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def journal(self) -> list[Json]:
        """The events so far; a line that was cut by a power loss is left out."""
        events = []
        try:
            with open(self.file("journal.jsonl"), encoding="utf-8") as file:
                for line in file:
                    with contextlib.suppress(ValueError):
                        events.append(json.loads(line))
        except FileNotFoundError:
            pass
        return events

    def begun(self) -> list[str]:
        """Names of the steps that may have had an effect which is not undone yet, in the order of their start."""
        names: dict[str, None] = {}
        for event in self.journal():
            if event["event"] == "begin":
                names[event["step"]] = None
            elif event["event"] == "undone":
                names.pop(event["step"], None)
        return list(names)

    @contextlib.contextmanager
    def engine(self, patience: float = 1.0) -> t.Iterator[float | None]:
        """Be the one process that works on this transaction; its heart beats meanwhile (``pulse.py``).

        Raises ``Busy`` when another is, for longer than ``patience`` seconds: ``running`` locks for a moment.  One that
        hangs is ended; then this yields for how many seconds it did.
        """
        end = time.monotonic() + patience
        hung = None
        while True:
            with contextlib.ExitStack() as stack:
                if stack.enter_context(_locked(self.file(LOCK))):
                    stack.enter_context(beating(self.id))
                    yield hung
                    return
            if time.monotonic() >= end:
                hung = end_hung(self.id, HUNG)
                if hung is None:
                    raise Busy(self)
            time.sleep(0.01)

    def running(self) -> bool:
        """Whether a process works on it now."""
        with _locked(self.file(LOCK)) as mine:
            return not mine

    def prune(self, *names: str) -> None:
        """Remove directories of this transaction that are of no more use."""
        for name in names:
            shutil.rmtree(self.file(name), ignore_errors=True)


def create(request: Json, root: str = ROOT) -> Transaction:
    """Begin a transaction in state ``prepared``; raises ``Busy`` when one of this host is not finished."""
    with making(request, root) as transaction:
        return transaction


@contextlib.contextmanager
def making(request: Json, root: str = ROOT) -> t.Iterator[Transaction]:
    """``create``, and be the one who works on it until the engine does: nobody takes it for one whose engine died."""
    os.makedirs(root, mode=0o700, exist_ok=True)
    with contextlib.ExitStack() as held:
        with _locked(os.path.join(root, ".lock"), wait=True):
            _make_room(root)
            draft = os.path.join(root, f"{_DRAFT}{secrets.token_hex(8)}")
            nested(draft, request)
            held.enter_context(_locked(os.path.join(draft, LOCK)))
            sync_directory(draft)
            name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + "-" + secrets.token_hex(3)
            path = os.path.join(root, name)
            os.rename(draft, path)
            sync_directory(root)
        yield Transaction(path)


def _make_room(root: str) -> None:
    """Remove old records, and drafts of a process that died: whoever is alive has the lock when it makes one."""
    known = transactions(root)
    for other in known:
        if not other.finished:
            raise Busy(other)
    drafts = [os.path.join(root, name) for name in os.listdir(root) if name.startswith(_DRAFT)]
    for path in [*(other.path for other in known[: -KEPT_RECORDS or None]), *drafts]:
        shutil.rmtree(path)


def nested(path: str, request: Json) -> Transaction:
    """A transaction inside of another one, which protects it; it is in no list and locks nothing out."""
    os.mkdir(path, 0o700)
    transaction = Transaction(path)
    transaction.write("request.json", request)
    os.close(os.open(transaction.file(f"state.{PREPARED}"), os.O_CREAT | os.O_WRONLY, 0o600))
    return transaction


def transactions(root: str = ROOT) -> list[Transaction]:
    """All transactions of this host, oldest first."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return []
    return [Transaction(os.path.join(root, name)) for name in names if not name.startswith(".")]


def unfinished(root: str = ROOT) -> Transaction | None:
    """The transaction of this host that is not finished; there is one at most."""
    return next((transaction for transaction in transactions(root) if not transaction.finished), None)


def find(identifier: str, root: str = ROOT) -> Transaction:
    """The transaction with this id; raises ``Refused`` and names those that are there."""
    known = {transaction.id: transaction for transaction in transactions(root)}
    if identifier not in known:
        raise Refused(
            f"there is no transaction {identifier!r} on this host",
            f"{root} holds {', '.join(known) or 'none'}",
            "Take the id from the result of ovs_handover",
        )
    return known[identifier]


def run(
    transaction: Transaction,
    steps: t.Sequence[Step[C]],
    context: C,
    observe: Observer = lambda when, step: None,
) -> list[Json]:
    """Do the steps in order; the first failure is raised, nothing is undone.

    ``observe("before"|"after", step name)`` is called around each ``do``.  Returns each step with its times, as
    ``timeline`` does.
    """
    finished: list[Json] = []
    for group in _windows(steps):
        transaction.log(*({"event": "begin", "step": step.name} for step in group))
        logged = len(finished)
        try:
            for step in group:
                beat()
                observe("before", step.name)
                start = time.monotonic_ns() // 1000
                step.do(context)
                step.check(context)
                end = time.monotonic_ns() // 1000
                finished.append({"step": step.name, "start_us": start, "end_us": end})
                observe("after", step.name)
        finally:
            # Only a record: the way back starts from what was begun. A full disk is no reason to take it.
            with contextlib.suppress(OSError):
                transaction.log(*({"event": "done", **step} for step in finished[logged:]))
    return finished


def undo(
    transaction: Transaction, steps: t.Sequence[Step[C]], context: C, done: t.Collection[str] = ()
) -> list[str]:
    """Undo, last first, what the journal says was begun and ``done`` does not name; returns the failures as text.

    A failing undo, however it fails, does not keep the others from running: each makes the host better.
    """
    by_name = {step.name: step for step in steps}
    failures = []
    for name in reversed(transaction.begun()):
        beat()
        if name not in done:
            failed = attempt(functools.partial(_undo_one, by_name, name, context))
            failures += [f"{name}: {text}" for text in failed]
            if failed:
                continue
        with contextlib.suppress(OSError):  # a full disk must not stop the way back; undoing twice is allowed
            transaction.log({"event": "undone", "step": name})
    return failures


def _undo_one(by_name: t.Mapping[str, Step[C]], name: str, context: C) -> None:
    by_name[name].undo(context)


def attempt(action: t.Callable[[], object]) -> list[str]:
    """Do something that nothing may fail on; what went wrong as text."""
    try:
        action()
    except Exception as error:  # whatever it is
        return [told(error)]
    return []


def told(error: Exception) -> str:
    """An error in words; one that nobody has foreseen, with its kind and where it came from."""
    if isinstance(error, (HotUpgradeError, OSError)):
        return str(error)
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = (
        f" ({os.path.basename(place.tb_frame.f_code.co_filename)}, line {place.tb_lineno})" if place else ""
    )
    return f"{type(error).__name__}: {error}{where}"


def timeline(transaction: Transaction) -> list[Json]:
    """The finished steps as ``{step, start_us, end_us}`` on the monotonic clock of this boot."""
    keys = ("step", "start_us", "end_us")
    return [{key: event[key] for key in keys} for event in transaction.journal() if event["event"] == "done"]


def _windows(steps: t.Sequence[Step[C]]) -> t.Iterator[list[Step[C]]]:
    group: list[Step[C]] = []
    for step in steps:
        if group and not (step.window and group[-1].window):
            yield group
            group = []
        group.append(step)
    if group:
        yield group


@contextlib.contextmanager
def _locked(path: str, wait: bool = False) -> t.Iterator[bool]:
    """Hold the lock file ``path``; yields whether it is ours (always when ``wait``)."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
