# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""One change of a host as a transaction that outlives the process that runs it.

A transaction is a directory (0700) below ``ROOT``::

    state.<name>    an empty file; its name is the state, and renaming it is the only way to change it,
                    so of two that want to leave a state exactly one succeeds
    request.json    what was asked and planned, never changed again: ``operation`` and ``format`` name who can read it,
                    ``confirm``, ``confirm_timeout`` (seconds) and ``boot`` are for engine and guard, the rest is the operation's
    journal.jsonl   one line for each event, on the disk before the event's step runs
    result.json     what is known of the outcome so far
    engine.lock     locked by the process that works on the transaction; the kernel unlocks it when that ends
    lease           when somebody who is connected last worked on it, see ``lease.py``
    lib             its own copy of the code, see ``own_copy.py``

A new process needs nothing else to undo what a dead one began.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import secrets
import shutil
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.clock import boot_id
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError, Refused
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.files import (
    sync_directory,
    try_lock,
    write_durable,
)
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
# And none that began longer ago, in days.
KEPT_DAYS = 365

# One who works on a transaction and has not made any progress for so many seconds hangs, and is ended.  What shows none
# for long: a command (120 s at most), and the comparison of millions of flows on a slow host.
HUNG = 300.0

# Where an operator looks after an error.
JOURNAL = "Look at journalctl -u 'ovsops-*', and at journal.jsonl in the directory of the transaction"

LOCK = "engine.lock"
_DRAFT = ".draft-"

# A directory that is read while a file in it is renamed may show both names, or none (readdir(3)).
STATE_LOOKS = 10

Json = dict[str, t.Any]
# Called with "before" or "after" and the name of a moment: a step, "undo STEP", "become STATE", "clean up".
Observer = collections.abc.Callable[[str, str], None]


def unobserved(_when: str, _moment: str) -> None:
    """The observer of a transaction that nobody observes."""


class Lost(HotUpgradeError):
    """Somebody else moved the transaction to another state first."""


class Busy(Refused):
    """Another transaction is not finished; ``transaction`` is it."""

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction
        module = f"ovs_{transaction.operation}" if transaction.operation else "the module that began it"
        doing = "is being worked on" if transaction.running() else "is not finished"
        super().__init__(
            "a second change of this host cannot start",
            f"transaction {transaction.id} {doing} (state {transaction.state})",
            f"Wait for it, or end it with {module} and transaction={transaction.id}, "
            "state=confirmed or state=rolled_back",
        )


@dataclasses.dataclass(frozen=True)
class Transaction:
    """A transaction directory; ``observe`` is told its moments in this process."""

    path: str
    observe: Observer = dataclasses.field(default=unobserved, compare=False)

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
            JOURNAL,
        )

    @property
    def request(self) -> Json:
        """What ``create`` was given."""
        return t.cast(Json, self.read("request.json"))

    @property
    def operation(self) -> str:
        """The name of what it does, see ``operation.py``; empty where the request is damaged."""
        try:
            return str(self.request["operation"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    @property
    def rebooted(self) -> bool:
        """Whether the host was booted since it began."""
        return bool(boot_id() != self.request["boot"])

    @property
    def finished(self) -> bool:
        """Whether nothing is left to be done or undone."""
        return self.state in FINISHED

    def file(self, *names: str) -> str:
        """A path below the directory."""
        return os.path.join(self.path, *names)

    def move(self, old: str, new: str) -> None:
        """Go from state ``old`` to ``new``; raises ``Lost`` when the state is not ``old`` any more."""
        self.observe("before", f"become {new}")
        try:
            os.rename(self.file(f"state.{old}"), self.file(f"state.{new}"))
        except FileNotFoundError as error:
            raise Lost(
                f"transaction {self.id} cannot become {new}",
                f"it is {self.state}, not {old}",
                JOURNAL,
            ) from error
        sync_directory(self.path)
        self.observe("after", f"become {new}")

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
        """Names of the steps that may have had an effect which is not undone yet, in the order of their start.

        What was undone before a step that could not be is among them: the undo of that one may want theirs once more.
        """
        undone: dict[str, bool] = {}
        for event in self.journal():
            if event["event"] == "begin":
                undone.pop(event["step"], None)
                undone[event["step"]] = False
            elif event["event"] == "undone":
                undone[event["step"]] = True
        names = list(undone)
        while names and undone[names[-1]]:
            names.pop()
        return names

    @contextlib.contextmanager
    def at_work(self, patience: float = 1.0) -> t.Iterator[float | None]:
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
        """Remove files and directories of this transaction that are of no more use."""
        for path in map(self.file, names):
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.unlink(path)


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
    oldest = time.strftime("%Y%m%d", time.gmtime(time.time() - KEPT_DAYS * 86400))
    old = [
        other for place, other in enumerate(known) if place < len(known) - KEPT_RECORDS or other.id < oldest
    ]
    drafts = [os.path.join(root, name) for name in os.listdir(root) if name.startswith(_DRAFT)]
    for path in [*(other.path for other in old), *drafts]:
        shutil.rmtree(path)


def nested(path: str, request: Json, observe: Observer = unobserved) -> Transaction:
    """A transaction inside of another one, which protects it; it is in no list and locks nothing out."""
    os.mkdir(path, 0o700)
    transaction = Transaction(path, observe)
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
            "Take the id from the result of the module that began it",
        )
    return known[identifier]


def of_operation(name: str, root: str = ROOT) -> list[Transaction]:
    """The transactions of the operation ``name``, oldest first; a damaged one is everybody's."""
    return [transaction for transaction in transactions(root) if transaction.operation in (name, "")]


def find_of(name: str, identifier: str, root: str = ROOT) -> Transaction:
    """The transaction ``identifier`` of the operation ``name``; raises ``Refused`` when there is none."""
    found = find(identifier, root)
    if found.operation not in (name, ""):
        raise Refused(
            f"transaction {identifier} is none of ovs_{name}",
            f"ovs_{found.operation} has begun it",
            f"Use ovs_{found.operation} for it",
        )
    return found


@contextlib.contextmanager
def _locked(path: str, wait: bool = False) -> t.Iterator[bool]:
    """Hold the lock file ``path``; yields whether it is ours (always when ``wait``)."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if wait:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield wait or try_lock(descriptor)
    finally:
        os.close(descriptor)
