# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Commands of the host: an argv list, no shell, the C locale, a time limit."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.heartbeat import beat
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base.polling import readable

# Where commands are looked for, whatever the environment says: only root writes there.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What a command may say: a database of 50,000 ports takes 100 MB.
MOST_OUTPUT = 512 << 20
_READ = 1 << 16
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL


@dataclasses.dataclass(frozen=True)
class Completed:
    """How a command ended; ``rc`` is negative when a signal ended it."""

    rc: int
    out: str
    err: str


class Runner(t.Protocol):
    """Runs a command; tests pass a table of answers."""

    def __call__(self, argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
        """Run ``argv`` to its end; see ``run``."""


def run(argv: t.Sequence[str], timeout: float = 30.0) -> Completed:
    """Run ``argv`` and return how it ended, whatever its exit status.

    Raises ``HotUpgradeError`` when it cannot be started, after ``timeout`` seconds, or when it does not stop to talk: it is
    killed then.  Something that it has left behind and that has its streams counts as itself.
    """
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
        )
    except OSError as error:
        raise _not_started(argv, error) from error
    with process:
        try:
            out, err = _listen(process, time.monotonic() + timeout)
        except BaseException as error:
            process.kill()
            if not isinstance(error, TimeoutError):
                raise
            raise _not_ended(argv, timeout) from error
    beat()
    return Completed(process.returncode, out, err)


def convert(argv: t.Sequence[str], source: str, target: str, timeout: float = 30.0) -> None:
    """Run ``argv`` from the file ``source`` to the new file ``target``, which only its owner can read.

    Raises ``HotUpgradeError`` as ``run`` and ``check`` do.
    """
    with open(source, "rb") as taken, os.fdopen(os.open(target, _NEW, 0o600), "wb") as given:
        try:
            done = subprocess.run(
                list(argv),
                stdin=taken,
                stdout=given,
                stderr=subprocess.PIPE,
                env=_environment(),
                timeout=timeout,
                check=False,
            )
        except OSError as error:
            raise _not_started(argv, error) from error
        except subprocess.TimeoutExpired as error:
            raise _not_ended(argv, timeout) from error
    _require(argv, Completed(done.returncode, "", done.stderr.decode(errors="replace")))


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C", "PATH": PATH}


def _not_started(argv: t.Sequence[str], error: OSError) -> HotUpgradeError:
    why = error.strerror or str(error)
    return HotUpgradeError(
        f"cannot run {argv[0]}", why, f"Look for {argv[0]} in {PATH} and install its package again"
    )


def _not_ended(argv: t.Sequence[str], timeout: float) -> HotUpgradeError:
    why = f"killed after {timeout:g} s"
    return HotUpgradeError(f"{' '.join(argv)} did not end", why, "Run it by hand to see what it waits for")


def _listen(process: subprocess.Popen[bytes], end: float) -> tuple[str, str]:
    """What the process says up to its end; raises ``TimeoutError`` at ``end``."""
    pipes = t.cast("list[t.IO[bytes]]", [process.stdout, process.stderr])
    said = {pipe.fileno(): bytearray() for pipe in pipes}
    texts, left = list(said.values()), MOST_OUTPUT
    while said:
        due = readable(said, max(0.0, end - time.monotonic()))
        if not due:
            raise TimeoutError
        for descriptor in due:
            data = os.read(descriptor, _READ)
            said[descriptor] += data
            left -= len(data)
            if not data:
                del said[descriptor]
        if left < 0:
            raise HotUpgradeError(
                "a command does not stop to talk",
                f"it said more than {MOST_OUTPUT >> 20} MiB",
                "Run it by hand to see what it says",
            )
    try:
        process.wait(max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        raise TimeoutError from error
    out, err = (text.decode(errors="replace") for text in texts)
    return out, err


def check(runner: Runner, argv: t.Sequence[str], timeout: float = 30.0) -> str:
    """Run ``argv`` and return its output; raise ``HotUpgradeError`` with its words when it fails."""
    done = runner(argv, timeout)
    _require(argv, done)
    return done.out


def _require(argv: t.Sequence[str], done: Completed) -> None:
    if done.rc != 0:
        why = (done.err or done.out).strip() or "it said nothing"
        raise HotUpgradeError(
            f"{' '.join(argv)} failed with status {done.rc}", why, "Run it by hand for all that it says"
        )
