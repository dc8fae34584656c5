# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""Whose heart beats for a transaction (``_base/heartbeat.py``): one that hangs is ended by whoever waits for it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._base import heartbeat
from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._system.process import (
    Process,
    identify,
    terminate,
)

DIRECTORY = "/run/ovsops"


@dataclasses.dataclass(frozen=True)
class LastBeat:
    """Whose heart it is, and how long ago it beat, in seconds."""

    process: Process
    age: float


@contextlib.contextmanager
def beating(name: str) -> t.Iterator[None]:
    """Have the beats of this process be heard under ``name``."""
    me = identify(os.getpid())
    with contextlib.ExitStack() as stack:
        if me is not None:
            stack.enter_context(heartbeat.beating(_path(name), me.pid, me.started))
        yield


def last(name: str) -> LastBeat | None:
    """The last beat under ``name``; None when nobody's heart beats there."""
    found = heartbeat.last(_path(name))
    if found is None:
        return None
    process = Process(found.pid, found.started)
    return LastBeat(process, found.age) if identify(found.pid) == process else None


def end_hung(name: str, seconds: float) -> float | None:
    """End (SIGKILL) the process under ``name`` that has not beaten for ``seconds``; for how long it had not, or None."""
    found = last(name)
    if found is None or found.age < seconds or found.process.pid == os.getpid():
        return None
    return found.age if terminate(found.process, signal.SIGKILL) else None


def bury(name: str) -> None:
    """Remove what one who was killed has left under ``name``."""
    if last(name) is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_path(name))


def _path(name: str) -> str:
    return os.path.join(DIRECTORY, f"{name}.pulse")
