# Copyright (c) 2026, ovsops contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: no stable interface, no deprecation period.
"""The heartbeat of whoever works on a transaction: by it others tell one that is slow from one that hangs.

The time of the last beat is in a file in /run that is mapped into memory, so a beat costs no system call, waits for no
disk and can be afforded in the window.  It beats where work goes on: at each step, answer and look of a ``Waiter``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import mmap
import os
import signal
import struct
import time
import typing as t

from ansible_collections.ovsops.hot_upgrade.plugins.module_utils._process import Process, identify, terminate

DIRECTORY = "/run/ovsops"

# Process id, start of that process, monotonic nanoseconds of the last beat.
_LAYOUT = struct.Struct("=qqq")
_LAST = struct.Struct("=q")

_mapped: mmap.mmap | None = None


@dataclasses.dataclass(frozen=True)
class Beat:
    """Whose heart it is, and how long ago it beat, in seconds."""

    process: Process
    age: float


def beat() -> None:
    """Say that work goes on; nothing happens in a process that is not ``beating``."""
    if _mapped is not None:
        # As one store of eight bytes: pack_into() writes zeros first, and a reader in between saw a heart that never beat.
        _mapped[_LAYOUT.size - _LAST.size : _LAYOUT.size] = _LAST.pack(time.monotonic_ns())


@contextlib.contextmanager
def beating(name: str) -> t.Iterator[None]:
    """Have ``beat`` be heard under ``name``; a host without a /run does without."""
    global _mapped
    path = _path(name)
    before, _mapped = _mapped, _begin(path)
    try:
        yield
    finally:
        ours, _mapped = _mapped, before
        if ours is not None:
            ours.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def last(name: str) -> Beat | None:
    """The last beat under ``name``; None when nobody's heart beats there."""
    try:
        with open(_path(name), "rb") as file:
            pid, started, at = _LAYOUT.unpack(file.read())
    except (OSError, struct.error):
        return None
    process = Process(pid, started)
    return Beat(process, (time.monotonic_ns() - at) / 1e9) if identify(pid) == process else None


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


def _begin(path: str) -> mmap.mmap | None:
    me = identify(os.getpid())
    if me is None:
        return None
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, _LAYOUT.pack(me.pid, me.started, time.monotonic_ns()))
            return mmap.mmap(descriptor, _LAYOUT.size)
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        return None
