# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Starts a daemon that is like another one, as a child of init: ``launcher`` is what becomes it.

It waits before it runs the program, in the control groups that it is to have: what holds such a group (a login session
whose user has gone, for example) stays there when the old process ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.heartbeat import beat
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.polling import readable
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system import cgroups, launcher, likeness
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
    alive,
    identify,
)

# How long the launcher may need for its next word, in seconds: Python starts slowly on a host under load.
TIMEOUT = 60.0
_LOG = "Look into the log of the daemon and the journal"


@dataclasses.dataclass(frozen=True)
class Model:
    """What a new daemon is to be like: ``process`` is one that has the streams, if it still runs."""

    like: likeness.Likeness
    process: Process | None
    places: cgroups.Places


@dataclasses.dataclass
class Launch:
    """A process that waits to become a daemon; ``refused`` is what it could not be given, as text."""

    process: Process
    refused: list[str]
    _program: str
    _waiting: subprocess.Popen[bytes]
    _answers: _Lines

    def go(self) -> None:
        """Become the program; raises ``HotUpgradeError`` when that cannot be run."""
        _say(self._waiting, "go")
        try:
            while (answer := self._answers.next()) is not None:
                if "failed" in answer:
                    raise HotUpgradeError(f"{self._program} could not be started", answer["failed"], _LOG)
                self.refused += answer["refused"]
        finally:
            self._close()

    def cancel(self) -> None:
        """End without having been a daemon."""
        self._close()

    def _close(self) -> None:
        for pipe in (self._waiting.stdin, self._waiting.stdout, self._waiting.stderr):
            if pipe is not None:
                pipe.close()


class _Lines:
    """Answers as they come, each in time."""

    def __init__(self, waiting: subprocess.Popen[bytes]) -> None:
        self._descriptor = t.cast("t.IO[bytes]", waiting.stdout).fileno()
        self._read = b""

    def next(self) -> dict[str, t.Any] | None:
        """The next answer, None at the end; raises ``HotUpgradeError`` when there is none in time."""
        end = time.monotonic() + TIMEOUT
        while b"\n" not in self._read:
            if not readable([self._descriptor], end - time.monotonic()):
                raise HotUpgradeError(
                    "a process that is to become a daemon is stuck", f"for {TIMEOUT:g} s", _LOG
                )
            chunk = os.read(self._descriptor, 1 << 16)
            if not chunk:
                return None
            self._read += chunk
        beat()
        line, __, self._read = self._read.partition(b"\n")
        return t.cast("dict[str, t.Any]", json.loads(line))


def prepare(
    argv: t.Sequence[str],
    environment: t.Mapping[str, str],
    model: Model,
    here: bool = False,
    words: int | None = None,
) -> Launch:
    """Have a process wait that is like ``model`` and will run ``argv``; raises ``HotUpgradeError``.

    It is in the control groups of the model already, unless it stays ``here``.  ``words`` is a descriptor to be standard
    error instead of that of the model.
    """
    pidfd = None
    try:
        # Of a daemon that is not root's we want nothing that it has opened (docs/security.md).
        if model.process is not None and model.like.uid == 0 and alive(model.process):
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(model.process.pid)
        waiting = _start(_task(argv, environment, model, pidfd, words), [pidfd, words])
    finally:
        if pidfd is not None:
            os.close(pidfd)
    answers = _Lines(waiting)
    process = identify(int(_answer(waiting, answers, "pid")))
    if process is None:
        raise HotUpgradeError(f"{argv[0]} could not be started", "somebody killed it", _LOG)
    refused = [] if here else cgroups.move(process.pid, model.places)
    _say(waiting, "placed")
    refused += _answer(waiting, answers, "refused")
    return Launch(process, [*refused, *likeness.not_kept(model.like)], argv[0], waiting, answers)


def _task(
    argv: t.Sequence[str],
    environment: t.Mapping[str, str],
    model: Model,
    pidfd: int | None,
    words: int | None,
) -> bytes:
    task = {
        "argv": list(argv),
        "environment": dict(environment),
        "like": dataclasses.asdict(model.like),
        # By what is run, not by what the model showed at some time: else it would be run as root (docs/security.md).
        "drops": likeness.drops(argv),
        "pid": None if pidfd is None or model.process is None else model.process.pid,
        "pidfd": pidfd,
        "words": words,
    }
    return json.dumps(task).encode() + b"\n"


def _start(task: bytes, descriptors: t.Sequence[int | None]) -> subprocess.Popen[bytes]:
    loader = t.cast("t.Any", launcher.__loader__)
    source = loader.get_source(launcher.__name__)
    text = source.decode() if isinstance(source, bytes) else source
    try:
        waiting = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", text],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[number for number in descriptors if number is not None],
            cwd="/",
        )
    except OSError as error:
        why, hint = error.strerror or str(error), "The interpreter of the module is gone: install it again"
        raise HotUpgradeError(f"cannot run {sys.executable}", why, hint) from error
    _send(waiting, task)
    waiting.wait()  # it leaves a child to init, and that goes on
    return waiting


def _answer(waiting: subprocess.Popen[bytes], answers: _Lines, key: str) -> t.Any:
    answer = answers.next()
    if answer is not None and key in answer:
        return answer[key]
    said = answer["failed"] if answer else ""
    if answer is None and waiting.stderr is not None:
        said = waiting.stderr.read().decode(errors="replace").strip()[-500:]
    raise HotUpgradeError("a daemon could not be started", said or "the process before it ended", _LOG)


def _say(waiting: subprocess.Popen[bytes], word: str) -> None:
    _send(waiting, word.encode() + b"\n")


def _send(waiting: subprocess.Popen[bytes], data: bytes) -> None:
    pipe = t.cast("t.IO[bytes]", waiting.stdin)
    with contextlib.suppress(BrokenPipeError):  # its last words say why
        pipe.write(data)
        pipe.flush()


def spawn(
    argv: t.Sequence[str],
    environment: t.Mapping[str, str],
    log: str,
) -> None:
    """Start a daemon as a child of init, so that a service manager learns of its end; its words go to ``log``."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        done = subprocess.run(
            ["setsid", "--fork", *argv],
            env=dict(environment),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            umask=0o022,
            check=False,
        )
    except OSError as error:
        raise HotUpgradeError(
            "cannot run setsid", error.strerror or str(error), "It is in the package util-linux"
        ) from error
    finally:
        os.close(descriptor)
    if done.returncode != 0:
        raise HotUpgradeError(
            f"{argv[0]} could not be started", f"setsid ended with {done.returncode}", f"Look into {log}"
        )
