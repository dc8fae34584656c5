# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Commands of the host: an argv list, no shell, the C locale, a time limit."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._errors import HotUpgradeError
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._pulse import beat


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

    Raises ``HotUpgradeError`` when it cannot be started, or after ``timeout`` seconds (it is killed then).
    """
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        raise HotUpgradeError(f"cannot run {argv[0]}", error.strerror or str(error)) from error
    except subprocess.TimeoutExpired as error:
        raise HotUpgradeError(f"{' '.join(argv)} did not end", f"killed after {timeout:g} s") from error
    beat()
    return Completed(done.returncode, done.stdout, done.stderr)


def check(runner: Runner, argv: t.Sequence[str], timeout: float = 30.0) -> str:
    """Run ``argv`` and return its output; raise ``HotUpgradeError`` with its words when it fails."""
    done = runner(argv, timeout)
    if done.rc != 0:
        why = (done.err or done.out).strip() or "it said nothing"
        raise HotUpgradeError(f"{' '.join(argv)} failed with status {done.rc}", why)
    return done.out
